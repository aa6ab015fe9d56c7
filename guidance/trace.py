"""What happens step by step in a sampling run (Yi et al. 2024, sections 3 and 4): shape first, then
detail."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch.nn import functional as F

from .steps import Steps, falls

MOST_CELLS = 64
MOST_PHRASES = 50
COLUMNS = 6
LOW = 0.2


class StepsError(ValueError):
    """A run that cannot be shown or read from; the message says what to change."""


def parse_phrases(text: str) -> tuple[str, ...]:
    """One phrase a line; blank lines and repetitions are skipped. StepsError without any."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    phrases = tuple(dict.fromkeys(line for line in lines if line))
    if not phrases:
        raise StepsError(
            "phrases is empty: write words of the prompt, one phrase per line, for example castle."
        )
    if len(phrases) > MOST_PHRASES:
        raise StepsError(f"{len(phrases)} phrases are too many: at most {MOST_PHRASES}.")
    return phrases


def parse_steps(text: str, steps: int) -> list[int]:
    """Step numbers from 1, separated by spaces, commas or semicolons, as indices from 0.

    Those of Chinese and Japanese keyboards, too. `COLUMNS` steps, spread over the run, without any.
    """
    words = re.sub(r"[,;\u3001]", " ", unicodedata.normalize("NFKC", text)).split()
    if not words:
        return spread(steps, COLUMNS)
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        raise StepsError(f'steps is "{text}": write numbers of steps, such as 1 5 10.') from None
    wrong = [n for n in numbers if not 1 <= n <= steps]
    if wrong:
        raise StepsError(f"steps has {wrong[0]}, but this run has the steps 1 to {steps}.")
    return [n - 1 for n in numbers]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the model.

    low: share of low frequencies in the denoised prediction [images]. maps: attention to each phrase
    [images, phrases, h, w], None where it was not read, for the reason `unread`. guidance: norm of the
    guidance term for each latent value [images], 0 without guidance, None where it was not reported.
    """

    low: torch.Tensor
    maps: torch.Tensor | None = None
    guidance: torch.Tensor | None = None
    unread: str = ""


@dataclass
class Trace:
    """A run as it was watched.

    sigmas: [steps + 1]. steps: the first evaluation of each; None where another patch answered it.
    evaluations: how many there were in all. covered: share of a map's height and width that the image has,
    from the upper left. pixels: of an image to one of its latent's, at a side.
    """

    phrases: tuple[str, ...]
    sigmas: torch.Tensor
    steps: list[Evaluation | None]
    evaluations: int = 0
    notes: list[str] = field(default_factory=list)
    covered: tuple[float, float] = (1.0, 1.0)
    pixels: int = 8

    @classmethod
    def counted(cls, phrases: tuple[str, ...], steps: Steps, evaluations: Sequence[Evaluation]) -> Trace:
        """Of a run whose steps were counted while it was evaluated so; notes say why maps are missing."""
        first: dict[int, Evaluation] = {}
        for number, one in zip(steps.numbers(), evaluations, strict=True):
            first.setdefault(number, one)
        found = [first.get(number) for number in range(steps.total)]
        trace = cls(phrases, torch.tensor(steps.sigmas()), found, len(evaluations))
        reasons: dict[str, list[int]] = {}
        for number, step in enumerate(found, 1):
            if step is not None and step.maps is None and step.unread:
                reasons.setdefault(step.unread, []).append(number)
        for reason, numbers in reasons.items():
            where = f"Step {numbers[0]} has no" if len(numbers) == 1 else f"Steps {ranges(numbers)} have no"
            if len(numbers) == steps.total:
                where = "No step has"
            trace.notes.append(f"{where} maps: {reason}.")
        return trace

    @property
    def is_read(self) -> bool:
        """Whether it has attention to the phrases."""
        return any(step is not None and step.maps is not None for step in self.steps)

    @property
    def falls(self) -> bool:
        """Whether the noise never rises: else what is still to come of guidance has no meaning."""
        return falls(self.sigmas.tolist())

    @property
    def guided(self) -> bool:
        """Whether any step had guidance, or may have had: at cfg 1 none has."""
        return bool((self.guidance() != 0).any())

    @property
    def images(self) -> int:
        return len(next(step.low for step in self._known))

    @property
    def bytes(self) -> int:
        """Memory that its maps take."""
        return sum(step.maps.nbytes for step in self.steps if step is not None and step.maps is not None)

    @property
    def _known(self) -> list[Evaluation]:
        known = [step for step in self.steps if step is not None]
        if not known:
            raise StepsError("Nothing was watched: the run has no step.")
        return known

    def of(self, images: Sequence[int]) -> Trace:
        """The same of some images of the batch."""
        chosen = list(images)

        def one(step: Evaluation | None) -> Evaluation | None:
            if step is None:
                return None
            maps, guidance = (None if v is None else v[chosen] for v in (step.maps, step.guidance))
            return Evaluation(step.low[chosen], maps, guidance, step.unread)

        return replace(self, steps=[one(step) for step in self.steps])

    def maps(self) -> torch.Tensor:
        """[steps, images, phrases, h, w], NaN in steps that were not read; on the grid of the finest.

        StepsError when none was read.
        """
        found = [None if step is None else step.maps for step in self.steps]
        known = [m for m in found if m is not None]
        if not known:
            raise StepsError("No attention was read. " + (" ".join(self.notes) or "No phrase was watched."))
        finest = max(known, key=lambda m: m.shape[-1] * m.shape[-2])
        none = torch.full_like(finest, math.nan)
        size = finest.shape[-2], finest.shape[-1]
        return torch.stack([none if m is None else resized(m, size) for m in found])

    def low(self) -> torch.Tensor:
        """Share of low frequencies [steps, images]; NaN in steps that were not evaluated."""
        none = torch.full_like(self._known[0].low, math.nan)
        return torch.stack([none if step is None else step.low for step in self.steps])

    def guidance(self) -> torch.Tensor:
        """Norm of the guidance term [steps, images]; 0 in steps without, NaN where it is not known."""
        none = torch.full_like(self._known[0].low, math.nan)
        return torch.stack([none if s is None or s.guidance is None else s.guidance for s in self.steps])

    def remaining(self) -> torch.Tensor | None:
        """Share of guidance's push that is to come, [steps + 1, images]; None where it has no meaning."""
        guidance = self.guidance()
        known = bool(guidance.isfinite().all())
        return remaining(guidance, self.sigmas) if self.falls and known else None


def ranges(numbers: Sequence[int]) -> str:
    """Rising numbers for people: 1, 3 to 5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}" if len(p) == 1 else f"{p[0]} to {p[-1]}" for p in parts)


def resized(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Maps [..., h, w] on another grid: means of cells, or between them."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps.float()
    flat = maps.flatten(0, -3)[:, None].float()
    coarser = maps.shape[-2] > size[0] or maps.shape[-1] > size[1]
    flat = F.adaptive_avg_pool2d(flat, size) if coarser else F.interpolate(flat, size, mode="bilinear")
    return flat[:, 0].unflatten(0, maps.shape[:-2])


def pooled(maps: Sequence[torch.Tensor], most: int = MOST_CELLS) -> torch.Tensor:
    """Mean of several layers' maps [..., h, w] on the grid of the finest, at most `most` cells a side."""
    finest = max(maps, key=lambda m: m.shape[-1] * m.shape[-2]).shape[-2:]
    scale = max(1.0, max(finest) / most)
    size = max(1, round(finest[0] / scale)), max(1, round(finest[1] / scale))
    return torch.stack([resized(one, size) for one in maps]).mean(0)


def low_share(prediction: torch.Tensor, lowest: float = LOW) -> torch.Tensor:
    """Share of a prediction's power [images] in its lowest frequencies; [images, channels, h, w].

    lowest: which share of all frequencies, by distance from 0, counts as low (paper: 20%); white noise has
    that share of its power there. The means of the channels are left out.
    """
    planes = prediction.float().flatten(1, -3)
    power = torch.fft.fft2(planes).abs().square().sum(1)
    rows, columns = (torch.fft.fftfreq(n, device=power.device).square() for n in power.shape[-2:])
    radius = (rows[:, None] + columns[None]).flatten()
    outwards = power.flatten(1)[:, radius.argsort(stable=True)][:, 1:]
    low = outwards[:, : max(1, round(lowest * radius.numel()))]
    return (low.sum(1) / outwards.sum(1).clamp(min=1e-20)).cpu()


def guidance_norm(
    conditional: torch.Tensor, unconditional: torch.Tensor, sigma: torch.Tensor, scale: float
) -> torch.Tensor:
    """Root mean square of w (eps_c - eps_u) [images], from denoised predictions [images, ...] (section 4)."""
    levels = sigma.flatten().to(conditional).clamp(min=1e-6).float()
    apart = (conditional - unconditional).float().flatten(1).square().mean(1).sqrt()
    return (scale * apart / levels).cpu()


def shape(maps: torch.Tensor) -> torch.Tensor:
    """Where maps [..., h, w] are above the middle between their least and their greatest value."""
    flat = maps.flatten(-2)
    middle = (flat.amin(-1) + flat.amax(-1)) / 2
    return maps > middle[..., None, None]


def agreement(maps: torch.Tensor) -> torch.Tensor:
    """F1 of each step's shape with its final one, [steps, ...] of maps [steps, ..., h, w]; the last is 1.

    Steps whose maps are NaN have NaN; the final form is that of the last other one. The paper's measure is
    F1 of edges over its final value; shapes need no edge detector and no image.
    """
    read = maps.flatten(-2).isfinite().all(-1)
    whole = read.reshape(len(read), -1).all(1).nonzero()
    last = int(whole[-1]) if len(whole) else -1
    shapes = shape(maps).flatten(-2).float()
    final = shapes[last][None]
    both = (shapes * final).sum(-1)
    found = 2 * both / (shapes.sum(-1) + final.sum(-1)).clamp(min=1)
    return found.masked_fill(~read, math.nan)


def push_to_come(guidance: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """How far guidance still moves the latent after each number of steps [steps + 1, images], for each value.

    A step of a sampler moves the latent by its guidance term times the noise level that it takes away
    (Euler's step): guidance [steps, images] times the differences of sigmas [steps + 1], summed from the
    end.
    """
    push = guidance * (sigmas[:-1] - sigmas[1:]).float().cpu()[:, None]
    return torch.cat([push.flip(0).cumsum(0).flip(0), torch.zeros_like(push[:1])])


def remaining(guidance: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """`push_to_come` as a share of the whole: 1 to 0."""
    push = push_to_come(guidance, sigmas)
    return push / push[:1].clamp(min=1e-20)


def spread(steps: int, columns: int) -> list[int]:
    """At most `columns` step numbers, evenly from the first to the last."""
    if columns >= steps:
        return list(range(steps))
    if columns == 1:
        return [steps - 1]
    return [math.floor(i * (steps - 1) / (columns - 1) + 0.5) for i in range(columns)]

"""What happens step by step in a sampling run (Yi et al. 2024, sections 3 and 4): shape first, then
detail."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F

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
            "phrases is empty: write words of the prompt, one phrase a line, for example castle."
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

    maps: attention to each phrase [images, phrases, h, w], None where it was not read. low: share of low
    frequencies in the denoised prediction [images]. guidance: norm of the guidance term for each latent value
    [images], None in an evaluation without guidance.
    """

    sigma: float
    low: torch.Tensor
    maps: torch.Tensor | None = None
    guidance: torch.Tensor | None = None


@dataclass
class Course:
    """A run as it was watched. sigmas: [steps + 1], as the sampler got them."""

    phrases: tuple[str, ...]
    sigmas: torch.Tensor
    evaluations: list[Evaluation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_read(self) -> bool:
        """Whether it has attention to the phrases."""
        return any(e.maps is not None for e in self.evaluations)

    @property
    def steps(self) -> list[Evaluation]:
        """For each step the evaluation nearest to its noise level; of equals the last, which is its own.

        Samplers of second order evaluate the next step's noise level, too, and some choose levels of their
        own. StepsError when nothing was watched.
        """
        if not self.evaluations:
            raise StepsError("Nothing was watched: sample with the watched model first.")
        levels = torch.tensor([max(e.sigma, 1e-6) for e in self.evaluations]).log()
        wanted = self.sigmas[:-1].float().cpu().clamp(min=1e-6).log()
        backwards = (levels.flip(0)[None] - wanted[:, None]).abs().round(decimals=4).argmin(1)
        return [self.evaluations[len(levels) - 1 - int(i)] for i in backwards]

    def of(self, image: int) -> Course:
        """The same of one image of the batch."""

        def one(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values[image : image + 1]

        evaluations = [
            Evaluation(e.sigma, e.low[image : image + 1], one(e.maps), one(e.guidance))
            for e in self.evaluations
        ]
        return Course(self.phrases, self.sigmas, evaluations, self.notes)

    def maps(self) -> torch.Tensor:
        """[steps, images, phrases, h, w]; a step that was not read takes the one before, the first the next.

        StepsError when none was read.
        """
        found = [step.maps for step in self.steps]
        known = [m for m in found if m is not None]
        if not known:
            raise StepsError("No attention was read: " + (" ".join(self.notes) or "no phrase was watched."))
        last, filled = known[0], []
        for one in found:
            last = one if one is not None else last
            filled.append(last)
        return torch.stack(filled)

    def low(self) -> torch.Tensor:
        """Share of low frequencies [steps, images]."""
        return torch.stack([step.low for step in self.steps])

    def guidance(self) -> torch.Tensor:
        """Norm of the guidance term [steps, images]; 0 in steps without guidance."""
        steps = self.steps
        none = torch.zeros_like(steps[0].low)
        return torch.stack([none if s.guidance is None else s.guidance for s in steps])


def pooled(maps: Sequence[torch.Tensor], most: int = MOST_CELLS) -> torch.Tensor:
    """Mean of several layers' maps [..., h, w] on the grid of the finest, at most `most` cells a side."""
    finest = max(maps, key=lambda m: m.shape[-1] * m.shape[-2]).shape[-2:]
    scale = max(1.0, max(finest) / most)
    size = max(1, round(finest[0] / scale)), max(1, round(finest[1] / scale))
    done = []
    for one in maps:
        flat = one.flatten(0, -3)[:, None].float()
        fits = one.shape[-2] > size[0] or one.shape[-1] > size[1]
        flat = F.adaptive_avg_pool2d(flat, size) if fits else F.interpolate(flat, size, mode="bilinear")
        done.append(flat[:, 0])
    return torch.stack(done).mean(0).unflatten(0, maps[0].shape[:-2])


def low_share(prediction: torch.Tensor, lowest: float = LOW) -> torch.Tensor:
    """Share of a prediction's power [images] in its lowest frequencies; [images, channels, h, w].

    lowest: which share of all frequencies, by distance from 0, counts as low (paper: 20 %); white noise has
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

    The paper's measure is F1 of edges over its final value; shapes need no edge detector and no image.
    """
    shapes = shape(maps).flatten(-2).float()
    both = (shapes * shapes[-1:]).sum(-1)
    return 2 * both / (shapes.sum(-1) + shapes[-1:].sum(-1)).clamp(min=1)


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

"""How the nodes that make noise look at it: at the first step, and after some steps of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import comfy.samplers
import comfy.utils
import torch

from ...tickets.grid import Grid
from ...tickets.search.candidates import Look, narrowed
from ..attention.scorer import Scorer
from ..attention.tokens import PromptTokens
from ..model.architecture import family_of
from ..model.family import ProbeError, require
from ..sampling.batches import Batches
from ..sampling.first_steps import FirstSteps, Run
from ..server import announce

# Of a forward, for the progress bar.
PARTS = 100
# How much of the model's noise schedule a whole run may leave out at its start: ddim_uniform begins below the
# highest level, the lower the fewer its steps.
LEFT_OUT = 0.25
# Noise per signal from which on nothing of an image is left.
BLIND = 1000.0
_searching: ContextVar[tuple[Looking, ...]] = ContextVar("searching", default=())


@dataclass(frozen=True, eq=False)
class AfterSteps:
    """A look after the first steps of the run that the noise is for.

    share: of the run's steps. sampler, sigmas, positive, negative: the run's; without them euler, the normal
    schedule of `steps` steps, all categories in one prompt, and no text.
    """

    share: float = 0.2
    steps: int = 20
    cfg: float = 7.0
    sampler: Any = None
    sigmas: torch.Tensor | None = None
    positive: Any = None
    negative: Any = None

    def __post_init__(self) -> None:
        require_finite("after_percent", 100 * self.share)
        require("steps", self.steps, 2)
        require_finite("cfg", self.cfg)


def require_finite(name: str, value: float) -> None:
    """ProbeError for NaN and Inf, which pass ComfyUI's test of a range."""
    if not math.isfinite(value):
        raise ProbeError(f"{name} is {value}; a finite number is needed.")


def looked_again(model: Any, candidates: int) -> int:
    """How many candidates have the deeper look: a third, two at least, between which it can choose; all where
    the first look shows nothing.
    """
    return candidates if looks_blind(model) and candidates > 1 else narrowed(candidates)


def rounds_worth(model: Any, candidates: int, rounds: int, deeper: bool) -> int:
    """How many rounds are made: none where the first look shows nothing and a deeper one follows."""
    return 0 if deeper and candidates > 1 and looks_blind(model) else rounds


def looks_blind(model: Any) -> bool:
    """Whether the first look is at noise alone, without a trace of an image: at the first step of flow models
    and of zero terminal SNR, where their family is not read below it.
    """
    sampling = model.get_model_object("model_sampling")
    first = float(sampling.sigma_max)
    alone = isinstance(sampling, comfy.model_sampling.CONST) or first > BLIND
    return alone and family_of(model).noise_level() >= first


def steps_after(share: float, steps: int) -> int:
    """How many steps a share of a run is: at least one, and not all."""
    return max(1, min(steps - 1, round(share * steps)))


def _batch_of(embedding: torch.Tensor, options: Mapping[str, Any]) -> str:
    """What of a conditioning's entry differs from image to image of a batch, for people; empty if nothing.

    Candidates stand side by side as images of a batch do, and would not be compared under the same terms.
    """
    control, hints = options.get("control"), []
    while control is not None:
        hints.append(getattr(control, "cond_hint_original", None))
        control = getattr(control, "previous_controlnet", None)
    held: dict[str, list[Any]] = {
        "prompts": [embedding],
        "masks": [options.get("mask")],
        "latents": [options.get("concat_latent_image")],
        "ControlNet images": hints,
    }
    return next(
        (name for name, found in held.items() if any(f is not None and len(f) > 1 for f in found)), ""
    )


def first_steps(
    model: Any,
    clip: Any,
    node: str,
    shape: tuple[int, ...],
    text: str,
    after: AfterSteps,
    whole: bool = False,
    batches: Batches | None = None,
) -> FirstSteps:
    """The first steps of the run that a noise is for; shape: of its latent, as the model takes it.

    text: of the prompt where none is connected. whole: the run is known to be one. batches: see `FirstSteps`.
    ProbeError where it is no whole run of two steps or more.
    """
    sampling = model.get_model_object("model_sampling")
    sigmas = after.sigmas
    if sigmas is None:
        sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", after.steps)
    elif not whole and len(sigmas) and float(sigmas[0]) < float(sampling.percent_to_sigma(LEFT_OUT)):
        raise ProbeError(
            f"{node}: sigmas begin at {float(sigmas[0]):.3g}, the model's noise at"
            f" {float(sampling.sigma_max):.3g}: connect those of a whole run, with denoise 1 and not split."
        )
    for name, given in (("positive", after.positive), ("negative", after.negative)):
        for entry in [] if given is None else given:
            if what := _batch_of(*entry[:2]):
                raise ProbeError(
                    f"{node}: {name} holds a batch of {what}: connect a single one, or look at the first"
                    " step."
                )

    def encoded(given: Any, text: str) -> Any:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text)) if given is None else given

    positive, negative = encoded(after.positive, text), encoded(after.negative, "")
    sampler = after.sampler if after.sampler is not None else comfy.samplers.sampler_object("euler")
    run = Run(sampler, sigmas, positive, negative, after.cfg)
    return FirstSteps(model, run, steps_after(after.share, run.steps), shape, node, batches)


class Looking:
    """Looks at the noises of one layout.

    prompts: the one that names all categories. steps: before the deeper look; none without. seed: of the run.
    """

    def __init__(
        self,
        scorer: Scorer,
        prompts: Sequence[PromptTokens],
        grid: Grid,
        steps: FirstSteps | None = None,
        seed: int = 0,
    ) -> None:
        self.scorer, self.grid, self.steps = scorer, grid, steps
        self._prompts, self._seed = prompts, seed
        # Of one image, what all looks took, those of noises that are looked at to be made included.
        self.forwards = 0.0
        self._own = 0.0
        self._bar: Any = None

    def seen(self, candidates: int) -> int:
        """How many of an image's candidates have the deeper look."""
        return looked_again(self.scorer.model, candidates) if self.steps else 0

    def rounds(self, candidates: int, asked: int) -> int:
        """How many are made."""
        return rounds_worth(self.scorer.model, candidates, asked, self.steps is not None)

    @property
    def blind(self) -> bool:
        """Whether the first look shows nothing; see `looks_blind`."""
        return looks_blind(self.scorer.model)

    def announce(self, images: int, candidates: int, rounds: int) -> None:
        """Before any look, what all of them will take; ComfyUI's progress bar follows them."""
        rounds = self.rounds(candidates, rounds)
        looks = images * candidates * (1 + rounds)
        looks += len(self.scorer.baseline.missing(self._prompts)) * self.scorer.baseline.noises
        total = looks * self.scorer.share
        text = f"{looks} looks of about {self.scorer.share:.0%} of a forward each"
        if self.steps:
            deeper = images * self.seen(candidates)
            total += deeper * (self.steps.about + self.scorer.share)
            text += f", {deeper} after {self.steps.after} of {self.steps.run.steps} steps"
        announce(f"{text}: {total:.1f} forwards")
        self._bar = comfy.utils.ProgressBar(max(1, round(PARTS * total)))

    def first(self, noise: torch.Tensor) -> torch.Tensor:
        """Noise [images, C, h, w] to attention [images, categories, rows, columns] of the first step."""
        return self.scorer.blocks(self._prompts, noise, self.grid, self._spending(self.scorer.share))[0]

    @property
    def deeper(self) -> Look | None:
        """As `first`, of what the noise has become after the first steps."""
        return self._after if self.steps else None

    def _after(self, noise: torch.Tensor) -> torch.Tensor:
        assert self.steps
        latents, sigmas, _ = self.steps.take(noise, self._seed, self._spending())
        read = self._spending(self.scorer.share)
        found: dict[int, torch.Tensor] = {}
        for sigma in dict.fromkeys(sigmas):
            some = [k for k, level in enumerate(sigmas) if level == sigma]
            maps = self.scorer.blocks(self._prompts, latents[some], self.grid, read, sigma)[0]
            found.update(zip(some, maps, strict=True))
        return torch.stack([found[k] for k in range(len(noise))])

    @property
    def others(self) -> str:
        """For people, how many of the forwards were not for noises of its own; empty if none were."""
        others = self.forwards - self._own
        return f"; {others:.1f} of them made the noise connected" if others > 0 else ""

    @contextmanager
    def searching(self) -> Iterator[None]:
        """What is looked at meanwhile is looked at for this search: a NOISE may look to be made."""
        before = _searching.set((*_searching.get(), self))
        try:
            yield
        finally:
            _searching.reset(before)

    def finish(self) -> None:
        """Looks that come later are of another node's run: its progress bar is not this one's."""
        self._bar = None

    def _spending(self, share: float = 1.0) -> Callable[[int], None]:
        """Called with rows evaluated, also by threads, of so much of a forward each."""
        searches = tuple(dict.fromkeys((self, *_searching.get())))

        def spend(rows: int) -> None:
            for looking in searches:
                looking.forwards += rows * share
            self._own += rows * share
            if self._bar:
                self._bar.update_absolute(round(PARTS * self._own))

        return spend

"""How the nodes that make noise look at it: at the first step, and after some steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import comfy.samplers
import comfy.utils
import torch

from ...tickets.grid import Grid
from ...tickets.search.candidates import Look, narrowed
from ..attention.scorer import Scorer, require
from ..attention.tokens import PromptTokens
from ..model.family import ProbeError
from ..sampling.first_steps import FirstSteps, Run
from ..server import announce

# Of a forward, for the progress bar.
PARTS = 100
# Of the model's highest noise level: where a run begins at least, with any of ComfyUI's schedules.
WHOLE = 0.5
# Noise per signal from which on nothing of an image is left.
BLIND = 1000.0


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
        require("steps", self.steps, 2)


def steps_after(share: float, steps: int) -> int:
    """How many steps a share of a run is: at least one, and not all."""
    return max(1, min(steps - 1, round(share * steps)))


class Looking:
    """Looks at the noises of one layout.

    prompts: the one that names all categories. after: the deeper look. seed: of the run.
    """

    def __init__(
        self,
        scorer: Scorer,
        prompts: Sequence[PromptTokens],
        grid: Grid,
        after: AfterSteps | None = None,
        seed: int = 0,
    ) -> None:
        self.scorer, self.grid, self._prompts, self._seed = scorer, grid, prompts, seed
        self.steps = after and self._first_steps(after)
        # Of one image, what all looks took.
        self.forwards = 0.0
        self._bar: Any = None

    def _first_steps(self, after: AfterSteps) -> FirstSteps:
        scorer = self.scorer
        model, clip = scorer.model, scorer.clip
        sigmas = after.sigmas
        highest = scorer.family.noise_level()
        if sigmas is None:
            sampling = model.get_model_object("model_sampling")
            sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", after.steps)
        elif len(sigmas) and float(sigmas[0]) < WHOLE * highest:
            raise ProbeError(
                f"{scorer.node}: sigmas begin at {float(sigmas[0]):.3g}, the model's noise at {highest:.3g}:"
                " connect those of a whole run, with denoise 1 and not split."
            )
        for name, given in (("positive", after.positive), ("negative", after.negative)):
            if given is not None and any(len(entry[0]) > 1 for entry in given):
                raise ProbeError(f"{scorer.node}: {name} holds a batch of prompts: connect a single one.")

        def encoded(text: str) -> Any:
            return clip.encode_from_tokens_scheduled(clip.tokenize(text))

        positive = after.positive if after.positive is not None else encoded(self._prompts[0].text)
        negative = after.negative if after.negative is not None else encoded("")
        sampler = after.sampler if after.sampler is not None else comfy.samplers.sampler_object("euler")
        run = Run(sampler, sigmas, positive, negative, after.cfg)
        return FirstSteps(model, run, steps_after(after.share, run.steps), scorer.shape, scorer.node)

    def seen(self, candidates: int) -> int:
        """How many of an image's candidates have the deeper look: all, where the first step shows nothing."""
        if self.steps is None:
            return 0
        return candidates if self.blind and candidates > 1 else narrowed(candidates)

    @property
    def blind(self) -> bool:
        """Whether a first step is of noise alone, with no trace of an image: flow, zero terminal SNR."""
        sampling = self.scorer.model.get_model_object("model_sampling")
        return isinstance(sampling, comfy.model_sampling.CONST) or self.scorer.family.noise_level() > BLIND

    def announce(self, images: int, candidates: int, rounds: int) -> None:
        """Before any look, what all of them will take; ComfyUI's progress bar follows them."""
        looks = images * candidates * (1 + rounds)
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
        return self.scorer.blocks(self._prompts, noise, self.grid, self._looked)[0]

    @property
    def deeper(self) -> Look | None:
        """As `first`, of what the noise has become after the first steps."""
        return self._after if self.steps else None

    def _after(self, noise: torch.Tensor) -> torch.Tensor:
        assert self.steps
        latents, sigmas, each = self.steps.take(noise, self._seed)
        self._spend(len(noise) * each)
        found: dict[int, torch.Tensor] = {}
        for sigma in dict.fromkeys(sigmas):
            some = [k for k, level in enumerate(sigmas) if level == sigma]
            maps = self.scorer.blocks(self._prompts, latents[some], self.grid, self._looked, sigma)[0]
            found.update(zip(some, maps, strict=True))
        return torch.stack([found[k] for k in range(len(noise))])

    def finish(self) -> None:
        """Looks that come later are of another node's run: its progress bar is not this one's."""
        self._bar = None

    def _looked(self, rows: int) -> None:
        self._spend(rows * self.scorer.share)

    def _spend(self, forwards: float) -> None:
        self.forwards += forwards
        if self._bar:
            self._bar.update_absolute(round(PARTS * self.forwards))

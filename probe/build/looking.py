"""How the nodes that make noise look at it: at the first step, and after some steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import comfy.utils
import torch

from ...tickets.grid import Grid
from ...tickets.search.candidates import Look, narrowed
from ..attention.scorer import Scorer, require
from ..attention.tokens import PromptTokens
from ..sampling.first_steps import FirstSteps, Run
from ..server import announce

# Of a forward, for the progress bar.
PARTS = 100


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
        if sigmas is None:
            sampling = model.get_model_object("model_sampling")
            sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", after.steps)
        positive = self._prompts[0].conditioning if after.positive is None else after.positive
        negative = after.negative
        if negative is None:
            negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        sampler = after.sampler if after.sampler is not None else comfy.samplers.sampler_object("euler")
        run = Run(sampler, sigmas, positive, negative, after.cfg)
        return FirstSteps(model, run, steps_after(after.share, run.steps), scorer.shape, scorer.node)

    def announce(self, images: int, candidates: int, rounds: int) -> None:
        """Before any look, what all of them will take; ComfyUI's progress bar follows them."""
        looks = images * candidates * (1 + rounds)
        total = looks * self.scorer.share
        text = f"{looks} looks of about {self.scorer.share:.0%} of a forward each"
        if self.steps:
            deeper = images * narrowed(candidates)
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
        latents, sigma, each = self.steps.take(noise, self._seed)
        self._spend(len(noise) * each)
        return self.scorer.blocks(self._prompts, latents, self.grid, self._looked, sigma)[0]

    def _looked(self, rows: int) -> None:
        self._spend(rows * self.scorer.share)

    def _spend(self, forwards: float) -> None:
        self.forwards += forwards
        if self._bar:
            self._bar.update_absolute(round(PARTS * self.forwards))

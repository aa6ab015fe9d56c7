"""When guidance ends, and what the run goes on with (Yi et al. 2024, Eq. 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch

UNCONDITIONAL, CONDITIONAL, LOWER = TAILS = ("unconditional", "conditional", "lower cfg")
NEVER = -1.0
# A sampler's sigma of a step and the schedule's may differ in the last bit.
SLACK = 1 + 1e-5


class CutoffError(ValueError):
    """A setting that cannot be followed; the message says what to change."""


class Trigger(Protocol):
    """When guidance ends."""

    def cut(self, sigmas: torch.Tensor) -> float:
        """At and below this noise level a run of these sigmas [steps + 1] goes on without guidance."""


def _in_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise CutoffError(f"{name} is {value}; it lies between {least:g} and {most:g}.")


def cut_after(sigmas: torch.Tensor, kept: int) -> float:
    """The noise level that a run has after `kept` of its steps; NEVER when it has no more."""
    return float(sigmas[kept]) * SLACK if kept < len(sigmas) - 1 else NEVER


@dataclass(frozen=True)
class Share:
    """Guidance in the first `guided` share of the run's own steps, 0 to 1; halves are rounded up."""

    guided: float = 0.5

    def __post_init__(self) -> None:
        _in_range("guided", self.guided, 0, 1)

    def cut(self, sigmas: torch.Tensor) -> float:
        return cut_after(sigmas, math.floor(self.guided * (len(sigmas) - 1) + 0.5))


@dataclass(frozen=True)
class Final:
    """No guidance in the run's last `unguided_steps` steps: the paper's `a`."""

    unguided_steps: int

    def __post_init__(self) -> None:
        if self.unguided_steps < 0:
            raise CutoffError(f"unguided_steps is {self.unguided_steps}; it is a number of steps, from 0 on.")

    def cut(self, sigmas: torch.Tensor) -> float:
        steps = len(sigmas) - 1
        if self.unguided_steps > steps:
            raise CutoffError(
                f"unguided_steps is {self.unguided_steps}, but this run has {steps} steps: set it to {steps}"
                " or less."
            )
        return cut_after(sigmas, steps - self.unguided_steps)


@dataclass(frozen=True)
class Sigma:
    """Guidance while the noise level is above `sigma`."""

    sigma: float

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise CutoffError(f"sigma is {self.sigma}; it is a noise level, from 0 on.")

    def cut(self, sigmas: torch.Tensor) -> float:
        return self.sigma


@dataclass(frozen=True)
class Similar:
    """Guidance until both predictions agree: Adaptive Guidance (Castillo et al. 2024, arXiv 2312.12487).

    An image's guidance ends after the first evaluation at which the cosine of its two denoised
    predictions is above `similarity` (1: never), and at the latest after the `latest` share of the steps.
    """

    similarity: float = 0.99
    latest: float = 1.0

    def __post_init__(self) -> None:
        _in_range("similarity", self.similarity, -1, 1)
        _in_range("latest", self.latest, 0, 1)

    def cut(self, sigmas: torch.Tensor) -> float:
        return Share(self.latest).cut(sigmas)

    def agree(self, conditional: torch.Tensor, unconditional: torch.Tensor) -> torch.Tensor:
        """Which of the images [images] agree; predictions [images, ...]."""
        one, other = (p.flatten(1).double() for p in (conditional, unconditional))
        return torch.nn.functional.cosine_similarity(one, other).clamp(max=1) > self.similarity


@dataclass(frozen=True)
class Cutoff:
    """All there is to set.

    tail: after the cut follow the prediction for the prompt (`conditional`), for no prompt
    (`unconditional`: that of `empty`, a CONDITIONING, or of the negative without one), or both at a
    guidance scale of `cfg` (`lower cfg`).
    """

    trigger: Trigger
    tail: str = CONDITIONAL
    empty: Any = None
    cfg: float = 1.0

    def __post_init__(self) -> None:
        if self.tail not in TAILS:
            raise CutoffError(f"after_cutoff is {self.tail!r}; choose one of {', '.join(TAILS)}.")
        if not math.isfinite(self.cfg):
            raise CutoffError(f"cfg after the cut is {self.cfg}; it is a guidance scale, such as 2.")

"""When guidance ends, and what the run goes on with (Yi et al. 2024, Eq. 9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

UNCONDITIONAL, CONDITIONAL, LOWER = TAILS = ("unconditional", "conditional", "lower cfg")


class CutoffError(ValueError):
    """A setting that cannot be followed; the message says what to change."""


class Trigger(Protocol):
    """When guidance ends."""

    def kept(self, steps: int) -> int:
        """How many of a run's steps, from the first on, are guided at most; `steps`: no end by counting."""


def _in_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise CutoffError(f"{name} is {value}; it must be between {least:g} and {most:g}.")


@dataclass(frozen=True)
class Share:
    """Guidance in the first `guided` share of the run's own steps, 0 to 1; halves are rounded up."""

    guided: float = 0.5

    def __post_init__(self) -> None:
        _in_range("guided", self.guided, 0, 1)

    def kept(self, steps: int) -> int:
        return math.floor(self.guided * steps + 0.5)


@dataclass(frozen=True)
class Final:
    """No guidance in the run's last `unguided_steps` steps: the paper's `a`."""

    unguided_steps: int

    def __post_init__(self) -> None:
        if self.unguided_steps < 0:
            raise CutoffError(
                f"unguided_steps is {self.unguided_steps}; it must be a number of steps, 0 or more."
            )

    def kept(self, steps: int) -> int:
        if self.unguided_steps > steps:
            raise CutoffError(
                f"unguided_steps is {self.unguided_steps}, but this run has {steps} steps: set it to {steps}"
                " or less."
            )
        return steps - self.unguided_steps


@dataclass(frozen=True)
class Sigma:
    """Guidance while the noise level is above `sigma`, in a run that comes down from more noise to less."""

    sigma: float

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < math.inf:
            raise CutoffError(f"sigma is {self.sigma}; it must be a noise level, 0 or more.")

    def kept(self, steps: int) -> int:
        return steps

    def applies(self, sigmas: Sequence[float]) -> bool:
        """Whether a run of these noise levels [steps + 1] comes down; if not, there is no end to find."""
        return sigmas[-1] <= sigmas[0]


@dataclass(frozen=True)
class Similar:
    """Guidance until both predictions agree: Adaptive Guidance (Castillo et al. 2024, arXiv 2312.12487).

    An image's guidance ends after the first evaluation at which the cosine of its two denoised
    predictions is above `similarity` (1: never), and at the latest after the `latest` share of the steps.
    """

    similarity: float = 0.999
    latest: float = 1.0

    def __post_init__(self) -> None:
        _in_range("similarity", self.similarity, -1, 1)
        _in_range("latest", self.latest, 0, 1)

    def kept(self, steps: int) -> int:
        return Share(self.latest).kept(steps)

    def agree(self, conditional: torch.Tensor, unconditional: torch.Tensor) -> torch.Tensor:
        """Which of the images [images] agree; predictions [images, ...]."""
        # On the CPU: not every device has float64.
        one, other = (p.flatten(1).cpu().double() for p in (conditional, unconditional))
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
            raise CutoffError(f"cfg after the cut is {self.cfg}; it must be a guidance scale, such as 2.")

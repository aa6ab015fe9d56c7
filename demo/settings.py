"""What the demo model's training depends on, apart from the code."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes, steps, batches and rates; `seed` draws scenes and noise.

    judge_noise: the most noise on the latents that the judge learns from.
    """

    seed: int = 1
    vae_scenes: int = 3000
    vae_steps: int = 2600
    vae_batch: int = 12
    vae_crop: int = 96
    vae_lr: float = 1e-3
    scenes: int = 40_000
    judge_steps: int = 1500
    judge_batch: int = 64
    judge_lr: float = 2e-3
    judge_noise: float = 0.2
    held_out: int = 1000
    batch: int = 32
    warm_up: int = 100
    ema: float = 0.999
    caption_dropout: float = 0.1
    unknown_words: float = 0.15


class Phase(NamedTuple):
    """A cosine cycle of the denoiser's training.

    t is 1000 u^power for uniform u; the loss weight SNR^-1/2 is cut off at `heaviest`. Flow models draw t
    otherwise (`denoiser.flow_times`), the same in every phase, and their losses weigh the same.
    """

    name: str
    steps: int
    lr: float
    power: float
    heaviest: float
    seed: int


# Where things stand is settled at high noise, which is learnt last: later cycles give it more weight.
SHORT_PHASES = (
    Phase("unet", 1000, 1e-3, 0.65, 12.0, 0),
    Phase("refine", 600, 8e-4, 0.5, 15.0, 1),
    Phase("polish", 500, 7e-4, 0.5, 15.0, 2),
)
"""The variants' phases."""
LONGER = Phase("longer", 1000, 7e-4, 0.5, 15.0, 3)
"""Of those that still draw badly then."""
PHASES = (
    Phase("unet", 4500, 1e-3, 0.75, 10.0, 0),
    Phase("refine", 2400, 8e-4, 0.5, 15.0, 1),
    Phase("polish", 1900, 7e-4, 0.5, 15.0, 2),
)
FLOW_PHASES = (
    Phase("flow", 8000, 5e-3, 1.0, 1.0, 0),
    Phase("refine", 5000, 3e-3, 1.0, 1.0, 1),
    Phase("polish", 3000, 2e-3, 1.0, 1.0, 2),
)
"""The demo's transformer's."""
SHORT_FLOW_PHASES = (
    Phase("flow", 2300, 5e-3, 1.0, 1.0, 0),
    Phase("refine", 1400, 3e-3, 1.0, 1.0, 1),
    Phase("polish", 900, 2e-3, 1.0, 1.0, 2),
)
"""Of transformers that are variants only."""

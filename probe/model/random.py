"""torch's global random numbers, as patches on a model and some samplers draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

SEED_RANGE = 2**64


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global generators of the CPU and of every device; afterwards they are as they were.

    What is evaluated inside depends on `seed` alone, and whatever is sampled afterwards does not depend on
    what was evaluated. Seeded as stock ComfyUI does before sampling. seed: of any size, by modulo 2^64.
    """
    kept = _states()
    torch.manual_seed(seed % SEED_RANGE)
    try:
        yield
    finally:
        for restore, state in kept:
            restore(state)


def _states() -> list[tuple[Callable[[Any], None], Any]]:
    """How to set each global generator, and its state."""
    found: list[tuple[Callable[[Any], None], Any]] = [(torch.set_rng_state, torch.get_rng_state())]
    for module in (torch.cuda, getattr(torch, "xpu", None)):
        # Asking for the state of a device that is not in use would start it.
        if module is not None and module.is_available() and module.is_initialized():
            found.append((module.set_rng_state_all, module.get_rng_state_all()))
    if torch.backends.mps.is_available():
        found.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    return found

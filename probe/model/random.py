"""torch's global random numbers, as patches on a model and some samplers draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...tickets.noise import SEED_RANGE

States = list[tuple[Callable[[Any], None], Any]]


@contextmanager
def seeded(seed: int) -> Iterator[Callable[[], bool]]:
    """Seeds the global generators of the CPU and of every device; afterwards they are as they were.

    What is evaluated inside depends on `seed` alone, and whatever is sampled afterwards does not depend on
    what was evaluated. Seeded as stock ComfyUI does before sampling. seed: of any size, by modulo 2^64.
    Yields a function that says whether any numbers have been drawn since.
    """
    kept = _states()
    torch.manual_seed(seed % SEED_RANGE)
    seeds = _states()
    try:
        yield lambda: _moved(seeds)
    finally:
        for restore, state in kept:
            restore(state)


def _moved(before: States) -> bool:
    flat = [s for _, state in before for s in (state if isinstance(state, list) else [state])]
    now = [s for _, state in _states() for s in (state if isinstance(state, list) else [state])]
    return len(flat) != len(now) or not all(torch.equal(a, b) for a, b in zip(flat, now, strict=True))


def _states() -> States:
    """How to set each global generator, and its state."""
    found: States = [(torch.set_rng_state, torch.get_rng_state())]
    for module in (torch.cuda, getattr(torch, "xpu", None)):
        # Asking for the state of a device that is not in use would start it.
        if module is not None and module.is_available() and module.is_initialized():
            found.append((module.set_rng_state_all, module.get_rng_state_all()))
    if torch.backends.mps.is_available():
        found.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    return found

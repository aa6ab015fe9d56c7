"""What watches or changes a sampler's run: one OUTER_SAMPLE wrapper on a clone of the MODEL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.patcher_extension import WrappersMP

KEYS = CUTOFF, WATCH = "winning_tickets_cutoff", "winning_tickets_watch"


def with_patch(model: Any, key: str, sample: Callable[..., Any]) -> Any:
    """A clone of MODEL whose runs go through `sample`, in place of what it had under this key."""
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, key)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, key, sample)
    return clone


def patch_on(model: Any, key: str) -> Any:
    """The object whose method MODEL's runs go through; None without one."""
    found = model.get_wrappers(WrappersMP.OUTER_SAMPLE, key)
    return found[0].__self__ if found else None


def without_patches(model: Any) -> Any:
    """A clone of MODEL with none of them."""
    clone = model.clone()
    for key in KEYS:
        clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, key)
    return clone

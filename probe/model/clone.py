"""A MODEL as it can be read: a clone whose forward runs in Python, on one device, and can be ended early."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP

COMPILE_KEY = "torch.compile"
# Of our own wrappers around a sampler's runs: one changes them, one only watches.
OURS = CUTOFF, WATCH = "winning_tickets_cutoff", "winning_tickets_watch"


def plain_clone(model: Any) -> Any:
    """A clone of MODEL that is neither compiled nor spread over several GPUs: no forward can be ended there.

    Nor has it a patch of ours that counts or watches a sampler's steps. Compiled by ComfyUI's wrapper, or by
    object patches that hold what torch.compile returns.
    """
    clone = model.clone()
    for key in OURS:
        clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, key)
    clone.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, COMPILE_KEY)
    clone.remove_additional_models("multigpu")
    for name, value in list(clone.object_patches.items()):
        if hasattr(value, "_orig_mod"):
            del clone.object_patches[name]
    return clone


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, left out of whatever torch.compile compiles."""
    # Where nothing was compiled, torch's compiler need not be loaded.
    if "torch._dynamo" not in sys.modules:
        return function
    wrapped: Callable[..., Any] = torch.compiler.disable(function)
    return wrapped

"""A MODEL as it can be read: a clone whose forward runs in Python, on one device, and can be ended early."""

from __future__ import annotations

from typing import Any

import comfy.patcher_extension

from ..sampling.patch import without_patches

COMPILE_KEY = "torch.compile"


def plain_clone(model: Any) -> Any:
    """A clone of MODEL that is neither compiled nor spread over several GPUs: no forward can be ended there.

    Nor has it a patch of ours that counts or watches a sampler's steps. Compiled by ComfyUI's wrapper, or by
    object patches that hold what torch.compile returns.
    """
    clone = without_patches(model)
    clone.remove_wrappers_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, COMPILE_KEY)
    clone.remove_additional_models("multigpu")
    for name, value in list(clone.object_patches.items()):
        if hasattr(value, "_orig_mod"):
            del clone.object_patches[name]
    return clone

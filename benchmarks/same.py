"""Whether things are the same: values bit for bit, and a MODEL in all that is known of it."""

from __future__ import annotations

from typing import Any

import torch
from odd_pack.digests import digest


def shape(value: Any, depth: int = 6) -> Any:
    """Containers by what they hold; all else by which object it is."""
    if depth and isinstance(value, dict):
        return {str(key): shape(one, depth - 1) for key, one in value.items()}
    if depth and isinstance(value, (list, tuple)):
        return [shape(one, depth - 1) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else id(value)


def state(patcher: Any, weights: bool) -> dict[str, Any]:
    """All that is known of a MODEL, and of the module that it shares with its clones."""
    volatile = {"model", "patches_uuid", "clone_base_uuid", "cached_patcher_init", "parent"}
    found = {name: shape(value) for name, value in vars(patcher).items() if name not in volatile}
    modules = dict(patcher.model.named_modules())
    found["hooks"] = {
        name: [len(value) for key, value in vars(module).items() if key.endswith("_hooks")]
        for name, module in modules.items()
    }
    found["methods"] = [name for name, module in modules.items() if "forward" in vars(module)]
    found["current"] = shape(getattr(patcher.model, "current_patcher", None))
    if weights:
        found["weights"] = {name: stored(tensor) for name, tensor in patcher.model.state_dict().items()}
    return found


def stored(tensor: torch.Tensor) -> str:
    """Of its memory, each value once: rows of the tiny encoders' tables share theirs."""
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    return digest(tensor.detach().as_strided((size,), (1,), 0))


def differences(before: Any, now: Any, where: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(name for name in now if name not in before)]
        return [d for n in names for d in differences(before.get(n), now.get(n), f"{where}/{n}")]
    return [] if before == now else [where]

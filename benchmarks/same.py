"""Whether things are the same: values bit for bit, and a MODEL in all that is known of it."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any

import numpy as np
import torch


def digest(value: Any) -> str:
    """The same for the same values, bit for bit."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()[:20]


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = value.detach().cpu().contiguous().numpy() if isinstance(value, torch.Tensor) else value
        found.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            found.update(f"{key}:".encode())
            _feed(found, value[key])
    elif isinstance(value, (list, tuple)):
        found.update(f"[{len(value)}".encode())
        for one in value:
            _feed(found, one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            _feed(found, getattr(value, each.name))
    elif isinstance(value, str):
        # Reports say how long steps took.
        found.update(re.sub(r"\b[0-9.e-]+ s\b", "... s", value).encode())
    elif value is None or isinstance(value, (bytes, int, float, bool)):
        found.update(repr(value).encode())
    else:
        found.update(type(value).__name__.encode())


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

"""A short name for a model as it is patched, so that a bank can be told from another model's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import torch

SAMPLES = 256


def _values(value: Any) -> Iterable[bytes]:
    """A patch or weight as bytes: tensors by shape and evenly spaced values, the rest as text."""
    if isinstance(value, torch.Tensor):
        flat = value.detach().reshape(-1)
        step = max(1, flat.numel() // SAMPLES)
        yield str(tuple(value.shape)).encode()
        yield flat[::step][:SAMPLES].to("cpu", torch.float32).numpy().tobytes()
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _values(part)
    elif isinstance(value, (str, int, float, bool, type(None))):
        yield repr(value).encode()
    elif hasattr(value, "weights"):
        yield type(value).__name__.encode()
        yield from _values(value.weights)
    else:
        yield type(value).__name__.encode()


def _patched(patcher: Any, prefix: str, digest: Any) -> None:
    """Weights below `prefix` and what is patched onto them, LoRAs with their strengths."""
    # A patched weight has its original in `backup` while the model is loaded.
    backup = {k: b.weight for k, b in getattr(patcher, "backup", {}).items()}
    weights = patcher.model_state_dict(prefix)
    for key in sorted(weights):
        digest.update(key.encode())
        for part in _values(backup.get(key, weights[key])):
            digest.update(part)
        for part in _values(patcher.patches.get(key, ())):
            digest.update(part)


def fingerprint(model: Any, clip: Any) -> str:
    """16 hex digits of the UNet's and the text encoder's weights, LoRAs and other patches included.

    Values are sampled from every tensor: fast, and different for any two trained models.
    """
    digest = hashlib.sha256()
    _patched(model, "diffusion_model.", digest)
    _patched(clip.patcher, "", digest)
    return digest.hexdigest()[:16]

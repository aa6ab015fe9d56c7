"""Which number format the demo's networks are trained and run in."""

from __future__ import annotations

import torch


def has_bfloat16(kind: str) -> bool:
    """Whether a "cpu" or "cuda" computes in bfloat16; other CPUs take many times longer with it."""
    if kind != "cpu":
        return True
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def autocast(kind: str) -> torch.autocast:
    return torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(kind))


def shortened(values: torch.Tensor) -> torch.Tensor:
    """In bfloat16 where that is fast."""
    return values.bfloat16() if has_bfloat16(values.device.type) else values

"""Operations of a UNet's forward, counted on PyTorch's meta device without its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import comfy.ops
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch.utils.flop_counter import FlopCounterMode
from winning_tickets.probe.model.family import Layer


class _Reached(Exception):
    """The layer was reached."""


def _plain_attention(
    func: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, *_: Any, **__: Any
) -> torch.Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).flatten(2)


def flops(settings: Mapping[str, Any], height: int, width: int, last: Layer | None = None) -> int:
    """Of one conditional forward of a UNet of these settings on a latent; up to a layer, or whole."""
    operations = comfy.ops.disable_weight_init
    with torch.device("meta"):
        own = {**settings, "dtype": torch.float32, "device": "meta", "operations": operations}
        unet = UNetModel(**own)
        x, t = torch.empty(1, settings["in_channels"], height, width), torch.empty(1)
        context = torch.empty(1, 77, settings["context_dim"])
        adm = settings.get("adm_in_channels")
        y = torch.empty(1, adm) if adm else None

    def stop(*_: Any) -> None:
        raise _Reached

    options: dict[str, Any] = {"patches_replace": {"attn2": {last: stop}} if last else {}}
    # ComfyUI's attention asks for free memory, which the meta device has none of.
    options["optimized_attention_override"] = _plain_attention
    with FlopCounterMode(display=False) as counter, contextlib.suppress(_Reached):
        unet(x, t, context=context, y=y, transformer_options=options)
    return counter.get_total_flops()

"""Operations of a transformer's forward at real sizes, counted on PyTorch's meta device without its weights.

    python benchmarks/flops_transformers.py --comfyui DIR

Run with the Python of that ComfyUI. What a look costs that ends at a layer, as a share of a forward of an
image of 1024x1024 pixels; and what the pack announces.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    start.add_option(parser)
    start.comfyui(parser.parse_args().comfyui)
    start.pack()

import comfy.model_patcher
import comfy.supported_models
import torch
from torch.utils.flop_counter import FlopCounterMode
from winning_tickets.probe.model.family import Layer
from winning_tickets.probe.model.transformer import Transformer


@dataclass(frozen=True)
class Size:
    """config: of comfy.supported_models. settings: the class's arguments. latent: of 1024x1024 pixels.
    tokens, width: of the text. pooled: values of the pooled text, 0 for none."""

    config: str
    settings: dict[str, Any]
    latent: tuple[int, ...]
    tokens: int
    width: int
    pooled: int = 0


SD3_MEDIUM = Size(
    "SD3",
    {
        "input_size": None,
        "patch_size": 2,
        "in_channels": 16,
        "depth": 24,
        "num_blocks": 24,
        "pos_embed_scaling_factor": None,
        "pos_embed_max_size": 192,
        "num_patches": 36864,
        "adm_in_channels": 2048,
        "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": 4096, "out_features": 1536},
        },
        "qk_norm": None,
    },
    (16, 128, 128),
    154,
    4096,
    2048,
)
FLUX_DEV = Size(
    "Flux",
    {
        "image_model": "flux",
        "in_channels": 16,
        "out_channels": 16,
        "vec_in_dim": 768,
        "context_in_dim": 4096,
        "hidden_size": 3072,
        "mlp_ratio": 4.0,
        "num_heads": 24,
        "depth": 19,
        "depth_single_blocks": 38,
        "axes_dim": [16, 56, 56],
        "theta": 10000,
        "patch_size": 2,
        "qkv_bias": True,
        "guidance_embed": True,
        "txt_ids_dims": [],
    },
    (16, 128, 128),
    256,
    4096,
    768,
)
QWEN_IMAGE = Size(
    "QwenImage",
    {
        "image_model": "qwen_image",
        "patch_size": 2,
        "in_channels": 64,
        "out_channels": 16,
        "num_layers": 60,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 3584,
        "pooled_projection_dim": 768,
        "axes_dims_rope": (16, 56, 56),
    },
    (16, 1, 128, 128),
    32,
    3584,
)
SIZES = {"SD3 medium": SD3_MEDIUM, "Flux.1 dev": FLUX_DEV, "Qwen-Image": QWEN_IMAGE}


class _Reached(Exception):
    """The layer was reached."""


def model_of(size: Size) -> Any:
    """A MODEL whose weights are on the meta device."""
    config = getattr(comfy.supported_models, size.config)(size.settings)
    config.unet_config = dict(size.settings)
    config.set_inference_dtype(torch.float32, None)
    with torch.device("meta"):
        base = config.get_model({}, "", device=torch.device("meta"))
    meta = torch.device("meta")
    return comfy.model_patcher.ModelPatcher(base, load_device=meta, offload_device=meta)


def _attention(function: Any, q: Any, k: Any, v: Any, heads: int, *_: Any, **how: Any) -> torch.Tensor:
    """ComfyUI's own asks for free memory, which the meta device has none of."""
    q, k, v = (t if t.dim() == 4 else t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    if v.shape[1] != heads:
        v = v.transpose(1, 2)
    return ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2).flatten(2)


def flops(model: Any, size: Size, last: Layer | None = None) -> int:
    """Of one conditional forward; up to a layer's attention to the text, or whole."""
    family = Transformer(model)

    def read(make: Any) -> None:
        raise _Reached

    options: dict[str, Any] = {"optimized_attention_override": _attention}
    if last:
        options = family.hooked(options, [last], read, size.latent[-2:], size.tokens, {})
    with torch.device("meta"):
        x, t = torch.empty(1, *size.latent), torch.empty(1)
        context = torch.empty(1, size.tokens, size.width)
        more = {"y": torch.empty(1, size.pooled)} if size.pooled else {}
        if size.settings.get("guidance_embed"):
            more["guidance"] = torch.empty(1)
        with FlopCounterMode(display=False) as counter, contextlib.suppress(_Reached):
            family.dit(x, t, context=context, transformer_options=options, **more)
    return counter.get_total_flops()


def main() -> None:
    print(
        "| model | 10^12 multiply-adds | layer | share of them | announced |\n| --- | --- | --- | --- | --- |"
    )
    for name, size in SIZES.items():
        model = model_of(size)
        family, whole = Transformer(model), flops(model, size)
        layers = family.layers
        for layer in (layers[0], layers[len(layers) // 3], layers[len(layers) // 2], layers[-1]):
            share = flops(model, size, layer) / whole
            announced = family.share(layer, *size.latent[-2:])
            print(f"| {name} | {whole / 2e12:.2f} | `{layer}` | {share:.3f} | {announced:.3f} |", flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

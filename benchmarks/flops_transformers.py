"""Operations and memory of a transformer's forward at real sizes, on PyTorch's meta device without weights.

    python benchmarks/flops_transformers.py --comfyui DIR

Run with the Python of that ComfyUI. What a look costs that ends at a layer, as a share of a forward of an
image of 1024x1024 pixels; and what the pack announces. What memory it takes beside the weights, in bfloat16,
and what a forward takes whose layers are all watched; a stock forward's own attention is taken for one that
needs none but its result.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import weakref
from collections.abc import Sequence
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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from winning_tickets.probe.attention.reader import call_attention
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


class Memory(TorchDispatchMode):
    """Bytes of the tensors that are made: `now` of those still there, `most` of those there at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        for tensor in filter(torch.is_tensor, tree_leaves(made)):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self.sizes:
                self.sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._drop, storage._cdata)
        return made

    def _drop(self, storage: int) -> None:
        self.now -= self.sizes.pop(storage)


def model_of(size: Size, dtype: torch.dtype = torch.float32) -> Any:
    """A MODEL whose weights are on the meta device."""
    config = getattr(comfy.supported_models, size.config)(size.settings)
    config.unet_config = dict(size.settings)
    config.set_inference_dtype(dtype, None)
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


def _result_alone(function: Any, q: Any, k: Any, v: Any, heads: int, *_: Any, **how: Any) -> torch.Tensor:
    """As of a fused attention, which holds no weights."""
    return torch.empty(len(q), q.shape[-2], q.numel() // len(q) // q.shape[-2], dtype=q.dtype)


def flops(model: Any, size: Size, last: Layer | None = None) -> int:
    """Of one conditional forward; up to a layer's attention to the text, or whole."""

    def read(make: Any) -> None:
        raise _Reached

    options: dict[str, Any] = {"optimized_attention_override": _attention}
    counter = FlopCounterMode(display=False)
    _forward(Transformer(model), size, options, [last] if last else [], read, counter)
    return counter.get_total_flops()


def memory(model: Any, size: Size, layers: Sequence[Layer] = (), stop: bool = False) -> int:
    """Bytes of one conditional forward at most; with the layers' maps of two phrases read and kept; with
    `stop`, what comes after them left out.
    """
    maps: list[torch.Tensor] = []

    def read(make: Any) -> None:
        if (call := make()) is not None:
            maps.append(call_attention(call, slice(0, 1), [[[3, 4]], [[7]]], size.tokens))
            if stop and call.layer == layers[-1]:
                raise _Reached

    used = Memory()
    _forward(Transformer(model), size, {"optimized_attention_override": _result_alone}, layers, read, used)
    if len(maps) != len(layers):
        raise ValueError(f"{len(maps)} maps of {len(layers)} layers were read.")
    return used.most


def _forward(
    family: Transformer, size: Size, options: Any, layers: Sequence[Layer], read: Any, measured: Any
) -> None:
    if layers:
        options = family.hooked(options, layers, read, size.latent[-2:], size.tokens, {})
    dtype = family.dit.dtype
    with torch.device("meta"):
        x, t = torch.empty(1, *size.latent, dtype=dtype), torch.empty(1)
        context = torch.empty(1, size.tokens, size.width, dtype=dtype)
        more = {"y": torch.empty(1, size.pooled, dtype=dtype)} if size.pooled else {}
        if size.settings.get("guidance_embed"):
            more["guidance"] = torch.empty(1)
        with measured, contextlib.suppress(_Reached):
            family.dit(x, t, context=context, transformer_options=options, **more)


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
    print("\n| model | memory of a forward | a look that ends in its middle | with every layer watched |")
    print("| --- | --- | --- | --- |")
    for name, size in SIZES.items():
        model = model_of(size, torch.bfloat16)
        layers, stock = Transformer(model).layers, memory(model, size)
        read = (
            memory(model, size, layers[len(layers) // 2 :][:1], stop=True),
            memory(model, size, layers),
        )
        cells = " | ".join(f"{most / 2**20:.0f} MB, {most / stock:.2f}" for most in read)
        print(f"| {name} | {stock / 2**20:.0f} MB | {cells} |", flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

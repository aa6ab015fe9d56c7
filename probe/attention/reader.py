"""Reads cross-attention inside a UNet, through model patches that chain with those already there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample
from einops import rearrange
from torch.nn import functional as F

from ..sampling.patch import without_patches

WEIGHTS_AT_ONCE = 2**22
COMPILE_KEY = "torch.compile"


class ProbeError(ValueError):
    """A model, layer or prompt that cannot be read; the message says what to change."""


class Layer(NamedTuple):
    """A cross-attention layer by ComfyUI's block names; written "input 8", or "input 7.3" deeper in."""

    block: str
    number: int
    depth: int

    def __str__(self) -> str:
        return f"{self.block} {self.number}" + (f".{self.depth}" if self.depth else "")


def cross_attention_layers(model: Any) -> list[Layer]:
    """Every cross-attention layer of a MODEL's UNet, in forward order; ProbeError for other models."""
    unet = plain_clone(model).get_model_object("diffusion_model")
    if not isinstance(unet, UNetModel):
        raise ProbeError(
            f"This model is {type(model.model).__name__}, a {type(unet).__name__}: it has no UNet with"
            " cross-attention. This works with SD1.x, SD2.x and SDXL models."
        )
    sections: list[tuple[str, Iterable[Any]]] = [
        ("input", unet.input_blocks),
        ("middle", [unet.middle_block]),
        ("output", unet.output_blocks),
    ]
    return [
        Layer(name, number, depth)
        for name, blocks in sections
        for number, block in enumerate(blocks)
        for part in (block if block is not None else ())
        if isinstance(part, SpatialTransformer)
        for depth in range(len(part.transformer_blocks))
    ]


def cell_side(model: Any, layer: Layer) -> int:
    """Side in latent pixels of what lies under one cell of a layer's map."""
    unet = plain_clone(model).get_model_object("diffusion_model")
    whole = len(unet.input_blocks)
    before = {"input": layer.number}.get(layer.block, whole)
    halvings = sum(isinstance(part, Downsample) for block in unet.input_blocks[:before] for part in block)
    if layer.block == "output":
        undone = unet.output_blocks[: layer.number]
        halvings -= sum(isinstance(part, Upsample) for block in undone for part in block)
    return int(2**halvings)


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


def find_layers(model: Any, names: str) -> list[Layer]:
    """The layers called `names`, apart by commas, in forward order; ProbeError lists the model's own."""
    layers = cross_attention_layers(model)
    wanted = [" ".join(name.lower().split()) for name in names.split(",")]
    known = [str(layer) for layer in layers]
    for name in wanted:
        if name not in known:
            raise ProbeError(f'layer is "{name}", but this model has cross-attention in: {", ".join(known)}.')
    return [layer for layer in layers if str(layer) in wanted]


class _ReadEnough(Exception):
    """Raised inside the UNet once the last layer's attention is read; never leaves `Reader`."""


@dataclass
class Reader:
    """Reads the attention of some layers to some tokens whenever a MODEL is evaluated.

    What lies before the last layer runs as it is, patches included; with `stop`, nothing after it.
    layers: in forward order. tokens: for each conditioning's uuid, groups of token positions and the
    length of its own text. maps: what was read, per uuid and layer: [images, groups, h, w] float32 as
    `keep` leaves it, by default on the CPU; mean over heads and tokens.
    """

    layers: Sequence[Layer]
    tokens: Mapping[uuid.UUID, tuple[Sequence[Sequence[int]], int]]
    stop: bool = True
    keep: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.cpu
    maps: dict[tuple[uuid.UUID, Layer], torch.Tensor] = field(default_factory=dict)

    def attach(self, model: Any) -> Any:
        """A plain clone of MODEL that is read whenever it is evaluated."""
        clone = plain_clone(model)
        key = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        clone.add_wrapper_with_key(key, "winning_tickets", self.evaluate)
        return clone

    def evaluate(
        self,
        executor: Any,
        x: torch.Tensor,
        timesteps: Any,
        context: Any,
        y: Any,
        control: Any,
        transformer_options: dict[str, Any],
        **kwargs: Any,
    ) -> torch.Tensor:
        """A DIFFUSION_MODEL wrapper: the UNet with the layers read."""
        options = dict(transformer_options)
        replacements = dict(options.get("patches_replace", {}))
        theirs = replacements.get("attn2", {})
        ours = {layer: partial(self._attention, layer, theirs) for layer in self.layers}
        replacements["attn2"] = {**theirs, **ours}
        options["patches_replace"] = replacements
        try:
            return executor(x, timesteps, context, y, control, options, **kwargs)
        except _ReadEnough:
            return x.new_zeros(x.shape[0], executor.class_obj.out_channels, *x.shape[2:])

    def _attention(
        self,
        layer: Layer,
        theirs: Mapping[Any, Any],
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        extra_options: dict[str, Any],
    ) -> torch.Tensor:
        """Stands in for the layer's attention (attn2_replace); a patch already there does its work."""
        self._read(layer, q, k, extra_options)
        if self.stop and layer == self.layers[-1]:
            raise _ReadEnough
        if previous := theirs.get(layer) or theirs.get((layer.block, layer.number)):
            return previous(q, k, v, extra_options)
        return optimized_attention(
            q,
            k,
            v,
            extra_options["n_heads"],
            attn_precision=extra_options["attn_precision"],
            transformer_options=extra_options,
        )

    def _read(self, layer: Layer, q: torch.Tensor, k: torch.Tensor, extra_options: dict[str, Any]) -> None:
        # ComfyUI batches, reorders and splits prompts: only the uuid says whose chunk this is.
        uuids = extra_options["uuids"]
        heads = extra_options["n_heads"]
        height, width = extra_options["activations_shape"][-2:]
        for key, q_part, k_part in zip(uuids, q.chunk(len(uuids)), k.chunk(len(uuids)), strict=True):
            if key in self.tokens:
                groups, length = self.tokens[key]
                maps = token_attention(q_part, k_part, heads, groups, length)
                self.maps[key, layer] = self.keep(maps.unflatten(-1, (height, width)))


def average_maps(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean of maps [..., h, w] of several layers, on the grid of the coarsest."""
    height, width = min(m.shape[-2] for m in maps), min(m.shape[-1] for m in maps)
    flat = [F.adaptive_avg_pool2d(m.flatten(0, -3), (height, width)) for m in maps]
    return torch.stack(flat).mean(0).unflatten(0, maps[0].shape[:-2])


def token_attention(
    q: torch.Tensor, k: torch.Tensor, heads: int, groups: Sequence[Sequence[int]], length: int
) -> torch.Tensor:
    """Softmax attention of each pixel to groups of tokens, float32 [images, groups, pixels].

    q [images, pixels, heads * dim], k [images, tokens, heads * dim]. Mean over heads and over the
    tokens of a group. ComfyUI tiles texts of different `length` to a common one: copies are summed.
    """
    q, k = (rearrange(t, "b n (h d) -> b h n d", h=heads) for t in (q, k))
    pixels = min(q.shape[2], max(1, WEIGHTS_AT_ONCE // (heads * k.shape[2])))
    images = max(1, WEIGHTS_AT_ONCE // (heads * k.shape[2] * pixels))
    result = []
    for q_part, k_part in zip(q.split(images), k.split(images), strict=True):
        keys = k_part.float().transpose(-1, -2) * q.shape[-1] ** -0.5
        maps = []
        for some in q_part.split(pixels, 2):
            weights = (some.float() @ keys).softmax(-1).mean(1).unflatten(-1, (-1, length)).sum(-2)
            maps.append(torch.stack([weights[..., list(g)].mean(-1) for g in groups], 1))
        result.append(torch.cat(maps, -1))
    return torch.cat(result)

"""UNets with cross-attention: SD1.x, SD2.x, SDXL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample

from ...tickets.grid import map_size
from .clone import plain_clone, uncompiled
from .family import AttentionCall, Layer, ProbeError, Read, shares

TOKENS = 77


class UNet:
    """The family of a MODEL; ProbeError for models that are none."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.unet = plain_clone(model).get_model_object("diffusion_model")
        if not isinstance(self.unet, UNetModel):
            raise ProbeError(
                f"This model is {type(model.model).__name__}, a {type(self.unet).__name__}: it has no UNet"
                " with cross-attention. This works with SD1.x, SD2.x and SDXL models."
            )

    def _blocks(self) -> Iterator[tuple[str, int, Sequence[Any]]]:
        """Name, number and parts of every block, in forward order."""
        unet = self.unet
        middle = [unet.middle_block] if unet.middle_block is not None else []
        for name, blocks in (
            ("input", unet.input_blocks),
            ("middle", middle),
            ("output", unet.output_blocks),
        ):
            for number, block in enumerate(blocks):
                yield name, number, block

    def _parts(self) -> Iterator[tuple[str, int, Any, int]]:
        """Name and number of its block, part, and stride of what the part gives, in forward order."""
        stride = 1
        for name, number, block in self._blocks():
            for part in block:
                if isinstance(part, Downsample):
                    stride *= 2
                elif isinstance(part, Upsample):
                    stride //= 2
                yield name, number, part, stride

    @cached_property
    def _strides(self) -> dict[Layer, int]:
        return {
            Layer(name, number, depth): stride
            for name, number, part, stride in self._parts()
            if isinstance(part, SpatialTransformer)
            for depth in range(len(part.transformer_blocks))
        }

    @property
    def layers(self) -> list[Layer]:
        return list(self._strides)

    def stride(self, layer: Layer) -> int:
        return self._strides[layer]

    @property
    def cells(self) -> int:
        """As in the paper."""
        return 1

    @property
    def baseline(self) -> int:
        """As in the paper."""
        return 0

    def told(self, entry: Sequence[Any], like: torch.Tensor) -> torch.Tensor:
        own: torch.Tensor = entry[0].to(like)
        return own

    def obscured(self, given: Mapping[str, Any]) -> str:
        return ""

    def covered(self, height: int, width: int) -> tuple[float, float]:
        return 1.0, 1.0

    def text_width(self) -> int:
        blocks = (
            block
            for _, _, part, _ in self._parts()
            if isinstance(part, SpatialTransformer)
            for block in part.transformer_blocks
        )
        return int(next(blocks).attn2.to_k.in_features)

    def noise_level(self) -> float:
        """Where the first step of a sampler starts."""
        return float(self.model.get_model_object("model_sampling").sigma_max)

    def share(self, layer: Layer, height: int, width: int) -> float:
        """By multiplications, counted from the sizes of the weights: nothing is run or built."""
        return shares(self._costs(height, width))[layer]

    def _costs(self, height: int, width: int) -> Iterator[tuple[Layer | None, float]]:
        for name, number, part, stride in self._parts():
            rows, columns = map_size(height, width, stride)
            cells = rows * columns
            if isinstance(part, SpatialTransformer):
                yield None, _weights(part.proj_in) * cells
                for depth, block in enumerate(part.transformer_blocks):
                    inner = block.attn1.to_q.weight.shape[0]
                    yield None, _weights(block.attn1) * cells + 2 * cells**2 * inner
                    yield None, _weights(block.attn2.to_q) * cells + _weights(block.attn2.to_k) * TOKENS
                    yield Layer(name, number, depth), 2 * cells * TOKENS * inner
                    yield None, _weights(block.attn2.to_out) * cells + _weights(block.ff) * cells
                yield None, _weights(part.proj_out) * cells
            else:
                # Of a residual block's weights, those of the time embedding are used once, not for each cell.
                once = _weights(part.emb_layers) if isinstance(part, ResBlock) else 0
                yield None, (_weights(part) - once) * cells
        yield None, _weights(self.unet.out) * height * width

    def hooked(
        self,
        options: Mapping[str, Any],
        layers: Sequence[Layer],
        read: Read,
        size: tuple[int, int],
        tokens: int,
        given: Mapping[str, Any],
    ) -> dict[str, Any]:
        """By an attn2 patch behind all others, which sees the context, and attn2 replacements around them."""
        replace, patches = dict(options.get("patches_replace", {})), dict(options.get("patches", {}))
        seen: dict[Layer, torch.Tensor] = {}
        theirs = replace.get("attn2", {})
        ours = {layer: uncompiled(partial(_attention, layer, theirs, seen, read)) for layer in layers}
        replace["attn2"] = {**theirs, **ours}
        see = uncompiled(partial(_see, ours, seen))
        patches["attn2_patch"] = [*patches.get("attn2_patch", []), see]
        return {**options, "patches_replace": replace, "patches": patches}


def _see(
    wanted: Mapping[Any, Any],
    seen: dict[Any, torch.Tensor],
    n: torch.Tensor,
    context: torch.Tensor,
    value: torch.Tensor,
    extra_options: Mapping[str, Any],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    # As core asks for them: another pack's forward may not set them.
    layer = (*(extra_options.get("block") or ()), extra_options.get("block_index", 0))
    if layer in wanted:
        seen[layer] = context
    return n, context, value


def _attention(
    layer: Layer,
    theirs: Mapping[Any, Any],
    seen: dict[Layer, torch.Tensor],
    read: Read,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    extra_options: dict[str, Any],
) -> torch.Tensor:
    """Stands in for a layer's attention (attn2_replace); a patch already there does its work."""
    context = seen.pop(layer, None)

    def call() -> AttentionCall:
        height, width = extra_options.get("activations_shape", (0, 0))[-2:]
        return AttentionCall(layer, q, k, context, extra_options["n_heads"], (height, width))

    read(call)
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


def _weights(module: Any) -> int:
    """How many numbers its matrices and kernels have; quantised ones as they were before."""
    sizes = (getattr(p, "tensor_shape", p.shape) for p in module.parameters())
    return sum(torch.Size(size).numel() for size in sizes if len(size) > 1)

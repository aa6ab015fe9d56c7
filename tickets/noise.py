"""Initial noise and the blocks it is made of.

Noise is drawn on the CPU in float32, image by image, so that image k of a seed is the same on any device,
alone and in any batch. It is what stock ComfyUI draws for it with batch_index; without, stock draws a batch
at once. That gives the same images where their values are a multiple of 16, and at other sizes (600x600
pixels) only for a single image, since torch fills normal numbers in by 16.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange

SEED_RANGE = 2**64


def plain_noise(seed: int, shape: tuple[int, int, int], indices: Iterable[int] = (0,)) -> torch.Tensor:
    """Stock ComfyUI's noise [len(indices), C, h, w] of `seed` for a batch_index of `indices`."""
    wanted = list(indices)
    generator = torch.Generator("cpu").manual_seed(seed % SEED_RANGE)
    drawn = {}
    for i in range(max(wanted, default=-1) + 1):
        image = torch.randn(1, *shape, generator=generator)
        if i in wanted:
            drawn[i] = image
    return torch.cat([drawn[i] for i in wanted]) if wanted else torch.empty(0, *shape)


def to_blocks(noise: torch.Tensor, size: int) -> torch.Tensor:
    """[S, C, h, w] -> [S, rows, columns, C, size, size]; latents beyond the last whole block are left out."""
    rows, columns = noise.shape[-2] // size, noise.shape[-1] // size
    whole = noise[..., : rows * size, : columns * size]
    return rearrange(whole, "s c (y p) (x q) -> s y x c p q", p=size, q=size)


def place_blocks(noise: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """A copy of `noise` [C, h, w] with `blocks` [rows, columns, C, size, size] laid over its top left."""
    rows, columns, _, size, _ = blocks.shape
    result = noise.clone()
    whole = rearrange(blocks, "y x c p q -> c (y p) (x q)")
    result[:, : rows * size, : columns * size] = whole
    return result

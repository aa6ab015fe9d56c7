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

from .recent import Recent

SEED_RANGE = 2**64
Shape = tuple[int, ...]


class _Sequence:
    """The images of one seed, drawn one after the other."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.seed, self.shape = seed, shape
        self._restart()

    def _restart(self) -> None:
        self._generator = torch.Generator("cpu").manual_seed(self.seed)
        self._next = 0

    def image(self, index: int) -> torch.Tensor:
        """[1, C, h, w]; an earlier one than the last is drawn from the start again."""
        if index < self._next:
            self._restart()
        while True:
            drawn = torch.randn(1, *self.shape, generator=self._generator)
            self._next += 1
            if self._next > index:
                return drawn


# A batch is asked for image by image, of many seeds in turn: drawn anew, the cost would grow with its square.
_sequences: Recent[_Sequence] = Recent(128)


def plain_noise(seed: int, shape: Shape, indices: Iterable[int] = (0,)) -> torch.Tensor:
    """Stock ComfyUI's noise [len(indices), C, h, w] of `seed` for a batch_index of `indices`."""
    wanted = list(indices)
    key = seed % SEED_RANGE, tuple(shape)
    sequence = _sequences.get(key, lambda: _Sequence(*key))
    drawn = {i: sequence.image(i) for i in sorted(set(wanted))}
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


def blended(old: torch.Tensor, new: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Two independent noises [..., h, w] mixed so that the variance stays, with `weight` [h, w] of the new.

    Exactly the one or the other where the weight is 0 or 1.
    """
    mixed = (1 - weight**2).sqrt() * old + weight * new
    return torch.where(weight == 0, old, torch.where(weight == 1, new, mixed))

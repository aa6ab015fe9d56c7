"""Where the cells of an attention map lie on a latent, and the blocks of noise under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

# Of an image to one of its latent's, where nothing says otherwise: SD1.x, SD2.x, SDXL and most others.
PIXELS = 8


class GridError(ValueError):
    """Blocks that cannot be laid out or told apart; the message says what to change."""


def latent_side(pixels: int, ratio: int = PIXELS) -> int:
    """Side of a latent in latent pixels, of an image of `pixels`."""
    return pixels // ratio


def map_side(side: int, stride: int) -> int:
    """Cells along `side` latent pixels, of a map with a cell for every `stride` of them.

    A convolution of stride 2 rounds up, and so do several of them in a row.
    """
    return -(-side // stride)


def map_size(height: int, width: int, stride: int) -> tuple[int, int]:
    """Rows and columns of such a map on a latent of height x width."""
    return map_side(height, stride), map_side(width, stride)


@dataclass(frozen=True)
class Grid:
    """Blocks of `block` x `block` latent pixels on a latent of height x width.

    Only whole blocks count: rows and columns beyond the last one keep the noise they have.
    """

    height: int
    width: int
    block: int

    def __post_init__(self) -> None:
        if self.block < 1 or min(self.height, self.width) < self.block:
            raise GridError(
                f"Blocks of {self.block}x{self.block} latent pixels do not fit a latent of {self.width}x"
                f"{self.height}: raise width and height or choose a finer layer."
            )

    @classmethod
    def of_layers(cls, height: int, width: int, strides: Sequence[int], cells: int = 1) -> Grid:
        """Blocks of `cells` x `cells` cells of the coarsest of several layers."""
        return cls(height, width, cells * max(strides))

    @property
    def rows(self) -> int:
        return self.height // self.block

    @property
    def columns(self) -> int:
        return self.width // self.block

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @cached_property
    def exact(self) -> tuple[float, float]:
        """Height and width in blocks, the last part of a block included."""
        return self.height / self.block, self.width / self.block

    def fits(self, stride: int) -> bool:
        """Whether maps of this stride have whole cells in every block."""
        return self.block % stride == 0

    def pool(self, maps: torch.Tensor, stride: int) -> torch.Tensor:
        """Mean over each block [..., rows, columns] of maps [..., h, w] with a cell for each `stride` pixels.

        GridError when cells are coarser than blocks, or the maps are not of this latent.
        """
        if not self.fits(stride):
            raise GridError(
                f"Blocks of {self.block} latent pixels cannot be told apart in a map with a cell for every"
                f" {stride}: choose a finer layer or larger blocks."
            )
        expected = map_size(self.height, self.width, stride)
        if tuple(maps.shape[-2:]) != expected:
            raise GridError(
                f"A map of {maps.shape[-2]}x{maps.shape[-1]} cells is not of a latent of {self.height}x"
                f"{self.width}, which has {expected[0]}x{expected[1]}."
            )
        cells = self.block // stride
        whole = maps[..., : self.rows * cells, : self.columns * cells]
        if cells == 1:
            return whole
        pooled = torch.nn.functional.avg_pool2d(whole.flatten(0, -3), cells)
        return pooled.unflatten(0, maps.shape[:-2])

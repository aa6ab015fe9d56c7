"""What the judge says of an image: which objects are there, where, and whether they stand where asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

if __package__:  # ComfyUI loads the folder as a pack, the scripts import from it
    from .scenes import CELL, CONCEPTS, NAMES, SIZE, Pen  # type: ignore[import-not-found]
else:
    from scenes import CELL, CONCEPTS, NAMES, SIZE, Pen

SMALLEST = 12
"""Latent cells (8x8 pixels each) an object must cover in one piece to count as there."""


def inside(box: Sequence[float], rows: int, columns: int) -> np.ndarray:
    """Mask [rows, columns] of the cells whose centres lie in the box."""
    y, x = np.mgrid[:rows, :columns]
    x, y = (x + 0.5) / columns, (y + 0.5) / rows
    return (box[0] <= x) & (x < box[2]) & (box[1] <= y) & (y < box[3])


@dataclass(frozen=True)
class Found:
    """One category's mask [32, 32] in an image; pieces: how many separate objects it makes."""

    mask: np.ndarray
    pieces: int

    @property
    def present(self) -> bool:
        return self.pieces > 0

    def centre(self) -> tuple[float, float]:
        """Centroid of the mask as fractions of width and height."""
        rows, columns = np.nonzero(self.mask)
        h, w = self.mask.shape
        return (columns.mean() + 0.5) / w, (rows.mean() + 0.5) / h

    def inside(self, box: Sequence[float]) -> bool:
        """The object is there and its centroid lies in the box (x0, y0, x1, y1 as fractions)."""
        if not self.present:
            return False
        x, y = self.centre()
        return box[0] <= x <= box[2] and box[1] <= y <= box[3]

    def iou(self, box: Sequence[float]) -> float:
        """Overlap of mask and box over their union, in cells."""
        area = inside(box, *self.mask.shape)
        return float((area & self.mask).sum() / (area | self.mask).sum())


def find(classes: np.ndarray, index: int) -> Found:
    """The object of class `index` in a class map [32, 32]; specks under SMALLEST cells are dropped."""
    pieces, count = ndimage.label(classes == index)
    sizes = ndimage.sum_labels(np.ones_like(pieces), pieces, range(1, count + 1))
    kept = [i + 1 for i, size in enumerate(np.atleast_1d(sizes)) if size >= SMALLEST]
    return Found(np.isin(pieces, kept) & (pieces > 0), len(kept))


@cache
def drawn_iou(name: str, box: tuple[float, ...]) -> float:
    """The most that a drawing of the concept overlaps the box, at any size and place in whole cells."""
    concept, cells = CONCEPTS[NAMES.index(name)], SIZE // CELL
    area = inside(box, cells, cells)
    best = 0.0
    for side in range(1, cells + 1):
        pen = Pen(side * CELL)
        concept.paint(pen, (0, 0, 0))
        cover = np.asarray(pen.sprite())[..., 3].reshape(side, CELL, side, CELL).mean((1, 3))
        mask = cover >= 255 / 2
        common = np.tensordot(sliding_window_view(area, mask.shape).astype(int), mask.astype(int))
        best = max(best, float((common / (area.sum() + mask.sum() - common)).max()))
    return best


@torch.inference_mode()
def classes_of(judge: torch.nn.Module, latents: torch.Tensor) -> np.ndarray:
    """Class maps uint8 [B, h, w] of latents at model scale [B, 4, h, w]."""
    maps = [judge(part.float()).argmax(1) for part in latents.split(64)]
    return torch.cat(maps).to(torch.uint8).numpy()

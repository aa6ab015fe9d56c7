"""Regions: a category and a box or mask each, and the cells of a grid that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

SMALLER, LISTED = OVERLAPS = ("smaller", "listed first")


class LayoutError(ValueError):
    """A setting of a layout that cannot be followed; the message says which values can."""


class RegionError(ValueError):
    """A layout that cannot be used; the message names the region and what to change."""


@dataclass(frozen=True)
class Region:
    """A category and its box as fractions of width and height: left, top, right, bottom."""

    category: str
    x0: float
    y0: float
    x1: float
    y1: float

    def area(self, index: int = 0) -> float:
        """Share of the image, the same for every image of a batch."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def coverage(self, rows: float, columns: float, index: int = 0) -> torch.Tensor:
        """Share of each whole cell that the region covers, float64 [floor(rows), floor(columns)].

        rows and columns are the image's size in cells; a last partial cell is not part of the grid.
        """
        y = _overlap(torch.tensor([self.y0, self.y1]) * rows, int(rows))
        x = _overlap(torch.tensor([self.x0, self.x1]) * columns, int(columns))
        return y @ x.T


@dataclass(frozen=True, eq=False)
class MaskRegion:
    """A category and its masks [images, h, w] in 0..1, spread over the whole image.

    Image `index` of a batch has mask `index`; when there are fewer masks, they begin again. may_be_empty: in
    some images nothing is to be done.
    """

    category: str
    masks: torch.Tensor
    may_be_empty: bool = False

    def __post_init__(self) -> None:
        masks = self.masks
        if masks.dim() != 3 or not masks.numel() or not bool(torch.isfinite(masks).all()):
            raise RegionError(
                f'The mask of "{self.category}" is {tuple(masks.shape)}: it must be finite numbers of shape'
                " [images, height, width]."
            )
        empty = [i for i, mask in enumerate(masks) if not bool((mask > 0).any())]
        if empty and not self.may_be_empty:
            which = f" number {empty[0] + 1}" if len(masks) > 1 else ""
            raise RegionError(f'The mask{which} of "{self.category}" is empty: paint where to place it.')

    def _mask(self, index: int) -> torch.Tensor:
        return self.masks[index % len(self.masks)].to("cpu", torch.float64).clamp(0, 1)

    def area(self, index: int = 0) -> float:
        """Share of the image in mask `index`."""
        return float(self._mask(index).mean())

    def coverage(self, rows: float, columns: float, index: int = 0) -> torch.Tensor:
        """Mean of the mask over each whole cell; as `Region.coverage`."""
        mask = self._mask(index).numpy()
        down, across = (_shares(n, cells) for n, cells in zip(mask.shape, (rows, columns), strict=True))
        return torch.from_numpy((across @ (down @ mask).T).T.copy())


AnyRegion = Region | MaskRegion


@dataclass(frozen=True)
class SizedRegions:
    """Regions with width and height in pixels of the image they are made for; None where they do not say."""

    regions: tuple[AnyRegion, ...] = ()
    size: tuple[int, int] | None = None

    def __add__(self, more: SizedRegions) -> SizedRegions:
        """Both, one after the other; the size is that of the first that has one."""
        return SizedRegions((*self.regions, *more.regions), self.size or more.size)


def categories_of(regions: Sequence[AnyRegion]) -> tuple[str, ...]:
    """The categories present, in the order of the regions."""
    return tuple(dict.fromkeys(r.category for r in regions))


def by_category(regions: Sequence[AnyRegion], owner: torch.Tensor) -> torch.Tensor:
    """Index into `categories_of` of every cell, from the index of its region; -1 stays -1."""
    categories = categories_of(regions)
    return torch.tensor([*(categories.index(r.category) for r in regions), -1])[owner]


def _overlap(edges: torch.Tensor, count: int) -> torch.Tensor:
    """How much of each of `count` unit cells lies between neighbouring edges [count, len(edges) - 1]."""
    edges = edges.to(torch.float64)
    cells = torch.arange(count, dtype=torch.float64)[:, None]
    start, end = torch.maximum(edges[:-1], cells), torch.minimum(edges[1:], cells + 1)
    return (end - start).clamp_min(0)


def _shares(pixels: int, cells: float) -> csr_array:
    """As `_overlap` for edges all along `cells` unit cells, `pixels` parts of equal size."""
    edges, count = np.linspace(0, cells, pixels + 1), int(cells)
    borders = np.unique(np.concatenate([edges[edges < count], np.arange(count + 1)]))
    first = borders[:-1]
    places = first.astype(int), np.searchsorted(edges, first, "right") - 1
    return csr_array((np.diff(borders), places), (count, pixels))


def assign_cells(
    regions: Sequence[AnyRegion], rows: float, columns: float, index: int = 0, overlap: str = SMALLER
) -> torch.Tensor:
    """Index of the region each cell belongs to, -1 for background: int64 [floor(rows), floor(columns)].

    A cell belongs to a region that covers at least half of it; a region too thin for that gets the
    cell it covers most, also from larger ones. Where regions overlap, the smaller one wins (as in the
    paper), or the one listed first. index: of the image, for regions with a mask for each.
    """
    if overlap not in OVERLAPS:
        raise RegionError(f'overlap is "{overlap}"; choose one of {", ".join(OVERLAPS)}.')
    owner = torch.full((int(rows), int(columns)), -1, dtype=torch.int64)
    order = list(range(len(regions)))[::-1]
    if overlap == SMALLER:
        order = sorted(range(len(regions)), key=lambda i: regions[i].area(index), reverse=True)
    shares = [r.coverage(rows, columns, index) for r in regions]
    for i in order:
        owner[shares[i] >= 0.5] = i
    thin = [i for i in order if not bool((shares[i] >= 0.5).any())]
    for i in thin[::-1]:
        share = torch.where(torch.isin(owner, torch.tensor(thin)), -1.0, shares[i])
        if float(share.max()) > 0:
            owner.view(-1)[int(share.argmax())] = i
    for i in order:
        if not (owner == i).any():
            raise RegionError(
                f'The region of "{regions[i].category}" is covered by others: make it larger, move it, or'
                " change their order."
            )
    return owner

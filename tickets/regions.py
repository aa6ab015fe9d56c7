"""Regions: a category and a box each, as text, and the cells of a grid that belong to them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch

LINE = re.compile(r"^(?P<category>.*?)\s*:\s*(?P<numbers>[^:]*)$")
EXAMPLE = "castle: 0.62 0.18 1.0 0.69"


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

    @property
    def area(self) -> float:
        return (self.x1 - self.x0) * (self.y1 - self.y0)


def _region(number: int, line: str) -> Region:
    found = LINE.match(line)
    where = f"Region {number} ({line!r})"
    if not found or not found["category"].strip():
        raise RegionError(f'{where} names no category: write it like "{EXAMPLE}".')
    try:
        box = [float(n) for n in re.split(r"[\s,]+", found["numbers"].strip())]
    except ValueError:
        box = []
    if len(box) != 4 or not all(math.isfinite(n) for n in box):
        raise RegionError(f"{where} needs four numbers (left top right bottom, from 0 to 1): {EXAMPLE}")
    x0, y0, x1, y1 = box
    if min(box) < 0 or max(box) > 1:
        raise RegionError(f"{where} leaves the image: all four numbers lie between 0 and 1.")
    if x0 >= x1 or y0 >= y1:
        raise RegionError(f"{where} is empty: left must be below right, top below bottom.")
    return Region(" ".join(found["category"].split()), x0, y0, x1, y1)


def parse_regions(text: str) -> list[Region]:
    """One region a line, `category: x0 y0 x1 y1`; blank lines and lines starting with # are skipped."""
    lines = [line.strip() for line in text.splitlines()]
    regions = [
        _region(number, line)
        for number, line in enumerate((x for x in lines if x and not x.startswith("#")), 1)
    ]
    if not regions:
        raise RegionError(f'No regions: write one a line, like "{EXAMPLE}".')
    return regions


def _cover(low: float, high: float, cells: float, count: int) -> torch.Tensor:
    """How much of each of `count` unit cells lies in low..high, both fractions of `cells`."""
    edges = torch.arange(count + 1, dtype=torch.float64)
    start, end = edges[:-1].clamp_min(low * cells), edges[1:].clamp_max(high * cells)
    return (end - start).clamp_min(0)


def coverage(region: Region, rows: float, columns: float) -> torch.Tensor:
    """Share of each whole cell that the region covers, float64 [floor(rows), floor(columns)].

    rows and columns are the image's size in cells; a last partial cell is not part of the grid.
    """
    y = _cover(region.y0, region.y1, rows, int(rows))
    x = _cover(region.x0, region.x1, columns, int(columns))
    return y[:, None] * x[None, :]


def assign_cells(regions: list[Region], rows: float, columns: float) -> torch.Tensor:
    """Index of the region each cell belongs to, -1 for background: int64 [floor(rows), floor(columns)].

    A cell belongs to a region that covers at least half of it; a region that covers no cell so far
    gets the one it covers most. Where regions overlap, the smaller one wins (as in the paper).
    """
    owner = torch.full((int(rows), int(columns)), -1, dtype=torch.int64)
    order = sorted(range(len(regions)), key=lambda i: regions[i].area, reverse=True)
    for i in order:
        share = coverage(regions[i], rows, columns)
        mine = share >= 0.5
        if not mine.any():
            mine.view(-1)[int(share.argmax())] = True
        owner[mine] = i
    for i in order:
        if not (owner == i).any():
            hidden = regions[i]
            raise RegionError(
                f'The region of "{hidden.category}" is covered by smaller ones: make it larger or move it.'
            )
    return owner

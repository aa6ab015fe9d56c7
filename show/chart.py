"""Curves as small pictures, float32 images [height, width, 3] in 0..1, and figures as columns of text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

PANEL = (160, 220)


def canvas(height: int = PANEL[0], width: int = PANEL[1]) -> torch.Tensor:
    return torch.full((height, width, 3), 0.10)


def wide(values: torch.Tensor, width: int = PANEL[1]) -> torch.Tensor:
    """Values drawn out to the width of a panel."""
    return torch.nn.functional.interpolate(values[None, None].float(), width, mode="linear")[0, 0]


def curve(image: torch.Tensor, values: torch.Tensor, low: float, high: float, paint: Sequence[float]) -> None:
    """Draws one value for each column from left to right, `high` at the top; two pixels thick."""
    height = image.shape[0]
    y = ((1 - (values.float() - low) / (high - low)) * (height - 2)).round().clamp(0, height - 2).long()
    for x in range(len(y)):
        before = int(y[max(0, x - 1)])
        first, last = min(before, int(y[x])), max(before, int(y[x]))
        image[first : last + 2, x] = torch.tensor(paint)


def upright(image: torch.Tensor, share: float, paint: Sequence[float]) -> None:
    """A line from top to bottom at this share of the width."""
    x = round(min(max(share, 0.0), 1.0) * (image.shape[1] - 2))
    image[:, x : x + 2] = torch.tensor(paint)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in which the cells of a column end at the same place; those of the first begin there."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]

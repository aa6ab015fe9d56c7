"""What was measured of a layer, and which layer to recommend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CLEAR = 3.0


@dataclass(frozen=True)
class LayerWorth:
    """A layer's figures. layer: its name, or what prints as it. rows, columns: of its map. block: of
    latent pixels under one cell.

    effect: how much its tickets, put into boxes, draw the first-step attention of the whole UNet there,
    in standard deviations of what plain noise does; error: the standard error of that. kept: correlation
    of a block's score before and after it was moved elsewhere. agreement: of the first-step map with
    where the category ends up; chance: the same with another image's end.
    """

    layer: Any
    rows: int
    columns: int
    block: int
    effect: float
    error: float
    kept: float | None = None
    agreement: float | None = None
    chance: float | None = None

    @property
    def clear(self) -> bool:
        """Whether its tickets do anything that chance would not."""
        return self.effect > CLEAR * self.error


def recommended(worths: Sequence[LayerWorth]) -> LayerWorth:
    """The layer whose tickets have the greatest effect."""
    return max(worths, key=lambda w: w.effect)

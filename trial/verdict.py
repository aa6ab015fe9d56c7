"""What a judge says of one category in one image: whether it is there, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tickets.layout.regions import AnyRegion, Region


@dataclass(frozen=True, eq=False)
class Finding:
    """One category in one image.

    mask: bool [rows, columns], spread over the whole image; without a cell where the category is missing.
    confidence: 0 to 1, how sure it is that the category is there; 0.5 and more count as there.
    """

    mask: np.ndarray
    confidence: float
    present: bool

    @classmethod
    def missing(cls, rows: int, columns: int, confidence: float = 0.0) -> Finding:
        return cls(np.zeros((rows, columns), bool), confidence, False)

    @classmethod
    def from_box(cls, box: Sequence[float], rows: int, columns: int, confidence: float = 1.0) -> Finding:
        """A detector's box: left, top, right, bottom as fractions of width and height.

        The cells whose centres lie in it; of a box that is smaller, the one under its centre. Beyond the
        image it is cut off.
        """
        x0, y0, x1, y1 = (min(max(float(v), 0.0), 1.0) for v in box)
        y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
        mask = np.outer((y0 <= y) & (y < y1), (x0 <= x) & (x < x1))
        if not mask.any():
            mask[min(int((y0 + y1) / 2 * rows), rows - 1), min(int((x0 + x1) / 2 * columns), columns - 1)] = (
                True
            )
        return cls(mask, confidence, True)

    def centre(self) -> tuple[float, float]:
        """Centroid as fractions of width and height. ValueError where the category is missing."""
        rows, columns = np.nonzero(self.mask)
        if not len(rows):
            raise ValueError("what is missing has no centre")
        h, w = self.mask.shape
        return float((columns.mean() + 0.5) / w), float((rows.mean() + 0.5) / h)

    def inside(self, region: AnyRegion, index: int = 0) -> bool:
        """The category is there and its centroid lies in the region; index: of the image, for masks."""
        if not self.present:
            return False
        x, y = self.centre()
        if isinstance(region, Region):
            return region.x0 <= x <= region.x1 and region.y0 <= y <= region.y1
        rows, columns = self.mask.shape
        share = region.coverage(rows, columns, index)
        return bool(share[min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)] >= 0.5)

    def iou(self, region: AnyRegion, index: int = 0) -> float:
        """Overlap of mask and region over their union, in cells; 0 where the category is missing.

        A cell counts as the region's if that covers half of it.
        """
        rows, columns = self.mask.shape
        area = region.coverage(rows, columns, index).numpy() >= 0.5
        union = (area | self.mask).sum()
        return float((area & self.mask).sum() / union) if union and self.present else 0.0

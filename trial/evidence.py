"""What a model's own predictions say of an image: which categories its prompt's words account for, and where.

With noise of signal-to-noise ratio r added to an image x, a diffusion model predicts D(prompt). The sum of
r/2 |x - D(prompt without a category)|^2 - r/2 |x - D(prompt)|^2 over levels of log r is, in nats, the log of
how much likelier the category's words make the image (Kong et al. 2023, arXiv 2302.03792, and 2024, arXiv
2310.07972; as a classifier Li et al. 2023, arXiv 2303.16203). It splits into cells: the *gain*. The same with
|D(prompt) - D(prompt without it)|^2, the *change*, is what the gain is on average if the words are true; it
is never negative and says where the words act (DiffEdit, Couairon et al. 2022, arXiv 2210.11427).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.special import expit

from .verdict import Finding

SMOOTH = 1.5 / 32
"""Standard deviation of the smoothing in sides of the image (of the mean side)."""
ODDS = 20.0
"""A category is there if its words make the image so many times likelier."""


def findings(change: np.ndarray, gain: np.ndarray) -> list[Finding]:
    """change, gain: in nats for each cell, [categories, rows, columns]."""
    side = SMOOTH * math.sqrt(change.shape[1] * change.shape[2])
    smooth = np.stack([ndimage.gaussian_filter(m, side, mode="nearest") for m in change])
    result = []
    for i, own in enumerate(smooth):
        others = np.delete(smooth, i, 0)
        left = np.maximum(own - others.max(0), 0) if len(others) else own
        mask = main_piece(left)
        odds = float(gain[i][mask].sum()) - math.log(ODDS)
        confidence = float(expit(odds))
        present = odds >= 0 and bool(mask.any())
        result.append(Finding(mask if present else np.zeros_like(mask), confidence, present))
    return result


def main_piece(values: np.ndarray) -> np.ndarray:
    """The connected cells above Otsu's threshold with the greatest sum; values [rows, columns]."""
    pieces, count = ndimage.label(values > otsu(values))
    if not count:
        return np.zeros(values.shape, bool)
    sums = ndimage.sum_labels(values, pieces, range(1, count + 1))
    mask: np.ndarray = pieces == 1 + int(np.argmax(sums))
    return mask


def otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two groups of the least variance within them (Otsu 1979)."""
    ordered = np.sort(values, axis=None).astype(np.float64)
    low = np.arange(1, ordered.size)
    sums = np.cumsum(ordered)
    means = sums[:-1] / low, (sums[-1] - sums[:-1]) / (ordered.size - low)
    between = low * (ordered.size - low) * (means[0] - means[1]) ** 2
    at = int(between.argmax())
    return float((ordered[at] + ordered[at + 1]) / 2)

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

SMOOTH = 0.04
"""Standard deviation of the smoothing, in sides of the image (the mean of both)."""
PIECE = 0.25
"""Of the cells of the largest piece of a mask: smaller pieces are no second object of the same kind."""
ODDS = 10.0
"""A category is there if its words make the image so many times likelier: strong evidence (Jeffreys 1961)."""


def findings(change: np.ndarray, gain: np.ndarray) -> list[Finding]:
    """change, gain: in nats for each cell, [categories, rows, columns].

    A category is where its words change more than those of any other; it is there if the gain of these cells
    says so.
    """
    smooth = [smoothed(m) for m in change]
    result = []
    for i, own in enumerate(smooth):
        others = [m for j, m in enumerate(smooth) if j != i]
        mask = pieces(np.maximum(own - np.max(others, 0), 0) if others else own)
        odds = float(gain[i][mask].sum()) - math.log(ODDS)
        present = odds >= 0 and bool(mask.any())
        result.append(Finding(mask & present, float(expit(odds)), present))
    return result


def smoothed(values: np.ndarray) -> np.ndarray:
    """[rows, columns], by a Gaussian of SMOOTH."""
    side = SMOOTH * math.sqrt(values.size)
    found: np.ndarray = ndimage.gaussian_filter(values, side, mode="nearest")
    return found


def pieces(values: np.ndarray) -> np.ndarray:
    """The cells above Otsu's threshold, without small pieces; values [rows, columns]."""
    labels, count = ndimage.label(values > otsu(values))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    found: np.ndarray = (sizes >= max(1, PIECE * sizes.max()))[labels]
    return found


def otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two groups of the least variance within them (Otsu 1979)."""
    ordered = np.sort(values, axis=None).astype(np.float64)
    low = np.arange(1, ordered.size)
    sums = np.cumsum(ordered)
    means = sums[:-1] / low, (sums[-1] - sums[:-1]) / (ordered.size - low)
    between = low * (ordered.size - low) * (means[0] - means[1]) ** 2
    at = int(between.argmax())
    return float((ordered[at] + ordered[at + 1]) / 2)

"""Scores of blocks, derived from first-step cross-attention (Mao et al. 2024, section 4; papers' code).

The attention of a category's words at a cell says how much that cell leans towards the category. The
paper's score of a block is the attention of its cell, stretched to 0..1 over one noise's map.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import rankdata


def paper_score(attention: torch.Tensor) -> torch.Tensor:
    """Min-max per map: [..., rows, columns] -> the same shape in 0..1; a flat map gives 0.

    The released code z-scores each map first, which min-max undoes.
    """
    return stretch(attention, attention.amin((-2, -1), keepdim=True), attention.amax((-2, -1), keepdim=True))


def stretch(attention: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """(attention - low) / (high - low); 0 where the map is flat."""
    span = high - low
    return torch.where(span > 0, (attention - low) / span.clamp_min(1e-38), torch.zeros_like(attention))


def rank(values: torch.Tensor) -> torch.Tensor:
    """Share of the values below each, plus half of those equal to it, itself included: float32 in 0..1."""
    places = (rankdata(values.numpy()) - 0.5) / len(values)
    return torch.from_numpy(places.astype(np.float32))

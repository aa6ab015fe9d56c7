"""Scores of blocks, derived from first-step cross-attention (Mao et al. 2024, section 4; papers' code).

The attention of a category's words at a cell says how much that cell leans towards the category. The
paper's score of a block is the attention of its cell, stretched to 0..1 over one noise's map.
"""

from __future__ import annotations

import numpy as np
import torch


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
    numbers = values.numpy()
    # scipy's rankdata sorts stably, which takes three times as long; equal values share a place anyhow.
    order = np.argsort(numbers)
    ordered = numbers[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(ordered))
    places = np.empty(len(ordered), np.float32)
    places[order] = np.repeat((starts + ends) / (2 * len(ordered)), ends - starts)
    return torch.from_numpy(places)

"""What a bank holds, in numbers."""

from __future__ import annotations

import torch

from ..score import stretch
from .bank import TicketBank

BINS = 20
BEST = 3


def histogram(scores: torch.Tensor) -> torch.Tensor:
    """Counts of scores 0..1 in BINS equal bins [BINS]."""
    return torch.histc(scores, BINS, 0, 1)


def correlations(bank: TicketBank) -> torch.Tensor:
    """Correlation of the average scores of every two categories [categories, categories].

    Near 1, two categories want the same blocks and cannot be told apart; near -1 or 0 they can.
    """
    scores = torch.stack([bank.average(c) for c in bank.categories])
    return torch.corrcoef(scores).reshape(len(bank.categories), -1)


def best_noises(bank: TicketBank, category: str) -> list[int]:
    """Noises with tickets in which the category stands out from all others most, at most BEST."""
    margin = bank.margin(category, bank.categories)
    best = torch.full((len(bank.seeds),), -torch.inf)
    best.scatter_reduce_(0, bank.noise.long(), margin, "amax")
    order = best.argsort(descending=True, stable=True)[:BEST]
    return order[best[order].isfinite()].tolist()


def category_map(bank: TicketBank, category: int, noise: int) -> torch.Tensor:
    """Mean score of a category over its prompts on one noise's cells [rows, columns]; NaN: not kept."""
    rows = [row for row, (c, _) in enumerate(bank.measured) if c == category]
    maps = [stretch(bank.maps(row)[noise], bank.low[row, noise], bank.high[row, noise]) for row in rows]
    return torch.stack(maps).mean(0)

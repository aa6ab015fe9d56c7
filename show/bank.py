"""What a bank holds, as text and as a picture."""

from __future__ import annotations

import torch

from ..tickets.bank.bank import TicketBank
from ..tickets.layout.select import Thresholds
from .heatmap import CELL, GAP, category_map, colour, enlarge, in_a_row

BINS = 20
BAR, TALL = 8, 80
BEST = 3
INK, PAPER = torch.tensor([0.25, 0.32, 0.45]), torch.ones(3)


def histogram(scores: torch.Tensor) -> torch.Tensor:
    """Counts of scores 0..1 in BINS equal bins [BINS]."""
    return torch.histc(scores, BINS, 0, 1)


def agreement(bank: TicketBank) -> torch.Tensor:
    """Correlation of the average scores of every two categories [categories, categories].

    Near 1, two categories want the same blocks and cannot be told apart; near -1 or 0 they can.
    """
    scores = torch.stack([bank.average(c) for c in bank.categories])
    return torch.corrcoef(scores).reshape(len(bank.categories), -1)


def best_noises(bank: TicketBank, category: str) -> list[int]:
    """Noises in which the category is best told from all others, the best first; at most BEST."""
    margin = bank.margin(category, bank.categories)
    best = torch.full((len(bank.seeds),), -torch.inf)
    best.scatter_reduce_(0, bank.noise.long(), margin, "amax")
    return best.argsort(descending=True, stable=True)[:BEST].tolist()


def report(bank: TicketBank) -> tuple[str, torch.Tensor]:
    """Text, and an image [height, width, 3] with a row per category: histogram, then best noises."""
    t = Thresholds()
    lines = [bank.describe(), f"Collected by {bank.made_by or 'an unknown version'}."]
    r = bank.recipe
    lines.append(f"Model {r.model} {r.fingerprint}, prompts {r.scheme}, sigma {r.sigma:.3f}.")
    lines.append(
        f"Average score above {t.t_pos_single}, below {t.t_bg_single}; mean of the margin's best 5 %:"
    )
    rows = []
    count = max(1, len(bank.blocks) // 20)
    for number, category in enumerate(bank.categories):
        average, margin = bank.average(category), bank.margin(category, bank.categories)
        above, below = int((average > t.t_pos_single).sum()), int((average < t.t_bg_single).sum())
        best = best_noises(bank, category)
        lines.append(
            f"  {category}: {above:,} above, {below:,} below, margin {margin.topk(count).values.mean():.2f};"
            f" best noises: seeds {', '.join(str(bank.seeds[k]) for k in best)}"
        )
        maps = [enlarge(colour(category_map(bank, number, k)), CELL) for k in best]
        rows.append(in_a_row([bars(histogram(average), maps[0].shape[0]), *maps]))
    if len(bank.categories) > 1:
        lines.append("Correlation of scores (near 1: the same blocks win for both):")
        table = agreement(bank)
        width = max(map(len, bank.categories))
        for name, values in zip(bank.categories, table, strict=True):
            lines.append(f"  {name:>{width}} " + " ".join(f"{v:5.2f}" for v in values.tolist()))
    gap = torch.ones(GAP, rows[0].shape[1], 3)
    picture = torch.cat([piece for row in rows for piece in (row, gap)][:-1])
    return "\n".join(lines), picture


def bars(counts: torch.Tensor, height: int) -> torch.Tensor:
    """A bar chart [height, BINS * BAR, 3]; the tallest bar fills it."""
    tall = (counts / counts.max().clamp_min(1) * height).round().long()
    up = torch.arange(height, 0, -1)[:, None]
    inked = (up <= tall).repeat_interleave(BAR, 1)
    return torch.where(inked.unsqueeze(-1), INK, PAPER)

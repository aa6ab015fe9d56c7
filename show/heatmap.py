"""Banks as pictures: float32 images [height, width, 3] in 0..1."""

from __future__ import annotations

import torch

from ..tickets.bank.bank import TicketBank
from ..tickets.score import stretch

# Dark to bright through blue, red and yellow; even steps in lightness.
COLOURS = torch.tensor(
    [
        [0.00, 0.00, 0.02],
        [0.22, 0.06, 0.42],
        [0.55, 0.15, 0.38],
        [0.86, 0.32, 0.23],
        [0.98, 0.64, 0.15],
        [0.99, 0.99, 0.75],
    ]
)
MISSING = torch.tensor([0.35, 0.35, 0.35])
CELL = 12
GAP = 6


def colour(values: torch.Tensor) -> torch.Tensor:
    """Values 0..1 of any shape to colours [..., 3]; grey where there is none (NaN)."""
    place = values.nan_to_num(0).clamp(0, 1) * (len(COLOURS) - 1)
    below = place.floor().long().clamp(max=len(COLOURS) - 2)
    part = (place - below).unsqueeze(-1)
    mixed = COLOURS[below] * (1 - part) + COLOURS[below + 1] * part
    return torch.where(values.isnan().unsqueeze(-1), MISSING, mixed)


def enlarge(image: torch.Tensor, times: int) -> torch.Tensor:
    """Every pixel of [h, w, 3] as a square of `times` x `times`."""
    return image.repeat_interleave(times, 0).repeat_interleave(times, 1)


def in_a_row(panels: list[torch.Tensor]) -> torch.Tensor:
    """Images of one height side by side on white."""
    gap = torch.ones(panels[0].shape[0], GAP, 3)
    parts = [piece for panel in panels for piece in (panel, gap)][:-1]
    return torch.cat(parts, 1)


def category_map(bank: TicketBank, category: int, noise: int) -> torch.Tensor:
    """Mean score of a category over its prompts on one noise's cells [rows, columns]; NaN: not kept."""
    rows = [row for row, (c, _) in enumerate(bank.measured) if c == category]
    maps = []
    for row in rows:
        raw = bank.maps(row)[noise]
        maps.append(stretch(raw, bank.low[row, noise], bank.high[row, noise]))
    return torch.stack(maps).mean(0)


def heat_maps(bank: TicketBank, noise: int) -> torch.Tensor:
    """The map of every category on one noise, in the bank's order, in one row [height, width, 3]."""
    panels = [enlarge(colour(category_map(bank, c, noise)), CELL) for c in range(len(bank.categories))]
    return in_a_row(panels)

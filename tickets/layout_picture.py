"""A layout as a picture: which region each cell belongs to, what was put there, and the noise itself."""

from __future__ import annotations

import colorsys

import torch

from .picture import CELL, colour, enlarge, in_a_row

BACKGROUND = torch.tensor([0.16, 0.16, 0.16])


def category_colour(number: int) -> torch.Tensor:
    """A colour for the category of this number; neighbours differ clearly."""
    return torch.tensor(colorsys.hsv_to_rgb((number * 0.382 + 0.02) % 1.0, 0.62, 0.92))


def owner_map(owner: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Regions in the colours of their categories, darker at their edges [rows * CELL, columns * CELL, 3]."""
    palette = torch.stack([*(category_colour(i) for i in range(int(groups.max()) + 1)), BACKGROUND])
    image = enlarge(palette[groups], CELL)
    whose = owner.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
    edge = torch.zeros_like(whose, dtype=torch.bool)
    edge[1:] |= whose[1:] != whose[:-1]
    edge[:, 1:] |= whose[:, 1:] != whose[:, :-1]
    image[edge] = 1.0
    image[::CELL] *= 0.85
    image[:, ::CELL] *= 0.85
    return image


def noise_map(noise: torch.Tensor, block: int, rows: int, columns: int) -> torch.Tensor:
    """The first three channels of noise [C, h, w], at the size of `owner_map`."""
    seen = noise[:3, : rows * block, : columns * block]
    seen = seen.expand(3, -1, -1) if len(seen) < 3 else seen
    grey = (seen / 6 + 0.5).clamp(0, 1)[None]
    size = (rows * CELL, columns * CELL)
    return torch.nn.functional.interpolate(grey, size, mode="nearest")[0].movedim(0, -1)


def layout_picture(
    owner: torch.Tensor,
    groups: torch.Tensor,
    worth: torch.Tensor,
    noise: torch.Tensor,
    block: int,
) -> torch.Tensor:
    """Regions, what each cell is worth (-1..1, bright is good; grey: none), and the noise, in a row."""
    fits = enlarge(colour((worth + 1) / 2), CELL)
    return in_a_row([owner_map(owner, groups), fits, noise_map(noise, block, *owner.shape)])

"""A layout as a picture: which region each cell belongs to, what was put there, and the noise itself."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import torch

from .heatmap import CELL, colour, enlarge, in_a_row

# Saturation and value.
SHADES = ((0.62, 0.92), (0.9, 0.72), (0.38, 1.0))
BACKGROUND = torch.tensor([0.16, 0.16, 0.16])


def category_colour(category: str) -> tuple[float, float, float]:
    """Red, green, blue: always the same for a category, here and in the region editor.

    Hue and one of three shades, of the category's 32-bit FNV-1a hash, times a number that tells common things
    apart.
    """
    mixed = 0x811C9DC5
    for byte in category.encode("utf-8"):
        mixed = ((mixed ^ byte) * 0x01000193) & 0xFFFFFFFF
    mixed = ((mixed ^ mixed >> 16) * 0xD5124E05) & 0xFFFFFFFF
    mixed ^= mixed >> 16
    return colorsys.hsv_to_rgb(mixed % 360 / 360, *SHADES[mixed // 360 % len(SHADES)])


def owner_map(owner: torch.Tensor, groups: torch.Tensor, categories: Sequence[str]) -> torch.Tensor:
    """Regions in the colours of their categories, with edges [rows * CELL, columns * CELL, 3]."""
    palette = torch.stack([*(torch.tensor(category_colour(c)) for c in categories), BACKGROUND])
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
    categories: Sequence[str],
) -> torch.Tensor:
    """Regions, what each cell is worth (-1..1, bright is good; grey: none), and the noise, in a row."""
    fits = enlarge(colour((worth + 1) / 2), CELL)
    return in_a_row([owner_map(owner, groups, categories), fits, noise_map(noise, block, *owner.shape)])

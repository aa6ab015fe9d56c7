"""Colours that mean something: a category's own, and dark to bright for low to high."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Colour = tuple[float, float, float]
PAPER, INK, FAINT = (1.0, 1.0, 1.0), (0.13, 0.15, 0.19), (0.86, 0.87, 0.89)
# Of curves and bars: told apart with each kind of colour blindness.
BLUE, RED, YELLOW, GREY = (0.12, 0.37, 0.75), (0.71, 0.19, 0.12), (0.85, 0.55, 0.00), (0.51, 0.53, 0.56)
MISSING = (0.62, 0.64, 0.67)
BACKGROUND = (0.16, 0.16, 0.16)

# Of categories: told apart with each kind of colour blindness, too; the same in web/regions/category.js.
PALETTE = (
    *(0x24A1C1, 0x346392, 0x3472F0, 0x6334F0, 0x637234, 0x63F0D0, 0x825372, 0x8263C1),
    *(0x82C192, 0x92F0B1, 0xA124D0, 0xA14353, 0xB18263, 0xB182F0, 0xB1A153, 0xB1F024),
    *(0xC12424, 0xD07224, 0xD0E063, 0xE0A124, 0xF063C1, 0xF092F0, 0xF0C182, 0xF0C1F0),
)

# Dark to bright through blue, red and yellow; even steps in lightness.
SCALE = torch.tensor(
    [
        [0.00, 0.00, 0.02],
        [0.22, 0.06, 0.42],
        [0.55, 0.15, 0.38],
        [0.86, 0.32, 0.23],
        [0.98, 0.64, 0.15],
        [0.99, 0.99, 0.75],
    ]
)


def category_colour(category: str) -> Colour:
    """Red, green, blue: always the same for a category, here and in the region editor.

    One of the palette by the category's 32-bit FNV-1a hash, times a number that gives common things colours
    of their own.
    """
    mixed = 0x811C9DC5
    for byte in category.encode("utf-8"):
        mixed = ((mixed ^ byte) * 0x01000193) & 0xFFFFFFFF
    mixed = ((mixed ^ mixed >> 16) * 0x5D9D25D1) & 0xFFFFFFFF
    chosen = PALETTE[(mixed ^ mixed >> 16) % len(PALETTE)]
    return (chosen >> 16) / 255, (chosen >> 8 & 255) / 255, (chosen & 255) / 255


def heat(values: torch.Tensor) -> torch.Tensor:
    """Values 0..1 of any shape as colours [..., 3]; MISSING where there is none (NaN)."""
    place = values.nan_to_num(0).clamp(0, 1) * (len(SCALE) - 1)
    below = place.floor().long().clamp(max=len(SCALE) - 2)
    mixed = torch.lerp(SCALE[below], SCALE[below + 1], (place - below).unsqueeze(-1))
    return torch.where(values.isnan().unsqueeze(-1), torch.tensor(MISSING), mixed)


def rgb(colour: Sequence[float]) -> tuple[int, int, int]:
    """0..1 as the 0..255 that PIL takes."""
    red, green, blue = (round(255 * min(max(part, 0.0), 1.0)) for part in colour)
    return red, green, blue

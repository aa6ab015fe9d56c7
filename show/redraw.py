"""What of a noise is drawn again, as a picture."""

from __future__ import annotations

import torch

from .draw import GAP, WIDTH, framed, lines_of, picture_of, stacked, tensor_of
from .heatmap import colour_bar, grid, panel_of
from .layout import HIGH, SIGMAS, WIDE, noise_map


def picture(old: torch.Tensor, new: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Image [height, width, 3]: noise [C, h, w] before, how much of it is new [h, w], and noise after."""
    rows, columns = share.shape
    scale = min(HIGH / rows, WIDE / columns)
    size = max(1, round(rows * scale)), max(1, round(columns * scale))
    panels = (
        noise_map(old, rows, columns, *size),
        panel_of(share, *size),
        noise_map(new, rows, columns, *size),
    )
    colours = "red, green, blue" if len(old) >= 3 else "grey"
    parts = [
        grid([[picture_of(p) for p in panels]], columns=("before", "what is new", "after")),
        colour_bar("What is new: share of each latent pixel", ((0.0, "0: kept"), (1.0, "1: new"))),
        lines_of(f"Noise: channels 1 to 3 as {colours}, from -{SIGMAS:g} to {SIGMAS:g}.", WIDTH),
    ]
    return tensor_of(framed(stacked(parts, GAP)))

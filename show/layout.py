"""A layout as a picture: which region each block belongs to, what was put there, and the noise itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .colours import BACKGROUND, PAPER, category_colour
from .draw import (
    WIDTH,
    Entry,
    all_written,
    framed,
    large,
    legend,
    lines_of,
    picture_of,
    stacked,
    tensor_of,
)
from .heatmap import colour_bar, grid, more, panel_of

# Longest sides of a panel.
HIGH, WIDE = 300, 205
MOST = 50
# Least size of a block, in pixels, at which they are drawn apart.
APART = 6
SIGMAS = 3.0


def owner_map(
    owner: torch.Tensor, groups: torch.Tensor, categories: Sequence[str], height: int, width: int
) -> torch.Tensor:
    """Regions [rows, columns] in the colours of their categories, with edges [height, width, 3]."""
    palette = torch.tensor([*(category_colour(c) for c in categories), BACKGROUND])
    image = palette[large(groups, height, width)]
    if min(height / owner.shape[0], width / owner.shape[1]) >= APART:
        number = torch.arange(owner.numel()).view(owner.shape)
        image[edges(large(number, height, width))] *= 0.85
    image[edges(large(owner, height, width))] = torch.tensor(PAPER)
    return image


def edges(whose: torch.Tensor) -> torch.Tensor:
    """Where something else begins, from above or from the left."""
    edge = torch.zeros_like(whose, dtype=torch.bool)
    edge[1:] |= whose[1:] != whose[:-1]
    edge[:, 1:] |= whose[:, 1:] != whose[:, :-1]
    return edge


def noise_map(noise: torch.Tensor, rows: int, columns: int, height: int, width: int) -> torch.Tensor:
    """The first three channels of noise [C, h, w], its top left of rows x columns latent pixels."""
    seen = noise[:3, :rows, :columns].float().cpu()
    seen = seen if len(seen) == 3 else seen[:1].expand(3, -1, -1)
    shades = (seen / (2 * SIGMAS) + 0.5).clamp(0, 1)
    return torch.stack([large(one, height, width) for one in shades], -1)


def layout_picture(
    owner: torch.Tensor,
    groups: torch.Tensor,
    worth: torch.Tensor,
    noise: torch.Tensor,
    block: int,
    categories: Sequence[str],
) -> torch.Tensor:
    """Regions, what each block is worth (-1..1, NaN: none), and the noise, in a row [height, width, 3].

    owner, groups, worth [rows, columns]: index of the region, of its category, -1: background; and what
    `cell_worth` says. noise [C, h, w]. block: side of a block in latent pixels.
    """
    rows, columns = owner.shape
    scale = min(HIGH / rows, WIDE / columns)
    size = max(1, round(rows * scale)), max(1, round(columns * scale))
    panels = (
        owner_map(owner, groups, categories, *size),
        panel_of((worth.float() + 1) / 2, *size),
        noise_map(noise, rows * block, columns * block, *size),
    )
    colours = "red, green, blue" if len(noise) >= 3 else "grey"
    shown = categories[:MOST]
    keys = [Entry(name, category_colour(c)) for name, c in zip(all_written(categories), shown, strict=False)]
    if bool((groups < 0).any()):
        keys.append(Entry("background", BACKGROUND))
    ticks = ((0.0, "-1 poor"), (0.5, "0"), (1.0, "1 good"))
    parts = [
        grid([[picture_of(p) for p in panels]], columns=("regions", "worth of each block", "noise")),
        legend(keys),
        colour_bar(
            "Worth: own score minus the best other one; background: minus the best score",
            ticks,
            missing="plain noise is kept" if bool(worth.isnan().any()) else "",
        ),
        lines_of(f"Noise: channels 1 to 3 as {colours}, from -{SIGMAS:g} to {SIGMAS:g}.", WIDTH),
    ]
    if left_out := more(len(shown), len(categories), "categories are"):
        parts.append(lines_of(left_out, WIDTH))
    return tensor_of(framed(stacked(parts)))

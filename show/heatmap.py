"""Heat maps: one as a panel, many in a grid with titled rows and columns, and the bar that explains them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from .colours import INK, MISSING, Colour, heat, rgb
from .draw import (
    GAP,
    SIZE,
    SWATCH,
    TICK,
    WIDTH,
    Entry,
    blank,
    fitted,
    height_of,
    large,
    legend,
    lines_of,
    picture_of,
    stacked,
    width_of,
    write,
)

BAR = 12
ROW_TITLE = 130
# Of a colour bar for scores.
SCORES = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))


def size_within(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Height and width of a panel for a map [rows, columns], its longer side `side`."""
    rows, columns = shape[-2:]
    longest = max(rows, columns)
    return max(1, round(side * rows / longest)), max(1, round(side * columns / longest))


def panel_of(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A map [rows, columns] of values 0..1 (NaN: none) as colours [height, width, 3]."""
    return heat(large(values, height, width))


def panel(values: torch.Tensor, side: int) -> Image.Image:
    """A map [rows, columns] of values 0..1 (NaN: none), its longer side `side` pixels."""
    return picture_of(panel_of(values, *size_within(values.shape, side)))


def colour_bar(
    title: str, ticks: Sequence[tuple[float, str]], width: int = WIDTH, missing: str = ""
) -> Image.Image:
    """What the colours mean: ticks are places 0..1 on the scale and what stands there.

    missing: what grey means, if there is any.
    """
    above = lines_of(title, width)
    edge = max(width_of(text) for _, text in ticks) // 2 + 1
    long = max(60, min(260, width - 2 * edge))
    ramp = picture_of(heat(torch.linspace(0, 1, long)).expand(BAR, -1, -1))
    top = above.height
    image = blank(width, top + height_of() + BAR + TICK)
    image.paste(above, (0, 0))
    image.paste(ramp, (edge, top))
    draw = ImageDraw.Draw(image)
    draw.rectangle((edge, top, edge + long - 1, top + BAR - 1), outline=rgb(INK))
    for place, text in ticks:
        x = edge + round(place * (long - 1))
        draw.line((x, top + BAR, x, top + BAR + TICK), rgb(INK))
        write(image, (x, top + BAR + TICK), text, align=0.5)
    if not missing:
        return image
    grey = Entry(missing, MISSING)
    left = 2 * edge + long + 2 * GAP
    if left + SWATCH + 6 + width_of(missing) > width:
        return stacked([image, legend([grey], width)], 0)
    image.paste(legend([grey], width - left), (left, top))
    return image


def titles_width(titles: Sequence[str], colours: Sequence[Colour] = ()) -> int:
    """Width of what `grid` writes left of its rows."""
    names = max((width_of(fitted(title, ROW_TITLE)) for title in titles), default=-GAP)
    return (SWATCH + 6 if colours else 0) + names + GAP


def grid(
    cells: Sequence[Sequence[Image.Image | None]],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    colours: Sequence[Colour] = (),
    gap: int = GAP,
) -> Image.Image:
    """Pictures in rows and columns, with titles; colours: of the rows, as squares before their titles."""
    wide = [max((c.width for c in column if c), default=0) for column in zip(*cells, strict=True)]
    high = [max((c.height for c in row if c), default=0) for row in cells]
    left = titles_width(rows, colours)
    top = height_of() if columns else 0
    image = blank(left + sum(wide) + gap * (len(wide) - 1), top + sum(high) + gap * (len(high) - 1))
    x = left
    for title, width in zip(columns, wide, strict=False):
        write(image, (x + width / 2, 0), fitted(title, width + gap // 2), SIZE, align=0.5)
        x += width + gap
    y = top
    for number, (row, height) in enumerate(zip(cells, high, strict=True)):
        middle = y + height / 2 - height_of() / 2
        if colours:
            image.paste(legend([Entry("", colours[number])], SWATCH * 3), (0, round(middle)))
        if rows:
            write(image, (SWATCH + 6 if colours else 0, middle), fitted(rows[number], ROW_TITLE))
        x = left
        for cell, width in zip(row, wide, strict=True):
            if cell:
                image.paste(cell, (x + (width - cell.width) // 2, y + (height - cell.height) // 2))
            x += width + gap
        y += height + gap
    return image


def more(shown: int, total: int, what: str) -> str:
    """A sentence on what a picture has no room for; empty if it shows all."""
    left = total - shown
    if left == 1:
        what = re.sub(r"^(\w+?)(ie)?s\b", lambda m: m[1] + "y" * bool(m[2]), what.removesuffix("are") + "is")
    return f"{left} more {what} not shown." if left > 0 else ""

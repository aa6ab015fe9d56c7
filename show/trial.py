"""A trial as a table and as a picture: bars with intervals, and images with regions and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..tickets.layout.regions import Region, categories_of
from ..trial.cases import PLAIN
from ..trial.figures import Row, judged_by, label, rows, verdict_of
from ..trial.record import Record
from .chart import Axis, bar, ruler
from .colours import BLUE, GREY, PAPER, Colour, category_colour, rgb
from .draw import (
    FINE,
    GAP,
    TITLE,
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
    titled,
    unwritten,
    width_of,
)
from .heatmap import ROW_TITLE, grid, more, size_within, titles_width
from .layout import edges
from .table import figure, wide

HEADS = ("noise", "n", "in place", "in each other's", "all present", "mean IoU", "NFE", "beside plain noise")
BAR = 30
# Cases and kinds of the sample images, and the longer side of one.
MOST_CASES, MOST_KINDS, SIDE = 3, 4, 190
MOST_BARS = 12
MOST_CATEGORIES = 24
# How much of what was found is covered by its colour.
TINT = 0.45
# Lines over an image: paper around the colour.
BROAD, NARROW = 4, 2


@dataclass(frozen=True, eq=False)
class Sample:
    """An image [height, width, 3] in 0..1 and, if known, what was found in it.

    masks: bool [categories, rows, columns], in the order of the record's objects.
    """

    record: Record
    image: torch.Tensor
    masks: np.ndarray | None = None


def report(records: Sequence[Record], kinds: Sequence[str] = (), notes: Sequence[str] = ()) -> str:
    """Text of one table: the sentence, the rows, what the columns mean, and notes."""
    found = rows(records, kinds)
    if not found:
        return "\n".join([verdict_of(records).text, *notes])
    categories = list(dict.fromkeys(c for r in records for c in categories_of(r.regions)))
    lines = [verdict_of(records).text, "", *_table(found), "", _caption(records[0]), *notes]
    return "\n".join(lines + unwritten(categories))


def _table(found: Sequence[Row]) -> list[str]:
    """Markdown whose columns are also aligned."""
    cells = [HEADS, *(_cells(row) for row in found)]
    widths = [max(map(wide, column)) for column in zip(*cells, strict=True)]
    padded = [[c + " " * (w - wide(c)) for c, w in zip(row, widths, strict=True)] for row in cells]
    head, *body = ["| " + " | ".join(row) + " |" for row in padded]
    return [head, "| " + " | ".join("-" * w for w in widths) + " |", *body]


def _cells(row: Row) -> tuple[str, ...]:
    beside = "-"
    if row.beside:
        hits = row.beside.hits
        beside = f"{hits.won} : {hits.lost}, p {hits.p:.2g}"
    cost = figure(row.nfe, ".1f") + (f" ({row.look_nfe:.1f} to look)" if row.look_nfe else "")
    return (
        row.label.replace("|", "/"),
        str(row.n),
        row.success.percent(),
        row.swapped.percent(),
        row.present.percent(),
        f"{row.iou:.2f}",
        cost,
        beside,
    )


def _caption(record: Record) -> str:
    s = record.settings
    drawn = [f"{record.width}x{record.height}"]
    drawn += [f"{s[name]} steps" for name in ("steps",) if name in s]
    drawn += [f"cfg {s['cfg']:g}"] if isinstance(s.get("cfg"), int | float) else []
    drawn += [" ".join(str(s[name]) for name in ("sampler", "scheduler") if s.get(name))]
    return (
        f"{judged_by(record.judge)}; {', '.join(filter(None, drawn))}. In brackets: 95% intervals. in place:"
        " all objects in their own regions. NFE: forwards of one image, the judge's left out. beside plain"
        " noise: on the same cases and seeds, in place only with this : only with plain noise, sign test."
    )


def picture(
    records: Sequence[Record], samples: Sequence[Sample] = (), kinds: Sequence[str] = ()
) -> torch.Tensor:
    """Image [height, width, 3]: the sentence, bars for each kind, sample images of the first cases."""
    found = rows(records, kinds)
    told = verdict_of(records).text
    parts = [lines_of(told, WIDTH, TITLE)]
    if found:
        parts.append(_bars(found[:MOST_BARS]))
        if left_out := more(MOST_BARS, len(found), "kinds of noise are"):
            parts.append(lines_of(left_out, WIDTH))
    if samples and found:
        parts += _samples(samples, found)
    return tensor_of(framed(stacked(parts, 2 * GAP)))


def _bars(found: Sequence[Row]) -> Image.Image:
    titles = [*short_titles(all_written([row.label for row in found])), ""]
    # Room for the value behind a full bar.
    axis = Axis("% of images, with 95% intervals", 0, 124)
    width = (WIDTH - titles_width(titles) - GAP) // 2
    cells: list[list[Image.Image | None]] = []
    for row in found:
        line: list[Image.Image | None] = []
        for share, colour in ((row.success, BLUE), (row.present, GREY)):
            low, high = share.interval
            value = 100 * share.value
            line.append(bar(value, (100 * low, 100 * high), axis, (width, BAR), colour, ".0f"))
        cells.append(line)
    cells.append([ruler(axis, width), ruler(axis, width)])
    counts = sorted({row.n for row in found})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return grid(cells, titles, [f"all objects in place (n = {n})", "all objects present"])


def short_titles(titles: Sequence[str]) -> list[str]:
    """Where one has no room, what stands before its brackets, or, if another is called so, within them."""
    found = []
    for title in titles:
        head, _, inner = title.partition(" (")
        if inner and width_of(title) > ROW_TITLE:
            title = inner.rstrip(")") if head in titles else head
        found.append(title)
    return found


def _samples(samples: Sequence[Sample], found: Sequence[Row]) -> list[Image.Image]:
    """A row for each of the first cases that most kinds have, a column for each kind."""
    cases: dict[tuple[str, int, int], dict[str, Sample]] = {}
    for sample in samples:
        cases.setdefault(sample.record.drawing, {}).setdefault(sample.record.kind, sample)
    has = [row for row in found if any(row.kind in one for one in cases.values())]
    best = sorted(has, key=lambda row: (row.kind != PLAIN, -row.success.value))[:MOST_KINDS]
    kinds = [row.kind for row in has if row in best]
    fullest = sorted(cases.values(), key=lambda one: -sum(k in one for k in kinds))[:MOST_CASES]
    side = min(SIDE, (WIDTH - GAP * len(kinds)) // max(1, len(kinds)))
    cells = [[_panel(one[k], side) if k in one else None for k in kinds] for one in fullest]
    regions = [region for one in fullest for sample in one.values() for region in sample.record.regions]
    every = categories_of(regions)
    shown = every[:MOST_CATEGORIES]
    keys = [Entry(name, category_colour(c)) for name, c in zip(all_written(every), shown, strict=False)]
    parts = [
        grid(cells, columns=all_written([label(k) for k in kinds])),
        legend(keys),
        lines_of(
            "Outlined: the regions. Tinted: what the judge found. The first cases, not the best.", WIDTH
        ),
    ]
    left_out = [
        more(len(kinds), len(has), "kinds are"),
        more(len(shown), len(every), "categories are"),
    ]
    if any(left_out):
        parts.append(lines_of(" ".join(filter(None, left_out)), WIDTH))
    return parts


def _panel(sample: Sample, side: int) -> Image.Image:
    """An image with its regions and what was found, and above it how it came out."""
    record = sample.record
    height, width = size_within(sample.image.shape[:2], side)
    pixels = picture_of(sample.image[..., :3].float()).resize((width, height), Image.Resampling.LANCZOS)
    image = tensor_of(pixels)
    for category, mask in zip(
        categories_of(record.regions), () if sample.masks is None else sample.masks, strict=False
    ):
        found = large(torch.from_numpy(np.ascontiguousarray(mask)), height, width)
        colour = torch.tensor(category_colour(category))
        image[found] = image[found] * (1 - TINT) + colour * TINT
        image[found & edges(found)] = colour
    enlarged = picture_of(image).resize((width * FINE, height * FINE), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(enlarged)
    for thick, over in ((BROAD, PAPER), (NARROW, None)):
        for region in record.regions:
            _outline(draw, region, enlarged.size, thick * FINE, over or category_colour(region.category))
    return titled(enlarged.reduce(FINE), _came_out(record))


def _outline(
    draw: ImageDraw.ImageDraw, region: Region, size: tuple[int, int], thick: int, colour: Colour
) -> None:
    """Centred on a line that lies within the image."""
    margin = BROAD * FINE / 2
    x0, x1 = (margin + x * (size[0] - 2 * margin) for x in (region.x0, region.x1))
    y0, y1 = (margin + y * (size[1] - 2 * margin) for y in (region.y0, region.y1))
    half = thick / 2
    draw.rectangle((x0 - half, y0 - half, x1 + half, y1 + half), outline=rgb(colour), width=thick)


def _came_out(record: Record) -> str:
    if record.hit:
        return "in place"
    missing = [o.category for o in record.objects if not o.present]
    if missing:
        return f"{', '.join(all_written(missing))} missing"
    return "in each other's" if record.swapped else "not in place"

"""A watched run as pictures: float32 images [height, width, 3] in 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch.nn import functional as F

from ..guidance.suggest import explain, scales, suggest
from ..guidance.trace import StepsError, Trace, agreement, parse_steps
from .chart import Axis, Line, Mark, line_chart
from .colours import BLUE, RED, YELLOW, category_colour, heat
from .draw import (
    CIRCLE,
    GAP,
    MARKERS,
    SQUARE,
    WIDTH,
    all_written,
    framed,
    lines_of,
    picture_of,
    stacked,
    tensor_of,
    unwritten,
)
from .heatmap import colour_bar, grid, more, size_within, titles_width
from .table import aligned, figure

# Of the map laid over an image.
COVER = 0.65
# Rows and columns of a map that was not read.
UNREAD = 8, 8
# Phrases and steps in a picture, and curves in a chart.
MOST_ROWS, MOST_COLUMNS, MOST_CURVES = 20, 12, 16
# Phrases in a row of figures.
MOST_BESIDE = 8
LARGEST, SMALLEST = 200, 80
# Of an axis from 0 to 1, with room for the markers.
SHARES = -0.04, 1.06


def stretched(maps: torch.Tensor) -> torch.Tensor:
    """Maps [..., h, w], each from 0 to 1."""
    low, high = maps.amin((-1, -2), keepdim=True), maps.amax((-1, -2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def enlarged(maps: torch.Tensor, size: Sequence[int], covered: Sequence[float] = (1.0, 1.0)) -> torch.Tensor:
    """The part of maps [a, b, h, w] that the image covers, of its size."""
    height, width = size
    full = max(height, round(height / covered[0])), max(width, round(width / covered[1]))
    return F.interpolate(maps, full, mode="bilinear")[..., :height, :width]


def heat_maps(
    maps: torch.Tensor,
    phrases: Sequence[str],
    steps: Sequence[int],
    image: torch.Tensor | None = None,
    covered: Sequence[float] = (1.0, 1.0),
) -> torch.Tensor:
    """One row for each phrase, one column for each step: maps [steps, phrases, h, w].

    steps: indices from 0; NaN in those that were not read. image: [height, width, 3], shown in grey beneath.
    covered: the share of a map's height and width that is the image's.
    """
    rows, columns = min(len(phrases), MOST_ROWS), min(len(steps), MOST_COLUMNS)
    shown = phrases[:rows]
    names, colours = all_written(shown), [category_colour(phrase) for phrase in shown]
    side = (WIDTH - titles_width(names, colours)) // columns - GAP
    size = size_within(maps.shape, max(SMALLEST, min(LARGEST, side)))
    values = enlarged(stretched(maps[:columns, :rows].float()), size, covered).transpose(0, 1)
    panels = heat(values)
    if image is not None:
        seen = F.interpolate(image.float().movedim(-1, 0)[None, :3], size, mode="area")[0].mean(0)
        panels = panels * COVER + seen[..., None] * (1 - COVER)
    parts = [
        grid(
            [[picture_of(one) for one in row] for row in panels],
            names,
            [f"step {step + 1}" for step in steps[:columns]],
            colours,
        ),
        colour_bar(
            "Attention to the phrase" + (", over the image" if image is not None else ""),
            ((0.0, "least of the map"), (1.0, "greatest")),
            missing="not read" if bool(values.isnan().any()) else "",
        ),
    ]
    left_out = [more(rows, len(phrases), "phrases are"), more(columns, len(steps), "steps are")]
    if any(left_out):
        parts.append(lines_of(" ".join(left_out), WIDTH))
    return tensor_of(framed(stacked(parts)))


def masks(maps: torch.Tensor, height: int, width: int, covered: Sequence[float] = (1.0, 1.0)) -> torch.Tensor:
    """Maps [masks, h, w] as MASK [masks, height, width], each from 0 to 1."""
    return stretched(enlarged(maps.float()[None], (height, width), covered)[0])


def curves(trace: Trace, image: int, cut: float | None = None) -> torch.Tensor:
    """Charts over the steps [height, width, 3], for image `image` of the batch.

    Agreement of each phrase's map with its final form, in the colours of the phrases; share of low
    frequencies (blue); of a guided run, norm of the guidance term over its greatest value (yellow) and, where
    the noise falls, its push still to come (red). cut: a share of the steps to mark.
    """
    count = len(trace.sigmas) - 1
    at = torch.arange(1, count + 1)
    step = Axis("step", 0.5, count + 0.5, whole=True)
    marks = [] if cut is None else [Mark(f"guided up to here: {cut:.0%} of the steps", cut * count + 0.5)]
    guidance, left = trace.guidance()[:, image], trace.remaining()
    norm = guidance / guidance.nan_to_num(0).max().clamp(min=1e-20)
    pushes = [Line("size of the guidance term", at, norm, YELLOW, CIRCLE)]
    if left is not None:
        name = "its push still to come, this step included"
        pushes.append(Line(name, at, left[:-1, image], RED, SQUARE))
    charts = [*_agreement(trace, image, step, marks)]
    charts.append(
        line_chart(
            "Coarse shape in the prediction",
            step,
            Axis("share of power", *SHARES),
            [Line("the lowest 20% of the frequencies", at, trace.low()[:, image], BLUE, CIRCLE)],
            marks,
        )
    )
    if trace.guided:
        charts.append(line_chart("Guidance", step, Axis("share of the greatest", *SHARES), pushes, marks))
    return tensor_of(framed(stacked(charts, 2 * GAP)))


def _agreement(trace: Trace, image: int, step: Axis, marks: Sequence[Mark]) -> list[Image.Image]:
    """Nothing when no attention was read."""
    if not trace.is_read:
        return []
    shown = trace.phrases[:MOST_CURVES]
    values = agreement(trace.maps())[:, image]
    at = torch.arange(1, len(values) + 1)
    lines = [
        Line(name, at, values[:, i], category_colour(phrase), MARKERS[i % len(MARKERS)])
        for i, (name, phrase) in enumerate(zip(all_written(shown), shown, strict=True))
    ]
    title = "Agreement of each phrase's map with its last one"
    chart = line_chart(title, step, Axis("F1 (1: the same)", *SHARES), lines, marks)
    left_out = more(len(shown), len(trace.phrases), "phrases are")
    return [stacked([chart, lines_of(left_out, WIDTH)], 0) if left_out else chart]


def table(trace: Trace, image: int, steps: Sequence[int]) -> str:
    """Figures of these steps for one image of the batch, for people.

    Agreement has a column for each phrase, or of many phrases a table of its own with a row for each.
    """
    phrases = trace.phrases if trace.is_read else ()
    agree = agreement(trace.maps())[:, image] if phrases else torch.empty(len(trace.sigmas) - 1, 0)
    guidance, low = trace.guidance()[:, image], trace.low()[:, image]
    left = trace.remaining()
    beside = phrases if len(phrases) <= MOST_BESIDE else ()
    pushes: dict[str, list[str]] = {}
    if trace.guided:
        pushes["guidance"] = [figure(value, ".3f") for value in guidance.tolist()]
        if left is not None:
            pushes["still to come"] = [f"{value:.0%}" for value in left[:, image].tolist()]
    rows = [["step", "sigma", *beside, "low freq.", *pushes]]
    for step in steps:
        rows.append(
            [
                f"{step + 1:4}",
                f"{float(trace.sigmas[step]):.3g}",
                *(figure(value) for value in agree[step, : len(beside)].tolist()),
                figure(float(low[step])),
                *(column[step] for column in pushes.values()),
            ]
        )
    lines = aligned(rows)
    if len(beside) < len(phrases):
        rows = [["agreement", *(f"step {step + 1}" for step in steps)]]
        for phrase, values in zip(phrases, agree.T[:, list(steps)].tolist(), strict=True):
            rows.append([phrase, *map(figure, values)])
        lines += ["", *aligned(rows)]
    return "\n".join(lines)


class Shown(NamedTuple):
    """picture, curves: IMAGE; masks: MASK [phrases, height, width]."""

    picture: torch.Tensor
    masks: torch.Tensor
    curves: torch.Tensor
    report: str


def shown(
    trace: Trace, steps: str, number: int, latent: Sequence[int], image: torch.Tensor | None = None
) -> Shown:
    """Of image `number` of the batch, from 1, at these steps. latent: height and width in latent pixels.

    image: IMAGE [images, height, width, 3] to lay the maps over. What was not read is grey in the picture and
    empty in the masks. StepsError for steps or images that the run has not.
    """
    chosen = parse_steps(steps, len(trace.sigmas) - 1)
    if not 1 <= number <= trace.images:
        raise StepsError(f"number is {number}, but the run has images 1 to {trace.images}.")
    unread = torch.full((len(trace.sigmas) - 1, len(trace.phrases), *UNREAD), torch.nan)
    maps = trace.maps()[:, number - 1] if trace.is_read else unread
    read = [step for step in chosen if bool(maps[step].isfinite().all())]
    under = None if image is None else image[min(number, len(image)) - 1]
    height, width = (side * trace.pixels for side in latent) if image is None else image.shape[1:3]
    lines = [table(trace, number - 1, chosen), *scales(trace, number - 1)]
    lines += [*trace.notes, *unwritten(trace.phrases)]
    mask = maps[read[-1]] if read else torch.zeros_like(maps[chosen[-1]])
    if not read:
        lines.append("The masks are empty: no map was read at the steps shown.")
    elif read[-1] != chosen[-1]:
        lines.append(f"The masks are of step {read[-1] + 1}.")
    return Shown(
        heat_maps(maps[chosen], trace.phrases, chosen, under, trace.covered)[None],
        masks(mask, int(height), int(width), trace.covered),
        curves(trace, number - 1)[None],
        "\n".join(lines),
    )


def suggested(trace: Trace) -> tuple[float, torch.Tensor, str]:
    """The share of the steps to guide, the curves that it was read from, and why."""
    share = suggest(trace)
    text = "\n".join([explain(trace, share), *unwritten(trace.phrases)])
    return share, curves(trace, 0, share)[None], text

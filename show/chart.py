"""Charts with titled axes, ticks and a legend: lines, histograms, and bars with their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from .colours import BLUE, FAINT, INK, PAPER, Colour, rgb
from .draw import (
    FINE,
    SIZE,
    TICK,
    TITLE,
    WIDTH,
    Entry,
    blank,
    fitted,
    height_of,
    legend,
    marker,
    stacked,
    upwards,
    width_of,
    write,
)

# Least distance of two ticks, in pixels.
APART = 55, 24
DASH = 6
# Of a chart; three of them are about as high as they are wide.
TALL = 210


@dataclass(frozen=True)
class Axis:
    """title: what is measured, and its unit. whole: ticks at whole numbers only."""

    title: str
    low: float
    high: float
    whole: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """At most about `most` round values, ascending."""
        raw = (self.high - self.low) / max(1, most)
        ten = 10.0 ** math.floor(math.log10(raw))
        step = next(ten * f for f in (1, 2, 5, 10) if ten * f >= raw * 0.999)
        step = max(1.0, step) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def number(value: float) -> str:
    """As short as it can be read."""
    return f"{value:,.6g}" if value else "0"


@dataclass(frozen=True)
class Line:
    """A curve [points] through x and y; broken where y is not finite. marker: at each point."""

    label: str
    x: torch.Tensor
    y: torch.Tensor
    colour: Colour
    marker: int | None = None
    dashed: bool = False

    @property
    def entry(self) -> Entry:
        return Entry(self.label, self.colour, True, self.marker, self.dashed)


@dataclass(frozen=True)
class Mark:
    """An upright dashed line at a value of x."""

    label: str
    x: float
    colour: Colour = INK

    @property
    def entry(self) -> Entry:
        return Entry(self.label, self.colour, True, dashed=True)


class Chart:
    """Axes on paper of `size` (width, height); what is drawn is in their units. Then `done`."""

    def __init__(self, x: Axis, y: Axis, size: tuple[int, int], title: str = "") -> None:
        self.x, self.y = x, y
        self.image = blank(*size)
        line = height_of()
        top = height_of(TITLE) + 4 if title else line // 2
        bottom = size[1] - 2 * line - TICK - 2
        upright = [(v, number(v)) for v in y.ticks((bottom - top) // APART[1])]
        left = line + 6 + max((width_of(text) for _, text in upright), default=0) + TICK
        # The last tick of x is centred on the edge.
        right = size[0] - width_of(number(x.high)) // 2 - 4
        self.box = left, top, right, bottom
        level = [(v, number(v)) for v in x.ticks((right - left) // APART[0])]
        self.plot = blank((right - left) * FINE, (bottom - top) * FINE)
        self.draw = ImageDraw.Draw(self.plot)
        outside = ImageDraw.Draw(self.image)
        write(self.image, (left, 0), fitted(title, size[0] - left, TITLE), TITLE)
        for value, text in level:
            at = left + x.share(value) * (right - left)
            self.segment((value, y.low), (value, y.high), FAINT, 1)
            outside.line((at, bottom, at, bottom + TICK), rgb(INK))
            write(self.image, (at, bottom + TICK + 1), text, align=0.5)
        for value, text in upright:
            at = bottom - y.share(value) * (bottom - top)
            self.segment((x.low, value), (x.high, value), FAINT, 1)
            outside.line((left - TICK, at, left, at), rgb(INK))
            write(self.image, (left - TICK - 3, at - line / 2), text, align=1.0)
        middle = (left + right) / 2
        write(self.image, (middle, size[1] - line), fitted(x.title, size[0] - left), align=0.5)
        side = upwards(fitted(y.title, bottom + line))
        self.image.paste(side, (0, max(0, (top + bottom - side.height) // 2)))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of the enlarged plot."""
        return self.x.share(x) * (self.plot.width - 1), (1 - self.y.share(y)) * (self.plot.height - 1)

    def segment(self, a: tuple[float, float], b: tuple[float, float], colour: Colour, wide: float) -> None:
        self.draw.line((*self.at(*a), *self.at(*b)), rgb(colour), max(1, round(wide * FINE)))

    def mark(self, mark: Mark) -> None:
        x, _ = self.at(mark.x, self.y.low)
        for y in range(0, self.plot.height, 2 * DASH * FINE):
            self.draw.line((x, y, x, y + DASH * FINE), rgb(mark.colour), round(1.5 * FINE))

    def line(self, line: Line) -> None:
        points = [
            self.at(x, y) if math.isfinite(y) else None
            for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True)
        ]
        runs: list[list[tuple[float, float]]] = [[]]
        for point in points:
            if point:
                runs[-1].append(point)
            elif runs[-1]:
                runs.append([])
        runs = _dashes(runs) if line.dashed else runs
        edges = ((3.5, INK), (2.2, line.colour)) if line.marker is not None else ((2.2, line.colour),)
        for wide, colour in edges:
            for run in runs:
                if len(run) > 1:
                    self.draw.line(run, rgb(colour), round(wide * FINE), joint="curve")
        if line.marker is not None:
            for point in points:
                if point:
                    marker(self.draw, *point, 4 * FINE, line.marker, line.colour)

    def bars(self, counts: torch.Tensor, colour: Colour) -> None:
        """Upright bars side by side over the whole of x."""
        edges = np.linspace(self.x.low, self.x.high, len(counts) + 1)
        for count, first, last in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
            if count > 0:
                (x0, y0), (x1, y1) = self.at(float(first), count), self.at(float(last), self.y.low)
                self.draw.rectangle((x0, y0, x1 - FINE, y1), rgb(colour))

    def done(self) -> Image.Image:
        left, top, right, bottom = self.box
        self.image.paste(self.plot.reduce(FINE), (left, top))
        ImageDraw.Draw(self.image).rectangle((left, top, right, bottom), outline=rgb(INK))
        return self.image


def _dashes(runs: list[list[tuple[float, float]]]) -> list[list[tuple[float, float]]]:
    """Runs of points cut into pieces of equal length, every second one left out."""
    pieces = []
    for run in runs:
        if len(run) < 2:
            continue
        x, y = np.array(run).T
        way = np.concatenate(([0.0], np.hypot(np.diff(x), np.diff(y)).cumsum()))
        for start in np.arange(0, way[-1], 2 * DASH * FINE):
            at = np.array([start, min(start + DASH * FINE, way[-1])])
            pieces.append(list(zip(np.interp(at, way, x), np.interp(at, way, y), strict=True)))
    return pieces


def line_chart(
    title: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    marks: Sequence[Mark] = (),
    size: tuple[int, int] = (WIDTH, TALL),
) -> Image.Image:
    """Curves; those named first lie on top. The legend is below."""
    chart = Chart(x, y, size, title)
    for mark in marks:
        chart.mark(mark)
    for line in reversed(lines):
        chart.line(line)
    entries = [*(line.entry for line in lines), *(mark.entry for mark in marks)]
    return stacked([chart.done(), legend(entries, size[0])], 2)


def histogram(
    title: str,
    x: Axis,
    y: Axis,
    counts: torch.Tensor,
    marks: Sequence[Mark] = (),
    size: tuple[int, int] = (WIDTH, TALL),
    colour: Colour = BLUE,
) -> Image.Image:
    """Counts [bins] of equal bins over the whole of x. Without a legend: the marks may have one for many."""
    chart = Chart(x, y, size, title)
    chart.bars(counts, colour)
    for mark in marks:
        chart.mark(mark)
    return chart.done()


def bar(
    value: float,
    ends: tuple[float, float],
    x: Axis,
    size: tuple[int, int],
    colour: Colour = BLUE,
    form: str = ".2f",
) -> Image.Image:
    """A level bar from 0 with its interval and its value written beside it; for a row of a grid.

    Nothing for a value that is not finite.
    """
    width, height = size
    image = blank(width * FINE, height * FINE)
    draw = ImageDraw.Draw(image)

    def at(v: float) -> float:
        return x.share(v) * (image.width - 1)

    for tick in x.ticks(width // APART[0]):
        draw.line((at(tick), 0, at(tick), image.height), rgb(FAINT), FINE)
    if not all(map(math.isfinite, (value, *ends))):
        return image.reduce(FINE)
    low, high = sorted((at(0), at(value)))
    thick = min(image.height, 22 * FINE) * 0.7 / 2
    middle = image.height / 2
    draw.rectangle((low, middle - thick, high, middle + thick), rgb(colour))
    draw.line((at(0), 0, at(0), image.height), rgb(INK), FINE)
    first, last = map(at, ends)
    draw.line((first, middle, last, middle), rgb(INK), round(1.5 * FINE))
    for end in (first, last):
        draw.line((end, middle - thick / 2, end, middle + thick / 2), rgb(INK), round(1.5 * FINE))
    place = max(last, at(0)) / FINE + 6
    image = image.reduce(FINE)
    text = format(value, form)
    ImageDraw.Draw(image).rectangle(
        (place - 2, height / 2 - 8, place + width_of(text) + 2, height / 2 + 8), rgb(PAPER)
    )
    write(image, (place, (height - height_of()) / 2), text, SIZE)
    return image


def ruler(x: Axis, width: int) -> Image.Image:
    """The axis below `bar`s."""
    line = height_of()
    image = blank(width, TICK + 2 * line)
    draw = ImageDraw.Draw(image)
    draw.line((0, 0, width, 0), rgb(INK))
    for tick in x.ticks(width // APART[0]):
        at, text = x.share(tick) * (width - 1), number(tick)
        draw.line((at, 0, at, TICK), rgb(INK))
        half = width_of(text) / 2
        write(image, (min(max(at, half), width - half), TICK), text, align=0.5)
    write(image, (width / 2, TICK + line), fitted(x.title, width), align=0.5)
    return image


def roof(values: torch.Tensor, room: float = 1.05) -> float:
    """The end of an axis on which these values, from 0 on, have room; what is not finite has none."""
    highest = max((v for v in values.flatten().tolist() if math.isfinite(v)), default=0.0)
    return highest * room if highest > 0 else 1.0

"""A watched run as pictures: float32 images [height, width, 3] in 0..1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ..guidance.trace import Course, agreement, remaining
from .chart import PANEL, aligned, canvas, curve, upright, wide
from .heatmap import GAP, colour, in_a_row
from .layout import category_colour

SIDE = 160
INK = 0.65
LOW_PAINT, GUIDANCE_PAINT, LEFT_PAINT = (0.35, 0.55, 0.85), (0.98, 0.64, 0.15), (0.86, 0.32, 0.23)
MARK = (0.9, 0.9, 0.9)


def stretched(maps: torch.Tensor) -> torch.Tensor:
    """Maps [..., h, w], each from 0 to 1."""
    low, high = maps.amin((-1, -2), keepdim=True), maps.amax((-1, -2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def heat_maps(maps: torch.Tensor, image: torch.Tensor | None = None) -> torch.Tensor:
    """One row for each phrase, one column for each step: maps [steps, phrases, h, w].

    image: [height, width, 3], shown in grey beneath.
    """
    high, wide_ = maps.shape[-2:]
    size = (round(SIDE * high / max(high, wide_)), round(SIDE * wide_ / max(high, wide_)))
    values = F.interpolate(stretched(maps.float()), size, mode="bilinear").transpose(0, 1)
    panels = colour(values)
    if image is not None:
        seen = F.interpolate(image.float().movedim(-1, 0)[None, :3], size, mode="area")[0].mean(0)
        panels = panels * INK + seen[..., None] * (1 - INK)
    rows = [in_a_row(list(row)) for row in panels]
    gap = torch.ones(GAP, rows[0].shape[1], 3)
    return torch.cat([piece for row in rows for piece in (row, gap)][:-1])


def masks(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Maps [masks, h, w] as MASK [masks, height, width], each from 0 to 1."""
    return stretched(F.interpolate(maps.float()[None], (height, width), mode="bilinear")[0])


def curves(course: Course, image: int, cut: float | None = None) -> torch.Tensor:
    """Three panels, steps from left to right, 0 at the bottom and 1 at the top.

    Agreement of each phrase's map with its final form, in the colours of the phrases; share of low
    frequencies (blue); norm of the guidance term over its greatest value (yellow) and its push still to
    come (red). cut: a share of the steps to mark.
    """
    guidance, sigmas = course.guidance(), course.sigmas
    panels = [canvas() for _ in range(3)]
    if course.is_read:
        agree = agreement(course.maps())[:, image]
        for phrase, values in zip(course.phrases, agree.T, strict=True):
            curve(panels[0], wide(values), 0.0, 1.0, category_colour(phrase))
    curve(panels[1], wide(course.low()[:, image]), 0.0, 1.0, LOW_PAINT)
    norm = guidance[:, image] / guidance[:, image].max().clamp(min=1e-20)
    curve(panels[2], wide(norm), 0.0, 1.0, GUIDANCE_PAINT)
    curve(panels[2], _at_steps(remaining(guidance, sigmas)[:, image]), 0.0, 1.0, LEFT_PAINT)
    if cut is not None:
        for panel in panels:
            upright(panel, cut, MARK)
    return in_a_row(panels)


def _at_steps(values: torch.Tensor) -> torch.Tensor:
    """Values between steps [steps + 1] drawn out, the first at the left edge and the last at the right."""
    return F.interpolate(values[None, None].float(), PANEL[1], mode="linear", align_corners=True)[0, 0]


def table(course: Course, image: int, steps: Sequence[int]) -> str:
    """Figures of these steps for one image of the batch, for people."""
    agree = agreement(course.maps())[:, image] if course.is_read else None
    guidance, low = course.guidance(), course.low()[:, image]
    left = remaining(guidance, course.sigmas)[:, image]
    rows = [
        [
            "step",
            "sigma",
            *(course.phrases if agree is not None else ()),
            "low freq.",
            "guidance",
            "still to come",
        ]
    ]
    for step in steps:
        figures = [] if agree is None else [f"{value:.2f}" for value in agree[step].tolist()]
        rows.append(
            [
                f"{step + 1:4}",
                f"{float(course.sigmas[step]):.3g}",
                *figures,
                f"{float(low[step]):.2f}",
                f"{float(guidance[step, image]):.3f}",
                f"{float(left[step]):.0%}",
            ]
        )
    return "\n".join(aligned(rows))

"""What Attention over Steps saw, for people, and the cutoff that it suggests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ...guidance.suggest import explain, suggest
from ...guidance.trace import Course, StepsError, parse_steps
from ...show.draw import unwritten
from ...show.trace import curves, heat_maps, masks, table
from ...tickets.grid import PIXELS

NODE = "Attention over Steps Report"


class Shown(NamedTuple):
    """picture, curves: IMAGE; masks: MASK [phrases, height, width]."""

    picture: torch.Tensor
    masks: torch.Tensor
    curves: torch.Tensor
    report: str


def shown(
    course: Course, steps: str, number: int, latent: Sequence[int], image: torch.Tensor | None = None
) -> Shown:
    """Of image `number` of the batch, from 1, at these steps. latent: height and width in latent pixels.

    image: IMAGE [images, height, width, 3] to lay the maps over. StepsError for steps or images that the
    run had not.
    """
    chosen = parse_steps(steps, len(course.sigmas) - 1)
    images = len(course.steps[0].low)
    if number > images:
        raise StepsError(f"{NODE}: number is {number}, but the run has images 1 to {images}.")
    maps = course.maps()[:, number - 1]
    under = None if image is None else image[min(number, len(image)) - 1]
    height, width = (side * PIXELS for side in latent) if image is None else image.shape[1:3]
    lines = [table(course, number - 1, chosen), *course.notes, *unwritten(course.phrases)]
    return Shown(
        heat_maps(maps[chosen], course.phrases, chosen, under)[None],
        masks(maps[chosen[-1]], int(height), int(width)),
        curves(course, number - 1)[None],
        "\n".join(lines),
    )


def suggested(course: Course) -> tuple[float, torch.Tensor, str]:
    """The share of the steps to guide, the curves that it was read from, and why."""
    share = suggest(course)
    text = "\n".join([explain(course, share), *unwritten(course.phrases)])
    return share, curves(course, 0, share)[None], text

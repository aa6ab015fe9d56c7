"""How well a whole noise fits a layout, judged by the first step's attention to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

POOR, GOOD = 0.0, 0.3


@dataclass(frozen=True)
class Scale:
    """What fits meant where they were measured, for noises of several kinds and layouts with a background.

    images: whose, for people. kept: how many of them had every object in its box, by the word for the fit.
    plain: the fit of plain noise.
    """

    images: str
    kept: Mapping[str, str]
    plain: str


# Of 1,380 noises for two to four categories: demo/RESULTS.md, "What a fit means".
ON_UNETS = Scale("the demo model's images", {"low": "9%", "fair": "48%", "good": "88%"}, "about -0.3")
# Of 12,800 noises for two categories, their attention over a baseline: benchmarks/README.md, "What moves on a
# flow transformer".
ON_TRANSFORMERS = Scale(
    "the images of two small transformers", {"low": "27%", "fair": "84%", "good": "97%"}, "about -0.4"
)


def cell_worth(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """What each cell gives to the layout it lies in [images, rows, columns].

    scores [images, categories, rows, columns]: the paper's, of each category on the whole noise.
    groups [rows, columns]: the category to place in each cell, -1 for the background. In a region: the own
    score minus the best other one; in the background: minus the best score.
    """
    gap = scores - best_other(scores, 1)
    group = groups.clamp_min(0).expand(len(scores), 1, -1, -1)
    return torch.where(groups < 0, -scores.amax(1), gap.gather(1, group)[:, 0])


def best_other(scores: torch.Tensor, dimension: int) -> torch.Tensor:
    """Of each category along `dimension` the best score of the others, 0 where there are none; same shape."""
    count = scores.shape[dimension]
    if count == 1:
        return torch.zeros_like(scores)
    best, which = scores.topk(2, dimension)
    first, second = best.split(1, dimension)
    shape = [count if d == dimension % scores.dim() else 1 for d in range(scores.dim())]
    own = torch.arange(count).view(shape) == which.narrow(dimension, 0, 1)
    return torch.where(own, second, first)


def fit(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """How well each noise fits the layout [images], higher is better, as `cell_worth` for the shapes.

    Mean over the categories of (mean own score in its cells - mean of the others' there), minus the mean
    over the background of the best score.
    """
    images, categories = scores.shape[:2]
    total = torch.zeros(images)
    present = [g for g in range(categories) if bool((groups == g).any())]
    for group in present:
        inside = scores[:, :, groups == group].mean(-1)
        own = inside[:, group]
        others = (inside.sum(1) - own) / (categories - 1) if categories > 1 else 0
        total += (own - others) / len(present)
    outside = scores[:, :, groups < 0]
    if outside.shape[-1]:
        total -= outside.amax(1).mean(-1)
    return total


def verdict(value: float, groups: torch.Tensor, scale: Scale = ON_UNETS) -> str:
    """What a fit to these cells [rows, columns] means, in a sentence for people; a low one warns."""
    several, background = len(groups[groups >= 0].unique()) > 1, bool((groups < 0).any())
    if not (several and background):
        # Not measured. Scores of plain noise are the same everywhere, and what is subtracted cancels them.
        return f"A fit of {value:.2f} is compared with plain noise's, about 0 in a layout like this."
    word = "low" if value < POOR else "fair" if value < GOOD else "good"
    of = {"low": f"below {POOR:.0f}", "fair": f"of {POOR:.0f} to {GOOD}", "good": f"above {GOOD}"}[word]
    warning = "Warning: a" if word == "low" else "A"
    return (
        f"{warning} fit of {value:.2f} is {word}: noise {of} put everything in its place in"
        f" {scale.kept[word]} of {scale.images}; plain noise has {scale.plain}."
    )

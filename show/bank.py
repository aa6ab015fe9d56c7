"""What a bank holds, as text and as pictures."""

from __future__ import annotations

import torch
from PIL import Image

from ..tickets.bank.bank import TicketBank
from ..tickets.bank.figures import best_noises, category_map, correlations, histogram
from ..tickets.layout.select import Thresholds
from .chart import Axis, Mark, roof
from .chart import histogram as histogram_chart
from .colours import BLUE, GREY, RED, category_colour
from .draw import GAP, WIDTH, all_written, framed, legend, lines_of, stacked, tensor_of, titled, unwritten
from .heatmap import SCORES, colour_bar, grid, more, panel
from .table import aligned

# Categories in a picture, and in a table of all against all.
MOST, MOST_TABLE = 16, 10
PAIRS = 10
HISTOGRAM = (244, 164)
SIDE = 96
# Of the picture of a running collection, which ComfyUI shrinks to 512 pixels.
PREVIEW, PREVIEW_SIDE, PREVIEW_MOST = 500, 116, 20


def report(bank: TicketBank) -> tuple[str, torch.Tensor]:
    """Text, and an image [height, width, 3] with a row per category: histogram, then best noises."""
    return "\n".join(_text(bank)), tensor_of(framed(_picture(bank)))


def _text(bank: TicketBank) -> list[str]:
    t, r = Thresholds(), bank.recipe
    lines = [
        bank.describe(),
        f"Collected by {bank.made_by or 'an unknown version'}, prompts {r.scheme}, sigma {r.sigma:.3f}.",
    ]
    lines.append(
        f"Tickets with an average score above {t.t_pos_single} and below {t.t_bg_single}; margin: own score"
        " minus the best other category's, mean of the best 5% (above 0: the category can be told apart):"
    )
    count = max(1, len(bank.blocks) // 20)
    for category in bank.categories:
        average, margin = bank.average(category), bank.margin(category, bank.categories)
        above, below = int((average > t.t_pos_single).sum()), int((average < t.t_bg_single).sum())
        seeds = ", ".join(str(bank.seeds[k]) for k in best_noises(bank, category))
        lines.append(
            f"  {category}: {above:,} above, {below:,} below, margin {margin.topk(count).values.mean():.2f};"
            f" best noises: seeds {seeds}"
        )
    if len(bank.categories) > 1:
        lines += _correlations(bank)
    return lines + unwritten(bank.categories)


def _correlations(bank: TicketBank) -> list[str]:
    """A table, or the pairs that are most alike where the table would be too large."""
    names, found = bank.categories, correlations(bank)
    if len(names) <= MOST_TABLE:
        rows = [["", *names]]
        rows += [[name, *(f"{v:.2f}" for v in row.tolist())] for name, row in zip(names, found, strict=True)]
        head = "Correlation of scores (near 1: the same blocks win for both):"
        return [head, *(f"  {line}" for line in aligned(rows))]
    a, b = torch.triu_indices(len(names), len(names), 1)
    values, order = found[a, b].sort(descending=True)
    lines = [f"The {PAIRS} pairs whose scores correlate most (near 1: the same blocks win for both):"]
    for value, place in zip(values[:PAIRS].tolist(), order[:PAIRS].tolist(), strict=True):
        lines.append(f"  {names[int(a[place])]}, {names[int(b[place])]}: {value:.2f}")
    return lines


def _picture(bank: TicketBank) -> Image.Image:
    t = Thresholds()
    marks = (
        Mark(f"below {t.t_bg_single}: for the background", t.t_bg_single, BLUE),
        Mark(f"above {t.t_pos_single}: wins for the category", t.t_pos_single, RED),
    )
    shown = bank.categories[:MOST]
    shares = [100 * histogram(bank.average(c)) / len(bank.blocks) for c in shown]
    x = Axis("average score", 0, 1)
    y = Axis("% of tickets", 0, roof(torch.stack(shares)))
    heads = ["scores of all tickets", *("best noise", "second", "third")[: len(bank.seeds)]]
    rows: list[list[Image.Image | None]] = []
    for number, (category, share) in enumerate(zip(shown, shares, strict=True)):
        chart = histogram_chart("", x, y, share, marks, HISTOGRAM, GREY)
        best = best_noises(bank, category)
        maps = [
            titled(panel(category_map(bank, number, noise), SIDE), f"seed {bank.seeds[noise]}")
            for noise in best
        ]
        rows.append([chart, *maps, *[None] * (len(heads) - 1 - len(best))])
    colours = [category_colour(c) for c in shown]
    parts = [
        legend([mark.entry for mark in marks]),
        grid(rows, all_written(shown), heads, colours),
        colour_bar(
            "Maps: a block's score for the category, by its place in the noise of that seed",
            SCORES,
            missing="not in the bank" if bank.pruned else "",
        ),
    ]
    if left_out := more(len(shown), len(bank.categories), "categories are"):
        parts.append(lines_of(left_out, WIDTH))
    return stacked(parts, 2 * GAP)


def latest_maps(bank: TicketBank, noise: int) -> torch.Tensor:
    """Each category's map on one noise, titled, in the bank's order [height, width, 3]; for a preview."""
    shown = bank.categories[:PREVIEW_MOST]
    names = all_written(shown)
    cells: list[Image.Image | None] = [
        titled(panel(category_map(bank, c, noise), PREVIEW_SIDE), name) for c, name in enumerate(names)
    ]
    across = max(1, min(len(cells), PREVIEW // (PREVIEW_SIDE + GAP)))
    cells += [None] * (-len(cells) % across)
    parts = [
        lines_of(f"Scores on the noise of seed {bank.seeds[noise]}", PREVIEW),
        grid([cells[i : i + across] for i in range(0, len(cells), across)]),
        colour_bar("score of a block", SCORES, PREVIEW),
    ]
    if left_out := more(len(shown), len(bank.categories), "categories are"):
        parts.append(lines_of(left_out, PREVIEW))
    return tensor_of(framed(stacked(parts)))

"""Every cross-attention layer's worth, as text and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from ..tickets.layers.figures import BETTER, FORETELLS, LayerWorth, lead, leaders, recommended
from ..tickets.score import paper_score
from .chart import Axis, bar, ruler
from .colours import BLUE, INK, RED
from .draw import (
    GAP,
    WIDTH,
    Entry,
    all_written,
    centred,
    framed,
    legend,
    lines_of,
    stacked,
    tensor_of,
)
from .heatmap import SCORES, colour_bar, grid, more, panel, titles_width
from .table import aligned

# Of a row, and where there are more than FEW of them.
SIDE, SIDE_SMALL, FEW = 76, 44, 10
GAP_ROWS = 4
# Layers and phrases in a picture.
MOST, MOST_PHRASES = 24, 4


def table(worths: Sequence[LayerWorth]) -> str:
    """A line for each layer in forward order, and the one that is recommended."""
    best = recommended(worths)
    rows = [["layer", "map", "block", "effect", "(+-)"]]
    rows += [
        [
            str(w.layer),
            f"{w.rows}x{w.columns}",
            f"{w.block}x{w.block}",
            f"{w.effect:.3f}",
            f"({w.error:.3f})",
        ]
        for w in worths
    ]
    if best.kept is not None:
        rows = _beside(rows, "kept", [w.kept for w in worths], "{:.3f}")
    if best.agreement is not None:
        rows = _beside(rows, "agreement", [w.agreement for w in worths], "{:.3f}")
        rows = _beside(rows, "(chance)", [w.chance for w in worths], "({:.3f})")
    lines = aligned(rows)
    if any(w.tried for w in worths):
        tried = [["tried", "images", "in place", "(swapped)", "present"]]
        tried += [
            [
                str(w.layer),
                str(t.images),
                f"{t.own / t.objects:.2f}",
                f"({t.other / t.objects:.2f})",
                f"{t.present / t.objects:.2f}",
            ]
            for w in worths
            if (t := w.tried)
        ]
        lines += ["", *aligned(tried)]
    return "\n".join([*lines, _advice(worths, best), *_agreement(best)])


def _agreement(best: LayerWorth) -> list[str]:
    """What an agreement means; nothing where none was measured."""
    if best.agreement is None:
        return []
    lines = [
        f"Agreement should be {FORETELLS:g} above chance: on five models of the demo's kind, 6 of 23 such"
        " layers made tickets that work, of 19 others none."
    ]
    if best.clear and not best.foretells:
        lines.append(f"Warning: {best.layer} has less: its tickets may do nothing.")
    return lines


def _advice(worths: Sequence[LayerWorth], best: LayerWorth) -> str:
    if not best.clear:
        return f"No layer stands out: {_unclear(best)}"
    why = _why(worths, best) if best.tried else "the earliest whose tickets have a great effect"
    return f"Recommended: {best.layer}, {why}."


def _unclear(best: LayerWorth) -> str:
    return f"{'in images, ' if best.tried else ''}the tickets of none do more than chance."


def _why(worths: Sequence[LayerWorth], best: LayerWorth) -> str:
    """What its images say for the recommended layer, whose tickets work."""
    working = [w for w in worths if w.tried and w.tried.works]
    first, _ = leaders(worths)
    if working[0] is best:
        return "the earliest whose tickets work"
    if first is best:
        return "the earliest of great effect whose tickets work"
    beaten = [w for w in working if lead(w, best) > BETTER]
    level = " or ".join(str(w.layer) for w in working if w is not best and w not in beaten)
    did = "whose tickets did clearly better in images than those of"
    if not level:
        return f"{did} {' and '.join(str(w.layer) for w in beaten)}"
    if first in beaten:
        return f"{did} {first.layer}, but not than those of {level}"
    return f"whose tickets did best in images, but not clearly better than those of {level}"


def _beside(rows: list[list[str]], title: str, values: Sequence[float | None], form: str) -> list[list[str]]:
    """The rows with one more column."""
    cells = [title, *("-" if v is None else form.format(v) for v in values)]
    return [[*row, cell] for row, cell in zip(rows, cells, strict=True)]


def picture(
    worths: Sequence[LayerWorth], maps: Mapping[Any, torch.Tensor], phrases: Sequence[str]
) -> torch.Tensor:
    """Image [height, width, 3], a row for each layer: its effect, and its maps [1, phrases, h, w].

    phrases: what the maps are attention to. Of many layers those of the greatest effect.
    """
    best = recommended(worths)
    greatest = sorted(worths, key=lambda w: w.effect, reverse=True)[:MOST]
    shown = [w for w in worths if w in greatest]
    ends = [v for w in shown for v in (w.effect - w.error, w.effect + w.error) if math.isfinite(v)]
    low, high = min(ends, default=0.0), max(ends, default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    span = max(1e-9, high - low)
    # Room for the value behind the longest bar.
    axis = Axis("effect, in SD of plain noise", low - 0.02 * span, high + 0.25 * span)
    names = all_written(phrases)[:MOST_PHRASES]
    titles = [*(str(w.layer) for w in shown), ""]
    side = SIDE if len(shown) <= FEW else SIDE_SMALL
    wide = WIDTH - titles_width(titles) - len(names) * (side + GAP_ROWS)
    rows: list[list[Image.Image | None]] = []
    for w in shown:
        colour = RED if w is best and w.clear else BLUE
        scores = paper_score(maps[w.layer].float())[0, : len(names)]
        rows.append(
            [
                bar(w.effect, (w.effect - w.error, w.effect + w.error), axis, (wide, side), colour),
                *(centred(panel(one, side), side) for one in scores),
            ]
        )
    rows.append([ruler(axis, wide), *[None] * len(names)])
    keys = [Entry("layer", BLUE)]
    if best.clear:
        keys.append(Entry("the recommended layer", RED))
    parts = [
        legend([*keys, Entry("standard error", INK, line=True)]),
        grid(rows, titles, ["effect of the layer's tickets", *names], gap=GAP_ROWS),
    ]
    if not best.clear:
        parts.append(lines_of(f"No layer is recommended: {_unclear(best)}", WIDTH))
    parts.append(
        colour_bar("Maps: score of each cell of the first noise for the phrase, at that layer", SCORES)
    )
    left_out = [
        more(len(shown), len(worths), "layers, of smaller effect, are"),
        more(len(names), len(phrases), "phrases are"),
    ]
    if any(left_out):
        parts.append(lines_of(" ".join(left_out), WIDTH))
    return tensor_of(framed(stacked(parts, GAP)))

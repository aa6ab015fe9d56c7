"""Every cross-attention layer's worth, as text and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ..tickets.layers.figures import LayerWorth, recommended
from ..tickets.score import paper_score
from .heatmap import colour, enlarge, in_a_row

BAR = 200
SIDE = 64
GAP = 4
INK, BEST_INK, PAPER = torch.tensor([[0.25, 0.32, 0.45], [0.86, 0.32, 0.23], [1.0, 1.0, 1.0]])


def table(worths: Sequence[LayerWorth]) -> str:
    """A line for each layer in forward order, and the one that is recommended."""
    best = recommended(worths)
    lines = ["layer        map      block  effect (+-)     kept    agreement (chance)"]
    for w in worths:
        kept = "-" if w.kept is None else f"{w.kept:.3f}"
        agreement = "-" if w.agreement is None else f"{w.agreement:.3f} ({w.chance:.3f})"
        mark = "  <- recommended" if w is best and w.clear else ""
        lines.append(
            f"{w.layer!s:12} {f'{w.rows}x{w.columns}':8} {f'{w.block}x{w.block}':6}"
            f" {w.effect:6.3f} ({w.error:.3f}) {kept:>7} {agreement:>18}{mark}"
        )
    if not best.clear:
        lines.append("No layer stands out: the tickets of none have an effect beyond chance.")
    return "\n".join(lines)


def picture(worths: Sequence[LayerWorth], maps: Mapping[Any, torch.Tensor]) -> torch.Tensor:
    """Image [height, width, 3], a row for each layer: its effect, and its maps [1, phrases, h, w]."""
    best = recommended(worths)
    longest = max(max(w.effect for w in worths), 1e-9)
    rows = []
    for w in worths:
        bar = PAPER.repeat(SIDE, BAR, 1)
        bar[SIDE // 4 : -SIDE // 4, : round(max(0.0, w.effect) / longest * BAR)] = (
            BEST_INK if w is best and w.clear else INK
        )
        scores = paper_score(maps[w.layer])
        same = F.interpolate(scores, (SIDE, SIDE), mode="nearest-exact")[0]
        rows += [in_a_row([bar, *(colour(m) for m in same)]), torch.ones(GAP, 1, 3)]
    width = rows[0].shape[1]
    return enlarge(torch.cat([r.expand(-1, width, -1) for r in rows[:-1]]), 2)

"""Figures as columns of text."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence


def figure(value: float, form: str = ".2f") -> str:
    """As text; a dash for one that is not finite."""
    return format(value, form) if math.isfinite(value) else "-"


def wide(text: str) -> int:
    """Columns of a terminal: Chinese, Japanese and Korean letters and emoji take two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in which the cells of a column end at the same place; those of the first begin there."""
    widths = [max(map(wide, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first + " " * (widths[0] - wide(first))]
        cells += [" " * (w - wide(c)) + c for c, w in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines

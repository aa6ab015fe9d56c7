"""Reads prompts with a box for each object, in 7Bench's format (arXiv 2508.12919). Standard library only.

A CSV file with a row for each prompt: id, category (the scenario), prompt, and up to four objects with their
boxes, obj1, bbox1 to obj4, bbox4. A box is left, top, right, bottom in pixels of an image of 512x512.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SIDE = 512
MOST = 4
COLUMNS = ("id", "prompt", "obj1", "bbox1")

Box = tuple[float, float, float, float]


class PromptsError(Exception):
    """A file that is not in the format; the message says what is missing."""


@dataclass(frozen=True)
class Layout:
    """name: id and scenario. regions: the objects with their boxes, as fractions of width and height."""

    name: str
    prompt: str
    regions: tuple[tuple[str, Box], ...]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(category for category, _ in self.regions)


def read(path: Path) -> tuple[list[Layout], list[str]]:
    """The layouts of a file in its order, and a sentence about each row that cannot be used."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
            if missing:
                raise PromptsError(
                    f"{path.name} has no column {', '.join(missing)}: it must be a CSV file with the columns"
                    " of 7Bench: id, category, prompt, obj1, bbox1, ... obj4, bbox4."
                )
            layouts, left_out = [], []
            for row in table:
                try:
                    layouts.append(_layout(row))
                except PromptsError as error:
                    left_out.append(f"Row {table.line_num} left out: {error}.")
    except OSError as error:
        raise PromptsError(f"{path} cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PromptsError(f"{path.name} is no CSV file in UTF-8 ({error}).") from None
    return layouts, left_out


def _layout(row: Mapping[str, str | None]) -> Layout:
    prompt = (row["prompt"] or "").strip()
    if not prompt:
        raise PromptsError("it has no prompt")
    regions: list[tuple[str, Box]] = []
    for number in range(1, MOST + 1):
        category, text = ((row.get(f"{name}{number}") or "").strip() for name in ("obj", "bbox"))
        if not category:
            continue
        if any(category.casefold() == other.casefold() for other, _ in regions):
            raise PromptsError(f'"{category}" is there twice, which no judge tells apart')
        if not re.search(rf"(?<!\w){re.escape(category)}(?!\w)", prompt, re.IGNORECASE):
            raise PromptsError(f'"{category}" is not in its prompt')
        regions.append((category, _box(category, text)))
    if not regions:
        raise PromptsError("it has no object")
    name = " ".join(filter(None, ((row["id"] or "").strip(), (row.get("category") or "").strip())))
    return Layout(name, prompt, tuple(regions))


def _box(category: str, text: str) -> Box:
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
    if len(numbers) != 4:
        raise PromptsError(f'the box of "{category}" is no four numbers')
    x0, y0, x1, y1 = (float(n) / SIDE for n in numbers)
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise PromptsError(f'the box of "{category}" ({text}) has no area inside the image')
    return x0, y0, x1, y1

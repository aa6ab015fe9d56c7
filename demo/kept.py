"""Results image by image: appended while they are measured, packed into the repository when done."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROGRESS = HERE / "progress" / "noises.jsonl"
PACKED = HERE / "noises.jsonl"
COLUMNS = ("case", "hit", "swapped", "present", "iou", "shared_colour")


class Lines:
    """What was measured of one model: lines of a file in demo/progress/, each kept as soon as it is there."""

    def __init__(self, name: str, model: str) -> None:
        self.path, self.model = PROGRESS.with_name(name), model
        self.lines = [x for x in _lines(self.path) if x["model"] == model]

    def add(self, **line: Any) -> None:
        """With values of numpy or torch, too."""
        line = {"model": self.model, **line}
        self.lines.append(line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=lambda v: v.item()) + "\n")

    def of(self, what: str) -> list[dict[str, Any]]:
        return [x for x in self.lines if x["what"] == what]


Found = dict[tuple[str, str], dict[int, dict[str, Any]]]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _entries() -> Iterator[dict[str, Any]]:
    for line in _lines(PACKED):
        about = {k: v for k, v in line.items() if k not in COLUMNS}
        for values in zip(*(line[c] for c in COLUMNS), strict=True):
            yield {**about, **dict(zip(COLUMNS, values, strict=True))}
    yield from _lines(PROGRESS)


def load(about: Mapping[str, Any]) -> Found:
    """(set, kind) -> case -> entry, of the model and the way of drawing that `about` tells."""
    found: Found = defaultdict(dict)
    for entry in _entries():
        if about.items() <= entry.items():
            found[entry["set"], entry["kind"]][entry["case"]] = entry
    return found


def add(entries: Iterable[Mapping[str, Any]]) -> None:
    PROGRESS.parent.mkdir(exist_ok=True)
    with PROGRESS.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(entry) + "\n" for entry in entries))


def pack(about: Mapping[str, Any], found: Found) -> None:
    """Writes `found`, a line for every set and kind, in place of what was packed of the same `about`."""
    lines = [json.dumps(x, separators=(",", ":")) for x in _lines(PACKED) if not about.items() <= x.items()]
    for (name, kind), cases in found.items():
        every = [cases[i] for i in sorted(cases)]
        columns = {c: [int(e[c]) if isinstance(e[c], bool) else e[c] for e in every] for c in COLUMNS}
        lines.append(json.dumps({**about, "set": name, "kind": kind, **columns}, separators=(",", ":")))
    new = PACKED.with_suffix(".new")
    new.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    os.replace(new, PACKED)

"""Files of judged images: a line for each, appended whole, read again by who resumes or joins.

A line that was cut off is skipped, and its image is drawn again by who resumes. Whatever else is no
image of a trial is left out and named in one sentence for each file.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..tickets.whole import replacing, sweep
from .record import BANK, LONGEST_LINE, SEED, NoJson, Record, RecordError, parse, plain_setting

_BEGINNING = b'{"trial":'


def append(path: Path, records: Iterable[Record]) -> None:
    """Add lines, all in one piece; a line that was cut off before stays a line of its own."""
    text = "".join(record.line() for record in records).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            text = text if file.read(1) == b"\n" else b"\n" + text
        file.write(text)


def write(path: Path, records: Iterable[Record]) -> None:
    """A file of these images only, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    with replacing(path) as temporary:
        temporary.write_bytes("".join(record.line() for record in records).encode())


@dataclass(frozen=True)
class Loaded:
    """Images in the order of the file, and sentences about what was left out."""

    records: list[Record]
    notes: list[str]


def load(path: Path) -> Loaded:
    """All images of a file; none if there is no such file."""
    records: list[Record] = []
    wrong: list[str] = []
    if not path.exists():
        return Loaded([], [])
    with path.open("rb") as file:
        for number, line in enumerate(_lines(file), 1):
            try:
                if line:
                    records.append(parse(line))
            except RecordError as error:
                cut_off = line.startswith(_BEGINNING) or _BEGINNING.startswith(line)
                if not (cut_off and isinstance(error, NoJson)):
                    wrong.append(f"line {number}: {error}")
    if not wrong:
        return Loaded(records, [])
    left_out = "1 line is no image" if len(wrong) == 1 else f"{len(wrong)} lines are no images"
    return Loaded(records, [f"{path.name}: {left_out} of a trial and left out ({wrong[0]})."])


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Without their ends; of one that is far too long the beginning."""
    mark = codecs.BOM_UTF8
    while line := file.readline(LONGEST_LINE + 2):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE)
        yield line.removeprefix(mark).strip()
        mark = b""


def unique(records: Iterable[Record]) -> tuple[list[Record], int]:
    """Each image once, the first that comes, and how many later ones contradict it."""
    kept: dict[Any, Record] = {}
    contradictions = 0
    for record in records:
        first = kept.setdefault(record.key, record)
        contradictions += (first.hit, first.present) != (record.hit, record.present)
    return list(kept.values()), contradictions


@dataclass(frozen=True)
class Joined:
    """Tables' worth of images, the largest first: those of one list belong together. notes: sentences."""

    parts: list[list[Record]]
    notes: list[str]


def join(paths: Sequence[Path], pooled: Collection[str] = ()) -> Joined:
    """The images of several files; those of different settings stay apart, but for settings in `pooled`."""
    records: list[Record] = []
    notes: list[str] = []
    for path in paths:
        if not path.is_file():
            notes.append(f"{path.name}: there is no such file.")
            continue
        try:
            loaded = load(path)
        except OSError as error:
            notes.append(f"{path.name}: cannot be read ({error.strerror}).")
            continue
        records += loaded.records
        notes += loaded.notes
        if not loaded.records:
            notes.append(f"{path.name}: no image of a trial in it.")
    kept, contradictions = unique(records)
    if len(kept) < len(records):
        notes.append(f"Duplicate images are counted once: {len(records) - len(kept)}.")
    if contradictions:
        notes.append(
            f"Of these, judged differently in a later file, where the first one counts: {contradictions}."
        )
    parts: dict[str, list[Record]] = {}
    for record in kept:
        parts.setdefault(record.question(pooled), []).append(record)
    ordered = sorted(parts.values(), key=len, reverse=True)
    if len(ordered) > 1:
        notes.append(f"Kept apart, as their settings differ: {'; '.join(names(ordered, pooled))}.")
    return Joined(ordered, notes)


def names(parts: Sequence[Collection[Record]], pooled: Collection[str] = ()) -> list[str]:
    """What tells each part from the others: `steps 12, cfg 7`."""
    firsts = [next(iter(part)) for part in parts]
    all_settings = [
        {
            "model": r.model[:12],
            "size": f"{r.width}x{r.height}",
            "judge": r.judge,
            **{k: v for k, v in r.settings.items() if k not in (SEED, BANK, *pooled)},
        }
        for r in firsts
    ]
    differing = [
        name
        for name in dict.fromkeys(n for one in all_settings for n in one)
        if len({json.dumps(plain_setting(one.get(name))) for one in all_settings}) > 1
    ]
    return [
        ", ".join(f"{name} {_said(one.get(name))}" for name in differing) or "one setting"
        for one in all_settings
    ]


def _said(value: Any) -> str:
    text = "unset" if value is None else " ".join(str(plain_setting(value)).split())
    return text if len(text) <= 60 else text[:57] + "..."

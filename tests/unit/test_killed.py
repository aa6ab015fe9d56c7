"""Rule: whenever a process is killed, what was saved is whole; doing the work again ends as it would have."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from banks import make_bank
from killing import killed_at, linux
from records import a_record
from winning_tickets.tickets.bank.combine import merge, prune
from winning_tickets.tickets.bank.file import check_path, load_bank, save_bank
from winning_tickets.tickets.whole import sweep
from winning_tickets.trial.kept import append, load, write

BANK, TRIAL = "bank.safetensors", "trial.jsonl"
OLD, NEW = make_bank(noises=1), make_bank(noises=2)


def save(folder: Path) -> None:
    check_path(folder / BANK, 1000)
    save_bank(NEW, folder / BANK)


def combine(folder: Path) -> None:
    """Over one of those it is made of."""
    save_bank(prune(merge([load_bank(folder / "a" / BANK), make_bank(noises=2)]), 0.2), folder / "a" / BANK)


def verdicts(folder: Path) -> None:
    write(folder / TRIAL, [a_record(case=9)])


def images(folder: Path) -> None:
    append(folder / TRIAL, [a_record(case=1), a_record(case=2)])


def state(folder: Path) -> dict[str, object]:
    """What can be read in a folder, by name; a damaged file is an error."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors":
            bank = load_bank(path)
            found[str(path.relative_to(folder))] = (
                bank.seeds,
                bank.attention.tolist(),
                bank.blocks.sum().item(),
            )
        elif path.suffix == ".jsonl":
            loaded = load(path)
            assert not loaded.notes
            if loaded.records:
                found[path.name] = [record.case for record in loaded.records]
        elif path.is_file():
            assert path.suffix == ".tmp", path
            os.utime(path, (1e9, 1e9))
    return found


@linux
@pytest.mark.parametrize(
    "work, before",
    [(save, False), (save, True), (combine, True), (verdicts, True), (images, False), (images, True)],
)
def test_at_every_line_of_a_write(tmp_path: Path, work: Callable[[Path], None], before: bool) -> None:
    first, there = tmp_path / "first", tmp_path / "there"
    (first / "a").mkdir(parents=True)
    save_bank(OLD, first / "a" / BANK)
    if before:
        save_bank(OLD, first / BANK)
        write(first / TRIAL, [a_record(case=7)])
    shutil.copytree(first, there)
    old = state(there)
    work(there)
    new = state(there)
    # Reading what it combines has many lines, and writes nothing.
    files = ("tickets/whole.py", "trial/kept.py", *(["tickets/bank/file.py"] if work is save else []))
    line, seen = 1, set()
    while True:
        shutil.rmtree(there)
        shutil.copytree(first, there)
        if not killed_at(line, lambda: work(there), files):
            break
        found = state(there)
        assert found in (old, new), line
        seen.add(found == new)
        if work is not combine or found == old:
            work(there)
            assert state(there) == new, line
        for folder in (there, there / "a"):
            sweep(folder)
        assert not list(there.rglob("*.tmp")), line
        line += 1
    assert line > 5 and False in seen and state(there) == new


@linux
def test_a_line_that_was_cut_anywhere_is_drawn_again(tmp_path: Path) -> None:
    """The system may have written any part of what an image's line is."""
    whole = a_record(case=1).line().encode()
    for cut in range(0, len(whole), 7):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(a_record(case=0).line().encode() + whole[:cut])
        assert [r.case for r in load(path).records] == [0] and not load(path).notes
        append(path, [a_record(case=1)])
        assert [r.case for r in load(path).records] == [0, 1] and not load(path).notes

"""Rule: a killed collection or trial loses no more than what it was at, and is resumed bit for bit."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from test_collect import CATEGORIES, SIZE
from test_trial import Halves, drawn, request
from winning_tickets.probe.collect import collect
from winning_tickets.probe.collect.keep import collect_and_keep
from winning_tickets.probe.layers import remembered
from winning_tickets.probe.model import memory
from winning_tickets.probe.trial.trial import run_trial
from winning_tickets.tickets.bank.file import load_bank
from winning_tickets.trial.cases import TrialError
from winning_tickets.trial.kept import load

sys.path.append(str(Path(__file__).parent.parent / "unit"))
from banks import is_a_sentence
from killing import killed_at, lines_of, linux

WRITING = ("tickets/whole.py", "probe/collect/keep.py", "probe/collect/collect.py")
TRYING = ("tickets/whole.py", "trial/kept.py", "probe/trial/keep.py", "probe/trial/trial.py")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(memory, "MOST", 6)
    monkeypatch.setattr(collect, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(collect, "KEEP_SHARE", 1e9)
    return tmp_path


@linux
def test_a_collection_is_resumed_bit_for_bit(model: Any, clip: Any, folders: Path) -> None:
    """Killed again and again, until it has ended."""
    asked = collect.CollectRequest(CATEGORIES, 10, 0, SIZE, SIZE, "input 3")
    lines = lines_of(lambda: collect_and_keep(model, clip, asked, "whole"), WRITING)
    whole = (folders / "models" / "ticket_banks" / "whole.safetensors").read_bytes()
    path = folders / "models" / "ticket_banks" / "killed.safetensors"
    draw, kept = random.Random(23), set()
    # Later and later.
    tries = itertools.count(1)
    while killed_at(
        draw.randint(1, lines * next(tries) // 9),
        lambda: collect_and_keep(model, clip, asked, "killed"),
        WRITING,
    ):
        if path.exists():
            seeds = load_bank(path).seeds
            assert seeds == tuple(range(len(seeds))) and len(seeds) >= max(kept, default=0)
            kept.add(len(seeds))
    assert len(kept) > 1 and path.read_bytes() == whole


@linux
def test_a_trial_is_resumed_bit_for_bit(model: Any, clip: Any, folders: Path) -> None:
    lines = lines_of(lambda: run_trial(model, clip, request(6, name="whole"), Halves), TRYING)
    again = request(6, name="killed")
    draw, kept = random.Random(5), set()
    # Later and later.
    tries = itertools.count(1)
    while killed_at(
        draw.randint(1, lines * next(tries) // 9), lambda: run_trial(model, clip, again, Halves), TRYING
    ):
        loaded = load(folders / "layout_trials" / "killed.jsonl")
        assert not loaded.notes and len(loaded.records) >= max(kept, default=0)
        kept.add(len(loaded.records))
    whole, resumed = (drawn(run_trial(model, clip, request(6, name=n), Halves)) for n in ("whole", "killed"))
    assert len(kept) > 1 and whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@linux
def test_what_was_chosen_before_is_not_lost(folders: Path) -> None:
    remembered.remember("model", "input 1", "why")
    line = 1
    while killed_at(line, lambda: remembered.remember("other", "input 2", "why"), ("tickets/whole.py",)):
        assert remembered.recall("model") is not None
        for left in remembered.path().parent.glob(".*.tmp"):
            left.unlink()
        line += 1
    assert line > 5 and remembered.recall("other") is not None


def test_a_full_disk_ends_a_trial_in_a_sentence_and_loses_nothing(
    model: Any, clip: Any, folders: Path
) -> None:
    """Latents that did not fit were an error of safetensors', and left half a file behind."""
    resource = pytest.importorskip("resource")
    whole = drawn(run_trial(model, clip, request(2, name="whole"), Halves))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (folders / "layout_trials" / "whole.jsonl").stat().st_size
    for room in (0, 2000, size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(TrialError, match="make room in the output folder and queue it again") as told:
                run_trial(model, clip, request(2, name="full"), Halves)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "File too large" in str(told.value) and is_a_sentence(str(told.value))
        assert not list(folders.rglob("*.tmp"))
    resumed = drawn(run_trial(model, clip, request(2, name="full"), Halves))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)

"""Bank files that nobody means to write, and what they may cost: a sentence, and twice their size."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from banks import container, is_a_sentence, make_bank, write_container
from safetensors.torch import load_file, save_file
from winning_tickets.tickets.bank import file as bank_file
from winning_tickets.tickets.bank.bank import BankError
from winning_tickets.tickets.bank.file import SaveError, bank_facts, load_bank, save_bank
from winning_tickets.tickets.prompts import parse_categories, parse_template

READERS = (load_bank, bank_facts)


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The file with a change to its container's header."""
    header, data = container(path)
    change(header)
    write_container(path, json.dumps(header).encode(), data)


def peak(work: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy held meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("half", [False, True])
def test_a_bank_takes_no_more_than_itself_to_load(tmp_path: Path, half: bool) -> None:
    """Rule: loading takes twice a file at most; one in half precision took four times itself."""
    path = tmp_path / "b.safetensors"
    save_bank(make_bank(noises=3000), path, half)
    size = path.stat().st_size
    assert size > 6e6
    assert peak(lambda: load_bank(path)) < 2.2 * size


def test_tensors_in_one_place_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """Rule: a file of any size could fill twelve times as much memory."""
    path = tmp_path / "b.safetensors"
    save_bank(make_bank(), path)
    size = 64 * 2**20

    def over_each_other(header: dict[str, Any]) -> None:
        for name in ("blocks", "attention", "low", "high"):
            header[name] = {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}

    rewritten(path, over_each_other)
    os.truncate(path, path.stat().st_size + size)

    def load() -> None:
        with pytest.raises(BankError, match="are in the same place"):
            load_bank(path)

    assert peak(load) < 2**20


@pytest.mark.parametrize("part", ["[],", '{"":', "0,", '"0",'])
def test_a_header_of_many_values_is_refused_before_it_is_read(tmp_path: Path, part: str) -> None:
    """Rule: three bytes of JSON are an object of sixty."""
    path = tmp_path / "b.safetensors"
    header = ('{"__metadata__": [' + part * 800_000).encode()
    write_container(path, header)

    def load() -> None:
        for read in READERS:
            with pytest.raises(BankError, match="its header has more than") as told:
                read(path)
            assert is_a_sentence(str(told.value))

    assert peak(load) < 2 * len(header) + 2**20


@pytest.mark.parametrize("categories", [["x" * 1001, "tree", "car"], [f"c{n}" for n in range(51)]])
def test_what_is_shown_of_a_bank_has_an_end(tmp_path: Path, categories: list[str]) -> None:
    """Rule: what nobody can collect nobody has to read: a category of megabytes, thousands of them."""
    path = tmp_path / "b.safetensors"
    save_bank(make_bank(), path)
    header = json.loads(container(path)[0]["__metadata__"]["ticket_bank"])
    header["categories"] = json.dumps(categories)
    rewritten(path, lambda whole: whole["__metadata__"].update(ticket_bank=json.dumps(header)))
    for read in READERS:
        with pytest.raises(BankError, match="is damaged .it has .* categories of up to"):
            read(path)


def test_what_is_saved_can_be_loaded_again_or_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule: no bank is written that would then be refused."""
    path = tmp_path / "b.safetensors"
    bank = make_bank(noises=2)
    long = replace(bank, prompts=("x" * bank_file.LONGEST_HEADER, *bank.prompts[1:]))
    many = replace(bank, prompts=("," * bank_file.MOST_VALUES, *bank.prompts[1:]))
    for wide in (long, many):
        with pytest.raises(SaveError, match="are too much text for a bank") as told:
            save_bank(wide, path)
        assert is_a_sentence(str(told.value)) and not list(tmp_path.iterdir())
    widest = replace(bank, prompts=("\u57ce" * 400_000, *bank.prompts[1:]))
    save_bank(widest, path)
    assert load_bank(path).prompts == widest.prompts
    monkeypatch.setattr(bank_file, "MOST_NOISES", 1)
    with pytest.raises(SaveError, match="2 noises are too many"):
        save_bank(bank, path)
    with pytest.raises(BankError, match="seeds has shape"):
        load_bank(path)


@pytest.mark.parametrize("name", ["made_by", "model", "layer", "a category", "dtype"])
@pytest.mark.parametrize("odd", ["\x1b[2Jx", "\x9b2J", "a\u2028b", "\x7f"])
def test_nothing_in_a_file_steers_a_terminal(tmp_path: Path, name: str, odd: str) -> None:
    path = tmp_path / "b.safetensors"
    save_bank(make_bank(), path)
    (tensors, metadata) = load_file(path), container(path)[0]["__metadata__"]
    header = json.loads(metadata["ticket_bank"])
    if name == "made_by":
        header[name] = odd
    elif name == "a category":
        header["categories"] = json.dumps([odd, "tree", "car"])
    elif name != "dtype":
        header["recipe"] = json.dumps({**json.loads(header["recipe"]), name: odd})
    save_file(tensors, str(path), metadata={"ticket_bank": json.dumps(header)})
    if name == "dtype":
        rewritten(path, lambda header: header["blocks"].update(dtype=odd))
    if name == "made_by":
        assert load_bank(path).made_by.isprintable()
        return
    with pytest.raises(BankError) as told:
        load_bank(path)
    assert is_a_sentence(str(told.value))


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a device", "link to nothing", "link to itself"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """Rule: reading a pipe never ended."""
    path = tmp_path / "b.safetensors"
    if kind == "folder":
        path.mkdir()
    elif os.name == "nt":
        pytest.skip("Windows has links for administrators only, and no pipes in folders")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        target = {"link to a device": "/dev/zero", "link to nothing": "nowhere"}.get(kind, path.name)
        path.symlink_to(target)
    for read in READERS:
        with pytest.raises(BankError, match="b.safetensors") as told:
            read(path)
        assert str(told.value).endswith(".")


def test_scores_survive_the_checks_that_sort_in_place() -> None:
    """The bank's own noise and cell stay as they were, in their order, whatever their type."""
    bank = make_bank()
    noise, cell = bank.noise.long().flip(0), bank.cell.long().flip(0)
    kept = noise.clone(), cell.clone()
    turned = replace(bank, noise=noise, cell=cell)
    assert torch.equal(turned.noise, kept[0]) and torch.equal(turned.cell, kept[1])


@pytest.mark.parametrize("odd", ["\x01", "\x9b", "\x1b", "\ud800", "\u2028", "\x85", "\x7f"])
def test_what_is_typed_can_be_read_back(tmp_path: Path, odd: str) -> None:
    """Rule: a category that no file may hold was collected, and its bank lost."""
    categories = parse_categories(f"{odd}red{odd}car{odd}\ntree")
    assert " ".join(categories) == "red car tree"
    bank = make_bank(categories, 1)
    bank = replace(bank, recipe=replace(bank.recipe, template=parse_template(f"a{odd} {{}}")))
    save_bank(bank, tmp_path / "b.safetensors")
    assert load_bank(tmp_path / "b.safetensors").recipe == bank.recipe

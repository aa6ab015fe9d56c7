"""Ticket banks: scores, files, merging, pruning, reports. No ComfyUI."""

from __future__ import annotations

import gc
import json
import os
import random
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import reduce
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from banks import is_a_sentence, make_bank, slow_rank
from safetensors.torch import load_file, save_file
from winning_tickets.show.bank import report
from winning_tickets.tickets.bank import file as bank_file
from winning_tickets.tickets.bank.bank import (
    EXCESS_KEPT,
    POOLS_KEPT,
    ROWS_KEPT,
    BankError,
    TicketBank,
    model_changes,
)
from winning_tickets.tickets.bank.combine import merge, mixed, only, prune
from winning_tickets.tickets.bank.figures import best_noises, category_map, correlations, histogram
from winning_tickets.tickets.bank.file import SaveError, bank_facts, check_path, load_bank, save_bank
from winning_tickets.tickets.layout.select import Rank, make_pools
from winning_tickets.tickets.recent import Recent
from winning_tickets.tickets.score import paper_score


def same(one: TicketBank, other: TicketBank) -> bool:
    for field in fields(TicketBank):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        equal = torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs
        if not equal:
            return False
    return True


def whole(bank: TicketBank, row: int) -> torch.Tensor:
    return paper_score(bank.maps(row)).flatten()


class TestScores:
    def test_score_is_of_the_prompt_with_the_companion(self) -> None:
        bank = make_bank()
        # prompts: cat-tree, cat-car, tree-car; rows: cat, tree, cat, car, tree, car.
        assert torch.equal(bank.score("tree", "cat"), whole(bank, 1))
        assert torch.equal(bank.score("cat", "car"), whole(bank, 2))
        both = (bank.score("car", "cat") + bank.score("car", "tree")) / 2
        torch.testing.assert_close(bank.average("car"), both)

    def test_scores_known_from_before_are_of_this_bank_alone(self) -> None:
        bank = make_bank()
        score, rank = bank.score("tree", "cat"), bank.rank("tree", "cat")
        assert torch.equal(bank.score("tree", "cat"), score) and torch.equal(bank.rank("tree", "cat"), rank)
        half = torch.arange(0, len(bank.blocks), 2)
        assert torch.equal(bank.take(half).score("tree", "cat"), score[half])
        other = make_bank(attention_seed=1)
        assert not torch.equal(other.score("tree", "cat"), score)
        torch.testing.assert_close(rank, slow_rank(score))

    def test_what_is_kept_of_scores_and_pools_has_an_end(self) -> None:
        """Rule: memories forget. Twelve categories have 132 scores and as many ranks."""
        names = tuple(f"thing {i}" for i in range(12))
        bank = make_bank(names, noises=2)
        before = {(u, v): bank.rank(u, v).clone() for u, v in permutations(names, 2)}
        assert len(bank._known) <= ROWS_KEPT
        assert all(torch.equal(bank.rank(u, v), rank) for (u, v), rank in before.items())
        for count in range(1, 30):
            make_pools(bank, Rank(count / 100), {names[0]: 1, names[1]: 1}, 1)
        assert len(bank.pools) <= POOLS_KEPT and len(bank.excess) <= EXCESS_KEPT

    def test_what_was_asked_for_longest_ago_is_forgotten_first(self) -> None:
        made: list[str] = []
        kept: Recent[str] = Recent(2)
        for key in "abacab":
            assert kept.get(key, lambda key=key: made.append(key) or key) == key
        assert made == list("abcb")

    def test_singles_and_joint_serve_every_companion_with_one_row(self) -> None:
        for scheme in ("singles", "joint"):
            bank = make_bank(scheme=scheme)
            assert torch.equal(bank.score("tree", "cat"), bank.score("tree", "car"))
            assert torch.equal(bank.score("tree", "cat"), whole(bank, 1))

    def test_the_pairs_own_prompt_goes_before_a_joint_one(self) -> None:
        bank = make_bank(("cat", "tree"))
        more = replace(
            bank,
            categories=("cat", "tree", "car"),
            prompts=("a cat, a tree and a car", "a cat and a tree"),
            measured=((0, 0), (1, 0), (2, 0), (0, 1), (1, 1)),
            attention=torch.rand(5, len(bank.blocks)),
            low=torch.zeros(5, 3),
            high=torch.ones(5, 3),
        )
        assert more.row("tree", "cat") == 4 and more.row("tree", "car") == 1

    def test_lone_category_averages_over_itself(self) -> None:
        bank = make_bank(("cat",))
        assert torch.equal(bank.average("cat"), whole(bank, 0))
        assert torch.equal(bank.margin("cat", ["cat"]), bank.average("cat"))

    def test_margin_is_against_the_best_other(self) -> None:
        bank = make_bank()
        gaps = [bank.score("cat", o) - bank.score(o, "cat") for o in ("tree", "car")]
        assert torch.equal(bank.margin("cat", bank.categories), torch.minimum(*gaps))

    def test_unknown_category_lists_what_there_is(self) -> None:
        with pytest.raises(BankError, match='"dog".*cat, tree, car'):
            make_bank().average("dog")

    @pytest.mark.parametrize(
        "change, complaint",
        [
            ({"attention": torch.full((6, 48), float("nan"))}, "not finite"),
            ({"attention": torch.rand(6, 47)}, "attention is"),
            ({"blocks": torch.zeros(48, 4, 2, 2)}, "blocks is"),
            ({"measured": ((0, 0),) * 5}, "attention is"),
            ({"measured": ((0, 9),) * 6}, "does not name"),
            ({"categories": ("cat", "cat", "car")}, "category is listed twice"),
            ({"seeds": (1, 1, 2)}, "noise is listed twice"),
            ({"noise": torch.full((48,), 3, dtype=torch.int32)}, "from nowhere"),
            ({"cell": torch.full((48,), -1, dtype=torch.int32)}, "from nowhere"),
        ],
    )
    def test_damaged_contents_are_refused(self, change: dict, complaint: str) -> None:
        with pytest.raises(BankError, match=complaint):
            replace(make_bank(), **change)


class TestFile:
    def test_file_holds_the_bank_exactly(self, tmp_path: Path) -> None:
        bank = make_bank()
        path = tmp_path / "folder" / "bank.safetensors"
        save_bank(bank, path)
        assert same(load_bank(path), bank)
        assert bank_facts(path) == (bank.categories, bank.recipe.block)
        assert [p.name for p in path.parent.iterdir()] == ["bank.safetensors"]

    def test_half_precision_halves_it_and_keeps_scores_in_bounds(self, tmp_path: Path) -> None:
        bank = make_bank(noises=40)
        save_bank(bank, tmp_path / "a.safetensors")
        save_bank(bank, tmp_path / "b.safetensors", half=True)
        sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in "ab"]
        assert sizes[1] < 0.6 * sizes[0]
        again = load_bank(tmp_path / "b.safetensors")
        score = again.score("cat", "tree")
        assert score.min() == 0 and score.max() == 1
        torch.testing.assert_close(score, bank.score("cat", "tree"), atol=2e-3, rtol=0)

    def test_large_seeds_survive(self, tmp_path: Path) -> None:
        bank = replace(make_bank(noises=2), seeds=(2**64 - 1, 2**63))
        save_bank(bank, tmp_path / "b.safetensors")
        assert load_bank(tmp_path / "b.safetensors").seeds == (2**64 - 1, 2**63)

    def test_failed_write_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(), path)
        before = path.read_bytes()

        def full(*args: object, **kwargs: object) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(bank_file, "save_file", full)
        with pytest.raises(SaveError, match="No space"):
            save_bank(make_bank(noises=2), path)
        assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize("size", [0, 100, 4096])
    def test_a_loaded_bank_does_not_depend_on_its_file(self, tmp_path: Path, size: int) -> None:
        """Rule: a file in use may be cut, overwritten or replaced; a map of it would end the process."""
        path = tmp_path / "b.safetensors"
        bank = make_bank(noises=40)
        save_bank(bank, path)
        loaded = load_bank(path)
        with path.open("r+b") as file:
            file.truncate(size)
            file.write(b"x" * size)
        assert same(loaded, bank)
        for other in (make_bank(noises=2), make_bank(noises=3)):
            save_bank(other, path)
            assert same(load_bank(path), other) and same(loaded, bank)

    def test_loaded_banks_hold_no_file_open_and_no_map_of_one(self, tmp_path: Path) -> None:
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(noises=40), path)
        loaded = load_bank(path)
        maps = Path("/proc/self/maps")
        if not maps.exists():
            pytest.skip("only Linux lists what a process has mapped")
        assert path.name not in maps.read_text()
        assert str(path) not in [os.path.realpath(f) for f in Path("/proc/self/fd").iterdir()]
        assert len(loaded.seeds) == 40

    def test_one_file_is_in_memory_once(self, tmp_path: Path) -> None:
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(), path)
        # Written just now, it could change again within one tick of the clock.
        assert load_bank(path) is not load_bank(path)
        os.utime(path, (1e9, 1e9))
        one = load_bank(path)
        assert load_bank(path) is one
        os.utime(path, (1e9, 1e9 + 5))
        assert load_bank(path) is not one
        os.utime(path, (1e9, 1e9))
        del one
        gc.collect()
        assert not [k for k in bank_file._loaded if k[0] == path]

    def test_any_bank_comes_back_exactly(self, tmp_path: Path) -> None:
        """Property: sizes, seeds, words and values of all kinds survive the file bit for bit."""
        chance = random.Random(3)
        for turn in range(30):
            names = ("cat", "a red bicycle", "\u57ce", 'say "hi"', "caf\u00e9", "\U0001f98a")
            bank = make_bank(tuple(chance.sample(names, chance.randint(1, 5))), chance.randint(1, 6))
            seeds = tuple(chance.sample([0, 1, 2**63 - 1, 2**63, 2**64 - 1, 77], len(bank.seeds)))
            wild = torch.rand(bank.attention.shape) * 10.0 ** chance.randint(-40, 30)
            bank = replace(bank, seeds=seeds, attention=wild, made_by=chance.choice(["", "me"]))
            bank = bank.take(torch.tensor(sorted(chance.sample(range(len(bank.blocks)), 5))))
            path = tmp_path / f"{turn}.safetensors"
            save_bank(bank, path)
            assert same(load_bank(path), bank)
            assert bank_facts(path) == (bank.categories, 4)

    @pytest.mark.parametrize("cut", [0, 7, 200, -64])
    def test_truncated_file_is_one_sentence(self, tmp_path: Path, cut: int) -> None:
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(), path)
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(BankError, match="b.safetensors is damaged"):
            load_bank(path)

    def test_foreign_missing_old_and_future_files_are_named(self, tmp_path: Path) -> None:
        other = tmp_path / "lora.safetensors"
        save_file({"x": torch.zeros(1)}, str(other))
        with pytest.raises(BankError, match="is no ticket bank"):
            load_bank(other)
        with pytest.raises(BankError, match="is no ticket bank"):
            bank_facts(other)
        with pytest.raises(BankError, match="No ticket bank at"):
            load_bank(tmp_path / "none.safetensors")
        for version, complaint in (("99", "newer than this pack"), ("1", "old format"), ("x", "damaged")):
            header = {"ticket_bank": json.dumps({"format": version})}
            save_file({"x": torch.zeros(1)}, str(other), metadata=header)
            with pytest.raises(BankError, match=complaint):
                load_bank(other)

    def test_a_header_that_claims_10_to_the_12_blocks_is_refused_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(), path)
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        header["blocks"]["shape"][0] = 10**12
        changed = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(changed)) + changed + raw[8 + length :])
        with pytest.raises(BankError, match="b.safetensors is damaged"):
            load_bank(path)

    @pytest.mark.parametrize(
        "text",
        [
            '{"format": Infinity}',
            '{"format": NaN}',
            '{"format": 1e400}',
            '{"format": 2}',
            '{"format": true}',
            '{"format": "\u0662"}',
            '{"format": "' + "9" * 5000 + '"}',
            '{"format": ' + "9" * 5000 + "}",
            '{"format": "2", "format": "2"}',
            "[" * 200_000,
            '{"a":' * 200_000,
            "[]",
            "3",
            '""',
            "",
            "{}",
            '{"format": "2"}',
            '{"format": "2", "recipe": "[[[", "categories": "[]"}',
            '{"format": "2", "recipe": 3, "categories": []}',
            '{"format": "2", "recipe": "' + "[" * 200_000 + '"}',
        ],
        ids=lambda text: text[:24],
    )
    def test_no_header_does_more_than_a_sentence(self, tmp_path: Path, text: str) -> None:
        """Rule: what a file holds is never trusted, also where only its header is read."""
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(), path)
        save_file(load_file(path), str(path), metadata={"ticket_bank": text})
        for read in (load_bank, bank_facts):
            with pytest.raises(BankError, match="b.safetensors") as told:
                read(path)
            assert is_a_sentence(str(told.value))

    @pytest.mark.parametrize("raw", ["[" * 200_000, '{"a":' * 200_000, "[1]", '{"__metadata__": 3}', "{"])
    def test_nor_does_that_of_the_container(self, tmp_path: Path, raw: str) -> None:
        path = tmp_path / "b.safetensors"
        path.write_bytes(struct.pack("<Q", len(raw)) + raw.encode())
        for read in (load_bank, bank_facts):
            with pytest.raises(BankError, match="b.safetensors") as told:
                read(path)
            assert is_a_sentence(str(told.value))

    @pytest.mark.parametrize(
        "name, value",
        [
            ("block", -4),
            ("block", 10**12),
            ("height", 0),
            ("layer", 3),
            ("sigma", "high"),
            ("channels", True),
            ("color", "red"),
        ],
    )
    def test_a_hostile_recipe_is_refused(self, tmp_path: Path, name: str, value: Any) -> None:
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(), path)
        self.change_header(path, "recipe", lambda recipe: {**recipe, name: value})
        with pytest.raises(BankError, match="b.safetensors is damaged"):
            load_bank(path)

    @pytest.mark.parametrize("name", ["attention", "seeds", "cell", "low"])
    def test_a_missing_tensor_or_one_of_another_type_is_refused(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(), path)
        metadata = self.metadata(path)
        tensors = load_file(path)
        kept = tensors.pop(name)
        save_file(tensors, str(path), metadata=metadata)
        with pytest.raises(BankError, match="is damaged"):
            load_bank(path)
        save_file({**tensors, name: kept.bool()}, str(path), metadata=metadata)
        with pytest.raises(BankError, match=f"damaged.*{name} is of type BOOL"):
            load_bank(path)

    @staticmethod
    def metadata(path: Path) -> dict[str, str]:
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        return dict(json.loads(raw[8 : 8 + length])["__metadata__"])

    def change_header(self, path: Path, name: str, change: Any) -> None:
        header = json.loads(self.metadata(path)["ticket_bank"])
        header[name] = json.dumps(change(json.loads(header[name])))
        save_file(load_file(path), str(path), metadata={"ticket_bank": json.dumps(header)})


class TestSaving:
    @pytest.mark.parametrize("length", [100, 240, 243])
    def test_a_name_may_be_as_long_as_the_file_system_allows(self, tmp_path: Path, length: int) -> None:
        path = tmp_path / ("n" * length + ".safetensors")
        check_path(path)
        assert not list(tmp_path.iterdir())
        save_bank(make_bank(), path)
        check_path(path)
        assert same(load_bank(path), make_bank()) and list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("kind", ["too long", "folder", "file in the way", "read-only", "no room"])
    def test_what_cannot_be_written_is_found_before_and_is_one_sentence(
        self, tmp_path: Path, kind: str
    ) -> None:
        """Rule: a save that must fail fails before the work."""
        path, room = tmp_path / "b.safetensors", 0
        if kind == "too long":
            path = tmp_path / ("n" * 300 + ".safetensors")
        elif kind == "folder":
            path.mkdir()
        elif kind == "file in the way":
            path.write_bytes(b"x")
            path = path / "b.safetensors"
        elif kind == "read-only":
            if os.name == "nt" or os.geteuid() == 0:
                pytest.skip("this user may write everywhere")
            tmp_path.chmod(0o500)
        else:
            room = 10**18
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SaveError) as told:
            check_path(path, room)
        assert is_a_sentence(str(told.value).replace("n" * 300, "n")), told.value
        if kind != "no room":
            with pytest.raises(SaveError):
                save_bank(make_bank(), path)
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_full_disk_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        """The system's own error: no file of this process may be longer than some bytes."""
        resource = pytest.importorskip("resource")
        path = tmp_path / "b.safetensors"
        save_bank(make_bank(noises=2), path)
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(SaveError, match="b.safetensors cannot be written"):
                save_bank(make_bank(noises=40), path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]

    def test_what_crashed_saves_left_is_removed_after_a_day(self, tmp_path: Path) -> None:
        ours = [".bank-" + "0" * 32 + ".tmp", "b.safetensors.4711.tmp", "b.tickets.tmp", ".tmpaRCVHU"]
        day_old = [*ours, "mine.tmp", "c.safetensors"]
        for name in day_old:
            (tmp_path / name).write_bytes(b"x")
            os.utime(tmp_path / name, (1e9, 1e9))
        young = tmp_path / (".bank-" + "1" * 32 + ".tmp")
        young.write_bytes(b"x")
        save_bank(make_bank(), tmp_path / "b.safetensors")
        left = {p.name for p in tmp_path.iterdir()}
        assert left == {"b.safetensors", "mine.tmp", "c.safetensors", young.name}

    @pytest.mark.skipif(os.name == "nt", reason="not on Windows")
    @pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
    def test_a_bank_can_be_read_by_whom_the_system_lets_read_new_files(
        self, tmp_path: Path, mask: int
    ) -> None:
        """safetensors 0.8 lets nobody but the user who saved: banks on shared drives were of no use."""
        before = os.umask(mask)
        try:
            save_bank(make_bank(), tmp_path / "b.safetensors")
            (tmp_path / "new").touch()
        finally:
            os.umask(before)
        bank, new = ((tmp_path / name).stat().st_mode & 0o777 for name in ("b.safetensors", "new"))
        assert bank == new

    def test_processes_that_save_under_one_name_leave_a_whole_bank(self, tmp_path: Path) -> None:
        path = tmp_path / "b.safetensors"
        banks = [make_bank(noises=n) for n in (20, 30)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda k: save_bank(banks[k % 2], path), range(24)))
        assert len(load_bank(path).seeds) in (20, 30)
        assert list(tmp_path.iterdir()) == [path]


class TestMerge:
    def test_noises_of_all_and_each_once(self) -> None:
        all_of_them = make_bank(noises=5)
        one, other = only(all_of_them, (0, 1, 2)), only(all_of_them, (1, 2, 3, 4))
        assert same(merge([one, other]), all_of_them)
        assert merge([one, one]) is one

    def test_order_of_noises_can_be_chosen(self) -> None:
        bank = make_bank(noises=4)
        turned = only(bank, (3, 0))
        assert turned.seeds == (3, 0)
        assert torch.equal(turned.blocks[:16], bank.blocks[48:])
        assert torch.equal(turned.score("cat", "tree")[16:], bank.score("cat", "tree")[:16])
        with pytest.raises(BankError, match="seed 9"):
            only(bank, (0, 9))

    def test_other_recipes_are_refused_and_named(self) -> None:
        one, other = make_bank(noises=2), make_bank(noises=2, first=2)
        other = replace(other, recipe=replace(other.recipe, layer="input 7", fingerprint="abc"))
        with pytest.raises(BankError, match="Bank 2 has layer 'input 7' instead of 'input 8', fingerprint"):
            merge([one, other])
        assert mixed([one, other]) == ["layer (input 8, input 7)", "fingerprint (none, abc)"]
        assert not mixed([one, one])
        with pytest.raises(
            BankError, match='Bank 2 has other categories.*number 3 is "sun" instead of "car"'
        ):
            merge([one, make_bank(("cat", "tree", "sun"))], any_recipe=True)

    def test_a_bank_of_several_models_is_no_longer_of_the_first_ones(self) -> None:
        """Rule: nothing that was read on another model passes for this model's."""
        one, other = (
            replace(b, recipe=replace(b.recipe, fingerprint=name))
            for b, name in ((make_bank(noises=2), "abc"), (make_bank(noises=2, first=2), "def"))
        )
        both = merge([one, other], any_recipe=True)
        assert both.recipe == replace(one.recipe, fingerprint="abc + def")
        assert merge([both, one, other], any_recipe=True).recipe == both.recipe
        with pytest.raises(BankError, match="fingerprint 'abc' instead of 'abc . def'"):
            merge([both, one])

    def test_fingerprints_are_compared_as_far_as_they_reach(self) -> None:
        """Rule: a bank of an early version, which tells its weights only, is no reason for a false alarm, nor
        for two others to mix."""
        old, one, other, stranger = (
            replace(b, recipe=replace(b.recipe, fingerprint=name))
            for b, name in (
                (make_bank(noises=2, first=2 * k), name)
                for k, name in enumerate(("aa", "aa-bb-cc", "aa-bb-dd", "ab-bb-cc"))
            )
        )
        assert merge([old, one]).recipe.fingerprint == merge([one, old]).recipe.fingerprint == "aa"
        for banks in ([one, other], [old, one, other]):
            with pytest.raises(BankError, match="what differs: sampling or attention patches"):
                merge(banks)
        with pytest.raises(BankError, match="what differs: model or LoRAs"):
            merge([old, stranger])
        assert merge([one, other], any_recipe=True).recipe.fingerprint == "aa-bb-cc + aa-bb-dd"
        assert model_changes("aa-bb-cc", "aa-bb-cc + aa-bb-dd") == ["sampling or attention patches"]

    def test_many_parts_are_joined_in_time_that_grows_with_the_tickets(self) -> None:
        """Rule: cost grows as what there is, not as its square."""
        parts = [make_bank(("cat", "tree"), noises=1, first=k) for k in range(400)]
        took = []
        for count in (100, 400):
            began = time.process_time()
            both = merge(parts[:count])
            took.append(time.process_time() - began)
        assert both.seeds == tuple(range(400)) and took[1] < 1
        assert took[1] < 10 * took[0]

    def test_parts_of_any_kind_make_what_they_make_one_by_one(self) -> None:
        """Property: merge is the fold of itself, keeps every noise once, and what a noise's tickets score."""
        chance = random.Random(5)
        whole = make_bank(noises=12)
        for _ in range(30):
            parts = []
            for _ in range(chance.randint(1, 5)):
                part = only(whole, chance.sample(range(12), chance.randint(1, 6)))
                if chance.random() < 0.5:
                    kept = torch.tensor(sorted(chance.sample(range(len(part.blocks)), chance.randint(1, 9))))
                    part = part.take(kept)
                parts.append(part)
            both = merge(parts)
            assert same(both, reduce(lambda a, b: merge([a, b]), parts))
            assert set(both.seeds) == {s for part in parts for s in part.seeds}
            assert len(both.blocks) <= sum(len(part.blocks) for part in parts)
            score = whole.score("cat", "tree")
            for i, (noise, cell) in enumerate(zip(both.noise.tolist(), both.cell.tolist(), strict=True)):
                place = 16 * both.seeds[noise] + cell
                assert both.score("cat", "tree")[i] == score[place]
                assert torch.equal(both.blocks[i], whole.blocks[place])

    def test_scores_of_other_prompts_never_mix(self) -> None:
        one = make_bank(noises=2)
        turned = replace(make_bank(noises=2, first=2), measured=(*one.measured[1:], one.measured[0]))
        with pytest.raises(BankError, match="Bank 2 scores its categories in other prompts"):
            merge([one, turned], any_recipe=True)

    def test_other_sizes_never_mix(self) -> None:
        one, other = make_bank(noises=2), make_bank(noises=2, first=2)
        other = replace(other, recipe=replace(other.recipe, width=20))
        with pytest.raises(BankError, match="^Bank 2 has width 20 instead of 16.$"):
            merge([one, other], any_recipe=True)


class TestPrune:
    def test_the_best_of_every_category_and_of_the_background_stay(self) -> None:
        bank = make_bank(noises=20)
        small = prune(bank, 0.05)
        count = 16
        assert count <= len(small.blocks) <= 4 * count
        for category in bank.categories:
            margin = bank.margin(category, bank.categories)
            kept = small.margin(category, small.categories)
            assert torch.equal(kept.topk(count).values, margin.topk(count).values)

    def test_scores_of_what_stays_do_not_change(self) -> None:
        bank = make_bank(noises=20)
        small = prune(bank, 0.05)
        place = {(int(n), int(c)): i for i, (n, c) in enumerate(zip(bank.noise, bank.cell, strict=True))}
        index = [place[int(n), int(c)] for n, c in zip(small.noise, small.cell, strict=True)]
        assert torch.equal(small.score("car", "cat"), bank.score("car", "cat")[index])
        assert torch.equal(small.blocks, bank.blocks[index])

    def test_pruned_banks_are_saved_and_merged(self, tmp_path: Path) -> None:
        one, other = prune(make_bank(noises=3), 0.1), prune(make_bank(noises=3, first=2), 0.1)
        both = merge([one, other])
        assert both.seeds == (0, 1, 2, 3, 4)
        save_bank(both, tmp_path / "b.safetensors")
        assert same(load_bank(tmp_path / "b.safetensors"), both)

    def test_what_any_share_keeps_of_any_bank(self) -> None:
        """Property: pruning keeps the best of every category and whole scores, and merging what it keeps."""
        chance = random.Random(9)
        for turn in range(20):
            names = ("cat", "tree", "car", "sun")[: chance.randint(1, 4)]
            bank = make_bank(names, chance.randint(1, 8), attention_seed=turn)
            share = chance.choice([0.001, 0.05, 0.3, 1])
            small = prune(bank, share)
            count = max(1, round(share * len(bank.blocks)))
            assert count <= len(small.blocks) <= min(len(bank.blocks), count * (len(names) + 1))
            assert small.pruned is (len(small.blocks) < len(bank.blocks))
            places = torch.isin(bank._places, small._places)
            assert int(places.sum()) == len(small.blocks)
            for name in names:
                assert torch.equal(small.average(name), bank.average(name)[places])
                best = bank.margin(name, names).topk(count).values
                assert torch.equal(small.margin(name, names).topk(count).values, best)
            assert same(prune(bank, 1), bank) and same(merge([small, bank]), small)
            assert same(only(small, bank.seeds), small)

    @pytest.mark.parametrize("share", [0, -1, 1.5])
    def test_share_has_a_range(self, share: float) -> None:
        with pytest.raises(BankError, match="share is"):
            prune(make_bank(), share)


class TestReport:
    def test_figures_are_those_of_the_bank(self) -> None:
        bank = make_bank(noises=30)
        text, picture = report(bank)
        above = int((bank.average("tree") > 0.5).sum())
        assert f"tree: {above:,} above" in text and "BaseModel" in text and "the tests" in text
        assert picture.dim() == 3 and picture.shape[-1] == 3
        assert picture.min() >= 0 and picture.max() <= 1

    def test_histogram_counts_every_ticket(self) -> None:
        assert histogram(make_bank(noises=7).average("cat")).sum() == 7 * 16

    def test_best_noise_holds_the_best_margin(self) -> None:
        bank = make_bank(noises=9)
        best = int(bank.noise[bank.margin("cat", bank.categories).argmax()])
        assert best_noises(bank, "cat")[0] == best

    def test_the_same_blocks_agree(self) -> None:
        bank = make_bank(("cat", "tree"))
        twin = replace(
            bank,
            attention=bank.attention[[0, 0]],
            low=bank.low[[0, 0]],
            high=bank.high[[0, 0]],
        )
        assert correlations(twin)[0, 1] == pytest.approx(1, abs=1e-5)

    def test_maps_show_what_is_not_kept_as_such(self) -> None:
        bank = make_bank()
        assert not category_map(bank, 0, 1).isnan().any()
        assert category_map(prune(bank, 0.02), 0, 1).isnan().any()

"""Ticket banks: scores, files, merging, pruning, reports. No ComfyUI."""

from __future__ import annotations

import json
import struct
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from banks import make_bank, slow_rank
from safetensors.torch import load_file, save_file
from winning_tickets.show.bank import agreement, best_noises, histogram, report
from winning_tickets.show.heatmap import category_map, heat_maps
from winning_tickets.tickets.bank import file as bank_file
from winning_tickets.tickets.bank.bank import BankError, TicketBank
from winning_tickets.tickets.bank.combine import merge, mixed, only, prune
from winning_tickets.tickets.bank.file import bank_facts, load_bank, save_bank
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
        with pytest.raises(OSError, match="No space"):
            save_bank(make_bank(noises=2), path)
        assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1

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
        assert merge([one, other], any_recipe=True).recipe == one.recipe
        assert mixed([one, other]) and not mixed([one, one])
        with pytest.raises(BankError, match="Bank 2 has other categories"):
            merge([one, make_bank(("cat", "tree", "sun"))], any_recipe=True)

    def test_other_sizes_never_mix(self) -> None:
        one, other = make_bank(noises=2), make_bank(noises=2, first=2)
        other = replace(other, recipe=replace(other.recipe, width=20))
        with pytest.raises(BankError, match="width 20 instead of 16; merge banks of one recipe.$"):
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
        assert agreement(twin)[0, 1] == pytest.approx(1, abs=1e-5)

    def test_heat_maps_show_what_is_not_kept_as_such(self) -> None:
        bank = make_bank()
        assert not category_map(bank, 0, 1).isnan().any()
        assert category_map(prune(bank, 0.02), 0, 1).isnan().any()
        assert heat_maps(bank, 1).shape == (48, 3 * 48 + 2 * 6, 3)

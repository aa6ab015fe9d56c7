"""Winners by rank, and what happens when there are too few."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
import torch
from banks import make_bank, slow_rank
from winning_tickets.tickets.bank.bank import BankError
from winning_tickets.tickets.layout.build import KEEP, Layout
from winning_tickets.tickets.layout.regions import MaskRegion, Region, assign_cells
from winning_tickets.tickets.layout.select import (
    REFUSE,
    RELAX,
    REPEAT,
    Rank,
    Thresholds,
    eligible,
    make_pools,
    rank,
    threshold_pools,
)
from winning_tickets.tickets.noise import plain_noise, to_blocks

TWO = (Region("cat", 0, 0, 0.5, 1), Region("tree", 0.5, 0, 1, 0.5))


class TestRank:
    def test_rank_is_the_share_that_scores_lower(self) -> None:
        found = rank(torch.tensor([0.5, 0.1, 0.9, 0.7]))
        torch.testing.assert_close(found, torch.tensor([0.375, 0.125, 0.875, 0.625]))
        ties = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.5])
        torch.testing.assert_close(rank(ties), slow_rank(ties))
        many = torch.randint(0, 90, (999,), generator=torch.Generator().manual_seed(0)) / 90
        twice = 2 * (many < many[:, None]).sum(1) + (many == many[:, None]).sum(1)
        assert torch.equal(rank(many), (twice.double() / (2 * len(many))).float())

    def test_winners_are_the_best_share_by_rank_difference(self) -> None:
        bank = make_bank(noises=50)
        pools = make_pools(bank, Rank(0.05, 0.1), {"cat": 1, "tree": 1}, 1)
        n = len(bank.blocks)
        u, v = bank.score("cat", "tree"), bank.score("tree", "cat")
        gap = slow_rank(u) - slow_rank(v)
        inside = torch.isin(torch.arange(n), pools.winners["cat"])
        assert int(inside.sum()) == n // 20 and gap[inside].min() >= gap[~inside].max() - 1e-6
        high = torch.maximum(slow_rank(u), slow_rank(v))
        low = torch.isin(torch.arange(n), pools.losers)
        won = torch.isin(torch.arange(n), torch.cat(list(pools.winners.values())))
        assert int(low.sum()) > n // 20 and not bool((low & won).any())
        assert high[low].max() <= high[~low & ~won].min() + 1e-6

    def test_the_best_come_first_and_temperature_0_takes_only_them(self) -> None:
        bank = make_bank(noises=50)
        cold, hot = Rank(0.1, temperature=0.0), Rank(0.1, temperature=1.0)
        pool = make_pools(bank, cold, {"cat": 8}, 1).winners["cat"]
        average = bank.average("cat")[pool]
        assert bool((average[:-1] >= average[1:]).all())
        assert eligible(pool, 8, cold).tolist() == pool[:8].tolist()
        assert len(eligible(pool, 8, hot)) == len(pool)
        assert len(eligible(pool, 8, replace(hot, temperature=0.5))) == 8 + (len(pool) - 8) // 2

    @pytest.mark.parametrize("wrong", [{"best": 0.0}, {"best_background": 1.5}, {"temperature": -1.0}])
    def test_settings_outside_their_range_are_named(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Rank(**wrong)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    def test_any_number_of_categories(self, count: int) -> None:
        names = ("a", "b", "c", "d", "e")[:count]
        bank = make_bank(names, noises=20)
        for selection in (Rank(0.1, 0.1), Thresholds()):
            pools = make_pools(bank, selection, dict.fromkeys(names, 3), 5)
            drawn = torch.cat([*pools.winners.values(), pools.losers]).tolist()
            assert len(drawn) == len(set(drawn)), "a ticket is in two pools"
            assert all(len(pool) >= 3 for pool in pools.winners.values()) and len(pools.losers) >= 5


class TestShortage:
    strict = Thresholds(t_pos=0.9, t_neg=0.1, t_bg=0.05)

    def test_relax_takes_the_nearest_and_no_more_than_needed(self) -> None:
        bank = make_bank(noises=10)
        enough = threshold_pools(bank, ["cat", "tree"], self.strict)
        pools = make_pools(bank, self.strict, {"cat": 12, "tree": 1}, 1, RELAX)
        assert len(pools.winners["cat"]) == 12
        assert set(enough.winners["cat"].tolist()) <= set(pools.winners["cat"].tolist())
        far = self.strict.excess(bank, ["cat", "tree"]).winners["cat"]
        taken = far[pools.winners["cat"]].max()
        left = torch.ones(len(far), dtype=torch.bool)
        left[torch.cat([*pools.winners.values(), pools.losers])] = False
        assert bool((far[left] >= taken).all())
        assert (
            f'12 of 12 cells of "cat" get tickets that miss the limits by up to {taken:.2g}' in pools.notes[0]
        )

    def test_a_widened_rank_says_what_share_the_tickets_are_from(self) -> None:
        """Rule: a number that is shown means something, and a bad one warns."""
        bank = make_bank(noises=50)
        n = len(bank.blocks)
        for best, need, warned in ((0.01, 12, False), (0.04, 48, True), (0.00999, 9, False)):
            pools = make_pools(bank, Rank(best, 0.2), {"cat": need, "tree": 1}, 1, RELAX)
            gap = bank.rank("cat", "tree") - bank.rank("tree", "cat")
            share = float((gap >= gap[pools.winners["cat"]].min()).float().mean())
            (note,) = pools.notes
            told = re.search(r"from the best ([\d.]+)% of the bank instead of ([\d.]+)%", note)
            assert told and float(told[1]) / 100 == pytest.approx(share, rel=0.05) and told[1] != told[2]
            assert f'{need - round(best * n)} of {need} cells of "cat"' in note
            assert note.startswith("Warning") is warned is (share > 0.05)

    def test_a_widened_background_warns_only_beyond_a_fifth(self) -> None:
        bank = make_bank(noises=50)
        for need, warned in ((100, False), (400, True)):
            (note,) = make_pools(bank, Rank(0.05, 0.05), {"cat": 1, "tree": 1}, need, RELAX).notes
            assert "for the background get tickets from the least wanted" in note
            assert note.startswith("Warning") is warned

    def test_a_ticket_within_the_limits_is_not_told_as_beyond_them(self) -> None:
        """The rule: what another category has to spare is as good as one's own."""
        bank = make_bank(noises=2)
        greedy = Thresholds(t_pos=0.0, t_neg=1.0, t_bg=1.0)
        pools = make_pools(bank, greedy, {"cat": 10, "tree": 10}, 12, RELAX)
        assert not pools.notes and len(pools.losers) == 12

    def test_what_one_category_has_to_spare_serves_another(self) -> None:
        """The rule: a bank that holds enough for the image is enough, however its tickets lean."""
        bank = make_bank(noises=2)
        greedy = Thresholds(t_pos=0.0, t_neg=1.0, t_bg=0.0)
        pools = make_pools(bank, greedy, {"cat": 10, "tree": 10}, 12, RELAX)
        every = torch.cat([*pools.winners.values(), pools.losers])
        assert len(every) == len(every.unique()) == 32
        assert len(pools.losers) == 12 and min(map(len, pools.winners.values())) >= 10

    def test_repeat_keeps_a_small_pool_and_refuses_an_empty_one(self) -> None:
        bank = make_bank(noises=200)
        small = threshold_pools(bank, ["cat", "tree"], self.strict)
        have = len(small.winners["cat"])
        assert have > 0
        pools = make_pools(bank, self.strict, {"cat": have + 9, "tree": 1}, 0, REPEAT)
        assert pools.winners["cat"].tolist() == small.winners["cat"].tolist() and not pools.notes
        never = replace(self.strict, t_pos=1.0)
        with pytest.raises(BankError, match='50 tickets of "cat" are needed and none found.*lower t_pos'):
            make_pools(bank, never, {"cat": 50, "tree": 1}, 0, REPEAT)

    def test_error_says_how_many_are_needed_how_many_there_are_and_what_to_change(self) -> None:
        bank = make_bank(noises=200)
        have = len(threshold_pools(bank, ["cat", "tree"], self.strict).winners["cat"])
        with pytest.raises(BankError) as told:
            make_pools(bank, self.strict, {"cat": have + 9, "tree": 1}, 0, REFUSE)
        numbers = f'{have + 9} tickets of "cat" are needed and {have} found (3200 in the bank)'
        assert numbers in str(told.value)
        assert "lower t_pos (now 0.9" in str(told.value) and "shortage to relax" in str(told.value)
        with pytest.raises(BankError, match="of the bank"):
            make_pools(bank, Rank(0.0001, 0.01), {"cat": 50, "tree": 1}, 0, REFUSE)

    @pytest.mark.parametrize("shortage", [RELAX, REPEAT, REFUSE])
    def test_a_bank_smaller_than_the_image_never_hangs(self, shortage: str) -> None:
        bank = make_bank(noises=1)
        layout = Layout(bank, TWO, 256, 256, Rank(0.05), shortage=shortage)
        if shortage == REPEAT:
            assert layout.build(0).shape == (1, 4, 256, 256)
        else:
            with pytest.raises(BankError, match=r"are needed .* \(16 in the bank\)"):
                layout.build(0)


class TestLayout:
    layout = Layout(make_bank(noises=40), TWO, 22, 16, Rank(0.1, 0.1))

    def tickets_used(self, layout: Layout, index: int = 0) -> list[int]:
        return [int(i) for i in layout.arrange(3, index).flatten() if i >= 0]

    def test_no_ticket_twice_in_an_image(self) -> None:
        for index in range(5):
            used = self.tickets_used(self.layout, index)
            assert len(set(used)) == len(used) == 20

    def test_candidates_differ_and_the_first_is_what_is_built(self) -> None:
        plain = self.layout.plain(3, (0,))[0]
        first, second = (self.layout.arrange(3, 0, j) for j in (0, 1))
        assert torch.equal(self.layout.place(plain, first), self.layout.build(3)[0])
        assert not torch.equal(first, second)

    def test_exchange_replaces_the_worst_and_nothing_else(self) -> None:
        chosen = self.layout.arrange(3)
        worth = torch.rand(chosen.shape, generator=torch.Generator().manual_seed(1))
        after = self.layout.exchange(chosen, worth, 0, torch.Generator().manual_seed(2))
        groups = self.layout.groups()
        for group in (-1, 0, 1):
            cells = groups == group
            changed = (after != chosen)[cells]
            assert int(changed.sum()) == round(0.3 * int(cells.sum()))
            assert float(worth[cells][changed].max()) < float(worth[cells][~changed].min())
            pool = (
                self.layout.pools.winners[("cat", "tree")[group]] if group >= 0 else self.layout.pools.losers
            )
            assert bool(torch.isin(after[cells], pool).all())
        assert len(after.unique()) == after.numel()

    def test_strength_0_is_stock_noise_and_1_is_tickets_only(self) -> None:
        """The rule: strength 0 is bit for bit the seed's plain noise, whatever else is set."""
        for how in ("none", "standardize", "gaussianize"):
            off = replace(self.layout, strength=0.0, calibration=how)
            assert torch.equal(off.build(5, (0, 1)), plain_noise(5, (4, 16, 22), (0, 1)))
        on = to_blocks(self.layout.build(5), 4)[0]
        chosen = self.layout.arrange(5)
        assert torch.equal(on, self.layout.bank.blocks[chosen])

    def test_strength_between_keeps_the_variance(self) -> None:
        half = replace(self.layout, strength=0.6)
        plain, full = half.plain(5, (0,))[0], self.layout.build(5)[0]
        expected = 0.8 * plain[:, :, :20] + 0.6 * full[:, :, :20]
        torch.testing.assert_close(half.build(5)[0][:, :, :20], expected)

    def test_kept_background_is_the_seeds_own_noise(self) -> None:
        kept = replace(self.layout, background=KEEP)
        built, plain = (to_blocks(x, 4)[0] for x in (kept.build(999), kept.plain(999, (0,))))
        outside = kept.groups() < 0
        assert torch.equal(built[outside], plain[outside])
        assert not bool((built[~outside] == plain[~outside]).any())

    def test_soft_edges_mix_by_the_mask(self) -> None:
        mask = torch.linspace(1, 0, 16).expand(1, 16, 16).clone()
        layout = Layout(
            make_bank(noises=40), (MaskRegion("cat", mask),), 16, 16, Rank(0.5, 0.5), background=KEEP
        )
        hard, soft = layout.weight(), replace(layout, soft=True).weight()
        owned = hard == 1
        assert torch.equal(
            hard, (layout.groups() == 0).float().repeat_interleave(4, 0).repeat_interleave(4, 1)
        )
        torch.testing.assert_close(soft[owned], mask[0][owned])
        assert not soft[~owned].any()

    def test_every_image_of_a_batch_has_its_own_mask(self) -> None:
        left = torch.zeros(1, 8, 8)
        left[:, :, :4] = 1
        masks = MaskRegion("cat", torch.cat([left, left.flip(2)]))
        layout = Layout(make_bank(noises=40), (masks,), 16, 16, Rank(0.1, 0.1))
        assert torch.equal(layout.groups(0), layout.groups(1).flip(1))
        assert torch.equal(layout.build(1, (1,))[0], layout.build(1, (0, 1))[1])

    def test_masks_of_different_numbers_are_laid_out_as_they_are_asked_for(self) -> None:
        """Rule: cost grows with the images asked for, not with the product of how many masks there are."""
        masks = []
        for number, name in ((7, "cat"), (11, "tree"), (13, "car")):
            mask = torch.zeros(number, 64, 64)
            for k in range(number):
                mask[k, 20 * len(masks) : 20 * len(masks) + 14, 2 * k : 2 * k + 24] = 1
            masks.append(MaskRegion(name, mask))
        layout = Layout(make_bank(noises=40), tuple(masks), 64, 64, Rank(0.05, 0.3))
        began = time.process_time()
        batch = layout.build(1, (0, 1, 1000))
        assert time.process_time() - began < 2
        assert len(layout._owners) == 3
        for place, index in enumerate((0, 1, 1000)):
            expected = assign_cells(layout.regions, 16, 16, index)
            assert torch.equal(layout.owner(index), expected)
            assert torch.equal(layout.build(1, (index,))[0], batch[place])
        for index in range(200):
            layout.owner(index)
        assert len(layout._owners) <= 64
        assert torch.equal(layout.owner(1001), layout.owner(0))

    def test_an_image_is_the_same_in_any_batch_also_when_tickets_are_short(self) -> None:
        """Rule: what an image gets does not depend on how many images are made with it."""
        size = torch.zeros(2, 16, 16)
        size[0, :4, :4] = 1
        size[1, :, :12] = 1
        short = Layout(make_bank(noises=2), (MaskRegion("cat", size),), 16, 16, Rank(0.05, 0.2))
        alone = replace(short, regions=(MaskRegion("cat", size[:1]),))
        assert torch.equal(alone.build(3, (0,)), short.build(3, (0, 1))[:1])
        notes = short.describe(2).splitlines()[1:]
        assert any(note.startswith("Image 2: ") and '12 cells of "cat"' in note for note in notes)
        assert not [note for note in short.describe(1).splitlines()[1:] if '"cat"' in note]

    def test_a_category_the_bank_lacks_is_named_with_those_it_has(self) -> None:
        layout = Layout(make_bank(), (Region("dog", 0, 0, 1, 1),), 16, 16)
        with pytest.raises(BankError, match='no tickets of "dog"; it has: cat, tree, car'):
            layout.build(0)

    @pytest.mark.parametrize(
        "setting, value", [("strength", 1.5), ("strength", float("nan")), ("background", "x")]
    )
    def test_settings_outside_their_range_are_named(self, setting: str, value: object) -> None:
        with pytest.raises(ValueError, match=f"{setting} is"):
            replace(self.layout, **{setting: value})

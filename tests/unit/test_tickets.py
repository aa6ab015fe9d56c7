"""The method, checked against small cases worked out by hand. No ComfyUI."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from banks import make_bank
from winning_tickets.tickets import noise
from winning_tickets.tickets.bank.bank import BankError, TicketBank
from winning_tickets.tickets.layout.build import Layout, image_generator
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.tickets.layout.select import REFUSE, REPEAT, Thresholds, draw, threshold_pools
from winning_tickets.tickets.score import paper_score


def paper_scores(attention: torch.Tensor) -> torch.Tensor:
    """The released code, word for word: z-score, then min-max, of one map."""
    z = (attention - attention.mean()) / attention.std()
    return (z - z.min()) / (z.max() - z.min())


class TestNoise:
    def test_blocks_are_patches_in_raster_order(self) -> None:
        x = torch.arange(2 * 4 * 6).view(1, 2, 4, 6).float()
        blocks = noise.to_blocks(x, 2)
        assert blocks.shape == (1, 2, 3, 2, 2, 2)
        assert torch.equal(blocks[0, 1, 2], x[0, :, 2:4, 4:6])

    def test_placing_all_blocks_gives_the_noise_back(self) -> None:
        x = torch.randn(3, 9, 13)
        blank = torch.zeros_like(x)
        placed = noise.place_blocks(blank, noise.to_blocks(x[None], 4)[0])
        assert torch.equal(placed[:, :8, :12], x[:, :8, :12])
        assert not placed[:, 8:].any() and not placed[:, :, 12:].any()

    def test_noise_leaves_the_global_generator_alone(self) -> None:
        torch.manual_seed(1)
        expected = torch.rand(1)
        torch.manual_seed(1)
        noise.plain_noise(5, (4, 8, 8), (0, 3))
        assert torch.equal(torch.rand(1), expected)

    def test_a_batch_that_is_drawn_image_by_image_costs_no_more_than_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The rule: cost grows with the batch, not with its square; in any order the images are the same."""
        expected = noise.plain_noise(77, (4, 3, 5), range(40))
        drawn: list[int] = []
        randn = torch.randn

        def counted(*size: int, **how: Any) -> torch.Tensor:
            drawn.append(1)
            return randn(*size, **how)

        monkeypatch.setattr(torch, "randn", counted)
        for index in range(40):
            for seed in (78, 79):
                noise.plain_noise(seed, (4, 3, 5), (index,))
        assert len(drawn) == 80
        for index in (7, 39, 0, 0, 12):
            assert torch.equal(noise.plain_noise(77, (4, 3, 5), (index,))[0], expected[index])


class TestScore:
    def test_equals_the_released_formula(self) -> None:
        attention = torch.rand(2, 5, 16, 16)
        scores = paper_score(attention)
        for row in range(2):
            for image in range(5):
                torch.testing.assert_close(scores[row, image], paper_scores(attention[row, image]))
        assert (scores.amin((-2, -1)) == 0).all() and (scores.amax((-2, -1)) == 1).all()

    def test_flat_map_scores_nothing(self) -> None:
        assert not paper_score(torch.full((1, 4, 4), 0.3)).any()


class TestSelect:
    def pools_by_hand(self, bank: TicketBank, rule: object) -> list[int]:
        return [i for i in range(len(bank.blocks)) if rule(i)]  # type: ignore[operator]

    def test_two_categories(self) -> None:
        bank, t = make_bank(), Thresholds()
        pools = threshold_pools(bank, ["cat", "tree", "cat"])
        u, v = bank.score("cat", "tree"), bank.score("tree", "cat")
        assert pools.winners["cat"].tolist() == self.pools_by_hand(
            bank, lambda i: u[i] > t.t_pos and v[i] < t.t_neg
        )
        assert pools.winners["tree"].tolist() == self.pools_by_hand(
            bank, lambda i: v[i] > t.t_pos and u[i] < t.t_neg
        )
        assert pools.losers.tolist() == self.pools_by_hand(bank, lambda i: u[i] < t.t_bg and v[i] < t.t_bg)

    def test_one_category_uses_the_average(self) -> None:
        bank, t = make_bank(), Thresholds()
        pools = threshold_pools(bank, ["car"])
        a = bank.average("car")
        assert pools.winners["car"].tolist() == self.pools_by_hand(bank, lambda i: a[i] > t.t_pos_single)
        assert pools.losers.tolist() == self.pools_by_hand(bank, lambda i: a[i] < t.t_bg_single)

    def test_three_categories_have_no_negative_condition(self) -> None:
        bank, t = make_bank(), Thresholds()
        pools = threshold_pools(bank, bank.categories)
        s = bank.score
        assert pools.winners["tree"].tolist() == self.pools_by_hand(
            bank, lambda i: s("tree", "cat")[i] > t.t_pos and s("tree", "car")[i] > t.t_pos
        )
        assert pools.losers.tolist() == self.pools_by_hand(
            bank, lambda i: all(bank.average(c)[i] < t.t_bg for c in bank.categories)
        )

    def test_thresholds_outside_0_to_1_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"t_neg is 1\.5"):
            Thresholds(t_neg=1.5)

    def test_drawing_uses_the_whole_pool_before_it_repeats(self) -> None:
        pool = torch.tensor([3, 5, 8])
        drawn = draw(pool, 8, torch.Generator().manual_seed(0)).tolist()
        assert sorted(drawn[:3]) == [3, 5, 8] and sorted(drawn[3:6]) == [3, 5, 8]
        assert len(drawn) == 8


class TestBuild:
    layout = Layout(
        make_bank(noises=40),
        (Region("cat", 0, 0, 0.5, 1), Region("tree", 0.5, 0, 1, 0.5)),
        width=22,
        height=16,
    )

    def test_every_cell_holds_a_ticket_of_its_pool(self) -> None:
        layout, bank = self.layout, self.layout.bank
        pools = threshold_pools(bank, ["cat", "tree"])
        owner = layout.owner()
        built = noise.to_blocks(layout.build(1), 4)[0]
        for row in range(owner.shape[0]):
            for column in range(owner.shape[1]):
                who = int(owner[row, column])
                pool = [pools.winners["cat"], pools.winners["tree"], pools.losers][who]
                same = (bank.blocks[pool] == built[row, column]).all(-1).all(-1).all(-1)
                assert int(same.sum()) >= 1

    def test_edge_beyond_the_last_block_is_the_seeds_plain_noise(self) -> None:
        built = self.layout.build(7, (0, 2))
        plain = noise.plain_noise(7, (4, 16, 22), (0, 2))
        assert torch.equal(built[..., 20:], plain[..., 20:])
        assert not torch.equal(built[..., :20], plain[..., :20])

    def test_same_seed_same_noise_for_any_batch_and_order(self) -> None:
        together = self.layout.build(3, (0, 1, 2))
        assert torch.equal(self.layout.build(3, (2, 0)), together[[2, 0]])
        assert not torch.equal(self.layout.build(4), together[:1])

    def test_empty_pool_is_an_error_that_says_what_to_change(self) -> None:
        strict = replace(self.layout, shortage=REPEAT, selection=Thresholds(t_pos=1.0))
        with pytest.raises(BankError, match='tickets of "cat" are needed and none found.*lower t_pos'):
            strict.build(0)
        strict = replace(self.layout, shortage=REPEAT, selection=Thresholds(t_bg=0.0))
        with pytest.raises(BankError, match="for the background.*raise t_bg"):
            strict.build(0)

    def test_no_background_needs_no_losers(self) -> None:
        full = Layout(
            self.layout.bank,
            (Region("cat", 0, 0, 1, 1),),
            16,
            16,
            Thresholds(t_bg_single=0.0),
            shortage=REFUSE,
        )
        assert full.build(0).shape == (1, 4, 16, 16)

    def test_draws_are_the_same_on_every_machine(self) -> None:
        drawn = torch.rand(2, generator=image_generator(2**64 - 1, 3))
        assert drawn.tolist() == pytest.approx([0.067708, 0.981780], abs=1e-6)

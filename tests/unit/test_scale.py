"""What grows with the size of a bank, of an image or of a layout grows no faster than it; no timings."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from banks import make_bank
from winning_tickets.tickets.bank.bank import ROWS_KEPT, TicketBank
from winning_tickets.tickets.bank.combine import merge, prune
from winning_tickets.tickets.layout import regions
from winning_tickets.tickets.layout.regions import MaskRegion
from winning_tickets.tickets.layout.select import Rank, Selection, Thresholds
from winning_tickets.tickets.score import rank
from winning_tickets.tickets.search import transport
from winning_tickets.tickets.search.fit import best_other, cell_worth
from winning_tickets.tickets.search.swap import block_value

MANY = tuple(f"thing {k}" for k in range(14))


def slow_row(bank: TicketBank, category: str, companion: str) -> int:
    """By reading all scores of the bank."""
    me, other = bank.index(category), bank.index(companion)
    prompts: dict[int, set[int]] = {}
    for c, p in bank.measured:
        prompts.setdefault(p, set()).add(c)
    both = sorted((len(m), p) for p, m in prompts.items() if me in m and other in m)
    own = [(1, p) for p, m in prompts.items() if m == {me}]
    return bank.measured.index((me, (both or own)[0][1]))


@pytest.mark.parametrize("scheme", ["pairs", "singles", "joint"])
def test_the_row_of_two_categories(scheme: str) -> None:
    bank = make_bank(("cat", "tree", "car", "sun"), 2, scheme=scheme)
    for u in bank.categories:
        for v in bank.categories:
            assert bank.row(u, v) == slow_row(bank, u, v)


def test_a_row_of_several_prompts_is_the_one_of_the_fewest_categories() -> None:
    bank = make_bank(("cat", "tree"), 2, scheme="pairs")
    more = replace(
        bank,
        prompts=("cat, tree and nothing", *bank.prompts, "cat"),
        measured=((0, 1), (1, 1), (0, 2)),
        **{name: torch.cat([getattr(bank, name)] * 2)[:3] for name in ("attention", "low", "high")},
    )
    assert [more.row("cat", "tree"), more.row("tree", "cat"), more.row("cat", "cat")] == [0, 1, 2]


class Read(tuple[Any, ...]):
    """Counts how often all of it is read."""

    times = 0

    def __iter__(self) -> Any:
        Read.times += 1
        return super().__iter__()


def test_scores_are_found_without_reading_the_list_of_them_for_each() -> None:
    """Rule: the time of a bank's scores grew with the fourth power of its categories, 2 s for 50."""
    bank = make_bank(MANY, 2)
    counted = replace(bank, measured=Read(bank.measured))
    Read.times = 0
    assert torch.equal(prune(counted, 0.2).blocks, prune(bank, 0.2).blocks)
    assert 0 < Read.times <= 4 * len(MANY) + 4


def all_at_once(rule: Selection, bank: TicketBank, present: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """How far the winners are, by tables of all pairs."""
    found = {}
    for u in present:
        others = [v for v in present if v != u]
        if isinstance(rule, Rank):
            gaps = torch.stack([bank.rank(u, v) - bank.rank(v, u) for v in others]).amin(0)
            found[u] = 1 - rank(gaps) - rule.best
        else:
            far = [rule.t_pos - bank.score(u, v) for v in others]
            if len(present) != 3:
                far += [bank.score(v, u) - rule.t_neg for v in others]
            found[u] = torch.stack(far).amax(0)
    return found


@pytest.mark.parametrize("rule", [Rank(), Thresholds()])
def test_winners_are_found_pair_by_pair(rule: Selection) -> None:
    """Rule: the scores of all pairs of categories were held at once, as much as the bank itself."""
    bank = make_bank(MANY, 2)
    for present in (MANY[:2], MANY[:3], MANY[:4], MANY):
        found = rule.excess(bank, present)
        expected = all_at_once(rule, bank, present)
        assert list(found.winners) == list(present)
        assert all(torch.equal(found.winners[c], expected[c]) for c in present)
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    class Counted(TicketBank):
        def _stretched(self, rows: list[int]) -> torch.Tensor:
            nonlocal most
            scores = super()._stretched(rows).clone()
            alive.add(scores)
            gc.collect(0)
            most = max(most, len(alive))
            return scores

    gc.collect()
    rule.excess(Counted(**{name: getattr(bank, name) for name in bank.__dataclass_fields__}), MANY)
    assert 10 < most <= ROWS_KEPT + 4 < len(MANY) * (len(MANY) - 1)


def test_merged_banks_are_those_that_were_put_together() -> None:
    one, other = make_bank(noises=3), make_bank(noises=4, first=2, attention_seed=1)
    half = other.take(torch.arange(1, len(other.blocks), 2))
    merged = merge([one, half])
    assert merged.seeds == (0, 1, 2, 3, 4, 5)
    kept = half.noise > 0
    for name, along in (("blocks", 0), ("cell", 0), ("attention", 1)):
        new = getattr(half, name).movedim(along, 0)[kept].movedim(0, along)
        assert torch.equal(getattr(merged, name), torch.cat([getattr(one, name), new], along))
    assert merged.noise.tolist() == one.noise.tolist() + (half.noise[kept] + 2).tolist()
    assert torch.equal(merged.low, torch.cat([one.low, other.low[:, 1:]], 1))
    assert all(getattr(merged, name).is_contiguous() for name in ("blocks", "attention", "low"))


def dense_coverage(mask: torch.Tensor, rows: float, columns: float) -> torch.Tensor:
    """Every pixel against every cell."""
    shares = [
        regions._overlap(torch.linspace(0, cells, n + 1, dtype=torch.float64), int(cells))
        for n, cells in zip(mask.shape, (rows, columns), strict=True)
    ]
    return shares[0] @ mask.double() @ shares[1].T


@pytest.mark.parametrize("size", [(64, 64, 8, 8), (19, 13, 4.75, 3.25), (7, 200, 16, 5.5), (1, 1, 3, 3)])
def test_a_mask_is_spread_over_cells_by_its_pixels(size: tuple[int, int, float, float]) -> None:
    """Rule: each pixel was held against every cell: twice the side took 8 times as long, 8192 pixels 3 s."""
    h, w, rows, columns = size
    mask = (torch.rand(h, w, generator=torch.Generator().manual_seed(1)) * 4).round() / 4
    mask[0, 0] = 1
    found = MaskRegion("cat", mask[None]).coverage(rows, columns)
    torch.testing.assert_close(found, dense_coverage(mask, rows, columns), rtol=0, atol=1e-14)
    assert regions._shares(8192, 1024).nnz == 8192


def cells(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """So many that come, and as many others that are free."""
    order = np.random.default_rng(0).permutation(side**2)
    masks = np.zeros((2, side**2), bool)
    masks[0, order[:count]] = masks[1, order[count : 2 * count]] = True
    return masks[0].reshape(side, side), masks[1].reshape(side, side)


def distance(coming: np.ndarray, to: np.ndarray) -> float:
    there = np.argwhere(coming)
    return float(((there - np.stack(np.divmod(to, coming.shape[1]), 1)) ** 2).sum())


def test_many_blocks_are_moved_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: moving blocks took the square of their number: 5 GB at 4096 pixels with blocks of 16."""
    coming, free = cells(700, 40)
    best = distance(coming, transport.nearest(coming, free))
    sizes = []
    solve = transport.linear_sum_assignment
    monkeypatch.setattr(transport, "MOST_AT_ONCE", 300)
    monkeypatch.setattr(transport, "PART", 100)
    monkeypatch.setattr(transport, "linear_sum_assignment", lambda c: sizes.append(len(c)) or solve(c))
    to = transport.nearest(coming, free)
    assert sorted(to) == np.flatnonzero(free).tolist()
    assert sum(sizes) == 700 and max(sizes) <= 100
    assert best <= distance(coming, to) < 1.6 * best


def test_the_best_other_score() -> None:
    """Rule: every category was held against a table of all others."""
    scores = (torch.rand(2, 6, 4, 5, generator=torch.Generator().manual_seed(2)) * 4).round() / 4
    groups = torch.arange(20).view(4, 5) % 7 - 1
    slow = torch.stack([torch.cat([scores[:, :g], scores[:, g + 1 :]], 1).amax(1) for g in range(6)], 1)
    assert torch.equal(best_other(scores, 1), slow)
    worth = torch.where(groups < 0, -scores.amax(1), torch.zeros(2, 4, 5))
    for g in range(6):
        worth = torch.where(groups == g, (scores - slow)[:, g], worth)
    assert torch.equal(cell_worth(scores, groups), worth)
    value = torch.cat([(scores - slow)[0].flatten(1), -scores[0].amax(0).flatten()[None]]).T
    assert torch.equal(block_value(scores[0]), value)
    assert torch.equal(cell_worth(scores[:, :1], groups.clamp_max(0)).abs(), scores[:, 0])

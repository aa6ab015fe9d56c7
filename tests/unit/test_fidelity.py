"""Scores, averages and pools against the published procedure (Mao et al. 2024, released code), step by step.

What the released code does is written here once more, in loops over plain numbers, on fixed maps.
"""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from winning_tickets.tickets import noise
from winning_tickets.tickets.bank.bank import Recipe, TicketBank
from winning_tickets.tickets.layout.select import Thresholds, threshold_pools

LABELS = ("castle", "lake", "sky")
NOISES, SIDE = 6, 16
PAIRS = tuple(combinations(range(len(LABELS)), 2))


def fixed_maps() -> torch.Tensor:
    """Attention [rows, noises, 16, 16]: two rows for each pair of labels, as a softmax would give."""
    generator = torch.Generator().manual_seed(11)
    drawn = torch.randn(2 * len(PAIRS), NOISES, SIDE // 4, SIDE // 4, generator=generator)
    smooth = torch.nn.functional.interpolate(drawn, (SIDE, SIDE), mode="bilinear")
    fine = torch.randn(smooth.shape, generator=generator)
    return torch.sigmoid(smooth + 0.3 * fine - 4)


def published_base(maps: torch.Tensor) -> dict[str, dict[str, list[float]]]:
    """base[u][v][i]: the score of block i for u when paired with v; base[u]["average"]: mean over v."""
    base: dict[str, dict[str, list[float]]] = {u: {} for u in LABELS}
    for number, pair in enumerate(PAIRS):
        for which in (0, 1):
            u, v = (LABELS[pair[which]], LABELS[pair[1 - which]])
            scores: list[float] = []
            for one in maps[2 * number + which]:
                low, high = one.min(), one.max()
                scores += ((one - low) / (high - low)).flatten().tolist()
            base[u][v] = scores
    for of in base.values():
        columns = list(of.values())
        of["average"] = torch.tensor(columns).mean(0).tolist()
    return base


def published_pools(
    base: dict[str, dict[str, list[float]]], words: tuple[str, ...], t: Thresholds
) -> tuple[dict[str, list[int]], list[int]]:
    """Object pools and background pool, as `product_image` for one, two and three words."""
    blocks = range(len(base[words[0]]["average"]))
    average = {u: base[u]["average"] for u in words}
    if len(words) == 1:
        (u,) = words
        return (
            {u: [i for i in blocks if average[u][i] > t.t_pos_single]},
            [i for i in blocks if average[u][i] < t.t_bg_single],
        )
    if len(words) == 2:
        u, v = words
        objects = {
            a: [i for i in blocks if base[a][b][i] > t.t_pos and base[b][a][i] < t.t_neg]
            for a, b in ((u, v), (v, u))
        }
        return objects, [i for i in blocks if base[u][v][i] < t.t_bg and base[v][u][i] < t.t_bg]
    objects = {a: [i for i in blocks if all(base[a][b][i] > t.t_pos for b in words if b != a)] for a in words}
    return objects, [i for i in blocks if all(average[a][i] < t.t_bg for a in words)]


def bank_of(maps: torch.Tensor) -> TicketBank:
    drawn = torch.cat([noise.plain_noise(s, (4, 64, 64)) for s in range(NOISES)])
    return TicketBank.of_maps(
        categories=LABELS,
        prompts=tuple(f"a {LABELS[u]} and a {LABELS[v]}" for u, v in PAIRS),
        measured=tuple((c, i) for i, pair in enumerate(PAIRS) for c in pair),
        seeds=tuple(range(NOISES)),
        maps=maps,
        blocks=noise.to_blocks(drawn, 4).flatten(0, 2),
        recipe=Recipe("input 8", 4, 4, 64, 64, 14.6, 0.18215, "BaseModel"),
    )


MAPS = fixed_maps()
BANK, BASE = bank_of(MAPS), published_base(MAPS)


def test_scores_and_averages_equal_the_published_ones_exactly() -> None:
    for u in LABELS:
        for v in LABELS:
            if u != v:
                assert BANK.score(u, v).tolist() == BASE[u][v]
        assert BANK.average(u).tolist() == BASE[u]["average"]


def test_the_published_z_score_changes_nothing_but_rounding() -> None:
    z = (MAPS - MAPS.mean((-2, -1), keepdim=True)) / MAPS.std((-2, -1), keepdim=True)
    through = bank_of(z)
    for u, v in PAIRS:
        ours = BANK.score(LABELS[u], LABELS[v])
        torch.testing.assert_close(through.score(LABELS[u], LABELS[v]), ours, rtol=0, atol=2e-6)


@pytest.mark.parametrize("words", [LABELS[:1], LABELS[:2], LABELS[1:], LABELS])
@pytest.mark.parametrize(
    "thresholds",
    [Thresholds(), Thresholds(0.4, 0.4, 0.2, 0.4, 0.2)],
    ids=["defaults", "the authors' notebook"],
)
def test_pools_equal_the_published_ones_exactly(words: tuple[str, ...], thresholds: Thresholds) -> None:
    objects, background = published_pools(BASE, words, thresholds)
    pools = threshold_pools(BANK, words, thresholds)
    assert {u: pool.tolist() for u, pool in pools.winners.items()} == objects
    assert pools.losers.tolist() == background
    assert all(objects.values()) and background, "an empty pool would compare nothing"


def test_blocks_are_the_published_rows() -> None:
    """`blocks` [N * 256, 4, 4, 4], noise after noise, in raster order of the 16x16 map."""
    for index in (0, 17, 255, 256 + 33):
        image, cell = divmod(index, SIDE * SIDE)
        row, column = divmod(cell, SIDE)
        drawn = noise.plain_noise(image, (4, 64, 64))
        expected = drawn[0, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert torch.equal(BANK.blocks[index], expected)

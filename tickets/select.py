"""Which blocks win where: the paper's thresholds (released code, `product_image`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .bank import BankError, TicketBank


@dataclass(frozen=True)
class Thresholds:
    """The paper's defaults. Scores lie in 0..1; `single` ones apply to a lone category."""

    t_pos: float = 0.3
    t_neg: float = 0.3
    t_bg: float = 0.1
    t_pos_single: float = 0.5
    t_bg_single: float = 0.3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; scores and thresholds lie between 0 and 1.")


@dataclass(frozen=True)
class Pools:
    """Indices into a bank's blocks: winners per category, and losers for the background."""

    winners: dict[str, torch.Tensor]
    losers: torch.Tensor


def _all(conditions: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(conditions).all(0).nonzero().flatten()


def threshold_pools(
    bank: TicketBank, categories: Sequence[str], thresholds: Thresholds | None = None
) -> Pools:
    """Winning tickets of each category and losing ones, for the categories present in one image.

    One category: its average score counts. Two: a winner of u scores above t_pos for u and below t_neg
    for v, a loser below t_bg for both. Three: as the released code, winners need no low score
    for the others and losers are judged by the averages. More: the rule for two, against each other.
    """
    t = thresholds or Thresholds()
    present = list(dict.fromkeys(categories))
    if len(present) == 1:
        average = bank.average(present[0])
        return Pools({present[0]: _all([average > t.t_pos_single])}, _all([average < t.t_bg_single]))
    score = {(u, v): bank.score(u, v) for u in present for v in present if u != v}
    three = len(present) == 3
    winners = {}
    for u in present:
        others = [v for v in present if v != u]
        rules = [score[u, v] > t.t_pos for v in others]
        if not three:
            rules += [score[v, u] < t.t_neg for v in others]
        winners[u] = _all(rules)
    low = [bank.average(u) for u in present] if three else list(score.values())
    return Pools(winners, _all([s < t.t_bg for s in low]))


def draw(pool: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` indices of `pool` in random order, without replacement until the pool is used up."""
    turns = [torch.randperm(len(pool), generator=generator) for _ in range(-(-count // len(pool)))]
    return pool[torch.cat(turns)[:count]]


def require(pools: Pools, thresholds: Thresholds, background: bool) -> None:
    """BankError when a region, or the background if there is any, has no ticket to draw from."""
    for category, pool in pools.winners.items():
        if not len(pool):
            raise BankError(
                f'No ticket of "{category}" passes the thresholds (t_pos {thresholds.t_pos}, t_neg'
                f" {thresholds.t_neg}): lower t_pos, raise t_neg, or collect more noises."
            )
    if background and not len(pools.losers):
        raise BankError(
            f"No losing ticket for the background (t_bg {thresholds.t_bg}, alone"
            f" {thresholds.t_bg_single}): raise t_bg, or collect more noises."
        )

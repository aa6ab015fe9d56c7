"""Which tickets win where: the paper's thresholds (released code, `product_image`), or by rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import torch

from ..bank.bank import BankError, TicketBank
from ..score import rank
from .regions import LayoutError

# demo/RESULTS.md, "Which noise puts things in place": the best 0.2% to 5% do equally well, the
# best 20% clearly worse.
LOOSE, LOOSE_BACKGROUND = 0.05, 0.2
# There, limits on scores that differ by 0.2 changed the success.
MUCH_MISSED = 0.2
RELAX, REPEAT, REFUSE = SHORTAGES = ("relax", "repeat", "error")


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
                raise LayoutError(f"{name} is {value}; scores and thresholds must be between 0 and 1.")

    def excess(self, bank: TicketBank, present: Sequence[str]) -> Excess:
        """How far each ticket is from passing.

        One category: its average score counts. Two: a winner of u scores above t_pos for u and below
        t_neg for v, a loser below t_bg for both. Three: as the released code, winners need no low score
        for the others and losers are judged by the averages. More: the rule for two, against each other.
        """
        if len(present) == 1:
            average = bank.average(present[0])
            return Excess({present[0]: self.t_pos_single - average}, average - self.t_bg_single)
        three = len(present) == 3
        winners: dict[str, torch.Tensor] = {}
        low: dict[str, torch.Tensor] = {}
        for u, v in permutations(present, 2):
            score = bank.score(u, v)
            _raise(winners, u, self.t_pos - score)
            if not three:
                _raise(winners, v, score - self.t_neg)
                _raise(low, "", score)
        for u in present if three else ():
            _raise(low, "", bank.average(u))
        return Excess(winners, low[""] - self.t_bg)

    def widened(self, which: str, far: float, background: bool, tickets: int) -> str:
        """For people: these cells have tickets that miss the limits by up to `far`, of 0..1."""
        note = f"{which} get tickets that miss the limits by up to {far:.2g} (scores lie between 0 and 1)."
        return f"Warning: {note}" if far > MUCH_MISSED else note

    def advice(self, background: bool) -> str:
        """What to change when too few tickets pass."""
        if background:
            return f"raise t_bg (now {self.t_bg}, alone {self.t_bg_single})"
        return f"lower t_pos (now {self.t_pos}, alone {self.t_pos_single}) or raise t_neg (now {self.t_neg})"


@dataclass(frozen=True)
class Rank:
    """The best tickets by rank difference.

    A ticket's rank for u beside v is the share of the bank that scores lower. Winners of u are the `best`
    share of the bank by the rank for u minus the best one of any other category present; losers the
    `best_background` share by their best rank, lowest first. temperature: 0 draws the very best, 1 any of
    the best share.
    """

    best: float = 0.005
    best_background: float = 0.05
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("best", "best_background"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise LayoutError(
                    f"{name} is {value}; it must be a share of the bank, above 0 and at most 1."
                )
        if not 0 <= self.temperature <= 1:
            raise LayoutError(f"temperature is {self.temperature}; it must be between 0 and 1.")

    def excess(self, bank: TicketBank, present: Sequence[str]) -> Excess:
        """How far behind the best share each ticket's place is, in shares of the bank."""
        if len(present) == 1:
            place = rank(bank.average(present[0]))
            return Excess({present[0]: 1 - place - self.best}, place - self.best_background)
        gaps: dict[str, torch.Tensor] = {}
        most: dict[str, torch.Tensor] = {}
        for u, v in combinations(present, 2):
            mine, other = bank.rank(u, v), bank.rank(v, u)
            _raise(gaps, u, other - mine)
            _raise(gaps, v, mine - other)
            _raise(most, "", torch.maximum(mine, other))
        winners = {u: 1 - rank(-gaps[u]) - self.best for u in present}
        return Excess(winners, rank(most[""]) - self.best_background)

    def widened(self, which: str, far: float, background: bool, tickets: int) -> str:
        """For people: these cells have tickets from beyond the best share, by up to `far` of the bank.

        A place is in the middle of its ticket's share of the bank; `tickets` of them are in all.
        """
        asked = self.best_background if background else self.best
        share = min(1.0, max(asked + far, 0.0) + 0.5 / tickets)
        given, asked_for = _percents(share, asked)
        kind = "least wanted" if background else "best"
        note = f"{which} get tickets from the {kind} {given}% of the bank instead of {asked_for}%."
        loose = LOOSE_BACKGROUND if background else LOOSE
        if share > loose:
            return f"Warning: {note} Beyond {loose:.0%}, tickets place things less surely."
        return note

    def advice(self, background: bool) -> str:
        """What to change when too few tickets are among the best."""
        name = "best_background" if background else "best"
        return f"raise {name} (now {getattr(self, name):.1%} of the bank)"


Selection = Thresholds | Rank


@dataclass(frozen=True)
class Excess:
    """How far each ticket [tickets] is from being chosen; those below 0 are. winners: per category."""

    winners: dict[str, torch.Tensor]
    losers: torch.Tensor


@dataclass(frozen=True)
class Pools:
    """Indices into a bank's blocks, none twice: winners per category, losers for the background.

    notes: what had to be widened, one sentence for people for each.
    """

    winners: dict[str, torch.Tensor]
    losers: torch.Tensor
    notes: tuple[str, ...] = ()


def _percents(one: float, other: float) -> tuple[str, str]:
    """Two shares in percent, with as many digits as it takes to tell them apart, two at least."""
    for digits in range(2, 8):
        texts = tuple(f"{100 * share:.{digits}g}" for share in (one, other))
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def _raise(highest: dict[str, torch.Tensor], key: str, values: torch.Tensor) -> None:
    """The higher of the values under a key and these. All pairs' at once would be as large as the bank."""
    highest[key] = torch.maximum(highest[key], values) if key in highest else values


def make_pools(
    bank: TicketBank,
    selection: Selection,
    needed: Mapping[str, int],
    needed_background: int,
    shortage: str = RELAX,
) -> Pools:
    """Tickets to draw from: winners of each category in `needed`, and losers.

    needed: how many blocks an image has for each. A ticket that several categories want goes to the
    one it passes by most, one that wins anywhere is no loser. When too few pass: `relax` takes the ones
    that come nearest, `repeat` uses tickets again (as the paper; not without any), `error` refuses.
    BankError says how many are needed, how many there are, and what to change. The bank keeps the last
    ones made: they are the same for every seed.
    """
    asked = (selection, tuple(needed.items()), needed_background, shortage)
    made: Pools = bank.pools.get(
        asked, lambda: _make_pools(bank, selection, needed, needed_background, shortage)
    )
    return made


def _make_pools(
    bank: TicketBank, selection: Selection, needed: Mapping[str, int], needed_background: int, shortage: str
) -> Pools:
    if shortage not in SHORTAGES:
        raise LayoutError(f"shortage is {shortage!r}; choose one of {', '.join(SHORTAGES)}.")
    present = list(needed)
    excess: Excess = bank.excess.get((selection, *present), lambda: selection.excess(bank, present))
    nearest_yet = torch.zeros(len(bank.blocks))
    owner = torch.full((len(bank.blocks),), -1)
    for i, category in enumerate(present):
        owner[excess.winners[category] < nearest_yet] = i
        nearest_yet = torch.minimum(nearest_yet, excess.winners[category])
    owner[(owner < 0) & (excess.losers < 0)] = len(present)
    groups = [(i, c, excess.winners[c], needed[c]) for i, c in enumerate(present)]
    groups.append((len(present), "", excess.losers, needed_background))
    notes = []
    for i, category, far, count in groups:
        have = int((owner == i).sum())
        if have >= count or (shortage == REPEAT and have):
            continue
        free = (owner < 0).nonzero().flatten()
        for j, _, own, least in groups:
            free = torch.cat([free, _surplus(owner == j, own, least)]) if j != i else free
        whose = f'of "{category}"' if category else "for the background"
        if shortage != RELAX or have + len(free) < count:
            fix = selection.advice(not category) + ", " if shortage != RELAX else ""
            also = ", set shortage to relax," if shortage == REFUSE else ""
            raise BankError(
                f"{count} tickets {whose} are needed and {have or 'none'} found"
                f" ({len(bank.blocks)} in the bank): {fix}collect more noises{also} or draw less of it."
            )
        nearest = torch.topk(far[free], count - have, largest=False)
        owner[free[nearest.indices]] = i
        beyond = nearest.values[nearest.values > 0]
        if len(beyond):
            which = f"{len(beyond)} of {count} cells {whose}"
            notes.append(selection.widened(which, float(beyond.max()), not category, len(far)))
    pools = {c: _sorted(owner == i, excess.winners[c], selection) for i, c in enumerate(present)}
    return Pools(pools, _sorted(owner == len(present), excess.losers, selection), tuple(notes))


def _surplus(chosen: torch.Tensor, far: torch.Tensor, needed: int) -> torch.Tensor:
    """Of the chosen tickets the worst ones, those beyond what is needed."""
    found = chosen.nonzero().flatten()
    return found[torch.argsort(far[found], stable=True)][needed:]


def _sorted(chosen: torch.Tensor, far: torch.Tensor, selection: Selection) -> torch.Tensor:
    """Indices of the chosen tickets; by rank the best come first, else as in the bank."""
    found = chosen.nonzero().flatten()
    return found[torch.argsort(far[found], stable=True)] if isinstance(selection, Rank) else found


def threshold_pools(
    bank: TicketBank, categories: Sequence[str], thresholds: Thresholds | None = None
) -> Pools:
    """The released code's pools as they are: nothing is widened, a ticket may be in several."""
    excess = (thresholds or Thresholds()).excess(bank, list(dict.fromkeys(categories)))
    winners = {c: (far < 0).nonzero().flatten() for c, far in excess.winners.items()}
    return Pools(winners, (excess.losers < 0).nonzero().flatten())


def eligible(pool: torch.Tensor, count: int, selection: Selection) -> torch.Tensor:
    """The part of a pool that `count` tickets are drawn from, by the temperature."""
    if not isinstance(selection, Rank):
        return pool
    extra = max(0, len(pool) - count)
    return pool[: count + round(selection.temperature * extra)]


def draw(pool: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` indices of `pool` in random order, without replacement until the pool is used up."""
    turns = [torch.randperm(len(pool), generator=generator) for _ in range(-(-count // len(pool)))]
    return pool[torch.cat(turns)[:count]]

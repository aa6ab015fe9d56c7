"""What was measured of a layer, which layers to try, and which one to recommend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

CLEAR = 3.0
# Of the greatest effect, what a layer must have to be tried.
WORTH_TRYING = 0.5
MOST_TRIED = 3
# Standard errors by which a later layer's tickets must do better to be preferred.
BETTER = 2.0
# As that, where there is nothing better to go by.
LIKELY = 1.5
# Of images of two layers between which the first ones do not decide.
MOST_ROUNDS = 2
# Of agreement above chance, without which no layer's tickets worked: benchmarks/README.md, "Which layer".
FORETELLS = 0.1


@dataclass(frozen=True)
class Tried:
    """What a short trial showed of a layer's tickets: of `objects` in `images` images, how many stood in
    their own box, how many in the other one, and how many are present at all. rounds: of as many images
    each.
    """

    images: int
    objects: int
    own: int
    other: int
    present: int
    rounds: int = 1

    def __add__(self, more: Tried) -> Tried:
        return Tried(*(getattr(self, f.name) + getattr(more, f.name) for f in fields(self)))

    @property
    def share(self) -> float:
        """Of the objects that stood in their own box, with one more of each added: no share is certain."""
        return (self.own + 1) / (self.objects + 2)

    @property
    def works(self) -> bool:
        """Whether more stood in their own box than chance would put there: it is fair to both boxes."""
        return self.lead > BETTER

    @property
    def lead(self) -> float:
        """Of the own boxes over the other ones, in standard deviations of what chance would give."""
        count = self.own + self.other
        return (self.own - self.other) / math.sqrt(count) if count else 0.0


@dataclass(frozen=True)
class LayerWorth:
    """A layer's figures. layer: its name, or what prints as it. rows, columns: of its map. block: side in
    latent pixels of a block of noise.

    effect: how much its tickets, put into boxes, draw the first-step attention of the whole UNet there,
    in standard deviations of what plain noise does; error: the standard error of that. kept: correlation
    of a block's score before and after it was moved elsewhere. agreement: of the first-step map with
    where the category ends up; chance: the same with another image's end. tried: images made with them.
    """

    layer: Any
    rows: int
    columns: int
    block: int
    effect: float
    error: float
    kept: float | None = None
    agreement: float | None = None
    chance: float | None = None
    tried: Tried | None = None

    @property
    def foretells(self) -> bool:
        """Whether its first map says enough of where things end up for its tickets to work; True without
        the figures."""
        return self.agreement is None or self.chance is None or self.agreement - self.chance >= FORETELLS

    @property
    def clear(self) -> bool:
        """Whether its tickets do anything that chance would not: in images, if any were made."""
        return self.tried.works if self.tried else self.stands_out

    @property
    def promising(self) -> bool:
        """Whether its tickets seem to do something."""
        return self.tried.own > self.tried.other if self.tried else self.stands_out

    @property
    def stands_out(self) -> bool:
        """Whether chance would not explain the effect."""
        return self.effect > CLEAR * self.error


def contenders(worths: Sequence[LayerWorth]) -> list[LayerWorth]:
    """The layers to try, in forward order; worths: of all layers, likewise.

    Those with at least half of the greatest effect: the earliest, and those of the greatest effect. The
    effect alone does not decide: tickets of late layers move the late layers' attention more than the
    picture.
    """
    known = [w for w in worths if math.isfinite(w.effect)] or list(worths)
    least = WORTH_TRYING * max(w.effect for w in known)
    enough = [w for w in known if w.effect >= least]
    first, *later = enough or known
    later = sorted(later, key=lambda w: w.effect, reverse=True)[: MOST_TRIED - 1]
    return [w for w in worths if w is first or any(w is o for o in later)]


def settled(worths: Sequence[LayerWorth]) -> bool:
    """Whether the earliest contender has been tried, works, and stays the recommended one whatever a trial
    shows of the others: even if their tickets put every object in its place.
    """
    first = contenders(worths)[0]
    if not (first.tried and first.tried.works):
        return False
    objects = first.tried.objects
    perfect = Tried(first.tried.images, objects, objects, 0, objects)
    return recommended([w if w.tried else replace(w, tried=perfect) for w in worths]) is first


def others(worths: Sequence[LayerWorth]) -> list[LayerWorth]:
    """The next layers to try where the tickets of none that was tried work, by effect."""
    if any(w.tried and w.tried.works for w in worths):
        return []
    left = [w for w in worths if not w.tried and w.effect > 0]
    return sorted(left, key=lambda w: w.effect, reverse=True)[: MOST_TRIED - 1]


def to_try(worths: Sequence[LayerWorth]) -> list[LayerWorth]:
    """The layers to try next: the contenders, then others where none works, then once more two between
    which it is open; none once that is enough."""
    tried = sum(w.tried is not None for w in worths)
    if not tried:
        return contenders(worths)
    return (others(worths) if tried <= MOST_TRIED else []) or _undecided(worths)


def most_trials(layers: int) -> int:
    """How many rounds of images `to_try` asks for at most, of a model with so many layers.

    Others are tried as long as no more than MOST_TRIED were; a second round is of two layers that had one.
    """
    tried = min(layers, 2 * MOST_TRIED - 1)
    return tried + 2 * (tried // 2) * (MOST_ROUNDS - 1)


def _undecided(worths: Sequence[LayerWorth]) -> list[LayerWorth]:
    """The earliest layer and the one that did best so far, but not so clearly that chance is ruled out."""
    first, best = leaders(worths)
    if not (first.tried and best.tried) or max(first.tried.rounds, best.tried.rounds) >= MOST_ROUNDS:
        return []
    if settled([w if w is first else replace(w, tried=None) for w in worths]):
        return []
    return [first, best] if 0 < lead(first, best) <= BETTER else []


def recommended(worths: Sequence[LayerWorth], better: float = BETTER) -> LayerWorth:
    """The layer to use: the earliest contender that seems to do something, unless another one did better in
    images by so many standard errors, or alone did more than chance would.

    The earliest is the safest: the less a cell has seen of its surroundings, the more its score is its own
    block's, and the sooner it is read.
    """
    first, best = leaders(worths)
    return best if lead(first, best) > better else first


def leaders(worths: Sequence[LayerWorth]) -> tuple[LayerWorth, LayerWorth]:
    """The earliest contender that seems to do something, without one another layer that was tried and does or
    is likely to; and the layer that did best in images.
    """
    some = contenders(worths)
    proven = [w for w in worths if w.tried and w.tried.works]
    likely = [w for w in worths if w.tried and w.tried.lead > LIKELY]
    first = next((w for w in some if w.promising), None) or (proven or likely or some)[0]
    return first, max(proven, key=lambda w: w.tried.share if w.tried else 0.0, default=first)


def lead(first: LayerWorth, best: LayerWorth) -> float:
    """By how many standard errors `best` did better in images; how little does not matter where `first` did
    no more than chance would.
    """
    if not (first.tried and best.tried) or first is best:
        return 0.0
    if not first.tried.works:
        return math.inf
    spread = sum(t.share * (1 - t.share) / (t.objects + 2) for t in (first.tried, best.tried))
    return (best.tried.share - first.tried.share) / math.sqrt(spread)

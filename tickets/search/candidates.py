"""Looking before sampling: of several noises the one that fits its layout best, or a better one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from ..layout.build import Layout, image_generator
from ..noise import plain_noise
from ..score import paper_score
from .fit import cell_worth, fit
from .swap import swap

MOST_CANDIDATES = 64
# Of the candidates, by the first look, how many the deeper one sees.
NARROWED = 1 / 3
Look = Callable[[torch.Tensor], torch.Tensor]
"""Noise [images, C, h, w] -> attention [images, categories, rows, columns] to it, in whole blocks."""


class Proposer(Protocol):
    """Makes noises for one image. A state is all that decides a noise."""

    def start(self, candidate: int) -> Any:
        """The state of a candidate before anyone looked."""

    def better(self, state: Any, scores: torch.Tensor, generator: torch.Generator) -> Any:
        """A state made from the scores [categories, rows, columns] of another."""

    def noise(self, state: Any) -> torch.Tensor:
        """[C, h, w]."""


class Deep(NamedTuple):
    """`fit` by the deeper look, of the noise that was taken and of the best one by the first look."""

    taken: float
    first: float


@dataclass(frozen=True)
class Found:
    """The noise [C, h, w] that fits best, which candidate it came from, `fit` of the first and of this one.

    scores [categories, rows, columns]: of this noise, by the deeper look if it had one. looks: model
    evaluations of one image each. deeper: how many had the deeper look; deep: what it found.
    """

    noise: torch.Tensor
    scores: torch.Tensor
    candidate: int
    before: float
    after: float
    looks: int
    deeper: int = 0
    deep: Deep = Deep(math.nan, math.nan)


def narrowed(candidates: int) -> int:
    """How many of them are worth a deeper look: NARROWED, but two at least."""
    return min(candidates, max(2, math.ceil(NARROWED * candidates))) if candidates > 1 else 0


@dataclass(frozen=True)
class Refined:
    """Candidates after their rounds: states, scores [candidates, categories, rows, columns] and fit
    [candidates]; before: the fit of the first one at the start.
    """

    states: list[Any]
    scores: torch.Tensor
    value: torch.Tensor
    before: float


def refine(
    proposer: Proposer,
    look: Look,
    groups: torch.Tensor,
    candidates: int,
    rounds: int,
    generators: Callable[[int], torch.Generator],
    check: Callable[[], None] = lambda: None,
) -> Refined:
    """`candidates` noises after `rounds` attempts to better each of them.

    An attempt that fits worse than what it was made of is dropped. generators: random numbers by number.
    check: called before each attempt; what it raises ends the search.
    """
    kept = [proposer.start(j) for j in range(candidates)]
    scores = _scores(look, proposer, kept)
    value = fit(scores, groups)
    before = float(value[0])
    for turn in range(1, rounds + 1):
        tried = []
        for j, (state, own) in enumerate(zip(kept, scores, strict=True)):
            check()
            tried.append(proposer.better(state, own, generators(turn * MOST_CANDIDATES + j)))
        new = _scores(look, proposer, tried)
        gain = fit(new, groups) > value
        kept = [t if g else k for t, k, g in zip(tried, kept, gain.tolist(), strict=True)]
        scores = torch.where(gain[:, None, None, None], new, scores)
        value = fit(scores, groups)
    return Refined(kept, scores, value, before)


def search(
    proposer: Proposer,
    look: Look,
    groups: torch.Tensor,
    candidates: int,
    rounds: int,
    generators: Callable[[int], torch.Generator],
    check: Callable[[], None] = lambda: None,
    deeper: Look | None = None,
    seen: int = 0,
) -> Found:
    """The best of `candidates` noises, each bettered as `refine` says.

    deeper: a look that costs more and knows more, which chooses among the `seen` ones that fit best.
    """
    found = refine(proposer, look, groups, candidates, rounds, generators, check)
    best, deep = int(found.value.argmax()), Deep(math.nan, math.nan)
    scores = found.scores[best]
    if deeper and seen:
        order = found.value.argsort(descending=True, stable=True)[:seen].tolist()
        then = _scores(deeper, proposer, [found.states[j] for j in order])
        values = fit(then, groups)
        place = int(values.argmax())
        best, scores, deep = order[place], then[place], Deep(float(values[place]), float(values[0]))
    return Found(
        proposer.noise(found.states[best]),
        scores,
        best,
        found.before,
        float(found.value[best]),
        candidates * (1 + rounds),
        seen if deeper else 0,
        deep,
    )


def _scores(look: Look, proposer: Proposer, states: Sequence[Any]) -> torch.Tensor:
    return paper_score(look(torch.stack([proposer.noise(s) for s in states])))


@dataclass(frozen=True)
class TicketProposer:
    """Arrangements of tickets; the worst cells are exchanged."""

    layout: Layout
    plain: torch.Tensor
    seed: int
    index: int

    def start(self, candidate: int) -> torch.Tensor:
        return self.layout.arrange(self.seed, self.index, candidate)

    def better(self, state: torch.Tensor, scores: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        worth = cell_worth(scores[None], self.layout.groups(self.index))[0]
        return self.layout.exchange(state, worth, self.index, generator)

    def noise(self, state: torch.Tensor) -> torch.Tensor:
        return self.layout.place(self.plain, state, self.index)


@dataclass(frozen=True)
class SwapProposer:
    """Noises whose blocks change places; `draw` gives candidate j."""

    draw: Callable[[int], torch.Tensor]
    groups: torch.Tensor
    block: int

    def start(self, candidate: int) -> torch.Tensor:
        return self.draw(candidate)

    def better(self, state: torch.Tensor, scores: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return swap(state, scores, self.groups, self.block)

    def noise(self, state: torch.Tensor) -> torch.Tensor:
        return state


def derived_seed(seed: int, candidate: int) -> int:
    """The seed of a further candidate; candidate 0 is the seed itself."""
    if candidate == 0:
        return seed
    return int(image_generator(seed, 0, candidate).initial_seed())


def plain_candidate(seed: int, index: int, shape: tuple[int, int, int], candidate: int) -> torch.Tensor:
    """Stock noise [C, h, w] of image `index` of a derived seed."""
    return plain_noise(derived_seed(seed, candidate), shape, (index,))[0]

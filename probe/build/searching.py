"""Noise that is looked at before a step is sampled: the best arrangement, exchange or seed, per image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import comfy.model_management
import torch

from ...tickets.layout.build import Layout, image_generator
from ...tickets.search.candidates import (
    Found,
    Look,
    Proposer,
    SwapProposer,
    TicketProposer,
    plain_candidate,
    search,
)
from ...tickets.search.fit import verdict
from .foreign import Redrawn, Shape

Groups = Callable[[int], torch.Tensor]
"""Index of an image in its batch -> the group of each of its cells, see `fit`."""


class Searching:
    """Makes each image of a batch by looking at candidates; what was found is kept for the report.

    proposer: of a seed and image. groups: the cells of an image, see `fit`. look: noise to attention.
    """

    def __init__(
        self,
        proposer: Callable[[int, int], Proposer],
        groups: Groups,
        look: Look,
        candidates: int,
        rounds: int,
    ) -> None:
        self.proposer, self.groups, self.look = proposer, groups, look
        self.candidates, self.rounds = candidates, rounds
        self.found: dict[tuple[int, int], Found] = {}
        self._reported = False

    def __call__(self, seed: int, index: int) -> torch.Tensor:
        generators = partial(image_generator, seed, index)
        proposer, groups = self.proposer(seed, index), self.groups(index)
        check = comfy.model_management.throw_exception_if_processing_interrupted
        found = search(proposer, self.look, groups, self.candidates, self.rounds, generators, check)
        if not self._reported:
            self.found[seed, index] = found
        return found.noise

    def forget(self) -> None:
        """What was found, and will be, is not kept any longer."""
        self._reported = True
        self.found.clear()

    def describe(self, share: float) -> str:
        """For people: fit before and after, and what the looks cost; share: of a forward, each look."""
        found = self.found.values()
        looks = sum(f.looks for f in found)
        before, after = (sum(getattr(f, name) for f in found) / len(found) for name in ("before", "after"))
        (_, index), lowest = min(self.found.items(), key=lambda item: item[1].after)
        mean = f" (mean of the batch; lowest {lowest.after:.3f})" if len(found) > 1 else ""
        return (
            f"Fit of the layout {before:.3f} -> {after:.3f}{mean}; {looks} looks of {share:.0%} of a forward"
            f" each, together {looks * share:.1f} forwards of one image (a guided step takes 2)."
            f"\n{verdict(lowest.after, self.groups(index))}"
        )


def searched_tickets(layout: Layout, look: Look, candidates: int, rounds: int) -> Searching:
    """Tickets in the arrangement that fits best."""

    def proposer(seed: int, index: int) -> Proposer:
        return TicketProposer(layout, layout.plain(seed, (index,))[0], seed, index)

    return Searching(proposer, layout.groups, look, candidates, rounds)


def searched_swaps(
    groups: Groups, shape: Shape, look: Look, block: int, candidates: int, rounds: int
) -> Searching:
    """Blocks of the seed's own noise, or of a derived seed's, exchanged `rounds` times."""

    def proposer(seed: int, index: int) -> Proposer:
        draw = partial(plain_candidate, seed, index, shape)
        return SwapProposer(draw, groups(index), block)

    return Searching(proposer, groups, look, candidates, rounds)


def searched_noises(groups: Groups, redrawn: Redrawn, look: Look, block: int, candidates: int) -> Searching:
    """The best of any NOISE under its seed and derived ones; NoiseError for one that has none."""
    if candidates > 1:
        redrawn.check_seeds()

    def proposer(seed: int, index: int) -> Proposer:
        return SwapProposer(partial(redrawn.image, index), groups(index), block)

    return Searching(proposer, groups, look, candidates, 0)

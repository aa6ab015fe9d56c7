"""Noise that is looked at before a step is sampled: the best arrangement, exchange or seed, per image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import comfy.model_management
import torch

from ...tickets.layout.build import Layout, image_generator
from ...tickets.search.candidates import (
    Found,
    Proposer,
    SwapProposer,
    TicketProposer,
    plain_candidate,
    search,
)
from ...tickets.search.fit import verdict
from .foreign import Redrawn, Shape
from .looking import Looking

Groups = Callable[[int], torch.Tensor]
"""Index of an image in its batch -> the group of each of its cells, see `fit`."""


class Searching:
    """Makes each image of a batch by looking at candidates; what was found is kept for the report.

    proposer: of a seed and image. groups: the cells of an image, see `fit`. looking: how.
    """

    def __init__(
        self,
        proposer: Callable[[int, int], Proposer],
        groups: Groups,
        looking: Looking,
        candidates: int,
        rounds: int,
    ) -> None:
        self.proposer, self.groups, self.looking = proposer, groups, looking
        self.candidates, self.rounds = candidates, rounds
        self.found: dict[tuple[int, int], Found] = {}
        self._reported = False

    def __call__(self, seed: int, index: int) -> torch.Tensor:
        generators = partial(image_generator, seed, index)
        proposer, groups = self.proposer(seed, index), self.groups(index)
        check = comfy.model_management.throw_exception_if_processing_interrupted
        looking, count = self.looking, self.candidates
        how = count, self.rounds, generators, check, looking.deeper, looking.seen(count)
        with looking.searching():
            found = search(proposer, looking.first, groups, *how)
        if not self._reported:
            self.found[seed, index] = found
        return found.noise

    def forget(self) -> None:
        """What was found, and will be, is not kept any longer."""
        self._reported = True
        self.found.clear()
        self.looking.finish()

    def describe(self) -> str:
        """For people: fit before and after, and what the looks cost."""
        found, looking = self.found.values(), self.looking
        looks, share = sum(f.looks for f in found), looking.scorer.share
        before, after = (sum(getattr(f, name) for f in found) / len(found) for name in ("before", "after"))
        (_, index), lowest = min(self.found.items(), key=lambda item: item[1].after)
        mean = f" (mean of the batch; lowest {lowest.after:.3f})" if len(found) > 1 else ""
        seen = sum(f.deeper for f in found)
        if not (looking.steps and seen):
            return (
                f"Fit of the layout {before:.3f} -> {after:.3f}{mean}; {looks} looks of {share:.0%} of a"
                f" forward each, together {looking.forwards:.1f} forwards of one image (a guided step takes"
                f" 2{looking.others}).\n{verdict(lowest.after, self.groups(index))}"
            )
        steps, run = looking.steps, looking.steps.run
        new, old = (sum(f.deep[k] for f in found) / len(found) for k in (0, 1))
        saved = steps.saved * len(found)
        return (
            f"After {steps.after} of {run.steps} steps: fit {new:.3f}, {old:.3f} of the one that fitted best"
            f" at the first step; {seen} candidates were looked at then. At the first step: fit"
            f" {after:.3f}{mean}, {looks} looks of {share:.0%} of a forward each.\nAll looks took"
            f" {looking.forwards:.1f} forwards of one image (a guided step takes 2{looking.others}); a"
            f" guidance cutoff after half of the steps would save {saved}."
        )


def searched_tickets(layout: Layout, looking: Looking, candidates: int, rounds: int) -> Searching:
    """Tickets in the arrangement that fits best."""

    def proposer(seed: int, index: int) -> Proposer:
        return TicketProposer(layout, layout.plain(seed, (index,))[0], seed, index)

    return Searching(proposer, layout.groups, looking, candidates, rounds)


def searched_swaps(groups: Groups, shape: Shape, looking: Looking, candidates: int, rounds: int) -> Searching:
    """Blocks of the seed's own noise, or of a derived seed's, exchanged `rounds` times."""

    def proposer(seed: int, index: int) -> Proposer:
        draw = partial(plain_candidate, seed, index, shape)
        return SwapProposer(draw, groups(index), looking.grid.block)

    return Searching(proposer, groups, looking, candidates, rounds)


def searched_noises(
    groups: Groups, redrawn: Redrawn, looking: Looking, candidates: int, images: int
) -> Searching:
    """The best of any NOISE under its seed and derived ones; NoiseError for one that has none.

    images: of the batch.
    """
    if candidates > 1:
        with looking.searching():
            redrawn.check_seeds(images)

    def proposer(seed: int, index: int) -> Proposer:
        return SwapProposer(partial(redrawn.under(seed).image, index), groups(index), looking.grid.block)

    return Searching(proposer, groups, looking, candidates, 0)

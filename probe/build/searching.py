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
from ...tickets.search.fit import ON_TRANSFORMERS, ON_UNETS, verdict
from ..model.architecture import is_unet
from ..noise.foreign import Shape, Variants
from ..sampling.first_steps import FirstSteps
from .looking import Looking

BLIND = "the first step of this model (flow or zero terminal SNR) shows nothing of the image yet"
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
        self.candidates, self.rounds = candidates, looking.rounds(candidates, rounds)
        self._dropped = rounds - self.rounds
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
        steps = self.looking.steps
        deeper = steps is not None and any(f.deeper for f in self.found.values())
        text = self._after_steps(steps) if steps is not None and deeper else self._first_step()
        if self._dropped:
            text += f"\nNo rounds were made: {BLIND}, so only looks after some steps can compare noises."
        elif self.looking.blind and not deeper and self.candidates * (1 + self.rounds) > 1:
            text += (
                f"\nWarning: {BLIND}, so this fit means little: set look to after steps, with at least 2"
                " candidates."
            )
        return text

    @property
    def _looks(self) -> tuple[int, float, str]:
        """How many at the first step, the mean fit after them, and for a batch the lowest, for people."""
        found = self.found.values()
        after = [f.after for f in found]
        lowest = f" (mean of the batch; lowest {min(after):.3f})" if len(after) > 1 else ""
        return sum(f.looks for f in found), sum(after) / len(after), lowest

    def _first_step(self) -> str:
        found, looking = self.found.values(), self.looking
        looks, after, mean = self._looks
        before = sum(f.before for f in found) / len(found)
        (_, index), lowest = min(self.found.items(), key=lambda item: item[1].after)
        scale = ON_UNETS if is_unet(looking.scorer.model) else ON_TRANSFORMERS
        told = verdict(lowest.after, self.groups(index), scale)
        return (
            f"Fit of the layout {before:.3f} -> {after:.3f}{mean}; {looks} looks of"
            f" {looking.scorer.share:.0%} of a forward each, together {looking.forwards:.1f} forwards of one"
            f" image (a guided step takes 2{looking.others}).\n{told}"
        )

    def _after_steps(self, steps: FirstSteps) -> str:
        found, looking, run = self.found.values(), self.looking, steps.run
        looks, after, mean = self._looks
        share, seen = looking.scorer.share, sum(f.deeper for f in found)
        new = sum(f.deep.taken for f in found) / len(found)
        old = sum(f.deep.first for f in found) / len(found)
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
    groups: Groups, variants: Variants, looking: Looking, candidates: int, images: int
) -> Searching:
    """The best of any NOISE under its seed and derived ones; NoiseError for one that has none.

    images: of the batch.
    """
    if candidates > 1:
        with looking.searching():
            variants.check_seeds(images)

    def proposer(seed: int, index: int) -> Proposer:
        return SwapProposer(partial(variants.under(seed).image, index), groups(index), looking.grid.block)

    return Searching(proposer, groups, looking, candidates, 0)

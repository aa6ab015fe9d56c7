"""Which step of a sampling run an evaluation of the model belongs to, counted for any noise levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

# A sampler's noise level of a step and the schedule's may differ in the last bits.
SLACK = 1e-5


class Steps:
    """Counts the steps of a sampler while it runs.

    A sampler reports each step once, most of them after the step's first evaluation, some after its last.
    Between two reports lie evaluations of the one step and of the next: their noise level says which, by
    where it lies on the way from step to step; that way may fall, rise, turn or stand still.

    sigmas: [steps + 1], as the sampler got them. A sampler whose reports do not fit them (dpm_fast,
    dpm_adaptive) goes its own way: its steps are those that it reports.
    """

    def __init__(self, sigmas: Sequence[float]) -> None:
        self.levels = [float(sigma) for sigma in sigmas]
        self.fits = True
        self._evaluated: list[float] = []
        self._places: list[int] = []
        # What was reported, and after how many evaluations.
        self._reports: list[tuple[int, int]] = []

    def evaluate(self, sigma: float) -> int:
        """An evaluation at this noise level begins: how many of `levels`' steps lie behind it."""
        place = self._place(sigma)
        self._evaluated.append(sigma)
        self._places.append(place)
        return place

    def report(self, step: int) -> None:
        """The sampler reports step number `step`, from 0."""
        last, before = self._reports[-1] if self._reports else (-1, 0)
        fresh = self._evaluated[before:]
        if step == last or not fresh:
            return
        inside = 0 <= step < len(self.levels) - 1
        if not inside or not any(_same(sigma, self.levels[step]) for sigma in fresh):
            self.fits = False
        self._reports.append((step, len(self._evaluated)))

    @property
    def total(self) -> int:
        """How many steps the run has."""
        return len(self.levels) - 1 if self.fits else len(self._reports)

    def numbers(self) -> list[int]:
        """For each evaluation the number of its step, from 0 to `total` - 1."""
        if not self._reports:
            return [min(place, self.total - 1) for place in self._places]
        steps = [step if self.fits else number for number, (step, _) in enumerate(self._reports)]
        counts = [count for _, count in self._reports]
        begins = [0, *counts[:-1]]
        if self._early:
            # A sampler may evaluate the images of a batch one by one: as many belong to each step's start.
            begins = [max(begin, count - counts[0]) for begin, count in zip(begins, counts, strict=True)]
        found: list[int] = []
        for step, begin, end in zip(steps, begins, [*begins[1:], len(self._evaluated)], strict=True):
            found += [step] * (end - begin)
        return found

    @property
    def _early(self) -> bool:
        """Whether a step is reported after its first evaluation, not after its last."""
        if not self.fits:
            return self._reports[0][1] == 1
        return all(_same(self._evaluated[count - 1], self.levels[step]) for step, count in self._reports)

    def sigmas(self) -> list[float]:
        """Noise levels [total + 1] of the steps: the schedule's, or those that the sampler chose."""
        if self.fits:
            return self.levels
        first: dict[int, float] = {}
        for number, sigma in zip(self.numbers(), self._evaluated, strict=True):
            first.setdefault(number, sigma)
        return [*(first[number] for number in range(self.total)), self.levels[-1]]

    def _place(self, sigma: float) -> int:
        last = len(self.levels) - 2
        begun = -1
        if self.fits and self._reports:
            begun = self._reports[-1][0]
        elif self.fits and self._places:
            begun = self._places[-1]
        base = max(begun, 0)
        # A step that is not reported yet may have begun.
        latest = self._places[-1] if self._places else 0
        if base < latest <= last and self._between(sigma, latest):
            return latest
        for step in range(base, last + 1):
            stands = step == begun and _same(self.levels[step], self.levels[step + 1])
            if _same(sigma, self.levels[step]) and not stands or self._between(sigma, step):
                return step
        # Beyond all of them, such as with noise added on top.
        return min(range(base, last + 1), key=lambda step: abs(self.levels[step] - sigma), default=0)

    def _between(self, sigma: float, step: int) -> bool:
        ends = here, there = self.levels[step], self.levels[step + 1]
        return min(ends) < sigma < max(ends) and not _same(sigma, here) and not _same(sigma, there)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SLACK, abs_tol=1e-9)


def falls(sigmas: Sequence[float]) -> bool:
    """Whether the noise never rises from step to step."""
    return all(one >= other for one, other in zip(sigmas, sigmas[1:], strict=False))

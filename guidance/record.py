"""What sampler runs did: each found by what it returned, and what one with a guidance cutoff saved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .steps import Steps

MOST_RUNS = 64
MOST_BYTES = 2**28

T = TypeVar("T")


class Records(Generic[T]):
    """Records of the last whole runs, each found by keys of the images that the run returned.

    The oldest are forgotten: beyond MOST_RUNS, or MOST_BYTES as `weigh` says; the last one never.
    """

    def __init__(self, weigh: Callable[[T], int] = lambda record: 0) -> None:
        self._weigh = weigh
        self._runs: list[tuple[T, dict[str, int]]] = []

    def add(self, record: T, *keys: Sequence[str]) -> None:
        """keys: of each image, in one or more forms in which the run's images go on."""
        images = {key: image for form in reversed(keys) for image, key in reversed(list(enumerate(form)))}
        self._runs.append((record, images))
        while len(self._runs) > 1 and (len(self._runs) > MOST_RUNS or self._bytes() > MOST_BYTES):
            del self._runs[0]

    def _bytes(self) -> int:
        return sum(self._weigh(record) for record, _ in self._runs)

    @property
    def last(self) -> T | None:
        return self._runs[-1][0] if self._runs else None

    def find(self, keys: Iterable[str]) -> list[tuple[T, int] | None]:
        """For each image the last run that returned it and its number there, from 0; None: no run did."""
        newest = self._runs[::-1]
        return [next(((r, images[key]) for r, images in newest if key in images), None) for key in keys]


@dataclass
class Evaluation:
    """Of the model, once, by the sampler. rows: images that the model ran on, however often; own: of them,
    what only the cutoff needed; expected: what a guided evaluation needs; seconds: until the next.
    """

    guided: bool
    expected: int
    rows: int = 0
    own: int = 0
    seconds: float = 0.0


@dataclass
class Record:
    """Of a run with a cutoff, counted while sampling.

    batch: images; tail: what unguided evaluations follow; about: another patch or guider decides itself
    how often the model runs, and may skip it where the cut came first: figures of a stock run are upper
    bounds; unseen: so they are as long as no evaluation was guided.
    """

    steps: Steps
    batch: int
    tail: str
    about: bool = False
    unseen: bool = False
    clock: Callable[[], float] = time.perf_counter
    evaluations: list[Evaluation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _since: float = 0.0

    def evaluation(self, guided: bool, expected: int) -> None:
        """One begins."""
        self.end()
        self._since = self.clock()
        self.evaluations.append(Evaluation(guided, expected))

    def forward(self, rows: int, own: bool = False) -> None:
        """The model runs on so many rows."""
        if self.evaluations:
            self.evaluations[-1].rows += rows
            self.evaluations[-1].own += rows if own else 0

    def end(self) -> None:
        """The evaluation ends, and with the last one the run."""
        if self.evaluations and not self.evaluations[-1].seconds:
            self.evaluations[-1].seconds = self.clock() - self._since

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def of(self, guided: bool) -> list[Evaluation]:
        return [one for one in self.evaluations if one.guided == guided]

    def steps_of(self, guided: bool) -> set[int]:
        """Numbers of the steps that have an evaluation of this kind."""
        kinds = zip(self.steps.numbers(), self.evaluations, strict=True)
        return {number for number, one in kinds if one.guided == guided}

    @property
    def nfe(self) -> float:
        """Evaluations of the network, each on the whole batch: an ordinary guided evaluation has two."""
        return sum(one.rows for one in self.evaluations) / self.batch

    @property
    def stock(self) -> tuple[float, bool]:
        """NFE of the same evaluations, all guided; and whether that is an estimate."""
        if not self.nfe:
            # Another patch answered all of them: nothing tells what a guided one would have taken.
            return 0.0, False
        guided = self.of(True)
        taken = [one.rows - one.own for one in guided]
        ratios = [
            rows / one.expected for rows, one in zip(taken, guided, strict=True) if rows and one.expected
        ]
        # Evaluations that a cache answered take none; the last ones are most like those to come.
        each = ratios[-1] * len(ratios) / len(guided) if ratios else 1.0
        unguided = sum(one.expected for one in self.of(False))
        steady = len(ratios) == len(guided) and len(set(ratios)) <= 1
        about = bool(unguided) and (self.about or not steady or self.unseen and not guided)
        return (sum(taken) + each * unguided) / self.batch, about

    @property
    def saved(self) -> float:
        """Share of a stock run's NFE."""
        stock = self.stock[0]
        return 1 - self.nfe / stock if stock else 0.0

    def __str__(self) -> str:
        guided, unguided = self.steps_of(True), self.steps_of(False)
        stock, about = self.stock
        word = "step" if self.steps.total == 1 else "steps"
        set_ = len(self.steps.levels) - 1
        own = "" if self.steps.total == set_ else f" of the sampler's own (set: {set_})"
        part = len(guided & unguided)
        lines = [
            f"{_short(self.nfe)} NFE for {self.steps.total} {word}{own}, {len(guided)} of them guided"
            + (f" ({part} in part)" if part else "")
            + f"; a stock run takes {f'about {_short(stock)} at most' if about else _short(stock)}:"
            + f" {'up to ' if about and self.saved > 0 else ''}{self.saved:.0%} saved."
        ]
        times = [
            f"{sum(one.seconds for one in self.of(kind)) / len(steps):.3g} s {name} step"
            for name, kind, steps in (("a guided", True, guided), ("an unguided", False, unguided))
            if steps
        ]
        if times:
            lines.append(f"{', '.join(times)}; unguided steps: {self.tail}.")
        return "\n".join(lines + self.notes)


def _short(value: float) -> str:
    return f"{round(value, 1):g}"


def listing(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))

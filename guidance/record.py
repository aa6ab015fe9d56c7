"""What a run with a guidance cutoff did and saved, for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

GUIDED, UNGUIDED = "guided", "unguided"


@dataclass
class Tally:
    """Of one kind of evaluation. rows: of UNet forwards; seconds: from each evaluation to the next."""

    evaluations: int = 0
    steps: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass
class Run:
    """Counted while sampling. steps: of the run; batch: images; stock_rows: of an evaluation with guidance,
    as far as can be told beforehand.
    """

    steps: int
    batch: int
    tail: str
    stock_rows: int
    clock: Callable[[], float] = time.perf_counter
    tallies: dict[str, Tally] = field(default_factory=lambda: {GUIDED: Tally(), UNGUIDED: Tally()})
    notes: list[str] = field(default_factory=list)
    _kind: str | None = None
    _since: float = 0.0

    def evaluation(self, kind: str) -> None:
        """One begins."""
        self._lap(kind)
        self.tallies[kind].evaluations += 1

    def forward(self, rows: int) -> None:
        """The UNet runs on so many rows."""
        self.tallies[self._kind or GUIDED].rows += rows

    def step(self) -> None:
        """The sampler tells that a step is done, or its first evaluation."""
        self.tallies[self._kind or GUIDED].steps += 1

    def end(self) -> None:
        self._lap(None)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _lap(self, kind: str | None) -> None:
        now = self.clock()
        if self._kind is not None:
            self.tallies[self._kind].seconds += now - self._since
        self._kind, self._since = kind, now

    @property
    def forwards(self) -> float:
        """UNet forwards of the whole batch: an ordinary guided evaluation is two."""
        return sum(t.rows for t in self.tallies.values()) / self.batch

    @property
    def stock_forwards(self) -> float:
        """What the same evaluations would have taken, all guided."""
        guided, unguided = self.tallies[GUIDED], self.tallies[UNGUIDED]
        each = guided.rows / guided.evaluations if guided.evaluations else self.stock_rows
        return (guided.rows + each * unguided.evaluations) / self.batch

    @property
    def saved(self) -> float:
        """Share of the forwards of a stock run."""
        return 1 - self.forwards / self.stock_forwards if self.stock_forwards else 0.0

    def __str__(self) -> str:
        line = (
            f"{self.forwards:g} forwards for {self.steps} steps, {self.tallies[GUIDED].steps} of them guided;"
            f" a stock run takes {self.stock_forwards:g}: {self.saved:.0%} saved."
        )
        times = [
            f"{tally.seconds / tally.steps:.3g} s {article} {kind} step"
            for article, (kind, tally) in zip(("a", "an"), self.tallies.items(), strict=True)
            if tally.steps
        ]
        lines = [line, f"{', '.join(times)}; unguided steps: {self.tail}." if times else ""]
        return "\n".join([x for x in lines if x] + self.notes)


def listing(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))

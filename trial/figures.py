"""What images of a trial say: shares, kinds compared on the same cases and seeds, one sentence.

E. B. Wilson. Probable inference, the law of succession, and statistical inference. JASA 22, 1927.
A. Agresti, Y. Min. Simple improved confidence intervals for comparing matched proportions.
Statistics in Medicine 24, 2005.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest, norm

from .cases import CONTROL, PLAIN
from .kept import unique
from .record import BY_MODEL, Record

Z = 1.959964
CHANCE = 0.05
"""Differences are told when chance alone made them this seldom, all kinds of a trial together."""
FALL = 0.05
"""A share of images with all objects that is lower by more than this is said, even if it may be chance."""
SELDOM = 0.5
"""A share of plain noise's images with all objects that is surely below this is said."""
COUNTS = {1: "the object", 2: "both objects", 3: "all three objects"}


def interval(hits: int, n: int) -> tuple[float, float]:
    """95% Wilson interval of a share; 0 to 1 of nothing."""
    if not n:
        return 0.0, 1.0
    p = hits / n
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Share:
    """`hits` of `n`."""

    hits: int
    n: int

    @classmethod
    def of(cls, values: Iterable[bool]) -> Share:
        every = list(values)
        return cls(sum(every), len(every))

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return interval(self.hits, self.n)

    def percent(self) -> str:
        """`62% [50, 73]`"""
        if not self.n:
            return "-"
        low, high = self.interval
        return f"{100 * self.value:.0f}% [{100 * low:.0f}, {100 * high:.0f}]"

    def __str__(self) -> str:
        """`0.625 [0.503, 0.733]`"""
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"


def share(hits: Sequence[bool]) -> str:
    """`0.930 [0.890, 0.960] (n = 216)`"""
    return f"{Share.of(hits)} (n = {len(hits)})"


@dataclass(frozen=True)
class Paired:
    """Two kinds on the same drawings: how many only the first has (won), only the other one (lost), of n."""

    won: int
    lost: int
    n: int

    @property
    def p(self) -> float:
        """Of the exact two-sided sign test: how often chance alone would make it as uneven."""
        both = self.won + self.lost
        return float(binomtest(self.won, both).pvalue) if both else 1.0

    @property
    def difference(self) -> float:
        return (self.won - self.lost) / self.n if self.n else math.nan

    def interval(self, chance: float = CHANCE) -> tuple[float, float]:
        """Of the difference of both shares, Agresti and Min's; the true one is outside with this chance."""
        z = float(norm.ppf(1 - chance / 2))
        n, won, lost = self.n + 2, self.won + 0.5, self.lost + 0.5
        middle = (won - lost) / n
        half = z * math.sqrt(max(0.0, won + lost - (won - lost) ** 2 / n)) / n
        return max(-1.0, middle - half), min(1.0, middle + half)


def paired(both: Sequence[tuple[bool, bool]]) -> Paired:
    """Of pairs: one's and the other's."""
    return Paired(sum(a > b for a, b in both), sum(a < b for a, b in both), len(both))


@dataclass(frozen=True)
class Beside:
    """A kind and plain noise on the drawings that both have: all objects in place, and all there."""

    hits: Paired
    presence: Paired
    success: Share
    plain_success: Share
    present: Share
    plain_present: Share


@dataclass(frozen=True)
class Row:
    """One kind of noise: shares of its images, mean IoU, mean forwards per image (look_nfe: to look).

    beside: None for plain noise itself, and where no drawing is of both.
    """

    kind: str
    success: Share
    swapped: Share
    present: Share
    iou: float
    nfe: float
    look_nfe: float
    beside: Beside | None = None

    @property
    def n(self) -> int:
        return self.success.n

    @property
    def label(self) -> str:
        return label(self.kind)


def label(kind: str) -> str:
    """A kind as it is written within a sentence: `tickets (looked at)`."""
    if kind == PLAIN:
        return "plain noise"
    name, *rest = re.split(r"[,:] ", kind, maxsplit=1)
    return f"{name} ({rest[0]})" if rest else name


def rows(records: Iterable[Record], kinds: Sequence[str] = ()) -> list[Row]:
    """A row for each kind, plain noise first, then in the order of `kinds` or of the images."""
    by_kind: dict[str, list[Record]] = {kind: [] for kind in (PLAIN, *kinds)}
    for record in unique(records)[0]:
        by_kind.setdefault(record.kind, []).append(record)
    plain = by_kind[PLAIN]
    return [
        Row(
            kind,
            Share.of(r.hit for r in found),
            Share.of(r.swapped for r in found),
            Share.of(r.present for r in found),
            sum(r.iou for r in found) / len(found),
            sum(r.nfe + r.look_nfe for r in found) / len(found),
            sum(r.look_nfe for r in found) / len(found),
            None if kind == PLAIN else _beside(found, plain),
        )
        for kind, found in by_kind.items()
        if found
    ]


def _beside(found: Sequence[Record], plain: Sequence[Record]) -> Beside | None:
    ours, theirs = ({r.drawing: r for r in which} for which in (found, plain))
    both = [(ours[drawing], theirs[drawing]) for drawing in ours if drawing in theirs]
    if not both:
        return None
    hits, present = [(a.hit, b.hit) for a, b in both], [(a.present, b.present) for a, b in both]
    shares = (Share.of(column) for pairs in (hits, present) for column in zip(*pairs, strict=True))
    return Beside(paired(hits), paired(present), *shares)


@dataclass(frozen=True)
class Verdict:
    """What can be told, and the kinds that are better than plain noise, the best first."""

    text: str
    better: tuple[str, ...] = ()


def verdict(found: Sequence[Row], objects: int = 0) -> Verdict:
    """The sentence below a table. objects: how many each image has, 0 if not all have as many."""
    what = COUNTS.get(objects, f"all {objects} objects" if objects else "all objects")
    if not found:
        return Verdict("No image has been judged yet.")
    every = [(row, row.beside) for row in found if row.beside]
    controls = [pair for pair in every if pair[0].kind.startswith(CONTROL)]
    tried = [pair for pair in every if pair not in controls]
    if not every:
        if found[0].kind == PLAIN:
            said = f"Only plain noise was tried: {what} in place in {_of(found[0].success)}."
            return Verdict(" ".join([said, *_seldom_there(found[0], what)]))
        return Verdict("Nothing can be said: there is no image of plain noise with the same case and seed.")
    better = sorted(_clear(tried, 1), key=lambda pair: pair[1].success.value, reverse=True)
    worse = sorted(_clear(tried, -1), key=lambda pair: pair[1].success.value)
    sentences = [_success(better, what) if better else _no_success(tried or controls, worse, what)]
    for row, beside in _clear(controls, 1):
        why = ": the effect may have another cause than the tickets" if better else ""
        sentences.append(f"The {row.label} put {what} in place in {beside.success.percent()}, too{why}.")
    sentences += [*_falls(tried, what), *_seldom_there(found[0], what)]
    return Verdict(" ".join(sentences), tuple(row.kind for row, _ in better))


def verdict_of(records: Sequence[Record]) -> Verdict:
    """On the images of one table."""
    counts = {len(r.objects) for r in records}
    return verdict(rows(records), counts.pop() if len(counts) == 1 else 0)


def _of(value: Share) -> str:
    return f"{value.percent()} of {value.n} image{'s' if value.n > 1 else ''}"


def _clear(tried: Sequence[tuple[Row, Beside]], sign: int) -> list[tuple[Row, Beside]]:
    """Kinds that differ from plain noise in the direction of `sign`, by Holm's rule over all of them."""
    ordered = sorted(tried, key=lambda pair: pair[1].hits.p)
    clear = []
    for place, (row, beside) in enumerate(ordered):
        if beside.hits.p > CHANCE / (len(ordered) - place):
            break
        if beside.hits.difference * sign > 0:
            clear.append((row, beside))
    return clear


def _success(better: Sequence[tuple[Row, Beside]], what: str) -> str:
    (row, beside), *others = better
    said = (
        f"On this checkpoint {row.label} put {what} in place in {_of(beside.success)},"
        f" plain noise in {beside.plain_success.percent()}."
    )
    if others:
        also = ", ".join(f"{r.label} ({b.success.percent()})" for r, b in others)
        said += f" Better than plain noise, too: {also}."
    return said


def _no_success(tried: Sequence[tuple[Row, Beside]], worse: Sequence[tuple[Row, Beside]], what: str) -> str:
    if worse:
        row, beside = worse[0]
        return (
            f"On this checkpoint {row.label} put {what} in place less often than plain noise: in"
            f" {_of(beside.success)}, plain noise in {beside.plain_success.percent()}."
        )
    row, beside = max(tried, key=lambda pair: pair[1].hits.difference)
    low, high = (100 * end for end in beside.hits.interval(CHANCE / len(tried)))
    n = beside.hits.n
    may_be = f"the difference may be anything from {low:+.0f} to {high:+.0f} points"
    if low > 0 or high < 0:
        may_be = "of so few images that may be chance"
    return (
        f"No clear effect in {n} image{'s' if n > 1 else ''}: {row.label} put {what} in place in"
        f" {beside.success.percent()}, plain noise in {beside.plain_success.percent()}; {may_be}."
    )


def _falls(tried: Sequence[tuple[Row, Beside]], what: str) -> list[str]:
    """What is to be said where objects are missing more often than with plain noise."""
    sentences, unsure = list[str](), list[tuple[Row, Beside]]()
    for row, beside in tried:
        if beside.presence.difference >= 0:
            continue
        fewer = beside.presence.lost - beside.presence.won
        if beside.presence.p <= CHANCE:
            sentences.append(
                f"With {row.label} objects are missing more often: {what} {_were(what)} there in"
                f" {beside.present.percent()}, with plain noise in {beside.plain_present.percent()}."
            )
        elif fewer > 1 and beside.presence.difference < -FALL:
            unsure.append((row, beside))
    if unsure:
        kinds = " and with ".join(f"{row.label} in {beside.present.percent()}" for row, beside in unsure)
        plain = unsure[0][1].plain_present.percent()
        sentences.append(
            f"With {kinds} {what} {_were(what)} there, with plain noise in {plain}; that may be chance."
        )
    return sentences


def _seldom_there(row: Row, what: str) -> list[str]:
    """What is to be said where the model hardly draws these objects at all, so that nothing can help."""
    if row.kind != PLAIN or row.present.interval[1] >= SELDOM:
        return []
    return [
        f"Even with plain noise {what} {_were(what)} there in {row.present.percent()} only: try other words,"
        " more steps or another cfg."
    ]


def _were(what: str) -> str:
    return "was" if what == COUNTS[1] else "were"


def judged_by(judge: str) -> str:
    """Who has judged, for a caption."""
    return "Judged by the model itself" if judge == BY_MODEL else "Judged by a detector's boxes"


def kappa(both: Sequence[tuple[bool, bool]]) -> float:
    """Cohen's: agreement beyond what the shares alone make; 1 is full, NaN where both always say the same."""
    n = len(both)
    one, other = (sum(column) / n for column in zip(*both, strict=True))
    chance = one * other + (1 - one) * (1 - other)
    same = sum(a == b for a, b in both) / n
    return (same - chance) / (1 - chance) if chance < 1 else math.nan


def agreement(one: Sequence[Record], other: Sequence[Record]) -> str:
    """A sentence on how far two judges of the same images agree on each object; empty without any."""
    theirs = {(r.drawing, r.kind): r for r in other}
    pairs = [
        (a, b)
        for record in one
        if (record.drawing, record.kind) in theirs
        for a, b in zip(record.objects, theirs[record.drawing, record.kind].objects, strict=True)
    ]
    if not pairs:
        return ""
    said = []
    for what, both in (
        ("in its region", [(a.inside, b.inside) for a, b in pairs]),
        ("there", [(a.present, b.present) for a, b in pairs]),
    ):
        same, beyond = Share.of(a == b for a, b in both), kappa(both)
        said.append(
            f"whether it is {what} in {same.percent()}"
            + (f" (kappa {beyond:.2f})" if beyond == beyond else "")
        )
    return (
        f"Of {len(pairs)} objects the model itself and the detector say the same of {' and of '.join(said)}."
    )

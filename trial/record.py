"""What is kept of a trial: one JSON line for each image, format 1.

    {"trial": 1, "run": "0f3c...", "model": fingerprint, "kind": "tickets", "case": 12, "image": 0, "seed": 7,
     "prompt": "a cat and a tree", "width": 512, "height": 512, "settings": {"steps": 12, "cfg": 7, ...},
     "judge": "model", "regions": [{"category", "x0", "y0", "x1", "y1"}, ...],
     "objects": [{"category", "present", "confidence", "x", "y", "inside", "inside_other", "iou"}, ...],
     "hit": true, "swapped": false, "present": true, "nfe": 24, "look_nfe": 6.5}

- settings: all that decides what case n of a kind looks like (numbers, texts, lists of them), never how many
  images are drawn. Of two people's runs that differ in settings["seed"] (of the first case) and
  settings["bank"] (a digest of the tickets) only, the images go into one table; how many noises the
  tickets are of is a setting of its own.
- run: the hash of model, width, height and settings (`run_of`). An image is the same when run, kind, case and
  image are; the same image may be judged twice, by the model ("model") and by a detector ("boxes").
- regions: fractions of width and height. objects: one for each category, in the order of the regions; x and y
  are the centroid as fractions, null where the object is missing.
- hit: all objects are in their own regions; swapped: not so, but all in another category's; present: none is
  missing.
  They follow from objects, and are written for those who read the file with other tools.
- nfe: forwards of one image that sampling took, with guidance two a step; look_nfe: those spent on its noise
  before. The judge's are not in them.

The files are read and written by `kept`.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from ..tickets.layout.regions import Region, categories_of

FORMAT = 1
JUDGES = BY_MODEL, BY_BOXES = "model", "boxes"
SEED, BANK, LAYER = "seed", "bank", "layer"
LONGEST_LINE = 1 << 20
MOST_OBJECTS, LONGEST_NAME, LONGEST_PROMPT = 50, 200, 20_000
# Of a setting: a whole number, and lists in lists.
LARGEST = 1 << 64
DEEPEST = 4


class RecordError(ValueError):
    """A line that is no image of a trial; the message says what is wrong with it."""


class NoJson(RecordError):
    """A line that is not even JSON, perhaps one that was cut off."""


class Found(Protocol):
    """The verdict on one category in one image: `trial.verdict.Finding`."""

    @property
    def present(self) -> bool: ...
    @property
    def confidence(self) -> float: ...
    def centre(self) -> tuple[float, float]: ...
    def inside(self, region: Region) -> bool: ...
    def iou(self, region: Region) -> float: ...


@dataclass(frozen=True)
class Placed:
    """Where one category's object is. x, y: its centroid as fractions, None when it is missing."""

    category: str
    present: bool
    confidence: float
    x: float | None
    y: float | None
    inside: bool
    inside_other: bool
    iou: float


def placed(regions: Sequence[Region], findings: Sequence[Found]) -> tuple[Placed, ...]:
    """Each category's object, judged by its regions; findings in the order of the categories."""
    result = []
    for category, finding in zip(categories_of(regions), findings, strict=True):
        own = [r for r in regions if r.category == category]
        others = [r for r in regions if r.category != category]
        present = bool(finding.present)
        x, y = finding.centre() if present else (None, None)
        result.append(
            Placed(
                category,
                present,
                round(float(finding.confidence), 4),
                None if x is None else round(float(x), 4),
                None if y is None else round(float(y), 4),
                present and any(finding.inside(r) for r in own),
                present and any(finding.inside(r) for r in others),
                round(max(float(finding.iou(r)) for r in own), 4) if present else 0.0,
            )
        )
    return tuple(result)


@dataclass(frozen=True)
class Record:
    """One judged image; the fields are those of the module's docstring."""

    model: str
    kind: str
    case: int
    image: int
    seed: int
    prompt: str
    width: int
    height: int
    settings: Mapping[str, Any] = field(hash=False)
    judge: str
    regions: tuple[Region, ...]
    objects: tuple[Placed, ...]
    nfe: float
    look_nfe: float = 0.0

    @cached_property
    def run(self) -> str:
        return run_of(self.model, self.width, self.height, self.settings)

    @property
    def hit(self) -> bool:
        return all(o.inside for o in self.objects)

    @property
    def swapped(self) -> bool:
        return not self.hit and len(self.objects) > 1 and all(o.inside_other for o in self.objects)

    @property
    def present(self) -> bool:
        return all(o.present for o in self.objects)

    @property
    def iou(self) -> float:
        """Mean over the objects; 0 for one that is missing."""
        return sum(o.iou for o in self.objects) / len(self.objects)

    @property
    def drawing(self) -> tuple[str, int, int]:
        """Equal for images of several kinds that are drawn of the same case and seed."""
        return self.run, self.case, self.image

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        return self.run, self.judge, self.kind, self.case, self.image

    def question(self, pooled: Collection[str] = ()) -> str:
        """Equal for images of one table: judge and settings are the same, but for those that are left open.

        pooled: settings that are left open beside the first seed and the tickets.
        """
        settings = {k: v for k, v in self.settings.items() if k not in (SEED, BANK, *pooled)}
        return f"{run_of(self.model, self.width, self.height, settings)} {self.judge}"

    def line(self) -> str:
        """One line of the file, its end included."""
        whole = {
            "trial": FORMAT,
            "run": self.run,
            **{name: getattr(self, name) for name in ("model", "kind", "case", "image", "seed", "prompt")},
            "width": self.width,
            "height": self.height,
            "settings": {name: plain_setting(value) for name, value in self.settings.items()},
            "judge": self.judge,
            "regions": [_shown(r) for r in self.regions],
            "objects": [_shown(o) for o in self.objects],
            "hit": self.hit,
            "swapped": self.swapped,
            "present": self.present,
            "nfe": self.nfe,
            "look_nfe": self.look_nfe,
        }
        return json.dumps(whole, separators=(",", ":"), allow_nan=False) + "\n"


def run_of(model: str, width: int, height: int, settings: Mapping[str, Any]) -> str:
    """12 hexadecimal digits, the same for the same settings in any order."""
    whole = [model, width, height, {name: plain_setting(value) for name, value in settings.items()}]
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parse(line: str | bytes) -> Record:
    """The image of a line; RecordError with the reason when it is none."""
    if len(line) > LONGEST_LINE:
        raise RecordError("longer than any line of a trial")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise NoJson("no JSON") from None
    if not isinstance(found, dict) or "trial" not in found:
        raise RecordError('no "trial"')
    if found["trial"] != FORMAT or isinstance(found["trial"], bool):
        raise RecordError(f"of a format other than {FORMAT}, perhaps of a newer version")
    read = _Reader(found)
    settings = read.take("settings", dict)
    if not all(_can_be_shown(name, "") and _is_setting(value) for name, value in settings.items()):
        raise RecordError("settings that are no numbers and texts")
    regions = tuple(_region(_Reader(r)) for r in read.many("regions"))
    objects = tuple(_object(_Reader(o)) for o in read.many("objects"))
    if categories_of(regions) != tuple(o.category for o in objects):
        raise RecordError("objects that are not those of the regions")
    record = Record(
        read.name("model"),
        read.name("kind"),
        read.count("case"),
        read.count("image"),
        read.count("seed", 2**64),
        read.name("prompt", LONGEST_PROMPT),
        read.count("width"),
        read.count("height"),
        settings,
        read.name("judge"),
        regions,
        objects,
        read.number("nfe", 0.0, 1e9),
        read.number("look_nfe", 0.0, 1e9),
    )
    if record.judge not in JUDGES:
        raise RecordError(f"judge is none of {', '.join(JUDGES)}")
    for name in ("run", "hit", "swapped", "present"):
        if found.get(name) != getattr(record, name):
            raise RecordError(f"{name} does not follow from the rest")
    return record


class _Reader:
    """Values of a JSON object, of the right kind or RecordError."""

    def __init__(self, found: Any) -> None:
        if not isinstance(found, dict):
            raise RecordError("lists of something else")
        self.found = found

    def take(self, name: str, kind: type) -> Any:
        value = self.found.get(name)
        if not isinstance(value, kind):
            raise RecordError(f"{name} is missing or of another kind")
        return value

    def many(self, name: str) -> list[Any]:
        values: list[Any] = self.take(name, list)
        if not 0 < len(values) <= MOST_OBJECTS:
            raise RecordError(f"{len(values)} {name}")
        return values

    def name(self, name: str, longest: int = LONGEST_NAME) -> str:
        text: str = self.take(name, str)
        if not text.strip() or len(text) > longest:
            raise RecordError(f"{name} is empty or too long")
        if not _can_be_shown(text, "\n\r\t" if longest == LONGEST_PROMPT else ""):
            raise RecordError(f"{name} has letters that cannot be shown")
        return text

    def count(self, name: str, most: int = 2**31) -> int:
        value: Any = self.take(name, int)
        if isinstance(value, bool) or not 0 <= value < most:
            raise RecordError(f"{name} is no whole number from 0")
        return int(value)

    def number(self, name: str, low: float, high: float) -> float:
        value = self.found.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise RecordError(f"{name} is no number from {low:g} to {high:g}")
        return value


def _region(read: _Reader) -> Region:
    x0, y0, x1, y1 = (read.number(side, 0.0, 1.0) for side in ("x0", "y0", "x1", "y1"))
    if not (x0 < x1 and y0 < y1):
        raise RecordError("a region without an area")
    return Region(read.name("category"), x0, y0, x1, y1)


def _object(read: _Reader) -> Placed:
    present, inside, other = (read.take(name, bool) for name in ("present", "inside", "inside_other"))
    if (inside or other) and not present:
        raise RecordError("a missing object in a region")
    x, y = (read.number(side, 0.0, 1.0) if present else None for side in ("x", "y"))
    category, confidence = read.name("category"), read.number("confidence", -1e9, 1e9)
    return Placed(category, present, confidence, x, y, inside, other, read.number("iou", 0.0, 1.0))


def _is_setting(value: Any, deep: int = 0) -> bool:
    if isinstance(value, list):
        return deep < DEEPEST and all(_is_setting(part, deep + 1) for part in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < LARGEST
    return value is None or (isinstance(value, str) and _can_be_shown(value))


def _can_be_shown(text: str, but: str = "\n\r\t") -> bool:
    """Whether it has neither halves of letters nor codes that steer a terminal, `but` for some."""
    return not any(unicodedata.category(c) in ("Cc", "Cs") and c not in but for c in text)


def plain_setting(value: Any) -> Any:
    """A setting as it is written: 7.0 and 7 are one."""
    if isinstance(value, list | tuple):
        return [plain_setting(part) for part in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST:
        return int(value)
    return value


def _shown(value: Region | Placed) -> dict[str, Any]:
    return dict(vars(value))

"""What a detector's boxes say of a trial's images: which label is which category, which box is the object.

ComfyUI's detectors give for each image a list of {x, y, width, height, score} in pixels, with a `label` where
they know names of their own (COCO's), without one where they were asked for words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..tickets.words import category_name, same_category
from .record import BY_BOXES, Record, placed
from .verdict import Finding

# Side of a cell of the masks that boxes become, in pixels.
CELL = 4
MOST_NAMED = 12
# Words for which COCO has another one, which stands first.
SYNONYMS = (
    ("airplane", "plane", "aeroplane", "jet"),
    ("bicycle", "bike"),
    ("boat", "ship", "sailboat"),
    ("cell phone", "phone", "smartphone", "mobile phone"),
    ("couch", "sofa"),
    ("dining table", "table"),
    ("donut", "doughnut"),
    ("hair drier", "hair dryer"),
    ("motorcycle", "motorbike"),
    ("person", "man", "woman", "boy", "girl", "child"),
    ("potted plant", "plant", "houseplant"),
    ("remote", "remote control"),
    ("sports ball", "ball", "football", "basketball"),
    ("teddy bear", "teddy"),
    ("tv", "television"),
)
IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "mice": "mouse",
    "geese": "goose",
    "knives": "knife",
    "wolves": "wolf",
    "leaves": "leaf",
}


class BoxesError(ValueError):
    """Boxes that cannot judge a trial; the message says why."""


@dataclass(frozen=True)
class Box:
    """label: "" if the detector gives none. corners: left, top, right, bottom as fractions."""

    label: str
    score: float
    corners: tuple[float, float, float, float]


def boxes_of(given: Any, images: int, width: int, height: int) -> list[list[Box]]:
    """The boxes of each of so many images, from what a detector gives for images of width x height pixels."""
    if isinstance(given, dict):
        given = [given]
    if not isinstance(given, (list, tuple)):
        raise BoxesError(f"boxes is {type(given).__name__}, not a list of bounding boxes.")
    if all(isinstance(box, dict) for box in given) and (given or images == 1):
        given = [given]
    if len(given) != images:
        raise BoxesError(
            f"The boxes are of {len(given)} images, but the trial has {images}: the detector must get all of"
            " them, in their order."
        )
    for n, found in enumerate(given, 1):
        if not isinstance(found, (list, tuple)):
            raise BoxesError(f"Image {n}: {found!r:.80} is no list of bounding boxes.")
    return [[_box(box, n, width, height) for box in found] for n, found in enumerate(given, 1)]


def _box(box: Any, image: int, width: int, height: int) -> Box:
    try:
        x, y, w, h = (float(box[side]) for side in ("x", "y", "width", "height"))
        score = float(box.get("score", 1.0))
        label = str(box.get("label") or "").strip()
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RuntimeError):
        raise BoxesError(f"Image {image}: {box!r:.80} is no bounding box (x, y, width, height).") from None
    if not all(map(math.isfinite, (x, y, w, h))) or w < 0 or h < 0:
        raise BoxesError(f"Image {image}: {box!r:.80} has no area that can be judged.")
    corners = (x / width, y / height, (x + w) / width, (y + h) / height)
    return Box(label, score if math.isfinite(score) else 0.0, corners)


def same_thing(one: str, other: str) -> bool:
    """Whether two names mean the same: case, quotes, articles, number and COCO's own words do not matter."""
    return same_category(one, other) or bool(_meanings(one) & _meanings(other))


def _meanings(name: str) -> set[str]:
    forms = _forms(name)
    return forms | {group[0] for group in SYNONYMS if forms & set(group)}


def _forms(name: str) -> set[str]:
    """The name without its article, and what it may be in the singular."""
    words = category_name(name).strip('"').split()
    words = words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words
    if not words:
        return set()
    *before, last = words
    singulars = {last, IRREGULAR.get(last, last)}
    for ending, instead in (("ies", "y"), ("es", ""), ("s", "")):
        if last.endswith(ending) and len(last) > len(ending) + 2 and not last.endswith("ss"):
            singulars.add(last.removesuffix(ending) + instead)
    return {" ".join([*before, word]) for word in singulars}


def parse_names(text: str) -> dict[str, str]:
    """Lines `category: label` for categories that the detector calls otherwise."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        category, colon, label = line.partition(":")
        if not colon or not category.strip() or not label.strip():
            raise BoxesError(f'"{line}" is not a category, a colon and what the detector calls it.')
        found[category.strip()] = label.strip()
    return found


def label_of(category: str, names: Mapping[str, str]) -> str:
    """What the detector calls a category."""
    return next((label for own, label in names.items() if same_category(own, category)), category)


@dataclass(frozen=True, eq=False)
class Scored:
    """records: judged by boxes. masks: of each, bool [categories, rows, columns]. notes: sentences."""

    records: list[Record]
    masks: list[np.ndarray]
    notes: list[str]


def score(
    records: Sequence[Record],
    detections: Sequence[Any],
    width: int,
    height: int,
    names: Mapping[str, str] | None = None,
) -> Scored:
    """The same images judged by boxes: of a category, the box of the highest score.

    detections: what one detector gives for all images; or several, of which each that gives no labels was
    asked for one category, in the order in which the records first name them. width, height: of the images.
    """
    if not records:
        raise BoxesError("The trial has no images.")
    categories = list(dict.fromkeys(r.category for record in records for r in record.regions))
    names = names or {}
    _require_apart(categories, names)
    sources = [boxes_of(given, len(records), width, height) for given in detections]
    sources = [_labelled(boxes, n, len(sources), categories) for n, boxes in enumerate(sources)]
    found = [[box for boxes in sources for box in boxes[n]] for n in range(len(records))]
    rows, columns = max(1, math.ceil(height / CELL)), max(1, math.ceil(width / CELL))
    judged, masks = [], []
    for record, boxes in zip(records, found, strict=True):
        wanted = list(dict.fromkeys(r.category for r in record.regions))
        findings = [_finding(boxes, label_of(c, names), rows, columns) for c in wanted]
        judged.append(replace(record, judge=BY_BOXES, objects=placed(record.regions, findings)))
        masks.append(np.stack([f.mask for f in findings]))
    return Scored(judged, masks, _never_found(judged, categories, found))


def _require_apart(categories: Sequence[str], names: Mapping[str, str]) -> None:
    for n, one in enumerate(categories):
        for other in categories[n + 1 :]:
            if same_thing(label_of(one, names), label_of(other, names)):
                raise BoxesError(
                    f'"{one}" and "{other}" have the same label for the detector, whose boxes cannot tell'
                    " them apart."
                )


def _labelled(
    boxes: list[list[Box]], number: int, sources: int, categories: Sequence[str]
) -> list[list[Box]]:
    """With the category as the label of boxes that have none."""
    if all(box.label for found in boxes for box in found):
        return boxes
    if sources != len(categories):
        raise BoxesError(
            f"Boxes {number + 1} carry no labels, so each category needs a detector of its own, in this"
            f" order: {', '.join(categories)}. Connected: {sources}."
        )
    return [[replace(box, label=box.label or categories[number]) for box in found] for found in boxes]


def _finding(boxes: Sequence[Box], label: str, rows: int, columns: int) -> Finding:
    fitting = [box for box in boxes if same_thing(box.label, label)]
    if not fitting:
        return Finding.missing(rows, columns)
    best = max(fitting, key=lambda box: box.score)
    return Finding.from_box(best.corners, rows, columns, min(max(best.score, 0.0), 1.0))


def _never_found(
    judged: Sequence[Record], categories: Sequence[str], found: Sequence[Sequence[Box]]
) -> list[str]:
    seen = {o.category for record in judged for o in record.objects if o.present}
    never = [c for c in categories if c not in seen]
    if not never:
        return []
    labels = Counter(box.label for boxes in found for box in boxes)
    what = ", ".join(label for label, _ in labels.most_common(MOST_NAMED)) or "nothing at all"
    return [
        f"Never found: {', '.join(never)}. The detector found: {what}. If it has other names for them, say"
        " so in names, as in red car: car."
    ]

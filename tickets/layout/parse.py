"""The forms in which users give regions: lines of text, boxes in pixels, elements in thousandths."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from ..words import EMBEDDING, LONGEST_NAME, QUOTES, category_name
from .regions import Region, RegionError

# Colons, as keyboards have them; without one, a tab, a dash or the like before the numbers.
LINE = re.compile(r"^(?P<category>.*?)\s*[:\uff1a\u2236\ufe55]\s*(?P<numbers>[^:\uff1a\u2236\ufe55]*)$")
BARE = re.compile(
    r"^(?P<category>.*?[^\d.,\s])?(?:\s+[-\u2013\u2014]\s|\s*[,;=|\t]\s*)(?P<numbers>[][(){}\d.,;\s+-]+)$"
)
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)")
COMMENT = re.compile(r"(^|\s)[#\uff03].*")
EXAMPLE = "castle: 0.62 0.18 1.0 0.69"
SLACK = 1e-6
# Of a line in characters: these patterns would take long to see that a longer one is no region.
LONGEST_LINE = 1000
MOST_REGIONS = 1000
LONGEST_SHOWN = 200


def parse_regions(text: str) -> list[Region]:
    """One region a line, `category: x0 y0 x1 y1`; blank lines and what follows # are skipped.

    Punctuation, digits and spaces of Chinese and Japanese keyboards are the same as others. Between the
    numbers stand spaces, commas or semicolons; decimal commas are understood where that is clear. Or the
    region editor's JSON: {"regions": [{"category": "castle", "box": [x0, y0, x1, y1]}]}.
    """
    text = text.lstrip("\ufeff")
    if text.lstrip().startswith("{"):
        return _of_json(text)
    lines = (COMMENT.sub("", line).strip() for line in text.splitlines())
    return [_of_line(number, line) for number, line in enumerate(filter(None, lines), 1)]


def names_only(text: str) -> bool:
    """Whether a text lists categories, one a line, without any numbers of a box; so does an empty one.

    A colon with something behind it is for a box, whatever it is, but not within quotes.
    """
    lines = [unicodedata.normalize("NFKC", COMMENT.sub("", line)).strip() for line in text.splitlines()]
    if text.lstrip("\ufeff \n\r\t").startswith("{"):
        return False
    bare = [line for line in lines if line[:1] not in QUOTES]
    return not (
        any(len(line) > LONGEST_LINE or _ends_in_numbers(line) for line in lines)
        or any(re.search(r":[\s\d.,;+-]*\d[\s.,;]*$", line) for line in lines)
        or any(re.search(r":\s+\S", line) for line in bare)
    )


def _ends_in_numbers(line: str, least: int = 3) -> bool:
    """Whether at least so many numbers end a line, decimal commas counted as between two."""
    words = re.split(r"[\s,;]+", line.rstrip("])};,. \t"))
    count = 0
    for word in reversed(words):
        if not NUMBER.fullmatch(word):
            # What precedes the first may be written without a space: castle[0.1.
            return count + word[-1:].isdecimal() >= least
        count += 1
    return count >= least


def require_regions(regions: Sequence[Any], boxes: bool = False) -> None:
    """RegionError when there are none. boxes: they were given as boxes."""
    if boxes and not regions:
        raise RegionError(
            "No boxes: the detector found nothing. Lower its threshold, or connect boxes that hold one."
        )
    if not regions:
        raise RegionError(
            f'No regions: write one per line, like "{EXAMPLE}", draw one in the region editor, or connect'
            " some."
        )
    if len(regions) > MOST_REGIONS:
        raise RegionError(f"{len(regions)} regions are too many: at most {MOST_REGIONS}.")


def _of_line(number: int, line: str) -> Region:
    if len(line) > LONGEST_LINE:
        raise RegionError(
            f"Region {number} ({_shown(line)}) has {len(line)} characters: write one region per line, like"
            f' "{EXAMPLE}".'
        )
    found = LINE.match(line)
    if not found or found["category"].strip() + ":" == EMBEDDING:
        found = BARE.match(unicodedata.normalize("NFKC", line))
    where = f"Region {number} ({_shown(line)})"
    if not found or not (found["category"] or "").strip():
        raise RegionError(f'{where} names no category: write it like "{EXAMPLE}".')
    box = _numbers(found["numbers"])
    if len(box) != 4 or not all(math.isfinite(n) for n in box):
        raise RegionError(f"{where} needs four numbers (left top right bottom, from 0 to 1): {EXAMPLE}")
    return checked(found["category"], box, where)


def _shown(text: str) -> str:
    """A text of the user's in an error, however long."""
    return whole if len(whole := repr(text)) <= LONGEST_SHOWN else repr(text[:60] + "...")


def _numbers(text: str) -> list[float]:
    """The numbers of a line, none where one is no number."""
    plain = unicodedata.normalize("NFKC", text).replace("\u3001", ",").strip("[](){} ,;")
    words = [word.rstrip(",") for word in re.split(r"[\s;]+", plain)]
    if len(words) == 4 and all(re.fullmatch(r"[+-]?\d*[.,]?\d+", word) for word in words):
        # As much of Europe writes them: 0,62 0,18 1,0 0,69.
        words = [word.replace(",", ".") for word in words]
    else:
        words = re.split(r"[\s,;]+", plain)
    try:
        return [float(word) for word in words]
    except ValueError:
        return []


def _of_json(text: str) -> list[Region]:
    try:
        entries = _of_type(json.loads(text, parse_constant=_no_constant)["regions"], list)
        found = [(_of_type(e["category"], str), [_number(v) for v in e["box"]]) for e in entries]
    except json.JSONDecodeError as error:
        raise RegionError(
            f"The regions are broken JSON (line {error.lineno}, column {error.colno}): fix or clear them in"
            " the region editor's text view."
        ) from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise RegionError(
            'The regions are JSON of another form than {"regions": [{"category": "castle", "box": [0.62,'
            " 0.18, 1.0, 0.69]}]}: fix or clear them in the region editor's text view."
        ) from None
    return [_of_entry(number, *entry) for number, entry in enumerate(found, 1)]


def _no_constant(name: str) -> None:
    """NaN and Infinity, which are no JSON and which no page reads."""
    raise ValueError(name)


def _of_type(value: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _number(value: Any) -> float:
    """As the page's editor has it: neither a text nor a truth value is one."""
    if isinstance(value, bool):
        raise TypeError
    return float(_of_type(value, (int, float)))


def _of_entry(number: int, category: str, box: Sequence[float]) -> Region:
    where = f"Region {number} ({_shown(category)})"
    if len(box) != 4 or not all(math.isfinite(v) for v in box):
        raise RegionError(f"{where} needs four numbers: left, top, right and bottom, from 0 to 1.")
    return checked(category, box, where)


def named(category: str, where: str) -> str:
    """A category as a bank lists it."""
    name = category_name(category)
    if not name:
        raise RegionError(f"{where} has no category: name what to place here.")
    if len(name) > LONGEST_NAME:
        raise RegionError(
            f"{where}: a category of {len(name)} characters is too long: at most {LONGEST_NAME}."
        )
    return name


def checked(category: str, box: Sequence[float], where: str) -> Region:
    """A region whose box (left, top, right, bottom as fractions) lies in the image and is not empty."""
    x0, y0, x1, y1 = box
    name = named(category, where)
    if min(box) < -SLACK or max(box) > 1 + SLACK:
        raise RegionError(f"{where} leaves the image: all four numbers must be between 0 and 1.")
    if x0 >= x1 or y0 >= y1:
        raise RegionError(f"{where} is empty: left must be below right, top below bottom.")
    return Region(name, *(min(max(n, 0.0), 1.0) for n in box))


def parse_boxes(boxes: Any, category: str, width: int, height: int) -> list[Region]:
    """Regions of ComfyUI's bounding boxes or elements.

    boxes: one or a list of {x, y, width, height} in pixels of an image of width x height, with or
    without a `label`; a list of such lists, one per image, of which the first is taken; or elements
    with a `bbox` of [ymin, xmin, ymax, xmax] in thousandths and a `desc`. `category` names those
    without a label, description or text. Boxes are cut to the image; RegionError names one that lies outside.
    """
    if isinstance(boxes, dict):
        boxes = [boxes]
    if isinstance(boxes, (list, tuple)) and boxes and isinstance(boxes[0], (list, tuple)):
        boxes = boxes[0]
    if not isinstance(boxes, (list, tuple)):
        raise RegionError(f"boxes is {type(boxes).__name__}: connect bounding boxes or elements.")
    return [_of_box(f"Box {n}", box, category, width, height) for n, box in enumerate(boxes, 1)]


def _of_box(where: str, box: Any, category: str, width: int, height: int) -> Region:
    try:
        if "bbox" in box:
            y0, x0, y1, x1 = (float(v) / 1000 for v in box["bbox"])
            label = box.get("desc") or box.get("text")
        else:
            x, y, w, h = (float(box[key]) for key in ("x", "y", "width", "height"))
            x0, y0, x1, y1 = x / width, y / height, (x + w) / width, (y + h) / height
            about = box.get("metadata") or {}
            label = box.get("label") or about.get("desc") or about.get("text")
        corners = (x0, y0, x1, y1)
        if not all(math.isfinite(v) for v in corners):
            raise ValueError
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RuntimeError):
        raise RegionError(
            f"{where} ({box!r:.80}) is neither a bounding box (x, y, width, height in pixels) nor an"
            " element (bbox of ymin, xmin, ymax, xmax)."
        ) from None
    if x0 >= x1 or y0 >= y1:
        raise RegionError(f"{where} is empty or turned round: its width and height must be above 0.")
    if x0 >= 1 or y0 >= 1 or x1 <= 0 or y1 <= 0:
        raise RegionError(
            f"{where} lies outside the image of {width}x{height}: give the width and height that the boxes"
            " were made for."
        )
    clipped = [min(max(v, 0.0), 1.0) for v in corners]
    return checked(str(label or category), clipped, where)

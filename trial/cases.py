"""What a trial draws: layouts with a prompt and a seed each, the same for every kind of noise."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ..tickets.layout.regions import AnyRegion, MaskRegion, Region, categories_of
from ..tickets.noise import SEED_RANGE
from ..tickets.prompts import JOINT, PLACE, Prompt, make_prompts, parse_template

PLAIN = "plain"
"""The kind of noise that all others are compared with."""
CONTROL = "control"
"""Tickets of the other category: what they do is no success."""

PAIRS, TRIPLES, BOTH = OBJECTS = ("two", "three", "two and three")

Box = tuple[float, float, float, float]
# Multiples of a sixteenth: whole cells of the layers that tickets are collected at, at the usual sizes.
LOW, MIDDLE, HIGH = 0.0625, 0.3125, 0.5625
SIDE = 0.375


def _box(x: float, y: float) -> Box:
    return x, y, x + SIDE, y + SIDE


PLACES: dict[int, dict[str, tuple[Box, ...]]] = {
    1: {
        "left": (_box(LOW, MIDDLE),),
        "right": (_box(HIGH, MIDDLE),),
        "top left": (_box(LOW, LOW),),
        "bottom right": (_box(HIGH, HIGH),),
        "top right": (_box(HIGH, LOW),),
        "bottom left": (_box(LOW, HIGH),),
    },
    2: {
        "left, right": (_box(LOW, MIDDLE), _box(HIGH, MIDDLE)),
        "falling": (_box(LOW, LOW), _box(HIGH, HIGH)),
        "top, bottom": (_box(MIDDLE, LOW), _box(MIDDLE, HIGH)),
        "rising": (_box(LOW, HIGH), _box(HIGH, LOW)),
    },
    3: {
        "triangle": (_box(LOW, LOW), _box(HIGH, LOW), _box(MIDDLE, HIGH)),
        "row": tuple((x, MIDDLE, x + MIDDLE, MIDDLE + SIDE) for x in (0.03125, 0.34375, 0.65625)),
    },
}
"""By the number of objects: boxes (left, top, right, bottom as fractions), the first object's first."""


class TrialError(ValueError):
    """What cannot be tried; the message says what to change."""


@dataclass(frozen=True)
class Case:
    """One image to draw with every kind of noise: its layout, its prompt and the seed of its noise.

    The categories of the regions are the phrases of the prompt, in the order of the regions.
    """

    regions: tuple[Region, ...]
    prompt: Prompt
    seed: int

    @property
    def categories(self) -> tuple[str, ...]:
        return categories_of(self.regions)


def given_cases(regions: Sequence[AnyRegion], prompt: str, count: int, seed: int) -> list[Case]:
    """`count` cases of one layout, of seeds seed, seed + 1, ...

    prompt: see `case_prompt`. Masks are tried as the boxes around them. TrialError where a category has
    several regions: whether its objects are in them cannot be judged from one mask of it.
    """
    boxes = tuple(_boxed(region) for region in regions)
    names = [region.category for region in boxes]
    for name in names:
        if names.count(name) > 1:
            raise TrialError(
                f'"{name}" has {names.count(name)} regions: a trial judges one region for each category. Give'
                " them different names, or keep one."
            )
    written = case_prompt(names, prompt)
    return [Case(boxes, written, (seed + k) % SEED_RANGE) for k in range(count)]


def made_cases(categories: Sequence[str], objects: str, prompt: str, count: int, seed: int) -> list[Case]:
    """`count` cases of two or three of the categories at several places, of seeds seed, seed + 1, ...

    Any beginning is a fair sample: every choice of categories comes once before one comes again. Each choice
    comes in pairs of cases with the objects of the first in each other's places in the second, under the
    same prompt; so neither the order of the words nor a preferred side counts. The layouts depend on the
    categories, not on the seed. One category alone is tried alone.
    """
    if objects not in OBJECTS:
        raise TrialError(f"objects is {objects!r}; choose one of {', '.join(OBJECTS)}.")
    wanted = {PAIRS: (2,), TRIPLES: (3,), BOTH: (2, 3)}[objects]
    sizes = sorted({min(size, len(categories)) for size in wanted})
    layouts = _layouts(categories, sizes)
    found = []
    for k in range(count):
        regions = next(layouts)
        written = case_prompt([r.category for r in regions], prompt)
        found.append(Case(regions, written, (seed + k) % SEED_RANGE))
    return found


def case_prompt(categories: Sequence[str], text: str = PLACE) -> Prompt:
    """The prompt of a case and where its categories stand.

    text: a template, in which {} is where the categories go; or the whole prompt, in which all of them
    stand. TrialError names one that does not.
    """
    if re.search(r"[{\uff5b]\s*[}\uff5d]", text) or not text.strip():
        template = parse_template(text) if text.strip() else PLACE
        return make_prompts(categories, JOINT, template)[0]
    spans: dict[int, tuple[int, int]] = {}
    # The longest first: "a black cat and a cat" has a cat of its own.
    for index, category in sorted(enumerate(categories), key=lambda item: -len(item[1])):
        bare = re.escape(category.strip('"'))
        places = [
            found.span()
            for pattern in (rf"(?<!\w){bare}(?!\w)", bare)
            for found in re.finditer(pattern, text, re.IGNORECASE)
        ]
        free = [p for p in places if all(p[1] <= start or stop <= p[0] for start, stop in spans.values())]
        if not free:
            of_its_own = " but in another category" if places else ""
            raise TrialError(
                f'"{category}" is not in the prompt "{text}"{of_its_own}: name it there as in the'
                f" regions, or write {PLACE} where the categories go."
            )
        spans[index] = free[0]
    return Prompt(text, tuple((index, *spans[index]) for index in range(len(categories))))


def turned(regions: Sequence[Region]) -> tuple[Region, ...]:
    """The regions with each category in the place of the next one: the layout of the control."""
    names = [region.category for region in regions]
    return tuple(
        replace(region, category=name) for region, name in zip(regions, [*names[1:], *names[:1]], strict=True)
    )


def _boxed(region: AnyRegion) -> Region:
    """A region as its box."""
    if not isinstance(region, MaskRegion):
        return region
    seen = region.masks[0] > 0.5
    seen = seen if bool(seen.any()) else region.masks[0] > 0
    rows, columns = (seen.any(side).nonzero().flatten() for side in (1, 0))
    height, width = seen.shape
    edges = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
    return Region(region.category, *(float(edge) for edge in edges))


def _layouts(categories: Sequence[str], sizes: Sequence[int]) -> Iterator[tuple[Region, ...]]:
    """Without end."""
    order = random.Random("trial")
    choices = [c for size in sizes for c in combinations(categories, size)]
    order.shuffle(choices)
    ways = {choice: _ways(choice, order) for choice in choices}
    turn = 0
    while True:
        for choice in choices:
            boxes = ways[choice][turn % len(ways[choice])]
            for placed in (boxes, boxes[::-1]) if len(choice) > 1 else (boxes,):
                yield tuple(Region(name, *box) for name, box in zip(choice, placed, strict=True))
        turn += 1


def _ways(choice: Sequence[str], order: random.Random) -> list[tuple[Box, ...]]:
    """The places of so many objects, in an order of this choice's own."""
    places = list(PLACES[len(choice)].values())
    order.shuffle(places)
    if len(choice) < 3:
        return places
    # Of three, each comes first once; reversed by the caller, that is all six orders.
    return [(*boxes[k:], *boxes[:k]) for k in range(3) for boxes in places]

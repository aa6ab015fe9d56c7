"""Small records of trials that never took place."""

from __future__ import annotations

from typing import Any

from winning_tickets.tickets.layout.regions import Region
from winning_tickets.trial.cases import PLAIN
from winning_tickets.trial.record import Placed, Record

REGIONS = (Region("cat", 0.0, 0.25, 0.5, 0.75), Region("fire hydrant", 0.5, 0.25, 1.0, 0.75))
SETTINGS = {"seed": 7, "steps": 12, "cfg": 7.0, "sampler": "euler", "scheduler": "normal", "layer": "input 8"}


def an_object(category: str, inside: bool = True, other: bool = False, present: bool = True) -> Placed:
    if not present:
        return Placed(category, False, 0.05, None, None, False, False, 0.0)
    return Placed(category, True, 0.75, 0.25, 0.5, inside, other, 0.6 if inside else 0.0)


def a_record(
    kind: str = PLAIN,
    case: int = 0,
    hit: bool = True,
    present: bool = True,
    swapped: bool = False,
    **changed: Any,
) -> Record:
    """Two objects, of which without `present` one is missing."""
    hit, swapped = hit and present, swapped and present
    first = an_object("cat", hit, swapped)
    second = an_object("fire hydrant", hit, swapped, present)
    values: dict[str, Any] = {
        "model": "0123abcd-text",
        "kind": kind,
        "case": case,
        "image": 0,
        "seed": 7 + case,
        "prompt": "a cat and a fire hydrant",
        "width": 512,
        "height": 384,
        "settings": SETTINGS,
        "judge": "model",
        "regions": REGIONS,
        "objects": (first, second),
        "nfe": 24,
        "look_nfe": 0 if kind == PLAIN else 6.5,
    }
    return Record(**(values | changed))

"""Layers that were chosen before, in a small file of the user's, so that no model is tried twice."""

from __future__ import annotations

import datetime
import json
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import folder_paths

from ...tickets.whole import replacing, sweep

FOLDER, NAME = "__winning_tickets", "layers.json"
# Of the rule: what an earlier one chose is not believed.
RULE = 2
MOST = 200
LONGEST = 2000


@dataclass(frozen=True)
class Remembered:
    """A layer by its name, why it was chosen, and the day."""

    layer: str
    why: str
    date: str


def path() -> Path:
    return Path(folder_paths.get_user_directory()) / FOLDER / NAME


def recall(about: str) -> Remembered | None:
    """What was chosen for a model and size; nothing where the file is missing or not ours."""
    return _read().get(about)


def remember(about: str, layer: str, why: str) -> bool:
    """Whether it is written. Keeps the latest MOST choices. A file that cannot be written is only logged: it
    saves time, no more."""
    every = _read()
    every.pop(about, None)
    every[about] = Remembered(layer, why, datetime.date.today().isoformat())
    kept = {about: asdict(choice) for about, choice in list(every.items())[-MOST:]}
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        sweep(file.parent)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps({"rule": RULE, "layers": kept}, indent=1), encoding="utf-8")
    except OSError as error:
        logging.warning("Winning Tickets: %s cannot be written: %s", file, error)
        return False
    return True


def _read() -> dict[str, Remembered]:
    try:
        whole = json.loads(path().read_text(encoding="utf-8"))
        layers = whole["layers"] if whole["rule"] == RULE else {}
        return {about: Remembered(**found) for about, found in layers.items() if _is_ours(found)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_ours(found: Any) -> bool:
    """Whether these are a choice's fields: texts of one line that can be shown."""
    return (
        isinstance(found, dict)
        and set(found) == {field.name for field in fields(Remembered)}
        and all(isinstance(v, str) and v.isprintable() and len(v) <= LONGEST for v in found.values())
    )

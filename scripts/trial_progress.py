"""How far a trial is that ComfyUI runs: read from its file while it is written. Standard library only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from comfyui_client import Client

FOLDER = "layout_trials"
PATIENCE = 7 * 24 * 3600.0
LOOK_EVERY = 5.0
# Of a line that says how far it is.
LONGEST = 70


def lines_of(client: Client, name: str) -> list[bytes]:
    """What is in the trial's file so far; nothing before its first image."""
    *folders, last = name.split("/")
    try:
        return client.image(f"{last}.jsonl", "/".join([FOLDER, *folders])).splitlines()
    except OSError:
        return []


def counted(lines: Sequence[bytes], images: int) -> tuple[int, int]:
    """Images done and images in all, kept ones included, of the trial that the last line is of.

    images: of each kind of noise.
    """
    run, done = "", set[tuple[str, int]]()
    for line in reversed(lines):
        try:
            found = json.loads(line) if run.encode() in line else {}
            run = run or str(found["run"])
            if found["run"] == run and found["case"] < images:
                done.add((found["kind"], found["case"]))
        except (ValueError, KeyError, TypeError):
            continue
    # Every case is drawn with all kinds before the next one.
    return len(done), images * len({kind for kind, _ in done})


def waited(client: Client, prompt_id: str, name: str, images: int) -> dict[str, Any]:
    """Wait for a trial's end, saying now and then how far it is. images: of each kind of noise."""
    before = len(lines_of(client, name))
    last = first = time.monotonic()

    def tick(gone: float) -> None:
        nonlocal last, first
        now = time.monotonic()
        if now - last < LOOK_EVERY:
            return
        last = now
        lines = lines_of(client, name)
        new = len(lines) - before
        if not new:
            first = now
            return say(f"  preparing, {gone / 60:.1f} min")
        done, total = counted(lines, images)
        left = (now - first) / new * max(0, total - done) / 60
        soon = f"about {left:.0f} min" if left > 1 else "less than a minute"
        say(f"  {done} of about {total} images, {gone / 60:.1f} min, {soon} left")

    try:
        return client.wait(prompt_id, PATIENCE, tick)
    except KeyboardInterrupt:
        client.interrupt(prompt_id)
        raise
    finally:
        say("")


def say(text: str) -> None:
    """A line that the next one replaces on a terminal, and that an empty one clears."""
    if sys.stdout.isatty():
        print(f"\r{text:<{LONGEST}}\r{text}", end="", flush=True)

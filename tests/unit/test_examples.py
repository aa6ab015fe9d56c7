"""The example workflows as files: what the Templates dialog and an artist who opens one see first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
FOLDERS = (ROOT / "example_workflows", ROOT / "demo" / "example_workflows")
WORKFLOWS = [path for folder in FOLDERS for path in sorted(folder.glob("*.json"))]
MOST_WORDS, MOST_NODES = 60, 14

each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: f"{p.parent.parent.name}/{p.stem}")


def nodes_of(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["nodes"])


@each
def test_one_short_note(path: Path) -> None:
    (note,) = (node for node in nodes_of(path) if node["type"] == "MarkdownNote")
    words = note["widgets_values"][0].replace("#", "").split()
    assert 20 < len(words) <= MOST_WORDS


@each
def test_no_node_lies_on_another(path: Path) -> None:
    """A node's title is 30 pixels above its position."""
    boxes = [(*node["pos"], *node["size"]) for node in nodes_of(path)]
    for number, (x, y, width, height) in enumerate(boxes):
        for left, top, wide, high in boxes[:number]:
            apart = x >= left + wide or left >= x + width
            assert apart or y - 30 >= top + high or top - 30 >= y + height


@each
def test_thumbnail_fills_the_square_of_the_dialog(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as picture:
        assert picture.size == (512, 512)


def test_both_folders_have_the_same_examples() -> None:
    first, second = ({path.stem for path in folder.glob("*.json")} for folder in FOLDERS)
    assert first == second


def test_first_picture_is_small() -> None:
    assert all(len(nodes_of(folder / "first_picture.json")) <= MOST_NODES for folder in FOLDERS)


def test_recording_is_short_and_small() -> None:
    path = ROOT / "docs" / "quick_start.webp"
    assert path.stat().st_size <= 1_500_000
    with Image.open(path) as recording:
        assert recording.width == 900 and recording.n_frames > 30 and recording.info["loop"] == 0
        times = 0
        for number in range(recording.n_frames):
            recording.seek(number)
            recording.load()
            times += recording.info["duration"]
    assert times <= 8000


def test_help_pictures_are_there_and_small() -> None:
    """The panel shows them 600 pixels wide, and an installation has all of them."""
    folder = ROOT / "web" / "docs" / "images"
    nodes = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    names = {path.name.split(".")[0] for path in folder.iterdir()}
    assert {path.stem for path in folder.glob("*.jpg") if "." not in path.stem} == nodes == names
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_500_000
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert 500 <= picture.width <= 1120 and picture.height <= 1250, path.name

"""A trial's table and picture say what its images say, however few or odd they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from records import REGIONS, SETTINGS, a_record, an_object
from winning_tickets.show import heatmap, trial
from winning_tickets.show.colours import category_colour
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.trial.record import Record

KINDS = (
    "plain",
    "best of 32 seeds",
    "block swap",
    "tickets, looked at",
    "control: tickets of the other category",
)


def some_records(cases: int = 20) -> list[Record]:
    return [
        a_record(k, i, i < (0, 2, 4, 14, 1)[n], i < 18) for n, k in enumerate(KINDS) for i in range(cases)
    ]


def test_table_is_markdown_with_a_row_for_each_kind() -> None:
    text = trial.report(some_records(), notes=["A note."])
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(KINDS) and len({len(line) for line in table}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert len({len(row) for row in cells}) == 1
    assert [row[0] for row in cells[2:]] == [
        *("plain noise", "best of 32 seeds", "block swap", "tickets (looked at)"),
        "control (tickets of the other category)",
    ]
    swap = "20", "20% [8, 42]", "0% [0, 16]", "90% [70, 97]", "0.12", "30.5 (6.5 to look)", "4 : 0, p 0.12"
    assert cells[4][1:] == list(swap)
    assert lines[0].startswith("On this checkpoint tickets (looked at) put both objects in place in 70%")
    assert "Judged by the model itself; 512x384, 12 steps, cfg 7, euler normal." in text
    assert lines[-1] == "A note."


def test_a_foreign_name_cannot_break_the_table() -> None:
    text = trial.report([a_record("a | b"), a_record("plain")])
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_bars_of_two_kinds_never_have_one_name() -> None:
    """Rule: a picture is not ambiguous. Tickets as drawn and looked at were both called tickets."""
    both = trial.short_titles(["plain noise", "tickets", "tickets (looked at)"])
    assert len(set(both)) == 3 and both[:2] == ["plain noise", "tickets"]
    assert trial.short_titles(["control (tickets of the other category)"]) == ["control"]


def test_no_image_is_a_sentence() -> None:
    assert trial.report([]) == "No image has been judged yet."
    assert trial.picture([]).shape[-1] == 3


def test_settings_of_another_kind_are_left_out_of_the_caption() -> None:
    text = trial.report([a_record(settings={"seed": 1, "cfg": "high", "sampler": None})])
    assert "Judged by the model itself; 512x384. In brackets" in text


def test_names_that_cannot_be_drawn_are_explained() -> None:
    cat = "\u732b"
    regions = (Region(cat, 0, 0, 1, 1),)
    text = trial.report([a_record(regions=regions, objects=(an_object(cat),))])
    assert text.splitlines()[-1] == f"In the pictures no. 1 is {cat}."
    assert "put" not in text and "the object in place in 100%" in text


@pytest.mark.parametrize("size", [(96, 128), (19, 13), (1, 300), (1024, 1024)])
def test_sample_images_of_any_size_fit(size: tuple[int, int]) -> None:
    records = some_records(4)
    samples = [trial.Sample(r, torch.rand(*size, 4)) for r in records]
    image = trial.picture(records, samples)
    assert image.shape[1] <= 700 and bool(image.isfinite().all())
    assert image.shape[0] > trial.picture(records).shape[0] + 20


def test_what_was_found_is_tinted_and_its_region_outlined() -> None:
    mask = np.zeros((2, 8, 8), bool)
    mask[0, 2:6, 2:6] = True
    record = a_record()
    panel = np.asarray(trial._panel(trial.Sample(record, torch.zeros(160, 160, 3), mask), 160)) / 255
    image = panel[-160:]
    cat = np.array(category_colour("cat"))
    assert np.allclose(image[60, 60], cat * trial.TINT, atol=0.02)
    assert np.allclose(image[41, 60], cat, atol=0.3)
    assert image[150, 10].max() < 0.02
    box = REGIONS[0]
    for y, x in ((80, int(box.x0 * 160) + 2), (int(box.y0 * 160) + 1, 20)):
        assert image[y - 2 : y + 3, x - 2 : x + 3].max() > 0.9


def test_a_panel_says_how_it_came_out() -> None:
    assert trial._came_out(a_record()) == "in place"
    assert trial._came_out(a_record(hit=False)) == "not in place"
    assert trial._came_out(a_record(hit=False, swapped=True)) == "in each other's"
    assert trial._came_out(a_record(present=False)) == "fire hydrant missing"


def test_samples_show_plain_noise_and_the_best_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [a_record(k, i, i < n, settings=SETTINGS) for n, k in enumerate("abcdef") for i in range(6)]
    records += [a_record("plain", i, False) for i in range(6)]
    titles: list[str] = []

    def grid(cells: Any, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Image.Image:
        titles.extend(columns)
        return heatmap.grid(cells, rows, columns)

    monkeypatch.setattr(trial, "grid", grid)
    trial.picture(records, [trial.Sample(r, torch.zeros(8, 8, 3)) for r in records])
    assert titles[-4:] == ["plain noise", "d", "e", "f"]

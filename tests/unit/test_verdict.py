"""The verdict on one category in one image, and how it follows from a model's predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from winning_tickets.tickets.layout.regions import MaskRegion, Region
from winning_tickets.tickets.prompts import Prompt, make_prompts, without
from winning_tickets.trial.evidence import findings, otsu, pieces
from winning_tickets.trial.verdict import Finding

LEFT, RIGHT = Region("cat", 0, 0, 0.5, 1), Region("tree", 0.5, 0, 1, 1)


def blob(rows: int, columns: int, row: float, column: float, size: float = 2.0) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * size**2))


def test_a_finding_has_its_centre_its_region_and_their_overlap() -> None:
    mask = np.zeros((19, 13), bool)
    mask[4:8, 1:4] = True
    found = Finding(mask, 0.9, True)
    assert found.centre() == pytest.approx((2.5 / 13, 6 / 19))
    assert found.inside(LEFT) and not found.inside(RIGHT)
    box = Region("cat", 1 / 13, 4 / 19, 4 / 13, 12 / 19)
    assert found.iou(box) == pytest.approx(12 / 24)
    assert found.iou(RIGHT) == 0


def test_what_is_missing_is_nowhere() -> None:
    found = Finding.missing(19, 13)
    assert not found.present and not found.inside(Region("cat", 0, 0, 1, 1))
    assert found.iou(Region("cat", 0, 0, 1, 1)) == 0
    with pytest.raises(ValueError, match="missing"):
        found.centre()


def test_a_box_is_the_cells_whose_centres_lie_in_it() -> None:
    found = Finding.from_box((0.25, 0.5, 0.75, 1.2), 10, 8, 0.7)
    assert found.present and found.confidence == 0.7
    assert found.mask.sum() == 4 * 5 and found.mask[5:, 2:6].all()
    assert Finding.from_box((0.51, 0.51, 0.52, 0.52), 4, 4).mask.nonzero() == (2, 2)
    assert Finding.from_box((1, 1, 1, 1), 4, 4).mask[3, 3]


def test_masks_are_regions_too() -> None:
    masks = torch.zeros(2, 38, 26)
    masks[0, :, :13] = 1
    masks[1, :, 13:] = 1
    found = Finding.from_box((0.1, 0.1, 0.3, 0.3), 19, 13)
    region = MaskRegion("cat", masks)
    assert found.inside(region) and not found.inside(region, 1)
    assert 0 < found.iou(region) < 1 and found.iou(region, 1) == 0


def test_findings_are_where_the_words_act_and_there_only_where_they_make_the_image_likelier() -> None:
    """The rule: when an object is missing, the verdict says so instead of pointing somewhere."""
    one, other = blob(38, 26, 10, 6), blob(38, 26, 28, 18)
    change = np.stack([one, 0.5 * one + other, 0.1 * blob(38, 26, 20, 13)])
    gain = np.stack([one, other, -0.1 * one])
    first, second, third = findings(change, gain)
    assert first.present and first.mask[10, 6] and not first.mask[28, 18]
    assert second.present and second.mask[28, 18] and not second.mask[10, 6]
    assert not third.present and not third.mask.any() and third.confidence < 0.5 < first.confidence
    assert not findings(change, 0.01 * gain)[0].present
    assert not any(f.present for f in findings(np.zeros((2, 19, 13)), np.zeros((2, 19, 13))))


def test_otsu_parts_two_groups() -> None:
    values = np.concatenate([np.linspace(0, 0.2, 90), np.linspace(0.8, 1, 10)]).reshape(10, 10)
    assert 0.2 < otsu(values) < 0.8
    assert pieces(values).sum() == 10


def test_a_second_object_of_the_kind_counts_and_specks_do_not() -> None:
    """The rule: the centroid is that of all objects of a category, as a detector's mask would have it."""
    values = blob(38, 26, 10, 6) + 0.9 * blob(38, 26, 28, 18)
    values[2, 24] = 1
    assert ndimage.label(pieces(values))[1] == 2 and not pieces(values)[2, 24]
    assert not pieces(np.zeros((19, 13))).any()


@pytest.mark.parametrize(
    ("text", "phrase", "left"),
    [
        ("a cat and an apple", "cat", "an apple"),
        ("a cat and an apple", "apple", "a cat"),
        ("a cat, an apple and a car", "cat", "an apple and a car"),
        ("a cat, an apple and a car", "apple", "a cat and a car"),
        ("a cat, an apple and a car", "car", "a cat and an apple"),
        ("a photo of a cat", "cat", "a photo of"),
        ("snow, a photo of a cat and an apple on the grass", "apple", "snow, a photo of a cat on the grass"),
        ("The cat sits beside two owls", "cat", "sits beside two owls"),
        ("a red (cat:1.2)", "cat", "a red (:1.2)"),
    ],
)
def test_a_prompt_without_a_phrase(text: str, phrase: str, left: str) -> None:
    words = ("cat", "apple", "car", "owls")
    phrases = tuple((i, text.find(w), text.find(w) + len(w)) for i, w in enumerate(words) if w in text)
    number = next(n for n, (i, *_) in enumerate(phrases) if words[i] == phrase)
    assert without(Prompt(text, phrases), number) == left


def test_without_one_category_is_the_prompt_of_the_others() -> None:
    names = ("cat", "owl", "fire hydrant", "car")
    prompt = make_prompts(names, "joint", "a photo of {} in the snow")[0]
    for i in range(4):
        others = [n for n in names if n != names[i]]
        expected = make_prompts(others, "joint", "a photo of {} in the snow")[0]
        assert without(prompt, i) == expected.text

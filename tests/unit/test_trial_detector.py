"""A detector's boxes as verdicts: which label is meant, which box counts, what cannot be judged."""

from __future__ import annotations

from typing import Any

import pytest
from records import REGIONS, a_record
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.trial.detector import BoxesError, boxes_of, parse_names, same_thing, score
from winning_tickets.trial.record import Record

WIDTH, HEIGHT = 640, 480
LEFT, RIGHT = (0.1, 0.3, 0.4, 0.7), (0.6, 0.3, 0.9, 0.7)


def box(label: str | None, corners: tuple[float, ...] = LEFT, score: float = 0.9) -> dict[str, Any]:
    x0, y0, x1, y1 = corners
    found = {"x": x0 * WIDTH, "y": y0 * HEIGHT, "width": (x1 - x0) * WIDTH, "height": (y1 - y0) * HEIGHT}
    return found | {"score": score} | ({"label": label} if label is not None else {})


def judged(records: list[Record], *detections: Any, **options: Any) -> list[Record]:
    return score(records, detections, WIDTH, HEIGHT, **options).records


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "Cat"),
        ("a cat", "cat"),
        ("the Fire Hydrant", "fire hydrant"),
        ("cats", "cat"),
        ("two-story buses", "two-story bus"),
        ("cherries", "cherry"),
        ("wolves", "wolf"),
        ("people", "person"),
        ("woman", "person"),
        ("bike", "bicycle"),
        ("sofas", "couch"),
        ('"cat"', "cat"),
        ("\u732b", "\u732b"),
    ],
)
def test_names_that_mean_the_same(one: str, other: str) -> None:
    assert same_thing(one, other) and same_thing(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "car"),
        ("hot dog", "dog"),
        ("red car", "car"),
        ("glass", "gla"),
        ("bus", "bu"),
        ("", "cat"),
        ("a", "an"),
        ("plane", "plant"),
        ("mouse", "couch"),
    ],
)
def test_names_that_do_not(one: str, other: str) -> None:
    assert not same_thing(one, other) and not same_thing(other, one)


def test_the_box_of_the_highest_score_is_the_object() -> None:
    """Rule: the box is chosen by its score, never by how well it fits the region."""
    cats = box("cat", LEFT, 0.6), box("cat", RIGHT, 0.9)
    found = [*cats, box("Fire hydrants", RIGHT), box("dog", LEFT, 1.0)]
    (record,) = judged([a_record()], [found])
    cat, hydrant = record.objects
    assert (record.judge, cat.present, cat.inside, cat.inside_other, cat.confidence) == (
        *("boxes", True, False, True),
        0.9,
    )
    assert hydrant.inside and hydrant.x == pytest.approx(0.75, abs=0.01) and not record.hit
    assert hydrant.iou == pytest.approx(0.3 * 0.4 / 0.25, abs=0.02)
    (record,) = judged([a_record()], [found[::3] + found[2:3]])
    assert record.hit and record.objects[0].confidence == 0.6


def test_boxes_of_each_image_judge_that_image() -> None:
    records = [a_record(case=i) for i in range(3)]
    found = [[box("cat"), box("fire hydrant", RIGHT)], [], [box("cat", RIGHT), box("fire hydrant", LEFT)]]
    first, second, third = judged(records, found)
    assert (first.hit, second.hit, third.hit) == (True, False, False)
    assert (first.present, second.present, third.swapped) == (True, False, True)
    assert [r.key[2:] for r in (first, second, third)] == [r.key[2:] for r in records]


def test_detectors_without_labels_are_asked_for_one_category_each() -> None:
    """As SAM3 Detect gives them."""
    records = [a_record(case=i) for i in range(2)]
    cats, hydrants = [[box(None)], [box(None, RIGHT)]], [[box(None, RIGHT)], []]
    first, second = judged(records, cats, hydrants)
    assert first.hit and not second.present and second.objects[0].inside_other
    for detections in ((cats,), (cats, hydrants, cats)):
        with pytest.raises(BoxesError, match="in this order: cat, fire hydrant. Connected: "):
            judged(records, *detections)


def test_names_of_the_detectors_own_are_given() -> None:
    regions = (Region("red car", 0, 0, 0.5, 1), Region("tall man", 0.5, 0, 1, 1))
    record = a_record(regions=regions, objects=a_record().objects)
    found = [[box("car"), box("person", RIGHT)]]
    scored = score([record], [found], WIDTH, HEIGHT)
    assert not scored.records[0].present
    (note,) = scored.notes
    assert note.startswith("Never found: red car, tall man. The detector found: car, person.")
    scored = score([record], [found], WIDTH, HEIGHT, parse_names("A red car: Cars\n\ntall man : person\n"))
    assert scored.records[0].hit and scored.notes == []
    with pytest.raises(BoxesError, match="no.* a category, a colon"):
        parse_names("red car")


def test_categories_of_one_label_are_refused() -> None:
    regions = (Region("man", 0, 0, 0.5, 1), Region("woman", 0.5, 0, 1, 1))
    with pytest.raises(BoxesError, match='"man" and "woman" have the same label'):
        judged([a_record(regions=regions)], [[box("person")]])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([[box("cat")]], "of 1 images, but the trial has 2"),
        ([box("cat")], "of 1 images"),
        ([], "of 0 images"),
        (box("cat"), "of 1 images"),
        ("cat", "boxes is str"),
        (None, "boxes is NoneType"),
        ([[], [{"x": 1}]], "Image 2: .* is no bounding box"),
        ([[], ["cat"]], "Image 2: 'cat' is no bounding box"),
        ([[7], []], "Image 1: 7 is no bounding box"),
        ([[], [box("cat", (float("nan"), 0, 1, 1))]], "has no area"),
        ([[], [box("cat", (0.5, 0, 0.1, 1))]], "has no area"),
        ([None, None], "Image 1: None is no list of bounding boxes"),
    ],
)
def test_what_cannot_judge_is_refused_in_a_sentence(given: Any, told: str) -> None:
    with pytest.raises(BoxesError, match=told):
        judged([a_record(), a_record(case=1)], given)


def test_boxes_of_a_single_image_come_in_any_form() -> None:
    for given in ([[box("cat")]], [box("cat")], box("cat"), ([box("cat")],)):
        assert judged([a_record()], given)[0].objects[0].present
    for given in ([], [[]]):
        assert not judged([a_record()], given)[0].present
    with pytest.raises(BoxesError, match="no images"):
        judged([], [[]])


def test_boxes_beyond_the_image_and_tiny_ones_have_a_place() -> None:
    wide = box("cat", (-0.5, -0.5, 0.4, 2.0), float("nan"))
    dot = box("fire hydrant", (0.75, 0.5, 0.75, 0.5), 7.0)
    (record,) = judged([a_record()], [[wide, dot]])
    cat, hydrant = record.objects
    assert cat.present and cat.x == pytest.approx(0.2, abs=0.01) and cat.confidence == 0
    assert hydrant.inside and hydrant.confidence == 1 and hydrant.iou < 0.01
    (image,) = boxes_of([wide], 1, WIDTH, HEIGHT)
    assert image[0].corners[0] == -0.5


def test_masks_are_the_boxes() -> None:
    scored = score([a_record()], [[[box("cat"), box("fire hydrant", RIGHT)]]], WIDTH, HEIGHT)
    (masks,) = scored.masks
    assert masks.shape == (2, 120, 160) and masks.dtype == bool
    assert masks[0].mean() == pytest.approx(0.3 * 0.4, abs=0.01) and masks[0][60, 40] and masks[1][60, 120]
    odd = score([a_record()], [[[]]], 13, 3).masks[0]
    assert odd.shape == (2, 1, 4) and not odd.any()
    assert REGIONS[0].category == "cat"

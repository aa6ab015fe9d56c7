"""The cases of a trial: balanced at every beginning, the same for everybody, as the user's regions say."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.regions import MaskRegion, Region
from winning_tickets.trial.cases import (
    BOTH,
    OBJECTS,
    PAIRS,
    PLACES,
    TRIPLES,
    TrialError,
    case_prompt,
    given_cases,
    made_cases,
    turned,
)

FOUR = ("cat", "owl", "sun", "tree")


def named(text: str) -> dict[str, tuple[int, int]]:
    prompt = case_prompt(FOUR[:2], text)
    return {prompt.text[start:stop]: (start, stop) for _, start, stop in prompt.phrases}


class TestMade:
    def test_every_choice_comes_once_before_one_comes_again(self) -> None:
        cases = made_cases(FOUR, PAIRS, "", 24, 0)
        for start in (0, 12):
            chosen = [case.categories for case in cases[start : start + 12 : 2]]
            assert len(set(chosen)) == len(chosen) == 6

    def test_objects_change_places_under_the_same_prompt(self) -> None:
        cases = made_cases(FOUR, BOTH, "", 40, 0)
        for one, other in zip(cases[::2], cases[1::2], strict=True):
            assert one.prompt == other.prompt
            assert [r.category for r in one.regions] == [r.category for r in other.regions]
            places = [[(r.x0, r.y0) for r in case.regions] for case in (one, other)]
            assert places[0] == places[1][::-1]

    def test_all_places_are_used_alike(self) -> None:
        cases = made_cases(FOUR, PAIRS, "", 8 * 6, 0)
        places = Counter(frozenset((r.x0, r.y0) for r in case.regions) for case in cases)
        assert len(places) == len(PLACES[2]) and set(places.values()) == {12}

    def test_triples_come_in_all_six_orders(self) -> None:
        cases = made_cases(FOUR[:3], TRIPLES, "", 12, 0)
        orders = {tuple((r.x0, r.y0) for r in case.regions) for case in cases}
        assert len(orders) == 12

    def test_more_images_begin_with_the_same_cases(self) -> None:
        assert made_cases(FOUR, PAIRS, "", 64, 5)[:10] == made_cases(FOUR, PAIRS, "", 10, 5)

    def test_layouts_do_not_depend_on_the_seed(self) -> None:
        one, other = (made_cases(FOUR, PAIRS, "", 20, seed) for seed in (0, 2**64 - 3))
        assert [c.regions for c in one] == [c.regions for c in other]
        assert [c.seed for c in other][:5] == [2**64 - 3, 2**64 - 2, 2**64 - 1, 0, 1]

    @pytest.mark.parametrize("objects", OBJECTS)
    def test_one_category_is_tried_alone(self, objects: str) -> None:
        cases = made_cases(("cat",), objects, "a photo of {}", 8, 0)
        assert {case.prompt.text for case in cases} == {"a photo of a cat"}
        assert len({case.regions for case in cases}) == 6

    def test_regions_lie_in_the_image_apart_from_each_other(self) -> None:
        for boxes in (boxes for ways in PLACES.values() for boxes in ways.values()):
            assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in boxes)
            for i, (x0, y0, x1, y1) in enumerate(boxes):
                for u0, v0, u1, v1 in boxes[:i]:
                    assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0


class TestGiven:
    def test_the_same_layout_with_a_seed_each(self) -> None:
        regions = parse_regions("cat: 0 0 0.5 1\nsun: 0.5 0 1 0.5")
        cases = given_cases(regions, "", 3, 7)
        assert [case.seed for case in cases] == [7, 8, 9]
        assert {case.regions for case in cases} == {tuple(regions)}
        assert cases[0].prompt.text == "a cat and a sun"

    def test_masks_are_tried_as_the_boxes_around_them(self) -> None:
        mask = torch.zeros(1, 8, 16)
        mask[0, 2:4, 8:12] = 1
        (case,) = given_cases([MaskRegion("cat", mask)], "", 1, 0)
        assert case.regions == (Region("cat", 0.5, 0.25, 0.75, 0.5),)

    def test_two_regions_of_one_category_cannot_be_judged(self) -> None:
        regions = parse_regions("cat: 0 0 0.5 1\ncat: 0.5 0 1 1")
        with pytest.raises(TrialError, match='"cat" has 2 regions'):
            given_cases(regions, "", 1, 0)


class TestPrompts:
    def test_categories_go_where_the_template_says(self) -> None:
        assert named("a drawing of {} at night") == {"cat": (15, 18), "owl": (26, 29)}

    def test_a_whole_prompt_names_them_itself(self) -> None:
        assert named("An OWL over a castle with a cat") == {"cat": (28, 31), "OWL": (3, 6)}

    def test_words_that_two_categories_share_belong_to_the_longer_one(self) -> None:
        prompt = case_prompt(["cat", "black cat"], "a black cat and a cat")
        assert prompt.phrases == ((0, 18, 21), (1, 2, 11))
        with pytest.raises(TrialError, match='"cat" is not in .* but in another category'):
            case_prompt(["cat", "black cat"], "a black cat")

    def test_a_category_that_the_prompt_does_not_name(self) -> None:
        with pytest.raises(TrialError, match='"owl" is not in the prompt'):
            named("a cat")


def test_the_control_turns_the_categories() -> None:
    regions = parse_regions("cat: 0 0 0.5 1\nsun: 0.5 0 1 0.5\nowl: 0.5 0.5 1 1")
    assert [r.category for r in turned(regions)] == ["sun", "owl", "cat"]
    assert [(r.x0, r.y0) for r in turned(regions)] == [(r.x0, r.y0) for r in regions]

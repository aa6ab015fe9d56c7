"""Categories, schemes and templates. No ComfyUI."""

from __future__ import annotations

import pytest
from winning_tickets.tickets.prompts import (
    CategoryError,
    Prompt,
    make_prompts,
    parse_categories,
    parse_template,
)

CATEGORIES = ("apple", "cat", "owl")


def phrases(prompt: Prompt) -> list[str]:
    return [prompt.text[start:end] for _, start, end in prompt.phrases]


def test_categories_are_cleaned_as_in_the_paper() -> None:
    assert parse_categories(" Castle.\n\n fire   Hydrant \n") == ("castle", "fire hydrant")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "No categories"),
        ("cat\nCat.", '"cat" is listed twice'),
        ("\n".join(map(str, range(51))), "51 categories"),
    ],
)
def test_bad_lists_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(CategoryError, match=complaint):
        parse_categories(text)


@pytest.mark.parametrize(
    "scheme, expected",
    [
        ("pairs", ["an apple and a cat", "an apple and an owl", "a cat and an owl"]),
        ("singles", ["an apple", "a cat", "an owl"]),
        ("joint", ["an apple, a cat and an owl"]),
    ],
)
def test_schemes(scheme: str, expected: list[str]) -> None:
    prompts = make_prompts(CATEGORIES, scheme)
    assert [p.text for p in prompts] == expected
    for prompt in prompts:
        assert phrases(prompt) == [CATEGORIES[i] for i, _, _ in prompt.phrases]


def test_a_lone_category_stands_alone_in_every_scheme() -> None:
    for scheme in ("pairs", "singles", "joint"):
        assert [p.text for p in make_prompts(("cat",), scheme)] == ["a cat"]


def test_template_goes_around_the_categories() -> None:
    (prompt,) = make_prompts(("cat", "a red car, parked"), "pairs", "a photo of {}, at night")
    assert prompt.text == "a photo of a cat and a red car, parked, at night"
    assert phrases(prompt) == ["cat", "a red car, parked"]


@pytest.mark.parametrize("text", ["", "a photo", "{} and {}"])
def test_template_needs_one_place(text: str) -> None:
    with pytest.raises(CategoryError, match="write {} once"):
        parse_template(text)


def test_unknown_scheme_lists_the_schemes() -> None:
    with pytest.raises(CategoryError, match="pairs, singles, joint"):
        make_prompts(CATEGORIES, "all")

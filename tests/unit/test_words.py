"""How categories are named, whichever way they are typed, and how prompts write them. No ComfyUI."""

from __future__ import annotations

import pytest
from winning_tickets.guidance.trace import parse_steps
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.regions import RegionError
from winning_tickets.tickets.prompts import (
    CategoryError,
    make_prompts,
    parse_categories,
    parse_template,
)
from winning_tickets.tickets.words import category_name, same_category, written


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ("castle", "a castle"),
        ("owl", "an owl"),
        ("unicorn", "a unicorn"),
        ("uninhabited island", "an uninhabited island"),
        ("usb stick", "a usb stick"),
        ("umbrella", "an umbrella"),
        ("european city", "a european city"),
        ("one-eyed cat", "a one-eyed cat"),
        ("hour", "an hour"),
        ("honest man", "an honest man"),
        ("8-bit robot", "an 8-bit robot"),
        ("x-ray", "an x-ray"),
        ("\u00e9cole", "an \u00e9cole"),
        ("(owl:1.2)", "an (owl:1.2)"),
        ("two dogs", "two dogs"),
        ("3 dogs", "3 dogs"),
        ("some fog", "some fog"),
        ("the sea", "the sea"),
        ("clouds", "clouds"),
        ("(old houses:1.2)", "(old houses:1.2)"),
        ("people", "people"),
        ("old firemen", "old firemen"),
        ("ramen", "a ramen"),
        ("chinese food", "chinese food"),
        ("green grass", "green grass"),
        ("glass", "a glass"),
        ("bus", "a bus"),
        ("lens", "a lens"),
        ("bowl of apples", "a bowl of apples"),
        ("man with glasses", "a man with glasses"),
        ("fields of wheat", "fields of wheat"),
        ("red car, parked", "a red car, parked"),
        ("un castillo", "un castillo"),
        ("\u732b", "\u732b"),
        ("\u0437\u0430\u043c\u043e\u043a", "\u0437\u0430\u043c\u043e\u043a"),
        ("embedding:Cat", "a embedding:Cat"),
    ],
)
def test_a_category_is_written_as_english_writes_it(category: str, expected: str) -> None:
    """Rule: an article only where there is one, by sound; "a two dogs and a clouds" is no prompt."""
    text, start = written(category_name(category))
    assert text == expected and text[start:] == category


@pytest.mark.parametrize(
    "quoted", ['"perro"', "'perro'", "\u201cPerro\u201d", "\u00abperro\u00bb", "\u300cperro\u300d"]
)
def test_in_quotes_it_is_written_exactly_so(quoted: str) -> None:
    """Rule: whatever the program thinks of a word, it can be written as it is."""
    (name,) = parse_categories(quoted)
    assert name == '"perro"' and written(name) == ("perro", 0)
    (prompt,) = make_prompts((name, "owl"))
    assert prompt.text == "perro and an owl"
    assert [prompt.text[a:b] for _, a, b in prompt.phrases] == ["perro", "owl"]
    # Quotes that change nothing are none.
    assert parse_categories('"clouds"') == ("clouds",)


def test_a_category_is_the_same_with_quotes_or_an_article() -> None:
    assert same_category('"perro"', "Perro") and same_category("a castle", "castle.")
    assert not same_category("castles", "castle") and not same_category("the", "a")
    with pytest.raises(CategoryError, match='"a castle" is listed twice'):
        parse_categories("castle\nA Castle")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (" Fire   Hydrant. ", "fire hydrant"),
        ("\uff23\uff21\uff33\uff34\uff2c\uff25", "castle"),
        ("red\u3000castle\u3002", "red castle"),
        ("cafe\u0301", "caf\u00e9"),
        ("embedding:MyCat", "embedding:MyCat"),
        ("A RED Embedding:My_Cat.v2, Old", "a red embedding:My_Cat.v2, old"),
        ("(Embedding:Styles/MyCat:1.2)", "(embedding:Styles/MyCat:1.2)"),
    ],
)
def test_regions_and_categories_have_the_same_names(typed: str, name: str) -> None:
    """Rule: one function names categories; it leaves the names of embeddings, which are names of files."""
    assert parse_categories(typed) == (name,)
    assert parse_regions(f"{typed}: 0 0 1 1")[0].category == name
    assert parse_regions(f"{typed}\uff1a0 0 1 1")[0].category == name


@pytest.mark.parametrize(
    "line",
    [
        "castle: 0.62 0.18 1.0 0.69",
        "castle\uff1a0.62 0.18 1.0 0.69",
        "castle\uff1a0.62\uff0c0.18\uff0c1.0\uff0c0.69",
        "castle:\u30000.62\u30010.18\u30011.0\u30010.69",
        "castle\uff1a\uff10\uff0e\uff16\uff12\u3000\uff10\uff0e\uff11\uff18\u3000\uff11\u3000\uff10\uff0e\uff16\uff19",
        "castle: 0.62, 0.18, 1.0, 0.69",
        "castle: 0.62; 0.18; 1.0; 0.69;",
        "castle: 0,62 0,18 1,0 0,69",
        "castle: 0,62; 0,18; 1; 0,69",
        "castle: [0.62, 0.18, 1.0, 0.69]",
        "castle: (.62 .18 1. .69)",
        "castle\t0.62\t0.18\t1.0\t0.69",
        "castle, 0.62, 0.18, 1.0, 0.69",
        "castle;0.62;0.18;1;0.69",
        "castle = 0.62 0.18 1.0 0.69",
        "castle \u2013 0.62 0.18 1.0 0.69",
        "castle - [0.62, 0.18, 1.0, 0.69]",
        "castle: 0.62 0.18 1.0 0.69  # on the hill",
        "castle: 0.62 0.18 1.0 0.69\u3000\uff03 on the hill",
    ],
)
def test_a_region_is_understood_from_any_keyboard(line: str) -> None:
    """Rule: what a Chinese, Japanese or European keyboard types for colon, comma and digits counts."""
    (region,) = parse_regions(f"\n# a comment\n\uff03 another\n{line}\n")
    assert region.category == "castle"
    assert (region.x0, region.y0, region.x1, region.y1) == (0.62, 0.18, 1.0, 0.69)


@pytest.mark.parametrize(
    ("line", "category"),
    [
        ("2 dogs\t0 0 1 1", "2 dogs"),
        ("8-bit game: 0 0 1 1", "8-bit game"),
        ("a red car, parked: 0 0 1 1", "a red car, parked"),
        ("embedding:Cat, 0 0 1 1", "embedding:Cat"),
        ("embedding:Cat: 0 0 1 1", "embedding:Cat"),
        ("(owl:1.2)\uff1a0 0 1 1", "(owl:1.2)"),
    ],
)
def test_what_is_part_of_a_name_stays_in_it(line: str, category: str) -> None:
    assert parse_regions(line)[0].category == category


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("castle, 0 0 0 1 1", "needs four numbers"),
        ("castle: 0 0 1", "needs four numbers"),
        ("castle: 0 0 1 x", "needs four numbers"),
        ("castle: 0,1,2,3,4,5,6,7", "needs four numbers"),
        ("0 0 1 1", "names no category"),
        ("castle", "names no category"),
        ("castle 0 0 1 1", "names no category"),
        (": 0 0 1 1", "names no category"),
        ('{"regions": ' + "[" * 100_000, "regions are"),
    ],
)
def test_what_cannot_be_understood_is_still_refused(line: str, complaint: str) -> None:
    with pytest.raises(RegionError, match=complaint):
        parse_regions(line)


def test_lists_of_steps_and_templates_are_understood_from_any_keyboard() -> None:
    for text in ("1 3 5", "1,3,5", "1\uff0c3\uff0c5", "\uff11\u3001\uff13\u3001\uff15", "1; 3;\t5"):
        assert parse_steps(text, 9) == [0, 2, 4]
    for text in ("a photo of {}", "a photo of { }", "a photo of\u3000\uff5b\uff5d"):
        assert parse_template(text) == "a photo of {}"

"""The prompts categories are collected with (paper: "a u and a v" for every pair)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

MOST = 50


class CategoryError(ValueError):
    """A list of categories that cannot be collected; the message says what to change."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and where each of its categories stands: (category index, first, last + 1 character)."""

    text: str
    phrases: tuple[tuple[int, int, int], ...]


def parse_categories(text: str) -> tuple[str, ...]:
    """One category a line, lower case, without a final period; blank lines are skipped."""
    lines = (" ".join(line.split()).rstrip(".").lower() for line in text.splitlines())
    categories = tuple(line for line in lines if line)
    if not categories:
        raise CategoryError("No categories: write one a line, for example castle.")
    if len(categories) > MOST:
        raise CategoryError(f"{len(categories)} categories are too many: at most {MOST}.")
    for category in categories:
        if categories.count(category) > 1:
            raise CategoryError(f'"{category}" is listed twice: keep one.')
    return categories


def article(phrase: str) -> str:
    return "an" if phrase[0] in "aeiou" else "a"


def _join(categories: Sequence[str], chosen: Sequence[int]) -> Prompt:
    text, phrases = "", []
    for index in chosen:
        text += " and " if text else ""
        text += article(categories[index]) + " "
        phrases.append((index, len(text), len(text) + len(categories[index])))
        text += categories[index]
    return Prompt(text, tuple(phrases))


def pair_prompts(categories: Sequence[str]) -> list[Prompt]:
    """Every unordered pair once, in order; a lone category stands alone ("a castle")."""
    if len(categories) == 1:
        return [_join(categories, (0,))]
    return [_join(categories, pair) for pair in combinations(range(len(categories)), 2)]

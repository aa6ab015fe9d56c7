"""The prompts categories are collected with (paper: "a u and a v" for every pair)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from .words import LONGEST_NAME, category_name, one_line, same_category, written

MOST = 50
PAIRS, SINGLES, JOINT = SCHEMES = ("pairs", "singles", "joint")
PLACE = "{}"


class CategoryError(ValueError):
    """Categories, scheme or template that cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and where each of its categories stands: (category index, first, last + 1 character)."""

    text: str
    phrases: tuple[tuple[int, int, int], ...]


def parse_categories(text: str) -> tuple[str, ...]:
    """One category a line, as `category_name` has it; blank lines are skipped."""
    lines = (category_name(line) for line in text.splitlines())
    categories = tuple(line for line in lines if line)
    if not categories:
        raise CategoryError("No categories: write one per line, for example castle.")
    if len(categories) > MOST:
        raise CategoryError(f"{len(categories)} categories are too many: at most {MOST}.")
    if (longest := max(map(len, categories))) > LONGEST_NAME:
        raise CategoryError(f"A category of {longest} characters is too long: at most {LONGEST_NAME}.")
    for number, category in enumerate(categories):
        if any(same_category(category, other) for other in categories[:number]):
            raise CategoryError(f'"{category}" is listed twice: keep one.')
    return categories


def parse_template(text: str) -> str:
    """A template with its spaces tidied; it must hold {} once, where the categories go."""
    template = re.sub(r"[{\uff5b]\s*[}\uff5d]", PLACE, one_line(text))
    if template.count(PLACE) != 1:
        raise CategoryError(f'template is "{text}": write {PLACE} once, where the categories go.')
    return template


def _join(categories: Sequence[str], chosen: Sequence[int], template: str) -> Prompt:
    before, after = template.split(PLACE)
    text, phrases = before, []
    for place, index in enumerate(chosen):
        if place:
            text += " and " if place == len(chosen) - 1 else ", "
        words, start = written(categories[index])
        phrases.append((index, len(text) + start, len(text) + len(words)))
        text += words
    return Prompt(text + after, tuple(phrases))


def without(prompt: Prompt, number: int) -> str:
    """A prompt's text without its phrase `number`, the article and the "and" or comma that go with it."""
    _, start, stop = prompt.phrases[number]
    before, after = prompt.text[:start], prompt.text[stop:]
    before = re.sub(r"\b(?:an?|the) $", "", before, flags=re.IGNORECASE)
    if joined := re.search(r"(?:,? and|,) $", before):
        before = before[: joined.start()]
        listed = re.search(r", (?=[^,]*$)", before)
        if "and" in joined[0] and listed and listed.start() >= _end_of_the_last_but_one(prompt, start):
            before = f"{before[: listed.start()]} and {before[listed.end() :]}"
    elif joined := re.match(r"(?:,? and|,) ", after):
        after = after[joined.end() :]
    return " ".join((before + after).split())


def _end_of_the_last_but_one(prompt: Prompt, before: int) -> int:
    """Where the phrase ends that comes two phrases before a place in the text; beyond it without one."""
    ends = sorted(stop for _, _, stop in prompt.phrases if stop <= before)
    return ends[-2] if len(ends) > 1 else before


def make_prompts(categories: Sequence[str], scheme: str = PAIRS, template: str = PLACE) -> list[Prompt]:
    """The prompts of a scheme, in order; a lone category stands alone in all of them.

    pairs: every unordered pair once, as the paper; n (n - 1) / 2 prompts. singles: each category in a
    prompt of its own; n prompts. joint: all of them in one.
    """
    if scheme not in SCHEMES:
        raise CategoryError(f'scheme is "{scheme}"; choose one of {", ".join(SCHEMES)}.')
    everyone = range(len(categories))
    chosen: list[Sequence[int]]
    if len(categories) == 1 or scheme == SINGLES:
        chosen = [(i,) for i in everyone]
    elif scheme == JOINT:
        chosen = [tuple(everyone)]
    else:
        chosen = list(combinations(everyone, 2))
    return [_join(categories, group, template) for group in chosen]

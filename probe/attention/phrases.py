"""Where phrases stand among the tokens of T5 and of language models, whatever template is around a prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

# Behind a text, so that its end is no end for the tokenizer: no template's tail, no padding.
MORE = " and more"
# Scripts without spaces between words begin here.
UNSPACED = "\u2e80"

Tokens = Callable[[str], Sequence[Any]]
"""Of a text, all tokens that its encoder is given: numbers, and vectors of embeddings."""


def same_token(one: Any, other: Any) -> bool:
    if torch.is_tensor(one) or torch.is_tensor(other):
        return torch.is_tensor(one) and torch.is_tensor(other) and torch.equal(one, other)
    return bool(one == other)


def common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many tokens two texts have in common from the beginning."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if not same_token(a, b)), min(len(one), len(other)))


def weighs(clip: Any, name: str) -> bool:
    """Whether a tokenizer takes parentheses for weights, and so not for letters."""
    return any(weight != 1 for chunk in clip.tokenize("(a:1.5)")[name] for _, weight, *_ in chunk)


def span(tokens: Tokens, text: str, start: int, end: int, weighted: bool) -> range:
    """Of text[start:end] the tokens: those that beginnings of the text have in common with all of it."""
    whole = tokens(text + MORE)
    before = re.sub(r"(?:\s|(?<!\\)\()+$" if weighted else r"\s+$", "", text[:start])
    # A space may be a token of its own, or the beginning of the phrase's first one.
    here, there, stop = (
        common(whole, tokens(_closed(part, weighted))) for part in (before, text[:start], text[:end])
    )
    return range(max(here, there), stop)


def _closed(text: str, weighted: bool) -> str:
    """The beginning of a text, with the parentheses closed that are open at its end."""
    if not weighted:
        return text
    depth = 0
    for mark in re.findall(r"(?<!\\)[()]", text):
        depth = max(0, depth + (1 if mark == "(" else -1))
    return text + ")" * depth


def occurrences(text: str, phrase: str, weighted: bool) -> Iterator[tuple[int, int]]:
    """Where a phrase stands in a text, as characters, from and up to.

    Whole words, upper and lower case alike; weights and the parentheses around them are no part of either.
    """
    letters, places = _letters(text, weighted)
    wanted = _letters(phrase, weighted)[0].split()
    if not wanted:
        return
    pattern = r"\s+".join(map(re.escape, wanted))
    for found in re.finditer(pattern, letters, re.IGNORECASE):
        if not _joined(letters, found.start()) and not _joined(letters, found.end()):
            yield places[found.start()], places[found.end() - 1] + 1


def _joined(text: str, at: int) -> bool:
    """Whether a word of a spaced script goes on at a place."""
    pair = text[max(0, at - 1) : at + 1] if at else ""
    return len(pair) == 2 and all(re.match(r"\w", letter) and letter < UNSPACED for letter in pair)


def _letters(text: str, weighted: bool) -> tuple[str, list[int]]:
    """A text as it is read, without weights and escapes, and of each letter the place in the text."""
    hidden = {m.start() for m in re.finditer(r"\\(?=[()])", text)}
    if weighted:
        for found in re.finditer(r"(?<!\\)\(|(?::\s*[-+]?[\d.]+\s*)?(?<!\\)\)", text):
            hidden.update(range(*found.span()))
    places = [place for place in range(len(text)) if place not in hidden]
    return "".join(text[place] for place in places), places

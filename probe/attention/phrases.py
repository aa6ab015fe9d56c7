"""Where phrases stand among the tokens of a prompt, however long, weighted or full of embeddings it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .reader import ProbeError

CLIPS = ("l", "g", "h")


@dataclass(frozen=True)
class Phrases:
    """Of one prompt: its conditioning, its length in tokens, and each phrase's positions in it."""

    names: tuple[str, ...]
    conditioning: list[Any]
    length: int
    positions: tuple[tuple[int, ...], ...]


def chunks(clip: Any, text: str) -> dict[str, list[list[Any]]]:
    """For each text encoder the tokens of a text in chunks of 77; an embedding's vectors stand for
    themselves.

    ProbeError for encoders that are no CLIP.
    """
    tokens = clip.tokenize(text)
    others = [name for name in tokens if name not in CLIPS]
    if others or not tokens:
        raise ProbeError(
            f"This text encoder ({', '.join(tokens)}) is not CLIP alone; this needs SD1.x, SD2.x or SDXL."
        )
    return {name: [[entry[0] for entry in chunk] for chunk in found] for name, found in tokens.items()}


def end_token(clip: Any, name: str) -> int:
    """[EOS] of a text encoder."""
    return int(chunks(clip, "")[name][0][1])


def words(chunk: Sequence[Any], end: int) -> list[Any]:
    """The tokens of a chunk between start and end, padding left out."""
    stop = next((i for i, token in enumerate(chunk) if isinstance(token, int) and token == end), len(chunk))
    return list(chunk[1:stop])


def find(clip: Any, prompt: str, names: Sequence[str]) -> Phrases:
    """Where phrases stand in a prompt, each time they do; ProbeError names one that does not."""
    found = chunks(clip, prompt)
    # SDXL's two share their positions.
    name = next(iter(found))
    end = end_token(clip, name)
    text = [
        (token, 77 * number + place)
        for number, chunk in enumerate(found[name])
        for place, token in enumerate(words(chunk, end), 1)
    ]
    positions = []
    for phrase in names:
        wanted = [token for chunk in chunks(clip, phrase)[name] for token in words(chunk, end)]
        places = [
            place
            for at in range(len(text) - len(wanted) + 1 if wanted else 0)
            if all(_same(text[at + i][0], token) for i, token in enumerate(wanted))
            for _, place in text[at : at + len(wanted)]
        ]
        if not places:
            raise ProbeError(f'"{phrase}" does not stand in the prompt "{prompt}": use its own words.')
        positions.append(tuple(sorted(set(places))))
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(prompt))
    return Phrases(tuple(names), conditioning, conditioning[0][0].shape[1], tuple(positions))


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, int) and isinstance(other, int) and one == other

"""Conditioning of two prompts: the words of one, the end tokens of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ...guidance.end_tokens import CHUNK, replace_end
from ..attention.phrases import chunks, end_token, words
from ..attention.reader import ProbeError

SWAP, BLEND, ZERO = MODES = ("swap", "blend", "zero")
NODE = "Swap End Tokens"
# ComfyUI takes both of two ranges that meet at exactly one noise level.
APART = 1e-4


class EndTokensError(ValueError):
    """Prompts or settings that cannot be followed; the message says what to change."""


@dataclass(frozen=True)
class Ends:
    """A prompt's conditioning, and where [EOS] stands in each chunk of 77 tokens."""

    text: str
    context: torch.Tensor
    pooled: torch.Tensor | None
    starts: tuple[int, ...]


def read_ends(clip: Any, text: str) -> Ends:
    """EndTokensError for text encoders that are no CLIP, and where two of them disagree."""
    try:
        found = chunks(clip, text)
    except ProbeError as error:
        raise EndTokensError(
            f"{NODE}: {error} Only CLIP reads from left to right, so that [EOS] has seen the whole prompt and"
            " the words have not; in T5 and others that read in both directions no token stands for the end."
        ) from error
    ends = {name: end_token(clip, name) for name in found}
    places = {
        name: tuple(len(words(chunk, ends[name])) + 1 for chunk in parts) for name, parts in found.items()
    }
    starts = next(iter(places.values()))
    if any(other != starts for other in places.values()):
        raise EndTokensError(
            f'{NODE}: the text encoders of this model split "{text}" differently; it has no common end'
            " tokens: leave out the embedding that only one of them has."
        )
    scheduled = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    if len(scheduled) != 1:
        raise EndTokensError(f"{NODE}: this CLIP has a schedule of its own (hooks): connect one without.")
    context, more = scheduled[0]
    if context.shape[1] != CHUNK * len(starts):
        raise EndTokensError(
            f"{NODE}: the conditioning has {context.shape[1]} tokens, not {CHUNK * len(starts)}: a node has"
            " changed how this CLIP encodes."
        )
    return Ends(text, context, more.get("pooled_output"), starts)


def swap_end_tokens(
    clip: Any,
    prompt: str,
    end_prompt: str,
    mode: str = SWAP,
    amount: float = 0.5,
    start: float = 0.0,
    end: float = 1.0,
) -> tuple[list[Any], str]:
    """CONDITIONING with the words of one prompt and the end tokens of another, and what was done.

    mode: swap; blend, by `amount`; or zero, which needs no end_prompt. start, end: the share of sampling in
    which it holds; outside of it the prompt is as it was. The pooled output, which SDXL takes from [EOS],
    goes the same way.
    """
    if mode not in MODES:
        raise EndTokensError(f"{NODE}: mode is {mode!r}; choose one of {', '.join(MODES)}.")
    for name, value in (("amount", amount), ("start", start), ("end", end)):
        if not 0 <= value <= 1:
            raise EndTokensError(f"{NODE}: {name} is {value}; it lies between 0 and 1.")
    if start >= end:
        raise EndTokensError(f"{NODE}: start is {start} and end {end}; start must be below end.")
    mine = read_ends(clip, prompt)
    other = None if mode == ZERO else read_ends(clip, end_prompt)
    share = amount if mode == BLEND else 1.0
    context = replace_end(
        mine.context, mine.starts, other.context if other else None, other.starts if other else (), share
    )
    pooled = mine.pooled
    if pooled is not None:
        theirs = torch.zeros_like(pooled) if other is None else other.pooled
        pooled = theirs if share == 1 or theirs is None else torch.lerp(pooled, theirs, share)
    parts = within(
        [context, {"pooled_output": pooled}], [mine.context, {"pooled_output": mine.pooled}], start, end
    )
    return parts, report(clip, mine, other, share)


def within(inside: list[Any], outside: list[Any], start: float, end: float) -> list[Any]:
    """CONDITIONING of one entry between two shares of sampling, and of another before and after them."""
    parts = []
    for (context, about), begin, stop in (
        (outside, 0.0, start - APART),
        (inside, start, end),
        (outside, end + APART, 1.0),
    ):
        if begin < stop:
            always = (begin, stop) == (0.0, 1.0)
            parts.append(
                [context, about if always else about | {"start_percent": begin, "end_percent": stop}]
            )
    return parts


def report(clip: Any, mine: Ends, other: Ends | None, share: float) -> str:
    """What was replaced by what, for people."""
    total = CHUNK * len(mine.starts)
    replaced = sum(CHUNK - start for start in mine.starts)
    whose = f'those of "{other.text}"' if other else "zeros"
    how = "replaced by" if share == 1 else f"blended by {share:g} with"
    lines = [f'{replaced} end tokens of {total} of "{mine.text}" {how} {whose}.']
    empty = chunks(clip, "")
    # Start, [EOS], and what it is padded with.
    unlike = [name for name, ((_, eos, padding, *_), *_) in empty.items() if padding != eos]
    names = {"l": "CLIP-L", "g": "CLIP-G", "h": "CLIP-H"}
    if unlike:
        told = ", ".join(names[name] for name in unlike)
        part = "half of the context" if len(empty) > 1 else "the context"
        lines.append(f"{told} pads with another token than [EOS]: {part} has one [EOS] for each chunk only.")
    if other and len(other.starts) != len(mine.starts):
        lines.append(f"The prompts have {len(mine.starts)} and {len(other.starts)} chunks of 77 tokens.")
    return "\n".join(lines)

"""Conditioning of two prompts: the words of one, EOS and padding of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ...guidance.eos import Span, replace_eos
from ..attention.tokens import CLIPS, encode_text, read_text
from ..model.family import ProbeError

SWAP, BLEND, ZERO = MODES = ("swap", "blend", "zero")
NODE = "Swap End Tokens"
# ComfyUI takes both of two ranges that meet at exactly one noise level.
APART = 1e-4


class EosError(ValueError):
    """Prompts or settings that cannot be followed; the message says what to change."""


@dataclass(frozen=True, eq=False)
class Ends:
    """A prompt's conditioning, and for each chunk of tokens where EOS stands and where the chunk stops."""

    text: str
    context: torch.Tensor
    pooled: torch.Tensor | None
    spans: tuple[Span, ...]


def read_ends(clip: Any, text: str) -> Ends:
    """EosError for text encoders that are no CLIP, and where two of them disagree."""
    try:
        encoders = read_text(clip, text)
    except ProbeError as error:
        raise EosError(
            f"{NODE}: {error} CLIP reads from left to right, so that EOS has seen the whole prompt and the"
            " words have not. T5 reads in both directions, and language models end in a template: there no"
            " token stands for the end."
        ) from error
    spans, *others = (tuple((chunk.eos, chunk.stop) for chunk in e.chunks) for e in encoders)
    if any(other != spans for other in others):
        raise EosError(
            f'{NODE}: the text encoders of this model split "{text}" differently, so its EOS has no common'
            " place: leave out the embedding that only one of them has."
        )
    try:
        scheduled = encode_text(clip, text, encoders)
    except ProbeError as error:
        raise EosError(f"{NODE}: {error}") from error
    if len(scheduled) != 1:
        raise EosError(f"{NODE}: this CLIP has a schedule of its own (hooks): connect one without.")
    context, more = scheduled[0]
    return Ends(text, context, more.get("pooled_output"), spans)


def swap_eos(
    clip: Any,
    prompt: str,
    eos_prompt: str,
    mode: str = SWAP,
    amount: float = 0.5,
    start: float = 0.0,
    end: float = 1.0,
) -> tuple[list[Any], str]:
    """CONDITIONING with the words of one prompt, EOS and padding of another, and what was done.

    mode: swap; blend, by `amount`; or zero, which needs no eos_prompt. start, end: the share of sampling in
    which it holds; outside of it the prompt is as it was. The pooled output, which SDXL takes from EOS,
    goes the same way.
    """
    if mode not in MODES:
        raise EosError(f"{NODE}: mode is {mode!r}; choose one of {', '.join(MODES)}.")
    for name, value in (("amount", amount), ("start", start), ("end", end)):
        if not 0 <= value <= 1:
            raise EosError(f"{NODE}: {name} is {value}; it must be between 0 and 1.")
    if start >= end:
        raise EosError(f"{NODE}: start is {start} and end {end}; start must be below end.")
    mine = read_ends(clip, prompt)
    other = None if mode == ZERO else read_ends(clip, eos_prompt)
    share = amount if mode == BLEND else 1.0
    context = replace_eos(
        mine.context, mine.spans, other.context if other else None, other.spans if other else (), share
    )
    pooled = mine.pooled
    if pooled is not None:
        to = torch.zeros_like(pooled) if other is None else other.pooled
        pooled = to if share == 1 or to is None else torch.lerp(pooled, to, share)
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
    replaced = sum(stop - eos for eos, stop in mine.spans)
    whose = f'those of "{other.text}"' if other else "zeros"
    how = "replaced by" if share == 1 else f"blended by {share:g} with"
    total = mine.context.shape[1]
    lines = [f'{replaced} end tokens of {total} of "{mine.text}" {how} {whose}.']
    empty = {encoder.name: clip.tokenize("")[encoder.name] for encoder in read_text(clip, "")}
    # BOS, EOS, and what it is padded with.
    unlike = [name for name, ((_, eos, *padding), *_) in empty.items() if padding and padding[0][0] != eos[0]]
    if unlike:
        names = ", ".join(CLIPS[name] for name in unlike)
        part = "half of the context" if len(empty) > 1 else "the context"
        lines.append(f"{names} pads with another token than EOS: {part} has one EOS for each chunk only.")
    if other and len(other.spans) != len(mine.spans):
        lines.append(f"The prompts have {len(mine.spans)} and {len(other.spans)} chunks of tokens.")
    return "\n".join(lines)

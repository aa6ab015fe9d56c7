"""Prompts to conditioning, and the token positions of the phrases in them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from ...tickets.prompts import Prompt
from .phrases import chunks, words
from .reader import ProbeError


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt ready for the model: conditioning, its text length in tokens, positions per phrase."""

    prompt: Prompt
    conditioning: list[Any]
    length: int
    positions: tuple[tuple[int, ...], ...]


def _chunks(clip: Any, text: str) -> list[list[Any]]:
    """Token chunks of a CLIP text encoder; SDXL's two share their positions."""
    return next(iter(chunks(clip, text).values()))


def _words(clip: Any, text: str) -> list[Any]:
    """Token ids of a text's first chunk, without start, end and padding."""
    (first, *_) = _chunks(clip, text)
    return words(first, _chunks(clip, "")[0][1])


def encode_prompt(clip: Any, prompt: Prompt) -> EncodedPrompt:
    """Conditioning of a prompt and the tokens of its phrases; ProbeError names a phrase that is lost."""
    tokens = _words(clip, prompt.text)
    whole = len(_chunks(clip, prompt.text)) == 1
    positions = []
    for _, start, end in prompt.phrases:
        name = prompt.text[start:end]
        if not whole and (end == prompt.phrases[-1][2] or len(_chunks(clip, prompt.text[:end])) > 1):
            raise ProbeError(
                f'"{name}" does not fit: its prompt is longer than the 75 tokens that are read at once. Use'
                " shorter or fewer categories, or a scheme with fewer in one prompt."
            )
        before, phrase = _words(clip, prompt.text[:start]), _words(clip, name)
        first = len(before)
        if not phrase or tokens[first : first + len(phrase)] != phrase:
            raise ProbeError(
                f'"{name}" cannot be found among the tokens of "{prompt.text}":'
                " use plain words for a category."
            )
        positions.append(tuple(range(first + 1, first + 1 + len(phrase))))
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(prompt.text))
    return EncodedPrompt(prompt, conditioning, conditioning[0][0].shape[1], tuple(positions))


def uuid_of(guider: Any, name: str) -> uuid.UUID:
    """The identity ComfyUI gave a guider's conditioning; found again in transformer_options."""
    return guider.original_conds[name][0]["uuid"]

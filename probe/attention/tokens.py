"""Where phrases stand among the tokens of a prompt, in every CLIP text encoder that reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...tickets.prompts import Prompt
from ..model.family import ProbeError, require_clip

CLIPS = {"l": "CLIP-L", "g": "CLIP-G", "h": "CLIP-H"}
# Two words that no tokenizer begins or ends with the same token.
STAND_INS = ("stone", "apple")


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """A prompt ready for the model.

    names: the phrases in it. conditioning: as ComfyUI's nodes pass it on. length: tokens in its context,
    all chunks together. positions: each phrase's tokens in the context, the same in all text encoders.
    """

    text: str
    names: tuple[str, ...]
    conditioning: list[Any]
    length: int
    positions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Chunk:
    """What a text encoder reads at once: BOS, words, EOS, padding; usually 77 tokens.

    first, stop: its range in the context. words: token ids, and the vectors of embeddings.
    """

    first: int
    stop: int
    words: tuple[Any, ...]

    @property
    def eos(self) -> int:
        return self.first + 1 + len(self.words)


@dataclass(frozen=True, eq=False)
class Encoder:
    """A text as one text encoder of a CLIP reads it.

    width: values in a token's vector, None where that cannot be found out. unfit: the width of the embeddings
    that were left out because theirs is another; 0 without any.
    """

    name: str
    chunks: tuple[Chunk, ...]
    width: int | None
    unfit: int = 0

    def words(self) -> list[tuple[Any, int]]:
        """Token ids or vectors, each with its position in the context."""
        return [(word, c.first + 1 + i) for c in self.chunks for i, word in enumerate(c.words)]


def read_text(clip: Any, text: str) -> list[Encoder]:
    """A text as each of a CLIP's text encoders reads it; ProbeError for other encoders."""
    require_clip(clip)
    tokens, empty = clip.tokenize(text), clip.tokenize("")
    if not tokens or any(name not in CLIPS for name in tokens):
        raise ProbeError(
            f"This text encoder ({', '.join(tokens)}) is not CLIP alone; this needs SD1.x, SD2.x or SDXL."
        )
    # SDXL's refiner has the tokenizers of both encoders and one of these only.
    used = [name for name in tokens if hasattr(clip.cond_stage_model, f"clip_{name}")] or list(tokens)
    return [_encoder(name, tokens[name], empty[name][0][1][0], _width(clip, name)) for name in used]


def encode_text(clip: Any, text: str, encoders: Sequence[Encoder]) -> list[Any]:
    """Conditioning of a text; ProbeError unless its tokens are those that the encoders read."""
    conditioning: list[Any] = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    length = _length(encoders)
    for context, *_ in conditioning:
        if context.shape[1] != length:
            raise ProbeError(
                f'"{text}" was encoded to {context.shape[1]} tokens, not {length}: a node has changed how'
                " this CLIP encodes. Connect the CLIP from before that node."
            )
    return conditioning


def encode_prompt(clip: Any, prompt: Prompt) -> PromptTokens:
    """A prompt whose phrases' places in the text are known; ProbeError names a phrase that cannot be read."""
    encoders = read_text(clip, prompt.text)
    names, positions = [], []
    for _, start, end in prompt.phrases:
        name = prompt.text[start:end]
        _require_embeddings(clip, name)
        before, after = prompt.text[:start], prompt.text[end:]
        others = [read_text(clip, before + word + after) for word in STAND_INS]
        found = [
            _changed(encoder.words(), [other[i].words() for other in others])
            for i, encoder in enumerate(encoders)
        ]
        places = _agreed(name, prompt.text, encoders, found)
        for chunk in encoders[0].chunks:
            if chunk.first < places[0] < chunk.stop <= places[-1]:
                raise ProbeError(
                    f'"{name}" does not fit: it is cut in two, because its prompt is longer than the'
                    f" {chunk.stop - chunk.first - 2} tokens that are read at once. Use shorter or fewer"
                    " categories, a shorter template, or a scheme with fewer in one prompt."
                )
        names.append(name)
        positions.append(places)
    conditioning = encode_text(clip, prompt.text, encoders)
    return PromptTokens(prompt.text, tuple(names), conditioning, _length(encoders), tuple(positions))


def find_phrases(clip: Any, text: str, names: Sequence[str]) -> PromptTokens:
    """A prompt and its phrases, wherever they stand in it; ProbeError names one that does not.

    Weights in parentheses are no part of a phrase, upper and lower case are the same, and punctuation around
    a phrase may differ.
    """
    encoders = read_text(clip, text)
    positions = []
    for name in names:
        _require_embeddings(clip, name)
        found: list[list[int]] = [[] for _ in encoders]
        for spelled in _spellings(name):
            wanted = [[word for word, _ in e.words()] for e in read_text(clip, spelled)]
            found = [_occurrences(e.words(), w) for e, w in zip(encoders, wanted, strict=True)]
            if any(found):
                break
        positions.append(_agreed(name, text, encoders, found))
    conditioning = encode_text(clip, text, encoders)
    return PromptTokens(text, tuple(names), conditioning, _length(encoders), tuple(positions))


def fitting(prompt: PromptTokens, width: int) -> PromptTokens:
    """The prompt; ProbeError unless its tokens have the values that a model attends to."""
    given = int(prompt.conditioning[0][0].shape[-1])
    if given != width:
        raise ProbeError(
            f"The clip is of another model: its tokens have {given} values, and this model takes {width}."
            " Connect the CLIP that belongs to the model."
        )
    return prompt


def _encoder(name: str, chunks: Sequence[Sequence[Any]], eos: int, width: int | None) -> Encoder:
    """As ComfyUI encodes it: vectors of another width are left out, and their places go to the padding."""
    made: list[Chunk] = []
    first = unfit = 0
    for chunk in chunks:
        words: list[Any] = []
        stop = first
        for place, (token, *_) in enumerate(chunk):
            if isinstance(token, dict):
                token = token["data"]
            if torch.is_tensor(token):
                vectors = token.reshape(-1, token.shape[-1])
                stop += len(vectors)
                if width in (None, token.shape[-1]):
                    words += vectors
                else:
                    unfit = int(token.shape[-1])
            elif token == eos:
                # Only padding is behind it.
                stop += len(chunk) - place
                break
            else:
                words.append(token)
                stop += 1
        made.append(Chunk(first, stop, tuple(words[1:])))
        first = stop
    return Encoder(name, tuple(made), width, unfit)


def _width(clip: Any, name: str) -> int | None:
    encoder = getattr(clip.cond_stage_model, f"clip_{name}", None)
    transformer = getattr(encoder, "transformer", None)
    if transformer is None:
        return None
    return int(transformer.get_input_embeddings().weight.shape[-1])


def _same(one: Any, other: Any) -> bool:
    if torch.is_tensor(one) or torch.is_tensor(other):
        return torch.is_tensor(one) and torch.is_tensor(other) and torch.equal(one, other)
    return bool(one == other)


def _changed(words: Sequence[tuple[Any, int]], others: Sequence[Sequence[tuple[Any, int]]]) -> list[int]:
    """The positions of those words that other texts do not have in common with this one."""
    start = min(_common(words, other) for other in others)
    end = len(words) - min(_common(words[::-1], other[::-1]) for other in others)
    return [position for _, position in words[start:end]]


def _common(words: Sequence[tuple[Any, int]], others: Sequence[tuple[Any, int]]) -> int:
    """How many words two texts have in common from the beginning."""
    pairs = zip(words, others, strict=False)
    return next((n for n, ((a, _), (b, _)) in enumerate(pairs) if not _same(a, b)), len(words))


def _spellings(name: str) -> Iterator[str]:
    """A phrase as it is; its parentheses taken for letters; and without punctuation around it."""
    yield name
    yield re.sub(r"(?<!\\)([()])", r"\\\1", name)
    yield re.sub(r"^\W+|\W+$", "", name)


def _occurrences(words: Sequence[tuple[Any, int]], wanted: Sequence[Any]) -> list[int]:
    """The positions of all words that belong to an occurrence of the wanted ones."""
    size = len(wanted)
    starts = (
        at
        for at in range(len(words) - size + 1 if size else 0)
        if all(_same(words[at + i][0], token) for i, token in enumerate(wanted))
    )
    return sorted({position for at in starts for _, position in words[at : at + size]})


def _agreed(
    name: str, text: str, encoders: Sequence[Encoder], found: Sequence[Sequence[int]]
) -> tuple[int, ...]:
    """The positions that all encoders have found for a phrase; ProbeError says why there are none."""
    first, *others = (tuple(places) for places in found)
    if first and all(places == first for places in others) and first[-1] < _length(encoders):
        return first
    if not any(found):
        raise ProbeError(f'"{name}" does not stand in the prompt "{text}": use its own words.')
    lost = next((e for e in encoders if e.unfit), None)
    why = (
        f"{CLIPS[lost.name]} leaves out an embedding in it, whose vectors have {lost.unfit} values instead of"
        f" {lost.width}. Use one that is made for this model, or none."
        if lost
        else "they split it differently. Use fewer embeddings, or plain words."
    )
    raise ProbeError(f'The text encoders of this model place "{name}" differently in "{text}": {why}')


def _require_embeddings(clip: Any, name: str) -> None:
    """ProbeError unless every embedding in a phrase is loaded and fits all text encoders."""
    for found in re.finditer(r"(?<!\S)\(*(embedding:[^\s()<[]+)(\))?", name):
        word = re.sub(r":[-+.\d]*$", "", found[1]) if found[2] else found[1]
        alone = read_text(clip, word)
        lost = next((e for e in alone if e.unfit), None)
        if lost:
            raise ProbeError(
                f'"{word}" is an embedding for another model: its vectors have {lost.unfit} values, those of'
                f" {CLIPS[lost.name]} {lost.width}, so ComfyUI leaves them out. Use one that is made for this"
                " model."
            )
        if not all(encoder.words() for encoder in alone):
            raise ProbeError(
                f'"{word}" cannot be loaded: check its name, upper and lower case included, and that its file'
                " is in the embeddings folder."
            )


def _length(encoders: Sequence[Encoder]) -> int:
    """Tokens in the context: SDXL joins its two encoders' and cuts the longer one's."""
    return min(encoder.chunks[-1].stop for encoder in encoders)

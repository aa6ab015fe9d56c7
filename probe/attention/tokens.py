"""Where phrases stand among the tokens of a prompt, in every text encoder that reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from ...tickets.prompts import Prompt
from ..model.family import ProbeError, require_clip
from . import phrases
from .phrases import common, same_token

CLIPS = {"l": "CLIP-L", "g": "CLIP-G", "h": "CLIP-H"}
# By text encoders, of two tokenizers the one that is encoded, and the one whose tokens the model attends to.
PAIRS = {"AnimaTEModel": ("qwen3_06b", "t5xxl")}
# Two words that no tokenizer begins or ends with the same token.
STAND_INS = ("stone", "apple")


@dataclass(frozen=True, eq=False)
class PromptTokens:
    """A prompt ready for the model.

    names: the phrases in it. conditioning: as ComfyUI's nodes pass it on. length: tokens in its context,
    all chunks together. positions: each phrase's tokens in the context, the same in all text encoders that
    share it. parts: where in the context another text encoder's own tokens begin, as SD3's T5 behind CLIP.
    """

    text: str
    names: tuple[str, ...]
    conditioning: list[Any]
    length: int
    positions: tuple[tuple[int, ...], ...]
    parts: tuple[int, ...] = ()

    @property
    def groups(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """Each phrase's positions, apart for each part that it is in."""

        def part(position: int) -> int:
            return sum(position >= first for first in self.parts)

        return tuple(tuple(tuple(g) for _, g in groupby(places, part)) for places in self.positions)


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
    tokens = clip.tokenize(text)
    if not tokens or any(name not in CLIPS for name in tokens):
        raise ProbeError(
            f"This text encoder ({', '.join(tokens)}) is not CLIP alone; this needs SD1.x, SD2.x or SDXL."
        )
    return _read(clip, text, tokens)


def _read(clip: Any, text: str, names: Iterable[str]) -> list[Encoder]:
    """A text as those of these CLIP encoders read it that the model has."""
    tokens, empty = clip.tokenize(text), clip.tokenize("")
    # SDXL's refiner has the tokenizers of both encoders and one of these only, and SD3 may have any.
    used = [name for name in names if getattr(clip.cond_stage_model, f"clip_{name}", None) is not None]
    return [_encoder(name, tokens[name], empty[name][0][1][0], _width(clip, name)) for name in used or names]


@dataclass(frozen=True, eq=False)
class Readers:
    """Which of a CLIP's tokenizers the tokens of a context come from, in order.

    clips: CLIP's, which share their places. other: a tokenizer of another kind. weighted: whether that takes
    parentheses for weights. encoded: where the model makes of the context a token for each of the other's,
    the tokenizer of the context itself.
    """

    clip: Any
    clips: tuple[str, ...]
    other: str = ""
    weighted: bool = False
    encoded: str = ""

    @classmethod
    def of(cls, clip: Any) -> Readers:
        """ProbeError for text encoders of which that is not known."""
        require_clip(clip)
        names = list(clip.tokenize(""))
        clips, others = (tuple(n for n in names if (n in CLIPS) == is_clip) for is_clip in (True, False))
        if not others:
            return cls(clip, clips)
        stage = clip.cond_stage_model
        kinds = {kind.__name__ for kind in type(stage).__mro__}
        encoded, other = next((PAIRS[k] for k in kinds if k in PAIRS), ("", others[0]))
        if len(others) > 1 and not encoded:
            raise ProbeError(
                f"This text encoder ({', '.join(names)}) is of a kind in which words cannot be told apart."
            )
        if "SD3ClipModel" not in kinds:
            # Elsewhere CLIP gives the pooled output only.
            clips = ()
        clips = tuple(n for n in clips if getattr(stage, f"clip_{n}", None) is not None)
        if clips and getattr(stage, other, None) is None:
            return cls(clip, clips)
        return cls(clip, clips, other, phrases.weighs(clip, other), encoded)

    def encoders(self, text: str) -> list[Encoder]:
        return _read(self.clip, text, self.clips) if self.clips else []

    def tokens(self, text: str, name: str = "") -> list[Any]:
        """Of the other tokenizer, or one by name, as ComfyUI encodes them: numbers, and embeddings' vectors.

        Vectors of another width are left out, and their places go to the padding behind.
        """
        name = name or self.other
        width = _width(self.clip, name)
        tokens = [token for chunk in self.clip.tokenize(text)[name] for token, *_ in chunk]
        fit = [t for t in tokens if not torch.is_tensor(t) or width in (None, t.shape[-1])]
        return fit + [None] * (len(tokens) - len(fit))

    def _before(self) -> int:
        """How many tokens a template has before a text; language models may leave them out of the context."""
        return common(*map(self.tokens, STAND_INS))

    def encode(self, text: str) -> tuple[list[Any], int, int, int]:
        """Conditioning of a text, how many tokens it has, of them CLIP's, and of the other's left out.

        ProbeError unless its tokens are those that the encoders read.
        """
        first = _length(encoders) if (encoders := self.encoders(text)) else 0
        if not self.other:
            return encode_text(self.clip, text, encoders), first, first, 0
        conditioning = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
        count = len(self.tokens(text, self.encoded))
        lengths = {context.shape[1] for context, *_ in conditioning}
        dropped = first + count - min(lengths)
        # A text that brings a template of its own is given none.
        left_out = dropped in (0, self._before()) or (dropped > 0 and text.startswith("<|im_start|>"))
        if len(lengths) > 1 or not left_out:
            raise ProbeError(
                f'"{text}" was encoded to {min(lengths)} tokens, not {first + count}: a node has changed how'
                " this CLIP encodes, or it is of a kind that is not known. Connect the CLIP from before that"
                " node."
            )
        length = len(self.tokens(text)) if self.encoded else min(lengths)
        return conditioning, length, first, dropped


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
    readers = Readers.of(clip)
    encoders = readers.encoders(prompt.text)
    conditioning, length, first, dropped = readers.encode(prompt.text)
    names, positions = [], []
    for _, start, end in prompt.phrases:
        name = prompt.text[start:end]
        names.append(name)
        places = _replaced(readers, prompt.text, start, end, encoders) if encoders else ()
        if readers.other:
            places += _spanned(readers, name, prompt.text, [(start, end)], first - dropped)
        positions.append(places)
    return PromptTokens(
        prompt.text, tuple(names), conditioning, length, tuple(positions), (first,) if readers.other else ()
    )


def _replaced(
    readers: Readers, text: str, start: int, end: int, encoders: Sequence[Encoder]
) -> tuple[int, ...]:
    """The tokens of CLIP that text[start:end] has and other words in its place have not."""
    name = text[start:end]
    _require_embeddings(readers, name)
    others = [readers.encoders(text[:start] + word + text[end:]) for word in STAND_INS]
    found = [
        _changed(encoder.words(), [other[i].words() for other in others])
        for i, encoder in enumerate(encoders)
    ]
    places = _agreed(name, text, encoders, found)
    for chunk in encoders[0].chunks:
        if chunk.first < places[0] < chunk.stop <= places[-1]:
            raise ProbeError(
                f'"{name}" does not fit: it is cut in two, because its prompt is longer than the'
                f" {chunk.stop - chunk.first - 2} tokens that are read at once. Use shorter or fewer"
                " categories, a shorter template, or a scheme with fewer in one prompt."
            )
    return places


def find_phrases(clip: Any, text: str, names: Sequence[str]) -> PromptTokens:
    """A prompt and its phrases, wherever they stand in it; ProbeError names one that does not.

    Weights in parentheses are no part of a phrase, upper and lower case are the same, and punctuation around
    a phrase may differ.
    """
    readers = Readers.of(clip)
    encoders = readers.encoders(text)
    conditioning, length, first, dropped = readers.encode(text)
    positions = []
    for name in names:
        places: tuple[int, ...] = ()
        if encoders:
            _require_embeddings(readers, name)
            found: list[list[int]] = [[] for _ in encoders]
            for spelled in _spellings(name):
                wanted = [[word for word, _ in e.words()] for e in readers.encoders(spelled)]
                found = [_occurrences(e.words(), w) for e, w in zip(encoders, wanted, strict=True)]
                if any(found):
                    break
            places = _agreed(name, text, encoders, found)
        if readers.other:
            stands: list[tuple[int, int]] = []
            for spelled in _spellings(name):
                stands = stands or list(phrases.occurrences(text, spelled, readers.weighted))
            places += _spanned(readers, name, text, stands, first - dropped)
        positions.append(places)
    return PromptTokens(
        text, tuple(names), conditioning, length, tuple(positions), (first,) if readers.other else ()
    )


def unread_prompt(clip: Any, text: str, names: Sequence[str]) -> PromptTokens:
    """A prompt whose phrases have no places, for a model whose attention is not read."""
    require_clip(clip)
    conditioning = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    return PromptTokens(text, tuple(names), conditioning, 0, ())


def _spanned(
    readers: Readers, name: str, text: str, places: Sequence[tuple[int, int]], first: int
) -> tuple[int, ...]:
    """The positions of text[start:end] for each of the places; first: of the first token in the context."""
    found = set[int]()
    for start, end in places:
        tokens = phrases.span(readers.tokens, text, start, end, readers.weighted)
        if not len(tokens) and "embedding:" in name:
            raise ProbeError(
                f'"{name}" has no token in "{text}": {readers.other} leaves the embedding out. Use one that'
                " is made for this model, or plain words."
            )
        if not len(tokens) or tokens[0] + first < 0:
            raise ProbeError(
                f'"{name}" has no token of its own in "{text}": the text encoder joins it to its neighbours.'
                " Put spaces around it, or use more words."
            )
        found.update(token + first for token in tokens)
    if not found:
        raise ProbeError(f'"{name}" is not in the prompt "{text}": use its own words.')
    return tuple(sorted(found))


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
    stage = clip.cond_stage_model
    encoder = getattr(stage, f"clip_{name}", None) or getattr(stage, name, None)
    transformer = getattr(encoder, "transformer", None)
    if transformer is None:
        return None
    return int(transformer.get_input_embeddings().weight.shape[-1])


def _changed(words: Sequence[tuple[Any, int]], others: Sequence[Sequence[tuple[Any, int]]]) -> list[int]:
    """The positions of those words that other texts do not have in common with this one."""
    tokens = [word for word, _ in words]
    unlike = [[word for word, _ in other] for other in others]
    start = min(common(tokens, other) for other in unlike)
    end = len(words) - min(common(tokens[::-1], other[::-1]) for other in unlike)
    return [position for _, position in words[start:end]]


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
        if all(same_token(words[at + i][0], token) for i, token in enumerate(wanted))
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
        raise ProbeError(f'"{name}" is not in the prompt "{text}": use its own words.')
    lost = next((e for e in encoders if e.unfit), None)
    why = (
        f"{CLIPS[lost.name]} leaves out an embedding in it, whose vectors have {lost.unfit} values instead of"
        f" {lost.width}. Use one that is made for this model, or none."
        if lost
        else "they split it differently. Use fewer embeddings, or plain words."
    )
    raise ProbeError(f'The text encoders of this model place "{name}" differently in "{text}": {why}')


def _require_embeddings(readers: Readers, name: str) -> None:
    """ProbeError unless every embedding in a phrase is loaded and fits all text encoders."""
    for found in re.finditer(r"(?<!\S)\(*(embedding:[^\s()<[]+)(\))?", name):
        word = re.sub(r":[-+.\d]*$", "", found[1]) if found[2] else found[1]
        alone = readers.encoders(word)
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

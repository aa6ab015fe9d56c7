"""Reads an image's attention to words while a MODEL is evaluated, and nothing that is not the image's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import comfy.patcher_extension
import torch
from einops import rearrange

from ...tickets.grid import map_size
from ..model.clone import plain_clone
from ..model.family import AttentionCall, Family, Layer

KEY = "winning_tickets"
WEIGHTS_AT_ONCE = 2**22
# Where many keys share a softmax, fewer cells at a time keep no device busy.
CELLS_AT_ONCE = 128


class Tokens(Protocol):
    """Where phrases stand in a prompt.

    groups: of each phrase, the positions of its tokens, apart for each text encoder that has tokens of its
    own. length: of the prompt's own text in tokens. conditioning: of the prompt, as ComfyUI encodes it.
    """

    @property
    def groups(self) -> Sequence[Sequence[Sequence[int]]]: ...

    @property
    def length(self) -> int: ...

    @property
    def conditioning(self) -> list[Any]: ...


class _ReadEnough(Exception):
    """Raised inside a forward once the last layer's attention is read; never leaves `Reader`."""


@dataclass
class Reader:
    """Reads the attention of some layers to some prompts' phrases whenever a MODEL is evaluated.

    What lies before the last layer runs as it is, patches included; with `stop`, nothing after it.
    family: of the MODEL. layers: in forward order. images, height, width: of the latent that is sampled.
    prompts: by the uuid of their conditioning. maps: what was read since they were last cleared, per uuid
    and layer: [images, phrases, h, w] float32 as `keep` leaves it, mean over heads and tokens. A map is of
    the whole image, of its own rows, its own prompt and the layer's own grid, or there is none; refused: why
    not, as predicates of "another patch ...".
    """

    family: Family
    layers: Sequence[Layer]
    images: int
    height: int
    width: int
    prompts: Mapping[uuid.UUID, Tokens] = field(default_factory=dict)
    stop: bool = True
    keep: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.cpu
    maps: dict[tuple[uuid.UUID, Layer], torch.Tensor] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    # Of the forward that runs: what the model was given as prompt, and where each prompt lies in it.
    _context: torch.Tensor = field(default_factory=lambda: torch.empty(0), repr=False)
    _told: dict[uuid.UUID, torch.Tensor] = field(default_factory=dict, repr=False)
    _places: dict[uuid.UUID, tuple[int, int]] = field(default_factory=dict, repr=False)

    def attach(self, model: Any) -> Any:
        """A plain clone of MODEL that is read whenever it is evaluated."""
        clone = plain_clone(model)
        wrapper = comfy.patcher_extension.WrappersMP.APPLY_MODEL
        clone.add_wrapper_with_key(wrapper, KEY, self.evaluate)
        return clone

    def evaluate(
        self,
        executor: Any,
        x: torch.Tensor,
        t: torch.Tensor,
        c_concat: Any = None,
        c_crossattn: torch.Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> torch.Tensor:
        """An APPLY_MODEL wrapper: the model with the layers read."""
        options = dict(transformer_options or {})
        chunks: dict[int, uuid.UUID] = {}
        with self._unless_watching(chunks):
            chunks.update(self._chunks(x, c_crossattn, options))
            if chunks and (why := self.family.obscured(more)):
                self.refuse(why)
                chunks.clear()
        if not chunks and not self.stop:
            return executor(x, t, c_concat, c_crossattn, control, options, **more)
        if not chunks:
            return torch.zeros_like(x)
        left = dict(chunks)

        def read(make: Callable[[], AttentionCall | None]) -> None:
            with self._unless_watching(left):
                call = make()
                if call is not None:
                    self._read(left, len(x), call)

        size = (self.height, self.width)
        hooked = self.family.hooked(options, self.layers, read, size, self._context.shape[1], more)
        try:
            denoised = executor(x, t, c_concat, c_crossattn, control, hooked, **more)
        except _ReadEnough:
            denoised = torch.zeros_like(x)
        unread = [
            layer for layer in self.layers if any((key, layer) not in self.maps for key in left.values())
        ]
        if len(unread) == len(self.layers):
            self.refuse("replaces the model's forward, so that no attention is seen")
        elif unread:
            self.refuse(f"leaves no attention to the prompt at layer {unread[0]}")
        if unread:
            self._forget(left)
        return denoised

    @contextmanager
    def _unless_watching(self, chunks: dict[int, uuid.UUID]) -> Iterator[None]:
        """What fails to be read is refused, where nothing depends on it: whoever only watches ends no run."""
        try:
            yield
        except Exception as error:
            if self.stop:
                raise
            self._forget(chunks)
            self.refuse(f"leaves attention that cannot be read ({type(error).__name__})")

    def _forget(self, chunks: dict[int, uuid.UUID]) -> None:
        """A forward is read at all of the layers or at none."""
        for key in chunks.values():
            for layer in self.layers:
                self.maps.pop((key, layer), None)
        chunks.clear()

    def refuse(self, why: str) -> None:
        if why not in self.refused:
            self.refused.append(why)

    def _chunks(
        self, x: torch.Tensor, context: torch.Tensor | None, options: Mapping[str, Any]
    ) -> dict[int, uuid.UUID]:
        """Which chunk of the rows is which prompt's, of those to read and not read yet."""
        # ComfyUI batches, reorders and splits prompts: only the uuid says whose chunk this is.
        uuids = options.get("uuids") or ()
        mine = {i: key for i, key in enumerate(uuids) if key in self.prompts}
        if not mine:
            return {}
        if tuple(x.shape[-2:]) != (self.height, self.width):
            self.refuse(
                f"runs the model on pieces of {x.shape[-2]}x{x.shape[-1]} of the {self.height}x{self.width}"
                " latent pixels"
            )
            return {}
        if x.dim() == 5 and x.shape[2] != 1:
            self.refuse(f"runs the model on {x.shape[2]} frames instead of one image")
            return {}
        rows, kinds = len(uuids) * self.images, options.get("cond_or_uncond", uuids)
        if len(x) != rows or len(kinds) != len(uuids):
            self.refuse(f"runs the model on {len(x)} rows instead of {rows}")
            return {}
        if context is None or len(context) != len(x):
            self.refuse("changes the prompt before the model sees it")
            return {}
        # A prompt that is evaluated again, as perturbed guidance does, is read the first time.
        left = {i: key for i, key in mine.items() if (key, self.layers[-1]) not in self.maps}
        self._places.clear()
        if self._told.keys() - self.prompts.keys():
            self._told.clear()
        for i, key in left.items():
            given = context[i * self.images : (i + 1) * self.images]
            if key not in self._told:
                self._told[key] = self.family.told(self.prompts[key].conditioning[0], given)
            place = _place(given, self._told[key])
            if place is None:
                self.refuse("changes the prompt before the model sees it")
                return {}
            self._places[key] = place
        self._context = context
        return left

    def _read(self, chunks: dict[int, uuid.UUID], rows: int, call: AttentionCall) -> None:
        """Keeps the maps of one call, or refuses it; ends the forward after the last layer."""
        if chunks and (why := self._unlike(call, rows)):
            self.refuse(f"{why} at layer {call.layer}")
            self._forget(chunks)
        if not chunks and self.stop:
            raise _ReadEnough
        if chunks:
            for i, key in chunks.items():
                part = slice(i * self.images, (i + 1) * self.images)
                length, first = self._places[key]
                groups = [[[p + first for p in g] for g in parts] for parts in self.prompts[key].groups]
                maps = call_attention(call, part, groups, length)
                self.maps[key, call.layer] = self.keep(maps.unflatten(-1, call.size))
        if self.stop and call.layer == self.layers[-1]:
            raise _ReadEnough

    def _unlike(self, call: AttentionCall, rows: int) -> str:
        """What is not as the model alone would have it; empty if all is."""
        if call.wrong:
            return call.wrong
        if len(call.q) != rows or len(call.k) != rows:
            return f"gives the attention {len(call.q)} rows instead of {rows}"
        expected = map_size(self.height, self.width, self.family.stride(call.layer))
        if call.size != expected or call.cells != expected[0] * expected[1]:
            found = f"{call.size[0]}x{call.size[1]}"
            if call.cells != call.size[0] * call.size[1]:
                found = f"{call.cells} of {found}"
            return f"leaves a map of {found} cells instead of {expected[0]}x{expected[1]}"
        if call.tokens != self._context.shape[1]:
            return f"shows the attention {call.tokens} tokens instead of {self._context.shape[1]}"
        if call.context is not None and not _same(call.context, self._context):
            return "shows the attention another prompt"
        # What was compared once is known by its identity: no device is waited for at every layer.
        self._context = call.context if call.context is not None else self._context
        return ""


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Of equal values in the coarser precision of both."""
    if one is other:
        return True
    return one.shape == other.shape and bool(torch.equal(one, other.to(one)))


def _place(context: torch.Tensor, own: torch.Tensor) -> tuple[int, int] | None:
    """Where a prompt's `own` tokens lie in what the model is given [images, tokens, width]; None: nowhere.

    As the number of tokens after which they repeat, as ComfyUI repeats them to a common length, and the first
    of them there: some models have zeros before.
    """
    length, tokens = context.shape[1], own.shape[1]
    if length < tokens or own.shape[2] != context.shape[2] or len(own) not in (1, len(context)):
        return None
    own = own.to(context)
    times = length // tokens
    if length % tokens == 0 and torch.equal(context, own.repeat(1, times, 1).expand(len(context), -1, -1)):
        return tokens, 0
    zeros, last = context[:, : length - tokens], context[:, length - tokens :]
    if torch.equal(last, own.expand(len(context), -1, -1)) and not bool(zeros.any()):
        return length, length - tokens
    return None


def call_attention(
    call: AttentionCall, rows: slice, groups: Sequence[Sequence[Sequence[int]]], length: int
) -> torch.Tensor:
    """`token_attention` of some rows of a call; phrases may have tokens of several text encoders, each of
    which counts alike.
    """
    mask = call.mask
    if mask is not None and len(mask) > 1:
        mask = mask[rows]
    flat = [group for parts in groups for group in parts]
    maps = token_attention(call.q[rows], call.k[rows], call.heads, flat, length, call.text, mask, call.scale)
    return torch.stack([m.mean(1) for m in maps.split([len(parts) for parts in groups], 1)], 1)


def token_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    heads: int,
    groups: Sequence[Sequence[int]],
    length: int,
    text: slice = slice(None),
    mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Softmax attention of each cell to groups of tokens, float32 [images, groups, cells].

    q [images, cells, heads * dim] or [images, heads, cells, dim], k likewise of all keys, of which `text` are
    the prompt's. Mean over heads and over the tokens of a group. ComfyUI repeats texts of different `length`
    to a common one: copies are summed. mask [1 or images, 1 or heads, 1 or cells, keys]: added to the scores,
    or keys to keep. scale: of the scores, dim ** -0.5 if not given.
    """
    if q.dim() == 3:
        q, k = (rearrange(t, "b n (h d) -> b h n d", h=heads) for t in (q, k))
    if k.shape[1] != q.shape[1]:
        # A key's head may serve several of the queries'.
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    cells = min(q.shape[2], max(CELLS_AT_ONCE, WEIGHTS_AT_ONCE // (heads * k.shape[2])))
    images = max(1, WEIGHTS_AT_ONCE // (heads * k.shape[2] * cells))
    result = []
    for first in range(0, len(q), images):
        some = slice(first, first + images)
        keys = k[some].float().transpose(-1, -2) * scale
        hidden = mask if mask is None or len(mask) == 1 else mask[some]
        maps = []
        for start in range(0, q.shape[2], cells):
            part = slice(start, start + cells)
            scores = q[some, :, part].float() @ keys
            if hidden is not None:
                scores = _masked(scores, hidden if hidden.shape[2] == 1 else hidden[:, :, part])
            weights = scores.softmax(-1)[..., text].mean(1).unflatten(-1, (-1, length)).sum(-2)
            maps.append(torch.stack([weights[..., list(g)].mean(-1) for g in groups], 1))
        result.append(torch.cat(maps, -1))
    return torch.cat(result)


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    return scores + mask.float()

"""Collecting tickets: one early-ended evaluation per noise and prompt, at the highest noise level."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import torch
from comfyui_version import __version__ as comfyui_version

from ...tickets import VERSION
from ...tickets.bank.bank import BankError, Recipe, TicketBank
from ...tickets.bank.combine import list_difference, merge, only
from ...tickets.noise import SEED_RANGE, plain_noise, to_blocks
from ...tickets.prompts import PAIRS, PLACE, make_prompts, parse_template
from ...tickets.score import pool_cells
from ..attention.first_step import read_attention
from ..attention.reader import Layer, ProbeError, find_layers
from ..attention.tokens import PromptTokens, encode_prompt
from ..model.fingerprint import fingerprint
from ..model.memory import Rows

KEEP_EVERY = 30.0
KEEP_SHARE = 0.05


@dataclass(frozen=True)
class Wish:
    """What to collect: categories from `noises` noises of seeds seed, seed + 1, ...

    width, height in pixels. layer: one name, or several apart by commas. cells: side of a block in
    cells of the layer's attention map, which is averaged over them.
    """

    categories: tuple[str, ...]
    noises: int
    seed: int
    width: int
    height: int
    layer: str
    cells: int = 1
    scheme: str = PAIRS
    template: str = PLACE

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple((self.seed + k) % SEED_RANGE for k in range(self.noises))


def latent_size(model: Any, width: int, height: int) -> tuple[int, int, int]:
    """Channels, height and width of the latent of an image of `width` x `height` pixels."""
    latent_format = model.get_model_object("latent_format")
    ratio = latent_format.spacial_downscale_ratio
    return latent_format.latent_channels, height // ratio, width // ratio


class Collector:
    """Collects tickets batch by batch; what was collected is whole after every batch."""

    def __init__(self, model: Any, clip: Any, wish: Wish) -> None:
        self.model, self.wish = model, wish
        self.layers: list[Layer] = find_layers(model, wish.layer)
        template = parse_template(wish.template)
        prompts = make_prompts(wish.categories, wish.scheme, template)
        self.measured = tuple((c, i) for i, p in enumerate(prompts) for c, _, _ in p.phrases)
        self.prompts: list[PromptTokens] = [encode_prompt(clip, p) for p in prompts]
        self.sigma = float(model.get_model_object("model_sampling").sigma_max)
        self.shape = latent_size(model, wish.width, wish.height)
        self.rows = Rows(model, self.shape)
        self.fingerprint = fingerprint(model, clip)

    def recipe(self, block: int) -> Recipe:
        channels, height, width = self.shape
        return Recipe(
            layer=", ".join(map(str, self.layers)),
            block=block,
            channels=channels,
            height=height,
            width=width,
            sigma=self.sigma,
            latent_scale=float(self.model.get_model_object("latent_format").scale_factor),
            model=type(self.model.model).__name__,
            scheme=self.wish.scheme,
            template=parse_template(self.wish.template),
            fingerprint=self.fingerprint,
        )

    def check(self, before: TicketBank) -> None:
        """BankError unless a bank collected before can be resumed."""
        differences = [self.recipe(before.recipe.block).contrast(before.recipe)]
        if difference := list_difference(self.wish.categories, before.categories):
            differences.insert(0, f"categories ({difference})")
        if any(differences):
            what = ", ".join(filter(None, differences))
            raise BankError(
                f"The bank saved before differs in {what}: give Collect Tickets another name in save_as, or"
                " delete that file."
            )

    def batch(self, seeds: Sequence[int]) -> tuple[TicketBank, int]:
        """A bank of the first of these seeds, as many as fit into memory at once, and how many."""
        some, noise, maps = self.rows.retry(partial(self._measure, seeds))
        size = self.wish.cells * 2 ** round(math.log2(self.shape[1] / maps.shape[-2]))
        blocks = to_blocks(noise, size)
        if not blocks.numel():
            raise ProbeError(
                f"Blocks of {size} latent pixels do not fit an image of {self.wish.width}x{self.wish.height}:"
                " raise width and height or choose a finer layer."
            )
        maps = pool_cells(maps, self.wish.cells)[..., : blocks.shape[1], : blocks.shape[2]]
        bank = TicketBank.of_maps(
            categories=self.wish.categories,
            prompts=tuple(p.text for p in self.prompts),
            measured=self.measured,
            seeds=tuple(some),
            maps=maps,
            blocks=blocks.flatten(0, 2),
            recipe=self.recipe(size),
            made_by=f"Winning Tickets {VERSION}, ComfyUI {comfyui_version}",
        )
        return bank, len(some)

    def _measure(self, seeds: Sequence[int], rows: int) -> tuple[Sequence[int], torch.Tensor, torch.Tensor]:
        """The first of the seeds, their noise, and attention [phrases of all prompts, images, h, w]."""
        some = seeds[: max(1, rows // len(self.prompts))]
        noise = torch.cat([plain_noise(s, self.shape) for s in some])
        at_once = max(1, rows // len(some))
        maps: list[torch.Tensor] = []
        for start in range(0, len(self.prompts), at_once):
            comfy.model_management.throw_exception_if_processing_interrupted()
            part = self.prompts[start : start + at_once]
            maps += read_attention(self.model, part, noise, self.layers, self.sigma)
        return some, noise, torch.cat([m.transpose(0, 1) for m in maps])


def collect(
    model: Any,
    clip: Any,
    wish: Wish,
    before: TicketBank | None = None,
    progress: Callable[[int, TicketBank], None] = lambda done, latest: None,
    keep: Callable[[TicketBank], None] | None = None,
) -> TicketBank:
    """The bank of a wish. Model evaluations: noises x prompts, each ended as soon as all is read.

    before: an earlier bank of the same wish, with other noises or fewer; what it holds is not
    collected again. progress: called with the number of noises done and the latest ones. keep: called
    with all there is every half minute, more rarely when that would take more than a twentieth of the
    time, and in the end, also when that is a cancel or an error.
    ProbeError and BankError say which input to change.
    """
    collector = Collector(model, clip, wish)
    if before:
        collector.check(before)
    known = set(before.seeds) if before else set()
    missing = [s for s in wish.seeds if s not in known]
    parts: list[TicketBank] = [before] if before else []
    kept, kept_at, wait = len(parts), time.monotonic(), KEEP_EVERY
    try:
        while missing:
            latest, count = collector.batch(missing)
            parts.append(latest)
            missing = missing[count:]
            progress(wish.noises - len(missing), latest)
            began = time.monotonic()
            if keep and began - kept_at > wait:
                parts = [merge(parts)]
                keep(parts[0])
                kept, kept_at = len(parts), time.monotonic()
                # A write takes longer the more there is: all of them together stay a share of the time.
                wait = max(KEEP_EVERY, (kept_at - began) / KEEP_SHARE)
    finally:
        if keep and len(parts) > kept:
            keep(merge(parts))
    return only(merge(parts), wish.seeds)

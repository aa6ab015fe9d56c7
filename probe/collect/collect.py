"""Collecting tickets: one early-ended evaluation per noise and prompt, where their family reads noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfyui_version import __version__ as comfyui_version

from ...tickets import VERSION
from ...tickets.bank.bank import BankError, Recipe, TicketBank
from ...tickets.bank.combine import list_difference, merge, only
from ...tickets.noise import SEED_RANGE, plain_noise, to_blocks
from ...tickets.prompts import PAIRS, PLACE, Prompt, make_prompts, parse_template
from ..attention.scorer import Scorer
from ..attention.tokens import PromptTokens
from ..model.family import pixels_of, require

NODE = "Collect Tickets"
KEEP_EVERY = 30.0
KEEP_SHARE = 0.05
# Encoded prompts that are held for all noises; with more, they are encoded anew for every few noises.
MOST_ENCODED = 256
NOISES_AT_ONCE = 8


@dataclass(frozen=True)
class CollectRequest:
    """What to collect: categories from `noises` noises of seeds seed, seed + 1, ...

    width, height in pixels. layer: one name, or several, comma-separated. cells: side of a block in
    cells of the layer's attention map, which is averaged over them; 0: what is usual for the model.
    """

    categories: tuple[str, ...]
    noises: int
    seed: int
    width: int
    height: int
    layer: str
    cells: int = 0
    scheme: str = PAIRS
    template: str = PLACE

    def __post_init__(self) -> None:
        require("noises", self.noises, 1)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple((self.seed + k) % SEED_RANGE for k in range(self.noises))


class Collector:
    """Collects tickets batch by batch; what was collected is whole after every batch."""

    def __init__(
        self,
        model: Any,
        clip: Any,
        request: CollectRequest,
        encoding: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.request = request
        self.scorer = Scorer(model, clip, NODE, request.width, request.height, request.layer)
        self.grid = self.scorer.grid(request.cells)
        self.prompts: list[Prompt] = make_prompts(
            request.categories, request.scheme, parse_template(request.template)
        )
        self.encoding = encoding
        self._encoded: list[PromptTokens] | None = None

    def recipe(self) -> Recipe:
        channels, height, width = self.scorer.shape
        model, level = self.scorer.model, self.scorer.family.noise_level()
        # What is scaled for another level than a run's first is no noise for it.
        first = level == float(model.get_model_object("model_sampling").sigma_max)
        return Recipe(
            layer=", ".join(map(str, self.scorer.layers)),
            block=self.grid.block,
            channels=channels,
            height=height,
            width=width,
            sigma=level,
            latent_scale=_latent_scale(model.get_model_object("latent_format")) if first else 0.0,
            model=type(model.model).__name__,
            scheme=self.request.scheme,
            template=parse_template(self.request.template),
            fingerprint=self.scorer.fingerprint,
            pixels=pixels_of(model),
            baseline=self.scorer.baseline.noises,
        )

    def check(self, before: TicketBank) -> None:
        """BankError unless a bank collected before can be resumed."""
        differences = list(filter(None, [self.recipe().contrast(before.recipe)]))
        if found := list_difference(self.request.categories, before.categories):
            differences.insert(0, f"categories ({found})")
        elif not differences and (found := list_difference([p.text for p in self.prompts], before.prompts)):
            # Of the same template: an earlier version wrote them otherwise.
            differences.append(f"prompts ({found})")
        if differences:
            what = ", ".join(differences)
            raise BankError(
                f"{NODE}: the bank saved before differs in {what}: choose another name in save_as, or"
                " delete that file."
            )

    def batch(self, seeds: Sequence[int]) -> tuple[TicketBank, int]:
        """A bank of the first of these seeds, as many as fit into memory at once, and how many."""
        few = len(self.prompts) <= MOST_ENCODED
        count = max(1, self.scorer.rows.count // len(self.prompts)) if few else NOISES_AT_ONCE
        some = tuple(seeds[:count])
        noise = torch.cat([plain_noise(s, self.scorer.shape) for s in some])
        maps = self._measure(noise, few)
        bank = TicketBank.of_maps(
            categories=self.request.categories,
            prompts=tuple(p.text for p in self.prompts),
            measured=tuple((c, i) for i, p in enumerate(self.prompts) for c, _, _ in p.phrases),
            seeds=some,
            maps=maps,
            blocks=to_blocks(noise, self.grid.block).flatten(0, 2),
            recipe=self.recipe(),
            made_by=f"Winning Tickets {VERSION}, ComfyUI {comfyui_version}",
        )
        return bank, len(some)

    def _measure(self, noise: torch.Tensor, few: bool) -> torch.Tensor:
        """Attention [phrases of all prompts, images, rows, columns]."""
        if few and self._encoded is None:
            self._encoded = self.scorer.encode(self.prompts, self.encoding)
        parts: list[torch.Tensor] = []
        for start in range(0, len(self.prompts), MOST_ENCODED):
            part = self._encoded or self.scorer.encode(self.prompts[start : start + MOST_ENCODED])
            parts += self.scorer.blocks(part, noise, self.grid)
        return torch.cat([m.transpose(0, 1) for m in parts])


def collect(
    model: Any,
    clip: Any,
    request: CollectRequest,
    before: TicketBank | None = None,
    progress: Callable[[int, TicketBank], None] = lambda done, latest: None,
    keep: Callable[[TicketBank], None] | None = None,
    encoding: Callable[[int, int], None] = lambda done, total: None,
) -> TicketBank:
    """The bank of a request. Model evaluations: noises x prompts, those of the baseline included, each
    ended as soon as all is read.

    before: an earlier bank of the same request, with other noises or fewer; what it holds is not
    collected again. progress: called with the number of noises done and the latest ones. keep: called
    with all there is every half minute, more rarely when that would take more than a twentieth of the
    time, and in the end, also when that is a cancel or an error.
    encoding: prompts encoded, of all, before the first noise. ProbeError and BankError say which input to
    change.
    """
    collector = Collector(model, clip, request, encoding)
    if before:
        collector.check(before)
    known = set(before.seeds) if before else set()
    missing = [s for s in request.seeds if s not in known]
    parts: list[TicketBank] = [before] if before else []
    kept, kept_at, wait = len(parts), time.monotonic(), KEEP_EVERY
    try:
        while missing:
            latest, count = collector.batch(missing)
            parts.append(latest)
            missing = missing[count:]
            progress(request.noises - len(missing), latest)
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
    return only(merge(parts), request.seeds)


def _latent_scale(latent_format: Any) -> float:
    """What a model multiplies latents by; 0 for formats that do something else, too."""
    scale, ones = float(latent_format.scale_factor), torch.ones(1, latent_format.latent_channels, 1, 1)
    return scale if torch.allclose(latent_format.process_in(ones), scale * ones) else 0.0

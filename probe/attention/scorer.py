"""Maps of noises: first-step attention to phrases, in one session for a node's run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import comfy.model_management
import torch

from ...tickets.bank.bank import Recipe
from ...tickets.grid import Grid
from ...tickets.prompts import Prompt
from ..compat import others_on
from ..model.architecture import family_of
from ..model.family import Layer, ProbeError, find_layers, latent_shape, pixels_of
from ..model.fingerprint import fingerprint
from ..model.memory import Rows
from ..model.random import seeded
from .baseline import Baseline, Maps
from .first_step import FirstStep, SideBySide
from .reader import Reader, Tokens
from .tokens import PromptTokens, encode_prompt, fitting

Progress = Callable[[int], None]


class Scorer:
    """Reads the first step's attention to noises; nothing stays on the MODEL.

    node: whose run it is, for errors. layers: names, comma-separated, or layers of the MODEL; all if not
    given. width, height: of the image in pixels. baseline: see `Family`, which says if not given.
    ProbeError for models, layers and prompts that cannot be read.
    """

    def __init__(
        self,
        model: Any,
        clip: Any,
        node: str,
        width: int,
        height: int,
        layers: str | Sequence[Layer] | None = None,
        stop: bool = True,
        joint: bool = True,
        baseline: int | None = None,
    ) -> None:
        """stop: whether each forward ends at the last of the layers. joint: as of `Transformer`."""
        self.model, self.clip, self.node = model, clip, node
        self.family = family_of(model, joint)
        if isinstance(layers, str):
            layers = find_layers(self.family, layers)
        self.layers = list(layers or self.family.layers)
        # As the model takes it; a noise is an image's in any case.
        self.latent = latent_shape(model, width, height)
        channels, *_, latent_height, latent_width = self.latent
        self.shape = channels, latent_height, latent_width
        self.rows = Rows(model, self.latent)
        self._reader = Reader(self.family, self.layers, 1, latent_height, latent_width, stop=stop)
        noises = self.family.baseline if baseline is None else baseline
        how = tuple(self.layers), joint, self.family.noise_level()
        self.baseline = Baseline(model, noises, self.shape, how)
        # Whether patches drew random numbers in the last evaluation.
        self._drew = False
        # One clone for the session: ComfyUI loads it once.
        self._clone = self._reader.attach(model)

    @classmethod
    def of_bank(cls, recipe: Recipe, model: Any, clip: Any, node: str, width: int, height: int) -> Scorer:
        """That of a bank's layer; ProbeError for a MODEL that the bank cannot be of."""
        advice = "Connect the model that the bank was collected on."
        (channels, *_), pixels = latent_shape(model, width, height), pixels_of(model)
        if (channels, pixels) != (recipe.channels, recipe.pixels):
            raise ProbeError(
                f"{node}: the bank's latents have {recipe.channels} channels at 1/{recipe.pixels} of the"
                f" image's size, this model's {channels} at 1/{pixels}. {advice}"
            )
        try:
            layers = find_layers(family_of(model), recipe.layer)
        except ProbeError as error:
            raise ProbeError(f"{node}: the bank's {error} {advice}") from None
        return cls(model, clip, node, width, height, layers, baseline=recipe.baseline)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.model, self.clip)

    @property
    def share(self) -> float:
        """Share of a forward that one row takes, about."""
        return self.family.share(self.layers[-1], *self.shape[1:])

    def grid(self, cells: int = 0) -> Grid:
        """Blocks of `cells` x `cells` cells of the coarsest layer; 0: as the family has them."""
        strides = [self.family.stride(layer) for layer in self.layers]
        return Grid.of_layers(*self.shape[1:], strides, cells or self.family.cells)

    def encode(
        self, prompts: Sequence[Prompt], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[PromptTokens]:
        """Prompts ready to be read; can be cancelled between them."""
        encoded = []
        for prompt in prompts:
            comfy.model_management.throw_exception_if_processing_interrupted()
            tokens = fitting(encode_prompt(self.clip, prompt), self.family.text_width())
            if not all(bool(context.isfinite().all()) for context, *_ in tokens.conditioning):
                raise ProbeError(
                    f'{self.node}: "{prompt.text}" is encoded to NaN or Inf: take the weights of words out of'
                    " its categories and template, or run the text encoder in full precision."
                )
            # Of a CLIP whose hooks change over time, a first step follows the first form.
            encoded.append(replace(tokens, conditioning=tokens.conditioning[:1]))
            progress(len(encoded), len(prompts))
        return encoded

    def blocks(
        self,
        prompts: Sequence[PromptTokens],
        noise: torch.Tensor,
        grid: Grid,
        progress: Progress = lambda rows: None,
        sigma: float | None = None,
    ) -> list[torch.Tensor]:
        """Attention to each prompt's phrases, mean over the layers and over each block of the grid; of noises
        less the baseline's.

        noise [images, C, h, w], sigma: as for `maps`; per prompt [images, phrases, rows, columns].
        """
        if sigma is None:
            maps = self.over_baseline(prompts, noise, progress)
        else:
            maps = self.maps(prompts, noise, progress, sigma)
        pooled = [
            [grid.pool(m, self.family.stride(layer)) for m in of_prompts]
            for layer, of_prompts in maps.items()
        ]
        return [torch.stack(layers).mean(0) for layers in zip(*pooled, strict=True)]

    def over_baseline(
        self, prompts: Sequence[PromptTokens], noise: torch.Tensor, progress: Progress = lambda rows: None
    ) -> Maps:
        """Maps of noises, less the baseline at each cell: what moves with a block."""
        self.learn_baseline(prompts, progress)
        return self.baseline.subtracted(prompts, self.maps(prompts, noise, progress))

    def learn_baseline(self, prompts: Sequence[PromptTokens], progress: Progress = lambda rows: None) -> None:
        """What is not known of it yet; otherwise it is read with the first noises."""
        if missing := self.baseline.missing(prompts):
            self.baseline.learn(missing, self.maps(missing, self.baseline.draw(), progress))

    def maps(
        self,
        prompts: Sequence[Tokens],
        noise: torch.Tensor,
        progress: Progress = lambda rows: None,
        sigma: float | None = None,
    ) -> Maps:
        """The layers' own maps of noise [images, C, h, w]; with sigma, of latents that hold so much noise, as
        a sampler leaves them after some steps.

        As many rows at once as fit into memory. progress: rows evaluated, after each evaluation, those that
        have to be evaluated again included. Where patches on the MODEL draw random numbers, rows are
        evaluated one by one, each with the same ones, so that a noise's maps depend on nothing else.
        """
        rows = len(prompts) * len(noise)
        if rows > self.rows.count and len(prompts) > 1:
            at_once = max(1, self.rows.count // len(noise))
            parts = [
                self.maps(prompts[i : i + at_once], noise, progress, sigma)
                for i in range(0, len(prompts), at_once)
            ]
            return {layer: [m for part in parts for m in part[layer]] for layer in self.layers}
        if rows > self.rows.count:
            parts = [self.maps(prompts, some, progress, sigma) for some in noise.split(self.rows.count)]
            return {layer: [torch.cat([part[layer][0] for part in parts])] for layer in self.layers}
        comfy.model_management.throw_exception_if_processing_interrupted()
        found = self.rows.attempt(partial(self._evaluate, prompts, noise, sigma), self.rows.count)
        if found is None:
            return self.maps(prompts, noise, progress, sigma)
        progress(rows)
        if self._drew and rows > 1:
            self.rows.count = 1
            return self.maps(prompts, noise, progress, sigma)
        return found

    @torch.no_grad()
    def _evaluate(self, prompts: Sequence[Tokens], noise: torch.Tensor, sigma: float | None) -> Maps:
        guider = SideBySide(self._clone)
        guider.inner_set_conds({"positive": [entry for p in prompts for entry in p.conditioning]})
        keys = [entry["uuid"] for entry in guider.original_conds["positive"]]
        reader = self._reader
        reader.images, reader.prompts = len(noise), dict(zip(keys, prompts, strict=True))
        reader.maps.clear()
        reader.refused.clear()
        sigmas = torch.tensor([self.family.noise_level() if sigma is None else sigma, 0.0])
        noise = noise.reshape(-1, *self.latent)
        nothing = torch.zeros_like(noise)
        start = (noise, nothing) if sigma is None else (nothing, noise)
        with seeded(0) as drew:
            guider.sample(*start, FirstStep(), sigmas, seed=0, disable_pbar=True)
            self._drew = drew()
        found = {layer: [reader.maps.get((key, layer)) for key in keys] for layer in self.layers}
        reader.maps.clear()
        if any(m is None for maps in found.values() for m in maps):
            raise ProbeError(self.why_not(reader.refused))
        for layer, maps in found.items():
            if not all(bool(m.isfinite().all()) for m in maps if m is not None):
                raise ProbeError(
                    f"{self.node}: the attention at layer {layer} contains NaN or Inf, often from a model in"
                    " half precision: start ComfyUI with --force-upcast-attention or --fp32-unet, or connect"
                    " the MODEL from before other patches."
                )
        return {layer: [m for m in maps if m is not None] for layer, maps in found.items()}

    def why_not(self, refused: Sequence[str]) -> str:
        """Why attention could not be read, for people; refused: see `Reader`."""
        why = "; ".join(refused) or "keeps the model from being run"
        names = ", ".join(others_on(self.model))
        return (
            f"{self.node}: another patch on this MODEL{f' ({names})' if names else ''} {why}. Connect the"
            " MODEL from before that node here, and the patched one to the sampler."
        )

"""Which layer to collect at: what each one's tickets do, and what its first-step maps know."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import comfy.samplers
import torch
from torch.nn import functional as F

from ...show.draw import unwritten
from ...show.layers import picture, table
from ...tickets.grid import Grid, map_size
from ...tickets.layers.figures import MOST_ROUNDS, LayerWorth, Tried, recommended, to_try
from ...tickets.layers.transplant import (
    bias,
    correlation,
    effects,
    kept_score,
    places,
    shuffled,
    standardised,
    transplant,
)
from ...tickets.noise import plain_noise
from ...tickets.prompts import PLACE, make_prompts, parse_template
from ..attention.reader import Reader
from ..attention.scorer import Scorer
from ..attention.tokens import PromptTokens
from ..judge import ModelJudge
from ..model.clone import plain_clone
from ..model.family import Layer, ProbeError, require
from ..model.random import seeded
from ..sampling.draw import Drawing, Sampling

NODE = "Ticket Layer Report"
LATE = 0.6
# Of a trial's images. Few steps: where things stand is settled early. Little guidance: with few steps and
# much of it, objects were missing or changed places on the demo model and another, whatever the layer.
TRIAL_STEPS, TRIAL_CFG = 5, 2.0
TRIAL_IMAGES = 8
# As many as SD1.x has; of those of larger transformers so many, evenly spaced.
MOST_BLOCKS = 16
# Of a map's whole cells; on fewer, two boxes cannot be told apart.
LEAST_SIDE = 2


class LayerProbe:
    """The first step of a few pairs of the categories, on a few noises, at some layers of a model."""

    def __init__(
        self,
        model: Any,
        clip: Any,
        categories: Sequence[str],
        noises: int,
        seed: int,
        width: int,
        height: int,
        first_only: bool = False,
        template: str = PLACE,
        prompts: int = 6,
        transplanted: int = 4,
        tick: Callable[[], None] = lambda: None,
        node: str = NODE,
    ) -> None:
        """width, height: of the image in pixels. first_only: the first layer of each block, of
        MOST_BLOCKS at most, instead of all.

        prompts: at most so many pairs. transplanted: noises built of each layer's tickets for each of them.
        """
        require("noises", noises, 2)
        require("transplanted", transplanted, 2)
        every = Scorer(model, clip, node, width, height)
        _, rows, columns = every.shape
        self.layers = [
            layer
            for layer in every.layers
            if min(rows, columns) >= LEAST_SIDE * every.family.cells * every.family.stride(layer)
            and not (first_only and layer.depth)
        ]
        if first_only and len(self.layers) > MOST_BLOCKS:
            step = (len(self.layers) - 1) / (MOST_BLOCKS - 1)
            self.layers = [self.layers[round(i * step)] for i in range(MOST_BLOCKS)]
        if not self.layers:
            raise ProbeError(f"{node}: an image of {width}x{height} is too small: raise width and height.")
        self.scorer = Scorer(model, clip, node, width, height, self.layers)
        self.grids = {
            layer: Grid(rows, columns, every.family.cells * every.family.stride(layer))
            for layer in self.layers
        }
        self.node, self.seed, self.tick, self.transplanted = node, seed, tick, transplanted
        pairs = make_prompts(categories, template=parse_template(template))
        self.asked = pairs[:: max(1, len(pairs) // prompts)][:prompts]
        self.prompts = self.scorer.encode(self.asked)
        self.size = width, height
        # Noises made of each layer's tickets, for each prompt; see `effect`.
        self.built: list[dict[Layer, torch.Tensor]] = []
        self.noise = torch.cat([plain_noise(seed + k, self.scorer.shape) for k in range(noises)])

    @property
    def cost(self) -> float:
        """Of `effect`, in forwards of one image without guidance."""
        each = len(self.noise) + self.scorer.baseline.noises + len(self.layers) * self.transplanted
        return len(self.prompts) * each * self.scorer.share

    def read(self, prompt: PromptTokens, noise: torch.Tensor) -> dict[Layer, torch.Tensor]:
        """First-step attention to a prompt's phrases, over the baseline, per layer [images, phrases, rows,
        columns].
        """
        maps = self.scorer.over_baseline([prompt], noise)
        stride = self.scorer.family.stride
        return {layer: grid.pool(maps[layer][0], stride(layer)) for layer, grid in self.grids.items()}

    def effect(self) -> list[LayerWorth]:
        """Each layer's effect: (noises + layers x transplanted) evaluations for each prompt."""
        count, each = len(self.layers), max(self.transplanted, MOST_ROUNDS * self.images)
        self.built.clear()
        plain, found = [], []
        for number, prompt in enumerate(self.prompts):
            maps = self.read(prompt, self.noise)
            plain.append(torch.stack([bias(maps[layer], self.grids[layer]) for layer in self.layers]))
            self.tick()
            built = [
                transplant(
                    maps[layer].transpose(0, 1),
                    self.noise,
                    grid,
                    each,
                    self.seed + number,
                    2 * number,
                )
                for layer, grid in self.grids.items()
            ]
            self.built.append(dict(zip(self.grids, built, strict=True)))
            seen = self.read(prompt, torch.cat([noise[: self.transplanted] for noise in built]))
            self.tick()
            biases = torch.stack(
                [
                    torch.cat([bias(m, grid, 2 * number) for m in seen[layer].split(self.transplanted)])
                    for layer, grid in self.grids.items()
                ]
            )
            found.append(biases.unflatten(1, (count, self.transplanted)))
        chance = torch.cat(plain, 1).std(1).clamp_min(1e-12)
        # [layers that read, layers of the tickets, noises]
        every = effects(torch.cat(found, 2) / chance[:, None, None])
        errors = every.std(1) / every.shape[1] ** 0.5
        size, stride = self.scorer.shape[1:], self.scorer.family.stride
        return [
            LayerWorth(
                layer, *map_size(*size, stride(layer)), grid.block, float(every[i].mean()), float(errors[i])
            )
            for i, (layer, grid) in enumerate(self.grids.items())
        ]

    @cached_property
    def _drawing(self) -> Drawing:
        sampling = Sampling(TRIAL_STEPS, TRIAL_CFG, "euler", "normal")
        # Plain: a cutoff's or a watch's report is of the user's runs, not of these.
        model = plain_clone(self.scorer.model)
        return Drawing(model, self.scorer.clip, sampling, self.scorer.latent)

    @cached_property
    def _judge(self) -> ModelJudge:
        return ModelJudge(self.scorer.model, self.scorer.clip, self.node, *self.size)

    @property
    def images(self) -> int:
        """Of a layer's trial, for each prompt; each category is in each place equally often."""
        return min(self.transplanted, 2 * math.ceil(TRIAL_IMAGES / len(self.prompts) / 2))

    def trial_cost(self, layers: int) -> float:
        """Of `tried`, in forwards of one image without guidance."""
        judged = [self._judge.nfe(len(prompt.phrases)) for prompt in self.asked]
        return layers * self.images * sum(self._drawing.how.about + each for each in judged)

    def tried(self, worths: Sequence[LayerWorth], some: Sequence[LayerWorth]) -> list[LayerWorth]:
        """`worths`, with what images made of the tickets of `some` of them show; of those that were tried
        before, another round. After `effect`.
        """
        result = {w.layer: w for w in worths}
        for layer, before in ((w.layer, result[w.layer].tried) for w in some):
            found = []
            start = self.images * (before.rounds if before else 0)
            for number, (prompt, built) in enumerate(zip(self.asked, self.built, strict=True)):
                noise = built[layer][start : start + self.images]
                seeds = [self.seed + k for k in range(start, start + self.images)]
                latents, _ = self._drawing.draw(noise, prompt.text, seeds, lambda *step: None)
                for image, findings in enumerate(self._judge.find([prompt], latents, self.seed), start):
                    own = places(2 * number + image)
                    found += [
                        (f.inside(box), f.inside(other), f.present)
                        for f, box, other in zip(findings, own, own[::-1], strict=False)
                    ]
                self.tick()
            counts = (sum(column) for column in zip(*found, strict=True))
            now = Tried(self.images * len(self.asked), len(found), *counts)
            result[layer] = replace(result[layer], tried=before + now if before else now)
        return [result[w.layer] for w in worths]

    def kept(self, worths: Sequence[LayerWorth]) -> list[LayerWorth]:
        """With the share of a block's score that moves with it: one more pass for each size of block."""
        before = [self.read(p, self.noise) for p in self.prompts]
        self.tick()
        result = {}
        for size in sorted({w.block for w in worths}):
            moved, order = shuffled(self.noise, size, self.seed)
            after = [self.read(p, moved) for p in self.prompts]
            self.tick()
            for worth in (w for w in worths if w.block == size):
                was, now = (
                    torch.cat([m[worth.layer].transpose(0, 1) for m in maps]) for maps in (before, after)
                )
                result[worth.layer] = replace(worth, kept=kept_score(was, now, order))
        return [result[w.layer] for w in worths]

    def agreement(
        self, worths: Sequence[LayerWorth], images: int, steps: int, cfg: float
    ) -> list[LayerWorth]:
        """With the agreement of the first step with the end of ordinary images, `images` for each prompt.

        Where a category ends up is read from the attention itself, after LATE of the steps: the mean over
        all layers, each standardised. No detector is needed; what all layers agree on late is the object.
        """
        model, clip = self.scorer.model, self.scorer.clip
        sampling = model.get_model_object("model_sampling")
        last = max(1, round(LATE * steps))
        sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)[: last + 2]
        negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
        noise = plain_noise(self.seed, self.scorer.shape, range(max(2, images)))
        found: dict[Layer, list[torch.Tensor]] = {w.layer: [] for w in worths}
        for prompt in self.prompts:
            maps = self.scorer.over_baseline([prompt], noise)
            first = {layer: of_prompt for layer, (of_prompt,) in maps.items()}
            late = self._late(prompt, negative, noise, sigmas, cfg)
            side = max((m.shape[-2:] for m in late.values()), key=lambda s: s[0] * s[1])
            end = torch.stack([_standard(m, side) for m in late.values()]).mean(0)
            for layer, parts in found.items():
                start = _standard(first[layer], side)
                both = [correlation(start.flatten(2), e.flatten(2)) for e in (end, end.roll(1, 0))]
                parts.append(torch.stack(both).flatten(1))
            self.tick()
        means = {layer: torch.cat(parts, 1).mean(1).tolist() for layer, parts in found.items()}
        return [replace(w, agreement=means[w.layer][0], chance=means[w.layer][1]) for w in worths]

    def _late(
        self, prompt: PromptTokens, negative: Any, noise: torch.Tensor, sigmas: torch.Tensor, cfg: float
    ) -> dict[Layer, torch.Tensor]:
        """Maps [images, phrases, h, w] of the last step of a run that ends with these sigmas."""
        family, (height, width) = self.scorer.family, noise.shape[-2:]
        reader = Reader(family, self.layers, len(noise), height, width, stop=False)
        guider = comfy.samplers.CFGGuider(reader.attach(self.scorer.model))
        guider.set_conds(prompt.conditioning, negative)
        guider.set_cfg(cfg)
        key = guider.original_conds["positive"][0]["uuid"]
        reader.prompts = {key: prompt}
        found: dict[Layer, torch.Tensor] = {}

        def keep(*step: Any) -> None:
            found.clear()
            found.update({layer: m for (_, layer), m in reader.maps.items()})
            reader.maps.clear()

        euler = comfy.samplers.sampler_object("euler")
        noise = noise.reshape(-1, *self.scorer.latent)
        empty = torch.zeros_like(noise)
        with seeded(self.seed):
            guider.sample(noise, empty, euler, sigmas, callback=keep, disable_pbar=True, seed=0)
        if reader.refused or not found:
            raise ProbeError(self.scorer.why_not(reader.refused))
        return found


def _standard(maps: torch.Tensor, side: Sequence[int]) -> torch.Tensor:
    """Maps [images, phrases, h, w] on the grid `side`, each of mean 0 and variance 1."""
    return standardised(F.interpolate(maps, tuple(side), mode="nearest-exact"))


def measure(
    probe: LayerProbe,
    images: int,
    steps: int,
    cfg: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LayerWorth]:
    """All figures of a probe's layers; without `images`, all but the agreement and the trial."""
    if images:
        require("steps", steps, 2)
    done, total = 0, (3 if images else 2) * len(probe.prompts) + 3

    def tick() -> None:
        nonlocal done
        done += 1
        progress(min(done, total), total)

    probe.tick = tick
    worths = probe.kept(probe.effect())
    if images:
        worths = probe.agreement(worths, images, steps, cfg)
        while some := to_try(worths):
            total += len(some) * len(probe.prompts)
            worths = probe.tried(worths, some)
    progress(total, total)
    return worths


def report(probe: LayerProbe, worths: Sequence[LayerWorth]) -> tuple[str, torch.Tensor, str]:
    """Text, picture [height, width, 3], and the name of the recommended layer."""
    prompts = ", ".join(f'"{p.text}"' for p in probe.prompts)
    text = f"{table(worths)}\n{len(probe.noise)} noises, prompts {prompts}."
    first = probe.prompts[0]
    maps = probe.read(first, probe.noise[:1])
    return (
        "\n".join([text, *unwritten(first.names)]),
        picture(worths, maps, first.names),
        str(recommended(worths).layer),
    )

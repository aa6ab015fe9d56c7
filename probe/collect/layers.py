"""Which layer to collect at: what each one's tickets do, and what its first-step maps know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from torch.nn import functional as F

from ...show.draw import unwritten
from ...show.layers import picture, table
from ...tickets.layers.figures import LayerWorth, recommended
from ...tickets.layers.transplant import bias, correlation, effects, kept_score, shuffled, transplant
from ...tickets.noise import plain_noise, to_blocks
from ...tickets.prompts import PLACE, make_prompts, parse_template
from ..attention.first_step import read_layers, uuid_of
from ..attention.reader import Layer, Reader, cross_attention_layers
from ..attention.tokens import PromptTokens, encode_prompt
from ..model.memory import Rows

LATE = 0.6


class LayerProbe:
    """The first step of a few pairs of the categories, on a few noises, at some layers of a model."""

    def __init__(
        self,
        model: Any,
        clip: Any,
        categories: Sequence[str],
        noises: int,
        seed: int,
        shape: tuple[int, int, int],
        layers: Sequence[Layer] | None = None,
        template: str = PLACE,
        prompts: int = 6,
        transplanted: int = 4,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """shape: channels, height and width of the latent. layers: all, if not given.

        prompts: at most so many pairs. transplanted: noises built of each layer's tickets for each of them.
        """
        self.model, self.clip, self.seed, self.shape, self.tick = model, clip, seed, shape, tick
        self.transplanted = transplanted
        self.layers = list(layers or cross_attention_layers(model))
        every = make_prompts(categories, template=parse_template(template))
        chosen = every[:: max(1, len(every) // prompts)][:prompts]
        self.prompts = [encode_prompt(clip, p) for p in chosen]
        self.noise = torch.cat([plain_noise(seed + k, shape) for k in range(noises)])
        self.sigma = float(model.get_model_object("model_sampling").sigma_max)
        self.rows = Rows(model, shape)

    def read(self, prompt: PromptTokens, noise: torch.Tensor) -> dict[Layer, torch.Tensor]:
        """First-step attention to a prompt's phrases, per layer [images, phrases, h, w]."""

        def work(rows: int) -> dict[Layer, torch.Tensor]:
            parts = []
            for some in noise.split(rows):
                comfy.model_management.throw_exception_if_processing_interrupted()
                parts.append(read_layers(self.model, [prompt], some, self.layers, self.sigma))
            return {layer: torch.cat([p[i][0] for p in parts]) for i, layer in enumerate(self.layers)}

        return self.rows.retry(work)

    def effect(self) -> list[LayerWorth]:
        """Each layer's effect: (noises + layers x transplanted) evaluations for each prompt."""
        count = len(self.layers)
        plain, found = [], []
        for number, prompt in enumerate(self.prompts):
            maps = self.read(prompt, self.noise)
            plain.append(torch.stack([bias(maps[layer]) for layer in self.layers]))
            self.tick()
            built = [
                transplant(maps[layer].transpose(0, 1), self.noise, self.transplanted, self.seed + number)
                for layer in self.layers
            ]
            seen = self.read(prompt, torch.cat(built))
            self.tick()
            biases = torch.stack([bias(seen[layer]) for layer in self.layers])
            found.append(biases.unflatten(1, (count, self.transplanted)))
        chance = torch.cat(plain, 1).std(1).clamp_min(1e-12)
        # [layers that read, layers of the tickets, noises]
        every = effects(torch.cat(found, 2) / chance[:, None, None])
        errors = every.std(1) / every.shape[1] ** 0.5
        height = self.shape[1]
        return [
            LayerWorth(layer, h, w, max(1, height // h), float(every[i].mean()), float(errors[i]))
            for i, layer in enumerate(self.layers)
            for h, w in [maps[layer].shape[-2:]]
        ]

    def kept(self, worths: Sequence[LayerWorth]) -> list[LayerWorth]:
        """With the share of a block's score that moves with it: one more pass for each size of block."""
        before = [self.read(p, self.noise) for p in self.prompts]
        self.tick()
        result = {}
        for size in sorted({w.block for w in worths}):
            moved, order = shuffled(self.noise, size, self.seed)
            after = [self.read(p, moved) for p in self.prompts]
            self.tick()
            rows, columns = to_blocks(self.noise, size).shape[1:3]
            for worth in (w for w in worths if w.block == size):
                was, now = (
                    torch.cat([m[worth.layer].transpose(0, 1) for m in maps])[..., :rows, :columns]
                    for maps in (before, after)
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
        sampling = self.model.get_model_object("model_sampling")
        last = max(1, round(LATE * steps))
        sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)[: last + 2]
        negative = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(""))
        noise = plain_noise(self.seed, self.shape, range(max(2, images)))
        found: dict[Layer, list[torch.Tensor]] = {w.layer: [] for w in worths}
        for prompt in self.prompts:
            first, late = self._first_and_late(prompt, negative, noise, sigmas, cfg)
            side = max((m.shape[-2:] for m in late.values()), key=lambda s: s[0] * s[1])
            end = torch.stack([_standard(m, side) for m in late.values()]).mean(0)
            for layer, parts in found.items():
                start = _standard(first[layer], side)
                both = [correlation(start.flatten(2), e.flatten(2)) for e in (end, end.roll(1, 0))]
                parts.append(torch.stack(both).flatten(1))
            self.tick()
        means = {layer: torch.cat(parts, 1).mean(1).tolist() for layer, parts in found.items()}
        return [replace(w, agreement=means[w.layer][0], chance=means[w.layer][1]) for w in worths]

    def _first_and_late(
        self, prompt: PromptTokens, negative: Any, noise: torch.Tensor, sigmas: torch.Tensor, cfg: float
    ) -> tuple[dict[Layer, torch.Tensor], dict[Layer, torch.Tensor]]:
        tokens: dict[Any, Any] = {}
        reader = Reader(self.layers, tokens, stop=False)
        guider = comfy.samplers.CFGGuider(reader.attach(self.model))
        guider.set_conds(prompt.conditioning, negative)
        guider.set_cfg(cfg)
        key = uuid_of(guider, "positive")
        tokens[key] = (prompt.positions, prompt.length)
        first: dict[Layer, torch.Tensor] = {}
        keep = partial(_keep_first, first, reader, key)
        euler = comfy.samplers.sampler_object("euler")
        empty = torch.zeros_like(noise)
        guider.sample(noise, empty, euler, sigmas, callback=keep, disable_pbar=True, seed=0)
        return first, {layer: reader.maps[key, layer] for layer in self.layers}


def _keep_first(first: dict[Layer, torch.Tensor], reader: Reader, key: Any, step: int, *_: Any) -> None:
    """A sampler's callback: the maps of the first step."""
    if step == 0:
        first.update({layer: reader.maps[key, layer] for layer in reader.layers})


def _standard(maps: torch.Tensor, side: Sequence[int]) -> torch.Tensor:
    """Maps [images, phrases, h, w] on the grid `side`, each of mean 0 and variance 1."""
    fine = F.interpolate(maps, tuple(side), mode="nearest-exact")
    centred = fine - fine.mean((-2, -1), keepdim=True)
    return centred / centred.std((-2, -1), keepdim=True).clamp_min(1e-12)


def measure(
    probe: LayerProbe,
    images: int,
    steps: int,
    cfg: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LayerWorth]:
    """All figures of a probe's layers; without `images`, all but the agreement."""
    done, total = 0, (3 if images else 2) * len(probe.prompts) + 3

    def tick() -> None:
        nonlocal done
        done += 1
        progress(min(done, total), total)

    probe.tick = tick
    worths = probe.kept(probe.effect())
    if images:
        worths = probe.agreement(worths, images, steps, cfg)
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

"""Which layer to collect at: what each one's first-step attention is worth as a ticket's score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from torch.nn import functional as F

from ..tickets.noise import plain_noise, to_blocks
from ..tickets.prompts import make_prompts
from ..tickets.transplant import correlation, kept_score, shuffled
from .attention import Layer, Reader, cross_attention_layers
from .first_step import read_layers
from .text import EncodedPrompt, encode_prompt, uuid_of

PROMPTS = 6
LATE = 0.6


@dataclass(frozen=True)
class LayerWorth:
    """A layer's figures. rows, columns: its map. block: of latent pixels under one cell.

    kept: correlation of a block's score before and after it was moved elsewhere. agreement: of the
    first-step map with where the category ends up; chance: the same with another image's end.
    """

    layer: Layer
    rows: int
    columns: int
    block: int
    kept: float
    agreement: float | None = None
    chance: float | None = None

    @property
    def worth(self) -> float:
        """What recommends a layer: its own knowledge of the place, as far as it moves with the block."""
        if self.agreement is None or self.chance is None:
            return self.kept
        return max(0.0, self.agreement - self.chance) * max(0.0, self.kept)


def prompts_for(clip: Any, categories: Sequence[str]) -> list[EncodedPrompt]:
    """At most PROMPTS pairs, spread over the categories."""
    prompts = make_prompts(categories)
    step = max(1, len(prompts) // PROMPTS)
    return [encode_prompt(clip, p) for p in prompts[::step][:PROMPTS]]


def kept_scores(
    model: Any, prompts: Sequence[EncodedPrompt], noise: torch.Tensor, seed: int
) -> dict[Layer, LayerWorth]:
    """The transplant of every layer: one evaluation as drawn, and one for each size of block."""
    layers = cross_attention_layers(model)
    sigma = float(model.get_model_object("model_sampling").sigma_max)

    def read(x: torch.Tensor, some: Sequence[Layer]) -> dict[Layer, torch.Tensor]:
        comfy.model_management.throw_exception_if_processing_interrupted()
        maps = read_layers(model, prompts, x, some, sigma)
        return {
            layer: torch.cat([m.transpose(0, 1) for m in per_prompt])
            for layer, per_prompt in zip(some, maps, strict=True)
        }

    before = read(noise, layers)
    sizes = {layer: max(1, round(noise.shape[-2] / m.shape[-2])) for layer, m in before.items()}
    result = {}
    for size in sorted(set(sizes.values())):
        some = [layer for layer in layers if sizes[layer] == size]
        moved, order = shuffled(noise, size, seed)
        rows, columns = to_blocks(noise, size).shape[1:3]
        after = read(moved, some)
        for layer in some:
            was, now = (m[..., :rows, :columns] for m in (before[layer], after[layer]))
            kept = kept_score(was, now, order)
            result[layer] = LayerWorth(layer, *before[layer].shape[-2:], size, kept)
    return {layer: result[layer] for layer in layers}


def agreements(
    model: Any,
    clip: Any,
    prompts: Sequence[EncodedPrompt],
    noise: torch.Tensor,
    steps: int,
    cfg: float,
    progress: Callable[[], None] = lambda: None,
) -> dict[Layer, tuple[float, float]]:
    """Agreement and chance of every layer, from ordinary images: one batch `noise` for each prompt.

    Where a category ends up is read from the attention itself, after LATE of the steps: the mean over
    all layers, each standardised. No detector is needed; what all layers agree on late is the object.
    """
    layers = cross_attention_layers(model)
    sampling = model.get_model_object("model_sampling")
    last = max(1, round(LATE * steps))
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)[: last + 2]
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    found: dict[Layer, list[torch.Tensor]] = {layer: [] for layer in layers}
    for prompt in prompts:
        tokens: dict[Any, Any] = {}
        reader = Reader(layers, tokens, stop=False)
        guider = comfy.samplers.CFGGuider(reader.attach(model))
        guider.set_conds(prompt.conditioning, negative)
        guider.set_cfg(cfg)
        key = uuid_of(guider, "positive")
        tokens[key] = (prompt.positions, prompt.length)
        first: dict[Layer, torch.Tensor] = {}
        keep = partial(_keep_first, first, reader, key)
        euler = comfy.samplers.sampler_object("euler")
        empty = torch.zeros_like(noise)
        guider.sample(noise, empty, euler, sigmas, callback=keep, disable_pbar=True, seed=0)
        side = max((reader.maps[key, layer].shape[-2:] for layer in layers), key=lambda s: s[0] * s[1])
        end = torch.stack([_standard(reader.maps[key, layer], side) for layer in layers]).mean(0)
        for layer in layers:
            start = _standard(first[layer], side)
            both = [correlation(start.flatten(2), e.flatten(2)) for e in (end, end.roll(1, 0))]
            found[layer].append(torch.stack(both).flatten(1))
        progress()
    return {
        layer: tuple(torch.cat(parts, 1).mean(1).tolist())  # type: ignore[misc]
        for layer, parts in found.items()
    }


def _keep_first(first: dict[Layer, torch.Tensor], reader: Reader, key: Any, step: int, *_: Any) -> None:
    """A sampler's callback: the maps of the first step."""
    if step == 0:
        first.update({layer: reader.maps[key, layer] for layer in reader.layers})


def _standard(maps: torch.Tensor, side: Sequence[int]) -> torch.Tensor:
    """Maps [images, phrases, h, w] on the grid `side`, each of mean 0 and variance 1."""
    fine = F.interpolate(maps, tuple(side), mode="nearest-exact")
    centred = fine - fine.mean((-2, -1), keepdim=True)
    return centred / centred.std((-2, -1), keepdim=True).clamp_min(1e-12)


def measure_layers(
    model: Any,
    clip: Any,
    categories: Sequence[str],
    noises: int,
    seed: int,
    shape: tuple[int, int, int],
    steps: int = 10,
    cfg: float = 5.0,
    images: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LayerWorth]:
    """Every cross-attention layer's worth, in forward order; without `images` only what is kept.

    noises: for the transplant. images: ordinary images for each of a few prompts of the categories.
    shape: channels, height and width of the latent.
    """
    prompts = prompts_for(clip, categories)
    noise = torch.cat([plain_noise(seed + k, shape) for k in range(noises)])
    kept = kept_scores(model, prompts, noise, seed)
    total = 1 + (len(prompts) if images else 0)
    done = 1
    progress(done, total)
    if not images:
        return list(kept.values())

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    ordinary = plain_noise(seed, shape, range(max(2, images)))
    both = agreements(model, clip, prompts, ordinary, steps, cfg, tick)
    return [replace(worth, agreement=both[layer][0], chance=both[layer][1]) for layer, worth in kept.items()]


def recommended(worths: Sequence[LayerWorth]) -> LayerWorth:
    """The layer of the greatest worth."""
    return max(worths, key=lambda w: w.worth)


def table(worths: Sequence[LayerWorth]) -> str:
    """A line for each layer, and the one that is recommended."""
    best = recommended(worths)
    lines = ["layer        map     block  kept   agreement (chance)  worth"]
    for w in worths:
        agreement = "-" if w.agreement is None else f"{w.agreement:6.3f} ({w.chance:.3f})"
        mark = "  <- recommended" if w is best else ""
        lines.append(
            f"{w.layer!s:12} {f'{w.rows}x{w.columns}':7} {f'{w.block}x{w.block}':6} {w.kept:6.3f}"
            f" {agreement:>18}  {w.worth:.3f}{mark}"
        )
    return "\n".join(lines)

"""Collecting tickets: one early-ended evaluation per noise and prompt, at the highest noise level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.samplers
import torch

from ..tickets.bank import Recipe, TicketBank
from ..tickets.noise import SEED_RANGE, plain_noise, to_blocks
from ..tickets.prompts import pair_prompts
from ..tickets.score import pool_cells
from .attention import Layer, ProbeError, Reader, find_layer
from .text import EncodedPrompt, encode_prompt, uuid_of

ROWS = 32


class FirstStep(comfy.samplers.Sampler):
    """Evaluates the model once at sigmas[0], as the first step of any sampler would."""

    def sample(
        self,
        model_wrap: Any,
        sigmas: torch.Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: torch.Tensor,
        latent_image: torch.Tensor | None = None,
        denoise_mask: torch.Tensor | None = None,
        disable_pbar: bool = False,
    ) -> torch.Tensor:
        sampling = model_wrap.inner_model.model_sampling
        full = self.max_denoise(model_wrap, sigmas)
        x = sampling.noise_scaling(sigmas[0], noise, latent_image, full)
        sigma = sigmas[0] * x.new_ones([x.shape[0]])
        return model_wrap(x, sigma, model_options=extra_args["model_options"], seed=extra_args["seed"])


class ManyPrompts(comfy.samplers.CFGGuider):
    """Conditional predictions of several prompts at once, without an unconditional one."""

    def predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        conds = list(self.conds.values())
        return comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)[0]


def read_attention(
    model: Any, prompts: list[EncodedPrompt], noise: torch.Tensor, layer: Layer, sigma: float
) -> list[torch.Tensor]:
    """First-step attention to every phrase: for each prompt [images, phrases, h, w]."""
    names = [str(i) for i in range(len(prompts))]
    tokens: dict[Any, Any] = {}
    reader = Reader(layer, tokens)
    guider = ManyPrompts(reader.attach(model))
    guider.inner_set_conds({n: p.conditioning for n, p in zip(names, prompts, strict=True)})
    keys = [uuid_of(guider, n) for n in names]
    tokens.update(zip(keys, ((p.positions, p.length) for p in prompts), strict=True))
    sigmas = torch.tensor([sigma, 0.0])
    guider.sample(noise, torch.zeros_like(noise), FirstStep(), sigmas, seed=0, disable_pbar=True)
    if missing := [p.prompt.text for p, k in zip(prompts, keys, strict=True) if k not in reader.maps]:
        raise ProbeError(
            f'No attention was read at layer {layer} for "{missing[0]}": another patch on this'
            " MODEL replaces the UNet's forward; collect on the model before that node."
        )
    return [reader.maps[k] for k in keys]


def _measure(
    model: Any,
    prompts: list[EncodedPrompt],
    noise: torch.Tensor,
    layer: Layer,
    sigma: float,
    rows: int,
) -> torch.Tensor:
    """Attention [phrases of all prompts, images, h, w], at most `rows` images x prompts at a time."""
    at_once = max(1, rows // len(noise))
    maps: list[torch.Tensor] = []
    for start in range(0, len(prompts), at_once):
        comfy.model_management.throw_exception_if_processing_interrupted()
        maps += read_attention(model, prompts[start : start + at_once], noise, layer, sigma)
    return torch.cat([m.transpose(0, 1) for m in maps])


def latent_size(model: Any, width: int, height: int) -> tuple[int, int, int]:
    """Channels, height and width of the latent of an image of `width` x `height` pixels."""
    latent_format = model.get_model_object("latent_format")
    ratio = latent_format.spacial_downscale_ratio
    return latent_format.latent_channels, height // ratio, width // ratio


def collect(
    model: Any,
    clip: Any,
    categories: tuple[str, ...],
    noises: int,
    seed: int,
    width: int,
    height: int,
    layer: str,
    cells: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> TicketBank:
    """A bank from `noises` noises of seeds seed, seed + 1, ... at `width` x `height` pixels.

    cells: side of a block in cells of the layer's attention map, which is averaged over them.
    progress is called with the number of noises done. The model evaluations: noises x prompts, each
    ended as soon as the layer's attention is read. ProbeError says which input to change.
    """
    key = find_layer(model, layer)
    prompts = [encode_prompt(clip, p) for p in pair_prompts(categories)]
    sampling = model.get_model_object("model_sampling")
    sigma = float(sampling.sigma_max)
    shape = latent_size(model, width, height)
    seeds = [(seed + k) % SEED_RANGE for k in range(noises)]
    attention: list[torch.Tensor] = []
    blocks: list[torch.Tensor] = []
    done, rows, size = 0, ROWS, 0
    while done < noises:
        batch = seeds[done : done + max(1, rows // len(prompts))]
        noise = torch.cat([plain_noise(s, shape) for s in batch])
        try:
            maps = _measure(model, prompts, noise, key, sigma, rows)
        except comfy.model_management.OOM_EXCEPTION:
            if rows == 1:
                raise
            rows //= 2
            comfy.model_management.soft_empty_cache()
            continue
        size = cells * 2 ** round(math.log2(shape[1] / maps.shape[-2]))
        kept = to_blocks(noise, size)
        if not kept.numel():
            raise ProbeError(
                f"Blocks of {size} latent pixels do not fit an image of {width}x{height}:"
                " raise width and height or choose a finer layer."
            )
        attention.append(pool_cells(maps, cells)[..., : kept.shape[1], : kept.shape[2]])
        blocks.append(kept.flatten(0, 2))
        done += len(batch)
        progress(done)
    base = model.get_model_object("latent_format")
    return TicketBank(
        categories=categories,
        prompts=tuple(p.prompt.text for p in prompts),
        measured=tuple((c, i) for i, p in enumerate(prompts) for c, _, _ in p.prompt.phrases),
        seeds=tuple(seeds),
        attention=torch.cat(attention, 1),
        blocks=torch.cat(blocks),
        recipe=Recipe(
            layer=str(key),
            block=size,
            channels=shape[0],
            height=shape[1],
            width=shape[2],
            sigma=sigma,
            latent_scale=float(base.scale_factor),
            model=type(model.model).__name__,
        ),
    )

"""The model's first evaluation, at the highest noise level, and the attention read from it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import comfy.samplers
import torch

from .reader import Layer, ProbeError, Reader, average_maps
from .tokens import PromptTokens


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


@torch.no_grad()
def read_attention(
    model: Any,
    prompts: Sequence[PromptTokens],
    noise: torch.Tensor,
    layers: Sequence[Layer],
    sigma: float,
    stop: bool = True,
) -> list[torch.Tensor]:
    """First-step attention to every phrase, mean over the layers: per prompt [images, phrases, h, w].

    With `stop`, each forward ends at the last of the layers; the result is the same without.
    """
    maps = read_layers(model, prompts, noise, layers, sigma, stop)
    return [average_maps(list(per_layer)) for per_layer in zip(*maps, strict=True)]


def read_layers(
    model: Any,
    prompts: Sequence[PromptTokens],
    noise: torch.Tensor,
    layers: Sequence[Layer],
    sigma: float,
    stop: bool = True,
) -> list[list[torch.Tensor]]:
    """As `read_attention`, layer by layer: [layers][prompts], each [images, phrases, h, w]."""
    names = [str(i) for i in range(len(prompts))]
    tokens: dict[Any, Any] = {}
    reader = Reader(layers, tokens, stop)
    guider = ManyPrompts(reader.attach(model))
    guider.inner_set_conds({n: p.conditioning for n, p in zip(names, prompts, strict=True)})
    keys = [uuid_of(guider, n) for n in names]
    tokens.update(zip(keys, ((p.positions, p.length) for p in prompts), strict=True))
    sigmas = torch.tensor([sigma, 0.0])
    guider.sample(noise, torch.zeros_like(noise), FirstStep(), sigmas, seed=0, disable_pbar=True)
    for layer in layers:
        for prompt, key in zip(prompts, keys, strict=True):
            if (key, layer) not in reader.maps:
                raise ProbeError(
                    f'No attention was read at layer {layer} for "{prompt.text}": another patch on'
                    " this MODEL replaces the UNet's forward; collect on the model before that node."
                )
    return [[reader.maps[key, layer] for key in keys] for layer in layers]


def uuid_of(guider: Any, name: str) -> uuid.UUID:
    """The identity ComfyUI gave a guider's conditioning; found again in transformer_options."""
    return guider.original_conds[name][0]["uuid"]

"""The model's first evaluation, at the noise level where a sampler starts, of prompts side by side."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch


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


class SideBySide(comfy.samplers.CFGGuider):
    """Evaluates all entries of its positive, and nothing else.

    They are entries of one prompt, so that other patches, which tell positive from negative by
    `cond_or_uncond`, take every one of them for a positive.
    """

    def predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        positive = self.conds["positive"]
        return comfy.samplers.calc_cond_batch(self.inner_model, [positive], x, timestep, model_options)[0]

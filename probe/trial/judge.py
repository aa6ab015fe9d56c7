"""Which categories of its prompt an image shows, and where, by the MODEL that made it: no detector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.samplers
import numpy as np
import torch

from ...tickets.grid import latent_side
from ...tickets.noise import plain_noise
from ...tickets.prompts import Prompt, without
from ...trial.evidence import findings
from ...trial.verdict import Finding
from ..attention.first_step import SideBySide
from ..compat import others_on
from ..model.clone import plain_clone
from ..model.family import ProbeError, require_clip
from ..model.memory import Rows
from ..model.random import seeded

LEVELS = 3
LOUDEST, FAINTEST = 9.0, 1.2
"""Noise per signal, as standard deviations of a latent of about unit variance."""

Progress = Callable[[int], None]


class Noised(comfy.samplers.Sampler):
    """Evaluates the model once on the latents with noise at sigmas[0] added; keeps both at model scale."""

    def __init__(self) -> None:
        self.clean = self.denoised = torch.empty(0)

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
        assert latent_image is not None
        sampling = model_wrap.inner_model.model_sampling
        x = sampling.noise_scaling(sigmas[0], noise, latent_image, False)
        sigma = sigmas[0] * x.new_ones([x.shape[0]])
        denoised = model_wrap(x, sigma, model_options=extra_args["model_options"], seed=extra_args["seed"])
        self.clean, self.denoised = latent_image.float().cpu(), denoised.float().cpu()
        return denoised


class ModelJudge:
    """Judges images by what the MODEL that drew them predicts with and without a category's words.

    Noise is added to the finished latents at a few levels, and the model predicts the image from each with
    the prompt, and with the prompt without each category; see `evidence`. Needs no attention, so it is for
    every architecture with a latent [images, channels, h, w]. Nothing stays on the MODEL.

    node: whose run it is, for errors. width, height: of the image in pixels.
    """

    def __init__(self, model: Any, clip: Any, node: str, width: int, height: int) -> None:
        require_clip(clip)
        self.model, self.clip, self.node = model, clip, node
        latent_format = model.get_model_object("latent_format")
        if getattr(latent_format, "latent_dimensions", 2) != 2:
            raise ProbeError(
                f"{node}: this model makes video or sound, which cannot be judged: use one for images."
            )
        ratio = latent_format.spacial_downscale_ratio
        self.shape = latent_format.latent_channels, latent_side(height, ratio), latent_side(width, ratio)
        self.rows = Rows(model, self.shape)
        self.levels = noise_levels(model.get_model_object("model_sampling"))
        # Whether patches drew random numbers in the last evaluation.
        self._drew = False
        # One clone for the session: ComfyUI loads it once.
        self._clone = plain_clone(model)
        self._encoded: dict[str, Any] = {}

    def nfe(self, categories: int) -> int:
        """What judging one image takes, in forwards of one image without guidance."""
        return len(self.levels) * (1 + categories)

    def find(
        self,
        prompts: Sequence[Prompt],
        latents: torch.Tensor,
        seed: int = 0,
        progress: Progress = lambda forwards: None,
    ) -> list[list[Finding]]:
        """Of each image the findings of its prompt's categories, in the order of the prompt's phrases.

        prompts: one for each image, or one for all. latents [images, channels, h, w], as a sampler returns
        them. seed: of the noise that is added. progress: forwards of one image done, after each evaluation.
        An image's findings depend on nothing else in its batch. ProbeError for what cannot be judged.
        """
        latents = self._checked(latents)
        every = list(prompts) * len(latents) if len(prompts) == 1 else list(prompts)
        if len(every) != len(latents):
            raise ProbeError(
                f"{self.node}: {len(every)} prompts for {len(latents)} images: one for each is needed."
            )
        result: dict[int, list[Finding]] = {}
        for prompt in dict.fromkeys(every):
            chosen = [i for i, p in enumerate(every) if p == prompt]
            change, gain = self.evidence(prompt, latents[chosen], seed, progress)
            for at, i in enumerate(chosen):
                result[i] = findings(change[at], gain[at])
        return [result[i] for i in range(len(latents))]

    def evidence(
        self, prompt: Prompt, latents: torch.Tensor, seed: int, progress: Progress = lambda forwards: None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Change and gain by each category's words, in nats: [images, categories, h, w] each."""
        texts = [prompt.text, *(without(prompt, i) for i in range(len(prompt.phrases)))]
        change = gain = torch.zeros(1)
        for number, (sigma, weight) in enumerate(self.levels):
            noise = plain_noise(seed, self.shape, [number]).expand(len(latents), -1, -1, -1)
            clean, full, *parts = self._predictions(texts, latents, noise, sigma, progress)
            error = squares(clean - full)
            change = change + weight * torch.stack([squares(part - full) for part in parts], 1)
            gain = gain + weight * torch.stack([squares(clean - part) - error for part in parts], 1)
        if not bool(change.any()):
            raise ProbeError(
                f"{self.node}: the prompt makes no difference to this MODEL's predictions, so nothing can be"
                f" judged by it{self._others()}."
            )
        return change.numpy(), gain.numpy()

    @torch.no_grad()
    def _predictions(
        self,
        texts: Sequence[str],
        latents: torch.Tensor,
        noise: torch.Tensor,
        sigma: float,
        progress: Progress,
    ) -> list[torch.Tensor]:
        """The images, and their predictions with each text, at model scale: [images, C, h, w]."""
        found: list[torch.Tensor] = []
        for text in texts:
            comfy.model_management.throw_exception_if_processing_interrupted()
            clean, denoised = self._split(self._conditioning(text), latents, noise, sigma)
            if not bool(denoised.isfinite().all()):
                raise ProbeError(
                    f"{self.node}: the model's prediction contains NaN or Inf, often from a model in half"
                    " precision: start ComfyUI with --force-upcast-attention or --fp32-unet, or connect the"
                    " MODEL from before other patches."
                )
            found += [denoised] if found else [clean, denoised]
            progress(len(latents))
        return found

    def _split(
        self, conditioning: Any, latents: torch.Tensor, noise: torch.Tensor, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As many images at once as fit into memory; one by one, each with the same random numbers, where
        patches on the MODEL draw some."""
        if len(latents) > self.rows.count:
            parts = [
                self._split(conditioning, some, more, sigma)
                for some, more in zip(
                    latents.split(self.rows.count), noise.split(self.rows.count), strict=True
                )
            ]
            clean, denoised = zip(*parts, strict=True)
            return torch.cat(clean), torch.cat(denoised)
        try:
            found = self._evaluate(conditioning, latents, noise, sigma)
        except RuntimeError as error:
            comfy.model_management.raise_non_oom(error)
            if self.rows.count == 1:
                raise
            found = None
        if found is None:
            self.rows.halve()
        elif self._drew and len(latents) > 1:
            self.rows.count, found = 1, None
        return found or self._split(conditioning, latents, noise, sigma)

    def _evaluate(
        self, conditioning: Any, latents: torch.Tensor, noise: torch.Tensor, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # A run of its own for each text: caches of other packs that skip steps see one step only, and
        # patches that tell positive from negative take every text for a positive.
        guider, once = SideBySide(self._clone), Noised()
        guider.inner_set_conds({"positive": conditioning})
        sigmas = torch.tensor([sigma, 0.0])
        with seeded(0) as drew:
            guider.sample(noise, latents, once, sigmas, seed=0, disable_pbar=True)
            self._drew = drew()
        return once.clean, once.denoised

    def _conditioning(self, text: str) -> Any:
        if text not in self._encoded:
            self._encoded[text] = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
        return self._encoded[text]

    def _checked(self, latents: torch.Tensor) -> torch.Tensor:
        if getattr(latents, "is_nested", False) or tuple(latents.shape[1:]) != self.shape:
            got = "parts" if getattr(latents, "is_nested", False) else tuple(latents.shape)
            raise ProbeError(
                f"{self.node}: the latents are {got} (images, channels, height, width) instead of"
                f" {('images', *self.shape)}: judge the images of this model and size."
            )
        latents = latents.detach().to("cpu", torch.float32)
        if not bool(latents.isfinite().all()):
            raise ProbeError(f"{self.node}: the latents contain NaN or Inf, so there is no image to judge.")
        return latents

    def _others(self) -> str:
        names = ", ".join(others_on(self.model))
        return f" ({names} may be why: connect the MODEL from before that node)" if names else ""


def squares(values: torch.Tensor) -> torch.Tensor:
    """Sum of the squares over the channels: [images, C, h, w] to [images, h, w]."""
    return values.square().sum(1)


def noise_levels(sampling: Any) -> list[tuple[float, float]]:
    """(sigma, weight): LEVELS levels evenly spaced in log signal-to-noise ratio, loudest first.

    weight: r/2 times the spacing, see `evidence`. sigma: as this model's own sampling counts it, found
    from its `noise_scaling`, so that flow models have the same ratios as the others.
    """
    top, bottom = math.log(LOUDEST), math.log(FAINTEST)
    spacing = (top - bottom) / LEVELS
    found = []
    for i in range(LEVELS):
        ratio = math.exp(top - (i + 0.5) * spacing)
        # log r = -2 log ratio
        found.append((sigma_of(sampling, ratio), spacing / ratio**2))
    return found


def sigma_of(sampling: Any, ratio: float) -> float:
    """Where the noise that a model's sampling adds is `ratio` times the signal."""
    low, high = 0.0, float(sampling.sigma_max)
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    for _ in range(50):
        sigma = (low + high) / 2
        at = torch.tensor(sigma, dtype=torch.float64)
        noise, signal = (float(sampling.noise_scaling(at, *v, False)) for v in ((one, none), (none, one)))
        low, high = (sigma, high) if noise < ratio * signal else (low, sigma)
    return (low + high) / 2

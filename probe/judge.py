"""Which categories of its prompt an image shows, and where, by the MODEL that made it: no detector."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import comfy.model_management
import comfy.samplers
import numpy as np
import torch

from ..tickets.noise import plain_noise
from ..tickets.prompts import Prompt, without
from ..tickets.recent import Recent
from ..trial.evidence import findings
from ..trial.verdict import Finding
from .attention.first_step import SideBySide
from .compat import others_on
from .model.clone import plain_clone
from .model.family import ProbeError, latent_shape, require_clip
from .model.memory import Rows
from .model.random import seeded

LEVELS = 4
LOUDEST, FAINTEST = 9.0, 1.2
"""Noise per signal: its standard deviation where that of the latent is about 1."""

# The noise that an image was drawn from would be no chance noise for it. In the lower 32 bits: torch's CPU
# generator reads no others.
APART = 0x6A756467

# More than a batch has texts: each level of noise asks for all of them again.
ENCODED_KEPT = 128

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
    every architecture with a latent [images, channels, h, w], or of videos, whose single frames are images
    [images, channels, 1, h, w]. Nothing stays on the MODEL.

    node: whose run it is, for errors. width, height: of the image in pixels.
    """

    def __init__(self, model: Any, clip: Any, node: str, width: int, height: int) -> None:
        require_clip(clip)
        self.model, self.clip, self.node = model, clip, node
        if model.get_model_object("latent_format").latent_dimensions not in (2, 3):
            raise ProbeError(
                f"{node}: this model is {type(model.model).__name__}, which makes no images, and nothing else"
                " can be judged: use a model for images."
            )
        # As the model takes it.
        self.latent = latent_shape(model, width, height)
        channels, *_, latent_height, latent_width = self.latent
        self.shape = channels, latent_height, latent_width
        self.rows = Rows(model, self.latent)
        self.levels = noise_levels(model.get_model_object("model_sampling"))
        # Whether patches drew random numbers in the last evaluation.
        self._drew = False
        # One clone for the session: ComfyUI loads it once.
        self._clone = plain_clone(model)
        self._encoded: Recent[Any] = Recent(ENCODED_KEPT)

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

        prompts: one for each image, or one for all. latents: as a sampler returns them, [images, channels, h,
        w] or [images, channels, 1, h, w]. seed: of the noise that is added. progress: forwards of one image
        done, after each evaluation. An image's findings depend on nothing else in its batch. ProbeError for
        what cannot be judged.
        """
        latents = self._checked(latents)
        every = list(prompts) * len(latents) if len(prompts) == 1 else list(prompts)
        if len(every) != len(latents):
            raise ProbeError(
                f"{self.node}: {len(every)} prompts for {len(latents)} images: one for each is needed."
            )
        return [findings(change, gain) for change, gain in self.evidence(every, latents, seed, progress)]

    def evidence(
        self,
        prompts: Sequence[Prompt],
        latents: torch.Tensor,
        seed: int,
        progress: Progress = lambda forwards: None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each image change and gain by its categories' words, in nats: [categories, h, w] each."""
        texts = [[p.text, *(without(p, i) for i in range(len(p.phrases)))] for p in prompts]
        at = 0
        while at < len(texts):
            stop = at + 1
            while stop < len(texts) and sum(map(len, texts[at : stop + 1])) <= self.rows.count:
                stop += 1
            yield from self._evidence(texts[at:stop], latents[at:stop], seed, progress)
            at = stop

    @torch.no_grad()
    def _evidence(
        self, texts: Sequence[Sequence[str]], latents: torch.Tensor, seed: int, progress: Progress
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of images whose texts are evaluated side by side."""
        counts = [len(some) for some in texts]
        rows = latents.repeat_interleave(torch.tensor(counts), 0)
        flat = [text for some in texts for text in some]
        noise = plain_noise(seed ^ APART, self.shape).expand(len(rows), -1, -1, -1)
        found = [torch.zeros(2, n - 1, *self.shape[1:]) for n in counts]
        for number, (sigma, weight) in enumerate(self.levels):
            # The same noise, added and taken away in turn: most of its own share of the errors cancels.
            signed = noise if number % 2 == 0 else -noise
            both = self._predictions(flat, rows, signed, sigma, progress)
            parts = zip(*(values.split(counts) for values in both), strict=True)
            for (change, gain), (clean, denoised) in zip(found, parts, strict=True):
                errors = squares(clean - denoised)
                change += weight * squares(denoised[1:] - denoised[0])
                gain += weight * (errors[1:] - errors[0])
        if not all(bool(change.any()) for change, _ in found if len(change)):
            raise ProbeError(
                f"{self.node}: the prompt makes no difference to this MODEL's predictions, so nothing can be"
                f" judged by it{self._others()}."
            )
        return [(change.numpy(), gain.numpy()) for change, gain in found]

    def _predictions(
        self,
        texts: Sequence[str],
        latents: torch.Tensor,
        noise: torch.Tensor,
        sigma: float,
        progress: Progress,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows, and the predictions with each one's text, at model scale: [rows, C, h, w] each."""
        alike: dict[Any, list[int]] = {}
        for row, text in enumerate(texts):
            alike.setdefault(_kind(text, self._conditioning(text)), []).append(row)
        clean, denoised = torch.empty_like(latents), torch.empty_like(latents)
        for rows in alike.values():
            some = [texts[row] for row in rows]
            clean[rows], denoised[rows] = self._alike(some, latents[rows], noise[rows], sigma, progress)
        if not bool(denoised.isfinite().all()):
            raise ProbeError(
                f"{self.node}: the model's prediction contains NaN or Inf, often from a model in half"
                " precision: start ComfyUI with --force-upcast-attention or --fp32-unet, or connect the MODEL"
                " from before other patches."
            )
        return clean, denoised

    def _alike(
        self,
        texts: Sequence[str],
        latents: torch.Tensor,
        noise: torch.Tensor,
        sigma: float,
        progress: Progress,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As many rows at once as fit into memory; one by one, each with the same random numbers, where
        patches on the MODEL draw some."""
        most = self.rows.count
        if len(texts) > most:
            starts = range(0, len(texts), most)
            cut = [slice(at, at + most) for at in starts]
            parts = [self._alike(texts[c], latents[c], noise[c], sigma, progress) for c in cut]
            clean, denoised = zip(*parts, strict=True)
            return torch.cat(clean), torch.cat(denoised)
        comfy.model_management.throw_exception_if_processing_interrupted()
        found = self.rows.attempt(partial(self._evaluate, texts, latents, noise, sigma), most)
        if found is not None and self._drew and len(texts) > 1:
            self.rows.count, found = 1, None
        if found is None:
            return self._alike(texts, latents, noise, sigma, progress)
        progress(len(texts))
        return found

    def _evaluate(
        self, texts: Sequence[str], latents: torch.Tensor, noise: torch.Tensor, sigma: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # A run for each level, all texts in one positive: caches of other packs that skip steps see one step
        # only, and patches that tell positive from negative take every text for a positive.
        guider, once = SideBySide(self._clone), Noised()
        guider.inner_set_conds({"positive": _joined([self._conditioning(t) for t in texts])})
        sigmas = torch.tensor([sigma, 0.0])
        with seeded(0) as drew:
            both = (x.reshape(-1, *self.latent) for x in (noise, latents))
            guider.sample(*both, once, sigmas, seed=0, disable_pbar=True)
            self._drew = drew()
        return once.clean.reshape(-1, *self.shape), once.denoised.reshape(-1, *self.shape)

    def _conditioning(self, text: str) -> Any:
        return self._encoded.get(
            text, lambda: self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
        )

    def _checked(self, latents: torch.Tensor) -> torch.Tensor:
        nested = getattr(latents, "is_nested", False)
        if nested or tuple(latents.shape[1:]) not in (self.shape, self.latent):
            got = "parts" if nested else tuple(latents.shape)
            raise ProbeError(
                f"{self.node}: the latents are {got} (images, channels, height, width) instead of"
                f" {('images', *self.shape)}: judge the images of this model and size."
            )
        latents = latents.detach().to("cpu", torch.float32).reshape(-1, *self.shape)
        if not bool(latents.isfinite().all()):
            raise ProbeError(f"{self.node}: the latents contain NaN or Inf, so there is no image to judge.")
        return latents

    def _others(self) -> str:
        names = ", ".join(others_on(self.model))
        return f" ({names} may be why: connect the MODEL from before that node)" if names else ""


def _kind(text: str, conditioning: Any) -> Any:
    """Equal for texts that can be rows of one conditioning."""
    if len(conditioning) == 1:
        context, more = conditioning[0]
        pooled = more.get("pooled_output")
        if set(more) <= {"pooled_output"} and len(context) == 1 and (pooled is None or len(pooled) == 1):
            return context.shape, pooled is None
    return text


def _joined(conditionings: Sequence[Any]) -> Any:
    """One conditioning in which each row has its own text."""
    first = conditionings[0]
    if all(c is first for c in conditionings):
        return first
    contexts, others = zip(*(c[0] for c in conditionings), strict=True)
    more = {
        name: torch.cat([o[name] for o in others]) for name, value in others[0].items() if value is not None
    }
    return [[torch.cat(contexts), more]]


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

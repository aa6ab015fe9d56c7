"""Images of one prompt at a time, drawn from given noises on the stock KSampler's path."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from ...tickets.recent import Recent
from ..model.family import ProbeError, require
from .batches import Batches
from .forwards import Forwards
from .samplers import BATCHED, forwards_about

KEY = "winning_tickets_trial"
ENCODED_KEPT = 64
DECODED_AT_ONCE = 8

OnStep = Callable[[int, int, torch.Tensor], None]
"""Called with the steps done, of all, and what is seen of the images, as large as their latents."""


@dataclass(frozen=True)
class Sampling:
    """How images are drawn, as the stock KSampler has it."""

    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    negative: str = ""

    def __post_init__(self) -> None:
        require("steps", self.steps, 1)
        if not math.isfinite(self.cfg):
            raise ProbeError(f"cfg is {self.cfg}; a finite number is needed.")
        for name, value, known in (
            ("sampler_name", self.sampler_name, comfy.samplers.KSampler.SAMPLERS),
            ("scheduler", self.scheduler, comfy.samplers.KSampler.SCHEDULERS),
        ):
            if value not in known:
                raise ProbeError(f"{name} is {value}; this ComfyUI has {', '.join(known)}.")

    @property
    def about(self) -> float:
        """Forwards of one image, as far as they can be known beforehand."""
        return forwards_about(self.sampler_name, self.cfg, self.steps)

    def sigmas(self, model: Any) -> torch.Tensor:
        """Noise levels [steps + 1] of a MODEL's run, as the stock KSampler has them."""
        return comfy.samplers.KSampler(
            model, self.steps, model.load_device, self.sampler_name, self.scheduler
        ).sigmas


class Drawing:
    """Draws images with a MODEL as it is, patches included; nothing stays on it.

    Batches are as large as memory allows; image by image with samplers that draw noise of their own and
    where patches draw random numbers, each from its own seed, so that an image depends on no other.
    """

    def __init__(self, model: Any, clip: Any, how: Sampling, shape: tuple[int, ...]) -> None:
        """shape: of a latent, as the model takes it."""
        self.clip, self.how, self.shape = clip, how, shape
        self._batches = Batches(model, shape, how.sampler_name not in BATCHED)
        self._encoded: Recent[Any] = Recent(ENCODED_KEPT)
        self._ran = 0
        self._model = model.clone()
        self._model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, self._counted)

    @property
    def at_once(self) -> int:
        """Images in a batch."""
        return self._batches.at_once

    def draw(
        self, noise: torch.Tensor, prompt: str, seeds: Sequence[int], on_step: OnStep
    ) -> tuple[torch.Tensor, float]:
        """Latents [images, *shape] of noise [images, C, h, w], and the forwards that each took (mean), those
        of batches that had to be run again included.

        Raises what the sampler does.
        """
        self._ran = 0
        noise = noise.reshape(-1, *self.shape)
        parts = self._batches.run(
            len(noise),
            lambda image: seeds[image],
            lambda some: self._draw(noise[some], prompt, seeds[some], on_step),
        )
        return torch.cat(parts), self._ran / len(noise)

    def _draw(self, noise: torch.Tensor, prompt: str, seeds: Sequence[int], on_step: OnStep) -> torch.Tensor:
        how = self.how

        def seen(step: int, denoised: torch.Tensor, x: torch.Tensor, steps: int) -> None:
            on_step(step + 1, steps, denoised)

        latents: torch.Tensor = comfy.sample.sample(
            self._model,
            noise,
            how.steps,
            how.cfg,
            how.sampler_name,
            how.scheduler,
            self._encode(prompt),
            self._encode(how.negative),
            torch.zeros_like(noise),
            callback=seen,
            disable_pbar=True,
            seed=seeds[0],
        )
        return latents

    def _encode(self, text: str) -> Any:
        return self._encoded.get(
            text, lambda: self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
        )

    def _counted(self, executor: Any, *args: Any, **options: Any) -> Any:
        Forwards(self._count).install(executor.class_obj, KEY)
        return executor(*args, **options)

    def _count(self, rows: int) -> None:
        self._ran += rows


def decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Images [images, height, width, 3] of latents [images, C, h, w] or, of videos, [images, C, 1, h, w]: the
    first frame. Can be cancelled between them.
    """
    found: torch.Tensor | None = None
    bar = comfy.utils.ProgressBar(len(latents))
    for start in range(0, len(latents), DECODED_AT_ONCE):
        comfy.model_management.throw_exception_if_processing_interrupted()
        part = vae.decode(latents[start : start + DECODED_AT_ONCE])
        # Of videos [images, frames, height, width, 3].
        part = (part[:, 0] if part.dim() == 5 else part).to("cpu", torch.float32)
        found = torch.empty(len(latents), *part.shape[1:]) if found is None else found
        found[start : start + len(part)] = part
        bar.update(len(part))
    assert found is not None
    return found

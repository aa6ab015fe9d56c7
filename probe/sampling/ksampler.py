"""Sampling with a cutoff: the stock KSampler's path on a patched clone of the MODEL."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch

from ...guidance.cutoff import Cutoff, CutoffError
from ...guidance.record import Record
from ...guidance.trace import ranges
from ..model.clone import CUTOFF
from ..noise.foreign import drawn
from ..noise.forms import is_noise
from .cutoff import CutoffPatch
from .patch import patch_on

NODE = "Guidance Cutoff KSampler"


@dataclass(frozen=True)
class Settings:
    """The stock KSampler's."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CutoffError(f"{NODE}: steps is {self.steps}; at least 1 is needed.")
        if not math.isfinite(self.cfg):
            raise CutoffError(f"{NODE}: cfg is {self.cfg}; it must be a guidance scale, such as 7.")
        if not 0 <= self.denoise <= 1:
            raise CutoffError(f"{NODE}: denoise is {self.denoise}; it must be between 0 and 1.")


def sample(
    model: Any,
    settings: Settings,
    positive: Any,
    negative: Any,
    latent: dict[str, Any],
    cutoff: Cutoff,
    noise: Any = None,
) -> tuple[dict[str, Any], str]:
    """The stock KSampler with guidance as the cutoff says: LATENT, and what was saved, for people.

    noise: a NOISE instead of the seed's. CutoffError for settings that cannot be followed.
    """
    samples = comfy.sample.fix_empty_latent_channels(
        model,
        latent["samples"],
        latent.get("downscale_ratio_spacial"),
        latent.get("downscale_ratio_temporal"),
    )
    if not getattr(samples, "is_nested", False) and not bool(torch.isfinite(samples).all()):
        raise CutoffError(
            f"{NODE}: latent_image contains NaN or Inf, often from a half-precision VAE: encode it in full"
            " precision."
        )
    patch = CutoffPatch(cutoff, tell=False)
    result = comfy.sample.sample(
        patch.attach(model),
        initial_noise(latent, samples, settings.seed, noise),
        settings.steps,
        settings.cfg,
        settings.sampler_name,
        settings.scheduler,
        positive,
        negative,
        samples,
        denoise=settings.denoise,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, settings.steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=settings.seed,
    )
    out = {k: v for k, v in latent.items() if not k.startswith("downscale_ratio_")}
    return {**out, "samples": result}, str(patch.run or "0 NFE: denoise leaves no step to run.")


def initial_noise(latent: dict[str, Any], samples: torch.Tensor, seed: int, noise: Any) -> torch.Tensor:
    """Noise of NOISE if there is one, else stock ComfyUI's noise of the seed.

    Either way torch's own generator starts from a seed, as in the stock samplers: others draw from it.
    """
    if noise is None:
        return comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    if is_noise(latent):
        raise CutoffError(
            f"{NODE} has both a noise and a latent that is noise already: connect the empty latent of the"
            " node that built it to latent_image."
        )
    torch.manual_seed(seed)
    return drawn(noise, {**latent, "samples": samples}, NODE)


def make_guider(model: Any, positive: Any, negative: Any, cfg: float, cutoff: Cutoff) -> Any:
    """GUIDER for SamplerCustomAdvanced: core's CFG guider on a patched clone."""
    guider = comfy.samplers.CFGGuider(CutoffPatch(cutoff).attach(model))
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def report_of(latent: dict[str, Any], model: Any = None, guider: Any = None) -> str:
    """Of the runs that made a LATENT with the cutoff that is on a MODEL or in a GUIDER."""
    node = "Guidance Cutoff Report"
    if model is None and guider is None:
        raise CutoffError(f"{node} needs the model or the guider that sampled: connect one.")
    patch = patch_on(model if model is not None else guider.model_patcher, CUTOFF)
    if patch is None:
        raise CutoffError(
            f"{node}: this model has no cutoff: connect the output of Guidance Cutoff or Guidance Cutoff"
            " Guider."
        )
    images: dict[int, list[int]] = {}
    runs: dict[int, Record | str] = {}
    for image, found in enumerate(patch.of(latent), 1):
        run = found[0] if found else None
        images.setdefault(id(run), []).append(image)
        runs[id(run)] = run or (
            "No run with this cutoff made this latent as it is: connect the sampler's own output, before any"
            " node that changes it, and the model or guider that this sampler has."
        )
    if len(runs) == 1:
        return str(next(iter(runs.values())))
    return "\n".join(f"Images {ranges(images[number])}: {run}" for number, run in runs.items())

"""Guidance for the first steps only (Yi et al. 2024, Eq. 9): afterwards one prediction, one forward."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch

from .noise import NOISE_LATENT

UNCONDITIONAL, CONDITIONAL = "unconditional", "conditional"
TAILS = (UNCONDITIONAL, CONDITIONAL)
NEVER = -1.0


class CutoffGuider(comfy.samplers.CFGGuider):
    """CFG while sigma is above `cut`, then only the conditional or the unconditional prediction."""

    def __init__(self, model: Any, cut: float, tail: str) -> None:
        super().__init__(model)
        self.cut, self.tail = cut, tail

    def predict_noise(
        self, x: torch.Tensor, timestep: torch.Tensor, model_options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        if float(timestep.max()) > self.cut:
            return super().predict_noise(x, timestep, model_options, seed)
        return self._single(x, timestep, model_options)

    def _single(self, x: torch.Tensor, timestep: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        # Two slots, so that cond_or_uncond keeps telling other patches which of them is run.
        conds: list[Any] = [None, None]
        slot = 0 if self.tail == CONDITIONAL else 1
        names = ("positive", "unconditional" if "unconditional" in self.conds else "negative")
        conds[slot] = self.conds[names[slot]]
        batch = options.get("sampler_calc_cond_batch_function")
        if batch is not None:
            args = {"conds": conds, "input": x, "sigma": timestep, "model": self.inner_model}
            denoised = batch({**args, "model_options": options})[slot]
        else:
            predictions = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)
            denoised = predictions[slot]
        # A sampler's own hook (CFG++) must see every step; the model's hooks need both predictions.
        own = self.model_options.get("sampler_post_cfg_function", [])
        for hook in options.get("sampler_post_cfg_function", []):
            if any(hook is other for other in own):
                continue
            denoised = hook(
                {
                    "denoised": denoised,
                    "cond": conds[0],
                    "uncond": conds[1],
                    "cond_scale": 1.0,
                    "model": self.inner_model,
                    "uncond_denoised": denoised,
                    "cond_denoised": denoised,
                    "sigma": timestep,
                    "model_options": options,
                    "input": x,
                }
            )
        return denoised


@dataclass
class ForwardCount:
    """Counts UNet forwards of the whole image batch: a guided evaluation is two, a cut one is one."""

    batch: int
    rows: int = 0

    def attach(self, model: Any) -> Any:
        """A clone of MODEL whose forwards are counted."""
        clone = model.clone()
        clone.add_wrapper_with_key(
            comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "winning_tickets", self._evaluate
        )
        return clone

    def _evaluate(self, executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.rows += x.shape[0]
        return executor(x, *args, **kwargs)

    @property
    def forwards(self) -> float:
        return self.rows / self.batch


def guided_steps(steps: int, guided: float) -> int:
    """How many of the run's steps keep guidance, halves rounded up."""
    return math.floor(guided * steps + 0.5)


def cut_sigma(sigmas: torch.Tensor, guided: float) -> float:
    """The sigma at and below which the run goes on without guidance."""
    kept = guided_steps(len(sigmas) - 1, guided)
    return float(sigmas[kept]) * (1 + 1e-5) if kept < len(sigmas) - 1 else NEVER


def initial_noise(latent: dict[str, Any], samples: torch.Tensor, seed: int, noise: Any) -> torch.Tensor:
    """Noise of NOISE if there is one, else stock ComfyUI's noise of the seed."""
    if noise is None:
        return comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    if latent.get(NOISE_LATENT):
        raise ValueError(
            "Guidance Cutoff KSampler has both a noise and a latent that is noise already: connect the"
            " empty latent of Ticket Latent from Regions to latent_image."
        )
    return noise.generate_noise({**latent, "samples": samples})


def sample(
    model: Any,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent: dict[str, Any],
    denoise: float,
    guided: float,
    tail: str,
    noise: Any = None,
    unconditional: Any = None,
) -> tuple[dict[str, Any], str]:
    """The stock KSampler with guidance in the first `guided` share of the run's own steps.

    Returns the LATENT and a line on the forwards it took. The unconditional tail uses `unconditional`,
    or the negative without one. guided = 1 is the stock KSampler bit for bit.
    """
    samples = comfy.sample.fix_empty_latent_channels(
        model,
        latent["samples"],
        latent.get("downscale_ratio_spacial"),
        latent.get("downscale_ratio_temporal"),
    )
    count = ForwardCount(len(samples))
    counted = count.attach(model)
    run = comfy.samplers.KSampler(
        counted, steps, model.load_device, sampler_name, scheduler, denoise, counted.model_options
    )
    sigmas = run.sigmas.clone()
    cut = cut_sigma(sigmas, guided) if len(sigmas) else NEVER
    guider = CutoffGuider(counted, cut, tail)
    conds = {"positive": positive, "negative": negative}
    if unconditional is not None and tail == UNCONDITIONAL and cut != NEVER:
        conds["unconditional"] = unconditional
    guider.inner_set_conds(conds)
    guider.set_cfg(cfg)
    result = guider.sample(
        initial_noise(latent, samples, seed, noise),
        samples,
        comfy.samplers.sampler_object(sampler_name),
        sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    ).to(
        device=comfy.model_management.intermediate_device(),
        dtype=comfy.model_management.intermediate_dtype(),
    )
    out = {k: v for k, v in latent.items() if not k.startswith("downscale_ratio_")}
    kept = guided_steps(max(0, len(sigmas) - 1), guided)
    report = (
        f"{count.forwards:g} forwards for {max(0, len(sigmas) - 1)} steps, {kept} of them guided;"
        f" then {tail} predictions"
    )
    return {**out, "samples": result}, report

"""A run of the stock KSampler, and the same with a guidance cutoff."""

from __future__ import annotations

from typing import Any

import comfy.sample
import latent_preview  # noqa: F401  (imports with ComfyUI's root on the path)
from winning_tickets.guidance.cutoff import CONDITIONAL, Cutoff, Share
from winning_tickets.probe.sampling.ksampler import Settings, sample

STEPS = 6
# Two chunks of 77 tokens beside one; what is looked for lies in the second.
PROMPT = "an old red house by the sea, " * 10 + "a cat"
NEGATIVE = "blurry"


def stock(model: Any, encode: Any, latent: Any, sampler: str, scheduler: str, **options: Any) -> Any:
    """The core KSampler node's own path."""
    samples = latent["samples"]
    noise = comfy.sample.prepare_noise(samples, 3, latent.get("batch_index"))
    arguments = {"cfg": 5.0, "denoise": 1.0, "steps": STEPS, **options}
    steps, cfg = arguments.pop("steps"), arguments.pop("cfg")
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler,
        scheduler,
        encode(PROMPT),
        encode(NEGATIVE),
        samples,
        noise_mask=latent.get("noise_mask"),
        disable_pbar=True,
        seed=3,
        **arguments,
    )


def ours(
    model: Any,
    encode: Any,
    latent: Any,
    sampler: str,
    scheduler: str,
    cutoff: Cutoff,
    cfg: float = 5.0,
    denoise: float = 1.0,
    steps: int = STEPS,
) -> Any:
    settings = Settings(3, steps, cfg, sampler, scheduler, denoise)
    return sample(model, settings, encode(PROMPT), encode(NEGATIVE), latent, cutoff)


def cutoff(guided: float, tail: str = CONDITIONAL, empty: Any = None, cfg: float = 1.0) -> Cutoff:
    return Cutoff(Share(guided), tail, empty, cfg)

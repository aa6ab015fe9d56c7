"""Built noise in the forms ComfyUI's samplers take: NOISE and LATENT."""

from __future__ import annotations

from typing import Any

import torch

from ..tickets.build import Layout

NOISE_LATENT = "winning_tickets_noise"


class TicketNoise:
    """NOISE for SamplerCustomAdvanced and Guidance Cutoff KSampler: built afresh for each batch."""

    def __init__(self, layout: Layout, seed: int) -> None:
        self.layout = layout
        self.seed = seed

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        """CPU float32 noise of the shape of input_latent["samples"], batch_index honoured."""
        samples = input_latent["samples"]
        layout = self.layout
        made = (layout.bank.recipe.channels, layout.height, layout.width)
        if tuple(samples.shape[1:]) != made:
            raise ValueError(
                f"The ticket noise is for a latent of {made}, the sampler's latent_image is"
                f" {tuple(samples.shape[1:])} (channels, height, width): connect the empty latent of"
                " Ticket Latent from Regions, or give it this width and height."
            )
        indices = input_latent.get("batch_index", range(len(samples)))
        return layout.build(self.seed, indices)


def noise_latent(noise: torch.Tensor, sigma: float, latent_scale: float) -> dict[str, Any]:
    """LATENT whose sampling with *add noise* disabled starts from `noise` (eps and v prediction).

    Stock sampling starts from noise * sqrt(1 + sigma_max^2) in the model's scale.
    """
    samples = noise * (1 + sigma**2) ** 0.5 / latent_scale
    return {"samples": samples, NOISE_LATENT: True}


def empty_latent(batch: int, layout: Layout) -> dict[str, Any]:
    """The empty latent that goes with a layout's noise."""
    return {"samples": torch.zeros(batch, layout.bank.recipe.channels, layout.height, layout.width)}

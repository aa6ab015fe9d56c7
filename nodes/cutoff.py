"""Guidance Cutoff KSampler."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy_api.latest import io, ui

from ..probe import cutoff
from .types import CATEGORY, seed_input


class GuidanceCutoffKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GuidanceCutoffKSampler",
            display_name="Guidance Cutoff KSampler",
            category=CATEGORY,
            description=(
                "A KSampler that guides only the first part of the steps: text shapes the image early,"
                " and every later step costs one model forward instead of two."
            ),
            search_aliases=[
                "cfg cutoff",
                "skip guidance",
                "KSampler",
                "faster sampling",
                "ticket sampler",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The model used for denoising the input latent."),
                seed_input(
                    "The random seed of the noise, and of the sampler if it adds noise itself. A connected"
                    " noise takes the place of the former."
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="The number of denoising steps."),
                io.Float.Input(
                    "cfg",
                    default=8.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Classifier-free guidance scale of the guided steps.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    tooltip="The sampling algorithm.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    tooltip="How the noise level falls over the steps.",
                ),
                io.Conditioning.Input("positive", tooltip="What you want in the image."),
                io.Conditioning.Input("negative", tooltip="What you do not want; used in the guided steps."),
                io.Latent.Input(
                    "latent_image",
                    tooltip="The latent to denoise. With ticket noise: the empty latent of its node.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much is denoised; lower keeps more of the latent image.",
                ),
                io.Float.Input(
                    "guided",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Share of the run's steps that keep guidance, from the first on. 1 is the plain"
                    " KSampler; 0.5 runs a quarter fewer forwards.",
                ),
                io.Combo.Input(
                    "after_cutoff",
                    options=list(cutoff.TAILS),
                    default=cutoff.CONDITIONAL,
                    tooltip="What the later steps follow: the prompt without guidance (conditional), or the"
                    " empty prompt (unconditional, as in the paper).",
                ),
                io.Noise.Input(
                    "noise",
                    optional=True,
                    tooltip="Initial noise from Ticket Latent from Regions or any noise node, instead of"
                    " the seed's.",
                ),
                io.Conditioning.Input(
                    "unconditional",
                    optional=True,
                    tooltip="The encoded empty prompt, for after_cutoff = unconditional. Without it the"
                    " negative is used: a negative prompt would then be drawn, so keep that empty.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The denoised latent."),
                io.String.Output(display_name="report", tooltip="Forwards used and steps guided."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        denoise: float,
        guided: float,
        after_cutoff: str,
        noise: Any = None,
        unconditional: Any = None,
    ) -> io.NodeOutput:
        latent, report = cutoff.sample(
            model,
            seed,
            steps,
            cfg,
            sampler_name,
            scheduler,
            positive,
            negative,
            latent_image,
            denoise,
            guided,
            after_cutoff,
            noise,
            unconditional,
        )
        return io.NodeOutput(latent, report, ui=ui.PreviewText(report))

"""Guidance for a part of the steps: as a KSampler, a guider and a patch of any sampler's model."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy_api.latest import io, ui

from ..guidance.cutoff import (
    CONDITIONAL,
    LOWER,
    TAILS,
    UNCONDITIONAL,
    Cutoff,
    Final,
    Share,
    Sigma,
    Similar,
    Trigger,
)
from ..probe.sampling.cutoff import CutoffPatch
from ..probe.sampling.ksampler import Settings, make_guider, report_of, sample
from .inputs import CATEGORY, Chosen, chosen, names_itself, seed_input

SHARE, LAST, SIGMA, ADAPTIVE = TRIGGERS = ("share of steps", "last steps", "sigma", "adaptive")


def cutoff_input() -> io.DynamicCombo.Input:
    half, alike = Share(), Similar()
    share = io.Float.Input(
        "guided",
        default=half.guided,
        min=0.0,
        max=1.0,
        step=0.05,
        round=0.001,
        tooltip="Share of the run's steps that use guidance, from the first on. 1 is the plain sampler; 0.5"
        " saves a quarter of the model evaluations (NFE).",
    )
    last = io.Int.Input(
        "unguided_steps",
        default=10,
        min=0,
        max=10000,
        tooltip="How many of the run's last steps are unguided: the paper's a.",
    )
    sigma = io.Float.Input(
        "sigma",
        default=1.0,
        min=0.0,
        max=100000.0,
        step=0.01,
        round=False,
        tooltip="Guidance ends once the noise level has fallen to this.",
    )
    similarity = io.Float.Input(
        "similarity",
        default=alike.similarity,
        min=-1.0,
        max=1.0,
        step=0.001,
        round=False,
        tooltip="Guidance of an image ends once the cosine similarity of its predictions with and without "
        "the prompt is above this. Below 0.998 it often ends too early and the picture changes; 1 "
        "never ends it.",
    )
    latest = io.Float.Input(
        "latest",
        default=alike.latest,
        min=0.0,
        max=1.0,
        step=0.05,
        round=0.001,
        tooltip="Guidance ends after this share of the steps at the latest. 1: no such limit.",
    )
    return io.DynamicCombo.Input(
        "cutoff",
        options=[
            io.DynamicCombo.Option(SHARE, [share]),
            io.DynamicCombo.Option(LAST, [last]),
            io.DynamicCombo.Option(SIGMA, [sigma]),
            io.DynamicCombo.Option(ADAPTIVE, [similarity, latest]),
        ],
        tooltip="When guidance ends: after a share of this run's steps, before its last steps, at a noise "
        "level, or once it changes little.",
    )


def tail_input() -> io.DynamicCombo.Input:
    scale = io.Float.Input(
        "lower_cfg",
        default=2.0,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="CFG scale of the later steps. It saves nothing and is there for comparison.",
    )
    return io.DynamicCombo.Input(
        "after_cutoff",
        options=[
            io.DynamicCombo.Option(CONDITIONAL, []),
            io.DynamicCombo.Option(UNCONDITIONAL, []),
            io.DynamicCombo.Option(LOWER, [scale]),
        ],
        tooltip="What drives the later steps: the prompt without guidance (conditional), the empty prompt "
        "(unconditional, as in the paper), or both at a lower cfg, which saves nothing.",
    )


def empty_input() -> io.Conditioning.Input:
    return io.Conditioning.Input(
        "unconditional",
        optional=True,
        tooltip="The encoded empty prompt, for after_cutoff: unconditional. Without it the negative is "
        "used: a negative prompt would then be drawn, so keep it empty.",
    )


def read_cutoff(cutoff: Chosen | None, after_cutoff: Chosen | None, empty: Any) -> Cutoff:
    """Of the values of these inputs."""
    tail = chosen("after_cutoff", after_cutoff, TAILS)
    trigger = _trigger(chosen("cutoff", cutoff, TRIGGERS))
    return Cutoff(trigger, tail["after_cutoff"], empty, tail.get("lower_cfg", 1.0))


def _trigger(cutoff: Chosen) -> Trigger:
    if cutoff["cutoff"] == SHARE:
        return Share(cutoff["guided"])
    if cutoff["cutoff"] == LAST:
        return Final(cutoff["unguided_steps"])
    if cutoff["cutoff"] == SIGMA:
        return Sigma(cutoff["sigma"])
    return Similar(cutoff["similarity"], cutoff["latest"])


ALIASES = ["cfg cutoff", "skip guidance", "faster sampling", "adaptive guidance", "cfg schedule"]


def cfg_input() -> io.Float.Input:
    return io.Float.Input(
        "cfg",
        default=8.0,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="Classifier-free guidance scale of the guided steps.",
    )


def positive_input() -> io.Conditioning.Input:
    return io.Conditioning.Input("positive", tooltip="What you want in the image.")


def negative_input() -> io.Conditioning.Input:
    return io.Conditioning.Input("negative", tooltip="What you do not want; used in the guided steps.")


class GuidanceCutoffKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GuidanceCutoffKSampler",
            display_name="Guidance Cutoff KSampler",
            category=CATEGORY,
            description=(
                "A KSampler that uses guidance only in the first part of the steps: text shapes the image "
                "early, and every later step costs one model evaluation instead of two."
            ),
            search_aliases=[*ALIASES, "KSampler", "ticket sampler"],
            has_intermediate_output=True,
            inputs=[
                io.Model.Input("model", tooltip="The model used for denoising the input latent."),
                seed_input(
                    "Seed of the noise, and of the sampler if it adds noise itself. A connected noise "
                    "replaces the former."
                ),
                io.Int.Input("steps", default=20, min=1, max=10000, tooltip="The number of denoising steps."),
                cfg_input(),
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
                positive_input(),
                negative_input(),
                io.Latent.Input(
                    "latent_image",
                    tooltip="The latent to denoise. With ticket noise: the empty latent from its node.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much to denoise; lower values keep more of the latent image.",
                ),
                cutoff_input(),
                tail_input(),
                io.Noise.Input(
                    "noise",
                    optional=True,
                    tooltip="Initial noise from Ticket Latent from Regions or any noise node, used instead "
                    "of the seed's.",
                ),
                empty_input(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The denoised latent."),
                io.String.Output(
                    display_name="report",
                    tooltip="Model evaluations used and saved, and anything that prevented saving more.",
                ),
            ],
        )

    @classmethod
    @names_itself
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
        cutoff: Chosen | None = None,
        after_cutoff: Chosen | None = None,
        noise: Any = None,
        unconditional: Any = None,
    ) -> io.NodeOutput:
        settings = Settings(seed, steps, cfg, sampler_name, scheduler, denoise)
        asked = read_cutoff(cutoff, after_cutoff, unconditional)
        latent, report = sample(model, settings, positive, negative, latent_image, asked, noise)
        return io.NodeOutput(latent, report, ui=ui.PreviewText(report))


class GuidanceCutoffGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GuidanceCutoffGuider",
            display_name="Guidance Cutoff Guider",
            category=CATEGORY,
            description=(
                "A CFG guider for SamplerCustomAdvanced that uses guidance only in the first part of the "
                "steps."
            ),
            search_aliases=[*ALIASES, "CFG guider"],
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with."),
                positive_input(),
                negative_input(),
                cfg_input(),
                cutoff_input(),
                tail_input(),
                empty_input(),
            ],
            outputs=[
                io.Guider.Output(tooltip="For SamplerCustomAdvanced, and Guidance Cutoff Report after it.")
            ],
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        cfg: float,
        cutoff: Chosen | None = None,
        after_cutoff: Chosen | None = None,
        unconditional: Any = None,
    ) -> io.NodeOutput:
        asked = read_cutoff(cutoff, after_cutoff, unconditional)
        return io.NodeOutput(make_guider(model, positive, negative, cfg, asked))


class GuidanceCutoff(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GuidanceCutoff",
            display_name="Guidance Cutoff",
            category=CATEGORY,
            description=(
                "Limits guidance to the first part of the steps, for any sampler node. Each sampler that "
                "uses this model counts its own steps."
            ),
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input("model", tooltip="The model to patch. Its other patches stay."),
                cutoff_input(),
                tail_input(),
                empty_input(),
            ],
            outputs=[io.Model.Output(tooltip="For any sampler node, and Guidance Cutoff Report after it.")],
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        model: Any,
        cutoff: Chosen | None = None,
        after_cutoff: Chosen | None = None,
        unconditional: Any = None,
    ) -> io.NodeOutput:
        patch = CutoffPatch(read_cutoff(cutoff, after_cutoff, unconditional))
        return io.NodeOutput(patch.attach(model))


class GuidanceCutoffReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="GuidanceCutoffReport",
            display_name="Guidance Cutoff Report",
            category=CATEGORY,
            description=(
                "Reports what a run with Guidance Cutoff or Guidance Cutoff Guider used and saved: model "
                "evaluations (NFE), time, and anything that kept it from saving more."
            ),
            search_aliases=["NFE", "forwards saved", "cfg cutoff report"],
            is_output_node=True,
            inputs=[
                io.Latent.Input("latent", tooltip="The sampler's output, so that this node runs after it."),
                io.Model.Input("model", optional=True, tooltip="The model from Guidance Cutoff."),
                io.Guider.Input("guider", optional=True, tooltip="The guider from Guidance Cutoff Guider."),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latent, unchanged."),
                io.String.Output(display_name="report", tooltip="What was used and saved."),
            ],
        )

    @classmethod
    @names_itself
    def execute(cls, latent: dict[str, Any], model: Any = None, guider: Any = None) -> io.NodeOutput:
        report = report_of(latent, model, guider)
        return io.NodeOutput(latent, report, ui=ui.PreviewText(report))

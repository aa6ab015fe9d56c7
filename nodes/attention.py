"""Attention over Steps and its report, Suggest Guidance Cutoff, Swap End Tokens."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..guidance.trace import Trace
from ..probe.sampling.eos import MODES, SWAP, swap_eos
from ..probe.sampling.watch import ALL, trace_of, watched
from ..show.trace import shown, suggested
from .inputs import CATEGORY, names_itself, preview

Steps = io.Custom("TICKET_STEPS")
ALIASES = ["attention map", "heat map", "daam", "cross attention", "prompt attention"]


class AttentionOverSteps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttentionOverSteps",
            display_name="Attention over Steps",
            category=CATEGORY,
            description=(
                "Records a sampler run: where the model looks for each phrase of the prompt, step by step, "
                "and what guidance does. The picture does not change."
            ),
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input("model", tooltip="The model to watch. Its other patches stay."),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a castle and a tree",
                    tooltip="The prompt that the sampler follows. Connect positive to the sampler, or use "
                    "the same text in CLIP Text Encode.",
                ),
                io.String.Input(
                    "phrases",
                    multiline=True,
                    default="castle\ntree",
                    tooltip="What to look for: words of the prompt, one phrase per line.",
                ),
                io.String.Input(
                    "layer",
                    default=ALL,
                    advanced=True,
                    tooltip="Layers to average, comma-separated: input 8 of UNets, block 9, double 7 or"
                    " single 12 of transformers. all: every layer that attends to the prompt, as in the"
                    " paper.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="For any sampler node, and Attention over Steps Report after it."),
                io.Conditioning.Output(display_name="positive", tooltip="The prompt, for the sampler."),
            ],
        )

    @classmethod
    @names_itself
    def execute(cls, model: Any, clip: Any, prompt: str, phrases: str, layer: str) -> io.NodeOutput:
        return io.NodeOutput(*watched(model, clip, prompt, phrases, layer))


class AttentionOverStepsReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AttentionOverStepsReport",
            display_name="Attention over Steps Report",
            category=CATEGORY,
            description=(
                "Shows what Attention over Steps recorded: a heat map for each phrase and step, as a "
                "picture and as masks, when the maps settled, how much of the picture is coarse shape, and "
                "what guidance still had to do."
            ),
            search_aliases=[*ALIASES, "mask from prompt", "frequency"],
            is_output_node=True,
            inputs=[
                io.Latent.Input("latent", tooltip="The sampler's output, so that this node runs after it."),
                io.Model.Input("model", tooltip="The model from Attention over Steps."),
                io.String.Input(
                    "steps",
                    default="",
                    tooltip="Which steps to show, such as 1 5 10. Empty: six, from the first to the last.",
                ),
                io.Int.Input(
                    "number", default=1, min=1, max=4096, tooltip="Which image of the batch, counted from 1."
                ),
                io.Image.Input("image", optional=True, tooltip="The final image, to overlay the maps on."),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The latent, unchanged."),
                io.Image.Output(display_name="picture", tooltip="One row per phrase, one column per step."),
                io.Mask.Output(
                    display_name="masks",
                    tooltip="Each phrase's map at the last step shown, as a mask of the image's size, in the"
                    " order of the phrases.",
                ),
                io.Image.Output(
                    display_name="curves",
                    tooltip="Steps from left to right. How well each phrase's map agrees with its final "
                    "form; share of low frequencies; norm of the guidance term (yellow) and the "
                    "push still to come (red).",
                ),
                io.String.Output(display_name="report", tooltip="The figures of the shown steps, as text."),
                Steps.Output(display_name="watched", tooltip="For Suggest Guidance Cutoff."),
            ],
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        latent: dict[str, Any],
        model: Any,
        steps: str,
        number: int,
        image: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        trace, number = trace_of(model, latent, number)
        seen = shown(trace, steps, number, latent["samples"].shape[-2:], image)
        outputs = latent, seen.picture, seen.masks, seen.curves, seen.report, trace
        return io.NodeOutput(*outputs, ui=preview(cls, seen.picture, seen.report))


class SuggestGuidanceCutoff(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SuggestGuidanceCutoff",
            display_name="Suggest Guidance Cutoff",
            category=CATEGORY,
            description=(
                "Finds in a watched run the share of the steps after which guidance changes little for this"
                " model and prompt: for guided of the Guidance Cutoff nodes."
            ),
            search_aliases=["cfg cutoff", "adaptive guidance", "speed up"],
            is_output_node=True,
            inputs=[
                Steps.Input("watched", tooltip="From Attention over Steps Report."),
            ],
            outputs=[
                io.Float.Output(display_name="guided", tooltip="For guided of the Guidance Cutoff nodes."),
                io.Image.Output(
                    display_name="curves", tooltip="The curves it was read from; the cutoff is dashed."
                ),
                io.String.Output(display_name="report", tooltip="The reasons, as text."),
            ],
        )

    @classmethod
    @names_itself
    def execute(cls, watched: Trace) -> io.NodeOutput:
        guided, picture, report = suggested(watched)
        return io.NodeOutput(guided, picture, report, ui=preview(cls, picture, report))


def _share(name: str, default: float, tooltip: str, **more: Any) -> io.Float.Input:
    return io.Float.Input(
        name, default=default, min=0.0, max=1.0, step=0.05, round=0.001, tooltip=tooltip, **more
    )


class SwapEndTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SwapEndTokens",
            display_name="Swap End Tokens",
            category=CATEGORY,
            description=(
                "Keeps the words of a prompt but replaces its end tokens, which carry most of what a prompt"
                " says, with another's: to see what does what, or to mix two prompts."
            ),
            search_aliases=["EOS", "endoftext", "padding tokens", "prompt mixing", "conditioning swap"],
            has_intermediate_output=True,
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder: SD1.x, SD2.x or SDXL."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a castle",
                    tooltip="The prompt whose words are kept.",
                ),
                io.String.Input(
                    "end_prompt",
                    multiline=True,
                    default="a tree",
                    tooltip="The prompt whose end tokens are used. Not needed for zero.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=SWAP,
                    tooltip="swap: use the other prompt's end tokens. blend: mix both. zero: set the end "
                    "tokens to zero.",
                ),
                _share(
                    "amount", 0.5, "For blend: 0 leaves the prompt as it is, 1 uses the other's end tokens."
                ),
                _share(
                    "start",
                    0.0,
                    "Applied from this share of sampling on; before it, the prompt is unchanged.",
                ),
                _share(
                    "end", 1.0, "Applied up to this share of sampling; after it, the prompt is unchanged."
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="For positive or negative."),
                io.String.Output(display_name="report", tooltip="What was replaced with what."),
            ],
        )

    @classmethod
    @names_itself
    def execute(
        cls, clip: Any, prompt: str, end_prompt: str, mode: str, amount: float, start: float, end: float
    ) -> io.NodeOutput:
        conditioning, report = swap_eos(clip, prompt, end_prompt, mode, amount, start, end)
        return io.NodeOutput(conditioning, report, ui=ui.PreviewText(report))

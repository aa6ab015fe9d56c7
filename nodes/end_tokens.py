"""Swap End Tokens."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..probe.end_tokens import MODES, SWAP, swap_end_tokens
from .types import CATEGORY


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
                "A prompt that keeps its words but gets the end tokens of another, which carry most of"
                " what a prompt says: to see what does what, or to mix two prompts."
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
                    tooltip="The prompt whose end tokens are taken. Not used with zero.",
                ),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=SWAP,
                    tooltip="swap: the other prompt's end tokens. blend: between both. zero: end tokens of"
                    " zeros.",
                ),
                _share("amount", 0.5, "With blend: 0 is the prompt as it was, 1 the other's end tokens."),
                _share("start", 0.0, "From this share of sampling on; before it the prompt is as it was."),
                _share("end", 1.0, "Up to this share of sampling; after it the prompt is as it was."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning", tooltip="For positive or negative."),
                io.String.Output(display_name="report", tooltip="What was replaced by what."),
            ],
        )

    @classmethod
    def execute(
        cls, clip: Any, prompt: str, end_prompt: str, mode: str, amount: float, start: float, end: float
    ) -> io.NodeOutput:
        conditioning, report = swap_end_tokens(clip, prompt, end_prompt, mode, amount, start, end)
        return io.NodeOutput(conditioning, report, ui=ui.PreviewText(report))

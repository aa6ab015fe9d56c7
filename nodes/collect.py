"""Collect Tickets."""

from __future__ import annotations

from typing import Any

from comfy.utils import ProgressBar
from comfy_api.latest import io, ui

from ..probe.collect import collect
from ..tickets.prompts import parse_categories
from .types import CATEGORY, Bank, seed_input, side_input


class CollectTickets(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CollectTickets",
            display_name="Collect Tickets",
            category=CATEGORY,
            description=(
                "Looks at many random noises with the model, once each and for a fraction of a step, and"
                " scores every small block of them by how much it leans towards each category."
            ),
            search_aliases=["lottery tickets", "winning tickets", "noise blocks", "ticket bank"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model the images will be made with (SD1.x, SD2.x, SDXL)."
                ),
                io.Clip.Input("clip", tooltip="The text encoder of that model."),
                io.String.Input(
                    "categories",
                    multiline=True,
                    default="castle\nlake\nsky",
                    tooltip="What you will want to place: one thing a line, as in a prompt. At most 50.",
                ),
                io.Int.Input(
                    "noises",
                    default=32,
                    min=1,
                    max=10000,
                    tooltip="How many noises to look at. More give a larger choice of tickets; the time grows"
                    " with noises x pairs of categories.",
                ),
                seed_input("The noises are those of this seed and the ones following it.", control=False),
                side_input(
                    "width",
                    "Width in pixels at which the noises are looked at. Take the model's usual size; the"
                    " tickets fit other sizes too.",
                ),
                side_input("height", "Height in pixels at which the noises are looked at."),
                io.String.Input(
                    "layer",
                    default="input 8",
                    tooltip="The cross-attention layer that is read, by ComfyUI's block names. The paper's"
                    ' choice for SD1.x is "input 8". A wrong name lists the layers of your model.',
                ),
                io.Int.Input(
                    "cells_per_block",
                    default=1,
                    min=1,
                    max=8,
                    advanced=True,
                    tooltip="Side of a block in cells of the layer's attention map. 1 as in the paper;"
                    " 2 makes blocks of twice the side, scored by the mean of their cells.",
                ),
            ],
            outputs=[Bank.Output(display_name="bank", tooltip="The scored blocks.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        categories: str,
        noises: int,
        seed: int,
        width: int,
        height: int,
        layer: str,
        cells_per_block: int = 1,
    ) -> io.NodeOutput:
        bar = ProgressBar(noises)
        bank = collect(
            model,
            clip,
            parse_categories(categories),
            noises,
            seed,
            width,
            height,
            layer,
            cells_per_block,
            progress=bar.update_absolute,
        )
        return io.NodeOutput(bank, ui=ui.PreviewText(bank.describe()))

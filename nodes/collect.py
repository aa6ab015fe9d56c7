"""Collect Tickets."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..probe.auto_layer import AUTO
from ..probe.collect import Wish
from ..probe.keep import collect_and_keep
from ..probe.preview import ChoiceBar, LiveMaps
from ..tickets.prompts import PAIRS, PLACE, SCHEMES, parse_categories
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
            has_intermediate_output=True,
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
                    default=AUTO,
                    tooltip="The cross-attention layer that is read. auto: a quick look at what each layer's"
                    " tickets do on your model comes first. Or a layer by ComfyUI's block names; several,"
                    " apart by commas, are averaged. The paper's choice for SD1.x is input 8. A wrong name"
                    " lists the layers of your model.",
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
                io.Combo.Input(
                    "scheme",
                    options=list(SCHEMES),
                    default=PAIRS,
                    advanced=True,
                    tooltip="The prompts each noise is looked at with. pairs: every two categories together,"
                    " as in the paper. singles: each alone. joint: all in one prompt, the fastest.",
                ),
                io.String.Input(
                    "template",
                    default=PLACE,
                    advanced=True,
                    tooltip='The prompt around the categories; {} is where they go: "a photo of {}".',
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    optional=True,
                    tooltip="Name of a bank in models/ticket_banks. What is collected is kept there, also"
                    " when you cancel, and the next run goes on from it. Empty: not saved.",
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
        cells_per_block: int,
        scheme: str,
        template: str,
        save_as: str = "",
    ) -> io.NodeOutput:
        names = parse_categories(categories)
        wish = Wish(names, noises, seed, width, height, layer, cells_per_block, scheme, template)
        bank, about = collect_and_keep(model, clip, wish, save_as, LiveMaps(noises), ChoiceBar())
        return io.NodeOutput(bank, ui=ui.PreviewText(about))

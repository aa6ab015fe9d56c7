"""Ticket Layer Report."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..probe.collect import latent_size
from ..probe.layer_report import measure, report
from ..probe.layers import LayerProbe
from ..probe.preview import ChoiceBar
from ..tickets.prompts import parse_categories
from .types import CATEGORY, seed_input, side_input


class TicketLayerReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TicketLayerReport",
            display_name="Ticket Layer Report",
            category=CATEGORY,
            description=(
                "Which cross-attention layer of your model makes the best tickets: how far each one's"
                " tickets reach, how much of a score moves with its block, and how well the first step's map"
                " tells where things end up. Recommends one."
            ),
            search_aliases=["winning tickets", "best layer", "cross-attention"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to look into (SD1.x, SD2.x, SDXL)."),
                io.Clip.Input("clip", tooltip="The text encoder of that model."),
                io.String.Input(
                    "categories",
                    multiline=True,
                    default="castle\nlake\nsky",
                    tooltip="What you will want to place, one thing a line. At most six pairs of them are"
                    " looked at.",
                ),
                io.Int.Input(
                    "noises",
                    default=16,
                    min=2,
                    max=1000,
                    tooltip="How many noises the tickets are taken from. More make the figures surer.",
                ),
                io.Int.Input(
                    "planted",
                    default=4,
                    min=2,
                    max=64,
                    tooltip="How many noises are built of each layer's tickets, for each pair. More make"
                    " reach surer.",
                ),
                seed_input("The noises are those of this seed and the ones following it.", control=False),
                side_input("width", "Width in pixels. Take the size at which you will collect."),
                side_input("height", "Height in pixels at which the layers are looked at."),
                io.Int.Input(
                    "images",
                    default=2,
                    min=0,
                    max=64,
                    tooltip="How many ordinary images, for each pair, the first step is compared with. 0"
                    " skips this: no agreement is shown, and the recommendation is the same.",
                ),
                io.Int.Input(
                    "steps",
                    default=10,
                    min=2,
                    max=1000,
                    tooltip="Sampling steps of these images.",
                    advanced=True,
                ),
                io.Float.Input(
                    "cfg",
                    default=7.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Guidance of these images.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.String.Output(display_name="layer", tooltip="The recommended one, for Collect Tickets."),
                io.String.Output(display_name="report", tooltip="The figures, as text."),
                io.Image.Output(
                    display_name="picture", tooltip="A row for each layer: reach, then its maps."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        categories: str,
        noises: int,
        planted: int,
        seed: int,
        width: int,
        height: int,
        images: int,
        steps: int,
        cfg: float,
    ) -> io.NodeOutput:
        shape = latent_size(model, width, height)
        names = parse_categories(categories)
        probe = LayerProbe(model, clip, names, noises, seed, shape, planted=planted)
        text, picture, layer = report(probe, measure(probe, images, steps, cfg, ChoiceBar()))
        shown = ui.PreviewImage(picture[None], cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        return io.NodeOutput(layer, text, picture[None], ui=shown)

"""Noise Report."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..probe.noise import compared
from ..tickets.noise_report import measure, picture, table
from .types import CATEGORY


class NoiseReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseReport",
            display_name="Noise Report",
            category=CATEGORY,
            description="Measures how far a NOISE is from the standard normal noise that samplers expect,"
            " beside plain noise of the same size.",
            search_aliases=["gaussian", "noise statistics", "noise quality", "kurtosis", "spectrum"],
            is_output_node=True,
            inputs=[
                io.Noise.Input("noise", tooltip="Any NOISE."),
                io.Latent.Input("latent_image", tooltip="The latent that it is for: its size and batch."),
                io.Int.Input(
                    "block",
                    default=4,
                    min=2,
                    max=64,
                    tooltip="Side of the blocks the noise is made of, in latent pixels: neighbours are"
                    " compared inside of them and across their borders.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The figures, as text."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="Histogram, quantiles against the normal ones, and power from low to high"
                    " frequencies. The noise red, plain noise blue.",
                ),
            ],
        )

    @classmethod
    def execute(cls, noise: Any, latent_image: dict[str, Any], block: int) -> io.NodeOutput:
        ours, plain = compared(noise, latent_image)
        figures = measure(ours, block), measure(plain, block)
        image = picture(ours, plain, *figures)[None]
        text = table(*figures)
        shown = ui.PreviewImage(image, cls=cls).as_dict() | ui.PreviewText(text).as_dict()
        return io.NodeOutput(text, image, ui=shown)

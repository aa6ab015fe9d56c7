"""Redraw Noise in Region."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..probe.build.redraw import pixel_side, redraw_noise
from .inputs import CATEGORY, Array, names_itself, preview, seed_input
from .regions import Regions, are_boxes, read_places

LEFT_THIRD = "left third: 0.0 0.0 0.33 1.0"


class RedrawNoiseInRegion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        where = io.String.Input(
            "region",
            multiline=True,
            default=LEFT_THIRD,
            tooltip="Where to redraw. One place per line: any name, colon, then left, top, right and"
            " bottom as fractions of the image. Or connect a mask, Ticket Regions or boxes.",
        )
        return io.Schema(
            node_id="RedrawNoiseInRegion",
            display_name="Redraw Noise in Region",
            category=CATEGORY,
            description="Redraws part of the noise and keeps the rest, to try again what went wrong there: "
            "the picture stays closer to what it was than with another seed.",
            search_aliases=[
                "re-paint",
                "try again",
                "variation",
                "seed variation",
                "inpaint",
                "regional noise",
            ],
            has_intermediate_output=True,
            inputs=[
                io.Noise.Input(
                    "noise", tooltip="The noise of the picture: RandomNoise with its seed, or any other."
                ),
                io.Latent.Input(
                    "latent_image", tooltip="The latent the noise is for; sets its size and batch."
                ),
                io.MultiType.Input(where, [io.Mask, Regions, io.BoundingBox, Array]),
                seed_input("Seed of the new noise. The connected noise has its own."),
                io.Int.Input(
                    "edge",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Width in latent pixels (8 pixels each with most models), inside the region's "
                    "border, over which old and new noise are blended. Outside nothing changes.",
                ),
                io.Noise.Input(
                    "fill",
                    optional=True,
                    tooltip="Noise to use there instead of the seed's plain noise: Ticket Latent from "
                    "Regions, Arrange Noise by Regions.",
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="For the noise latent, and for boxes in pixels."
                ),
            ],
            outputs=[
                io.Noise.Output(
                    display_name="noise",
                    tooltip="For Guidance Cutoff KSampler and SamplerCustomAdvanced; or for Pick Best Noise,"
                    " which looks at many seeds of the new part.",
                ),
                io.Latent.Output(
                    display_name="noise latent",
                    tooltip="The noise as a latent, for KSampler (Advanced) with add_noise disabled. Needs"
                    " model.",
                ),
                io.Image.Output(
                    display_name="picture", tooltip="The noise before and after, and where it changed."
                ),
                io.String.Output(display_name="report", tooltip="How much is new, as text."),
            ],
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        noise: Any,
        latent_image: dict[str, Any],
        region: Any,
        seed: int,
        edge: int,
        fill: Any = None,
        model: Any = None,
    ) -> io.NodeOutput:
        side, known = pixel_side(latent_image, model)
        height, width = (side * count for count in latent_image["samples"].shape[-2:])
        places = read_places(region, width, height)
        found = redraw_noise(noise, latent_image, places, seed, edge, fill, model)
        report = found.report
        if are_boxes(region) and not known:
            report += (
                f"\nThe boxes were read as pixels of an image of {width}x{height}, {side} for each latent"
                " pixel: connect model if yours differs."
            )
        ui = preview(cls, found.picture, report)
        return io.NodeOutput(found.noise, found.latent, found.picture, report, ui=ui)

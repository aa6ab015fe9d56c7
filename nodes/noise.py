"""Noise without a bank: Arrange Noise by Regions and Pick Best Noise; Noise Report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..probe.build.build import PlaceRequest, arrange_noise, pick_noise
from ..probe.layers.choose import AUTO
from ..probe.model.architecture import usual_size
from ..probe.noise.forms import compared
from ..show.noise import picture, table
from ..tickets.gaussian import measure
from ..tickets.layout.regions import OVERLAPS, SMALLER
from .inputs import (
    CATEGORY,
    Chosen,
    advanced_input,
    batch_input,
    candidates_input,
    complete,
    look_input,
    names_itself,
    noise_outputs,
    noise_result,
    preview,
    read_advanced,
    read_look,
    rounds_input,
    seed_input,
)
from .regions import Placed, more_regions_input, read_regions, regions_input, size_input


def _shared(seed_tooltip: str) -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model that will make the image. It is not changed."),
        io.Clip.Input("clip", tooltip="The model's text encoder."),
        regions_input(),
        size_input("the model's usual size is used: 512x512 for SD1.x and SD2.x, otherwise 1024x1024"),
        seed_input(seed_tooltip),
        batch_input(),
        io.String.Input(
            "layer",
            default=AUTO,
            tooltip="The cross-attention layer to read, as in Collect Tickets. auto: found by trying on "
            "your model, once.",
        ),
    ]


def _read_regions(model: Any, regions: Any, more: Any, size: Chosen | None) -> Placed:
    usual = usual_size(model)
    placed = read_regions(regions, more, size, usual, "usual for this model")
    if 2 * placed.width * placed.height > usual[0] * usual[1]:
        return placed
    small = f"{placed.width}x{placed.height} is small for this model: most of its kind draw at about"
    return replace(placed, note="\n".join(filter(None, [placed.note, f"{small} {usual[0]}x{usual[1]}."])))


def _overlap_input() -> io.Combo.Input:
    return io.Combo.Input(
        "overlap",
        options=list(OVERLAPS),
        default=SMALLER,
        tooltip="Which region a cell belongs to where several overlap.",
    )


def _arrange_advanced() -> list[io.WidgetInput]:
    cells = io.Int.Input(
        "cells_per_block",
        default=0,
        min=0,
        max=8,
        tooltip="Side of a block in cells of the attention map; larger blocks move in larger pieces. 0: 1 "
        "on UNets, blocks of 32 pixels on transformers, usually 2.",
    )
    return [cells, _overlap_input()]


class ArrangeNoiseByRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ArrangeNoiseByRegions",
            display_name="Arrange Noise by Regions",
            category=CATEGORY,
            description="Rearranges the blocks of a seed's own noise so that those that lean towards a "
            "category lie in its region. Needs no ticket bank, and the noise stays exactly "
            "Gaussian.",
            search_aliases=["block swap", "layout", "regional noise", "initial noise", "composition"],
            has_intermediate_output=True,
            inputs=[
                *_shared("Seed of the noise to arrange. Each image of a batch has its own."),
                rounds_input(
                    3,
                    1,
                    "How often the noise is looked at and its blocks are exchanged. An exchange that does "
                    "not help is undone.",
                ),
                candidates_input(
                    8, "How many seeds, derived from this one, to arrange; the one that fits best is used."
                ),
                advanced_input(_arrange_advanced()),
                look_input(),
                more_regions_input(),
            ],
            outputs=noise_outputs(),
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        model: Any,
        clip: Any,
        regions: Any,
        seed: int,
        batch_size: int,
        layer: str,
        rounds: int,
        candidates: int,
        size: Chosen | None = None,
        advanced: Chosen | None = None,
        more_regions: Any = None,
        look: Chosen | None = None,
    ) -> io.NodeOutput:
        placed = _read_regions(model, regions, more_regions, size)
        rare = read_advanced(advanced, _arrange_advanced())
        request = PlaceRequest(
            placed.regions,
            placed.width,
            placed.height,
            seed,
            batch_size,
            candidates,
            rounds,
            layer,
            rare["cells_per_block"],
            rare["overlap"],
            read_look(look),
        )
        return noise_result(arrange_noise(model, clip, request), cls, placed.note)

    @classmethod
    def validate_inputs(
        cls, regions: Any = None, size: Any = None, advanced: Any = None, look: Any = None
    ) -> bool | str:
        return complete(size=size, advanced=advanced)


class PickBestNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PickBestNoise",
            display_name="Pick Best Noise",
            category=CATEGORY,
            description="Looks at the noise of many seeds, for a fraction of a step each, and picks the one"
            " that fits the regions best. The noise itself is not changed.",
            search_aliases=["seed hunting", "seed search", "best seed", "layout", "initial noise"],
            has_intermediate_output=True,
            inputs=[
                *_shared("The first seed; the others are derived from it. A connected noise has its own."),
                candidates_input(32, "How many seeds to look at for each image."),
                advanced_input([_overlap_input()]),
                look_input(),
                io.Noise.Input(
                    "noise",
                    optional=True,
                    tooltip="Any NOISE that depends on a seed, instead of plain noise.",
                ),
                more_regions_input(),
            ],
            outputs=noise_outputs(),
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        model: Any,
        clip: Any,
        regions: Any,
        seed: int,
        batch_size: int,
        layer: str,
        candidates: int,
        size: Chosen | None = None,
        advanced: Chosen | None = None,
        noise: Any = None,
        more_regions: Any = None,
        look: Chosen | None = None,
    ) -> io.NodeOutput:
        placed = _read_regions(model, regions, more_regions, size)
        overlap = read_advanced(advanced, [_overlap_input()])["overlap"]
        sides = placed.width, placed.height
        request = PlaceRequest(
            placed.regions,
            *sides,
            seed,
            batch_size,
            candidates,
            0,
            layer,
            overlap=overlap,
            after=read_look(look),
        )
        return noise_result(pick_noise(model, clip, request, noise), cls, placed.note)

    @classmethod
    def validate_inputs(
        cls, regions: Any = None, size: Any = None, advanced: Any = None, look: Any = None
    ) -> bool | str:
        return complete(size=size, advanced=advanced)


class NoiseReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="NoiseReport",
            display_name="Noise Report",
            category=CATEGORY,
            description="Measures how far a NOISE is from the standard normal noise that samplers expect, "
            "next to plain noise of the same size.",
            search_aliases=["gaussian", "noise statistics", "noise quality", "kurtosis", "spectrum"],
            is_output_node=True,
            inputs=[
                io.Noise.Input("noise", tooltip="Any NOISE."),
                io.Latent.Input(
                    "latent_image", tooltip="The latent the noise is for; sets its size and batch."
                ),
                io.Int.Input(
                    "block",
                    default=4,
                    min=2,
                    max=64,
                    tooltip="Side, in latent pixels, of the blocks the noise is made of. Neighbours are "
                    "compared inside them and across their borders.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The figures, as text."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="Histogram, quantiles against the normal ones, and power from low to high "
                    "frequencies. This noise is red, plain noise blue.",
                ),
            ],
        )

    @classmethod
    @names_itself
    def execute(cls, noise: Any, latent_image: dict[str, Any], block: int) -> io.NodeOutput:
        ours, plain = compared(noise, latent_image)
        figures = measure(ours, block), measure(plain, block)
        image = picture(ours, plain, *figures)[None]
        text = table(*figures)
        return io.NodeOutput(text, image, ui=preview(cls, image, text))

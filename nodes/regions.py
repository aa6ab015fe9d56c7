"""Regions: drawn, from masks and from boxes; and what nodes that take regions share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..tickets.layout.parse import named, parse_boxes, parse_regions, require_regions
from ..tickets.layout.regions import AnyRegion, MaskRegion, RegionError, SizedRegions, categories_of
from .inputs import CATEGORY, CUSTOM, Array, Chosen, chosen, names_itself, side_input

Regions = io.Custom("TICKET_REGIONS")
EXAMPLE = "castle: 0.62 0.18 1.0 0.69\nlake: 0.0 0.56 1.0 1.0\nsky: 0.0 0.0 1.0 0.56"
OF_REGIONS = "of the regions"
EACH, PER_IMAGE = BATCHES = ("one for each image", "one region for each")


def regions_input() -> io.Input:
    text = io.String.Input(
        "regions",
        multiline=True,
        default=EXAMPLE,
        tooltip="One region per line: category, colon, then left, top, right and bottom as fractions of the"
        " image. Or connect Ticket Regions, where you draw them, other regions, or boxes with "
        "labels.",
    )
    return io.MultiType.Input(text, [Regions, io.BoundingBox, Array])


def more_regions_input() -> io.Input:
    return io.MultiType.Input(
        "more_regions",
        [Regions, io.BoundingBox, Array],
        optional=True,
        tooltip="More regions: from Ticket Region from Mask, boxes with labels (detectors), or the elements"
        " of Create Bounding Boxes.",
    )


def size_input(otherwise: str) -> io.DynamicCombo.Input:
    """otherwise: which size is taken when the regions carry none."""
    sides = [
        side_input("width", "Width of the image in pixels."),
        side_input("height", "Height of the image in pixels."),
    ]
    return io.DynamicCombo.Input(
        "size",
        options=[io.DynamicCombo.Option(OF_REGIONS, []), io.DynamicCombo.Option(CUSTOM, sides)],
        tooltip="Size of the image. of the regions: as set in Ticket Regions or Ticket Regions from Boxes;"
        f" text and masks carry no size, so {otherwise}. custom: width and height.",
    )


@dataclass(frozen=True)
class Placed:
    """Regions of both inputs of a node, the image's size in pixels, and what to say of the size."""

    regions: tuple[AnyRegion, ...]
    width: int
    height: int
    note: str = ""


def read_regions(
    regions: Any, more: Any, size: Chosen | None, otherwise: tuple[int, int], whose: str
) -> Placed:
    """Whatever the regions are given as; RegionError when there are none.

    otherwise: width and height when neither the regions nor the user say any; `whose` names it.
    """
    given = [g for g in (regions, more) if g is not None]
    sides, note = read_size(given, size, otherwise, whose)
    found = [region for g in given for region in _regions_of(g, *sides)]
    require_regions(found, all(are_boxes(g) for g in given))
    return Placed(tuple(found), *sides, note)


def read_size(
    given: Sequence[Any], size: Chosen | None, otherwise: tuple[int, int], whose: str
) -> tuple[tuple[int, int], str]:
    """Width and height in pixels of the image, and what to say of them; see `read_regions`."""
    asked = chosen("size", size, (OF_REGIONS, CUSTOM))
    if asked["size"] == CUSTOM:
        return (asked["width"], asked["height"]), ""
    for g in given:
        if isinstance(g, SizedRegions) and g.size:
            return g.size, ""
    return otherwise, f"Image size: {otherwise[0]}x{otherwise[1]}, {whose}, since the regions carry none."


def read_places(given: Any, width: int, height: int) -> tuple[AnyRegion, ...]:
    """Where something is to be done, whatever is there; a mask, too."""
    if isinstance(given, torch.Tensor):
        masks = _masks_of(given)
        if not bool((masks > 0).any()):
            raise RegionError("region is an empty mask: paint where to redraw.")
        return (MaskRegion("mask", masks, may_be_empty=True),)
    found = tuple(_regions_of(given, width, height, "box"))
    require_regions(found, are_boxes(given))
    return found


def _masks_of(mask: torch.Tensor) -> torch.Tensor:
    """[images, h, w] of a MASK, which packs also give as [h, w] and as [images, 1, h, w]."""
    return mask.reshape(-1, *mask.shape[-2:])


def are_boxes(given: Any) -> bool:
    """Whether places are given as boxes of a detector or elements."""
    return not isinstance(given, (str, SizedRegions, torch.Tensor))


def _regions_of(given: Any, width: int, height: int, unnamed: str = "") -> Sequence[AnyRegion]:
    """unnamed: category of boxes without a label; empty: these are refused."""
    if isinstance(given, str):
        return parse_regions(given)
    if isinstance(given, SizedRegions):
        return given.regions
    return parse_boxes(given, unnamed, width, height)


class TicketRegionFromMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TicketRegionFromMask",
            display_name="Ticket Region from Mask",
            category=CATEGORY,
            description="Turns a mask into a region and names what to place in it. Chain several of them "
            "through regions.",
            search_aliases=["mask to region", "inpaint mask", "paint", "segment"],
            inputs=[
                io.Mask.Input("mask", tooltip="Any size; it is stretched over the whole image."),
                io.String.Input("category", default="castle", tooltip="What to place here."),
                io.Combo.Input(
                    "batch",
                    options=list(BATCHES),
                    default=EACH,
                    tooltip="What several masks in one batch mean: one for each image of the batch, or a "
                    "region each.",
                ),
                Regions.Input("regions", optional=True, tooltip="Regions that come before this one."),
            ],
            outputs=[Regions.Output(display_name="regions", tooltip="All regions so far.")],
        )

    @classmethod
    @names_itself
    def execute(
        cls, mask: torch.Tensor, category: str, batch: str, regions: SizedRegions | None = None
    ) -> io.NodeOutput:
        masks = _masks_of(mask)
        parts = [masks] if batch == EACH else list(masks.split(1))
        mine = SizedRegions(tuple(MaskRegion(named(category, "The mask"), part) for part in parts))
        return io.NodeOutput((regions or SizedRegions()) + mine)


class TicketRegionsFromBoxes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TicketRegionsFromBoxes",
            display_name="Ticket Regions from Boxes",
            category=CATEGORY,
            description="Turns bounding boxes, from a detector or from Create Bounding Boxes, into regions "
            "for Ticket Latent from Regions.",
            search_aliases=["bbox to region", "bounding boxes", "detections", "elements"],
            has_intermediate_output=True,
            inputs=[
                io.MultiType.Input(
                    "boxes",
                    [io.BoundingBox, Array],
                    tooltip="Boxes in pixels, or elements. Of several lists, one for each image, the first "
                    "is used.",
                ),
                io.String.Input("category", default="", tooltip="What to place in boxes without a label."),
                side_input("width", "Width of the image that the boxes were made for, in pixels."),
                side_input("height", "Height of the image that the boxes were made for, in pixels."),
                Regions.Input("regions", optional=True, tooltip="Regions that come before these."),
            ],
            outputs=[
                Regions.Output(display_name="regions", tooltip="All regions so far."),
            ],
        )

    @classmethod
    @names_itself
    def execute(
        cls, boxes: Any, category: str, width: int, height: int, regions: SizedRegions | None = None
    ) -> io.NodeOutput:
        mine = parse_boxes(boxes, category, width, height)
        require_regions(mine, True)
        lines = [f"{r.category}: {r.x0:.4g} {r.y0:.4g} {r.x1:.4g} {r.y1:.4g}" for r in mine]
        found = (regions or SizedRegions()) + SizedRegions(tuple(mine), (width, height))
        return io.NodeOutput(found, ui=ui.PreviewText("\n".join(lines)))


WIDGET = "TICKET_REGIONS_EDITOR"
EMPTY = '{"regions": []}'


FIRST_SIZE = " Regions that come before these keep their size."


class TicketRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TicketRegions",
            display_name="Ticket Regions",
            category=CATEGORY,
            description="Draw a box for each thing you want, and name it.",
            search_aliases=["draw regions", "region editor", "bounding boxes", "layout", "area composition"],
            has_intermediate_output=True,
            inputs=[
                side_input("width", "Width of the image in pixels." + FIRST_SIZE),
                side_input("height", "Height of the image in pixels." + FIRST_SIZE),
                io.String.Input(
                    "layout",
                    default=EMPTY,
                    tooltip="Drag on the empty area to draw a box. As text: JSON, or lines such as castle: "
                    "0.62 0.18 1.0 0.69.",
                    extra_dict={"widgetType": WIDGET},
                ),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="A picture to draw on. It is only shown and does not affect the result.",
                ),
                Regions.Input("regions", optional=True, tooltip="Regions that come before these."),
            ],
            outputs=[
                Regions.Output(display_name="regions", tooltip="All regions so far."),
                io.String.Output(
                    display_name="categories",
                    tooltip="The categories' names, one per line, for Collect Tickets.",
                ),
                io.Int.Output(display_name="width", tooltip="Width of the image in pixels."),
                io.Int.Output(display_name="height", tooltip="Height of the image in pixels."),
            ],
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        width: int,
        height: int,
        layout: str,
        background: torch.Tensor | None = None,
        regions: SizedRegions | None = None,
        bank: Any = None,
    ) -> io.NodeOutput:
        """bank: of prompts of earlier versions, which offered its categories here; not used."""
        mine = SizedRegions(tuple(parse_regions(layout)), (width, height))
        found = (regions or SizedRegions()) + mine
        require_regions(found.regions)
        width, height = found.size or (width, height)
        for_page: dict[str, Any] = {"width": width, "height": height}
        if background is not None:
            picture = background[:1]
            if picture.shape[-1] not in (3, 4):
                picture = picture[..., :1].expand(-1, -1, -1, 3)
            for_page["background"] = ui.PreviewImage(picture, cls=cls).values[0]
        categories = "\n".join(categories_of(found.regions))
        return io.NodeOutput(found, categories, width, height, ui={"ticket_regions": [for_page]})

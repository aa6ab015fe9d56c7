"""Ticket Regions: boxes drawn in the node; the drawing itself is web/regions/."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..tickets.bank import TicketBank
from ..tickets.region_forms import parse_regions, require_regions
from ..tickets.regions import categories_of
from .regions import Regions
from .types import CATEGORY, Bank, side_input

WIDGET = "TICKET_REGIONS_EDITOR"
EMPTY = '{"regions": []}'
PIXELS = 8


class TicketRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TicketRegions",
            display_name="Ticket Regions",
            category=CATEGORY,
            description="Draw where things shall be: a box for each, with its category.",
            search_aliases=["draw regions", "region editor", "bounding boxes", "layout", "area composition"],
            has_intermediate_output=True,
            inputs=[
                side_input("width", "Width of the image in pixels."),
                side_input("height", "Height of the image in pixels."),
                io.String.Input(
                    "layout",
                    default=EMPTY,
                    tooltip="Drag on the empty area to draw a box. As text it is JSON, or lines like"
                    " castle: 0.62 0.18 1.0 0.69.",
                    extra_dict={"widgetType": WIDGET},
                ),
                Bank.Input(
                    "bank", optional=True, tooltip="Its categories and the size of its cells are offered."
                ),
                io.Image.Input(
                    "background", optional=True, tooltip="A picture to draw on; only shown, not used."
                ),
                Regions.Input("regions", optional=True, tooltip="Regions that come before these."),
            ],
            outputs=[
                Regions.Output(display_name="regions", tooltip="All regions so far."),
                io.String.Output(
                    display_name="categories", tooltip="Their names, one a line, for Collect Tickets."
                ),
                io.Int.Output(display_name="width", tooltip="The width above."),
                io.Int.Output(display_name="height", tooltip="The height above."),
            ],
        )

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        layout: str,
        bank: TicketBank | None = None,
        background: torch.Tensor | None = None,
        regions: Any = None,
    ) -> io.NodeOutput:
        found = (*(regions or ()), *parse_regions(layout))
        require_regions(found)
        told: dict[str, Any] = {"width": width, "height": height}
        if bank is not None:
            told |= {"categories": list(bank.categories), "cell": bank.recipe.block * PIXELS}
        if background is not None:
            told["background"] = ui.PreviewImage(background[:1], cls=cls).values[0]
        categories = "\n".join(categories_of(found))
        return io.NodeOutput(found, categories, width, height, ui={"ticket_regions": [told]})

"""Tickets: Collect Tickets, Ticket Layer Report, Ticket Latent from Regions."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..probe import files
from ..probe.build.build import TicketRequest, build_tickets
from ..probe.collect.collect import CollectRequest
from ..probe.collect.keep import collect_and_keep
from ..probe.layers.choose import AUTO
from ..probe.layers.probe import LayerProbe, measure, report
from ..probe.preview import ChoiceBar, LiveMaps
from ..tickets.bank.bank import MissingCategory, TicketBank
from ..tickets.grid import latent_side
from ..tickets.layout.build import BACKGROUNDS, LOSERS, Layout
from ..tickets.layout.calibrate import CALIBRATIONS, STANDARDIZE
from ..tickets.layout.regions import OVERLAPS, SMALLER
from ..tickets.layout.select import RELAX, SHORTAGES, Rank, Thresholds
from ..tickets.prompts import PAIRS, PLACE, SCHEMES, parse_categories
from .inputs import (
    CATEGORY,
    Bank,
    Chosen,
    advanced_input,
    batch_input,
    candidates_input,
    chosen,
    complete,
    look_input,
    names_itself,
    noise_outputs,
    noise_result,
    preview,
    read_advanced,
    read_look,
    read_sides,
    rounds_input,
    seed_input,
    usual_side_input,
)
from .regions import more_regions_input, read_regions, regions_input, size_input


def _collect_advanced() -> list[io.WidgetInput]:
    return [
        io.Int.Input(
            "cells_per_block",
            default=0,
            min=0,
            max=8,
            tooltip="Side of a block in cells of the layer's attention map; its score is their mean. 0: 1 "
            "on UNets, as in the paper, and blocks of 32 pixels on transformers, usually 2.",
        ),
        io.Combo.Input(
            "scheme",
            options=list(SCHEMES),
            default=PAIRS,
            tooltip="The prompts each noise is looked at with. pairs: every two categories together,"
            " as in the paper. singles: each alone. joint: all in one prompt, the fastest.",
        ),
        io.String.Input(
            "template",
            default=PLACE,
            tooltip='The prompt around the categories; {} marks where they go: "a photo of {}".',
        ),
    ]


class CollectTickets(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="CollectTickets",
            display_name="Collect Tickets",
            category=CATEGORY,
            description=(
                "Shows the model many random noises, each for a fraction of a step, and scores every small "
                "block by how strongly it leans towards each category."
            ),
            search_aliases=["lottery tickets", "winning tickets", "noise blocks", "ticket bank"],
            has_intermediate_output=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model the images will be made with: SD1.x, SD2.x, SDXL, or a transformer"
                    " such as SD3, Flux or Qwen-Image.",
                ),
                io.Clip.Input("clip", tooltip="The text encoder of that model."),
                io.String.Input(
                    "categories",
                    multiline=True,
                    default="castle\nlake\nsky",
                    tooltip="What you want to place, one per line, as you would write it in a prompt."
                    " At most 50.",
                ),
                io.Int.Input(
                    "noises",
                    default=32,
                    min=1,
                    max=10000,
                    tooltip="How many noises to look at. More give a larger choice of tickets; time grows "
                    "with noises x pairs of categories.",
                ),
                seed_input("Seed of the first noise; the others have the seeds that follow.", control=False),
                usual_side_input(
                    "width",
                    "Width in pixels at which the noises are looked at. 0: usual for the model. The tickets"
                    " fit other sizes, too.",
                ),
                usual_side_input(
                    "height", "Height in pixels at which the noises are looked at. 0: usual for the model."
                ),
                io.String.Input(
                    "layer",
                    default=AUTO,
                    tooltip="The cross-attention layer to read. auto: the layers that qualify are tried on "
                    "your model first, once. Or name a layer by ComfyUI's block names; several, "
                    "comma-separated, are averaged. The paper uses input 8 on SD1.x. A wrong name "
                    "lists the layers of your model.",
                ),
                advanced_input(_collect_advanced()),
                io.String.Input(
                    "save_as",
                    default="",
                    optional=True,
                    tooltip="Name of a bank in models/ticket_banks. Everything collected is saved there, "
                    "even if you cancel, and the next run resumes from it. Empty: nothing is saved.",
                ),
            ],
            outputs=[Bank.Output(display_name="bank", tooltip="The scored blocks.")],
        )

    @classmethod
    @names_itself
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
        advanced: Chosen | None = None,
        save_as: str = "",
    ) -> io.NodeOutput:
        names = parse_categories(categories)
        rare = read_advanced(advanced, _collect_advanced())
        prompts = rare["scheme"], rare["template"]
        sides = read_sides(model, width, height)
        request = CollectRequest(names, noises, seed, *sides, layer, rare["cells_per_block"], *prompts)
        bank, about = collect_and_keep(model, clip, request, save_as, LiveMaps(noises), ChoiceBar())
        # The layer, for scripts/trial.py.
        shown = ui.PreviewText(about).as_dict() | {"layer": [bank.recipe.layer]}
        return io.NodeOutput(bank, ui=shown)

    @classmethod
    def validate_inputs(cls, layer: str = "", advanced: Any = None) -> bool | str:
        return complete(advanced=advanced)


def _report_advanced() -> list[io.WidgetInput]:
    return [
        io.Int.Input("steps", default=10, min=2, max=1000, tooltip="Sampling steps of these images."),
        io.Float.Input(
            "cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="CFG scale of these images."
        ),
    ]


class TicketLayerReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TicketLayerReport",
            display_name="Ticket Layer Report",
            category=CATEGORY,
            description=(
                "Finds the cross-attention layer of your model that makes the best tickets: what effect "
                "each one's tickets have, how much of a score moves with its block, and how well the first "
                "step's map shows where things end up. Recommends one."
            ),
            search_aliases=["winning tickets", "best layer", "cross-attention"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model to examine: SD1.x, SD2.x, SDXL, or a transformer such as SD3, Flux "
                    "or Qwen-Image.",
                ),
                io.Clip.Input("clip", tooltip="The text encoder of that model."),
                io.String.Input(
                    "categories",
                    multiline=True,
                    default="castle\nlake\nsky",
                    tooltip="What you want to place, one per line. At most six pairs of them are compared.",
                ),
                io.Int.Input(
                    "noises",
                    default=16,
                    min=2,
                    max=1000,
                    tooltip="How many noises the tickets are taken from. More make the figures more certain.",
                ),
                io.Int.Input(
                    "planted",
                    display_name="transplanted",
                    default=4,
                    min=2,
                    max=64,
                    tooltip="How many noises are built from each layer's tickets, for each pair. More make "
                    "the effect more certain.",
                ),
                seed_input("Seed of the first noise; the others have the seeds that follow.", control=False),
                usual_side_input(
                    "width",
                    "Width in pixels. Use the size at which you will collect. 0: usual for the model.",
                ),
                usual_side_input(
                    "height", "Height in pixels at which the layers are looked at. 0: usual for the model."
                ),
                io.Int.Input(
                    "images",
                    default=2,
                    min=0,
                    max=64,
                    tooltip="How many ordinary images, for each pair, the first step is compared with. 0"
                    " skips this, and no layer's tickets are tried in images.",
                ),
                advanced_input(_report_advanced()),
            ],
            outputs=[
                io.String.Output(display_name="layer", tooltip="The recommended layer, for Collect Tickets."),
                io.String.Output(display_name="report", tooltip="The figures, as text."),
                io.Image.Output(display_name="picture", tooltip="One row per layer: effect, then its maps."),
            ],
        )

    @classmethod
    @names_itself
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
        advanced: Chosen | None = None,
    ) -> io.NodeOutput:
        rare = read_advanced(advanced, _report_advanced())
        names = parse_categories(categories)
        sides = read_sides(model, width, height)
        probe = LayerProbe(model, clip, names, noises, seed, *sides, transplanted=planted)
        text, picture, layer = report(probe, measure(probe, images, rare["steps"], rare["cfg"], ChoiceBar()))
        return io.NodeOutput(layer, text, picture[None], ui=preview(cls, picture[None], text))

    @classmethod
    def validate_inputs(cls, categories: str = "", advanced: Any = None) -> bool | str:
        return complete(advanced=advanced)


RANK, THRESHOLD = SELECTIONS = ("rank", "threshold")
SINGLE = "; used instead when all regions are of one category."


def _share(name: str, label: str, default: float, tooltip: str) -> io.Float.Input:
    settings = {"min": 0.0, "max": 1.0, "step": 0.01, "tooltip": tooltip}
    return io.Float.Input(name, display_name=label, default=default, **settings)


def _percent(name: str, label: str, share: float, tooltip: str) -> io.Float.Input:
    settings = {"min": 0.01, "max": 100.0, "step": 0.1, "round": 0.001, "tooltip": tooltip}
    return io.Float.Input(name, display_name=label, default=share * 100, **settings)


def _selection_input() -> io.DynamicCombo.Input:
    paper = Thresholds()
    best = _percent("best", "best (%)", Rank().best, "Share of the bank that may win, for each category.")
    limits = [
        _share("t_pos", "own score above", paper.t_pos, "The paper's t_pos."),
        _share("t_neg", "other scores below", paper.t_neg, "The paper's t_neg."),
        _share("t_bg", "background below", paper.t_bg, "The paper's t_bg."),
        _share("t_pos_single", "own score above, alone", paper.t_pos_single, "Like own score above" + SINGLE),
        _share("t_bg_single", "background below, alone", paper.t_bg_single, "Like background below" + SINGLE),
    ]
    return io.DynamicCombo.Input(
        "selection",
        options=[io.DynamicCombo.Option(RANK, [best]), io.DynamicCombo.Option(THRESHOLD, limits)],
        tooltip="rank: the tickets that lean most towards a category and least towards the others."
        " threshold: the paper's limits on scores.",
    )


def _build_advanced() -> list[io.WidgetInput]:
    rank = Rank()
    return [
        _percent(
            "best_background",
            "best for background (%)",
            rank.best_background,
            "Share of the bank that may fill the background. For selection: rank.",
        ),
        _share(
            "temperature",
            "temperature",
            rank.temperature,
            "0 uses the very best tickets in every image, 1 any of the best share. For selection: rank.",
        ),
        io.Combo.Input(
            "shortage",
            options=list(SHORTAGES),
            default=RELAX,
            tooltip="When too few tickets win. relax: use the closest ones and say so. repeat: use tickets "
            "more than once (the paper). error: stop.",
        ),
        io.Combo.Input(
            "background",
            options=list(BACKGROUNDS),
            default=LOSERS,
            tooltip="losers: blocks that lean towards none of the categories. keep: the seed's plain noise.",
        ),
        io.Boolean.Input(
            "soft_edges",
            default=False,
            tooltip="Grey parts of masks blend tickets and plain noise. Boxes have no soft edges.",
        ),
        io.Combo.Input(
            "overlap",
            options=list(OVERLAPS),
            default=SMALLER,
            tooltip="Which region a cell belongs to where several overlap. smaller: as in the paper.",
        ),
        io.Combo.Input(
            "calibration",
            options=list(CALIBRATIONS),
            default=STANDARDIZE,
            tooltip="Noise made of selected blocks is not quite standard normal. standardize: mean 0 and "
            "variance 1 in each channel. none: leave it (the paper). gaussianize: exactly normal "
            "values in each channel, in the same order.",
        ),
        rounds_input(
            3,
            0,
            "How often the cells that fit worst get other tickets and are looked at again. Needs model and "
            "clip.",
        ),
    ]


class TicketLatentFromRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TicketLatentFromRegions",
            display_name="Ticket Latent from Regions",
            category=CATEGORY,
            description=(
                "Builds initial noise that follows your layout: winning tickets of each category inside its"
                " region, losing tickets everywhere else. Sampling itself is untouched."
            ),
            search_aliases=[
                "layout",
                "regional noise",
                "initial noise",
                "winning tickets",
                "boxes",
                "composition",
            ],
            has_intermediate_output=True,
            inputs=[
                Bank.Input(
                    "bank", tooltip="Tickets for every category in the regions, collected on the same model."
                ),
                regions_input(),
                size_input("the bank's is used"),
                seed_input("Which of the fitting tickets are used. Each image of a batch has its own."),
                batch_input(),
                _selection_input(),
                _share(
                    "strength",
                    "strength",
                    1.0,
                    "1: tickets only. 0: the seed's plain noise, exactly as stock ComfyUI draws it. Values "
                    "in between blend the two and keep the variance.",
                ),
                candidates_input(
                    8,
                    "How many arrangements to look at for each image; the one that fits best is used. Needs"
                    " model and clip; each costs a fraction of a step.",
                ),
                advanced_input(_build_advanced()),
                look_input(),
                more_regions_input(),
                io.Model.Input(
                    "model", optional=True, tooltip="To look at the noise before sampling. Needs clip, too."
                ),
                io.Clip.Input("clip", optional=True, tooltip="To look at the noise before sampling."),
            ],
            outputs=noise_outputs(),
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        bank: TicketBank,
        regions: Any,
        seed: int,
        batch_size: int,
        strength: float,
        candidates: int,
        size: Chosen | None = None,
        selection: Chosen | None = None,
        advanced: Chosen | None = None,
        more_regions: Any = None,
        model: Any = None,
        clip: Any = None,
        look: Chosen | None = None,
    ) -> io.NodeOutput:
        rule = chosen("selection", selection, SELECTIONS)
        rare = read_advanced(advanced, _build_advanced())
        placed = read_regions(regions, more_regions, size, bank.recipe.size, "the bank's")
        layout = Layout(
            bank,
            placed.regions,
            latent_side(placed.width, bank.recipe.pixels),
            latent_side(placed.height, bank.recipe.pixels),
            _selection(rule, rare),
            rare["overlap"],
            rare["shortage"],
            rare["background"],
            strength,
            rare["soft_edges"],
            rare["calibration"],
        )
        request = TicketRequest(layout, seed, batch_size, candidates, rare["rounds"], read_look(look))
        for_page = {"categories": list(bank.categories), "block": bank.recipe.block}
        try:
            built = build_tickets(request, model, clip)
        except MissingCategory as error:
            advice = "name the region as one of these, or add the category in Collect Tickets"
            raise files.advised(error, advice) from None
        return noise_result(built, cls, placed.note, ticket_bank=[for_page])

    @classmethod
    def validate_inputs(
        cls,
        regions: Any = None,
        size: Any = None,
        selection: Any = None,
        advanced: Any = None,
        look: Any = None,
    ) -> bool | str:
        return complete(size=size, selection=selection, advanced=advanced)


def _selection(rule: Chosen, rare: dict[str, Any]) -> Rank | Thresholds:
    if rule["selection"] == RANK:
        return Rank(rule["best"] / 100, rare["best_background"] / 100, rare["temperature"])
    return Thresholds(**{name: limit for name, limit in rule.items() if name != "selection"})

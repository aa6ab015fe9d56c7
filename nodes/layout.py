"""Ticket Latent from Regions."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..probe.build import TicketWish, build_tickets
from ..tickets.bank import TicketBank
from ..tickets.build import BACKGROUNDS, LOSERS, Layout
from ..tickets.calibrate import CALIBRATIONS, STANDARDIZE
from ..tickets.regions import OVERLAPS, SMALLER
from ..tickets.select import RELAX, SHORTAGES, Rank, Thresholds
from .regions import all_regions, more_regions_input, regions_input
from .types import (
    CATEGORY,
    Bank,
    batch_input,
    candidates_input,
    noise_outputs,
    noise_result,
    rounds_input,
    seed_input,
    side_input,
)

RANK, THRESHOLD = SELECTIONS = ("rank", "threshold")
SINGLE = " Used instead when all regions are of one category."


def _share(name: str, label: str, default: float, tooltip: str, **extra: Any) -> io.Float.Input:
    settings = {"min": 0.0, "max": 1.0, "step": 0.01, "advanced": True, **extra}
    return io.Float.Input(name, display_name=label, default=default, tooltip=tooltip, **settings)


def _percent(name: str, label: str, share: float, tooltip: str, **extra: Any) -> io.Float.Input:
    settings = {"min": 0.01, "max": 100.0, "step": 0.1, "round": 0.001, **extra}
    return io.Float.Input(name, display_name=label, default=share * 100, tooltip=tooltip, **settings)


def _selection_inputs() -> list[io.Input]:
    paper, best = Thresholds(), Rank()
    ranked, limits = " For selection rank.", " For selection threshold."
    return [
        io.Combo.Input(
            "selection",
            options=list(SELECTIONS),
            default=RANK,
            tooltip="rank: the tickets that lean most towards a category and least towards the others."
            " threshold: the paper's limits on scores.",
        ),
        _percent(
            "best", "best (%)", best.best, "Which share of the bank may win, for each category." + ranked
        ),
        _percent(
            "best_background",
            "best for background (%)",
            best.best_background,
            "Which share of the bank may fill the background." + ranked,
            advanced=True,
        ),
        _share(
            "temperature",
            "temperature",
            best.temperature,
            "0 draws the very best tickets in every image, 1 any of the best share." + ranked,
        ),
        _share("t_pos", "own score above", paper.t_pos, "The paper's t_pos." + limits),
        _share("t_neg", "other scores below", paper.t_neg, "The paper's t_neg." + limits),
        _share("t_bg", "background below", paper.t_bg, "The paper's t_bg." + limits),
        _share("t_pos_single", "own score above, alone", paper.t_pos_single, "As own score above." + SINGLE),
        _share("t_bg_single", "background below, alone", paper.t_bg_single, "As background below." + SINGLE),
        io.Combo.Input(
            "shortage",
            options=list(SHORTAGES),
            default=RELAX,
            advanced=True,
            tooltip="When too few tickets win: relax takes those that come nearest and says so, repeat uses"
            " tickets again (the paper), error stops.",
        ),
    ]


def _filling_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "background",
            options=list(BACKGROUNDS),
            default=LOSERS,
            tooltip="losers: blocks that lean towards none of the categories. keep: the seed's plain noise.",
        ),
        _share(
            "strength",
            "strength",
            1.0,
            "1: tickets only. 0: the seed's plain noise, as stock ComfyUI draws it. Between them both are"
            " mixed so that the variance stays.",
            advanced=False,
        ),
        io.Boolean.Input(
            "soft_edges",
            default=False,
            advanced=True,
            tooltip="Grey parts of masks mix tickets and plain noise. Boxes have no soft edges.",
        ),
        io.Combo.Input(
            "overlap",
            options=list(OVERLAPS),
            default=SMALLER,
            advanced=True,
            tooltip="Which region a cell belongs to where several overlap. smaller: as in the paper.",
        ),
        io.Combo.Input(
            "calibration",
            options=list(CALIBRATIONS),
            default=STANDARDIZE,
            advanced=True,
            tooltip="Selected blocks are not quite standard normal noise. standardize: mean 0 and variance 1"
            " in each channel. none: leave them (the paper). gaussianize: exactly normal values in each"
            " channel, their order kept.",
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
                "Builds initial noise that leans towards your layout: winning tickets of each category in"
                " its region, losing ones everywhere else. Sampling itself is untouched."
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
                Bank.Input("bank", tooltip="Tickets of every category used below, from the same model."),
                regions_input(),
                side_input("width", "Width of the image in pixels."),
                side_input("height", "Height of the image in pixels."),
                seed_input("Which of the fitting tickets are drawn. Every image of a batch has its own."),
                batch_input(),
                *_selection_inputs(),
                *_filling_inputs(),
                candidates_input(
                    8,
                    "How many arrangements are looked at for each image; the one that fits best is taken."
                    " Only with model and clip connected; costs a fraction of a step for each.",
                ),
                rounds_input(
                    3,
                    0,
                    "How often the cells that fit worst get other tickets and are looked at again. Only with"
                    " model and clip connected.",
                ),
                more_regions_input(),
                io.Model.Input(
                    "model", optional=True, tooltip="To look at the noise before sampling. Connect clip, too."
                ),
                io.Clip.Input("clip", optional=True, tooltip="To look at the noise before sampling."),
            ],
            outputs=noise_outputs(),
        )

    @classmethod
    def execute(
        cls,
        bank: TicketBank,
        regions: Any,
        width: int,
        height: int,
        seed: int,
        batch_size: int,
        selection: str,
        best: float,
        best_background: float,
        temperature: float,
        t_pos: float,
        t_neg: float,
        t_bg: float,
        t_pos_single: float,
        t_bg_single: float,
        shortage: str,
        background: str,
        strength: float,
        soft_edges: bool,
        overlap: str,
        calibration: str,
        candidates: int,
        rounds: int,
        more_regions: Any = None,
        model: Any = None,
        clip: Any = None,
    ) -> io.NodeOutput:
        rule: Rank | Thresholds = Thresholds(t_pos, t_neg, t_bg, t_pos_single, t_bg_single)
        if selection == RANK:
            rule = Rank(best / 100, best_background / 100, temperature)
        layout = Layout(
            bank,
            all_regions(regions, more_regions, width, height),
            width // 8,
            height // 8,
            rule,
            overlap,
            shortage,
            background,
            strength,
            soft_edges,
            calibration,
        )
        wish = TicketWish(layout, seed, batch_size, candidates, rounds)
        return noise_result(build_tickets(wish, model, clip), cls)

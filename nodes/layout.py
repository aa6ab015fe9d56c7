"""Ticket Latent from Regions."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..probe.noise import TicketNoise, empty_latent, noise_latent
from ..tickets.bank import TicketBank
from ..tickets.build import Layout
from ..tickets.regions import parse_regions
from ..tickets.select import Thresholds
from .types import CATEGORY, Bank, seed_input, side_input

SINGLE = " Used instead when all regions are of one category."


def _threshold(name: str, label: str, default: float, tooltip: str) -> io.Float.Input:
    return io.Float.Input(
        name,
        display_name=label,
        default=default,
        min=0.0,
        max=1.0,
        step=0.01,
        advanced=True,
        tooltip=tooltip,
    )


class TicketLatentFromRegions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        paper = Thresholds()
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
            ],
            inputs=[
                Bank.Input("bank", tooltip="Tickets of every category used below, from the same model."),
                io.String.Input(
                    "regions",
                    multiline=True,
                    default="castle: 0.62 0.18 1.0 0.69\nlake: 0.0 0.56 1.0 1.0\nsky: 0.0 0.0 1.0 0.56",
                    tooltip="One region a line: category, colon, then left, top, right and bottom as"
                    " fractions of the image. Where regions overlap, the smaller one wins.",
                ),
                side_input("width", "Width of the image in pixels."),
                side_input("height", "Height of the image in pixels."),
                seed_input("Which of the fitting tickets are drawn. Every image of a batch has its own."),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="Number of images."),
                _threshold(
                    "t_pos",
                    "own score above",
                    paper.t_pos,
                    "A winner scores above this for its own category (the paper's t_pos).",
                ),
                _threshold(
                    "t_neg",
                    "other scores below",
                    paper.t_neg,
                    "A winner scores below this for the other category (the paper's t_neg).",
                ),
                _threshold(
                    "t_bg",
                    "background below",
                    paper.t_bg,
                    "A background block scores below this for every category (the paper's t_bg).",
                ),
                _threshold(
                    "t_pos_single",
                    "own score above, alone",
                    paper.t_pos_single,
                    "As own score above." + SINGLE,
                ),
                _threshold(
                    "t_bg_single",
                    "background below, alone",
                    paper.t_bg_single,
                    "As background below." + SINGLE,
                ),
            ],
            outputs=[
                io.Noise.Output(
                    display_name="noise",
                    tooltip="For Guidance Cutoff KSampler and SamplerCustomAdvanced, with the empty latent.",
                ),
                io.Latent.Output(
                    display_name="noise latent",
                    tooltip="The noise as a latent, for KSampler (Advanced) with add_noise disabled,"
                    " start_at_step 0. Not for the plain KSampler, which would add noise once more.",
                ),
                io.Latent.Output(
                    display_name="empty latent", tooltip="An empty latent of this size and batch."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        bank: TicketBank,
        regions: str,
        width: int,
        height: int,
        seed: int,
        batch_size: int,
        t_pos: float,
        t_neg: float,
        t_bg: float,
        t_pos_single: float,
        t_bg_single: float,
    ) -> io.NodeOutput:
        thresholds = Thresholds(t_pos, t_neg, t_bg, t_pos_single, t_bg_single)
        layout = Layout(bank, tuple(parse_regions(regions)), width // 8, height // 8, thresholds)
        noise = TicketNoise(layout, seed)
        empty = empty_latent(batch_size, layout)
        built = noise.generate_noise(empty)
        latent = noise_latent(built, bank.recipe.sigma, bank.recipe.latent_scale)
        return io.NodeOutput(noise, latent, empty, ui=ui.PreviewText(layout.describe()))

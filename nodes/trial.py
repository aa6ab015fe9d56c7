"""Whether it works on the user's model: Layout Trial, Layout Score."""

from __future__ import annotations

from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..probe.judge import ModelJudge
from ..probe.layers.choose import AUTO
from ..probe.model.architecture import usual_size
from ..probe.model.family import require
from ..probe.sampling.draw import Sampling
from ..probe.trial.kinds import Choice
from ..probe.trial.score import score_trial
from ..probe.trial.trial import TrialRequest, give, run_trial
from ..tickets.bank.bank import TicketBank
from ..tickets.layout.parse import names_only
from ..tickets.prompts import MOST, PLACE, parse_categories
from ..trial.cases import OBJECTS, PAIRS, Case, given_cases, made_cases
from .inputs import (
    CATEGORY,
    CUSTOM,
    Array,
    Bank,
    Chosen,
    InputError,
    advanced_input,
    candidates_input,
    chosen,
    complete,
    names_itself,
    preview,
    read_advanced,
    rounds_input,
    seed_input,
)
from .regions import Placed, Regions, read_regions, read_size, size_input

Trial = io.Custom("LAYOUT_TRIAL")
USUAL = "usual ones"
PASSED_ON = SHOWN, EVERY = "shown ones", "all"


def _layouts_input() -> io.Input:
    text = io.String.Input(
        "regions",
        multiline=True,
        default="",
        tooltip="What to try. Categories, one per line: layouts of two of them in several places are made. "
        "Empty: the bank's categories. Or your own layout: connect Ticket Regions, or write lines "
        "such as castle: 0.62 0.18 1.0 0.69.",
    )
    return io.MultiType.Input(text, [Regions, io.BoundingBox, Array])


def _kinds() -> list[io.WidgetInput]:
    usual = Choice()
    return [
        io.Int.Input(
            "best_of",
            default=usual.best_of,
            min=0,
            max=64,
            tooltip="Like Pick Best Noise: the seed that fits best of this many. 0 leaves this out.",
        ),
        io.Boolean.Input("block_swap", default=usual.swap, tooltip="Like Arrange Noise by Regions."),
        io.Boolean.Input(
            "tickets", default=usual.tickets, tooltip="Tickets as drawn, not looked at. Needs a bank."
        ),
        io.Boolean.Input(
            "tickets_looked_at",
            default=usual.looked,
            tooltip="Like Ticket Latent from Regions with model and clip. Needs a bank.",
        ),
        io.Boolean.Input(
            "control",
            default=usual.control,
            tooltip="A control: tickets of the other category, which must do no better than plain noise. "
            "Needs a bank.",
        ),
    ]


def _advanced() -> list[io.WidgetInput]:
    return [
        io.Combo.Input(
            "objects",
            options=list(OBJECTS),
            default=PAIRS,
            tooltip="How many objects there are in layouts made from categories.",
        ),
        io.String.Input(
            "prompt",
            default=PLACE,
            tooltip='The prompt of the images; {} marks where the categories go: "a photo of {}". Or a '
            "whole prompt that contains all of them.",
        ),
        io.String.Input("negative", default="", tooltip="The negative prompt of the images."),
        io.String.Input(
            "layer",
            default=AUTO,
            tooltip="Attention layer by which noise is looked at. auto: the bank's; without a bank, as in"
            " Arrange Noise by Regions.",
        ),
        candidates_input(8, "For block swap and tickets that are looked at, per image."),
        rounds_input(3, 0, "For block swap and tickets that are looked at."),
        io.String.Input(
            "save_as",
            default="",
            tooltip="Name of the file in output/layout_trials that every judged image is added to. Empty: "
            "named after the model and the settings. A trial with the same settings is resumed.",
        ),
        io.Combo.Input(
            "pass_on",
            options=list(PASSED_ON),
            default=SHOWN,
            tooltip="Which images leave the node: those of the cases in the picture, or all, for Layout"
            " Score. One takes 3 MB at 512x512.",
        ),
        io.Float.Input(
            "look_after_percent",
            # Prompts of before it was there go on to work.
            optional=True,
            default=0.0,
            min=0.0,
            max=90.0,
            step=1.0,
            tooltip="After which percentage of the images' steps the third of the noises that fits best is "
            "looked at again. 0: only the first step is looked at.",
        ),
    ]


class LayoutTrial(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayoutTrial",
            display_name="Layout Trial",
            category=CATEGORY,
            description="Tests on your own model whether tickets and block swap put things where you want "
            "them: the same layouts and seeds with several kinds of noise, judged by the model "
            "itself. The result is a table and one plain sentence.",
            search_aliases=[
                "does it work",
                "test checkpoint",
                "compare noise",
                "benchmark",
                "evaluate",
                "layout",
            ],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to test, as you use it."),
                io.Clip.Input("clip", tooltip="The model's text encoder."),
                _layouts_input(),
                size_input("the bank's is used, or the model's usual one"),
                io.DynamicCombo.Input(
                    "kinds",
                    options=[io.DynamicCombo.Option(USUAL, []), io.DynamicCombo.Option(CUSTOM, _kinds())],
                    tooltip="The kinds of noise to compare with plain noise. usual ones: the best of 32 "
                    "seeds, block swap, and, with a bank, tickets, both as drawn and looked at.",
                ),
                io.Int.Input(
                    "images",
                    default=64,
                    min=1,
                    max=10000,
                    tooltip="How many images of each kind. 64 show large effects; if you raise it later, "
                    "only the missing ones are drawn.",
                ),
                seed_input("Seed of the first image; the others have the seeds that follow.", control=False),
                io.Int.Input("steps", default=12, min=1, max=1000, tooltip="Sampling steps of each image."),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="CFG scale of each image."
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="Samplers that add noise of their own draw the images one at a time.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="normal",
                    tooltip="The noise schedule.",
                ),
                advanced_input(_advanced()),
                Bank.Input(
                    "bank", optional=True, tooltip="Tickets collected on the same model, to test them, too."
                ),
                io.Vae.Input("vae", optional=True, tooltip="To see the images."),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The result: one sentence and the table."),
                io.Image.Output(
                    display_name="picture",
                    tooltip="The result as bars, with some of the images if a vae is connected.",
                ),
                io.Image.Output(
                    display_name="images",
                    tooltip="The images, if a vae is connected, for a detector; see pass_on.",
                ),
                io.Latent.Output(display_name="latents", tooltip="The images as latents."),
                Trial.Output(display_name="trial", tooltip="What was asked of each image, for Layout Score."),
            ],
        )

    @classmethod
    @names_itself
    def execute(
        cls,
        model: Any,
        clip: Any,
        regions: Any,
        images: int,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        size: Chosen | None = None,
        kinds: Chosen | None = None,
        advanced: Chosen | None = None,
        bank: TicketBank | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        rare = read_advanced(advanced, _advanced())
        cases, asked, placed = _cases(model, regions, size, bank, images, seed, rare)
        how = Sampling(steps, cfg, sampler_name, scheduler, rare["negative"])
        request = TrialRequest(
            tuple(cases),
            seed,
            asked,
            placed.width,
            placed.height,
            how,
            _choice(kinds, rare),
            rare["layer"],
            rare["save_as"],
        )
        every = rare["pass_on"] == EVERY
        result = give(run_trial(model, clip, request, ModelJudge, bank), vae, placed.note, every)
        shown = preview(cls, result.picture, result.report) | {"trial": [result.about]}
        return io.NodeOutput(*result.outputs, ui=shown)

    @classmethod
    def validate_inputs(
        cls, regions: Any = None, size: Any = None, kinds: Any = None, advanced: Any = None
    ) -> bool | str:
        return complete(size=size, kinds=kinds, advanced=advanced)


def _choice(kinds: Chosen | None, rare: dict[str, Any]) -> Choice:
    asked = chosen("kinds", kinds, (USUAL, CUSTOM))
    best_of, swap, tickets, looked, control = (asked.get(i.id, i.default) for i in _kinds())
    looks = rare["candidates"], rare["rounds"], rare["look_after_percent"] / 100
    return Choice(best_of, swap, tickets, looked, control, *looks)


def _cases(
    model: Any,
    regions: Any,
    size: Chosen | None,
    bank: TicketBank | None,
    images: int,
    seed: int,
    rare: dict[str, Any],
) -> tuple[list[Case], dict[str, Any], Placed]:
    """The cases, what they are made of, and the image's size."""
    require("images", images, 1)
    own, whose = usual_size(model), "usual for this model"
    if bank:
        own, whose = bank.recipe.size, "the bank's"
    asked = {"prompt": rare["prompt"]}
    if not (isinstance(regions, str) and names_only(regions)):
        placed = read_regions(regions, None, size, own, whose)
        cases = given_cases(placed.regions, rare["prompt"], images, seed)
        boxes = [[r.category, r.x0, r.y0, r.x1, r.y1] for r in cases[0].regions]
        return cases, asked | {"regions": boxes}, placed
    if not regions.strip() and not bank:
        raise InputError(
            "regions is empty: write categories, one per line, such as castle; connect Ticket Regions; or"
            " connect a bank to try its categories."
        )
    names = parse_categories(regions) if regions.strip() or not bank else bank.categories
    cases = made_cases(names, rare["objects"], rare["prompt"], images, seed)
    sides, note = read_size([], size, own, whose)
    return cases, asked | {"categories": list(names), "objects": rare["objects"]}, Placed((), *sides, note)


class LayoutScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayoutScore",
            display_name="Layout Score",
            category=CATEGORY,
            description="Judges the images of a Layout Trial with a detector instead of the model itself: "
            "the same table and sentence, and how far the two judges agree.",
            search_aliases=["judge", "detector", "evaluate", "bounding boxes", "RT-DETR", "SAM3"],
            is_output_node=True,
            inputs=[
                Trial.Input("trial", tooltip="From Layout Trial."),
                io.Image.Input("images", tooltip="The images of Layout Trial that the detector was given."),
                io.Autogrow.Input(
                    "boxes",
                    template=io.Autogrow.TemplatePrefix(
                        io.BoundingBox.Input("boxes"), prefix="boxes", min=1, max=MOST
                    ),
                    tooltip="What a detector found in these images. RT-DETR: one for all categories. SAM3 "
                    "Detect: one for each category, in the trial's order.",
                ),
                io.String.Input(
                    "names",
                    multiline=True,
                    default="",
                    tooltip="What the detector calls a category, if it has another name for it; one per "
                    "line: red car: car. Case, articles and plurals do not matter.",
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    tooltip="Name of the file in output/layout_trials. Empty: named after the trial.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The result: one sentence and the table."),
                io.Image.Output(
                    display_name="picture", tooltip="The result as bars, with some of the images."
                ),
            ],
        )

    @classmethod
    @names_itself
    def execute(cls, trial: Any, images: Any, boxes: Any, names: str, save_as: str) -> io.NodeOutput:
        connected = [found for found in boxes.values() if found is not None]
        scores = score_trial(trial, images, connected, names, save_as)
        return io.NodeOutput(scores.report, scores.picture, ui=preview(cls, scores.picture, scores.report))

"""The pack's own socket types and what its nodes share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..probe.build.build import NoiseResult
from ..probe.build.looking import AfterSteps
from ..probe.compat import PACK
from ..probe.model.architecture import usual_size
from ..tickets.grid import PIXELS
from ..tickets.noise import SEED_RANGE
from ..tickets.search.candidates import MOST_CANDIDATES
from .checks import InputError, check

CATEGORY = "tickets"
Bank = io.Custom("TICKET_BANK")
# As io.Array, which older versions of ComfyUI lack.
Array = io.Custom("ARRAY")

LONGEST_ERROR = 600
Chosen = dict[str, Any]
"""What a dynamic combo gives: the option under its own name, and the option's inputs."""
DEFAULTS, CUSTOM = ("defaults", "custom")


def names_itself(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """An execute whose inputs are checked, and whose errors of this pack begin with the node's display name.

    The papers' folders state a fact; which node it was for is known here.
    """

    @functools.wraps(execute)
    def named(cls: type[io.ComfyNode], *given: Any, **named: Any) -> io.NodeOutput:
        schema = cls.SCHEMA or cls.define_schema()
        try:
            check(schema.inputs, named)
            return execute(cls, *given, **named)
        except ValueError as error:
            if not type(error).__module__.startswith(f"{PACK}."):
                raise
            told = _one_line(str(error))
            if told == str(error) and told.startswith(schema.display_name):
                raise
            raise type(error)(
                f"{schema.display_name}: {told.removeprefix(schema.display_name + ': ')}"
            ) from error

    return named


def _one_line(text: str) -> str:
    """An error that can be read, however long what was typed is."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return (
        line
        if len(line) <= LONGEST_ERROR
        else f"{line[: LONGEST_ERROR // 2]} ... {line[-LONGEST_ERROR // 2 :]}"
    )


def chosen(name: str, value: Chosen | None, options: Sequence[str]) -> Chosen:
    """The value of a dynamic combo, which ComfyUI drops when it is none of the options."""
    if not isinstance(value, dict) or value.get(name) not in options:
        raise InputError(f"{name} is missing, or none of its options: {', '.join(options)}.")
    return value


def advanced_input(inputs: Sequence[io.WidgetInput]) -> io.DynamicCombo.Input:
    """One row for all that is rarely set, in both of ComfyUI's renderers."""
    options = [io.DynamicCombo.Option(DEFAULTS, []), io.DynamicCombo.Option(CUSTOM, list(inputs))]
    return io.DynamicCombo.Input(
        "advanced",
        options=options,
        tooltip="Options that rarely need changing. custom shows them, at their defaults.",
    )


def read_advanced(value: Chosen | None, inputs: Sequence[io.WidgetInput]) -> dict[str, Any]:
    """Values of the inputs behind `advanced_input`, by their ids; their defaults unless custom is chosen."""
    given = chosen("advanced", value, (DEFAULTS, CUSTOM))
    # ComfyUI gives None for an optional one that a prompt lacks.
    return {i.id: i.default if given.get(i.id) is None else given[i.id] for i in inputs}


def complete(**combos: Any) -> bool | str:
    """For validate_inputs: True, or which dynamic combos a prompt lacks, as those of earlier versions do."""
    missing = [name for name, value in combos.items() if value is None]
    if not missing:
        return True
    return (
        f"{' and '.join(missing)} missing, or none of the options: perhaps a prompt of an older version, with"
        " other inputs. Open its workflow in ComfyUI, which moves the values, and export it again."
    )


LEAST_SIDE, MOST_SIDE = 64, 16384


def seed_input(tooltip: str, control: bool = True) -> io.Int.Input:
    """`control`: with ComfyUI's control after generate."""
    return io.Int.Input(
        "seed", default=0, min=0, max=SEED_RANGE - 1, control_after_generate=control, tooltip=tooltip
    )


def side_input(name: str, tooltip: str) -> io.Int.Input:
    """Width or height of an image in pixels."""
    return io.Int.Input(name, default=512, min=LEAST_SIDE, max=MOST_SIDE, step=PIXELS, tooltip=tooltip)


def usual_side_input(name: str, tooltip: str) -> io.Int.Input:
    """The same, 0 by default: see `read_sides`."""
    return io.Int.Input(name, default=0, min=0, max=MOST_SIDE, step=PIXELS, tooltip=tooltip)


def read_sides(model: Any, width: int, height: int) -> tuple[int, int]:
    """Width and height in pixels, 0 being what is usual for the model. InputError for sides too small."""
    for name, side in (("width", width), ("height", height)):
        if 0 < side < LEAST_SIDE:
            raise InputError(f"{name} is {side}; it must be 0, or {LEAST_SIDE} to {MOST_SIDE}.")
    usual = usual_size(model)
    return width or usual[0], height or usual[1]


def batch_input() -> io.Int.Input:
    return io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="Number of images.")


def candidates_input(default: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input("candidates", default=default, min=1, max=MOST_CANDIDATES, tooltip=tooltip)


def rounds_input(default: int, least: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input("rounds", default=default, min=least, max=16, tooltip=tooltip)


FIRST, AFTER = ("first step", "after steps")


def look_input() -> io.DynamicCombo.Input:
    """How candidates are looked at; missing from workflows that were saved without."""
    own = AfterSteps()
    options = [
        io.Float.Input(
            "after_percent",
            default=100 * own.share,
            min=1.0,
            max=90.0,
            step=1.0,
            tooltip="After which percentage of the run's steps the candidates are looked at again; at least"
            " one step.",
        ),
        io.Int.Input(
            "steps",
            default=own.steps,
            min=2,
            max=10000,
            tooltip="Steps of the run the noise is for. Ignored when sigmas are connected.",
        ),
        io.Float.Input(
            "cfg", default=own.cfg, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="CFG scale of that run."
        ),
        io.Sampler.Input("sampler", optional=True, tooltip="The run's sampler. If not connected: euler."),
        io.Sigmas.Input(
            "sigmas", optional=True, tooltip="The run's noise levels. If not connected: the normal schedule."
        ),
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip="The run's positive prompt. If not connected: a prompt that names all categories.",
        ),
        io.Conditioning.Input(
            "negative", optional=True, tooltip="The run's negative prompt. If not connected: no text."
        ),
    ]
    return io.DynamicCombo.Input(
        "look",
        options=[io.DynamicCombo.Option(FIRST, []), io.DynamicCombo.Option(AFTER, options)],
        optional=True,
        tooltip="first step: costs a fraction of a step per candidate. after steps: the best-fitting "
        "third is then run through the first steps, with guidance, and looked at again; costs that many "
        "steps each, and knows far more.",
    )


def read_look(value: Chosen | None) -> AfterSteps | None:
    """The deeper look, if one is chosen."""
    if value is None or value["look"] == FIRST:
        return None
    given = {k: v for k, v in value.items() if k not in ("look", "after_percent")}
    return AfterSteps(value["after_percent"] / 100, **given)


def noise_outputs() -> list[io.Output]:
    """What a node that builds noise gives."""
    return [
        io.Noise.Output(
            display_name="noise",
            tooltip="For Guidance Cutoff KSampler and SamplerCustomAdvanced, together with the empty latent.",
        ),
        io.Latent.Output(
            display_name="noise latent",
            tooltip="The noise as a latent, for KSampler (Advanced) with add_noise disabled,"
            " start_at_step 0. Not for the plain KSampler, which would add noise once more.",
        ),
        io.Latent.Output(display_name="empty latent", tooltip="An empty latent of this size and batch."),
        io.Image.Output(
            display_name="picture", tooltip="Regions and cells, how well each cell fits, and the noise."
        ),
        io.String.Output(display_name="report", tooltip="What was built from what, as text."),
    ]


def preview(node: type[io.ComfyNode], picture: torch.Tensor, text: str) -> dict[str, Any]:
    """What a node shows after its run: a picture [images, height, width, 3] and a text."""
    return ui.PreviewImage(picture, cls=node).as_dict() | ui.PreviewText(text).as_dict()


def noise_result(
    result: NoiseResult, node: type[io.ComfyNode], note: str = "", **for_page: Any
) -> io.NodeOutput:
    """The outputs of `noise_outputs`, shown on the node; `note` ends the report."""
    report = "\n".join(filter(None, (result.report, note)))
    outputs = result.noise, result.latent, result.empty, result.picture, report
    return io.NodeOutput(*outputs, ui=preview(node, result.picture, report) | for_page)

"""What the nodes of the guidance cutoff share: when it comes, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..probe.cutoff import (
    CONDITIONAL,
    LOWER,
    TAILS,
    UNCONDITIONAL,
    Cutoff,
    CutoffError,
    Final,
    Share,
    Sigma,
    Similar,
    Trigger,
)

SHARE, LAST, SIGMA, ADAPTIVE = TRIGGERS = ("share of steps", "last steps", "sigma", "adaptive")


def cutoff_input() -> io.DynamicCombo.Input:
    share = io.Float.Input(
        "guided",
        default=0.5,
        min=0.0,
        max=1.0,
        step=0.05,
        round=0.001,
        tooltip="Share of the run's steps that keep guidance, from the first on. 1 is the plain sampler;"
        " 0.5 runs a quarter fewer forwards.",
    )
    last = io.Int.Input(
        "unguided_steps",
        default=10,
        min=0,
        max=10000,
        tooltip="So many of the run's last steps go without guidance: the paper's a.",
    )
    sigma = io.Float.Input(
        "sigma",
        default=1.0,
        min=0.0,
        max=100000.0,
        step=0.01,
        round=False,
        tooltip="Guidance ends when the noise level has come down to this.",
    )
    similarity = io.Float.Input(
        "similarity",
        default=0.99,
        min=-1.0,
        max=1.0,
        step=0.001,
        round=False,
        tooltip="Guidance of an image ends when the cosine of its predictions with and without the prompt is"
        " above this. 1 never ends it.",
    )
    latest = io.Float.Input(
        "latest",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.05,
        round=0.001,
        tooltip="After this share of the steps guidance ends in any case. 1: not before the end.",
    )
    return io.DynamicCombo.Input(
        "cutoff",
        options=[
            io.DynamicCombo.Option(SHARE, [share]),
            io.DynamicCombo.Option(LAST, [last]),
            io.DynamicCombo.Option(SIGMA, [sigma]),
            io.DynamicCombo.Option(ADAPTIVE, [similarity, latest]),
        ],
        tooltip="When guidance ends: after a share of this run's own steps, before its last steps, at a noise"
        " level, or as soon as it changes little.",
    )


def tail_input() -> io.DynamicCombo.Input:
    scale = io.Float.Input(
        "lower_cfg",
        default=2.0,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="Guidance scale of the later steps. It saves nothing, and is there to compare.",
    )
    return io.DynamicCombo.Input(
        "after_cutoff",
        options=[
            io.DynamicCombo.Option(CONDITIONAL, []),
            io.DynamicCombo.Option(UNCONDITIONAL, []),
            io.DynamicCombo.Option(LOWER, [scale]),
        ],
        tooltip="What the later steps follow: the prompt without guidance (conditional), the empty prompt"
        " (unconditional, as in the paper), or both at a lower cfg, which saves nothing.",
    )


def empty_input() -> io.Conditioning.Input:
    return io.Conditioning.Input(
        "unconditional",
        optional=True,
        tooltip="The encoded empty prompt, for after_cutoff = unconditional. Without it the negative is used:"
        " a negative prompt would then be drawn, so keep that empty.",
    )


Chosen = dict[str, Any]
"""What a dynamic combo gives: the option under its own name, and the option's inputs."""


def read_cutoff(cutoff: Chosen | None, after_cutoff: Chosen | None, empty: Any) -> Cutoff:
    """Of the values of these inputs."""
    tail = _chosen("after_cutoff", after_cutoff, TAILS)
    trigger = _trigger(_chosen("cutoff", cutoff, TRIGGERS))
    return Cutoff(trigger, tail["after_cutoff"], empty, tail.get("lower_cfg", 1.0))


def _chosen(name: str, value: Chosen | None, options: Sequence[str]) -> Chosen:
    # ComfyUI drops a dynamic combo whose value is none of its options.
    if value is None:
        raise CutoffError(f"{name} is missing, or none of its options: {', '.join(options)}.")
    return value


def _trigger(cutoff: Chosen) -> Trigger:
    if cutoff["cutoff"] == SHARE:
        return Share(cutoff["guided"])
    if cutoff["cutoff"] == LAST:
        return Final(cutoff["unguided_steps"])
    if cutoff["cutoff"] == SIGMA:
        return Sigma(cutoff["sigma"])
    return Similar(cutoff["similarity"], cutoff["latest"])

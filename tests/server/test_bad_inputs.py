"""Every wrong input is answered with one sentence that tells what to change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from comfyui_client import Client, PromptError

Prompt = dict[str, Any]

CASTLE = "castle: 0.5625 0.3125 0.9375 0.6875"
LIMITS = {"t_pos": 0.3, "t_neg": 0.3, "t_bg": 0.1, "t_pos_single": 0.5, "t_bg_single": 0.3}
THRESHOLD = {"selection": "threshold", **{f"selection.{name}": limit for name, limit in LIMITS.items()}}
RARE = {
    "best_background": 5.0,
    "temperature": 1.0,
    "shortage": "relax",
    "background": "losers",
    "soft_edges": False,
    "overlap": "smaller",
    "calibration": "standardize",
    "rounds": 3,
}
ADVANCED = {"advanced": "custom", **{f"advanced.{name}": value for name, value in RARE.items()}}
CASES = {
    "no categories": ("2", {"categories": " \n"}, ["No categories", "one per line"]),
    "a category twice": ("2", {"categories": "castle\ntree\nCastle."}, ['"castle" is listed twice']),
    "an unknown layer": ("2", {"layer": "input 8"}, ['"input 8"', "input 3, input 5, middle"]),
    "a region without colon": ("3", {"regions": "castle 0.5 0.3 0.9 0.7"}, ["Region 1", "castle 0.5"]),
    "a region outside": ("3", {"regions": f"{CASTLE}\ntree: 0.1 0.3 1.4 0.7"}, ["Region 2", "leaves"]),
    "a region of words": ("3", {"regions": "castle: on the left"}, ["Region 1", "four numbers"]),
    "an unknown category": (
        "3",
        {"regions": f"{CASTLE}\nboat: 0.1 0.3 0.4 0.7"},
        ['"boat"', "castle, tree, car"],
    ),
    "no tickets": (
        "3",
        {**THRESHOLD, **ADVANCED, "advanced.shortage": "error", "selection.t_pos": 1.0},
        ['"castle"', "are needed and none found", "lower t_pos", "shortage to relax"],
    ),
    "an unknown cutoff": ("6", {"cutoff": "some day"}, ["cutoff is missing", "share of steps, last steps"]),
    "an unknown tail": (
        "6",
        {"after_cutoff": "sometimes"},
        ["after_cutoff is", "unconditional, conditional"],
    ),
    "no region": ("3", {"regions": "# none"}, ["No regions", "one per line"]),
}


def is_one_sentence(message: str) -> bool:
    return bool(message) and "\n" not in message and "Traceback" not in message and len(message) < 400


@pytest.mark.parametrize(("node", "change", "told"), CASES.values(), ids=CASES.keys())
def test_wrong_value_is_explained(
    client: Client,
    failure: Callable[[Prompt], Any],
    short: Prompt,
    node: str,
    change: Prompt,
    told: list[str],
) -> None:
    """Rule: an error names its node, also where the fact comes from a folder that knows no nodes."""
    short[node]["inputs"].update(change)
    answer = failure(short)
    assert answer.node == short[node]["class_type"]
    assert is_one_sentence(answer.message), answer.message
    assert all(part in answer.message for part in told), answer.message
    assert answer.message.startswith(client.object_info()[answer.node]["display_name"]), answer.message


@pytest.mark.parametrize(
    ("node", "name", "value", "told"),
    [
        ("3", "strength", 1.5, "Ticket Latent from Regions: strength is 1.5; it must be between 0 and 1."),
        ("3", "candidates", 0, "Ticket Latent from Regions: candidates is 0; it must be between 1 and 64."),
        ("3", "batch_size", 0, "Ticket Latent from Regions: batch_size is 0; it must be between 1 and 4096."),
        (
            "3",
            "strength",
            math.nan,
            "Ticket Latent from Regions: strength is nan; it must be between 0 and 1.",
        ),
        ("2", "noises", 0, "Collect Tickets: noises is 0; it must be between 1 and 10000."),
    ],
)
def test_a_linked_value_out_of_range_is_explained(
    failure: Callable[[Prompt], Any], short: Prompt, node: str, name: str, value: float, told: str
) -> None:
    """Rule: an error names its node and the value; ComfyUI checks the range of typed values only."""
    kind = "PrimitiveInt" if isinstance(value, int) else "PrimitiveFloat"
    short["20"] = {"class_type": kind, "inputs": {"value": value}}
    short[node]["inputs"][name] = ["20", 0]
    assert failure(short).message == told


def test_latent_of_another_size_is_explained(failure: Callable[[Prompt], Any], short: Prompt) -> None:
    size = {"width": 128, "height": 192, "batch_size": 1}
    short["20"] = {"class_type": "EmptyLatentImage", "inputs": size}
    short["6"]["inputs"]["latent_image"] = ["20", 0]
    answer = failure(short)
    assert answer.node == "GuidanceCutoffKSampler"
    assert is_one_sentence(answer.message), answer.message
    assert "(4, 32, 32)" in answer.message
    assert "(4, 24, 16)" in answer.message
    assert "empty latent" in answer.message


@pytest.mark.parametrize(
    ("node", "change", "part"),
    [
        ("6", {"cutoff.guided": 1.5}, "cutoff.guided"),
        ("2", {"noises": 0}, "noises"),
        ("3", {**THRESHOLD, "selection.t_neg": -0.1}, "selection.t_neg"),
        ("3", {**ADVANCED, "advanced.rounds": 17}, "advanced.rounds"),
        ("3", {"candidates": 65}, "candidates"),
        ("3", {"strength": 1.1}, "strength"),
        ("3", {"size": "huge"}, "size missing, or none of the options"),
        ("3", {"selection": "best"}, "selection missing, or none of the options"),
    ],
)
def test_value_out_of_range_is_refused_when_queued(
    client: Client, short: Prompt, node: str, change: Prompt, part: str
) -> None:
    short[node]["inputs"].update(change)
    with pytest.raises(PromptError) as refusal:
        client.queue(short)
    told = str(refusal.value)
    assert short[node]["class_type"] in told
    assert part in told

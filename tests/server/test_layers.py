"""Ticket Layer Report and layer auto on a real server."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from comfyui_client import Client, PromptError

Prompt = dict[str, Any]
# On the demo model these two make the best tickets; three categories do not always tell which is better.
WORKING = ("input 3", "output 2")


def layer_report(**changes: Any) -> Prompt:
    inputs = {
        "model": ["1", 0],
        "clip": ["1", 1],
        "categories": "castle\ntree\ncar",
        "noises": 8,
        "planted": 6,
        "seed": 0,
        "width": 256,
        "height": 256,
        "images": 2,
        "advanced": "custom",
        "advanced.steps": 4,
        "advanced.cfg": 5.0,
    }
    return {"class_type": "TicketLayerReport", "inputs": inputs | changes}


def test_report_recommends_a_layer_that_collect_tickets_takes(
    run: Callable[[Prompt], Any], prompt: Prompt
) -> None:
    collecting = {**prompt["2"]["inputs"], "layer": ["3", 0], "noises": 2}
    done = run(
        {
            "1": prompt["1"],
            "3": layer_report(),
            "2": {"class_type": "CollectTickets", "inputs": collecting},
            "4": {"class_type": "TicketBankReport", "inputs": {"bank": ["2", 0]}},
        }
    )
    text = done.text("3")
    found = re.search(r"^Recommended: (.+), the earliest whose tickets work", text, re.MULTILINE)
    assert found
    layer = found[1]
    assert layer in WORKING
    assert f"layer {layer}, model " in done.text("4")
    assert done.pictures["3"].size[0] > 400


def test_auto_says_what_it_chose(run: Callable[[Prompt], Any], prompt: Prompt) -> None:
    prompt["2"]["inputs"].update(layer="auto", noises=2)
    chain = {"1": prompt["1"], "2": prompt["2"]}
    chain["4"] = {"class_type": "TicketBankReport", "inputs": {"bank": ["2", 0]}}
    text = run(chain).text("2")
    assert any(f"layer auto: {layer} (effect " in text for layer in WORKING)


def test_wrong_values_are_refused_when_queued(client: Client, prompt: Prompt) -> None:
    with pytest.raises(PromptError, match="planted"):
        client.queue({"1": prompt["1"], "3": layer_report(planted=1)})


def test_unusable_categories_are_named(failure: Callable[[Prompt], Any], prompt: Prompt) -> None:
    told = failure({"1": prompt["1"], "3": layer_report(categories="cat\n\ncat")})
    assert told.node == "TicketLayerReport" and '"cat" is listed twice' in told.message

"""Prompts that were exported before the inputs were frozen, sent over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfyui_client import Client, PromptError

OLD = sorted((Path(__file__).parent.parent / "data" / "earlier").glob("*.api.json"))
Prompt = dict[str, Any]


@pytest.mark.parametrize("path", OLD, ids=lambda p: p.name.split(".")[0])
def test_they_are_refused_with_a_sentence(client: Client, path: Path) -> None:
    """The rule: a value that a node no longer knows is not left out in silence, as ComfyUI would."""
    prompt = json.loads(path.read_text(encoding="utf-8"))
    with pytest.raises(PromptError) as refusal:
        client.queue(prompt)
    told = str(refusal.value)
    changed = {"CollectTickets", "TicketLatentFromRegions", "ArrangeNoiseByRegions"}
    for node in changed & {node["class_type"] for node in prompt.values()}:
        line = next(line for line in told.splitlines() if node in line and "older version" in line)
        assert "advanced" in line and "export it again" in line


def test_a_bank_at_ticket_regions_does_no_harm(run: Callable[[Prompt], Any], short: Prompt) -> None:
    inputs = {"width": 256, "height": 256, "layout": short["3"]["inputs"]["regions"], "bank": ["2", 0]}
    short["20"] = {"class_type": "TicketRegions", "inputs": inputs}
    short["3"]["inputs"]["regions"] = ["20", 0]
    assert "8" in run(short).pictures

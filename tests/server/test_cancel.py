"""Cancelling a collection."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from comfyui_client import Client

Prompt = dict[str, Any]


def test_cancelled_collection_leaves_the_next_one_untouched(
    listener: Any, client: Client, run: Callable[[Prompt], Any], example: Any, prompt: Prompt
) -> None:
    endless = copy.deepcopy(prompt)
    endless["2"]["inputs"]["noises"] = 10000
    prompt_id = listener.queue(endless)
    listener.until(lambda event: event["type"] == "progress" and event["data"]["node"] == "2")
    client.interrupt(prompt_id)
    asked = time.monotonic()
    assert listener.until_end() == "execution_interrupted"
    assert time.monotonic() - asked < 60
    # The same number by a link: the collection cannot come from the cache.
    prompt["20"] = {"class_type": "PrimitiveInt", "inputs": {"value": prompt["2"]["inputs"]["noises"]}}
    prompt["2"]["inputs"]["noises"] = ["20", 0]
    again = run(prompt)
    assert "2" not in again.cached()
    for node in ("8", "11"):
        assert again.pictures[node].tobytes() == example.pictures[node].tobytes()

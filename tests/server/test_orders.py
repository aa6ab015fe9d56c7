"""Rule: a result does not depend on what was queued, changed or cancelled before.

`benchmarks/orders.py` tries all example workflows, thousands of edits.
"""

from __future__ import annotations

import json
import sys
import urllib.error
from dataclasses import dataclass, field
from typing import Any

import pytest
from comfyui import ROOT
from comfyui_client import Client

sys.path.append(str(ROOT / "benchmarks"))
pytest.importorskip("hypothesis")
from edits import Edits, difference
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from odd_pack.digests import with_digests

Prompt = dict[str, Any]
QUICK = ("regions_to_image", "cutoff_side_by_side", "attention_over_steps")


@dataclass(frozen=True)
class Ended:
    how: str
    message: str = ""
    results: dict[str, str] = field(default_factory=dict)


class Served:
    """The server, by the requests of its page."""

    def __init__(self, client: Client, listener: Any) -> None:
        self.client, self.listener, self.info = client, listener, client.object_info()
        self.cached: list[str] = []

    def run(self, prompt: Prompt, cancel_at: float = 0.0, raised: bool = False) -> Ended:
        """Cancelled after some progress messages."""
        body = {"prompt": with_digests(prompt, self.info), "client_id": self.listener.client_id}
        try:
            told = json.loads(self.client.get("/prompt", body))
        except urllib.error.HTTPError as error:
            return Ended("refused", error.read().decode())
        key = told["prompt_id"]
        ends = {"execution_success": "done", "execution_error": "error", "execution_interrupted": "cancelled"}
        left = 1 + round(6 * cancel_at)
        while (
            kind := self.listener.until(lambda event: event["type"] in {*ends, "progress"})["type"]
        ) not in ends:
            left -= 1
            if cancel_at and left == 0:
                self.client.interrupt(key)
        entry = None
        while entry is None:
            entry = json.loads(self.client.get(f"/history/{key}")).get(key)
        messages = dict(entry["status"]["messages"])
        self.cached = messages.get("execution_cached", {}).get("nodes", [])
        error = messages.get("execution_error", {}).get("exception_message", "")
        results = {
            node: "".join(shown["text"])
            for node, shown in entry["outputs"].items()
            if "/" in node and "text" in shown
        }
        return Ended(ends[kind], error, results)

    def forget(self) -> None:
        self.client.get("/free", {"unload_models": True, "free_memory": True})
        # Once another prompt has ended, that has been done.
        nothing = {"class_type": "PrimitiveInt", "inputs": {"value": 1}}
        self.run({"1": nothing})

    def close(self) -> None:
        pass


def test_edits_at_random(client: Client, listener: Any) -> None:
    served = Served(client, listener)
    compared = []

    class Few(Edits):
        workflows = QUICK
        open = staticmethod(lambda: served)
        info = staticmethod(lambda names: served.info)

        def compare(self, prompt: Prompt, ended: Any) -> None:
            compared.append((prompt, ended, list(self.done)))

    wanted = settings(
        max_examples=2,
        stateful_step_count=10,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Few, settings=wanted)
    graphs: dict[str, Ended] = {}
    for prompt, ended, done in compared:
        key = json.dumps(prompt, sort_keys=True)
        if key not in graphs:
            served.forget()
            graphs[key] = served.run(prompt)
            assert not served.cached
        assert not difference(ended, graphs[key]), done
    assert len(graphs) > 2 and any(ended.how == "done" for ended in graphs.values())

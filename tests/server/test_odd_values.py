"""Odd values of every kind of input, over HTTP: an answer that names the input, and the next run is right.

`benchmarks/robustness.py values` tries all of them.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from comfyui import ROOT
from comfyui_client import Client
from comfyui_server import Server

sys.path.append(str(ROOT / "benchmarks"))
from odd_pack import ODD
from odd_values import Judge, cases

# What takes seconds for a single run.
LONG = (
    "LayoutTrial",
    "LayoutScore",
    "TicketLayerReport",
    "SuggestGuidanceCutoff",
    "AttentionOverStepsReport",
)


def test_every_odd_value_is_answered_by_its_name(server: Server, client: Client) -> None:
    """Rule: NaN, and what comes over a link, went past ComfyUI's checks into nodes that broke on them."""
    info = client.object_info()
    nodes = json.loads(Path(ROOT, "tests", "data", "nodes.json").read_text(encoding="utf-8"))
    every = list(cases(info, sorted(nodes), ODD))
    assert len(every) > 2500 and {case.node for case in every} == set(nodes)
    judge = Judge(client, info)
    right = judge.picture()
    # Those that may run where that is quick, and those that must not everywhere; a few of each.
    some = [c for c in every if c.must][::40] + [c for c in every if not c.must and c.node not in LONG][::40]
    tally: Counter[str] = Counter()
    faults = []
    for case in some:
        answer = judge.run(case.prompt)
        tally["refused" if answer.refused else "by its node" if answer.node else "ran"] += 1
        if fault := judge.fault(case, answer):
            faults.append(f"{case}: {fault}")
    assert not faults
    assert server.alive and judge.picture() == right
    assert min(tally[kind] for kind in ("refused", "by its node", "ran")) > 5

"""The nodes as shared workflows know them."""

from __future__ import annotations

import copy
import json

import pytest
from comfyui_client import Client
from freeze_nodes import FROZEN, differences, frozen


def test_shared_workflows_still_fit(client: Client) -> None:
    """Rule: ids, inputs with types, defaults, ranges and options, and outputs are frozen."""
    before = json.loads(FROZEN.read_text(encoding="utf-8"))
    now = frozen(client.object_info())
    changed = list(differences(before, {node: now[node] for node in now if node in before}))
    assert not changed, (
        "A workflow that somebody shared would break or change its meaning: "
        + "; ".join(changed)
        + ". Take the change back, or give the node a new id; if a new version may break workflows, run"
        " scripts/freeze_nodes.py, let web/old_workflows/ move the old values, and say so in CHANGELOG.md."
    )


def test_new_nodes_are_frozen(client: Client) -> None:
    new = sorted(frozen(client.object_info()).keys() - json.loads(FROZEN.read_text(encoding="utf-8")).keys())
    assert not new, f"New: {', '.join(new)}. Run scripts/freeze_nodes.py: what it writes, workflows rest on."


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda node: node["inputs"].pop(1), "CollectTickets inputs"),
        (lambda node: node["inputs"][3].update(default=33), "CollectTickets inputs noises default: 32 -> 33"),
        (lambda node: node["inputs"][3].pop("max"), "CollectTickets inputs noises max: 10000 -> null"),
        (lambda node: node["outputs"].insert(0, ["INT", "count"]), "CollectTickets outputs 1 1"),
    ],
    ids=["removed", "default", "range", "outputs"],
)
def test_every_change_is_noticed_and_named(client: Client, change: object, told: str) -> None:
    before = frozen(client.object_info())
    now = copy.deepcopy(before)
    change(now["CollectTickets"])  # type: ignore[operator]
    assert any(line.startswith(told) for line in differences(before, now))

"""The example workflows, made small, and what is done to them on the page: values, modes, copies of nodes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

Prompt = dict[str, Any]
EXAMPLES = Path(__file__).parent.parent / "demo" / "example_workflows" / "api"
WORKFLOWS = (
    *("regions_to_image", "block_swap", "try_the_left_third_again", "cutoff_side_by_side", "masks_to_image"),
    *("attention_over_steps", "swap_end_tokens", "collect_and_save_a_bank", "first_picture"),
)
# By the last part of an input's name. Nothing is kept on purpose, as banks are that are resumed.
SMALL: dict[str, Any] = {
    "steps": 3,
    "noises": 2,
    "candidates": 2,
    "rounds": 1,
    "save_as": "",
    "noise_seed": 7,
}
LAYOUTS = tuple(
    json.dumps({"regions": [{"category": name, "box": box} for name, box in boxes]})
    for boxes in (
        (("sun", [0.0, 0.0, 0.5, 0.5]), ("car", [0.5, 0.5, 1.0, 1.0])),
        (("castle", [0.5, 0.25, 1.0, 0.75]), ("tree", [0.0, 0.25, 0.5, 0.75])),
        (("tree", [0.0, 0.0, 0.375, 1.0]),),
    )
)
VALUES: dict[str, tuple[Any, ...]] = {
    "seed": (1, 2, 7),
    "noise_seed": (1, 2, 7),
    "steps": (2, 3, 4),
    "cfg": (1.0, 4.0),
    "sampler_name": ("euler", "dpmpp_2m", "euler_ancestral", "lcm"),
    "scheduler": ("normal", "karras"),
    "denoise": (1.0, 0.6),
    "batch_size": (1, 2),
    "candidates": (1, 2, 3),
    "rounds": (0, 1, 2),
    "strength": (0.0, 0.5, 1.0),
    "best": (0.5, 5.0),
    "layer": ("input 3", "auto", "all"),
    "text": ("a castle and a tree", "a sun and a car", ""),
    "prompt": ("a castle and a tree", "a tree"),
    "end_prompt": ("a castle and a tree", "a tree"),
    "phrases": ("castle\ntree", "tree"),
    "categories": ("castle\ntree\nsun\ncar", "tree\ncar"),
    "category": ("tree", "car"),
    "guided": (0.0, 0.5, 1.0),
    "after_cutoff": ("conditional", "unconditional"),
    "similarity": (0.9, 0.999),
    "amount": (0.5, 1.0),
    "start": (0.0, 0.5),
    "region": ("left third: 0 0 0.33 1", "0.5 0 1 1"),
    "edge": (0, 8),
    "noises": (2, 3),
    "best_percent": (100.0, 40.0),
    "precision": ("float32", "float16"),
    "number": (1, 2),
    "width": (128, 192),
    "height": (128, 152),
    "layout": LAYOUTS,
    "block": (2, 4),
    "after_percent": (20.0, 50.0),
}
ACTIVE, MUTED, BYPASSED = 0, 2, 4


class Graph:
    """Nodes as in an API prompt, and what the page does with each.

    info: /object_info of their classes, or `lookup` of those that it needs.
    """

    def __init__(self, name: str, info: Any) -> None:
        self.nodes: Prompt = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
        self.info: Prompt = info({node["class_type"] for node in self.nodes.values()})
        self.modes = dict.fromkeys(self.nodes, ACTIVE)
        for node in self.nodes.values():
            node.pop("_meta", None)
            for key, value in node["inputs"].items():
                own = key.rsplit(".", 1)[-1]
                if own in SMALL and not isinstance(value, (list, str)) or own == "save_as":
                    node["inputs"][key] = SMALL[own]
                if own in ("width", "height") and node["class_type"] != "SolidMask":
                    node["inputs"][key] = 128

    def change(self, pick: int, value: int) -> str:
        """Another value of one of the widgets."""
        widgets = [
            (node, key)
            for node in sorted(self.nodes)
            for key, given in self.nodes[node]["inputs"].items()
            if not isinstance(given, list) and key.rsplit(".", 1)[-1] in VALUES
        ]
        node, key = widgets[pick % len(widgets)]
        values = VALUES[key.rsplit(".", 1)[-1]]
        if isinstance(self.nodes[node]["inputs"][key], str) and not isinstance(values[0], str):
            return "nothing"
        self.nodes[node]["inputs"][key] = values[value % len(values)]
        return f"{key} of {node} = {values[value % len(values)]!r:.40}"

    def set_mode(self, pick: int, mode: int) -> str:
        """Mutes or bypasses a node that is active, or makes one active again."""
        found = sorted(n for n in self.nodes if (self.modes[n] == ACTIVE) == (mode != ACTIVE))
        if not found:
            return "nothing"
        node = found[pick % len(found)]
        self.modes[node] = mode
        return f"mode of {node} {self.nodes[node]['class_type']} = {mode}"

    def copy(self, pick: int, taker: int) -> str:
        """A copy of a node, which one of those that take its outputs takes instead."""
        node = sorted(self.nodes)[pick % len(self.nodes)]
        new = f"{node}c{len(self.nodes)}"
        self.nodes[new] = copy.deepcopy(self.nodes[node])
        self.modes[new] = self.modes[node]
        takers = [
            (other, key)
            for other in sorted(self.nodes)
            for key, given in self.nodes[other]["inputs"].items()
            if isinstance(given, list) and given[0] == node
        ]
        if takers:
            other, key = takers[taker % len(takers)]
            self.nodes[other]["inputs"][key] = [new, self.nodes[other]["inputs"][key][1]]
        return f"copy of {node}"

    def remove(self, pick: int) -> str:
        found = sorted(n for n in self.nodes if self.nodes[n]["class_type"] != "LoadDemoModel")
        node = found[pick % len(found)]
        del self.nodes[node], self.modes[node]
        for other in self.nodes.values():
            gone = [k for k, v in other["inputs"].items() if isinstance(v, list) and v[0] == node]
            for key in gone:
                del other["inputs"][key]
        return f"without {node}"

    def prompt(self) -> Prompt:
        """As the page queues it."""
        made: Prompt = {}
        for node, about in self.nodes.items():
            if self.modes[node] == ACTIVE:
                inputs = {}
                for key, given in about["inputs"].items():
                    found = self._source(given) if isinstance(given, list) else given
                    if found is not None:
                        inputs[key] = copy.deepcopy(found)
                made[node] = {"class_type": about["class_type"], "inputs": inputs}
        return made

    def _source(self, link: list[Any]) -> list[Any] | None:
        """Where a link comes from: through bypassed nodes by the first of their inputs of its type."""
        node, slot = link
        if node not in self.nodes or self.modes[node] == MUTED:
            return None
        if self.modes[node] == ACTIVE:
            return link
        about = self.nodes[node]
        known = self.info[about["class_type"]]
        wanted = known["output"][slot]
        inputs = {**known["input"].get("required", {}), **known["input"].get("optional", {})}
        for key, given in about["inputs"].items():
            if isinstance(given, list) and key in inputs and inputs[key][0] == wanted:
                return self._source(given)
        return None

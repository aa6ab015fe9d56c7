"""Writes tests/data/nodes.json: ids, inputs and outputs of every node, on which shared workflows rest.

    python scripts/freeze_nodes.py

Only for a change that is meant, in a version that says so: workflows that people saved or shared hold the
inputs by their order, prompts for the HTTP API by their names. What may be added without harm is a new node,
an output behind the last, and an optional input without a widget.
"""

import entry

import json
from collections.abc import Iterator, Mapping
from typing import Any

import comfyui
from comfyui import ROOT
from comfyui_server import Server

FROZEN = ROOT / "tests" / "data" / "nodes.json"
PACK = "winning-tickets"
WORDS = ("tooltip", "display_name", "label", "placeholder")
# Options that are not the pack's own: files, and what ComfyUI has.
OTHERS = {
    ("LoadTicketBank", "name"),
    *((node, n) for node in ("GuidanceCutoffKSampler", "LayoutTrial") for n in ("sampler_name", "scheduler")),
}

Facts = dict[str, Any]


def frozen(nodes: Mapping[str, Any]) -> Facts:
    """By node id, of ComfyUI's object_info: inputs in their order, with all but their words, and outputs."""
    ours = {i: n for i, n in sorted(nodes.items()) if n["python_module"] == f"custom_nodes.{PACK}"}
    return {
        node_id: {
            "inputs": list(_inputs(node_id, node["input"])),
            "outputs": [list(output) for output in zip(node["output"], node["output_name"], strict=True)],
        }
        for node_id, node in ours.items()
    }


def _inputs(node_id: str, sections: Mapping[str, Any]) -> Iterator[Facts]:
    for section in ("required", "optional"):
        for name, (kind, *more) in sections.get(section, {}).items():
            settings = {
                k: v for k, v in (more[0] if more else {}).items() if k not in WORDS and v is not None
            }
            if (node_id, name) in OTHERS:
                settings.pop("options", None)
                settings.pop("default", None)
                kind = "COMBO"
            if kind == "COMFY_DYNAMICCOMBO_V3":
                settings["options"] = [
                    {"key": o["key"], "inputs": list(_inputs(node_id, o["inputs"]))}
                    for o in settings["options"]
                ]
            if "template" in settings:
                template = settings["template"]
                settings["template"] = {**template, "input": list(_inputs(node_id, template["input"]))}
            yield {"name": name, "type": kind, "section": section, **settings}


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """What changed, each as a path and two values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(k for k in now if k not in before)]:
            yield from differences(before.get(key), now.get(key), f"{where} {key}".strip())
    elif isinstance(before, list) and isinstance(now, list):
        for i in range(max(len(before), len(now))):
            old, new = (values[i] if i < len(values) else None for values in (before, now))
            name = next((p["name"] for p in (old, new) if isinstance(p, dict) and "name" in p), i + 1)
            yield from differences(old, new, f"{where} {name}".strip())
    elif before != now:
        yield f"{where}: {_short(before)} -> {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def main() -> int:
    with Server(comfyui.ensure(comfyui.from_environment()), {PACK: ROOT}) as server:
        facts = frozen(server.client.object_info())
    FROZEN.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{FROZEN.relative_to(ROOT)}: {len(facts)} nodes")
    return 0


if __name__ == "__main__":
    entry.run_script(main)

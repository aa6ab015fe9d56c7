"""Values that no input expects, for every input of every node, from what ComfyUI tells of the nodes.

`cases` makes prompts of one node each, in which one value is odd; `Judge` runs them.
"""

from __future__ import annotations

import copy
import json
import math
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from comfyui_client import Client

Prompt = dict[str, Any]
PATIENCE = 300.0
LINES = "castle: 0 0 0.5 1\ntree: 0.5 0 1 1"
# Quick values for what takes time or has no default; by the input's own name, or node and name.
QUICK: dict[str, Any] = {
    "width": 128,
    "height": 128,
    "noises": 2,
    "steps": 2,
    "images": 1,
    "candidates": 2,
    "rounds": 1,
    "best_of": 1,
    "planted": 2,
    "layer": "input 3",
    "categories": "castle\ntree",
    "regions": LINES,
    "region": LINES,
    "layout": LINES,
    "prompt": "a castle and a tree",
    "end_prompt": "a tree",
    "phrases": "castle\ntree",
    "sampler_name": "euler",
    "scheduler": "normal",
    "category": "castle",
    "seed": 1,
    "AttentionOverSteps.layer": "all",
    "AttentionOverStepsReport.steps": "",
    "LayoutTrial.prompt": "{}",
    "LoadTicketBank.name": "demo_model.safetensors",
    "SaveTicketBank.name": "odd_values",
}
# The options of dynamic combos that show the most inputs.
CHOSEN = {"advanced": "custom", "size": "custom", "kinds": "custom"}
# By type: node and output that give a fine value.
GIVERS: dict[str, list[Any]] = {
    "MODEL": ["model", 0],
    "CLIP": ["model", 1],
    "VAE": ["model", 2],
    "TICKET_BANK": ["bank", 0],
    "CONDITIONING": ["text", 0],
    "LATENT": ["latent", 0],
    "NOISE": ["noise", 0],
    "SAMPLER": ["sampler", 0],
    "SIGMAS": ["sigmas", 0],
    "IMAGE": ["image", 0],
    "MASK": ["mask", 0],
    "TICKET_REGIONS": ["regions", 0],
    "BOUNDING_BOX": ["box", 0],
    "GUIDER": ["guider", 0],
    "TICKET_STEPS": ["watched", 5],
    "LAYOUT_TRIAL": ["trial", 4],
}
# What only the right giver's value is fine for.
OWN: dict[str, Prompt] = {
    "LayoutScore": {"images": ["trial", 2], "boxes.boxes0": ["found", 0]},
    "AttentionOverStepsReport": {"model": ["watching", 0], "latent": ["drawn", 0]},
    "GuidanceCutoffReport": {"latent": ["cut", 0], "model": ["cutting", 0]},
}
LONG = ("x" * 1_000_000, "castle\n" * 20_000, "1," * 20_000 + "x", "\u57ce" * 15_000)
TEXTS = (
    *("", "\n\n", "a\x1b[2Jb\x00", "\ud800", "\u202e\u200b", "NaN", "{}", "[]", "{", '{"regions": 3}'),
    *("\u57ce\u5821", "\u0627\u0644\u0642\u0644\u0639\u0629", "\U0001f3f0", "-1", "embedding:none"),
    *("(castle:1e400)", "../../../etc/passwd", "%s%n<script>"),
)


@dataclass(frozen=True)
class Case:
    """A prompt in which one input of a node is odd. must: it may not run."""

    node: str
    name: str
    what: str
    prompt: Prompt
    must: bool = False

    def __str__(self) -> str:
        return f"{self.node}.{self.name}: {self.what}"


def support(info: Prompt) -> Prompt:
    """The nodes that give fine values of every type."""
    nodes: Prompt = {
        "model": _node("LoadDemoModel"),
        "bank": _node("LoadTicketBank", name="demo_model.safetensors"),
        "text": _node("CLIPTextEncode", text="a castle and a tree", clip=["model", 1]),
        "no text": _node("CLIPTextEncode", text="", clip=["model", 1]),
        "latent": _node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "noise": _node("RandomNoise", noise_seed=3),
        "sampler": _node("KSamplerSelect", sampler_name="euler"),
        "sigmas": _node("BasicScheduler", model=["model", 0], scheduler="normal", steps=2, denoise=1.0),
        "image": _node("EmptyImage", width=64, height=64, batch_size=1, color=0),
        "mask": _node("SolidMask", value=1.0, width=64, height=64),
        "regions": _node("TicketRegions", width=128, height=128, layout=LINES),
        "box": _node("PrimitiveBoundingBox", x=0, y=0, width=64, height=64),
    }
    nodes["guider"] = _node("GuidanceCutoffGuider", **_inputs(info, "GuidanceCutoffGuider"))
    nodes["watching"] = _node("AttentionOverSteps", **_inputs(info, "AttentionOverSteps"))
    nodes["cutting"] = _node("GuidanceCutoff", **_inputs(info, "GuidanceCutoff"))
    how = {"sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, "cfg": 5.0, "seed": 1}
    for name, model in (("drawn", "watching"), ("cut", "cutting")):
        about = {"positive": ["text", 0], "negative": ["no text", 0], "latent_image": ["latent", 0]}
        nodes[name] = _node("KSampler", model=[model, 0], steps=4, **how, **about)
    report = {"latent": ["drawn", 0], "model": ["watching", 0], "steps": "", "number": 1}
    nodes["watched"] = _node("AttentionOverStepsReport", **report)
    trial = _inputs(info, "LayoutTrial") | {"vae": ["model", 2]}
    nodes["trial"] = _node("LayoutTrial", **trial)
    nodes["found"] = _node("DetectDemoObjects", latent=["trial", 3])
    return nodes


def _node(kind: str, **inputs: Any) -> Prompt:
    return {"class_type": kind, "inputs": inputs}


@dataclass(frozen=True)
class Input:
    """An input as a prompt names it, its type, its settings, and what else a prompt then has."""

    name: str
    kind: str
    settings: Prompt
    beside: tuple[tuple[str, Any], ...] = ()
    optional: bool = False

    @property
    def own(self) -> str:
        return self.name.rsplit(".", 1)[-1]


def inputs_of(found: Prompt, before: str = "", beside: tuple[tuple[str, Any], ...] = ()) -> Iterator[Input]:
    """All inputs of a node, those behind every option of its dynamic combos, too."""
    for section in ("required", "optional"):
        for name, (kind, *rest) in found.get(section, {}).items():
            settings, full = (rest or [{}])[0], before + name
            if isinstance(kind, list):
                kind, settings = "COMBO", {**settings, "options": kind}
            if kind == "COMFY_AUTOGROW_V3":
                template = settings["template"]
                ((inner, inner_rest),) = template["input"]["required"].values()
                for k in range(max(template["min"], 1)):
                    yield Input(f"{full}.{template['prefix']}{k}", inner, inner_rest, beside)
                continue
            yield Input(full, kind, settings, beside, section == "optional")
            for option in settings.get("options", []) if kind == "COMFY_DYNAMICCOMBO_V3" else []:
                yield from inputs_of(option["inputs"], f"{full}.", (*beside, (full, option["key"])))


def _fine(node: str, one: Input) -> Any:
    """A value that the input takes; None: it is left out."""
    for name in (f"{node}.{one.own}", one.own):
        if name in QUICK and (
            one.kind in ("INT", "FLOAT", "STRING", "COMBO") or one.kind.startswith("STRING,")
        ):
            return QUICK[name]
    if one.kind == "COMFY_DYNAMICCOMBO_V3":
        keys = [option["key"] for option in one.settings["options"]]
        return CHOSEN.get(one.own, keys[0]) if CHOSEN.get(one.own, keys[0]) in keys else keys[0]
    if "default" in one.settings and one.kind not in GIVERS:
        return one.settings["default"]
    if one.kind == "COMBO":
        return one.settings["options"][0]
    if one.optional:
        return None
    return next((GIVERS[kind] for kind in one.kind.split(",") if kind in GIVERS), None)


def _inputs(info: Prompt, node: str, beside: tuple[tuple[str, Any], ...] = ()) -> Prompt:
    """Fine values of all inputs of a node, with these options of its dynamic combos."""
    chosen = dict(beside)
    values: Prompt = {}
    for one in inputs_of(info[node]["input"]):
        if all(values.get(name) == key for name, key in one.beside):
            value = chosen.get(one.name, _fine(node, one))
            if value is not None:
                values[one.name] = value
    return values | OWN.get(node, {})


def fine(info: Prompt, node: str) -> Prompt:
    """A prompt of this node, called `odd`, and of all that it needs, with fine values."""
    return _prompt(info, support(info), node, _inputs(info, node), {})


def _prompt(info: Prompt, parts: Prompt, node: str, values: Prompt, more: Prompt) -> Prompt:
    """The node with these values, all that it needs, and something that shows its result."""
    nodes = {**parts, **more, "odd": _node(node, **values)}
    if not info[node]["output_node"]:
        nodes["shown"] = _node("PreviewAny", source=["odd", 0])
    return needed(nodes, "odd") | {key: nodes[key] for key in ("shown",) if key in nodes}


def needed(nodes: Prompt, last: str) -> Prompt:
    """A node and those that it needs."""
    kept, waiting = {}, [last]
    while waiting:
        key = waiting.pop()
        if key not in kept:
            kept[key] = nodes[key]
            links = (v for v in nodes[key]["inputs"].values() if isinstance(v, list) and len(v) == 2)
            waiting += [str(link[0]) for link in links if str(link[0]) in nodes]
    return copy.deepcopy(kept)


def quick_prompt(
    info: Prompt,
    node: str,
    beside: tuple[tuple[str, Any], ...] = (),
    more: Prompt | None = None,
    **values: Any,
) -> Prompt:
    """A prompt of a node, called odd, with quick values, but these options of dynamic combos and values.

    more: nodes that take what it gives.
    """
    filled = _inputs(info, node, beside) | values
    return _prompt(info, support(info), node, filled, {}) | copy.deepcopy(more or {})


def _odd(one: Input, packs: Prompt) -> Iterator[tuple[str, Any, Prompt, bool]]:
    """What, value, further nodes, and whether it must be refused."""
    low, high = one.settings.get("min"), one.settings.get("max")
    if one.kind in ("INT", "FLOAT"):
        for value in (math.nan, math.inf, -math.inf, 10**400, "text", None, {}, [1, 2, 3], ["nowhere", 0]):
            yield f"{value!r:.20}", value, {}, True
        step = 1 if one.kind == "INT" else 1e-3
        for value in (low - step, high + step, -(2**70), 2**70):
            if not low <= value <= high:
                yield f"{value}", value, {}, True
                primitive = "PrimitiveInt" if one.kind == "INT" else "PrimitiveFloat"
                if abs(value) < 2**62:
                    linked = {"link": _node(primitive, value=value)}
                    yield f"{value} over a link", ["link", 0], linked, True
        if one.kind == "FLOAT":
            yield "NaN over a link", ["link", 0], {"link": _node("PrimitiveFloat", value=math.nan)}, True
        yield "text over a link", ["link", 0], {"link": _node("PrimitiveString", value="3")}, True
        yield "the least", low, {}, False
        yield "as text", f" {low} ", {}, False
    elif one.kind == "BOOLEAN":
        yield from ((f"{v!r:.20}", v, {}, False) for v in ("no", None, math.nan, {}))
    elif one.kind in ("COMBO", "COMFY_DYNAMICCOMBO_V3"):
        # ComfyUI drops an optional dynamic combo whose value is none of its options.
        must = not (one.optional and one.kind == "COMFY_DYNAMICCOMBO_V3")
        yield from ((f"{v!r:.20}", v, {}, must) for v in ("none of them", "", 5, None, math.nan, True))
    elif one.kind.split(",")[0] == "STRING":
        for text in TEXTS:
            yield ascii(text), text, {}, False
        for text in LONG:
            yield f"{len(text)} characters, {ascii(text[:4])}", text, {}, False
        for value in (5, None, {}, math.nan, True):
            yield f"{value!r:.20}", value, {}, one.kind != "STRING"
    if one.kind.split(",")[0] not in ("INT", "FLOAT", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"):
        if one.kind.split(",")[0] != "STRING":
            for value in (5, "text", True, {}):
                boxes = isinstance(value, dict) and "BOUNDING_BOX" in one.kind
                yield f"{value!r:.20}", value, {}, not boxes
            if not one.optional:
                yield "missing", None, {}, True
            wrong = ["link", 0], {"link": _node("PrimitiveFloat", value=1.0)}
            yield "a number over a link", *wrong, True
        for kind in one.kind.split(","):
            for name in packs.get(kind, ()):
                yield (
                    f"{kind}/{name}",
                    ["link", 0],
                    {"link": _node("OddObject", what=f"{kind}/{name}")},
                    False,
                )


def cases(info: Prompt, nodes: list[str], odd: Prompt) -> Iterator[Case]:
    """info: /object_info. odd: `odd_pack.ODD`, or {} where that pack is not there."""
    parts = support(info)
    for node in nodes:
        for one in inputs_of(info[node]["input"]):
            values = _inputs(info, node, one.beside)
            for what, value, more, must in _odd(one, odd):
                changed = {**values, one.name: value}
                if what == "missing":
                    del changed[one.name]
                yield Case(node, one.name, what, _prompt(info, parts, node, changed, more), must)


@dataclass(frozen=True)
class Answer:
    """refused: by ComfyUI when it was queued. node: whose error it is; empty: it ran."""

    node: str
    message: str
    refused: bool
    took: float


class Judge:
    """Runs cases on a server."""

    def __init__(self, client: Client, info: Prompt) -> None:
        self.client, self.info = client, info

    def run(self, prompt: Prompt) -> Answer:
        began = time.monotonic()
        try:
            body = json.dumps({"prompt": prompt}).encode()
            answer = json.loads(self.client.get("/prompt", json.loads(body), timeout=PATIENCE))
        except urllib.error.HTTPError as error:
            return self._refusal(error, began)
        key = answer["prompt_id"]
        if errors := answer.get("node_errors"):
            self.client.interrupt(key)
            return Answer(*_told(errors), True, time.monotonic() - began)
        while time.monotonic() < began + PATIENCE:
            entry = json.loads(self.client.get(f"/history/{key}")).get(key)
            if entry:
                took = time.monotonic() - began
                for name, data in entry["status"]["messages"]:
                    if name == "execution_error":
                        kind = f"{data['exception_type']}: " if _is_raw(data) else ""
                        return Answer(
                            data["node_type"], kind + data["exception_message"].rstrip("\n"), False, took
                        )
                return Answer("", "", False, took)
            time.sleep(0.02)
        self.client.interrupt(key)
        return Answer("?", f"did not end within {PATIENCE:.0f} s", False, PATIENCE)

    def _refusal(self, error: urllib.error.HTTPError, began: float) -> Answer:
        raw = error.read()
        took = time.monotonic() - began
        try:
            told = json.loads(raw)
        except ValueError:
            return Answer("ComfyUI", f"status {error.code}: {raw[:200]!r}", True, took)
        errors = told.get("node_errors")
        if not errors:
            return Answer("ComfyUI", json.dumps(told.get("error", told)), True, took)
        return Answer(*_told(errors), True, took)

    def picture(self) -> bytes:
        """What a sampler draws of the demo model: the same after whatever came before."""
        parts = support(self.info)
        sampled = _node("GuidanceCutoffKSampler", **_inputs(self.info, "GuidanceCutoffKSampler"))
        more = {"decoded": _node("VAEDecode", samples=["odd", 0], vae=["model", 2])}
        prompt = _prompt(self.info, parts, "GuidanceCutoffKSampler", sampled["inputs"], {})
        del prompt["shown"]
        prompt |= more | {"shown": _node("PreviewImage", images=["decoded", 0])}
        entry = self.client.run(prompt, PATIENCE)
        return self.client.image(**entry["outputs"]["shown"]["images"][0])

    def fault(self, case: Case, answer: Answer) -> str:
        """What is wrong with an answer; empty if nothing is."""
        if answer.node == "?":
            return answer.message
        if not answer.node:
            return "it ran" if case.must else ""
        if answer.refused:
            if "nowhere" in case.what:
                return ""
            if answer.node == "ComfyUI":
                return f"refused: {answer.message}"
            return "" if _names(case, answer.message) else f"refused: {answer.message}"
        if answer.node != case.node:
            return "" if answer.node in ("OddObject", "KSampler") else f"{answer.node}: {answer.message}"
        if case.what in STOCK and not answer.message.startswith(self.info[case.node]["display_name"]):
            return ""
        if "\n" in answer.message or not answer.message.isprintable() or len(answer.message) > 700:
            return f"no sentence: {answer.message!r:.300}"
        if not answer.message.startswith(self.info[case.node]["display_name"]):
            return f"not ours: {answer.message:.300}"
        return "" if _names(case, answer.message) else f"names no input: {answer.message:.300}"


def _is_raw(data: Prompt) -> bool:
    return "winning" not in data["exception_type"] and data["exception_type"].startswith(
        ("Attribute", "Type", "Key", "Index", "Unicode", "Runtime", "Zero", "Overflow", "Assertion", "torch")
    )


def _told(errors: Prompt) -> tuple[str, str]:
    """Of the node errors the odd node's, else the first."""
    found = errors.get("odd") or next(iter(errors.values()))
    lines = [
        f"{e['message']}: {e['details']} {(e.get('extra_info') or {}).get('input_name', '')}"
        for e in found["errors"]
    ]
    return found["class_type"], "; ".join(lines)


# What the model itself breaks on, with the sentence that it gives in ComfyUI's own KSampler, too.
STOCK = ("CONDITIONING/other width", "LATENT/a pixel", "LATENT/a video")
# What messages call an input that they do not name as the node shows it.
ALSO = {
    "layout": ("region",),
    "regions": ("region", "box", "categor"),
    "more_regions": ("region", "box"),
    "region": ("region", "box", "mask"),
    "boxes": ("box",),
    "categories": ("categor",),
    "phrases": ("phrase", "is not in the prompt"),
    "names": ("categor",),
    "latent_image": ("latent",),
    "save_as": ("name",),
    "fill": ("noise connected",),
    "negative": ("prompts", "latents contain NaN"),
}


def _names(case: Case, message: str) -> bool:
    own = case.name.rsplit(".", 1)[-1].rstrip("0123456789")
    texts = (own, own.replace("_", " "), *ALSO.get(own, ()))
    return any(text.lower() in message.lower() for text in texts)

"""What trial.py asks ComfyUI for, as prompts in API format. Standard library only."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prompt_boxes import Layout

Prompt = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """What is tried: categories to make layouts of, or one layout."""

    categories: tuple[str, ...]
    layout: Layout | None = None


LOADERS = {"UNet": "LoadDemoModel", "transformer": "LoadDemoTransformer"}
"""Of the demo's models."""


def loading(options: argparse.Namespace) -> Prompt:
    """A prompt in API format: the model alone."""
    if options.demo:
        return {"1": {"class_type": LOADERS[options.model], "inputs": {}}}
    inputs = {"ckpt_name": Path(options.checkpoint).name if not options.url else options.checkpoint}
    return {"1": {"class_type": "CheckpointLoaderSimple", "inputs": inputs}}


def collecting(options: argparse.Namespace, categories: Sequence[str], noises: int, layer: str) -> Prompt:
    """A prompt in API format: the model, and a bank of these categories."""
    width, height = options.size
    collect = {
        "model": ["1", 0],
        "clip": ["1", 1],
        "categories": "\n".join(categories),
        "noises": noises,
        "seed": options.seed,
        "width": width,
        "height": height,
        "layer": layer,
        "advanced": "defaults",
        "save_as": "",
    }
    return loading(options) | {"2": {"class_type": "CollectTickets", "inputs": collect}}


def graph(options: argparse.Namespace, task: Task, name: str, images: int, layer: str) -> Prompt:
    """A prompt in API format: the model, if tickets are tried a bank of the task's categories, the trial."""
    width, height = options.size
    regions, template = "\n".join(task.categories), "{}"
    if task.layout:
        boxes = [{"category": category, "box": box} for category, box in task.layout.regions]
        regions, template = json.dumps({"regions": boxes}), task.layout.prompt
    trial = {
        "model": ["1", 0],
        "clip": ["1", 1],
        "regions": regions,
        "size": "custom",
        "size.width": width,
        "size.height": height,
        "images": images,
        "seed": options.seed,
        "steps": options.steps,
        "cfg": options.cfg,
        "sampler_name": options.sampler,
        "scheduler": options.scheduler,
        "advanced": "custom",
        "advanced.prompt": template,
        "advanced.save_as": name,
        "advanced.look_after_percent": options.look_after,
    }
    if options.control:
        trial |= {"kinds": "custom", "kinds.control": True}
    if options.no_tickets:
        before = loading(options)
        trial["advanced.layer"] = layer
    else:
        before = collecting(options, task.categories, options.noises, layer)
        trial["bank"] = ["2", 0]
    return before | {"3": {"class_type": "LayoutTrial", "inputs": trial}}


def completed(prompt: Prompt, node: str, info: dict[str, Any]) -> Prompt:
    """With the defaults of all inputs of `node` that are not given, those behind chosen options included."""
    given = prompt[node]["inputs"]
    schema = info[prompt[node]["class_type"]]["input"]

    def fill(inputs: dict[str, Any], before: str) -> None:
        for name, (kind, *more) in inputs.items():
            settings = more[0] if more else {}
            key = before + name
            options = settings.get("options", ())
            if kind == "COMFY_DYNAMICCOMBO_V3":
                given.setdefault(key, options[0]["key"])
                (option,) = (o for o in options if o["key"] == given[key])
                for part in option["inputs"].values():
                    fill(part, f"{key}.")
            elif "default" in settings:
                given.setdefault(key, settings["default"])

    for part in ("required", "optional"):
        fill(schema.get(part, {}), "")
    return prompt

"""One layer for all prompts of a file, chosen by the categories of several of them. Standard library only."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from comfyui_client import Client, PromptError
from trial_graph import Task, collecting, completed
from trial_progress import waited

AUTO = "auto"
# Categories by which the layer is chosen.
MOST_TOGETHER = 8


def together(tasks: Sequence[Task]) -> list[str]:
    """The first categories of several tasks, each once."""
    found: dict[str, str] = {}
    for category in (c for task in tasks for c in task.categories):
        found.setdefault(" ".join(category.replace('"', " ").casefold().split()), category)
    return list(found.values())[:MOST_TOGETHER]


def layer_together(options: argparse.Namespace, client: Client, tasks: Sequence[Task], name: str) -> str:
    """The layer that `auto` chooses by the categories of several prompts; empty where it cannot.

    Prints the reason, which says whether it is sure.
    """
    categories = together(tasks)
    prompt = collecting(options, categories, 1, AUTO)
    completed(prompt, "2", client.object_info())
    prompt["3"] = {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}}
    try:
        said = waited(client, client.queue(prompt), name, 1)["outputs"].get("2", {})
    except PromptError as error:
        print(
            f"No layer could be chosen by {', '.join(categories)}: {str(error).splitlines()[0]}", flush=True
        )
        return ""
    layer, text = str(said.get("layer", [""])[0]), str(said.get("text", [""])[0])
    why = text[text.find("layer auto") :] if "layer auto" in text else ""
    if layer:
        print(f"Layer {layer} for all prompts, by {', '.join(categories)}. {why}".rstrip(), flush=True)
    return layer


def about_trial(entry: dict[str, Any], key: str) -> str:
    """What Layout Trial says of itself for scripts; empty where it says nothing, as older ones."""
    said = entry["outputs"].get("3", {}).get("trial") or [{}]
    return str(said[0].get(key, ""))

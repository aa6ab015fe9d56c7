"""Shows what the pack does, from nothing: gets ComfyUI, runs the example workflow, leaves pictures.

    python scripts/demo.py              pictures in output/, a line about each
    python scripts/demo.py --measure    how often it works: hundreds of images, some minutes
    python scripts/demo.py --model transformer      the same with the demo's transformer

Standard library only; without --comfyui DIR it first installs ComfyUI into .comfyui/.
"""

import entry
from entry import SetupError, put, run_child, writing

import argparse
import copy
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import comfyui
from comfyui import ROOT, Install
from comfyui_client import Client, PromptError, ServerError
from comfyui_server import Server

WORKFLOW = ROOT / "demo" / "example_workflows" / "api" / "first_picture.json"
PACKS = {"winning-tickets": ROOT, "winning-tickets-demo": ROOT / "demo"}
LEFT, RIGHT = "0.0625 0.3125 0.4375 0.6875", "0.5625 0.3125 0.9375 0.6875"
TOP_LEFT, BOTTOM_RIGHT = "0.0625 0.0625 0.4375 0.4375", "0.5625 0.5625 0.9375 0.9375"

Prompt = dict[str, dict[str, Any]]


class Scene(NamedTuple):
    """A layout to show: file name, prompt, and the box of each object."""

    name: str
    prompt: str
    regions: Mapping[str, str]


SCENES = (
    Scene("castle_right", "a castle and a tree", {"castle": RIGHT, "tree": LEFT}),
    Scene("castle_left", "a castle and a tree", {"castle": LEFT, "tree": RIGHT}),
    Scene("sun_and_car", "a sun and a car", {"sun": TOP_LEFT, "car": BOTTOM_RIGHT}),
    Scene("flower_and_fish", "a flower and a fish", {"flower": BOTTOM_RIGHT, "fish": TOP_LEFT}),
)
SEED = 7
EMPTY = "empty"
LOADERS = {"UNet": "LoadDemoModel", "transformer": "LoadDemoTransformer"}
LAYERS = {"UNet": "input 3", "transformer": "block 3"}
"""Of each model, the one in which tickets are collected."""
ELSEWHERE = "name another folder with --output DIR"


def nodes_of(prompt: Prompt, kind: str) -> list[dict[str, Any]]:
    return [node for node in prompt.values() if node["class_type"] == kind]


def compose(workflow: Prompt, scene: Scene, tickets: bool, model: str = "UNet") -> Prompt:
    """The example workflow for one scene; without tickets it is the same but for the noise, and none are
    collected.
    """
    prompt = copy.deepcopy(workflow)
    for loader in nodes_of(prompt, LOADERS["UNet"]):
        loader["class_type"] = LOADERS[model]
    (sampler,) = nodes_of(prompt, "GuidanceCutoffKSampler")
    (layout,) = nodes_of(prompt, "TicketLatentFromRegions")
    (collect,) = nodes_of(prompt, "CollectTickets")
    prompt[sampler["inputs"]["positive"][0]]["inputs"]["text"] = scene.prompt
    collect["inputs"]["layer"] = LAYERS[model]
    collect["inputs"]["categories"] = "\n".join(dict.fromkeys(c for s in SCENES for c in s.regions))
    layout["inputs"]["regions"] = "\n".join(f"{c}: {box}" for c, box in scene.regions.items())
    for node in (sampler, layout):
        node["inputs"]["seed"] = SEED
    if not tickets:
        del sampler["inputs"]["noise"]
        size = {side: collect["inputs"][side] for side in ("width", "height")}
        prompt[EMPTY] = {"class_type": "EmptyLatentImage", "inputs": {**size, "batch_size": 1}}
        sampler["inputs"]["latent_image"] = [EMPTY, 0]
    sampled = next(key for key, node in prompt.items() if node is sampler)
    decoded = {k for k, n in prompt.items() if n["inputs"].get("samples") == [sampled, 0]}
    (saved,) = (
        k for k, n in prompt.items() if n["class_type"] == "SaveImage" and n["inputs"]["images"][0] in decoded
    )
    return needed(prompt, saved)


def needed(prompt: Prompt, last: str) -> Prompt:
    """The node `last` and all that it is made of."""
    found, open_ = set[str](), [last]
    while open_:
        key = open_.pop()
        found.add(key)
        links = (v for v in prompt[key]["inputs"].values() if isinstance(v, list))
        open_ += [source for source, _ in links if source not in found]
    return {key: node for key, node in prompt.items() if key in found}


def run(client: Client, prompt: Prompt, target: Path) -> dict[str, Any]:
    """Queue a prompt, save its picture, and tell the sampler's report and the seconds it took."""
    started = time.monotonic()
    outputs = client.run(prompt)["outputs"]
    seconds = time.monotonic() - started
    images = (image for out in outputs.values() for image in out.get("images", ()))
    # Nodes of the pack show pictures of their own, which are temporary.
    (picture,) = (image for image in images if image["type"] == "output")
    put(target, client.image(**picture), ELSEWHERE)
    sampler = next(k for k, n in prompt.items() if n["class_type"] == "GuidanceCutoffKSampler")
    report = outputs[sampler]["text"][0]
    return {"picture": str(target), "nfe": report.split(" for ")[0], "seconds": round(seconds, 1)}


def show(install: Install, output: Path, model: str) -> None:
    """Every scene with plain noise and with tickets, side by side."""
    with writing(output, ELSEWHERE):
        output.mkdir(parents=True, exist_ok=True)
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    jobs = []
    print("Starting ComfyUI ...")
    with Server(install, PACKS) as server:
        print("Collecting tickets and sampling ...")
        for scene in SCENES:
            runs = {
                kind: run(
                    server.client,
                    compose(workflow, scene, kind == "tickets", model),
                    output / f"{scene.name}_{kind}.png",
                )
                for kind in ("plain", "tickets")
            }
            jobs.append({"name": scene.name, "prompt": scene.prompt, "regions": scene.regions, **runs})
    listing = output / "pictures.json"
    put(listing, json.dumps(jobs, indent=1).encode(), ELSEWHERE)
    call(install, "pictures.py", str(listing))
    print(f"Pictures: {output}")


def call(install: Install, script: str, *arguments: str, variant: str = "") -> None:
    """Run a script of demo/ with ComfyUI's Python."""
    command = [install.python, ROOT / "demo" / script, "--comfyui", install.root, *arguments]
    if run_child(command, **({"DEMO_VARIANT": variant} if variant else {})):
        raise SetupError(f"demo/{script} failed; what it said stands above.")


def main() -> int:
    parser = argparse.ArgumentParser(description="Show what Winning Tickets does.")
    comfyui.add_option(parser)
    parser.add_argument("--measure", action="store_true", help="measure how often it works instead")
    parser.add_argument("--model", choices=tuple(LOADERS), default="UNet", help="default: UNet")
    parser.add_argument("--output", type=Path, default=ROOT / "output", help="folder for the pictures")
    options = parser.parse_args()
    install = comfyui.ensure(options.comfyui)
    if options.measure:
        variant = options.model if options.model != "UNet" else ""
        for what in ("presence", "regions"):
            call(install, "measure.py", what, "--layer", LAYERS[options.model], variant=variant)
        return 0
    try:
        show(install, options.output.resolve(), options.model)
    except (ServerError, PromptError) as error:
        raise SetupError(str(error)) from error
    return 0


if __name__ == "__main__":
    entry.run_script(main)

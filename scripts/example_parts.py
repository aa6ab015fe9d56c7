"""What the example workflows are made of: models to make them for, groups, and nodes that several have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from page_graph import Link, Node

BLUE, GOLD, GREEN, GREY = "#3f789e", "#b58b2a", "#5a8a3a", "#777777"
LEFT, RIGHT = [0.0625, 0.3125, 0.4375, 0.6875], [0.5625, 0.3125, 0.9375, 0.6875]
TOP_LEFT, BOTTOM_RIGHT = [0.0625, 0.0625, 0.4375, 0.4375], [0.5625, 0.5625, 0.9375, 0.9375]


@dataclass(frozen=True)
class Kit:
    """A model to make the examples for. block: the layer's, in latent pixels; bank: in ticket_banks."""

    loader: Node
    first: str
    side: int
    cfg: float
    layer: str
    block: int
    noises: int
    bank: str
    about_bank: str
    trial: dict[str, Any]
    trial_layer: str
    about_trial: str

    @property
    def size(self) -> dict[str, Any]:
        return {"width": self.side, "height": self.side}


SD1 = Kit(
    Node("CheckpointLoaderSimple", size=(340, 120), title="Checkpoint (any SD1.x)"),
    "Choose your SD1.x checkpoint in the first node.",
    512,
    7.0,
    "input 8",
    4,
    128,
    "my_bank.safetensors",
    "Make its bank first, with *collect_and_save_a_bank*.",
    {"images": 64, "steps": 12},
    "auto",
    "It draws 320 images, minutes on a GPU.",
)
DEMO = Kit(
    Node("LoadDemoModel", size=(340, 120)),
    "Press Run: the small demo model is set.",
    256,
    5.0,
    "input 3",
    2,
    192,
    "demo_model.safetensors",
    "Its bank knows castle, tree, sun, car, flower and fish.",
    {"images": 12, "steps": 10},
    "input 3",
    "It draws 60 small images, about two minutes on a CPU.",
)


@dataclass(frozen=True)
class Group:
    title: str
    color: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """columns: groups from left to right, a column's from top to bottom. The note is above the first."""

    note: str
    nodes: dict[str, Node]
    columns: tuple[tuple[Group, ...], ...]
    scale: float = 0.8
    """Of the view that it opens with."""


MODEL: dict[str, Link] = {"model": ("model", 0), "clip": ("model", 1)}
INPUTS = Group("Model and prompts", BLUE, ("model", "prompt", "negative"))


def prompts(text: str = "a castle and a tree", width: int = 340) -> dict[str, Node]:
    clip: dict[str, Link] = {"clip": ("model", 1)}
    return {
        "prompt": Node("CLIPTextEncode", {"text": text}, clip, (width, 120), "Prompt"),
        "negative": Node("CLIPTextEncode", {"text": ""}, clip, (width, 100), "Negative prompt"),
    }


def sampling(kit: Kit, sampler: str = "euler", scheduler: str = "normal", seed: int = 7) -> dict[str, Any]:
    values = {"seed": seed, "steps": 20, "cfg": kit.cfg}
    return {**values, "sampler_name": sampler, "scheduler": scheduler}


def sampler_links(model: str, latent: Link) -> dict[str, Link]:
    return {
        "model": (model, 0),
        "positive": ("prompt", 0),
        "negative": ("negative", 0),
        "latent_image": latent,
    }


def picture(name: str, samples: str, title: str, prefix: str, height: int = 280) -> dict[str, Node]:
    links: dict[str, Link] = {"samples": (samples, 0), "vae": ("model", 2)}
    saved = Node(
        "SaveImage", {"filename_prefix": prefix}, {"images": (f"{name} image", 0)}, (300, height), title
    )
    return {f"{name} image": Node("VAEDecode", {}, links, (300, 50), "Decode"), f"{name} saved": saved}


def editor(kit: Kit, **boxes: list[float]) -> Node:
    regions = [{"category": name, "box": box} for name, box in boxes.items()]
    layout = json.dumps({"regions": regions}, separators=(",", ":"))
    return Node("TicketRegions", {**kit.size, "layout": layout}, {}, (380, 600))


def with_noise(kit: Kit, noise: str, seed: int = 7) -> Node:
    links: dict[str, Link] = {**sampler_links("model", (noise, 2)), "noise": (noise, 0)}
    return Node("GuidanceCutoffKSampler", sampling(kit, seed=seed), links, (320, 500))


def plain(kit: Kit, latent: Link, seed: int = 7) -> Node:
    return Node("KSampler", sampling(kit, seed=seed), sampler_links("model", latent), (320, 280))

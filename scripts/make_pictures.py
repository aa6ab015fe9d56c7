"""Makes web/docs/images: every node as it looks after a run on the demo model, in ComfyUI's own page.

    python scripts/make_pictures.py [NodeId ...]

Needs Chromium and playwright, as make_workflow.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection

import browser as browsers
import comfyui
from comfyui import ROOT
from comfyui_server import Server
from page_graph import BUILD, Link, Node, described

IMAGES = ROOT / "web" / "docs" / "images"
SIDE = {"width": 256, "height": 256}
REGIONS = "castle: 0.5625 0.3125 0.9375 0.6875\ntree: 0.0625 0.3125 0.4375 0.6875"
PATIENCE = 1800.0

MODEL: dict[str, Link] = {"model": ("demo", 0), "clip": ("demo", 1)}
DRAWN: dict[str, Link] = {"positive": ("prompt", 0), "negative": ("empty", 0)}
SAMPLING = {"steps": 10, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "seed": 7}
TRIED: dict[str, Link] = {**MODEL, "bank": ("load", 0), "vae": ("demo", 2)}
TRIAL = {"images": 12, "steps": 10, "cfg": 5.0}
AFTER = {"look": "after steps", "look.steps": 10, "look.cfg": 5.0}
RUN: dict[str, Link] = {
    **{"look.sampler": ("euler", 0), "look.sigmas": ("sigmas", 0)},
    **{"look.positive": ("prompt", 0), "look.negative": ("empty", 0)},
}
CATEGORIES = "castle\ntree\ncar"

# In an order in which every link points back. Shown is the last node of each kind.
GRAPH: dict[str, Node] = {
    "demo": Node("LoadDemoModel"),
    "prompt": Node("CLIPTextEncode", {"text": "a castle and a tree"}, {"clip": ("demo", 1)}),
    "empty": Node("CLIPTextEncode", {"text": ""}, {"clip": ("demo", 1)}),
    "latent": Node("EmptyLatentImage", SIDE),
    "mask": Node("SolidMask", {"value": 1.0, **SIDE}),
    "box": Node("PrimitiveBoundingBox", {"x": 16, "y": 80, "width": 96, "height": 96}),
    "random": Node("RandomNoise", {"noise_seed": 7}),
    "euler": Node("KSamplerSelect", {"sampler_name": "euler"}),
    "sigmas": Node("BasicScheduler", {"scheduler": "normal", "steps": 10}, {"model": ("demo", 0)}),
    "more": Node(
        "CollectTickets",
        {"categories": CATEGORIES, "noises": 16, "seed": 1000, "layer": "input 3", **SIDE},
        MODEL,
    ),
    "collect": Node(
        "CollectTickets",
        {"categories": CATEGORIES, "noises": 32, "seed": 1, "layer": "input 3", **SIDE},
        MODEL,
        (380, 680),
    ),
    "merge": Node("MergeTicketBanks", {}, {"banks.bank0": ("collect", 0), "banks.bank1": ("more", 0)}),
    "save": Node("SaveTicketBank", {"name": "castles"}, {"bank": ("merge", 0)}),
    "load": Node("LoadTicketBank", {"name": "demo_model.safetensors"}),
    "bank": Node("TicketBankReport", {}, {"bank": ("merge", 0)}, (560, 860)),
    "layers": Node(
        "TicketLayerReport",
        {"categories": "castle\ntree\ncar", "noises": 16, "planted": 4, "images": 2, **SIDE},
        MODEL,
        (560, 1030),
    ),
    "regions": Node("TicketRegions", {**SIDE, "layout": REGIONS}, {}, (400, 600)),
    "painted": Node("TicketRegionFromMask", {"category": "lake"}, {"mask": ("mask", 0)}),
    "boxes": Node("TicketRegionsFromBoxes", {"category": "tree", **SIDE}, {"boxes": ("box", 0)}),
    "tickets": Node(
        "TicketLatentFromRegions",
        {"seed": 7},
        {"bank": ("merge", 0), "regions": ("regions", 0), **MODEL},
        (480, 840),
    ),
    "arranged": Node(
        "ArrangeNoiseByRegions",
        {"seed": 7, "layer": "input 3"},
        {"regions": ("regions", 0), **MODEL},
        (480, 800),
    ),
    "picked": Node(
        "PickBestNoise",
        {"seed": 7, "layer": "input 3", "candidates": 16, **AFTER},
        {"regions": ("regions", 0), **MODEL, **RUN},
        (480, 860),
    ),
    "redrawn": Node(
        "RedrawNoiseInRegion",
        {"seed": 8, "edge": 3},
        {"noise": ("random", 0), "latent_image": ("latent", 0)},
        (480, 560),
    ),
    "noise": Node(
        "NoiseReport", {"block": 2}, {"noise": ("tickets", 0), "latent_image": ("latent", 0)}, (560, 880)
    ),
    "sampler": Node(
        "GuidanceCutoffKSampler",
        SAMPLING,
        {"model": ("demo", 0), **DRAWN, "latent_image": ("tickets", 2), "noise": ("tickets", 0)},
        (400, 0),
    ),
    "cutoff": Node("GuidanceCutoff", {}, {"model": ("demo", 0)}),
    "stock": Node("KSampler", SAMPLING, {"model": ("cutoff", 0), **DRAWN, "latent_image": ("latent", 0)}),
    "guider": Node("GuidanceCutoffGuider", {"cfg": 5.0}, {"model": ("demo", 0), **DRAWN}),
    "custom": Node(
        "SamplerCustomAdvanced",
        {},
        {
            "noise": ("random", 0),
            "guider": ("guider", 0),
            "sampler": ("euler", 0),
            "sigmas": ("sigmas", 0),
            "latent_image": ("latent", 0),
        },
    ),
    "report": Node(
        "GuidanceCutoffReport", {}, {"latent": ("custom", 0), "guider": ("guider", 0)}, (400, 200)
    ),
    "second": Node("GuidanceCutoffReport", {}, {"latent": ("stock", 0), "model": ("cutoff", 0)}, (400, 200)),
    "watch": Node(
        "AttentionOverSteps",
        {"prompt": "a castle and a tree", "phrases": "castle\ntree"},
        MODEL,
        (400, 320),
    ),
    "watched": Node(
        "KSampler",
        SAMPLING,
        {
            "model": ("watch", 0),
            "positive": ("watch", 1),
            "negative": ("empty", 0),
            "latent_image": ("latent", 0),
        },
    ),
    "watched image": Node("VAEDecode", {}, {"samples": ("watched", 0), "vae": ("demo", 2)}),
    "steps": Node(
        "AttentionOverStepsReport",
        {},
        {"latent": ("watched", 0), "model": ("watch", 0), "image": ("watched image", 0)},
        (620, 640),
    ),
    "suggested": Node("SuggestGuidanceCutoff", {}, {"watched": ("steps", 5)}, (520, 780)),
    "swapped": Node(
        "SwapEndTokens",
        {"prompt": "a castle and a tree", "end_prompt": "a car and a sun"},
        {"clip": ("demo", 1)},
        (400, 0),
    ),
    "passed on": Node(
        "LayoutTrial", {**TRIAL, "advanced": "custom", "advanced.pass_on": "all"}, TRIED, (620, 1080)
    ),
    "found": Node("DetectDemoObjects", {}, {"latent": ("passed on", 3)}),
    "scored": Node(
        "LayoutScore",
        {},
        {"trial": ("passed on", 4), "images": ("passed on", 2), "boxes.boxes0": ("found", 0)},
        (620, 1040),
    ),
    "trial": Node("LayoutTrial", TRIAL, TRIED, (620, 1080)),
    "shown": Node("PreviewAny", {}, {"source": ("painted", 0)}),
    "shown too": Node("PreviewAny", {}, {"source": ("boxes", 0)}),
    "seen": Node("PreviewAny", {}, {"source": ("picked", 4)}),
    "seen four": Node("PreviewAny", {}, {"source": ("redrawn", 3)}),
    "seen too": Node("PreviewAny", {}, {"source": ("arranged", 4)}),
    "loaded": Node("PreviewAny", {}, {"source": ("load", 0)}),
    "seen three": Node("PreviewAny", {}, {"source": ("swapped", 1)}),
    "image": Node("VAEDecode", {}, {"samples": ("sampler", 0), "vae": ("demo", 2)}),
    "saved": Node("PreviewImage", {}, {"images": ("image", 0)}),
}

SPREAD = """() => {
  let y = 0
  for (const node of app.graph.nodes) { node.pos = [0, y]; y += node.size[1] + 300 }
}"""
LOOK_AT = """async name => {
  const node = made[name]
  app.canvas.deselectAll?.()
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [140 - node.pos[0], 160 - node.pos[1]]
  app.canvas.setDirty(true, true)
  return [...node.size]
}"""


def needed(names: Collection[str]) -> dict[str, Node]:
    """These nodes of the graph, what runs when they do, and what all of that is connected to."""
    wanted = set(names)
    # Links point back: one way through the graph finds all that follows, the other way all that is before.
    for name, node in GRAPH.items():
        if any(source in wanted for source, _ in node.links.values()):
            wanted.add(name)
    for name, node in reversed(GRAPH.items()):
        if name in wanted:
            wanted |= {source for source, _ in node.links.values()}
    return {name: node for name, node in GRAPH.items() if name in wanted}


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the help pages' pictures.")
    parser.add_argument("nodes", nargs="*", help="only of these nodes")
    wanted = parser.parse_args().nodes
    packs = {"winning-tickets": ROOT, "winning-tickets-demo": ROOT / "demo"}
    shown = {node.kind: name for name, node in GRAPH.items()}
    pages = {p.stem for p in (ROOT / "web" / "docs").glob("*.md")}
    graph = needed([shown[kind] for kind in wanted]) if wanted else GRAPH
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        Server(comfyui.ensure(comfyui.from_environment()), packs) as server,
        browsers.start_playwright() as playwright,
    ):
        server.client.get("/settings", browsers.SETTINGS)
        page = browsers.open_page(browsers.launch(playwright), server)
        page.on("pageerror", lambda error: print("page:", error))
        page.evaluate(BUILD, described(graph))
        with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
            page.evaluate("app.queuePrompt(0)")
        told = answer.value.json()
        if told.get("node_errors") or "prompt_id" not in told:
            raise comfyui.SetupError(json.dumps(told, indent=1))
        server.client.wait(told["prompt_id"], PATIENCE)
        page.wait_for_timeout(3000)
        page.evaluate(SPREAD)
        for kind in sorted(set(wanted or pages)):
            width, height = page.evaluate(LOOK_AT, shown[kind])
            page.wait_for_timeout(1200)
            clip = {"x": 130, "y": 118, "width": width + 20, "height": min(height + 54, 1100)}
            browsers.keep_picture(page, IMAGES / f"{kind}.jpg", clip)
            print(f"{kind}: {width:.0f}x{height:.0f}")
    return 0


if __name__ == "__main__":
    comfyui.run_script(main)

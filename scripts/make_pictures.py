"""Makes web/docs/images from one run on the demo model, in ComfyUI's own page.

    python scripts/make_pictures.py [NodeId ...]

<NodeId>.jpg: the node with what it is wired to, its neighbours collapsed and other wires left out.
<NodeId>.compare.jpg: what it gives when it goes well beside what it gives when it does not.
Needs Chromium and playwright, as make_workflow.py.
"""

import entry
from entry import SetupError

import argparse
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import browser as browsers
import comfyui
from comfyui import ROOT
from comfyui_server import Server
from page_graph import BUILD, Link, Node, described
from PIL import Image, ImageDraw, ImageFont

IMAGES = ROOT / "web" / "docs" / "images"
SIDE = {"width": 256, "height": 256}
PLAIN = {"Comfy.NodeBadge.NodeSourceBadgeMode": "None", "Comfy.VueNodes.Enabled": False}
REGIONS = "castle: 0.5625 0.3125 0.9375 0.6875\ntree: 0.0625 0.3125 0.4375 0.6875"
PATIENCE = 1800.0

MODEL: dict[str, Link] = {"model": ("demo", 0), "clip": ("demo", 1)}
DRAWN: dict[str, Link] = {"positive": ("prompt", 0), "negative": ("empty", 0)}
SUNNY: dict[str, Link] = {"positive": ("sunny", 0), "negative": ("empty", 0)}
SAMPLING = {"steps": 10, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "seed": 4}
TRIED: dict[str, Link] = {**MODEL, "bank": ("load", 0), "vae": ("demo", 2)}
TRIAL = {"images": 12, "steps": 10, "cfg": 5.0}
AFTER = {"look": "after steps", "look.steps": 10, "look.cfg": 5.0}
RUN: dict[str, Link] = {
    **{"look.sampler": ("euler", 0), "look.sigmas": ("sigmas", 0)},
    **{"look.positive": ("prompt", 0), "look.negative": ("empty", 0)},
}
CATEGORIES = "castle\ntree\ncar"
CUSTOM: dict[str, Link] = {
    **{"guider": ("guider", 0), "sampler": ("euler", 0), "sigmas": ("sigmas", 0)},
    "latent_image": ("latent", 0),
}
PLACES = "sun: 0.0625 0.0625 0.4375 0.4375\ncar: 0.5625 0.5625 0.9375 0.9375"
SMALL = "sun: 0.5625 0.5625 0.6875 0.6875\ncar: 0.3125 0.3125 0.4375 0.4375"
# Words that the demo model has never seen.
STRANGE = "zebra\npiano\nlamp"
# A layer of the demo model whose attention says nothing about its noise, see Ticket Layer Report.
WRONG = "output 1"


def _picture(name: str, latent: Link) -> dict[str, Node]:
    return {
        f"{name} image": Node("VAEDecode", {}, {"samples": latent, "vae": ("demo", 2)}, title="Decode"),
        f"{name} saved": Node("PreviewImage", {}, {"images": (f"{name} image", 0)}, (200, 250)),
    }


def _drawn(name: str, noise: str, prompt: str = "prompt") -> dict[str, Node]:
    """A sampler that draws with a node's noise, and its picture."""
    links: dict[str, Link] = {
        **{"model": ("demo", 0), "positive": (prompt, 0), "negative": ("empty", 0)},
        **{"noise": (noise, 0), "latent_image": (noise, 2)},
    }
    return {
        f"{name} run": Node("GuidanceCutoffKSampler", SAMPLING, links),
        **_picture(name, (f"{name} run", 0)),
    }


# In an order in which every link points back. Shown is the last node of each kind.
GRAPH: dict[str, Node] = {
    "demo": Node("LoadDemoModel"),
    "prompt": Node("CLIPTextEncode", {"text": "a castle and a tree"}, {"clip": ("demo", 1)}),
    "sunny": Node("CLIPTextEncode", {"text": "a sun and a car"}, {"clip": ("demo", 1)}),
    "empty": Node("CLIPTextEncode", {"text": ""}, {"clip": ("demo", 1)}),
    "latent": Node("EmptyLatentImage", SIDE),
    "mask": Node("SolidMask", {"value": 1.0, **SIDE}),
    "box": Node("PrimitiveBoundingBox", {"x": 16, "y": 80, "width": 96, "height": 96}),
    "random": Node("RandomNoise", {"noise_seed": 4}),
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
    "places": Node("TicketRegions", {**SIDE, "layout": PLACES}, {}, (400, 600)),
    "regions": Node("TicketRegions", {**SIDE, "layout": REGIONS}, {}, (400, 600)),
    "painted": Node("TicketRegionFromMask", {"category": "lake"}, {"mask": ("mask", 0)}),
    "boxes": Node(
        "TicketRegionsFromBoxes",
        {"category": "tree", **SIDE},
        {"boxes": ("box", 0), "regions": ("painted", 0)},
    ),
    "tickets": Node(
        "TicketLatentFromRegions",
        {"seed": 7},
        {"bank": ("load", 0), "regions": ("places", 0), **MODEL},
        (400, 820),
    ),
    "arranged": Node(
        "ArrangeNoiseByRegions",
        {"seed": 12, "layer": "input 3"},
        {"regions": ("regions", 0), **MODEL},
        (400, 780),
    ),
    "picked": Node(
        "PickBestNoise",
        {"seed": 12, "layer": "input 3", "candidates": 16, **AFTER},
        {"regions": ("regions", 0), **MODEL, **RUN},
        (400, 860),
    ),
    "redrawn": Node(
        "RedrawNoiseInRegion",
        {"seed": 9, "edge": 3},
        {"noise": ("random", 0), "latent_image": ("latent", 0)},
        (400, 560),
    ),
    "noise": Node(
        "NoiseReport", {"block": 2}, {"noise": ("tickets", 0), "latent_image": ("latent", 0)}, (560, 880)
    ),
    "sampler": Node(
        "GuidanceCutoffKSampler",
        SAMPLING,
        {"model": ("demo", 0), **SUNNY, "latent_image": ("tickets", 2), "noise": ("tickets", 0)},
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
    "suggested": Node("SuggestGuidanceCutoff", {}, {"watched": ("steps", 5)}, (440, 780)),
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
    "placed": Node("ArrangeNoiseByRegions", {"layer": "input 3"}, {"regions": ("boxes", 0), **MODEL}),
    "placed shown": Node("PreviewAny", {}, {"source": ("placed", 4)}),
    **_drawn("ticket", "tickets", "sunny"),
    **_drawn("arranged", "arranged"),
    **_drawn("picked", "picked"),
    **_picture("cut", ("sampler", 0)),
    **_picture("patched", ("second", 0)),
    **_picture("guided", ("report", 0)),
    "redrawn run": Node("SamplerCustomAdvanced", {}, {**CUSTOM, "noise": ("redrawn", 0)}),
    **_picture("redrawn", ("redrawn run", 0)),
    "swapped run": Node(
        "KSampler",
        SAMPLING,
        {
            **{"model": ("demo", 0), "positive": ("swapped", 0)},
            **{"negative": ("empty", 0), "latent_image": ("latent", 0)},
        },
    ),
    **_picture("swapped", ("swapped run", 0)),
    "as suggested": Node(
        "GuidanceCutoffKSampler",
        SAMPLING,
        {"model": ("demo", 0), **DRAWN, "latent_image": ("latent", 0), "cutoff.guided": ("suggested", 0)},
    ),
    **_picture("suggested", ("as suggested", 0)),
    # For comparisons only: what a node gives when it goes wrong, and what it is to be compared with.
    "small": Node("TicketRegions", {**SIDE, "layout": SMALL}, {}, (400, 600)),
    "small tickets": Node(
        "TicketLatentFromRegions",
        {"seed": 7},
        {"bank": ("load", 0), "regions": ("small", 0), **MODEL},
    ),
    **_drawn("small", "small tickets", "sunny"),
    "wrong arranged": Node(
        "ArrangeNoiseByRegions", {"seed": 12, "layer": WRONG}, {"regions": ("regions", 0), **MODEL}
    ),
    **_drawn("wrong", "wrong arranged"),
    "one picked": Node(
        "PickBestNoise",
        {"seed": 12, "layer": "input 3", "candidates": 1},
        {"regions": ("regions", 0), **MODEL},
    ),
    **_drawn("one", "one picked"),
    "early": Node("GuidanceCutoff", {"cutoff.guided": 0.1}, {"model": ("demo", 0)}),
    "early stock": Node(
        "KSampler", SAMPLING, {"model": ("early", 0), **DRAWN, "latent_image": ("latent", 0)}
    ),
    **_picture("early", ("early stock", 0)),
    "early guided": Node(
        "GuidanceCutoffGuider", {"cfg": 5.0, "cutoff.guided": 0.1}, {"model": ("demo", 0), **DRAWN}
    ),
    "early custom": Node(
        "SamplerCustomAdvanced", {}, {**CUSTOM, "guider": ("early guided", 0), "noise": ("random", 0)}
    ),
    **_picture("early guided", ("early custom", 0)),
    "early sampler": Node(
        "GuidanceCutoffKSampler",
        {**SAMPLING, "cutoff.guided": 0.1},
        {"model": ("demo", 0), **DRAWN, "latent_image": ("latent", 0)},
    ),
    **_picture("early sampler", ("early sampler", 0)),
    "half sampler": Node(
        "GuidanceCutoffKSampler",
        SAMPLING,
        {"model": ("demo", 0), **DRAWN, "latent_image": ("latent", 0)},
    ),
    **_picture("half sampler", ("half sampler", 0)),
    "wrong watch": Node(
        "AttentionOverSteps",
        {"prompt": "a castle and a tree", "phrases": "castle\ntree", "layer": WRONG},
        MODEL,
    ),
    "wrong watched": Node(
        "KSampler",
        SAMPLING,
        {
            **{"model": ("wrong watch", 0), "positive": ("wrong watch", 1)},
            **{"negative": ("empty", 0), "latent_image": ("latent", 0)},
        },
    ),
    "wrong steps": Node(
        "AttentionOverStepsReport",
        {},
        {"latent": ("wrong watched", 0), "model": ("wrong watch", 0), "image": ("watched image", 0)},
    ),
    "wrong collect": Node(
        "CollectTickets",
        {"categories": CATEGORIES, "noises": 32, "seed": 1, "layer": WRONG, **SIDE},
        MODEL,
    ),
    "wrong bank": Node("TicketBankReport", {}, {"bank": ("wrong collect", 0)}),
    "gaussian": Node("NoiseReport", {"block": 2}, {"noise": ("arranged", 0), "latent_image": ("latent", 0)}),
    "raw": Node(
        "TicketLatentFromRegions",
        {"seed": 7, "advanced": "custom", "advanced.calibration": "none"},
        {"bank": ("load", 0), "regions": ("places", 0), **MODEL},
    ),
    "raw report": Node("NoiseReport", {"block": 2}, {"noise": ("raw", 0), "latent_image": ("latent", 0)}),
    "strange layers": Node(
        "TicketLayerReport",
        {"categories": STRANGE, "noises": 16, "planted": 4, "images": 2, **SIDE},
        MODEL,
    ),
    "wrong trial": Node("LayoutTrial", TRIAL, {**TRIED, "bank": ("wrong collect", 0)}),
    "plain run": Node("SamplerCustomAdvanced", {}, {**CUSTOM, "noise": ("random", 0)}),
    **_picture("plain", ("plain run", 0)),
    "other": Node("RandomNoise", {"noise_seed": 8}),
    "other run": Node("SamplerCustomAdvanced", {}, {**CUSTOM, "noise": ("other", 0)}),
    **_picture("other", ("other run", 0)),
}


@dataclass(frozen=True)
class Scene:
    """The nodes before and behind the one that is shown, from top to bottom; open: not collapsed."""

    before: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


def _run(name: str, *first: str) -> tuple[str, ...]:
    return (*first, f"{name} image", f"{name} saved")


SCENES: dict[str, Scene] = {
    "ArrangeNoiseByRegions": Scene(
        ("demo", "regions"), _run("arranged", "arranged run"), ("arranged saved",)
    ),
    "AttentionOverSteps": Scene(("demo",), ("watched", "watched image", "steps")),
    "AttentionOverStepsReport": Scene(("watch", "watched", "watched image"), ("suggested",)),
    "CollectTickets": Scene(("demo",), ("merge", "save")),
    "GuidanceCutoff": Scene(("demo",), ("stock", "second", *_run("patched")), ("second", "patched saved")),
    "GuidanceCutoffGuider": Scene(
        ("demo", "prompt", "empty"), ("custom", "report", *_run("guided")), ("report", "guided saved")
    ),
    "GuidanceCutoffKSampler": Scene(("demo", "sunny", "empty", "tickets"), _run("cut"), ("cut saved",)),
    "GuidanceCutoffReport": Scene(("cutoff", "stock"), _run("patched"), ("patched saved",)),
    "LayoutScore": Scene(("passed on", "found")),
    "LayoutTrial": Scene(("demo", "load")),
    "LoadTicketBank": Scene((), ("tickets", *_run("ticket", "ticket run")), ("ticket saved",)),
    "MergeTicketBanks": Scene(("collect", "more"), ("save", "bank")),
    "NoiseReport": Scene(("tickets", "latent")),
    "PickBestNoise": Scene(
        ("demo", "regions", "euler", "sigmas", "prompt", "empty"),
        _run("picked", "picked run"),
        ("picked saved",),
    ),
    "RedrawNoiseInRegion": Scene(("random", "latent"), _run("redrawn", "redrawn run"), ("redrawn saved",)),
    "SaveTicketBank": Scene(("merge",)),
    "SuggestGuidanceCutoff": Scene(("steps",), _run("suggested", "as suggested"), ("suggested saved",)),
    "SwapEndTokens": Scene(("demo",), _run("swapped", "swapped run"), ("swapped saved",)),
    "TicketBankReport": Scene(("merge",)),
    "TicketLatentFromRegions": Scene(
        ("load", "places", "demo"), _run("ticket", "ticket run"), ("ticket saved",)
    ),
    "TicketLayerReport": Scene(("demo",)),
    "TicketRegionFromMask": Scene(("mask",), ("boxes", "placed")),
    "TicketRegions": Scene((), ("arranged", *_run("arranged", "arranged run")), ("arranged saved",)),
    "TicketRegionsFromBoxes": Scene(("box", "painted"), ("placed",)),
}

# For each node what goes well and what does not: two or three words, and the nodes whose pictures show it.
Side = tuple[str, tuple[str, ...]]
COMPARED: dict[str, tuple[Side, Side]] = {
    "ArrangeNoiseByRegions": (
        ("layer that works", ("arranged", "arranged saved")),
        ("wrong layer", ("wrong arranged", "wrong saved")),
    ),
    "AttentionOverSteps": (("all layers", ("steps",)), ("wrong layer", ("wrong steps",))),
    "AttentionOverStepsReport": (("all layers", ("steps",)), ("wrong layer", ("wrong steps",))),
    "GuidanceCutoff": (("half guided", ("patched saved",)), ("cut too early", ("early saved",))),
    "GuidanceCutoffGuider": (("half guided", ("guided saved",)), ("cut too early", ("early guided saved",))),
    "GuidanceCutoffKSampler": (
        ("half guided", ("half sampler saved",)),
        ("cut too early", ("early sampler saved",)),
    ),
    "LayoutTrial": (("layer that works", ("trial",)), ("wrong layer", ("wrong trial",))),
    "NoiseReport": (("Gaussian", ("gaussian",)), ("not calibrated", ("raw report",))),
    "PickBestNoise": (
        ("best of 16", ("picked", "picked saved")),
        ("a single seed", ("one picked", "one saved")),
    ),
    "RedrawNoiseInRegion": (
        ("left third redrawn", ("plain saved", "redrawn saved")),
        ("another seed", ("plain saved", "other saved")),
    ),
    "TicketBankReport": (("layer that works", ("bank",)), ("wrong layer", ("wrong bank",))),
    "TicketLatentFromRegions": (
        ("large regions", ("tickets", "ticket saved")),
        ("too small", ("small tickets", "small saved")),
    ),
    "TicketLayerReport": (("words it knows", ("layers",)), ("words it has never seen", ("strange layers",))),
}

# Where this run's server keeps its files is nobody's business.
SHORTEN = """folder => document.querySelectorAll('.tickets-told').forEach(told => {
  const texts = document.createTreeWalker(told, NodeFilter.SHOW_TEXT)
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(folder, '')
})"""
MARGIN, AISLE, STACK = 16, 40, 30
# Everything else is moved away, and its wires are not drawn, nor those between the nodes before or past the
# node. A collapsed node is as wide as its title.
SHOW = """({main, before, behind, open, aisle, stack}) => {
  const shown = new Set([...before, main, ...behind].map(name => made[name].id))
  const [first, last] = [before, behind].map(names => new Set(names.map(name => made[name].id)))
  window.drawn ??= app.canvas.renderLink
  app.canvas.renderLink = function (context, from, to, link, ...rest) {
    const past = link && first.has(link.origin_id) && (first.has(link.target_id) || last.has(link.target_id))
    if (!link || (shown.has(link.origin_id) && shown.has(link.target_id) && !past))
      return window.drawn.call(this, context, from, to, link, ...rest)
  }
  for (const [name, node] of Object.entries(made)) {
    if (!shown.has(node.id)) node.pos = [0, 20000]
    const small = shown.has(node.id) && name !== main && !open.includes(name)
    if (Boolean(node.flags.collapsed) !== small) node.collapse(true)
  }
  app.canvas.draw(true, true)
  const size = name => {
    const node = made[name]
    return node.flags.collapsed ? [node._collapsed_width ?? 160, 0] : [...node.size]
  }
  let x = 0, lowest = 0
  for (const names of [before, [main], behind]) {
    if (!names.length) continue
    let y = 0, widest = 0
    for (const name of names) {
      const [width, height] = size(name)
      made[name].pos = [x, y]
      widest = Math.max(widest, width)
      y += height + 30 + stack
    }
    lowest = Math.max(lowest, y - stack - 30)
    x += widest + aisle
  }
  app.canvas.deselectAll?.()
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [200, 200]
  app.canvas.setDirty(true, true)
  return [x - aisle, lowest]
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


def photograph(page: Any, kind: str, name: str) -> None:
    """Keep the picture of a node with its neighbours."""
    told = {"main": name, **vars(SCENES[kind]), "aisle": AISLE, "stack": STACK}
    page.evaluate(SHOW, told)
    page.wait_for_timeout(800)
    # Once more: how wide a collapsed node is, is known when it has been drawn.
    width, height = page.evaluate(SHOW, told)
    page.wait_for_timeout(1200)
    clip = {
        "x": 200 - MARGIN,
        "y": 200 - 30 - MARGIN,
        "width": width + 2 * MARGIN,
        "height": height + 30 + 2 * MARGIN,
    }
    clip["height"] = min(clip["height"], 1250 - clip["y"])
    browsers.keep_picture(page, IMAGES / f"{kind}.jpg", clip)
    print(f"{kind}: {clip['width']:.0f}x{clip['height']:.0f}")


WIDE, PLATE, PAPER, INK = 400, 44, (24, 25, 29), (240, 240, 242)
GOOD, BAD = (62, 128, 52), (160, 52, 44)


def side_by_side(server: Server, names: list[str], entry: dict[str, Any], kind: str) -> None:
    """Keep what goes well and what does not, one beside the other, each under its words."""
    columns = []
    for (words, sources), colour in zip(COMPARED[kind], (GOOD, BAD), strict=True):
        found = []
        for name in sources:
            told = entry["outputs"][str(names.index(name) + 1)]["images"][0]
            picture = Image.open(io.BytesIO(server.client.image(**told))).convert("RGB")
            found.append(
                picture.resize((WIDE, round(picture.height * WIDE / picture.width)), Image.Resampling.LANCZOS)
            )
        column = Image.new("RGB", (WIDE, PLATE + sum(p.height + 8 for p in found)), PAPER)
        draw = ImageDraw.Draw(column)
        draw.rectangle((0, 0, WIDE, PLATE - 8), colour)
        draw.text((WIDE / 2, (PLATE - 8) / 2), words, INK, ImageFont.load_default(22), "mm")
        y = PLATE
        for picture in found:
            column.paste(picture, (0, y))
            y += picture.height + 8
        columns.append(column)
    both = Image.new("RGB", (2 * WIDE + 16, max(c.height for c in columns) - 8), PAPER)
    for number, column in enumerate(columns):
        both.paste(column, (number * (WIDE + 16), 0))
    both.save(IMAGES / f"{kind}.compare.jpg", quality=55, optimize=True, progressive=True)
    print(f"{kind}.compare: {both.width}x{both.height}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the help pages' pictures.")
    parser.add_argument("nodes", nargs="*", help="only of these nodes")
    wanted = parser.parse_args().nodes
    packs = {"winning-tickets": ROOT, "winning-tickets-demo": ROOT / "demo"}
    last = list(GRAPH).index("trial") + 1
    shown = {GRAPH[name].kind: name for name in list(GRAPH)[:last]}
    pages = {p.stem for p in (ROOT / "web" / "docs").glob("*.md")}
    if missing := [kind for kind in wanted or pages if kind not in shown or kind not in SCENES]:
        raise SetupError(
            f'{", ".join(missing)}: add a node of that kind to GRAPH, before "trial", and what stands beside'
            " it to SCENES."
        )
    compared = [name for kind in wanted for _, names in COMPARED.get(kind, ()) for name in names]
    graph = needed([*(shown[kind] for kind in wanted), *compared]) if wanted else GRAPH
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        Server(comfyui.ensure(comfyui.from_environment()), packs) as server,
        browsers.start_playwright() as playwright,
    ):
        server.client.get("/settings", {**browsers.SETTINGS, **PLAIN})
        page = browsers.open_page(browsers.launch(playwright), server)
        page.on("pageerror", lambda error: print("page:", error))
        page.evaluate(BUILD, described(graph))
        with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
            page.evaluate("app.queuePrompt(0)")
        told = answer.value.json()
        if told.get("node_errors") or "prompt_id" not in told:
            raise SetupError(json.dumps(told, indent=1))
        entry = server.client.wait(told["prompt_id"], PATIENCE)
        page.wait_for_timeout(3000)
        page.evaluate(SHORTEN, f"{server.log_path.parent}/")
        for kind in sorted(set(wanted or pages)):
            photograph(page, kind, shown[kind])
        for kind in sorted(COMPARED.keys() & set(wanted or pages)):
            side_by_side(server, list(graph), entry, kind)
    return 0


if __name__ == "__main__":
    entry.run_script(main)

"""Makes subgraphs/Place objects.json in ComfyUI's own page: regions, noise, sampler and decoder as one node.

    python scripts/make_blueprint.py

ComfyUI offers what a pack has in subgraphs/ in its node library, under "Subgraph Blueprints". Needs Chromium
and playwright, as make_workflow.py.
"""

from __future__ import annotations

import entry

import argparse
import json
import urllib.parse
import uuid
from typing import Any

import browser as browsers
import comfyui
from comfyui import ROOT
from comfyui_server import Server
from example_parts import LEFT, RIGHT, SD1, editor, prompts, sampler_links
from page_graph import BUILD, Node, described

NAME, CATEGORY = "Place objects", "Winning Tickets"
FOLDER = ROOT / "subgraphs"
DESCRIPTION = (
    "Draws a picture with its objects in the boxes that you draw: arranges the noise of the seed by the boxes"
    " and samples it. Open the node to draw and name the boxes."
)
# Asked for in ComfyUI's search of nodes.
ALIASES = ["regions", "layout", "composition", "winning tickets"]
GRAPH = {
    "model": SD1.loader,
    **prompts(),
    "regions": editor(SD1, castle=RIGHT, tree=LEFT),
    "arranged": Node(
        "ArrangeNoiseByRegions",
        {},
        {"model": ("model", 0), "clip": ("model", 1), "regions": ("regions", 0)},
        (380, 720),
    ),
    "sampler": Node(
        "GuidanceCutoffKSampler",
        {"cfg": SD1.cfg},
        {**sampler_links("model", ("arranged", 2)), "noise": ("arranged", 0)},
        (340, 480),
    ),
    "image": Node("VAEDecode", {}, {"samples": ("sampler", 0), "vae": ("model", 2)}, (260, 50)),
    "shown": Node("PreviewImage", {}, {"images": ("image", 0)}),
}
INSIDE = ("regions", "arranged", "sampler", "image")
# What the node shows of what is inside, from top to bottom. The page cannot show the region editor there.
FACE = (
    *(("regions", "width"), ("regions", "height"), ("sampler", "steps"), ("sampler", "cfg")),
    *(("sampler", "sampler_name"), ("sampler", "scheduler"), ("sampler", "guided")),
)
PUBLISH = """async ({name, inside, face, description, aliases}) => {
  let x = 0
  for (const node of inside.map(key => made[key])) {
    node.pos = [x, 0]
    x += node.size[0] + 80
  }
  const types = inside.map(key => made[key].type)
  const {subgraph, node} = app.graph.convertToSubgraph(new Set(inside.map(key => made[key])))
  const within = key => subgraph.nodes.find(node => node.type === types[inside.indexOf(key)])
  const slot = (key, name) => {
    const widget = within(key).widgets.find(w => w.name === name || w.name.endsWith(`.${name}`))
    return within(key).getSlotFromWidget(widget)
  }
  // One seed for both: the page itself has put one for each on the node.
  for (const input of subgraph.inputs.filter(i => i.name.startsWith('seed'))) subgraph.removeInput(input)
  const seed = subgraph.addInput('seed', 'INT')
  for (const key of ['arranged', 'sampler']) seed.connect(slot(key, 'seed'), within(key))
  for (const [key, name] of face) {
    const found = slot(key, name)
    subgraph.addInput(name, String(found.type)).connect(found, within(key))
  }
  subgraph.outputs[0].name = 'image'
  node.title = subgraph.name = name
  subgraph.description = description
  subgraph.extra = {BlueprintDescription: description, BlueprintSearchAliases: aliases}
  node.setSize([300, node.computeSize()[1]])
  app.canvas.deselectAll?.()
  app.canvas.selectItems([node])
  await app.extensionManager.command.execute('Comfy.PublishSubgraph', {metadata: {name}})
}"""


def tidy(blueprint: dict[str, Any]) -> dict[str, Any]:
    """With the category that the page reads and does not write, and without what differs between runs."""
    (host,), (inner,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    for node in (host, *inner["nodes"]):
        kept = ("Node name for S&R", "previewExposures")
        node["properties"] = {key: value for key, value in node["properties"].items() if key in kept}
    ids = {host["type"]: NAME, **{slot["id"]: f"{NAME}/in/{slot['name']}" for slot in inner["inputs"]}}
    ids |= {slot["id"]: f"{NAME}/out/{slot['name']}" for slot in inner["outputs"]}
    inner["category"] = CATEGORY
    text = json.dumps(blueprint)
    for old, what in ids.items():
        text = text.replace(old, str(uuid.uuid5(uuid.NAMESPACE_URL, what)))
    return dict(json.loads(text))


def main() -> int:
    argparse.ArgumentParser(description=f"Make the subgraph blueprint {NAME}.").parse_args()
    packs = {"winning-tickets": ROOT}
    with (
        Server(comfyui.ensure(comfyui.from_environment()), packs) as server,
        browsers.start_playwright() as playwright,
    ):
        server.client.get("/settings", browsers.SETTINGS)
        page = browsers.open_page(browsers.launch(playwright), server)
        page.evaluate(BUILD, described(GRAPH))
        told = {"name": NAME, "inside": INSIDE, "face": FACE}
        page.evaluate(PUBLISH, {**told, "description": DESCRIPTION, "aliases": ALIASES})
        path = urllib.parse.quote(f"subgraphs/{NAME}.json", safe="")
        blueprint = json.loads(server.client.get(f"/userdata/{path}"))
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(tidy(blueprint), separators=(",", ":"))
    (FOLDER / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    entry.run_script(main)

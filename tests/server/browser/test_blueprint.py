"""The subgraph blueprint Place objects: from the node library to a picture, in each renderer."""

from __future__ import annotations

import json
from typing import Any

import browser as browsers
from comfyui import ROOT
from make_blueprint import CATEGORY, NAME
from page_graph import BUILD, Node, described

OTHERS = {
    "demo": Node("LoadDemoModel"),
    "prompt": Node("CLIPTextEncode", {"text": "a sun and a car"}, {"clip": ("demo", 1)}),
    "empty": Node("CLIPTextEncode", {"text": ""}, {"clip": ("demo", 1)}),
    "saved": Node("SaveImage"),
}
PLACED = "app.graph.nodes.find(n => n.isSubgraphNode?.())"
WIRE = """() => {
  const node = app.graph.nodes.find(n => n.isSubgraphNode())
  const links = {model: ['demo', 0], clip: ['demo', 1], vae: ['demo', 2], positive: ['prompt', 0]}
  for (const [input, [from, slot]] of Object.entries({...links, negative: ['empty', 0]}))
    made[from].connect(slot, node, input)
  node.connect(0, made.saved, 'images')
  for (const [name, value] of Object.entries({width: 384, height: 256, steps: 4, seed: 3, cfg: 5}))
    node.widgets.find(w => w.name === name).value = value
}"""
INSIDE = f"""() => {{
  app.canvas.openSubgraph({PLACED}.subgraph, {PLACED})
  app.canvas.ds.scale = 1
  const regions = app.canvas.graph.nodes.find(n => n.type === 'TicketRegions')
  app.canvas.ds.offset = [300 - regions.pos[0], 200 - regions.pos[1]]
  app.canvas.setDirty(true, true)
}}"""


def test_from_the_node_library_to_a_picture(page: Any, server: Any, screenshot: Any) -> None:
    page.evaluate(BUILD, described(OTHERS))
    page.evaluate("app.extensionManager.sidebarTab.activeSidebarTabId = 'node-library'")
    page.get_by_placeholder("Search").first.fill(NAME)
    page.get_by_text(CATEGORY, exact=True).wait_for()
    page.get_by_text(NAME, exact=True).first.click()
    page.mouse.move(1000, 600)
    page.mouse.click(1000, 600)
    page.wait_for_function(f"Boolean({PLACED})")
    page.evaluate("app.extensionManager.sidebarTab.activeSidebarTabId = null")
    page.evaluate(WIRE)
    page.evaluate(INSIDE)
    stage = page.locator(".tickets-regions .stage").first
    stage.wait_for()
    browsers.settle(page)
    box = stage.bounding_box()
    assert 1.45 < box["width"] / box["height"] < 1.55, "the editor has the size that the subgraph is given"
    places = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ((0.1, 0.7), (0.4, 0.95))
    ]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=5)
    page.mouse.up()
    page.keyboard.type("flower")
    screenshot(page)
    page.evaluate("app.canvas.setGraph(app.graph)")
    with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
        page.evaluate("app.queuePrompt(0)")
    told = answer.value.json()
    assert not told.get("node_errors"), told
    sent = json.loads(answer.value.request.post_data)["prompt"]
    inputs = {node["class_type"]: node["inputs"] for node in sent.values()}
    layout = json.loads(inputs["TicketRegions"]["layout"])["regions"]
    assert [region["category"] for region in layout] == ["castle", "tree", "flower"]
    assert inputs["TicketRegions"]["width"] == 384
    assert inputs["ArrangeNoiseByRegions"]["seed"] == inputs["GuidanceCutoffKSampler"]["seed"] == 3
    entry = server.client.wait(told["prompt_id"], 600)
    assert [image for output in entry["outputs"].values() for image in output.get("images", [])]


def test_the_page_is_told_what_it_is(server: Any) -> None:
    offered = json.loads(server.client.get("/global_subgraphs"))
    (key,) = (k for k, v in offered.items() if v["name"] == NAME)
    assert offered[key]["source"] == "custom_node"
    assert offered[key]["info"] == {"node_pack": "custom_nodes.winning-tickets"}
    data = json.loads(json.loads(server.client.get(f"/global_subgraphs/{key}"))["data"])
    assert data == json.loads((ROOT / "subgraphs" / f"{NAME}.json").read_text(encoding="utf-8"))
    assert data["definitions"]["subgraphs"][0]["category"] == CATEGORY

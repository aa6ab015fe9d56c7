"""From Templates to a picture: opened, drawn on, saved, reloaded and run as a user does, in each renderer."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import browser as browsers
import pytest
from comfyui_server import Server

LAYOUT = """app.graph.nodes.find(n => n.comfyClass === 'TicketRegions')
  .widgets.find(w => w.name === 'layout').value"""
RENDERER = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
TEMPLATES = "app.extensionManager.command.execute('Comfy.BrowseTemplates')"
# Where the page's own picture of the finished node is, in both renderers.
SHOWN = """() => app.graph.nodes.find(n => n.type === 'SaveImage').imgs?.[0]?.naturalWidth === 256
  || [...document.querySelectorAll('.lg-node img[src*="type=output"]')].some(i => i.naturalWidth)"""
# For a short run; a user would let it draw more.
FEW = """() => {
  const few = {images: 1, steps: 3, noises: 4}
  for (const node of app.graph.nodes) for (const widget of node.widgets ?? [])
    if (widget.name in few) widget.value = few[widget.name]
}"""
SENTENCE = """() => [...document.querySelectorAll('.tickets-told')].some(told =>
  told.textContent.startsWith('No clear effect in 1 image'))"""


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2.0"])
def test_from_the_template_to_the_picture(
    chromium: Any, server: Server, screenshot: Any, nodes_2: bool
) -> None:
    server.client.get("/settings", browsers.SETTINGS)
    page = browsers.open_page(chromium, server)
    page.evaluate(RENDERER, nodes_2)
    # A first visit is greeted with Templates or a workflow of ComfyUI's.
    if not page.get_by_text("winning-tickets-demo").count():
        page.evaluate(TEMPLATES)
    page.get_by_text("winning-tickets-demo").first.click()
    page.get_by_text("regions_to_image").first.click()
    stage = page.locator(".tickets-regions .stage")
    stage.wait_for()
    browsers.settle(page)

    box = stage.bounding_box()
    corners = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ((0.55, 0.1), (0.95, 0.45))
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=5)
    page.mouse.up()
    page.keyboard.type("flower")
    drawn = page.evaluate(LAYOUT)
    assert [region["category"] for region in json.loads(drawn)["regions"]] == ["sun", "car", "flower"]

    name = f"journey {'two' if nodes_2 else 'one'}"
    file = "/userdata/" + urllib.parse.quote(f"workflows/{name}.json", safe="")
    page.mouse.click(150, 1150)
    page.keyboard.press("Control+s")
    page.locator("input:focus").wait_for()
    page.keyboard.press("Control+a")
    page.keyboard.type(name)
    with page.expect_response(lambda r: r.request.method == "POST" and file in r.url):
        page.keyboard.press("Enter")
    (kept,) = (n for n in json.loads(server.client.get(file))["nodes"] if n["type"] == "TicketRegions")
    assert drawn in kept["widgets_values"]

    page.reload()
    page.wait_for_function(browsers.READY)
    page.locator(".tickets-regions .stage").wait_for()
    assert page.evaluate(LAYOUT) == drawn

    with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
        page.get_by_test_id("queue-button").first.click()
    server.client.wait(answer.value.json()["prompt_id"], 600)
    page.wait_for_function(SHOWN)
    screenshot(page)
    page.close()


@pytest.mark.parametrize("nodes_2", [False, True], ids=["classic", "nodes 2.0"])
def test_from_the_template_to_the_sentence_in_three_clicks(
    chromium: Any, server: Server, screenshot: Any, nodes_2: bool
) -> None:
    """Rule: a fresh user learns with three clicks whether it works on her checkpoint."""
    server.client.get("/settings", browsers.SETTINGS)
    page = browsers.open_page(chromium, server)
    page.evaluate(RENDERER, nodes_2)
    if not page.get_by_text("winning-tickets-demo").count():
        page.evaluate(TEMPLATES)
    page.get_by_text("winning-tickets-demo").first.click()
    page.get_by_text("does_it_work_on_my_checkpoint").first.click()
    page.wait_for_function("app.graph.nodes.some(n => n.type === 'LayoutTrial')")
    browsers.settle(page)
    page.evaluate(FEW)
    with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
        page.get_by_test_id("queue-button").first.click()
    server.client.wait(answer.value.json()["prompt_id"], 600)
    page.wait_for_function(SENTENCE)
    screenshot(page)
    page.close()

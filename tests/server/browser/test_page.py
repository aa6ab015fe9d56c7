"""The pack's nodes in ComfyUI's page: help, names and tooltips in the user's language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import browser as browsers
import pytest
from comfyui import ROOT
from comfyui_server import Server
from make_locales import LOCALES

DOCS = ROOT / "web" / "docs"
PAGES = sorted(p.stem for p in DOCS.glob("*.md"))
ADD = """type => {
  const node = LiteGraph.createNode(type)
  node.pos = [400, 300]
  app.graph.add(node)
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [0, 0]
  app.canvas.selectItems([node])
  app.canvas.setDirty(true, true)
}"""
CLOSE = "app.graph.clear(); app.extensionManager.sidebarTab.activeSidebarTabId = null"


def open_help(page: Any, node: str) -> Any:
    """The help that ComfyUI shows of a node, by the button above it."""
    page.evaluate(CLOSE)
    shown = page.locator(".node-help-content")
    shown.wait_for(state="hidden")
    page.evaluate(ADD, node)
    page.get_by_test_id("info-button").click()
    return shown


@pytest.fixture(scope="module")
def english(chromium: Any, server: Server) -> Iterator[Any]:
    server.client.get("/settings", browsers.SETTINGS)
    page = browsers.open_page(chromium, server)
    yield page
    page.close()


@pytest.mark.parametrize("node", PAGES)
def test_help_opens_beside_the_node(english: Any, screenshot: Any, node: str) -> None:
    title = (DOCS / f"{node}.md").read_text(encoding="utf-8").splitlines()[0].strip("# ")
    shown = open_help(english, node)
    shown.get_by_text(title, exact=True).first.wait_for()
    widths = "images => images.map(i => [i.src, i.complete && i.naturalWidth])"
    english.wait_for_function(
        "[...document.querySelectorAll('.node-help-content img')].every(i => i.complete)"
    )
    screenshot(english)
    assert all(width for _, width in shown.locator("img").evaluate_all(widths))


@pytest.fixture(scope="module", params=["zh", "ja", "es"])
def foreign(request: pytest.FixtureRequest, chromium: Any, server: Server) -> Iterator[tuple[Any, str]]:
    server.client.get("/settings", {**browsers.SETTINGS, "Comfy.Locale": request.param})
    page = browsers.open_page(chromium, server)
    yield page, request.param
    page.close()
    server.client.get("/settings", {"Comfy.Locale": "en"})


def test_nodes_speak_the_users_language(foreign: tuple[Any, str]) -> None:
    page, language = foreign
    page.evaluate("app.graph.clear()")
    told = page.evaluate(
        """() => {
          const node = LiteGraph.createNode('GuidanceCutoffKSampler')
          app.graph.add(node)
          const guided = node.widgets.find(w => w.name === 'cutoff.guided')
          return [node.title, guided.label]
        }"""
    )
    names = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    node = names["GuidanceCutoffKSampler"]
    assert told == [node["display_name"], node["inputs"]["cutoff_guided"]["name"]]


def test_so_does_the_help(foreign: tuple[Any, str], screenshot: Any) -> None:
    page, language = foreign
    shown = open_help(page, "TicketRegions")
    text = (DOCS / "TicketRegions" / f"{language}.md").read_text(encoding="utf-8")
    shown.get_by_text(text.splitlines()[0].strip("# "), exact=True).first.wait_for()
    picture = ".node-help-content img"
    page.wait_for_function("p => document.querySelector(p)?.naturalWidth > 100", arg=picture)
    screenshot(page)

"""ComfyUI's page in Chromium, driven by playwright (pip install playwright; no browser download)."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfyui import SetupError
from comfyui_server import Server

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
HOW_TO_GET = (
    "install Chromium (Debian: apt install chromium; elsewhere: python -m playwright install chromium)"
)
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    " --disable-background-networking --disable-component-update"
)
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasMenu": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
}
# With every node registered, and the workflow loaded that the page begins with.
READY = """() => {
  const tracker = window.app?.extensionManager?.workflow?.activeWorkflow?.changeTracker
  const nodes = window.LiteGraph?.registered_node_types?.MarkdownNote
  return nodes && tracker && !tracker.constructor.isLoadingGraph
}"""
# Whether the view and everything in it have been where they are for ten frames.
STILL = """() => {
  const {scale, offset} = app.canvas.ds
  const boxes = [...document.querySelectorAll('.lg-node, .dom-widget, .tickets-regions')].map(e => {
    const {x, y, width, height} = e.getBoundingClientRect()
    return [x, y, width, height]
  })
  const now = JSON.stringify([scale, ...offset, boxes])
  const before = window.stillness
  const frames = before?.now === now && !app.canvas.dirty_canvas ? before.frames + 1 : 0
  window.stillness = {now, frames}
  return frames >= 10
}"""
PATIENCE = 120_000.0
"""Milliseconds that a page may take for what it is asked to show, on a busy machine."""


def start_playwright() -> Any:
    """A context manager; SetupError without playwright."""
    try:
        from playwright.sync_api import sync_playwright  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise SetupError("This needs playwright: pip install playwright.") from None
    return sync_playwright()


def launch(playwright: Any) -> Any:
    """Chromium of the system, or playwright's own; SetupError without either."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        return playwright.chromium.launch(executable_path=path, args=FLAGS.split())
    except Exception as error:
        raise SetupError(f"This needs a browser: {HOW_TO_GET}. ({str(error).splitlines()[0]})") from None


def open_page(browser: Any, server: Server, **options: Any) -> Any:
    """ComfyUI's page with every node registered."""
    page = browser.new_page(viewport={"width": 1600, "height": 1250}, **options)
    page.set_default_timeout(PATIENCE)
    page.goto(server.client.url)
    page.wait_for_function(READY, timeout=600_000)
    return page


def keep_picture(page: Any, path: Path, clip: Mapping[str, float]) -> None:
    """A part of the page as a small JPEG: an installed pack has many."""
    from PIL import Image

    shot = Image.open(io.BytesIO(page.screenshot(type="png", clip=clip)))
    shot.convert("RGB").save(path, quality=42, optimize=True, progressive=True)


def settle(page: Any) -> None:
    """Wait until nothing moves: nodes and widgets take their places over several frames."""
    page.evaluate("delete window.stillness")
    page.wait_for_function(STILL)

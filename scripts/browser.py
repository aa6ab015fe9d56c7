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
READY = "!!(window.app?.extensionManager && window.LiteGraph?.registered_node_types?.MarkdownNote)"


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
    page.goto(server.client.url)
    page.wait_for_function(READY, timeout=600_000)
    return page


def keep_picture(page: Any, path: Path, clip: Mapping[str, float]) -> None:
    """A part of the page as a small JPEG: an installed pack has many."""
    from PIL import Image

    shot = Image.open(io.BytesIO(page.screenshot(type="png", clip=clip)))
    shot.convert("RGB").save(path, quality=42, optimize=True, progressive=True)

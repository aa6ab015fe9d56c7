"""ComfyUI's own page in a real browser, once with each of its renderers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser as browsers
import pytest
from comfyui import SetupError
from comfyui_server import Server
from playwright.sync_api import expect

# What ComfyUI itself says on its own page.
OWN = (
    "favicon",
    "user.css",
    "userdata",
    "legacy queue/history menu",
    "accessed before initialization",
    "missingModel",
    "filename=undefined",
)
# An id of its own: ComfyUI keeps the values of a graph's widgets.
EMPTY = """async () => {
  const id = crypto.randomUUID()
  await app.loadGraphData({id, nodes: [], links: [], version: 0.4, last_node_id: 0, last_link_id: 0})
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [500, 100]
}"""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Skips without a browser, unless BROWSER_TESTS is `required`."""
    try:
        with browsers.start_playwright() as playwright:
            expect.set_options(timeout=browsers.PATIENCE)
            launched = browsers.launch(playwright)
            yield launched
            launched.close()
    except SetupError as error:
        if os.environ.get("BROWSER_TESTS") == "required":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=["classic", "nodes 2.0"])
def shared_page(request: pytest.FixtureRequest, chromium: Any, server: Server) -> Iterator[Any]:
    server.client.get("/settings", browsers.SETTINGS)
    page = browsers.open_page(chromium, server, has_touch=True)
    page.said = []
    page.on("console", lambda m: page.said.append(f"{m.type}: {m.text} {m.location.get('url', '')}"))
    page.on("pageerror", lambda error: page.said.append(f"error: {error}"))
    page.evaluate(
        "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", request.param != "classic"
    )
    yield page
    page.close()


@pytest.fixture
def screenshot(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Keeps what a page shows in the folder that SCREENSHOTS names, if it does, under the test's name."""
    folder, name = os.environ.get("SCREENSHOTS"), re.sub(r"[^\w.]+", "_", request.node.name).strip("_")

    def keep(page: Any) -> None:
        if folder:
            path = Path(folder, request.path.stem, f"{name}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=path, type="jpeg", quality=70)

    return keep


@pytest.fixture(scope="session")
def axe() -> Callable[[Any, str], list[str]]:
    """What axe-core finds wrong for users of a keyboard or a screen reader in a part of a page."""
    import axe_playwright_python.sync_playwright as checker

    def violations(page: Any, part: str) -> list[str]:
        found = checker.Axe().run(page, context=part).response["violations"]
        return [
            f"{v['id']}: {node['html'][:200]} {node['failureSummary']}" for v in found for node in v["nodes"]
        ]

    return violations


@pytest.fixture
def page(shared_page: Any, screenshot: Callable[[Any], None], server: Server) -> Iterator[Any]:
    """An empty graph; nothing may be complained of meanwhile."""
    # What failed with NaN in other tests is a list of jobs that no page can read.
    server.client.get("/history", {"clear": True})
    shared_page.said.clear()
    shared_page.evaluate(EMPTY)
    yield shared_page
    screenshot(shared_page)
    bad = [line for line in shared_page.said if line.startswith(("error", "warning"))]
    assert not [line for line in bad if not any(own in line for own in OWN)]

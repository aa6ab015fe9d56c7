"""Makes the example workflow and its picture from its API prompt, in ComfyUI's own page.

    python scripts/make_workflow.py

Needs Chromium and, in the Python that runs this, playwright (pip install playwright; no browser download).
"""

from __future__ import annotations

import json
import shutil
from typing import Any

import comfyui
from comfyui import ROOT, SetupError
from comfyui_server import Server

NAME = "tickets_on_the_demo_model"
WORKFLOWS = ROOT / "example_workflows"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    " --disable-background-networking --disable-component-update"
)
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasMenu": False,
    "Comfy.Graph.CanvasInfo": False,
}
READY = "!!(window.app?.extensionManager && window.LiteGraph?.registered_node_types?.MarkdownNote)"

NOTE = """## Tickets on the demo model

**Collect Tickets** looks at 48 random noises and finds the small blocks in them that lean towards a \
castle, a tree or a car. **Ticket Latent from Regions** puts a new noise together: castle blocks in a box on \
the right, tree blocks in a box on the left. **Guidance Cutoff KSampler** draws from it, guided in the first \
half of the steps, and the plain KSampler below draws the same prompt from its seed's noise. The model comes \
with the demo pack (the folder `demo` of the repository), which must be installed too."""

# x, y, width, height of every node, by its number in the prompt; the note has none.
PLACES = {
    "1": (0, 330, 340, 80),
    "4": (0, 480, 340, 130),
    "5": (0, 670, 340, 120),
    "2": (420, 0, 360, 370),
    "3": (420, 490, 360, 690),
    "6": (860, 0, 320, 380),
    "7": (1240, 0, 300, 50),
    "8": (1240, 100, 300, 280),
    "9": (860, 500, 320, 290),
    "10": (1240, 500, 300, 50),
    "11": (1240, 600, 300, 190),
}
NOTE_PLACE = (0, -40, 340, 250)
GROUPS = {
    "Model and prompts": (["1", "4", "5"], "#3f789e"),
    "1. Collect tickets, once": (["2"], "#b58b2a"),
    "2. Place them": (["3"], "#b58b2a"),
    "3. Draw with tickets": (["6", "7", "8"], "#5a8a3a"),
    "For comparison: without tickets": (["9", "10", "11"], "#777777"),
}
SCALE, LEFT, TOP = 0.8, 110, 210
PICTURE = {"x": 80, "y": 125, "width": 1300, "height": 1060}

MAKE = """async ({prompt, places, groups, note, notePlace, name}) => {
  const {app, LiteGraph} = window
  await app.loadApiJson(prompt, name)
  const put = (node, [x, y, width, height]) => { node.pos = [x, y]; node.setSize([width, height]) }
  for (const node of app.graph.nodes) {
    put(node, places[node.id])
    for (const w of node.widgets ?? []) if (w.name === 'control_after_generate') w.value = 'fixed'
  }
  const text = LiteGraph.createNode('MarkdownNote')
  text.title = 'Read me'
  app.graph.add(text)
  put(text, notePlace)
  text.widgets[0].value = note
  for (const [title, [ids, color]] of Object.entries(groups)) {
    const boxes = ids.map(id => places[id])
    const low = i => Math.min(...boxes.map(b => b[i]))
    const high = i => Math.max(...boxes.map(b => b[i] + b[i + 2]))
    const group = new LiteGraph.LGraphGroup(title)
    group.color = color
    group.pos = [low(0) - 20, low(1) - 80]
    group.size = [high(0) - low(0) + 40, high(1) - low(1) + 100]
    app.graph.add(group)
  }
  return app.graph.serialize()
}"""
SHOW = """async ({workflow, name, scale, left, top}) => {
  const {app} = window
  await app.loadGraphData(workflow, true, true, name)
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [left / scale, top / scale]
  app.canvas.setDirty(true, true)
  return (await app.graphToPrompt()).output
}"""


def strip(workflow: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from one run, or one machine, to the next."""
    for node in workflow["nodes"]:
        node["properties"] = {k: v for k, v in node["properties"].items() if k == "Node name for S&R"}
    extra = {"ds": {"scale": SCALE, "offset": [LEFT / SCALE, TOP / SCALE]}}
    return {**workflow, "id": "8f5f0d9e-6f0b-4c54-9d0c-7c1f3f5f2a01", "revision": 0, "extra": extra}


def make(server: Server, browser: Any) -> None:
    def run(script: str, **values: Any) -> Any:
        page = browser.new_page(viewport={"width": 1600, "height": 1250})
        page.on("console", lambda m: print("console:", m.text, m.location) if m.type == "error" else None)
        page.on("pageerror", lambda error: print("page:", error))
        page.goto(server.url)
        page.wait_for_function(READY, timeout=600_000)
        return page, page.evaluate(script, {"name": NAME, **values})

    prompt = json.loads((WORKFLOWS / "api" / f"{NAME}.json").read_text(encoding="utf-8"))
    server.client.get("/settings", SETTINGS)
    _, made = run(MAKE, prompt=prompt, places=PLACES, groups=GROUPS, note=NOTE, notePlace=NOTE_PLACE)
    workflow = strip(made)
    page, again = run(SHOW, workflow=workflow, scale=SCALE, left=LEFT, top=TOP)
    if again != prompt:
        raise SetupError(f"The workflow does not give the prompt back, but:\n{json.dumps(again, indent=2)}")
    text = json.dumps(workflow, indent=2, ensure_ascii=True) + "\n"
    (WORKFLOWS / f"{NAME}.json").write_text(text, encoding="utf-8")
    page.wait_for_timeout(2000)
    page.screenshot(path=WORKFLOWS / f"{NAME}.jpg", type="jpeg", quality=75, clip=PICTURE)


def main() -> int:
    try:
        from playwright.sync_api import sync_playwright  # type: ignore[import-not-found]
    except ImportError:
        raise SetupError("This needs playwright: pip install playwright.") from None
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        raise SetupError("This needs Chromium (Debian: apt install chromium).")
    packs = {"winning-tickets": ROOT, "winning-tickets-demo": ROOT / "demo"}
    with Server(comfyui.ensure(None), packs) as server, sync_playwright() as playwright:
        make(server, playwright.chromium.launch(executable_path=chromium, args=FLAGS.split()))
    return 0


if __name__ == "__main__":
    comfyui.run_script(main)

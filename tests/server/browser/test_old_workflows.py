"""Workflows from before the inputs were frozen: opened with a message, their values kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import browser as browsers
import pytest
from comfyui_server import Server

OLD = Path(__file__).parent.parent.parent / "data" / "earlier"
LOAD = "workflow => app.loadGraphData(workflow)"
PROMPT = "async () => (await app.graphToPrompt()).output"
TOAST = ".p-toast-message"
GONE = "toast => !document.querySelector(toast)"
ENDS = ("id", "origin_id", "origin_slot", "target_id", "target_slot")


def old(name: str) -> dict[str, Any]:
    return dict(json.loads((OLD / f"{name}.json").read_text(encoding="utf-8")))


def the(workflow: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(node for node in workflow["nodes"] if node["type"] == kind)


@pytest.fixture
def opened(page: Any) -> Any:
    """Opens a workflow; what the page says of it, and its prompt by class."""

    def open_workflow(workflow: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        page.evaluate("app.extensionManager.toast.removeAll()")
        page.wait_for_function(GONE, arg=TOAST)
        page.evaluate(LOAD, workflow)
        browsers.settle(page)
        prompt = page.evaluate(PROMPT)
        by_class = {node["class_type"]: node["inputs"] for node in prompt.values()}
        return " ".join(page.locator(TOAST).all_text_contents()), by_class

    yield open_workflow
    page.evaluate("app.extensionManager.toast.removeAll()")


def test_their_nodes_are_named_and_their_values_kept(opened: Any, page: Any, server: Server) -> None:
    """The rule: no value of an older workflow moves into another widget without a word."""
    said, nodes = opened(old("first_picture"))
    assert "a workflow of an earlier version" in said and "save the workflow" in said
    for name in ("Collect Tickets (2)", "Ticket Latent from Regions (3)", "Ticket Regions (12)"):
        assert name in said
    collect, layout = nodes["CollectTickets"], nodes["TicketLatentFromRegions"]
    assert {k: collect[k] for k in ("noises", "layer", "advanced", "save_as")} == {
        "noises": 48,
        "layer": "input 3",
        "advanced": "defaults",
        "save_as": "",
    }
    expected = {
        "size": "of the regions",
        "seed": 7,
        "selection": "rank",
        "selection.best": 0.5,
        "strength": 1,
    }
    assert {k: layout[k] for k in expected} == expected and layout["advanced"] == "defaults"
    assert "bank" not in nodes["TicketRegions"] and layout["regions"] == ["12", 0]
    with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
        page.evaluate("app.queuePrompt(0)")
    assert not answer.value.json().get("node_errors")
    server.client.wait(answer.value.json()["prompt_id"], 600)
    # Saved and opened again it is of this version.
    said, again = opened(page.evaluate("app.graph.serialize()"))
    assert not said and again == nodes


def test_what_was_set_by_hand_stays_so(opened: Any) -> None:
    workflow = old("first_picture")
    layout = the(workflow, "TicketLatentFromRegions")
    values = layout["widgets_values"]
    values[1:3], values[6], values[10], values[15], values[-1] = [320, 192], "threshold", 0.4, "repeat", 5
    for name in ("width", "height"):
        next(i for i in layout["inputs"] if i["name"] == name)["link"] = None
    the(workflow, "CollectTickets")["widgets_values"][7] = "singles"
    _, nodes = opened(workflow)
    layout, collect = nodes["TicketLatentFromRegions"], nodes["CollectTickets"]
    assert (layout["size"], layout["size.width"], layout["size.height"]) == ("custom", 320, 192)
    assert (layout["selection"], layout["selection.t_pos"]) == ("threshold", 0.4)
    assert (layout["advanced"], layout["advanced.shortage"], layout["advanced.rounds"]) == (
        "custom",
        "repeat",
        5,
    )
    assert (collect["advanced"], collect["advanced.scheme"]) == ("custom", "singles")


def test_links_go_where_their_inputs_went(opened: Any) -> None:
    """The size came from another node than the regions: then it still does."""
    workflow = old("block_swap")
    arrange = the(workflow, "ArrangeNoiseByRegions")
    other = {**the(workflow, "TicketRegions"), "id": 90, "inputs": []}
    other["outputs"] = [{**output, "links": []} for output in other["outputs"]]
    workflow["nodes"].append(other)
    (link,) = [i["link"] for i in arrange["inputs"] if i["name"] == "height"]
    (edge,) = [e for e in workflow["links"] if e[0] == link]
    edge[1] = 90
    other["outputs"][3]["links"] = [link]
    editor = the(workflow, "TicketRegions")
    editor["outputs"][3]["links"].remove(link)
    _, nodes = opened(workflow)
    inputs = nodes["ArrangeNoiseByRegions"]
    assert inputs["size"] == "custom" and inputs["size.height"] == ["90", 3]
    assert inputs["size.width"] == [str(editor["id"]), 2]
    assert (inputs["rounds"], inputs["candidates"], inputs["layer"]) == (3, 8, "input 3")


def test_nodes_in_a_subgraph_are_moved_too(page: Any) -> None:
    """There links are objects, and a removed input takes its link with it at both ends."""
    workflow = old("first_picture")
    inner = {
        "nodes": workflow["nodes"],
        "links": [dict(zip(ENDS, link, strict=False)) for link in workflow["links"]],
    }
    (bank,) = [i["link"] for i in the(workflow, "TicketRegions")["inputs"] if i["name"] == "bank"]
    script = """async workflow => {
      const loaded = performance.getEntriesByType('resource').map(entry => entry.name)
      const url = loaded.find(name => name.includes('old_workflows/'))
      const {migrate} = await import(new URL('./migrate.js', url))
      migrate(workflow)
      return workflow.definitions.subgraphs[0]
    }"""
    moved = page.evaluate(script, {"nodes": [], "links": [], "definitions": {"subgraphs": [inner]}})
    assert the(moved, "TicketLatentFromRegions")["widgets_values"][1] == "of the regions"
    assert bank not in [link["id"] for link in moved["links"]]
    assert bank not in the(moved, "CollectTickets")["outputs"][0]["links"]


@pytest.mark.parametrize(
    ("kind", "values", "now"),
    [
        (
            "PickBestNoise",
            ["cat: 0 0 1 1", 640, 448, 3, "fixed", 2, "auto", 16, "listed first"],
            {"size.width": 640, "size.height": 448, "candidates": 16, "advanced.overlap": "listed first"},
        ),
        (
            "TicketLayerReport",
            ["cat\ndog", 16, 4, 9, 256, 256, 2, 12, 7],
            {"seed": 9, "images": 2, "advanced": "custom", "advanced.steps": 12, "advanced.cfg": 7},
        ),
    ],
)
def test_nodes_of_no_example_too(opened: Any, kind: str, values: list[Any], now: dict[str, Any]) -> None:
    node = {"id": 1, "type": kind, "pos": [0, 0], "size": [300, 300], "widgets_values": values}
    graph = {"nodes": [node], "links": [], "version": 0.4, "last_node_id": 1, "last_link_id": 0}
    said, nodes = opened(graph)
    assert "(1)" in said and {k: nodes[kind][k] for k in now} == now

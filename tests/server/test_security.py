"""SECURITY.md's promises of the running server: the page's route, and where a shared workflow writes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from comfyui_client import Client
from comfyui_server import Server

Prompt = dict[str, Any]
ROUTE = "/winning_tickets/bank?name="
SHIPPED = "demo_model.safetensors"
OUTSIDE = (
    "../evil",
    "/etc/x",
    "..\\evil",
    "a/../../evil",
    "C:\\evil",
    "con",
    "~/../../evil",
    "\x00",
    "../../x.jsonl",
)


def asked(client: Client, path: str, **headers: str) -> int:
    """The status of an answer."""
    request = urllib.request.Request(client.url + path, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_other_sites_are_refused_as_on_comfyuis_own_routes(client: Client) -> None:
    other = ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"})
    for headers in (*other, {}, {"Origin": client.url}):
        ours, theirs = (asked(client, path, **headers) for path in (ROUTE + SHIPPED, "/system_stats"))
        assert ours == theirs == (403 if headers in other else 200)


@pytest.mark.parametrize(
    "name",
    [
        "../../server.log",
        "/etc/passwd",
        "..%2f..%2fserver.log",
        "....//server.log",
        "%2e%2e/x",
        "C:%5Cx",
        "~",
    ],
)
def test_no_name_leads_out_of_the_folders(client: Client, name: str) -> None:
    told = json.loads(client.get(ROUTE + name))
    assert set(told) == {"error"} and told["error"].startswith("There is no ticket bank called")


def test_queries_of_any_number_and_length_are_answered(server: Server, client: Client) -> None:
    again = "&name=".join([SHIPPED, *["none"] * 200])
    assert json.loads(client.get(ROUTE + again))["block"] == 2
    assert "error" in json.loads(client.get(ROUTE + "x" * 7000))
    assert asked(client, ROUTE + "x" * 100_000) in (400, 414)
    for path in (
        "/winning_tickets/bank",
        "/winning_tickets/bank?other=1",
        "/winning_tickets/bank?name=&name=",
    ):
        assert "error" in json.loads(client.get(path))
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda _: client.get(ROUTE + SHIPPED), range(300)))
    assert len(set(told)) == 1 and server.alive


def test_only_reading_is_offered(client: Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        request = urllib.request.Request(client.url + ROUTE + SHIPPED, method=method, data=b"{}")
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60)
        assert refusal.value.code in (404, 405)


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
@pytest.mark.parametrize("node", ["CollectTickets", "LayoutTrial"])
def test_no_workflow_writes_outside_its_folders(
    server: Server, failure: Callable[[Prompt], Any], prompt: Prompt, node: str, name: str
) -> None:
    base = server.log_path.parent
    if node == "CollectTickets":
        inputs = {**prompt["2"]["inputs"], "save_as": name}
    else:
        inputs = {
            **{"model": ["1", 0], "clip": ["1", 1], "regions": "castle\ntree", "size": "of the regions"},
            **{"kinds": "usual ones", "images": 1, "seed": 0, "steps": 1, "cfg": 1.0, "advanced": "custom"},
            **{
                "sampler_name": "euler",
                "scheduler": "normal",
                "advanced.save_as": name,
                "advanced.layer": "input 3",
            },
            **{
                "advanced.objects": "two",
                "advanced.prompt": "{}",
                "advanced.negative": "",
                "advanced.rounds": 0,
            },
            **{"advanced.candidates": 1, "advanced.pass_on": "shown ones"},
        }
    before = {
        path for path in base.rglob("*") if path.suffix in (".safetensors", ".jsonl", ".tmp", ".latent")
    }
    told = failure({"1": prompt["1"], "2": {"class_type": node, "inputs": inputs}, "3": shown("2")})
    assert told.node == node and "save_as is" in told.message and "inside " in told.message
    assert written(base) == before


def written(folder: Path) -> set[Path]:
    ours = (".safetensors", ".jsonl", ".tmp", ".latent")
    return {path for path in folder.rglob("*") if path.suffix in ours}


def shown(node: str) -> Prompt:
    return {"class_type": "PreviewAny", "inputs": {"source": [node, 0]}}

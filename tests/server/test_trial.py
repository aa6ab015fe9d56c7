"""Layout Trial on a real server: from queueing to the sentence, cancelled and resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comfyui_client import Client
from comfyui_server import Server

Prompt = dict[str, Any]
SWAP_ONLY = {
    "kinds": "custom",
    "kinds.best_of": 0,
    "kinds.block_swap": True,
    "kinds.tickets": True,
    "kinds.tickets_looked_at": False,
    "kinds.control": False,
}


def trial(**changes: Any) -> Prompt:
    inputs = {
        "model": ["1", 0],
        "clip": ["1", 1],
        "regions": "castle\ntree\ncar",
        "size": "custom",
        "size.width": 256,
        "size.height": 256,
        **SWAP_ONLY,
        "images": 3,
        "seed": 4,
        "steps": 3,
        "cfg": 5.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "advanced": "custom",
        "advanced.objects": "two",
        "advanced.prompt": "{}",
        "advanced.negative": "",
        "advanced.layer": "input 3",
        "advanced.candidates": 2,
        "advanced.rounds": 1,
        "advanced.save_as": "",
        "advanced.pass_on": "all",
    }
    return {"class_type": "LayoutTrial", "inputs": inputs | changes}


@pytest.fixture
def folder(server: Server) -> Path:
    return server.log_path.parent / "output" / "layout_trials"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_trial_says_what_it_found(
    run: Callable[[Prompt], Any], listener: Any, client: Client, prompt: Prompt, folder: Path
) -> None:
    """With a bank, a VAE and drawn regions; the images go to another node."""
    drawn = (
        '{"regions": [{"category": "castle", "box": [0.5, 0.3, 0.9, 0.7]}, {"category": "tree", "box":'
        " [0.1, 0.3, 0.5, 0.7]}]}"
    )
    graph = {
        "1": prompt["1"],
        "2": {"class_type": "LoadTicketBank", "inputs": {"name": "demo_model.safetensors"}},
        "3": {"class_type": "TicketRegions", "inputs": {"width": 256, "height": 256, "layout": drawn}},
        "4": trial(
            **{"bank": ["2", 0], "vae": ["1", 2], "regions": ["3", 0], "size": "of the regions"},
            **{"advanced.save_as": "castles/one"},
        ),
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 2], "filename_prefix": "trial"}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 3], "vae": ["1", 2]}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
    }
    del graph["4"]["inputs"]["size.width"], graph["4"]["inputs"]["size.height"]
    prompt_id = listener.queue(graph)
    assert listener.until_end() == "execution_success"
    entry = client.wait(prompt_id, 60)
    (text,) = entry["outputs"]["4"]["text"]
    assert re.match(r"(On this checkpoint|No clear effect in 3 images)", text)
    assert re.search(r"\| plain noise +\| 3 ", text) and re.search(r"\| tickets +\| 3 ", text)
    assert "Kept in output/layout_trials/castles/one.jsonl." in text
    assert len(entry["outputs"]["5"]["images"]) == len(entry["outputs"]["7"]["images"]) == 9
    records = lines(folder / "castles" / "one.jsonl")
    assert [(r["case"], r["kind"]) for r in records] == [
        (case, kind) for case in range(3) for kind in ("plain", "block swap", "tickets")
    ]
    assert {r["prompt"] for r in records} == {"a castle and a tree"}
    said = [
        e["data"]["text"] for e in listener.seen if e["type"] == "progress_text" and e["data"]["node"] == "4"
    ]
    assert re.match(r"9 images to draw: about \d+ forwards of one image \(sampling 54, ", said[0])
    done, total = zip(*listener.progress("4"), strict=True)
    assert len(set(total[:-9])) <= 2 and max(done) >= 54


def test_a_cancelled_trial_goes_on_where_it_was(
    run: Callable[[Prompt], Any], listener: Any, client: Client, prompt: Prompt, folder: Path
) -> None:
    graph = {"1": prompt["1"], "4": trial(images=4, steps=8, **{"advanced.save_as": "cancelled"})}
    prompt_id = listener.queue(graph)
    listener.until(lambda e: e["type"] == "progress_text" and "images left" in e["data"]["text"])
    client.interrupt(prompt_id)
    assert listener.until_end() == "execution_interrupted"
    kept = lines(folder / "cancelled.jsonl")
    assert 0 < len(kept) < 8
    assert sum(r["kind"] == "plain" for r in kept) == sum(r["kind"] == "block swap" for r in kept)
    text = run(graph).text("4")
    assert f"{len(kept)} of 8 images were drawn before." in text
    records = lines(folder / "cancelled.jsonl")
    assert len(records) == 8 and records[: len(kept)] == kept


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"regions": ""}, "Layout Trial: regions is empty: write categories"),
        ({"regions": "castle: 0.1 0.2"}, "Layout Trial: Region 1 ('castle: 0.1 0.2') needs four numbers"),
        ({"regions": "cat: 0 0 0.5 1\ncat: 0.5 0 1 1"}, 'Layout Trial: "cat" has 2 regions'),
        ({"advanced.save_as": "../../out"}, 'Layout Trial: save_as is "../../out", and a part of it'),
        ({"advanced.prompt": "a photo of a dog"}, 'is not in the prompt "a photo of a dog"'),
        ({"advanced.layer": "input 99"}, 'Layout Trial: layer is "input 99"'),
        ({"bank": ["2", 0], "regions": "castle\nowl"}, "owl"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:30],
)
def test_what_cannot_be_tried_is_said_before_anything_is_drawn(
    failure: Callable[[Prompt], Any], prompt: Prompt, changes: dict[str, Any], told: str
) -> None:
    bank = {"class_type": "LoadTicketBank", "inputs": {"name": "demo_model.safetensors"}}
    found = failure({"1": prompt["1"], "2": bank, "4": trial(**changes)})
    assert found.node == "LayoutTrial" and told in found.message
    assert found.message.startswith("Layout Trial")


def test_images_without_a_vae_are_named(listener: Any, prompt: Prompt) -> None:
    saved = {"class_type": "PreviewImage", "inputs": {"images": ["4", 2]}}
    listener.queue({"1": prompt["1"], "4": trial(images=1), "5": saved})
    told = listener.until(lambda event: event["type"] == "execution_error")
    assert "Layout Trial: there are no images without a vae" in told["data"]["exception_message"]

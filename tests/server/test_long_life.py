"""Two clients at once, and nothing that grows; `benchmarks/long_life.py` does this for 1,000 prompts."""

from __future__ import annotations

import copy
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from comfyui import ROOT
from comfyui_client import Client
from PIL import Image

sys.path.append(str(ROOT / "benchmarks"))
from watcher import Watcher

Prompt = dict[str, Any]


@pytest.fixture
def clients(client: Client) -> Iterator[list[Watcher]]:
    found = [Watcher(client, name) for name in ("one-", "two-")]
    yield found
    for watcher in found:
        watcher.close()


def of_seed(prompt: Prompt, seed: int) -> Prompt:
    """The example, small, with its collection and its picture from this seed."""
    changed = copy.deepcopy(prompt)
    side = {"width": 128, "height": 128}
    changed["2"]["inputs"] |= {**side, "seed": 1000 * seed, "noises": 2, "categories": "castle\ntree"}
    sizes = {"size": "custom", **{f"size.{name}": value for name, value in side.items()}}
    lines = "castle: 0.5 0 1 1\ntree: 0 0 0.5 1"
    changed["3"]["inputs"] |= {**sizes, "seed": seed, "candidates": 2, "regions": lines}
    changed["6"]["inputs"] |= {"seed": seed, "steps": 2}
    return changed


def pictures(client: Client, key: str) -> list[bytes]:
    entry = client.wait(key, 600)
    found = [i for output in entry["outputs"].values() for i in output.get("images", [])]
    # Files have the prompt in them, with the names of its nodes.
    return [Image.open(io.BytesIO(client.image(**image))).tobytes() for image in found]


def test_each_client_gets_what_is_its_own(clients: list[Watcher], client: Client, short: Prompt) -> None:
    """Rule: the texts under a node that runs went to every open page, whose nodes have the same numbers."""
    wanted = [of_seed(short, seed) for seed in (501, 502)]
    keys = [[watcher.queue(p) for watcher, p in zip(clients, wanted, strict=True)] for _ in range(2)]
    for number, watcher in enumerate(clients):
        own = [pair[number] for pair in keys]
        assert watcher.wait(own) == ["execution_success"] * 2
        assert not watcher.strange
        assert watcher.got["text"] and watcher.got["preview"] and watcher.got["executed"]
        assert all(node.startswith(watcher.name) for node, _ in watcher.texts)
    first, second = ([pictures(client, pair[k]) for pair in keys] for k in range(2))
    assert first[0] and first[0] != second[0]
    # The same prompt without any client, under numbers of its own.
    counts = [watcher.got["text"] for watcher in clients]
    for prompt, found in zip(wanted, (first, second), strict=True):
        assert pictures(client, client.queue(prompt)) == found[0] == found[1]
    assert [watcher.got["text"] for watcher in clients] == counts


def test_nothing_grows_from_prompt_to_prompt(
    client: Client, run: Callable[[Prompt], Any], short: Prompt
) -> None:
    def after(seeds: range) -> Counter[str]:
        for seed in seeds:
            run(of_seed(short, seed))
        # What ComfyUI keeps for itself goes: its cache of results and its history.
        client.get("/free", {"free_memory": True, "unload_models": True})
        client.get("/history", {"clear": True})
        # The next prompt comes after that.
        run({"1": {"class_type": "EmptyImage", "inputs": _image(seeds)}, "2": _shown("1")})
        found = json.loads(client.get("/inside?pack=winning-tickets", timeout=300))
        sequences = next(v for name, v in found["caches"].items() if name.endswith("noise._sequences"))
        assert 0 < sequences <= 128
        # One for each seed, up to these.
        for name in ("objects of the pack", "entries kept by the pack's modules"):
            found["figures"][name] -= sequences
        return Counter(found["figures"])

    first, second = after(range(600, 602)), after(range(602, 605))
    for name in (
        "hooks on modules",
        "functions replaced on modules",
        "functions of ComfyUI replaced",
        "patches on loaders' models",
        "objects of the pack",
        "entries kept by the pack's modules",
        "running tasks",
    ):
        assert second[name] <= first[name], f"{name}: {first[name]}, then {second[name]}"


def _image(seeds: range) -> Prompt:
    return {"width": 64, "height": 64, "batch_size": 1, "color": seeds.start}


def _shown(node: str) -> Prompt:
    return {"class_type": "PreviewImage", "inputs": {"images": [node, 0]}}

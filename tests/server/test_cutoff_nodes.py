"""The guidance cutoff's nodes on a real server: the patch, and the same by the other nodes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from comfyui import ROOT

Prompt = dict[str, Any]
API = ROOT / "demo" / "example_workflows" / "api" / "cutoff_side_by_side.json"
SAVED = "30 NFE for 20 steps, 10 of them guided; a stock run takes 40: 25% saved."


@pytest.fixture(scope="module")
def original() -> Prompt:
    """The example's patch with a share of the steps, node 9, beside its stock KSampler, node 12."""
    example = json.loads(API.read_text(encoding="utf-8"))
    patch = {"cutoff": "share of steps", "cutoff.guided": 0.5, "after_cutoff": "conditional"}

    def saved(number: str) -> Prompt:
        return {"class_type": "SaveImage", "inputs": {"images": [number, 0], "filename_prefix": "cutoff/one"}}

    return {
        **{str(number): example[str(number)] for number in range(1, 9)},
        "5": {"class_type": "GuidanceCutoff", "inputs": {**patch, "model": ["1", 0]}},
        "9": saved("8"),
        "10": example["9"],
        "11": {"class_type": "VAEDecode", "inputs": {"samples": ["10", 0], "vae": ["1", 2]}},
        "12": saved("11"),
    }


@pytest.fixture(scope="module")
def example(run: Callable[[Prompt], Any], original: Prompt) -> Any:
    return run(original)


@pytest.fixture
def half(original: Prompt) -> Prompt:
    """The example without its comparison branch."""
    return copy.deepcopy({node: what for node, what in original.items() if int(node) <= 9})


def test_example_saves_and_says_so(example: Any) -> None:
    assert SAVED in example.text("7")
    assert "guided step" in example.text("7")
    assert example.pictures["9"].tobytes() != example.pictures["12"].tobytes()
    assert "Traceback" not in example.log


def test_switched_off_it_is_the_stock_ksampler(run: Any, example: Any, half: Prompt) -> None:
    half["5"]["inputs"]["cutoff.guided"] = 1.0
    found = run(half)
    assert found.pictures["9"].tobytes() == example.pictures["12"].tobytes()
    assert "40 NFE for 20 steps, 20 of them guided; a stock run takes 40: 0% saved." in found.text("7")


def test_guider_and_ksampler_draw_the_same(run: Any, example: Any, half: Prompt) -> None:
    patch = half.pop("5")["inputs"]
    cutoff = {name: value for name, value in patch.items() if name != "model"}
    settings = half["6"]["inputs"]
    half["6"] = {
        "class_type": "GuidanceCutoffKSampler",
        "inputs": {**settings, **cutoff, "model": patch["model"]},
    }
    half["8"]["inputs"]["samples"] = ["6", 0]
    del half["7"]
    found = run(half)
    assert found.pictures["9"].tobytes() == example.pictures["9"].tobytes()
    assert SAVED in found.text("6")
    sigmas = {"scheduler": "karras", "steps": 20, "denoise": 1, "model": ["1", 0]}
    conds = {"positive": ["2", 0], "negative": ["3", 0], "cfg": 5}
    half |= {
        "20": {"class_type": "RandomNoise", "inputs": {"noise_seed": settings["seed"]}},
        "21": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "dpmpp_2m"}},
        "22": {"class_type": "BasicScheduler", "inputs": sigmas},
        "23": {"class_type": "GuidanceCutoffGuider", "inputs": {"model": ["1", 0], **conds, **cutoff}},
        "24": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["20", 0],
                "guider": ["23", 0],
                "sampler": ["21", 0],
                "sigmas": ["22", 0],
                "latent_image": ["4", 0],
            },
        },
        "25": {"class_type": "GuidanceCutoffReport", "inputs": {"latent": ["24", 0], "guider": ["23", 0]}},
    }
    half["8"]["inputs"]["samples"] = ["25", 0]
    del half["6"]
    found = run(half)
    assert found.pictures["9"].tobytes() == example.pictures["9"].tobytes()
    assert SAVED in found.text("25")


def test_stock_sampler_shows_what_was_saved(listener: Any, half: Prompt) -> None:
    """Who samples with the patch is told on the sampler's own node."""
    half["6"]["inputs"]["seed"] = 8
    listener.queue(half)
    assert listener.until_end() == "execution_success"
    told = [e["data"] for e in listener.seen if e["type"] == "progress_text"]
    assert any(t["node"] == "6" and SAVED in t["text"] for t in told)


def test_more_unguided_steps_than_there_are_is_explained(failure: Any, half: Prompt) -> None:
    del half["5"]["inputs"]["cutoff.guided"]
    half["5"]["inputs"] |= {"cutoff": "last steps", "cutoff.unguided_steps": 21}
    answer = failure(half)
    assert answer.node == "KSampler"
    assert answer.message == "unguided_steps is 21, but this run has 20 steps: set it to 20 or less."


def test_report_without_model_or_guider_is_explained(failure: Any, half: Prompt) -> None:
    del half["7"]["inputs"]["model"]
    answer = failure(half)
    assert answer.node == "GuidanceCutoffReport" and "connect one" in answer.message

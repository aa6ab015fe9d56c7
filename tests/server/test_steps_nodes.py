"""Attention over Steps, Suggest Guidance Cutoff and Swap End Tokens on a real server."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from comfyui import ROOT

Prompt = dict[str, Any]
API = ROOT / "demo" / "example_workflows" / "api" / "attention_over_steps.json"
WATCH, NEGATIVE, WATCHED, REPORT, SUGGESTED, SAMPLER, CUT_SAVED, WATCHED_SAVED = (
    *("2", "3", "5", "7", "8", "9", "11", "12"),
)


@pytest.fixture(scope="module")
def original() -> Prompt:
    return dict(json.loads(API.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def example(run: Callable[[Prompt], Any], original: Prompt) -> Any:
    return run(original)


@pytest.fixture
def changed(original: Prompt) -> Prompt:
    return copy.deepcopy(original)


def test_the_suggestion_is_what_the_sampler_follows(example: Any) -> None:
    suggestion = re.search(r"Guide [\d.]+ of the steps, (\d+) of 20", example.text(SUGGESTED))
    assert suggestion and 0 < int(suggestion[1]) < 20
    assert f"for 20 steps, {suggestion[1]} of them guided" in example.text(SAMPLER)
    assert "Traceback" not in example.log


def test_the_report_has_its_figures_and_a_picture(example: Any) -> None:
    lines = example.text(REPORT).splitlines()
    assert " ".join(lines[0].split()) == "step sigma castle tree low freq. guidance still to come"
    assert [line.split()[0] for line in lines[1:7]] == ["1", "5", "9", "12", "16", "20"]
    assert 600 < example.pictures[REPORT].size[0] < 800


def test_watching_changes_nothing_in_the_picture(run: Any, example: Any, changed: Prompt) -> None:
    prompt = {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle and a tree", "clip": ["1", 1]}}
    changed[WATCHED]["inputs"] |= {"model": ["1", 0], "positive": ["20", 0]}
    nodes = ("1", NEGATIVE, "4", WATCHED, "6", WATCHED_SAVED)
    found = run({"20": prompt, **{node: changed[node] for node in nodes}})
    assert found.pictures[WATCHED_SAVED].tobytes() == example.pictures[WATCHED_SAVED].tobytes()


def test_a_text_encoded_elsewhere_is_watched_too(run: Any, example: Any, changed: Prompt) -> None:
    prompt = {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle and a tree", "clip": ["1", 1]}}
    changed[WATCHED]["inputs"]["positive"] = ["20", 0]
    found = run(changed | {"20": prompt})
    assert found.text(REPORT) == example.text(REPORT)


def test_a_second_run_from_the_cache_reports_the_same(run: Any, example: Any, changed: Prompt) -> None:
    run(copy.deepcopy(changed))
    changed[REPORT]["inputs"]["steps"] = "1 20"
    found = run(changed)
    assert WATCHED in found.cached()
    told = example.text(REPORT).splitlines()
    assert [line.split() for line in found.text(REPORT).splitlines()] == [
        line.split() for line in (told[0], told[1], *told[6:])
    ]


@pytest.mark.parametrize(
    ("node", "inputs", "told"),
    [
        (WATCH, {"phrases": "dog"}, '"dog" is not in the prompt "a castle and a tree"'),
        (WATCH, {"layer": "input 99"}, "attends to the prompt in:"),
        (REPORT, {"steps": "21"}, "this run has the steps 1 to 20"),
        (REPORT, {"number": 2}, "number is 2, but the latent has images 1 to 1"),
        (REPORT, {"model": ["1", 0]}, "connect the model that comes out of Attention over Steps"),
        (REPORT, {"latent": ["4", 0]}, "no run of this watched model made this latent as it is"),
    ],
)
def test_what_cannot_be_shown_is_explained(
    failure: Any, changed: Prompt, node: str, inputs: dict[str, Any], told: str
) -> None:
    changed[node]["inputs"] |= inputs
    answer = failure(changed)
    assert answer.node == changed[node]["class_type"] and told in answer.message


def test_another_prompt_at_the_sampler_is_explained_and_ends_nothing(run: Any, changed: Prompt) -> None:
    """Rule: what only watches ends no run; the picture behind the report was lost."""
    changed[WATCHED]["inputs"]["positive"] = [NEGATIVE, 0]
    changed[NEGATIVE]["inputs"]["text"] = "blurry"
    nodes = ("1", WATCH, NEGATIVE, "4", WATCHED, "6", WATCHED_SAVED, REPORT)
    found = run({node: changed[node] for node in nodes})
    assert "connect its output positive to the sampler" in found.text(REPORT)
    assert WATCHED_SAVED in found.pictures


def test_a_cut_run_gives_no_suggestion(failure: Any, changed: Prompt) -> None:
    patch = {"cutoff": "share of steps", "cutoff.guided": 0.5, "after_cutoff": "conditional"}
    changed["20"] = {"class_type": "GuidanceCutoff", "inputs": {**patch, "model": [WATCH, 0]}}
    changed[WATCHED]["inputs"]["model"] = ["20", 0]
    changed[REPORT]["inputs"]["model"] = ["20", 0]
    answer = failure(changed)
    assert answer.node == "SuggestGuidanceCutoff" and "watch one without a cutoff" in answer.message


def test_swapped_end_tokens_change_the_picture_and_say_so(run: Any, changed: Prompt) -> None:
    def drawn(mode: str, end_prompt: str) -> Any:
        inputs = {"clip": ["1", 1], "prompt": "a castle", "end_prompt": end_prompt, "mode": mode}
        changed["20"] = {
            "class_type": "SwapEndTokens",
            "inputs": {**inputs, "amount": 0.5, "start": 0.0, "end": 1.0},
        }
        changed[WATCHED]["inputs"] |= {"model": ["1", 0], "positive": ["20", 0]}
        return run({node: changed[node] for node in ("1", NEGATIVE, "4", WATCHED, "6", WATCHED_SAVED, "20")})

    own, swapped, zero = drawn("swap", "a castle"), drawn("swap", "a tree"), drawn("zero", "")
    pictures = {found.pictures[WATCHED_SAVED].tobytes() for found in (own, swapped, zero)}
    assert len(pictures) == 3
    assert '74 end tokens of 77 of "a castle" replaced by those of "a tree".' in swapped.text("20")
    assert "replaced by zeros" in zero.text("20")

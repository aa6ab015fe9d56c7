"""Regions from masks and boxes, and noise without a bank, through a real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from comfyui_client import Client

Prompt = dict[str, Any]
LEFT = {"x": 16, "y": 80, "width": 96, "height": 96}
SIZE = {"width": 256, "height": 256}
CUSTOM_SIZE = {"size": "custom", "size.width": 256, "size.height": 256}


@pytest.fixture
def arranged(short: Prompt) -> Prompt:
    """The example with Arrange Noise by Regions in place of collecting and building."""
    inputs = {
        "model": ["1", 0],
        "clip": ["1", 1],
        "regions": short["3"]["inputs"]["regions"],
        **CUSTOM_SIZE,
        "seed": 7,
        "batch_size": 1,
        "layer": "input 3",
        "rounds": 2,
        "candidates": 2,
        "advanced": "defaults",
    }
    short["3"] = {"class_type": "ArrangeNoiseByRegions", "inputs": inputs}
    del short["2"]
    return short


def without(prompt: Prompt, *names: str) -> Prompt:
    return {k: v for k, v in prompt.items() if k not in names}


def test_noise_is_arranged_and_drawn_without_a_bank(run: Callable[[Prompt], Any], arranged: Prompt) -> None:
    done = run(arranged)
    assert "8" in done.pictures and done.pictures["3"].size[0] > 400
    assert "Fit of the layout" in done.text("3") and "6 looks of" in done.text("3")


def test_best_noise_is_picked_of_another_nodes_noise(run: Callable[[Prompt], Any], arranged: Prompt) -> None:
    arranged["30"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 5}}
    picking = without(arranged["3"]["inputs"], "rounds")
    arranged["3"] = {
        "class_type": "PickBestNoise",
        "inputs": {**picking, "candidates": 5, "noise": ["30", 0]},
    }
    done = run(arranged)
    assert "5 looks of" in done.text("3") and "8" in done.pictures


def test_noise_that_never_changes_is_refused(failure: Callable[[Prompt], Any], arranged: Prompt) -> None:
    arranged["30"] = {"class_type": "DisableNoise", "inputs": {}}
    picking = without(arranged["3"]["inputs"], "rounds")
    arranged["3"] = {"class_type": "PickBestNoise", "inputs": {**picking, "noise": ["30", 0]}}
    told = failure(arranged)
    assert told.node == "PickBestNoise" and "does not change with its seed" in told.message


def test_where_no_latent_carries_noise_the_sampler_says_so_and_noise_still_works(
    listener: Any, run: Callable[[Prompt], Any], arranged: Prompt
) -> None:
    """The rule: a flow model never starts from zeros silently; only the nodes that take the latent stop."""
    flow = {"model": ["1", 0], "shift": 3.0}
    arranged["20"] = {"class_type": "ModelSamplingSD3", "inputs": flow}
    for node in arranged.values():
        if node["inputs"].get("model") == ["1", 0] and node is not arranged["20"]:
            node["inputs"]["model"] = ["20", 0]
    assert "Use the noise output instead" in run(arranged).text("3")
    sampler = next(k for k, node in arranged.items() if "sampler_name" in node["inputs"])
    how = {k: arranged[sampler]["inputs"][k] for k in ("model", "positive", "negative", "sampler_name")}
    advanced = {
        **how,
        "add_noise": "disable",
        "noise_seed": 0,
        "steps": 2,
        "cfg": 2.0,
        "scheduler": "simple",
        "latent_image": ["3", 1],
        "start_at_step": 0,
        "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
    }
    arranged[sampler] = {"class_type": "KSamplerAdvanced", "inputs": advanced}
    listener.queue(arranged)
    assert listener.until_end() == "execution_error"
    told = listener.seen[-1]["data"]
    assert told["node_type"] == "KSamplerAdvanced"
    assert "Arrange Noise by Regions: for this model no latent carries noise" in told["exception_message"]


def test_masks_and_boxes_make_the_regions_of_the_text(run: Callable[[Prompt], Any], arranged: Prompt) -> None:
    """The rule: one layout, given in three forms, builds the same noise and so the same picture."""
    text = run(arranged).pictures["8"]
    arranged["40"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, **SIZE}}
    arranged["41"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 96, "height": 96}}
    place = {"destination": ["40", 0], "source": ["41", 0], "x": 144, "y": 80, "operation": "add"}
    arranged["42"] = {"class_type": "MaskComposite", "inputs": place}
    mask = {"mask": ["42", 0], "category": "Castle", "batch": "one for each image"}
    arranged["43"] = {"class_type": "TicketRegionFromMask", "inputs": mask}
    arranged["44"] = {"class_type": "PrimitiveBoundingBox", "inputs": LEFT}
    boxes = {"boxes": ["44", 0], "category": "tree", **SIZE, "regions": ["43", 0]}
    arranged["45"] = {"class_type": "TicketRegionsFromBoxes", "inputs": boxes}
    arranged["3"]["inputs"].update(regions="", more_regions=["45", 0])
    done = run(arranged)
    assert done.text("45") == "tree: 0.0625 0.3125 0.4375 0.6875"
    assert done.pictures["8"].tobytes() == text.tobytes()


def test_elements_of_create_bounding_boxes_are_regions(
    run: Callable[[Prompt], Any], client: Client, arranged: Prompt
) -> None:
    if "CreateBoundingBoxes" not in json.loads(client.get("/object_info")):
        pytest.skip("This ComfyUI has no Create Bounding Boxes.")
    drawn = [
        {"x": 144, "y": 80, "width": 96, "height": 96, "metadata": {"type": "obj", "desc": "castle"}},
        {**LEFT, "metadata": {"type": "obj", "desc": "tree"}},
    ]
    inputs = {**SIZE, "editor_state": {"__value__": drawn}}
    arranged["46"] = {"class_type": "CreateBoundingBoxes", "inputs": inputs}
    boxes = {"boxes": ["46", 2], "category": "", **SIZE}
    arranged["47"] = {"class_type": "TicketRegionsFromBoxes", "inputs": boxes}
    arranged["3"]["inputs"].update(regions="", more_regions=["47", 0])
    lines = run(arranged).text("47").splitlines()
    assert [line.split(":")[0] for line in lines] == ["castle", "tree"]


def test_noise_is_reported_beside_plain_noise(run: Callable[[Prompt], Any], arranged: Prompt) -> None:
    report = {"noise": ["3", 0], "latent_image": ["3", 2], "block": 2}
    arranged["50"] = {"class_type": "NoiseReport", "inputs": report}
    done = run({k: arranged[k] for k in ("1", "3", "50")})
    text = done.text("50")
    assert "KS distance" in text and "plain noise" in text
    assert done.pictures["50"].size[0] > 600


def test_an_empty_mask_is_named(failure: Callable[[Prompt], Any], arranged: Prompt) -> None:
    arranged["40"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, **SIZE}}
    mask = {"mask": ["40", 0], "category": "castle", "batch": "one for each image"}
    arranged["43"] = {"class_type": "TicketRegionFromMask", "inputs": mask}
    arranged["3"]["inputs"]["more_regions"] = ["43", 0]
    told = failure(arranged)
    assert told.node == "TicketRegionFromMask" and 'The mask of "castle" is empty' in told.message


def test_a_model_without_its_clip_is_explained(failure: Callable[[Prompt], Any], short: Prompt) -> None:
    del short["3"]["inputs"]["clip"]
    told = failure(short)
    assert told.node == "TicketLatentFromRegions" and "only one of model and clip" in told.message


def test_a_category_the_bank_lacks_is_answered_with_what_to_do(
    failure: Callable[[Prompt], Any], short: Prompt
) -> None:
    short["3"]["inputs"]["regions"] = "dragon: 0 0 0.5 0.5"
    told = failure(short)
    assert told.node == "TicketLatentFromRegions" and 'no tickets of "dragon"' in told.message
    assert "add the category in Collect Tickets" in told.message


def test_drawn_regions_give_the_noise_of_the_same_lines(run: Callable[[Prompt], Any], short: Prompt) -> None:
    """Rule: the editor's JSON is what the text form of regions also reads."""
    lines = short["3"]["inputs"]["regions"]
    expected = run(short)
    entries = [line.split(": ") for line in lines.splitlines()]
    boxes = [{"category": c, "box": [float(v) for v in box.split()]} for c, box in entries]
    layout = json.dumps({"regions": boxes})
    short["20"] = {"class_type": "TicketRegions", "inputs": {**SIZE, "layout": layout}}
    short["3"]["inputs"]["regions"] = ["20", 0]
    done = run(short)
    assert done.entry["outputs"]["20"]["ticket_regions"] == [SIZE]
    # What the editor offers once the run has shown it.
    bank = {"categories": ["castle", "tree", "car"], "block": 2}
    assert done.entry["outputs"]["3"]["ticket_bank"] == [bank]
    assert list(done.pictures["8"].getdata()) == list(expected.pictures["8"].getdata())
    short["3"]["inputs"]["regions"] = layout
    assert list(run(short).pictures["8"].getdata()) == list(expected.pictures["8"].getdata())


def test_a_background_is_shown_and_changes_nothing(run: Callable[[Prompt], Any], short: Prompt) -> None:
    short["20"] = {
        "class_type": "TicketRegions",
        "inputs": {**SIZE, "layout": short["3"]["inputs"]["regions"], "background": ["7", 0]},
    }
    short["21"] = {"class_type": "PreviewAny", "inputs": {"source": ["20", 1]}}
    done = run(short)
    assert done.entry["outputs"]["20"]["ticket_regions"][0]["background"]["type"] == "temp"
    assert done.text("21").splitlines() == ["castle", "tree"]


def test_an_empty_drawing_is_explained(failure: Callable[[Prompt], Any], short: Prompt) -> None:
    short["20"] = {"class_type": "TicketRegions", "inputs": {**SIZE, "layout": '{"regions": []}'}}
    short["3"]["inputs"]["regions"] = ["20", 0]
    found = failure(short)
    assert found.node == "TicketRegions" and "draw one in the region editor" in found.message

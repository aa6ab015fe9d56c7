"""The size of the image is asked for once: regions carry it to the nodes that take them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from comfyui_client import Client
from PIL import Image

Prompt = dict[str, Any]
LINES = "castle: 0.5625 0.3125 0.9375 0.6875"
CARRIED = {"size": "of the regions"}
CUSTOM = {"size": "custom", "size.width": 192, "size.height": 256}


def drawn(width: int, height: int, layout: str = LINES, **links: Any) -> Prompt:
    inputs = {"width": width, "height": height, "layout": layout, **links}
    return {"class_type": "TicketRegions", "inputs": inputs}


@pytest.fixture
def built(run: Callable[[Prompt], Any], client: Client, short: Prompt) -> Callable[[Prompt], Any]:
    """Runs Ticket Latent from Regions; the size of a picture of its latent in pixels, and its report."""

    def build(inputs: Prompt, **nodes: Prompt) -> tuple[tuple[int, int], str]:
        decode = {"class_type": "VAEDecode", "inputs": {"samples": ["3", 2], "vae": ["1", 2]}}
        show = {"class_type": "PreviewImage", "inputs": {"images": ["90", 0]}}
        layout = {**short["3"], "inputs": {**short["3"]["inputs"], "candidates": 1, **inputs}}
        prompt = {"1": short["1"], "2": short["2"], "3": layout, "90": decode, "91": show, **nodes}
        done = run(prompt)
        (image,) = done.entry["outputs"]["91"]["images"]
        return Image.open(io.BytesIO(client.image(**image))).size, done.text("3")

    return build


def test_drawn_regions_bring_their_size(built: Callable[..., Any]) -> None:
    size, report = built({**CARRIED, "regions": ["20", 0]}, **{"20": drawn(320, 192)})
    assert size == (320, 192) and "Image size" not in report


def test_a_size_of_ones_own_goes_before_it(built: Callable[..., Any]) -> None:
    assert built({**CUSTOM, "regions": ["20", 0]}, **{"20": drawn(320, 192)})[0] == (192, 256)


def test_text_and_masks_take_the_banks_size_and_the_report_says_so(built: Callable[..., Any]) -> None:
    size, report = built({**CARRIED, "regions": LINES})
    assert size == (256, 256)
    assert "Image size: 256x256, the bank's, since the regions carry none." in report
    mask = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 96, "height": 64}}
    region = {"mask": ["20", 0], "category": "castle", "batch": "one for each image"}
    nodes = {"20": mask, "21": {"class_type": "TicketRegionFromMask", "inputs": region}}
    assert built({**CARRIED, "regions": ["21", 0]}, **nodes)[0] == (256, 256)


def test_boxes_bring_the_size_of_the_image_they_were_made_for(built: Callable[..., Any]) -> None:
    box = {"class_type": "PrimitiveBoundingBox", "inputs": {"x": 16, "y": 80, "width": 96, "height": 96}}
    regions = {"boxes": ["20", 0], "category": "castle", "width": 384, "height": 256}
    nodes = {"20": box, "21": {"class_type": "TicketRegionsFromBoxes", "inputs": regions}}
    assert built({**CARRIED, "regions": "", "more_regions": ["21", 0]}, **nodes)[0] == (384, 256)


def test_the_first_of_a_chain_sets_the_size_and_every_node_passes_it_on(built: Callable[..., Any]) -> None:
    mask = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 96, "height": 64}}
    region = {"mask": ["21", 0], "category": "tree", "batch": "one for each image", "regions": ["20", 0]}
    nodes = {
        "20": drawn(320, 192),
        "21": mask,
        "22": {"class_type": "TicketRegionFromMask", "inputs": region},
        "23": drawn(512, 512, "car: 0 0 0.4 1", regions=["22", 0]),
        "24": {"class_type": "PreviewAny", "inputs": {"source": ["23", 2]}},
    }
    assert built({**CARRIED, "regions": ["23", 0]}, **nodes)[0] == (320, 192)


PICK = {
    "model": ["1", 0],
    "clip": ["1", 1],
    "regions": LINES,
    **CARRIED,
    "seed": 1,
    "batch_size": 1,
    "layer": "input 3",
    "candidates": 1,
    "advanced": "defaults",
}


def test_noise_without_a_bank_takes_the_models_usual_size(
    run: Callable[[Prompt], Any], short: Prompt
) -> None:
    picked = run({"1": short["1"], "3": {"class_type": "PickBestNoise", "inputs": PICK}, **seen("3")})
    assert "Image size: 512x512, usual for this model, since the regions carry none." in picked.text("3")
    assert "is small for this model" not in picked.text("3")


def test_a_size_far_below_the_models_is_noted(run: Callable[[Prompt], Any], short: Prompt) -> None:
    """Rule: what was forgotten is said. Ticket Regions is 512x512 at first, half of SDXL's sides."""
    inputs = {**PICK, "regions": ["20", 0]}
    nodes = {"3": {"class_type": "PickBestNoise", "inputs": inputs}, "20": drawn(320, 192), **seen("3")}
    text = run({"1": short["1"], **nodes}).text("3")
    assert "320x192 is small for this model: most of its kind draw at about 512x512." in text


def test_tickets_are_collected_at_the_models_usual_size_if_none_is_given(
    run: Callable[[Prompt], Any], failure: Callable[[Prompt], Any], short: Prompt
) -> None:
    """Rule: a fresh node works on any model with nothing set but the words."""
    inputs = {**short["2"]["inputs"], "width": 0, "height": 0, "noises": 1, "categories": "castle"}
    bank = {"class_type": "CollectTickets", "inputs": inputs}
    shown = {"class_type": "TicketBankReport", "inputs": {"bank": ["2", 0]}}
    assert "noises of 512x512" in run({"1": short["1"], "2": bank, "9": shown}).text("9")
    wrong = {"class_type": "CollectTickets", "inputs": {**inputs, "height": 32}}
    refused = failure({"1": short["1"], "2": wrong, "9": shown})
    assert refused.message == "Collect Tickets: height is 32; it must be 0, or 64 to 16384."


def seen(node: str) -> Prompt:
    return {"99": {"class_type": "PreviewAny", "inputs": {"source": [node, 4]}}}


def test_drawn_categories_reach_the_collector_while_the_editor_needs_no_bank(
    run: Callable[[Prompt], Any], short: Prompt
) -> None:
    """The rule: no input of Ticket Regions leads back to what its categories are for.

    With its former bank input, the wiring that the node's sockets suggest was a cycle.
    """
    layout = json.dumps({"regions": [{"category": "castle", "box": [0.5, 0.25, 1, 0.75]}]})
    short["20"] = {"class_type": "TicketRegions", "inputs": {"width": 256, "height": 256, "layout": layout}}
    short["2"]["inputs"]["categories"] = ["20", 1]
    short["3"]["inputs"]["regions"] = ["20", 0]
    assert "tickets of 1 categor" in run(short).text("2")

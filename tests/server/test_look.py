"""Looking after some steps, and drawing a part of the noise anew, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

Prompt = dict[str, Any]
LINES = "castle: 0.5625 0.3125 0.9375 0.6875\ntree: 0.0625 0.3125 0.4375 0.6875"
LEFT = 0.4


@pytest.fixture
def graph(prompt: Prompt) -> Prompt:
    """Model, prompts, sampler and levels of a run of ten steps, and a noise that is picked for it."""
    model = {"model": ["1", 0], "clip": ["1", 1]}
    pick = {
        **{**model, "regions": LINES, "size": "custom", "size.width": 256, "size.height": 256},
        **{"seed": 7, "batch_size": 1, "layer": "input 3", "candidates": 6, "advanced": "defaults"},
    }
    levels = {"model": ["1", 0], "scheduler": "normal", "steps": 10, "denoise": 1.0}
    guider = {"model": ["1", 0], "positive": ["4", 0], "negative": ["5", 0], "cfg": 5.0}
    sample = {"noise": ["20", 0], "guider": ["25", 0], "sampler": ["23", 0], "sigmas": ["24", 0]}
    return {
        **{node: prompt[node] for node in ("1", "4", "5")},
        "20": {"class_type": "PickBestNoise", "inputs": pick},
        "23": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "dpmpp_2m"}},
        "24": {"class_type": "BasicScheduler", "inputs": levels},
        "25": {"class_type": "CFGGuider", "inputs": guider},
        "26": {"class_type": "SamplerCustomAdvanced", "inputs": {**sample, "latent_image": ["29", 0]}},
        "27": {"class_type": "VAEDecode", "inputs": {"samples": ["26", 0], "vae": ["1", 2]}},
        "28": {"class_type": "SaveImage", "inputs": {"images": ["27", 0], "filename_prefix": "look"}},
        "29": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 256, "height": 256, "batch_size": 1},
        },
    }


def test_candidates_take_the_first_steps_of_the_run(
    run: Callable[[Prompt], Any], listener: Any, graph: Prompt
) -> None:
    """The rule: with the run's own sampler, levels, prompts and guidance, and progress from 0 to the end."""
    graph["20"]["inputs"] |= {
        "look": "after steps",
        "look.after_percent": 20.0,
        "look.steps": 99,
        "look.cfg": 5.0,
    }
    links = {"sampler": ["23", 0], "sigmas": ["24", 0], "positive": ["4", 0], "negative": ["5", 0]}
    graph["20"]["inputs"] |= {f"look.{name}": link for name, link in links.items()}
    listener.queue(graph)
    assert listener.until_end() == "execution_success"
    values = [value for value, _ in listener.progress("20")]
    assert values == sorted(values) and listener.progress("20")[-1][0] == listener.progress("20")[-1][1]
    done = run(graph)
    assert "After 2 of 10 steps: fit" in done.text("20") and "2 candidates were looked at" in done.text("20")


def test_a_prompt_without_look_looks_at_the_first_step(run: Callable[[Prompt], Any], graph: Prompt) -> None:
    """The rule: prompts of before go on to work, and give the same noise."""
    without = run(graph)
    graph["20"]["inputs"]["look"] = "first step"
    assert "After" not in without.text("20")
    assert run(graph).text("20") == without.text("20")


def picture(image: Image.Image, left: float, right: float) -> np.ndarray:
    values = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    return values[:, round(left * values.shape[1]) : round(right * values.shape[1])]


def test_what_is_not_drawn_anew_stays_nearly_as_it_was(run: Callable[[Prompt], Any], graph: Prompt) -> None:
    """The rule of re-painting: another left, nearly the same right; with another seed all is another."""

    def drawn(noise: list[Any], seed: int = 7) -> Image.Image:
        nodes = {
            "20": {"class_type": "RandomNoise", "inputs": {"noise_seed": seed}},
            "30": {
                "class_type": "RedrawNoiseInRegion",
                "inputs": {
                    **{"noise": ["20", 0], "latent_image": ["29", 0], "seed": 11, "edge": 0},
                    "region": f"left: 0 0 {LEFT} 1",
                },
            },
        }
        changed = {**graph, **nodes}
        changed["26"] = {**graph["26"], "inputs": {**graph["26"]["inputs"], "noise": noise}}
        if noise == ["20", 0]:
            changed.pop("30")
        return run(changed).pictures["28"]

    # What no word asks for, such as the colour behind all, hangs on all of the noise.
    graph["4"]["inputs"]["text"] = "a castle and a tree in the snow"
    before, after, other = drawn(["20", 0]), drawn(["30", 0]), drawn(["20", 0], 12)

    def difference(one: Image.Image, two: Image.Image, left: float, right: float) -> float:
        return float(np.abs(picture(one, left, right) - picture(two, left, right)).mean())

    kept, moved = difference(before, after, 0.6, 1), difference(before, after, 0, 0.3)
    assert kept < difference(before, other, 0.6, 1)
    assert moved > kept

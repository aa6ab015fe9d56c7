"""Layout Score and scripts/trial.py on a real server: boxes judge a trial's images, files are resumed."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trial_layer
import trial_progress
from comfyui_client import Client
from comfyui_server import Server

import trial as script

LEFT, RIGHT = {"x": 8, "y": 40, "width": 48, "height": 48}, {"x": 72, "y": 40, "width": 48, "height": 48}
SIDE = 128


@pytest.fixture(scope="module")
def judged() -> dict[str, Any]:
    """One image of plain noise, and a box for each of its two categories."""
    kinds = {
        "best_of": 0,
        "block_swap": False,
        "tickets": False,
        "tickets_looked_at": False,
        "control": False,
    }
    trial = {
        "model": ["1", 0],
        "clip": ["1", 1],
        "vae": ["1", 2],
        "regions": "castle: 0.0 0.25 0.5 0.75\ntree: 0.5 0.25 1.0 0.75",
        **{"size": "custom", "size.width": SIDE, "size.height": SIDE},
        "kinds": "custom",
        **{f"kinds.{name}": value for name, value in kinds.items()},
        **{"images": 1, "seed": 3, "steps": 2, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal"},
        "advanced": "custom",
        **{"advanced.objects": "two", "advanced.prompt": "{}", "advanced.negative": ""},
        **{"advanced.layer": "input 3", "advanced.candidates": 1, "advanced.rounds": 0},
        **{"advanced.save_as": "scored", "advanced.pass_on": "all"},
    }
    score = {
        **{"trial": ["2", 4], "images": ["2", 2], "boxes.boxes0": ["3", 0], "boxes.boxes1": ["4", 0]},
        **{"names": "", "save_as": "by_boxes"},
    }
    return {
        "1": {"class_type": "LoadDemoModel", "inputs": {}},
        "2": {"class_type": "LayoutTrial", "inputs": trial},
        "3": {"class_type": "PrimitiveBoundingBox", "inputs": LEFT},
        "4": {"class_type": "PrimitiveBoundingBox", "inputs": RIGHT},
        "5": {"class_type": "LayoutScore", "inputs": score},
    }


def test_boxes_judge_the_images_of_a_trial(
    run: Callable[[Any], Any], judged: dict[str, Any], client: Client
) -> None:
    done = run(judged)
    text = done.text("5")
    assert text.startswith("Only plain noise was tried: both objects in place in 100% [21, 100] of 1 image.")
    assert "Judged by a detector's boxes; 128x128, 2 steps" in text
    assert "Of 2 objects the model itself and the detector say the same of" in text
    assert "Kept in output/layout_trials/by_boxes.jsonl." in text and done.pictures["5"].width > 400
    line = json.loads(client.image("by_boxes.jsonl", "layout_trials"))
    assert (line["judge"], line["hit"], line["prompt"]) == ("boxes", True, "a castle and a tree")
    assert [o["x"] for o in line["objects"]] == pytest.approx([0.25, 0.75], abs=0.02)


def test_a_detector_that_names_what_it_finds_judges_all_images(
    run: Callable[[Any], Any], judged: dict[str, Any], client: Client
) -> None:
    """The demo model's own judge as the detector, which knows a dozen more things than are asked for."""
    prompt = copy.deepcopy(judged)
    prompt["2"]["inputs"] |= {"images": 2, "steps": 4, "kinds.block_swap": True, "seed": 9}
    prompt["2"]["inputs"] |= {"advanced.save_as": "named", "size.width": 256, "size.height": 256}
    prompt["3"] = {"class_type": "DetectDemoObjects", "inputs": {"latent": ["2", 3]}}
    del prompt["4"], prompt["5"]["inputs"]["boxes.boxes1"]
    prompt["5"]["inputs"]["save_as"] = "named_by_boxes"
    text = run(prompt).text("5")
    assert (
        re.search(r"\| block swap +\| 2 \|", text)
        and "Of 8 objects the model itself and the detector" in text
    )
    lines = client.image("named_by_boxes.jsonl", "layout_trials").splitlines()
    found = [o for line in lines for o in json.loads(line)["objects"] if o["present"]]
    assert len(lines) == 4 and found and all(0 < o["x"] < 1 and 0 < o["y"] < 1 for o in found)


def test_boxes_without_labels_need_one_input_for_each_category(
    failure: Callable[[Any], Any], judged: dict[str, Any]
) -> None:
    prompt = copy.deepcopy(judged)
    del prompt["5"]["inputs"]["boxes.boxes1"]
    refused = failure(prompt)
    assert refused.node == "LayoutScore"
    assert refused.message.startswith("Layout Score: Boxes 1 carry no labels")
    assert "in this order: castle, tree. Connected: 1." in refused.message


def test_the_script_tries_prompts_with_boxes_and_resumes(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rule: the same command again draws nothing anew, and all prompts are one table."""
    prompts = tmp_path / "mine.csv"
    prompts.write_text(
        "id,category,prompt,obj1,bbox1,obj2,bbox2\n"
        '1,a,"a sun above a car","sun","0,0,512,256",car,"0,256,512,512"\n'
        '2,b,a tree,tree,"128,128,384,384",,\n'
        '3,c,a tree,cactus,"128,128,384,384",,\n',
        encoding="utf-8",
    )
    command = [
        "trial.py",
        "--demo",
        "--url",
        server.url,
        "--prompts",
        str(prompts),
        "--output",
        str(tmp_path),
    ]
    small = ["--size", "128", "128", "--steps", "2", "--noises", "2", "--layer", "input 3", "--images", "1"]
    monkeypatch.setattr(sys, "argv", [*command, *small])
    assert script.main() == 0
    out = capsys.readouterr().out
    assert "Row 4 left out" in out and "1 of 2: 1 a: a sun above a car" in out
    assert "| plain noise" in out and "No clear effect in 2 images" in out
    file = tmp_path / "demo_mine.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    kinds = {line["kind"] for line in lines}
    assert (
        len(kinds) == 5
        and len(lines) == 10
        and {line["prompt"] for line in lines} == {"a sun above a car", "a tree"}
    )
    assert script.main() == 0
    assert file.read_text(encoding="utf-8").count("\n") == 10
    capsys.readouterr()
    # The last line of the file is another trial's: the layer is not to be read there.
    output = server.log_path.parent / "output" / "layout_trials" / "demo_mine.jsonl"
    other = json.loads(output.read_text(encoding="utf-8").splitlines()[-1])
    other["settings"]["layer"] = "output 3"
    output.write_text(output.read_text(encoding="utf-8") + json.dumps(other) + "\n", encoding="utf-8")
    for module in (script, trial_layer):
        monkeypatch.setattr(module, "AUTO", "input 3")
    assert script.main() == 0
    assert "Layer input 3 for all prompts, by sun, car, tree." in capsys.readouterr().out
    monkeypatch.setattr(script, "layer_together", lambda *given: "")
    monkeypatch.setattr(sys, "argv", [*command, *small, "--control"])
    assert script.main() == 0
    out = capsys.readouterr().out
    assert "layer input 3, for the other prompts, too" in out
    assert "1 of 2 prompts have one object only: they are tried without the control." in out
    assert re.search(r"\| control .*\| 1 ", out)


def test_a_stopped_script_keeps_its_images_and_says_how_far_it_is(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C left nothing in --output; resumed, kept images counted into the time left."""
    said: list[str] = []

    def stop(text: str) -> None:
        said.append(text)
        if "of about" in text:
            raise KeyboardInterrupt

    small = ["--size", "128", "128", "--steps", "2", "--noises", "2", "--layer", "input 3", "--images", "4"]
    command = ["trial.py", "--demo", "--url", server.url, "--output", str(tmp_path), "--name", "a/stopped"]
    monkeypatch.setattr(sys, "argv", [*command, *small])
    monkeypatch.setattr(trial_progress, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(trial_progress, "say", stop)
    with pytest.raises(KeyboardInterrupt):
        script.main()
    kept = (tmp_path / "a" / "stopped.jsonl").read_bytes().count(b"\n")
    assert 0 < kept < 20
    assert f"{kept} images are kept in {tmp_path / 'a' / 'stopped.jsonl'}" in capsys.readouterr().out
    said.clear()
    monkeypatch.setattr(trial_progress, "say", said.append)
    assert script.main() == 0
    counts = [tuple(map(int, re.findall(r"(\d+) of about (\d+)", t)[0])) for t in said if "of about" in t]
    assert counts and all(total == 20 and kept < done <= 20 for done, total in counts)
    assert re.search(r"(\d+) of 20 images were drawn before", capsys.readouterr().out)


def test_the_script_names_what_is_missing(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["trial.py", "--checkpoint", str(tmp_path / "none.safetensors")])
    with pytest.raises(script.SetupError, match="--checkpoint must be a file"):
        script.main()
    monkeypatch.setattr(sys, "argv", ["trial.py", "--checkpoint", "none.safetensors", "--url", server.url])
    with pytest.raises(script.SetupError, match="ComfyUI refused the prompt"):
        script.main()

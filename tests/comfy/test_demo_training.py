"""demo/train.py with a handful of scenes and steps: it can be stopped and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "demo"))

import model as demo  # noqa: E402

SMALL = {
    "vae_scenes": 4,
    "vae_steps": 2,
    "vae_batch": 2,
    "scenes": 48,
    "held_out": 4,
    "judge_steps": 2,
    "judge_batch": 4,
    "batch": 4,
    "phase_steps": 2,
}


def train(folder: Path, *more: str) -> str:
    """What the script prints; tests/comfy runs with COMFYUI_DIR set or ComfyUI in .comfyui/."""
    sizes = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    places = ["--progress", str(folder / "progress"), "--weights", str(folder / "weights")]
    command = [sys.executable, str(ROOT / "demo" / "train.py"), "--device", "cpu", *sizes, *places, *more]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    train(folder, "--stage", "judge")
    return folder


def test_it_resumes_exports_and_goes_on_from_the_weights(trained: Path) -> None:
    judge_at = (trained / "progress" / "judge.pt").stat().st_mtime_ns
    assert "written" in train(trained)
    assert (trained / "progress" / "judge.pt").stat().st_mtime_ns == judge_at, "the judge was trained twice"

    weights = trained / "weights" / "demo.safetensors"
    parts = demo.load(weights)
    assert parts.vae.decode(torch.zeros(1, 4, 32, 32)).shape == (1, 256, 256, 3)
    assert parts.clip.encode_from_tokens(parts.clip.tokenize("a cat")).shape == (1, 77, 128)
    assert "been through every phase" in train(trained, "--from-weights")

    log_path = trained / "weights" / "training.json"
    log = json.loads(log_path.read_text(encoding="utf-8"))
    last = list(log["log"])[-1]
    del log["log"][last]
    log_path.write_text(json.dumps(log), encoding="utf-8")
    (trained / "progress" / f"{last}.pt").unlink()
    before = load_file(weights)
    assert "written" in train(trained, "--from-weights")
    after = load_file(weights)
    again = json.loads(log_path.read_text(encoding="utf-8"))
    assert list(again["log"])[-1] == last and again["continues"]["commit"] == log["commit"]
    assert before.keys() == after.keys()
    distance = {k: float((after[k].float() - before[k].float()).abs().max()) for k in before}
    moved = {k for k, d in distance.items() if d > 0}
    assert moved and all(k.startswith(("unet.", "text.")) for k in moved), "only the denoiser is trained on"
    assert max(distance.values()) < 0.05, "two steps from these weights, not from new ones"

"""scripts/demo.py, the first thing a newcomer runs, on a real server."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from comfyui import ROOT
from comfyui_client import Client
from PIL import Image


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_script", ROOT / "scripts" / "demo.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_saves_the_drawn_picture(
    script: ModuleType, client: Client, prompt: dict[str, Any], tmp_path: Path
) -> None:
    """Rule: what README tells a newcomer to run works. It once took a node's own picture for the image."""
    target = tmp_path / "picture.png"
    told = script.run(client, script.compose(prompt, script.SCENES[0], tickets=True), target)
    assert Image.open(target).size == (256, 256)
    assert told["nfe"] == "30 NFE"

"""Every example workflow, opened and run in the page with each renderer."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from comfyui import ROOT
from comfyui_server import Server
from PIL import Image

EXAMPLES = sorted((ROOT / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs_and_saves_a_picture(page: Any, server: Server, path: Any) -> None:
    page.evaluate("workflow => app.loadGraphData(workflow)", json.loads(path.read_text(encoding="utf-8")))
    page.wait_for_timeout(500)
    with page.expect_response(lambda r: r.url.endswith("/prompt")) as answer:
        page.evaluate("app.queuePrompt(0)")
    entry = server.client.wait(answer.value.json()["prompt_id"], 600)
    found = [image for output in entry["outputs"].values() for image in output.get("images", [])]
    saved = [image for image in found if image["type"] == "output"]
    assert saved
    for picture in saved:
        image = Image.open(io.BytesIO(server.client.image(**picture)))
        assert image.size == (256, 256) and len(set(image.convert("L").getdata())) > 20

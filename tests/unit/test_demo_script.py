"""scripts/demo.py's prompts."""

from __future__ import annotations

import importlib.util
import json

from comfyui import ROOT


def test_the_transformer_takes_the_place_of_the_model() -> None:
    spec = importlib.util.spec_from_file_location("demo_script", ROOT / "scripts" / "demo.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    workflow = json.loads(script.WORKFLOW.read_text(encoding="utf-8"))
    usual, twin = (
        script.compose(workflow, script.SCENES[0], tickets=False, model=m) for m in ("UNet", "transformer")
    )
    changed = {key for key in usual if usual[key] != twin[key]}
    assert usual.keys() == twin.keys() and len(changed) == 1
    (key,) = changed
    assert usual[key]["class_type"] == "LoadDemoModel" and twin[key]["class_type"] == "LoadDemoTransformer"
    # It is no demo of the transformer if the tickets of which nothing is shown end it.
    assert not [n for n in twin.values() if n["class_type"] in ("CollectTickets", "TicketLatentFromRegions")]
    (sampler,) = script.nodes_of(twin, "GuidanceCutoffKSampler")
    empty = twin[sampler["inputs"]["latent_image"][0]]
    assert empty["class_type"] == "EmptyLatentImage" and empty["inputs"]["width"] == 256

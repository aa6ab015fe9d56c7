"""scripts/demo.py's prompts."""

from __future__ import annotations

import importlib.util
import json

import pytest
from comfyui import ROOT


@pytest.mark.parametrize("tickets", [True, False])
def test_the_transformer_takes_the_place_of_the_model(tickets: bool) -> None:
    """The rule: only the model and the layer in which tickets are collected differ, and noise goes a way that
    flow models take."""
    spec = importlib.util.spec_from_file_location("demo_script", ROOT / "scripts" / "demo.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    workflow = json.loads(script.WORKFLOW.read_text(encoding="utf-8"))
    usual, twin = (
        script.compose(workflow, script.SCENES[0], tickets, model) for model in ("UNet", "transformer")
    )
    changed = {usual[key]["class_type"]: twin[key] for key in usual if usual[key] != twin[key]}
    assert usual.keys() == twin.keys()
    assert changed.pop("LoadDemoModel")["class_type"] == "LoadDemoTransformer"
    if tickets:
        assert changed.pop("CollectTickets")["inputs"]["layer"] == "block 3"
        (collect,) = script.nodes_of(usual, "CollectTickets")
        assert collect["inputs"]["layer"] == "input 3"
    assert not changed
    (sampler,) = script.nodes_of(twin, "GuidanceCutoffKSampler")
    start = twin[sampler["inputs"]["latent_image"][0]]
    if tickets:
        # Its outputs noise and empty latent; a noise latent is nothing to flow models.
        noise, latent = sampler["inputs"]["noise"], sampler["inputs"]["latent_image"]
        assert start["class_type"] == "TicketLatentFromRegions"
        assert noise == [latent[0], 0] and latent[1] == 2
    else:
        assert "noise" not in sampler["inputs"]
        assert start["class_type"] == "EmptyLatentImage" and start["inputs"]["width"] == 256

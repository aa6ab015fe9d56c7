"""Every CLIP is read, L, G, H, and SDXL's L and G together; other encoders and models are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.latent_formats
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from winning_tickets.probe.attention.reader import ProbeError, cross_attention_layers
from winning_tickets.probe.attention.text import encode_prompt
from winning_tickets.probe.collect.collect import Wish, collect
from winning_tickets.tickets.prompts import make_prompts

WIDTH = 32
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": WIDTH,
    "context_in_dim": WIDTH,
    "hidden_size": WIDTH,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 1,
    "depth_single_blocks": 1,
    "axes_dim": [4, 6, 6],
    "txt_ids_dims": [],
    "theta": 10_000,
    "qkv_bias": True,
    "guidance_embed": False,
}
SD3 = {
    "input_size": None,
    "in_channels": 16,
    "depth": 2,
    "patch_size": 2,
    "adm_in_channels": WIDTH,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": WIDTH, "out_features": 128},
    },
    "num_patches": 64,
    "pos_embed_max_size": 8,
    "pos_embed_scaling_factor": None,
}


@pytest.mark.parametrize("name", ["L", "H", "L and G"])
def test_every_token_of_a_phrase_is_found(make_clip: Callable[[str], Any], name: str) -> None:
    clip = make_clip(name)
    (prompt,) = make_prompts(("fire hydrant", "a red car, parked"), template="a photo of {} at night")
    assert prompt.text == "a photo of a fire hydrant and a red car, parked at night"
    encoded = encode_prompt(clip, prompt)
    assert encoded.positions == ((5, 6, 7), (9, 10, 11, 12, 13)) and encoded.length == 77


def test_tickets_are_collected_on_sdxl(sdxl: Any, make_clip: Callable[[str], Any]) -> None:
    wish = Wish(("cat", "fire hydrant", "tree"), 2, 5, 128, 192, "input 3")
    bank = collect(sdxl, make_clip("L and G"), wish)
    r = bank.recipe
    assert (r.model, r.block, r.grid) == ("SDXL", 2, (12, 8))
    assert r.latent_scale == comfy.latent_formats.SDXL().scale_factor
    assert float(bank.attention.min()) > 0 and float(bank.attention.max()) < 1
    assert float(bank.score("cat", "tree").std()) > 0


@pytest.mark.parametrize(
    ("family", "settings"), [(comfy.supported_models.Flux, FLUX), (comfy.supported_models.SD3, SD3)]
)
def test_models_without_unet_are_refused_by_their_name(family: Any, settings: Any) -> None:
    config = family(settings)
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    model = config.get_model({}, "", device=cpu)
    patcher = comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu)
    with pytest.raises(ProbeError, match=f"is {family.__name__}, .* has no UNet .* SD1.x, SD2.x and SDXL"):
        cross_attention_layers(patcher)


def test_an_encoder_that_is_no_clip_is_refused_by_its_name(t5: Any) -> None:
    (prompt,) = make_prompts(("cat", "tree"))
    with pytest.raises(ProbeError, match=r"encoder \(t5xxl\) is not CLIP alone"):
        encode_prompt(t5, prompt)

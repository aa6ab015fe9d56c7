"""The demo model in ComfyUI's own classes: UNet, text encoder, autoencoder, and how they are loaded.

Everything stock ComfyUI does to an SD1.x checkpoint works on what `load` returns; only the sizes differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import comfy.clip_model
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch

if __package__:  # ComfyUI loads the folder as a pack, the scripts import from it
    from .variants import chosen, folder  # type: ignore[import-not-found]
else:
    from variants import chosen, folder

VARIANT = chosen()[1]
WEIGHTS = folder() / "demo.safetensors"
LATENT_SCALE = 0.18215
WIDTH = 128

UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "channel_mult": [1, 4, 4],
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_temporal_attention": False,
    "use_checkpoint": False,
    "legacy": False,
    "num_heads": -1,
    "num_head_channels": 64,
    "context_dim": WIDTH,
    "adm_in_channels": None,
    **VARIANT.unet,
}
TEXT: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "intermediate_size": 2 * WIDTH,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
VOCABULARY = 49408


class DemoConfig(comfy.supported_models.SD15):
    """SD1.x in everything but the size of the UNet."""

    unet_config: dict[str, Any] = {}
    unet_extra_config: dict[str, Any] = {}

    def model_type(self, state_dict: Any, prefix: str = "") -> comfy.model_base.ModelType:
        kinds = comfy.model_base.ModelType
        return kinds.V_PREDICTION if VARIANT.prediction == "v" else kinds.EPS


class Parts(NamedTuple):
    """What a checkpoint loader returns."""

    model: Any
    clip: Any
    vae: Any


def build_unet(dtype: torch.dtype, device: torch.device) -> Any:
    """A core BaseModel around a core UNetModel; the weights are not initialised."""
    config = DemoConfig(UNET)
    config.set_inference_dtype(dtype, None)
    return config.get_model({}, "", device=device)


def build_text(operations: Any = comfy.ops.disable_weight_init) -> Any:
    """A core CLIPTextModel in float32; the weights are not initialised."""
    return comfy.clip_model.CLIPTextModel(dict(TEXT), torch.float32, torch.device("cpu"), operations)


def _section(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    prefix = name + "."
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def expand_vocabulary(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rows for all 49,408 tokens: row 0 of the stored embedding stands for every unknown word."""
    known = state.pop("token_ids").long()
    rows = state.pop("text_model.embeddings.token_embedding.weight")
    index = torch.zeros(VOCABULARY, dtype=torch.long)
    index[known] = torch.arange(1, len(known) + 1)
    return {**state, "text_model.embeddings.token_embedding.weight": rows[index]}


def load(path: Path = WEIGHTS) -> Parts:
    """MODEL, CLIP and VAE of the demo model, managed by ComfyUI like any other."""
    state = comfy.utils.load_torch_file(str(path), safe_load=True)
    management = comfy.model_management
    device = management.get_torch_device()
    offload = management.unet_offload_device()
    weights = _section(state, "unet")
    base = build_unet(management.unet_dtype(device=device), torch.device("cpu"))
    missing, unexpected = base.diffusion_model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(f"{path} does not fit the demo UNet: {missing[:3]} {unexpected[:3]}")
    model = comfy.model_patcher.CoreModelPatcher(base.to(offload), device, offload)
    text = expand_vocabulary(_section(state, "text"))
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(
        target,
        parameters=sum(v.numel() for v in text.values()),
        state_dict={f"clip_l.transformer.{k}": v for k, v in text.items()},
        model_options={"dtype": torch.float32, "clip_l_model_config": TEXT},
    )
    vae = comfy.sd.VAE(sd=_section(state, "vae"))
    return Parts(model, clip, vae)

"""The denoisers of the demo's models in ComfyUI's own classes, and how ComfyUI is told of their sizes."""

from __future__ import annotations

from typing import Any, NamedTuple

import comfy.latent_formats
import comfy.model_base
import comfy.supported_models
import torch

if __package__:  # ComfyUI loads the folder as a pack, the scripts import from it
    from .variants import chosen  # type: ignore[import-not-found]
else:
    from variants import chosen

VARIANT = chosen()[1]
WIDTH = 128
"""Of the text encoder, and of the transformers."""

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
# SD3's class: joint attention of 77 text and 256 image tokens, two heads of 64. No pooled text: words reach
# the image through attention alone. Positions are the class's own sines and cosines, for any size.
MMDIT: dict[str, Any] = {
    "input_size": None,
    "patch_size": 2,
    "in_channels": 4,
    "depth": WIDTH // 64,
    "num_blocks": 6,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": WIDTH, "out_features": WIDTH},
    },
}
# Wan's class for a single frame: self-attention with rotary positions, then cross-attention to the words.
WAN: dict[str, Any] = {
    "image_model": "wan2.1",
    "model_type": "t2v",
    "patch_size": (1, 2, 2),
    "in_dim": 4,
    "out_dim": 4,
    "dim": WIDTH,
    "ffn_dim": 4 * WIDTH,
    "freq_dim": 256,
    "text_dim": WIDTH,
    "text_len": 77,
    "num_heads": WIDTH // 64,
    "num_layers": 8,
    "qk_norm": False,
}


class DemoConfig(comfy.supported_models.SD15):
    """SD1.x in everything but the size of the UNet."""

    unet_config: dict[str, Any] = {}
    unet_extra_config: dict[str, Any] = {}

    def model_type(self, state_dict: Any, prefix: str = "") -> comfy.model_base.ModelType:
        kinds = comfy.model_base.ModelType
        return kinds.V_PREDICTION if VARIANT.prediction == "v" else kinds.EPS


class JointConfig(comfy.supported_models.SD3):
    """SD3 in everything but its size and the latents, which are the demo's."""

    unet_config: dict[str, Any] = {}
    latent_format = comfy.latent_formats.SD15
    sampling_settings = {"shift": 3.0}


class Frame(comfy.latent_formats.SD15):
    """The demo's latents as a video of one frame."""

    latent_dimensions = 3


class CrossConfig(comfy.supported_models.WAN21_T2V):
    """Wan 2.1 in everything but its size and the latents, which are the demo's."""

    unet_config: dict[str, Any] = {}
    latent_format = Frame
    sampling_settings = {"shift": 3.0}


class Network(NamedTuple):
    """config: ComfyUI's, which names the class. sizes: the class's arguments. dimensions: of a latent."""

    config: type
    sizes: dict[str, Any]
    dimensions: int = 4

    def build(self, dtype: torch.dtype, device: torch.device) -> Any:
        """A core BaseModel around a core denoiser; the weights are not initialised."""
        config = self.config(self.sizes)
        config.set_inference_dtype(dtype, None)
        return config.get_model({}, "", device=device)


NETWORKS = {
    "unet": Network(DemoConfig, UNET),
    "mmdit": Network(JointConfig, MMDIT),
    "wan": Network(CrossConfig, WAN, 5),
}
"""By the name that begins their weights' names in the files."""

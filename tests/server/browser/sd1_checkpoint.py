"""Writes a checkpoint that ComfyUI takes for SD1.5: its layout with random weights and a narrower UNet.

python sd1_checkpoint.py COMFYUI_DIR FILE
"""

from __future__ import annotations

import sys

sys.path[:0] = [sys.argv[1]]
FILE = sys.argv[2]
sys.argv = [sys.argv[0], "--cpu"]

import comfy.options

comfy.options.enable_args_parsing()

import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.ops import manual_cast
from comfy.sd1_clip import SDClipModel
from safetensors.torch import save_file

# SD1.5 has channel_mult 1, 2, 4, 4; ComfyUI tells the family by the other figures.
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 1, 1, 1],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "use_spatial_transformer": True,
    "context_dim": 768,
    "num_heads": 8,
    "legacy": False,
}
VAE = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
VAE |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}


def drawn(name: str, like: torch.Tensor) -> torch.Tensor:
    """Small weights, no biases, and norms that change nothing."""
    if like.dim() > 1:
        return torch.randn(like.shape).mul_(like[0].numel() ** -0.5).half()
    return (torch.ones if name.endswith("weight") else torch.zeros)(like.shape).half()


def main() -> None:
    torch.manual_seed(0)
    meta = {"device": "meta", "dtype": torch.float16}
    with torch.device("meta"):
        parts = {
            "model.diffusion_model.": UNetModel(**UNET, **meta, operations=manual_cast),
            "cond_stage_model.": SDClipModel(**meta),
            "first_stage_model.": AutoencoderKL(ddconfig=VAE, embed_dim=4),
        }
    state = {
        prefix + name: drawn(name, tensor)
        for prefix, part in parts.items()
        for name, tensor in part.state_dict().items()
        if tensor.is_floating_point() and "logit_scale" not in name
    }
    save_file(state, FILE)


if __name__ == "__main__":
    main()

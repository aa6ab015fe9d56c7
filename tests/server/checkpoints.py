"""Writes model files as ComfyUI's loaders take them: the real layout, random weights, as small as it allows.

python checkpoints.py COMFYUI_DIR MODELS NAME...

MODELS: a folder as ComfyUI's models. What a loader reads from the weights is small; what it knows by itself
is as large as it is: one block of Qwen-Image has 340 million weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [sys.argv[1]]
MODELS, NAMES = Path(sys.argv[2]), sys.argv[3:]
sys.argv = [sys.argv[0], "--cpu"]

import comfy.options

comfy.options.enable_args_parsing()

import torch
from comfy.ldm.flux.model import Flux
from comfy.ldm.hunyuan_video.model import HunyuanVideo
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.mmdit import OpenAISignatureMMDITWrapper
from comfy.ldm.modules.diffusionmodules.model import Decoder, Encoder
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel
from comfy.ldm.wan.model import WanModel
from comfy.ldm.wan.vae import WanVAE
from comfy.ops import manual_cast
from comfy.sd1_clip import SDClipModel
from safetensors.torch import save_file

State = dict[str, torch.Tensor]
FP8 = torch.float8_e4m3fn
LARGE = 2**20

# SD1.5 has channel_mult 1, 2, 4, 4; ComfyUI tells the family by the other figures.
SD1 = {
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
VAE = {"double_z": True, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
VAE |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
# SD3.5 medium: 64 values for each of the blocks, of which some have a second attention.
SD3 = {
    "input_size": None,
    "patch_size": 2,
    "in_channels": 16,
    "depth": 3,
    "num_patches": 256,
    "pos_embed_max_size": 16,
    "pos_embed_scaling_factor": None,
    "adm_in_channels": 2048,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": 4096, "out_features": 192},
    },
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0, 1],
}
FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 16,
    "context_in_dim": 64,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}
KLEIN = {
    **FLUX,
    "in_channels": 128,
    "out_channels": 128,
    "vec_in_dim": None,
    "context_in_dim": 48,
    "axes_dim": [32, 32, 32, 32],
    "mlp_ratio": 3.0,
    "theta": 2000,
    "patch_size": 1,
    "guidance_embed": False,
    "txt_ids_dims": [3],
    "qkv_bias": False,
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
}
HUNYUAN = {
    "in_channels": 64,
    "out_channels": 64,
    "vec_in_dim": None,
    "context_in_dim": 64,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 1,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [64, 64],
    "theta": 256,
    "patch_size": [1, 1],
    "qkv_bias": True,
    "guidance_embed": False,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}
WAN = {
    "dim": 128,
    "ffn_dim": 128,
    "num_heads": 1,
    "num_layers": 3,
    "cross_attn_norm": True,
}


def made(kind: Callable[..., Any], settings: dict[str, Any]) -> State:
    """The weights of a model without their values."""
    with torch.device("meta"):
        return dict(kind(**settings, dtype=torch.float32, device="meta", operations=manual_cast).state_dict())


def drawn(shapes: State, dtype: torch.dtype, prefix: str = "") -> State:
    """Random values that keep a forward's size; large matrices repeat theirs, for speed."""
    found = {}
    for name, like in shapes.items():
        if not like.is_floating_point() or "logit_scale" in name:
            continue
        if like.dim() < 2:
            values = torch.randn(like.shape) * 0.1
            norm = name.endswith(("weight", "scale", "gamma"))
            found[prefix + name] = (values + norm).to(dtype)
            continue
        rows, columns = len(like), like[0].numel()
        few = rows * columns >= LARGE
        values = torch.randn(rows + columns if few else rows * columns) * columns**-0.5
        # Bytes, since 8-bit floats cannot be strided.
        bits = values.to(dtype).view(torch.uint8).reshape(-1, dtype.itemsize)
        if few:
            width = dtype.itemsize
            bits = bits.contiguous().as_strided((rows, columns, width), (width, width, 1))
        found[prefix + name] = bits.contiguous().view(dtype).reshape(like.shape)
    return found


def autoencoder(channels: int) -> State:
    """Of SD3 and Flux; its decoder is as narrow as groups of 32 allow."""
    sides: dict[str, tuple[Any, dict[str, Any]]] = {
        "encoder.": (Encoder, VAE | {"z_channels": channels}),
        "decoder.": (Decoder, VAE | {"z_channels": channels, "ch": 32}),
    }
    with torch.device("meta"):
        return {
            prefix + name: like
            for prefix, (kind, settings) in sides.items()
            for name, like in kind(**settings).state_dict().items()
        }


def wan_autoencoder() -> State:
    settings = {"dim": 8, "z_dim": 16, "temperal_downsample": [False, True, True]}
    with torch.device("meta"):
        vae = WanVAE(**settings).state_dict()
    return drawn(dict(vae), torch.bfloat16)


def clip_l() -> State:
    with torch.device("meta"):
        return dict(SDClipModel(device="meta", dtype=torch.float32).state_dict())


def clip_alone() -> State:
    state = drawn(clip_l(), torch.float16)
    return {name.removeprefix("transformer."): value for name, value in state.items()}


def sd1() -> State:
    with torch.device("meta"):
        vae = AutoencoderKL(ddconfig=VAE | {"z_channels": 4}, embed_dim=4).state_dict()
    return {
        **drawn(made(UNetModel, SD1), torch.float16, "model.diffusion_model."),
        **drawn(clip_l(), torch.float16, "cond_stage_model."),
        **drawn(dict(vae), torch.float16, "first_stage_model."),
    }


def sd3() -> State:
    """With one text encoder of three: the others have 0.7 and 5 thousand million weights."""
    return {
        **drawn(made(OpenAISignatureMMDITWrapper, SD3), torch.float16, "model.diffusion_model."),
        **drawn(clip_l(), torch.float16, "text_encoders.clip_l."),
        **drawn(autoencoder(16), torch.float16, "first_stage_model."),
    }


def flux() -> State:
    shapes = made(Flux, {"image_model": "flux", **FLUX})
    # As its authors call the weights of norms.
    names = {name: name.replace("_norm.weight", "_norm.scale") for name in shapes}
    return drawn({names[name]: like for name, like in shapes.items()}, torch.bfloat16)


def flux_scaled() -> State:
    """Flux in 8 bits, with a scale for each matrix of its blocks."""
    state = flux()
    state["scaled_fp8"] = torch.empty(0, dtype=FP8)
    for name in list(state):
        if "_blocks." in name and state[name].dim() == 2:
            scale = state[name].float().abs().max() / 448
            state[name] = (state[name].float() / scale).to(FP8)
            state[name.replace(".weight", ".scale_weight")] = scale
    return state


def model_of(kind: Callable[..., Any], settings: dict[str, Any], dtype: torch.dtype) -> Callable[[], State]:
    return lambda: drawn(made(kind, settings), dtype)


FILES: dict[str, tuple[str, Callable[[], State]]] = {
    "sd1": ("checkpoints", sd1),
    "sd3": ("checkpoints", sd3),
    "sd3_alone": ("diffusion_models", model_of(OpenAISignatureMMDITWrapper, SD3, torch.float16)),
    "clip_l": ("text_encoders", clip_alone),
    "flux": ("diffusion_models", flux),
    "flux_scaled": ("diffusion_models", flux_scaled),
    "qwen": ("diffusion_models", model_of(QwenImageTransformer2DModel, {"num_layers": 1}, FP8)),
    "wan": ("diffusion_models", model_of(WanModel, WAN, torch.bfloat16)),
    "klein": ("diffusion_models", model_of(Flux, {"image_model": "flux2", **KLEIN}, torch.bfloat16)),
    "hunyuan": (
        "diffusion_models",
        model_of(HunyuanVideo, {"image_model": "hunyuan_video", **HUNYUAN}, torch.bfloat16),
    ),
    "flux_vae": ("vae", lambda: drawn(autoencoder(16), torch.float16)),
    "wan_vae": ("vae", wan_autoencoder),
}


def written() -> Iterator[Path]:
    for name in NAMES:
        folder, make = FILES[name]
        torch.manual_seed(0)
        path = MODELS / folder / f"random_{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(make(), path)
        yield path


if __name__ == "__main__":
    for path in written():
        print(path)

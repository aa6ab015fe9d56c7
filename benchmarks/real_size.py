"""Real-size models with random weights: SD1.5 and SDXL UNets, and text encoders of their widths."""

from __future__ import annotations

from typing import Any

import comfy.clip_model
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch

COMMON: dict[str, Any] = {
    "use_checkpoint": False,
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "legacy": False,
    "model_channels": 320,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
SD15: dict[str, Any] = {
    **COMMON,
    "adm_in_channels": None,
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "channel_mult": [1, 2, 4, 4],
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
}
SDXL: dict[str, Any] = {
    **COMMON,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "channel_mult": [1, 2, 4],
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "num_heads": -1,
    "num_head_channels": 64,
}


def randomise(module: torch.nn.Module) -> None:
    """Seeded weights of a size that keeps activations in bounds; ComfyUI leaves them uninitialised."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        fan = parameter[0].numel() if parameter.dim() > 1 else 1
        value = torch.empty(parameter.shape).normal_(generator=generator)
        value.mul_(fan**-0.5 if parameter.dim() > 1 else 0.02)
        value = value + 1 if parameter.dim() == 1 and "norm" in name else value
        parameter.data = value.to(parameter.dtype)


def unet(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """MODEL of a config of comfy.supported_models, on ComfyUI's device."""
    config.set_inference_dtype(dtype, None)
    management = comfy.model_management
    base = config.get_model({}, "", device=torch.device("cpu"))
    randomise(base.diffusion_model)
    return comfy.model_patcher.CoreModelPatcher(
        base, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )


def prompt(model: Any, seed: int) -> Any:
    """CONDITIONING of random numbers, in the shapes that MODEL reads."""
    generator = torch.Generator().manual_seed(seed)
    width = model.model.model_config.unet_config["context_dim"]
    pooled = torch.randn(1, 1280, generator=generator)
    return [[torch.randn(1, 77, width, generator=generator), {"pooled_output": pooled}]]


def sdxl(dtype: torch.dtype = torch.float32) -> Any:
    """MODEL of SDXL's shape."""
    return unet(comfy.supported_models.SDXL(dict(SDXL)), dtype)


def sd15_unet(dtype: torch.dtype = torch.float32) -> Any:
    """MODEL of SD1.5's shape."""
    return unet(comfy.supported_models.SD15(dict(SD15)), dtype)


def sd15() -> tuple[Any, Any]:
    """MODEL and CLIP of SD1.5's shape, float32."""
    return sd15_unet(), sd15_clip()


def sd15_clip() -> Any:
    """CLIP of SD1.5's width; the text encoder has one layer instead of twelve."""
    text = {
        "num_hidden_layers": 1,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": 77,
        "eos_token_id": 49407,
    }
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    options = {"dtype": torch.float32, "clip_l_model_config": text}
    clip = comfy.sd.CLIP(target, parameters=1, model_options=options)
    randomise(clip.cond_stage_model)
    return clip

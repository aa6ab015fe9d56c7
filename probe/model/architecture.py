"""Which family a MODEL is of."""

from __future__ import annotations

from typing import Any

import comfy.model_base
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from .clone import plain_clone
from .family import Family, ProbeError
from .transformer import Transformer, class_of
from .unet import UNet

# Known to compute attention where nothing can look on: by class, why.
CLOSED = {
    "comfy.ldm.ernie.model.ErnieImageModel": "Ernie-Image",
    "comfy.ldm.pixart.pixartms.PixArtMS": "PixArt",
    "comfy.ldm.hydit.models.HunYuanDiT": "HunyuanDiT",
}


def family_of(model: Any, joint: bool = True) -> Family:
    """The family of a MODEL; ProbeError for those whose attention cannot be read. joint: as `Transformer`."""
    dit = plain_clone(model).get_model_object("diffusion_model")
    if isinstance(dit, UNetModel):
        return UNet(model)
    name = class_of(dit)
    if name in CLOSED:
        raise ProbeError(
            f"This model is {CLOSED[name]}: ComfyUI gives its attention no transformer_options, so that no"
            " patch can read it. Use a model of another kind."
        )
    return Transformer(model, joint)


def usual_size(model: Any) -> tuple[int, int]:
    """Width and height in pixels of the images that models like this one were trained on."""
    small = isinstance(model.get_model_object("diffusion_model"), UNetModel) and not isinstance(
        model.model, (comfy.model_base.SDXL, comfy.model_base.SDXLRefiner)
    )
    return (512, 512) if small else (1024, 1024)


def require_unet(model: Any, node: str) -> None:
    """ProbeError for models of which nobody has shown that blocks of noise, moved, take things along."""
    dit = plain_clone(model).get_model_object("diffusion_model")
    if not isinstance(dit, UNetModel):
        raise ProbeError(
            f"{node}: this model is {type(model.model).__name__}, a transformer. Whether its noise can be"
            " arranged has not been shown yet, so this works with SD1.x, SD2.x and SDXL only. Pick Best Noise"
            " works with it."
        )

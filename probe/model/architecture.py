"""Which family a MODEL is of."""

from __future__ import annotations

from typing import Any

import comfy.model_base
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from .clone import plain_clone
from .family import Family, ProbeError
from .transformer import Transformer, class_of, is_known, unknown, unnumbered
from .unet import UNet

# Known to compute attention where nothing can look on: by class, why.
CLOSED = {
    "comfy.ldm.ernie.model.ErnieImageModel": "Ernie-Image",
    "comfy.ldm.pixart.pixartms.PixArtMS": "PixArt",
    "comfy.ldm.hydit.models.HunYuanDiT": "HunyuanDiT",
}


def family_of(model: Any, joint: bool = True) -> Family:
    """The family of a MODEL; ProbeError for those whose attention cannot be read. joint: as `Transformer`."""
    if is_unet(model):
        return UNet(model)
    if class_of(_dit(model)) in CLOSED:
        raise ProbeError(f"{unreadable(model)} Use a model of another kind.")
    if why := unnumbered(_dit(model)):
        raise ProbeError(f"{why} Update ComfyUI or use a model of another kind.")
    return Transformer(model, joint)


def is_unet(model: Any) -> bool:
    return isinstance(_dit(model), UNetModel)


def unreadable(model: Any) -> str:
    """Why a MODEL's attention cannot be read, as a sentence; empty if it can."""
    dit = _dit(model)
    if isinstance(dit, UNetModel) or is_known(dit):
        return ""
    if name := CLOSED.get(class_of(dit)):
        return (
            f"This model is {name}: ComfyUI gives its attention no transformer_options, so no patch can read"
            " it."
        )
    return unnumbered(dit) or unknown(model, dit)


def _dit(model: Any) -> Any:
    return plain_clone(model).get_model_object("diffusion_model")


def usual_size(model: Any) -> tuple[int, int]:
    """Width and height in pixels of the images that models like this one were trained on."""
    small = isinstance(model.get_model_object("diffusion_model"), UNetModel) and not isinstance(
        model.model, (comfy.model_base.SDXL, comfy.model_base.SDXLRefiner)
    )
    return (512, 512) if small else (1024, 1024)


def unproven(model: Any, advice: str = ": Layout Trial shows whether it works on yours") -> str:
    """For people, what has not been shown of a MODEL; empty for those that the papers are about."""
    if is_unet(model):
        return ""
    return (
        f"This model is {type(model.model).__name__}, a transformer. Objects have been shown to follow moved"
        " blocks of noise on two small ones only, and pictures of distilled models depend little on their"
        f" noise{advice}."
    )

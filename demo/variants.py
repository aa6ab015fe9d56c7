"""Other models of the demo's kind, to see whether what holds on the demo model holds elsewhere.

They differ in seed, concepts and colours, denoiser and prediction. Environment variable DEMO_VARIANT names
the one that every script of this folder, and Load Demo Model, use instead of the demo model; `train.py` makes
it (about an hour on one CPU core, `transformer` in three or four, `crossing` in minutes on a GPU). Only the
demo model and the two transformers are in the repository.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Variant:
    """concepts: the hue each is drawn in, in degrees; None: the drawing's own. unet, training: what
    differs from `networks.UNET` and `settings.Settings`. network: of `networks.NETWORKS`. prediction: eps, v
    or flow. own_autoencoder, own_judge: instead of the demo model's. longer: whether it is trained for longer
    than others of its kind. chosen_on: whether rules were looked at on it before they were frozen. shipped:
    its weights are in the repository."""

    concepts: Mapping[str, float | None]
    unet: Mapping[str, Any] = field(default_factory=dict)
    prediction: str = "eps"
    training: Mapping[str, float] = field(default_factory=dict)
    own_autoencoder: bool = True
    own_judge: bool = True
    longer: bool = False
    chosen_on: bool = True
    network: str = "unet"
    shipped: bool = False


TWELVE: dict[str, float | None] = dict.fromkeys(
    [
        "apple",
        "fire hydrant",
        "sun",
        "star",
        "tree",
        "cactus",
        "car",
        "whale",
        "cat",
        "fish",
        "castle",
        "flower",
    ]
)
# Drawn by less trained models, whose pictures a judge of clean scenes alone would not know.
SHORT = {"scenes": 16_000, "judge_steps": 1200, "judge_noise": 0.6, "vae_steps": 900, "vae_scenes": 1500}
DEMO = Variant(TWELVE)
VARIANTS = {
    # Another seed, and other colours: no two concepts share one.
    "recoloured": Variant(
        {
            **{"apple": 130, "sun": 355, "tree": 35, "car": 285, "whale": 190},
            **{"cat": 225, "castle": 60, "flower": 320},
        },
        training={**SHORT, "seed": 11},
        own_autoencoder=False,
    ),
    # Narrower, with two blocks a level as SD1 has: eleven layers with cross-attention.
    "deeper": Variant(
        dict.fromkeys(["house", "boat", "mushroom", "cup", "heart", "key", "tree", "fish"]),
        {
            "channel_mult": [1, 3, 4],
            "num_res_blocks": [2, 2, 2],
            "num_head_channels": 32,
            "transformer_depth": [0, 0, 1, 1, 1, 1],
            "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1],
        },
        training={**SHORT, "seed": 12},
        longer=True,
    ),
    # v prediction, other widths, half of the concepts new, two colours shared.
    "velocity": Variant(
        {
            **{"house": 355, "mushroom": 355, "boat": 218, "car": 218},
            **{"cup": 48, "cactus": 120, "butterfly": 285, "snowman": None},
        },
        {"model_channels": 64, "channel_mult": [1, 2, 3]},
        "v",
        {**SHORT, "seed": 13},
        False,
    ),
    # Attention at every level, as SD1 has it, and concepts that the demo model does not know.
    "levels": Variant(
        dict.fromkeys(
            ["house", "boat", "mushroom", "cup", "heart", "key", "butterfly", "snowman", "star", "whale"]
        ),
        {
            "channel_mult": [1, 2, 4],
            "num_head_channels": 32,
            "transformer_depth": [1, 1, 1],
            "transformer_depth_output": [1, 1, 1, 1, 1, 1],
        },
        training={**SHORT, "seed": 14},
        longer=True,
    ),
    # The widths of `velocity` with eps prediction, other concepts, one colour shared.
    "narrow": Variant(
        {
            **{"star": 55, "key": 55, "cat": 20, "heart": 340, "tree": 120, "fish": 200},
            **{"snowman": None, "castle": 270, "sun": 35, "whale": 235},
        },
        {"model_channels": 64, "channel_mult": [1, 2, 3]},
        training={**SHORT, "seed": 15},
        own_autoencoder=False,
        chosen_on=False,
    ),
    # Scenes, autoencoder and judge of the demo model; flow matching and joint attention, as SD3.
    "transformer": Variant(
        TWELVE,
        network="mmdit",
        prediction="flow",
        own_autoencoder=False,
        own_judge=False,
        longer=True,
        shipped=True,
    ),
    # The same with cross-attention, as Wan; made to be trained on a GPU, in minutes.
    "crossing": Variant(
        TWELVE,
        network="wan",
        prediction="flow",
        training={"held_out": 200, "seed": 16, "batch": 128},
        own_autoencoder=False,
        own_judge=False,
        chosen_on=False,
        shipped=True,
    ),
}


def chosen(name: str | None = None) -> tuple[str, Variant]:
    """Name ("" for the demo model) and settings of a model, by default the one in use.

    ValueError for an unknown name.
    """
    name = os.environ.get("DEMO_VARIANT", "") if name is None else name
    if name and name not in VARIANTS:
        raise ValueError(f"DEMO_VARIANT={name}: known are {', '.join(VARIANTS)}")
    return name, VARIANTS[name] if name else DEMO


def progress(name: str | None = None) -> Path:
    """Where training a model leaves its work; DEMO_VARIANTS can name a folder for all variants."""
    name, _ = chosen(name)
    if not name:
        return HERE / "progress"
    return Path(os.environ.get("DEMO_VARIANTS") or HERE / "progress" / "variants") / name


def folder(name: str | None = None) -> Path:
    """Where the weights of a model are."""
    name, variant = chosen(name)
    if not name or (variant.shipped and not os.environ.get("DEMO_VARIANTS")):
        return HERE / "weights"
    return progress(name) / "weights"


def weights(name: str | None = None) -> Path:
    """Denoiser and text encoder of a model, and its autoencoder if it has one of its own."""
    name, variant = chosen(name)
    return folder(name) / ("demo.safetensors" if variant.own_judge else f"{name}.safetensors")


def judge_folder() -> Path:
    """Where the weights of its judge are."""
    return folder() if chosen()[1].own_judge else HERE / "weights"

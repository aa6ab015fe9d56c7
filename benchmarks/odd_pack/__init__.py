"""A node pack for tests: gives what other packs give by mistake, and tells whether results are the same."""

from __future__ import annotations

from typing import Any

import torch

from .digests import DigestOfAnything

NAN = float("nan")


class Noise:
    """A NOISE that draws `drawn`, whatever it is for."""

    seed = 0

    def __init__(self, drawn: Any) -> None:
        self.drawn = drawn

    def generate_noise(self, latent: dict[str, Any]) -> Any:
        return self.drawn


def _latent(*shape: int, value: float = 0.0) -> dict[str, torch.Tensor]:
    return {"samples": torch.full(shape, value)}


ODD: dict[str, dict[str, Any]] = {
    "LATENT": {
        "none": _latent(0, 4, 16, 16),
        "without samples": {},
        "flat": _latent(4, 16),
        "a list": {"samples": [0.0]},
        "whole numbers": {"samples": torch.zeros(1, 4, 16, 16, dtype=torch.int64)},
        "NaN": _latent(1, 4, 16, 16, value=NAN),
        "other channels": _latent(1, 3, 16, 16),
        "a pixel": _latent(1, 4, 1, 1),
        "another size": _latent(1, 4, 19, 13),
        "a video": _latent(1, 4, 2, 16, 16),
    },
    "IMAGE": {
        "none": torch.zeros(0, 8, 8, 3),
        "without batch": torch.zeros(8, 8, 3),
        "grey": torch.zeros(1, 8, 8, 1),
        "transparent": torch.zeros(1, 8, 8, 4),
        "NaN": torch.full((1, 8, 8, 3), NAN),
        "huge values": torch.full((1, 8, 8, 3), 1e38),
        "a pixel": torch.zeros(1, 1, 1, 3),
    },
    "MASK": {
        "none": torch.zeros(0, 8, 8),
        "NaN": torch.full((1, 8, 8), NAN),
        "below zero": torch.full((1, 8, 8), -5.0),
        "a row": torch.ones(8),
        "with channel": torch.ones(1, 1, 8, 8),
        "a pixel": torch.ones(1, 1, 1),
        "of seven": torch.ones(7, 8, 8),
    },
    "CONDITIONING": {
        "none": [],
        "no tokens": [[torch.zeros(1, 0, 128), {}]],
        "no batch": [[torch.zeros(0, 77, 128), {}]],
        "other width": [[torch.zeros(1, 77, 5), {}]],
        "NaN": [[torch.full((1, 77, 128), NAN), {}]],
        "half": [[torch.zeros(1, 77, 128)]],
        "texts": ["a cat"],
    },
    "SIGMAS": {
        "none": torch.zeros(0),
        "one": torch.ones(1),
        "NaN": torch.tensor([NAN, 1.0, 0.0]),
        "rising": torch.tensor([0.1, 1.0, 10.0]),
        "of two dimensions": torch.ones(2, 3),
        "infinite": torch.tensor([float("inf"), 1.0, 0.0]),
        "zeros": torch.zeros(3),
    },
    "NOISE": {
        "nothing": Noise(None),
        "NaN": Noise(torch.full((1, 4, 16, 16), NAN)),
        "none": Noise(torch.zeros(0, 4, 16, 16)),
        "another size": Noise(torch.zeros(1, 4, 19, 13)),
        "flat": Noise(torch.zeros(16, 16)),
        "text": Noise("noise"),
    },
    "BOUNDING_BOX": {
        "none": [],
        "empty": [{}],
        "NaN": {"x": NAN, "y": 0, "width": 10, "height": 10},
        "infinite": {"x": 0, "y": 0, "width": float("inf"), "height": 10},
        "texts": ["a", "b"],
        "outside": {"x": 10**9, "y": 0, "width": 10, "height": 10},
        "many": [{"x": 0, "y": 0, "width": 10, "height": 10, "label": "castle"}] * 5000,
        "odd labels": [{"x": 0, "y": 0, "width": 64, "height": 64, "label": ["x", 3]}],
        "deep": [[[[{"x": 0}]]]],
    },
    "TICKET_REGIONS": {"a tuple": ((0, 0, 1, 1),)},
    "LAYOUT_TRIAL": {"none": (), "of texts": ("a", "b")},
    "TICKET_BANK": {"a dict": {"blocks": torch.zeros(1)}},
}
"""By type and name."""


class OddObject:
    """One of `ODD`: what is written "TYPE/name"."""

    CATEGORY = "testing"
    FUNCTION = "give"
    RETURN_TYPES = ("*",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"what": ("STRING", {"default": ""})}}

    def give(self, what: str) -> tuple[Any]:
        kind, name = what.split("/")
        return (ODD[kind][name],)


NODE_CLASS_MAPPINGS = {"OddObject": OddObject, "DigestOfAnything": DigestOfAnything}

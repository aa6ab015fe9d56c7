"""A node that tells whether two values are the same, bit for bit."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import re
from typing import Any

import numpy as np
import torch

Prompt = dict[str, Any]
# What a result is made with, or what knows more than its inputs.
NO_RESULTS = {"MODEL", "CLIP", "VAE", "NOISE", "GUIDER", "SAMPLER", "CONTROL_NET", "TICKET_STEPS"}
SHOWING = ("SaveImage", "PreviewImage", "PreviewAny")


def digest(value: Any) -> str:
    """The same for the same values, bit for bit."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()[:20]


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = value.detach().cpu().contiguous().numpy() if isinstance(value, torch.Tensor) else value
        found.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            found.update(f"{key}:".encode())
            _feed(found, value[key])
    elif isinstance(value, (list, tuple)):
        found.update(f"[{len(value)}".encode())
        for one in value:
            _feed(found, one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for each in dataclasses.fields(value):
            _feed(found, getattr(value, each.name))
    elif isinstance(value, str):
        # Reports say how long steps took.
        found.update(re.sub(r"\b[0-9.e-]+ s\b", "... s", value).encode())
    elif isinstance(value, float) and value.is_integer():
        found.update(repr(int(value)).encode())
    elif value is None or isinstance(value, (bytes, int, float, bool)):
        found.update(repr(value).encode())
    else:
        found.update(type(value).__name__.encode())


class DigestOfAnything:
    CATEGORY = "testing"
    FUNCTION = "show"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"value": ("*", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, Any]) -> bool:  # noqa: N802
        return True

    def show(self, value: Any) -> dict[str, Any]:
        return {"ui": {"text": (digest(value),)}}


def with_digests(prompt: Prompt, info: Prompt) -> Prompt:
    """With a digest of every output that is a result, instead of what else shows or saves.

    info: /object_info of the nodes.
    """
    kept = {key: node for key, node in prompt.items() if node["class_type"] not in SHOWING}
    more: Prompt = {}
    for key, node in kept.items():
        for slot, kind in enumerate(info[node["class_type"]]["output"]):
            if kind not in NO_RESULTS:
                more[f"{key}/{slot}"] = {"class_type": "DigestOfAnything", "inputs": {"value": [key, slot]}}
    return copy.deepcopy(kept | more)

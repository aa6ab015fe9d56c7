"""A detector node for the demo model's images, in the form of ComfyUI's own: to try Layout Score with."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from .judge import load_judge  # type: ignore[import-not-found]
from .model import LATENT_SCALE  # type: ignore[import-not-found]
from .scenes import CELL, NAMES  # type: ignore[import-not-found]
from .verdict import classes_of, find  # type: ignore[import-not-found]

loaded_judge = cache(load_judge)


class DetectDemoObjects(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DetectDemoObjects",
            display_name="Detect Demo Objects",
            category="tickets",
            description="Boxes around the objects that the demo model knows, with their labels.",
            inputs=[io.Latent.Input("latent")],
            outputs=[io.BoundingBox.Output()],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any]) -> io.NodeOutput:
        return io.NodeOutput(boxes_of(latent["samples"]))


def boxes_of(latents: torch.Tensor) -> list[list[dict[str, Any]]]:
    """Of each latent [images, 4, h, w], as ComfyUI stores them, a box for each concept that is there.

    Latents of videos are single frames.
    """
    latents, found = latents.reshape(len(latents), 4, *latents.shape[-2:]), []
    for classes in classes_of(loaded_judge(), latents * LATENT_SCALE):
        objects = {name: find(classes, n) for n, name in enumerate(NAMES, 1)}
        found.append([box(label, f.mask) for label, f in objects.items() if f.present])
    return found


def box(label: str, mask: np.ndarray) -> dict[str, Any]:
    """Around a mask [h, w] of latent cells, in pixels. The judge is not asked how sure it is."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    x, y = int(columns[0]) * CELL, int(rows[0]) * CELL
    width, height = int(columns[-1] + 1) * CELL - x, int(rows[-1] + 1) * CELL - y
    return {"x": x, "y": y, "width": width, "height": height, "label": label, "score": 1.0}

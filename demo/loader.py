"""The nodes of the demo pack: the loader of the model, and a detector of its objects."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .detector import DetectDemoObjects  # type: ignore[import-not-found]
from .model import load  # type: ignore[import-not-found]


class LoadDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadDemoModel",
            display_name="Load Demo Model",
            category="tickets",
            description=(
                "A tiny model of 256x256 images, trained on drawn scenes. It knows apple, fire hydrant,"
                " sun, star, tree, cactus, car, whale, cat, fish, castle and flower."
            ),
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load())


class DemoExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadDemoModel, DetectDemoObjects]

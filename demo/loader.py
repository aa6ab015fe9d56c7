"""The nodes of the demo pack: the loaders of its models, and a detector of their objects."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .detector import DetectDemoObjects  # type: ignore[import-not-found]
from .model import TRANSFORMER, load  # type: ignore[import-not-found]

OUTPUTS = [io.Model.Output(), io.Clip.Output(), io.Vae.Output()]
KNOWS = " It knows apple, fire hydrant, sun, star, tree, cactus, car, whale, cat, fish, castle and flower."


class LoadDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadDemoModel",
            display_name="Load Demo Model",
            category="tickets",
            description="A tiny model of 256x256 images, trained on drawn scenes." + KNOWS,
            inputs=[],
            outputs=OUTPUTS,
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load())


class LoadDemoTransformer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadDemoTransformer",
            display_name="Load Demo Transformer",
            category="tickets",
            description=(
                "The demo model with a transformer of Stable Diffusion 3's kind in place of the UNet." + KNOWS
            ),
            inputs=[],
            outputs=OUTPUTS,
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        if not TRANSFORMER.is_file():
            raise FileNotFoundError(
                "Load Demo Transformer: this copy of the demo pack comes without the transformer's weights"
                f" ({TRANSFORMER.name}); use Load Demo Model, or train it as demo/README.md says."
            )
        return io.NodeOutput(*load(TRANSFORMER))


class DemoExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadDemoModel, LoadDemoTransformer, DetectDemoObjects]

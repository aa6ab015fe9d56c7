"""Load Tiny Text Encoder: a small random one with ComfyUI's own tokenizer, for models whose own is gigabytes.

A pack for the tests' server, beside tests/comfy/tiny.py.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyExtension, io

from . import tiny


def _qwen() -> Any:
    """As wide as Qwen-Image takes it."""
    qwen = tiny.comfy.text_encoders.qwen_image
    layers = {**tiny.LLM, "hidden_size": 3584, "num_hidden_layers": 1}
    return tiny.make_clip(qwen.QwenImageTokenizer, qwen.te(), qwen25_7b=layers)


def _wan() -> Any:
    wan = tiny.comfy.text_encoders.wan
    return tiny.make_clip(wan.WanT5Tokenizer, wan.te(), tiny.pieces(), umt5xxl={**tiny.T5, "d_model": 4096})


ENCODERS = {
    "Flux": tiny.flux_clip,
    "Qwen-Image": _qwen,
    "Wan": _wan,
    "Flux.2 Klein": tiny.klein_clip,
    "HunyuanImage": tiny.hunyuan_clip,
}


class LoadTinyTextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadTinyTextEncoder",
            category="tests",
            inputs=[io.Combo.Input("encoder", options=list(ENCODERS))],
            outputs=[io.Clip.Output()],
        )

    @classmethod
    def execute(cls, encoder: str) -> io.NodeOutput:
        return io.NodeOutput(ENCODERS[encoder]())


class Extension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadTinyTextEncoder]


async def comfy_entrypoint() -> Extension:
    return Extension()

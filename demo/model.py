"""The demo model in ComfyUI's own classes: denoiser, text encoder, autoencoder, and how they are loaded.

Everything stock ComfyUI does to a checkpoint of SD1.x (the transformer: of SD3) works on what `load` returns;
only the sizes differ.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import comfy.clip_model
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.utils
import torch

if __package__:  # ComfyUI loads the folder as a pack, the scripts import from it
    from .networks import NETWORKS, WIDTH  # type: ignore[import-not-found]
    from .variants import HERE, weights  # type: ignore[import-not-found]
else:
    from networks import NETWORKS, WIDTH
    from variants import HERE, weights

WEIGHTS = weights()
DEMO = HERE / "weights" / "demo.safetensors"
TRANSFORMER = weights("transformer")
LATENT_SCALE = 0.18215

TEXT: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "intermediate_size": 2 * WIDTH,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
VOCABULARY = 49408


class Parts(NamedTuple):
    """What a checkpoint loader returns."""

    model: Any
    clip: Any
    vae: Any


def build_text(operations: Any = comfy.ops.disable_weight_init) -> Any:
    """A core CLIPTextModel in float32; the weights are not initialised."""
    return comfy.clip_model.CLIPTextModel(dict(TEXT), torch.float32, torch.device("cpu"), operations)


def _section(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    prefix = name + "."
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def expand_vocabulary(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rows for all 49,408 tokens: row 0 of the stored embedding stands for every unknown word."""
    known = state.pop("token_ids").long()
    rows = state.pop("text_model.embeddings.token_embedding.weight")
    index = torch.zeros(VOCABULARY, dtype=torch.long)
    index[known] = torch.arange(1, len(known) + 1)
    return {**state, "text_model.embeddings.token_embedding.weight": rows[index]}


def load(path: Path = WEIGHTS) -> Parts:
    """MODEL, CLIP and VAE of a model of the demo's, managed by ComfyUI like any other.

    The file tells what its denoiser is; one without an autoencoder uses the demo model's.
    Raises ValueError where the weights do not fit.
    """
    state = comfy.utils.load_torch_file(str(path), safe_load=True)
    management = comfy.model_management
    device = management.get_torch_device()
    offload = management.unet_offload_device()
    kind = next(k for k in NETWORKS if any(name.startswith(f"{k}.") for name in state))
    base = NETWORKS[kind].build(management.unet_dtype(device=device), torch.device("cpu"))
    missing, unexpected = base.diffusion_model.load_state_dict(_section(state, kind), strict=False)
    if missing or unexpected:
        raise ValueError(f"{path} does not fit the demo's {kind}: {missing[:3]} {unexpected[:3]}")
    model = comfy.model_patcher.CoreModelPatcher(base.to(offload), device, offload)
    text = expand_vocabulary(_section(state, "text"))
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel)
    clip = comfy.sd.CLIP(
        target,
        parameters=sum(v.numel() for v in text.values()),
        state_dict={f"clip_l.transformer.{k}": v for k, v in text.items()},
        model_options={"dtype": torch.float32, "clip_l_model_config": TEXT},
    )
    own = _section(state, "vae")
    vae = comfy.sd.VAE(sd=own or _section(comfy.utils.load_torch_file(str(DEMO), safe_load=True), "vae"))
    return Parts(model, clip, vae)

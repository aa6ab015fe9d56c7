"""What training needs beyond ComfyUI's inference classes: initial weights and gradients that flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

RESET: tuple[type, ...] = (nn.Conv2d, nn.Linear, nn.Embedding, nn.LayerNorm, nn.GroupNorm)


def initialise(module: nn.Module) -> None:
    """torch's default initialisation, which comfy.ops leaves out."""
    for part in module.modules():
        for kind in RESET:
            if isinstance(part, kind):
                kind.reset_parameters(part)  # type: ignore[attr-defined]


def initialise_unet(unet: nn.Module) -> None:
    """As `initialise`, with every residual branch starting at zero (as the original UNet does)."""
    initialise(unet)
    for name, weight in unet.named_parameters():
        if ".out_layers.3." in name or ".proj_out." in name or name.startswith("out.2."):
            nn.init.zeros_(weight)


def initialise_text(text: Any) -> None:
    initialise(text)
    embeddings = text.text_model.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.3)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.1)


def encode_text(text: Any, embedding: nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
    """CLIPTextModel's last hidden state [B, 77, width], without the in-place sums of its layers.

    `embedding` holds a row for each word of the captions only.
    """
    model = text.text_model
    x = embedding(ids) + model.embeddings.position_embedding.weight
    mask = torch.full((ids.shape[1],) * 2, float("-inf"), device=ids.device).triu_(1)
    for layer in model.encoder.layers:
        attention = layer.self_attn
        y = layer.layer_norm1(x)
        q, k, v = (
            project(y).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
        x = x + attention.out_proj(y.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.layer_norm2(x))
    return model.final_layer_norm(x)


def bmm_attention(
    func: Callable,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    *_: Any,
    **__: Any,
) -> torch.Tensor:
    """Plain attention for `optimized_attention_override`: the fastest backward at these sizes."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


class Average:
    """Exponential moving average of parameters, with a warm-up so that early steps do not linger."""

    def __init__(self, modules: list[nn.Module], decay: float) -> None:
        self.decay = decay
        self.sources = [p for m in modules for p in m.parameters()]
        self.values = [p.detach().clone() for p in self.sources]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.detach() for p in self.sources], 1 - decay)

    def swap(self) -> None:
        """Exchange averaged and current values."""
        for p, value in zip(self.sources, self.values, strict=True):
            p.data, value.data = value.data, p.data.clone()

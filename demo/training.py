"""What training needs beyond ComfyUI's inference classes: initial weights and gradients that flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import precision
import torch
from torch import nn
from torch.nn import functional as F

RESET: tuple[type, ...] = (nn.Conv2d, nn.Conv3d, nn.Linear, nn.Embedding, nn.LayerNorm, nn.GroupNorm)


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


def initialise_transformer(net: nn.Module) -> None:
    """As DiT does it: Xavier, biases of zero, and every gate and the output starting at zero.

    For the gates that are learnt biases (Wan's), the usual small normal values.
    """
    initialise(net)
    for name, weight in net.named_parameters():
        part = name.rsplit(".", 1)[0]
        if name.endswith("modulation"):
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        elif part.endswith(("adaLN_modulation.1", "final_layer.linear", "head.head")) or name.endswith(
            "bias"
        ):
            nn.init.zeros_(weight)
        elif weight.ndim > 1:
            nn.init.xavier_uniform_(weight.flatten(1))
    for name, weight in net.named_parameters():
        if name.startswith(("t_embedder", "time_")) and weight.ndim > 1:
            nn.init.normal_(weight, std=0.02)


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


def attention_with_gradient(
    func: Callable,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    *_: Any,
    **__: Any,
) -> torch.Tensor:
    """For `optimized_attention_override`. Plain except on CUDA: the fastest backward at these sizes.

    q, k, v: [B, L, heads * D] or [B, L, heads, D].
    """
    q, k, v = ((x if x.ndim == 4 else x.unflatten(-1, (heads, -1))).transpose(1, 2) for x in (q, k, v))
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest matrices [N, rows, columns] whose singular values are about 1, by Newton-Schulz steps."""
    x = precision.shortened(matrices)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, for weights that are matrices (https://kellerjordan.github.io/posts/muon).

    Steps are of the size of Adam's (factor 0.2 sqrt(longer side)). Matrices of a shape go together.
    """

    def __init__(
        self, params: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for p in params:
            shapes.setdefault(p.shape, []).append(p)
        groups = [{"params": alike} for alike in shapes.values()]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike = [p for p in group["params"] if p.grad is not None]
            if not alike:
                continue
            for p in alike:
                self.state[p].setdefault("momentum", torch.zeros_like(p))
            kept, gradients = [self.state[p]["momentum"] for p in alike], [p.grad for p in alike]
            torch._foreach_lerp_(kept, gradients, 1 - group["momentum"])
            ahead = torch.stack(torch._foreach_lerp(gradients, kept, group["momentum"]))
            moves = orthogonal(ahead) * (0.2 * max(ahead.shape[1:]) ** 0.5)
            torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(alike, list(moves), alpha=-group["lr"])


class Together:
    """Several optimisers as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def adam(parts: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parts.parameters(), lr, betas=(0.9, 0.99))


def muon(parts: nn.Module, lr: float) -> Together:
    """Muon for the matrices of the blocks, AdamW for all else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, p in parts.named_parameters():
        inner = p.ndim == 2 and any(f".{blocks}." in name for blocks in ("joint_blocks", "blocks", "layers"))
        (matrices if inner else others).append(p)
    return Together(Muon(matrices, lr), torch.optim.AdamW(others, lr, betas=(0.9, 0.99)))


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

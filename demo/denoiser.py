"""Training of a demo model's denoiser and text encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import loop
import model as model_module
import precision
import torch
import training
from networks import NETWORKS, VARIANT
from settings import Phase, Settings
from torch import nn

Noised = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""x [B, 4, 32, 32] and t [B] as a denoiser takes them, what it has to say, the weights [B] of the losses."""
Noising = Callable[[torch.Tensor, torch.Generator, Phase], Noised]


def load_parts(parts: nn.ModuleDict, known: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
    """The inverse of `exported`. Raises ValueError if the captions' words have changed."""
    if not torch.equal(state["text.token_ids"].long(), known.long()):
        raise ValueError("the weights know other words than these scenes have: train from nothing")
    values = {k: state[k].float() for k in parts.state_dict() if not k.startswith("embedding.")}
    rows = state["text.text_model.embeddings.token_embedding.weight"].float()
    parts.load_state_dict({**values, "embedding.weight": rows})


def exported(parts: nn.ModuleDict, known: torch.Tensor) -> dict[str, torch.Tensor]:
    """Denoiser and text encoder under the names `model.load` reads."""
    text = parts["text"].state_dict()
    text["text_model.embeddings.token_embedding.weight"] = parts["embedding"].weight
    text["text_projection.weight"] = torch.eye(model_module.WIDTH)
    text["token_ids"] = known.int()
    state = {f"{VARIANT.network}.{k}": v for k, v in parts[VARIANT.network].state_dict().items()}
    return {**state, **{f"text.{k}": v for k, v in text.items()}}


def diffusion(sampling: Any, velocity: bool, device: torch.device) -> Noising:
    """SD1's schedule, for eps or v prediction."""
    alphas = 1 / (1 + sampling.sigmas.to(device).double() ** 2)

    def noised(x0: torch.Tensor, rng: torch.Generator, phase: Phase) -> Noised:
        drawn = torch.rand(len(x0), generator=rng, device=rng.device)
        t = (1000 * drawn**phase.power).long().clamp(0, 999)
        eps = torch.randn(x0.shape, generator=rng, device=rng.device)
        a = alphas[t].float()[:, None, None, None]
        target = a.sqrt() * eps - (1 - a).sqrt() * x0 if velocity else eps
        weight = ((1 - alphas[t]) / alphas[t]).sqrt().clamp(0.7, phase.heaviest).float()
        return (
            a.sqrt() * x0 + (1 - a).sqrt() * eps,
            t.float(),
            target,
            torch.ones_like(weight) if velocity else weight,
        )

    return noised


def flow_times(count: int, rng: torch.Generator) -> torch.Tensor:
    """Shares of noise t in 0..1: logit-normal, and a third of them even from 0.85 to 1.

    Where things stand is settled there, and a logit-normal alone would seldom ask for it.
    """
    where: dict[str, Any] = {"generator": rng, "device": rng.device}
    usual = torch.sigmoid(0.5 + torch.randn(count, **where))
    early = 0.85 + 0.15 * torch.rand(count, **where)
    return torch.where(torch.rand(count, **where) < 0.35, early, usual)


def flow(x0: torch.Tensor, rng: torch.Generator, phase: Phase) -> Noised:
    """Rectified flow: x = t noise + (1 - t) x0; the denoiser is asked for noise - x0."""
    t = flow_times(len(x0), rng)
    eps = torch.randn(x0.shape, generator=rng, device=rng.device)
    share = t[:, None, None, None]
    return share * eps + (1 - share) * x0, 1000 * t, eps - x0, torch.ones_like(t)


def captions(ids: torch.Tensor, end: int, s: Settings, rng: torch.Generator) -> torch.Tensor:
    """Token ids [B, 77], some captions left out and others with an unknown word (0) somewhere in them."""
    drop, unknown, place = torch.rand(3, len(ids), 1, generator=rng, device=rng.device)
    at, words = torch.arange(ids.shape[1], device=ids.device), (ids != end).sum(1, keepdim=True)
    new = 1 + (place * words).long().clamp(max=words - 1)
    longer = torch.where(at == new, 0, ids.gather(1, torch.where(at > new, at - 1, at.expand_as(ids))))
    ids = torch.where(unknown < s.unknown_words, longer, ids)
    return torch.where((drop < s.caption_dropout) & (at > 0), end, ids)


def train_denoiser(
    s: Settings,
    phases: Sequence[Phase],
    data: dict,
    work: Path,
    device: torch.device,
    start: dict[str, torch.Tensor] | None = None,
    snapshot: bool = False,
) -> tuple[loop.Run, torch.Tensor]:
    """The text-to-image model, from nothing or from `start`; a snapshot: as far as it is, without a step.

    Returns the last phase's run and the known token ids.
    """
    torch.manual_seed(s.seed)
    network = NETWORKS[VARIANT.network]
    base = network.build(torch.float32, device)
    net = base.diffusion_model
    (training.initialise_unet if VARIANT.network == "unet" else training.initialise_transformer)(net)
    # Some classes rotate positions by a kernel without a gradient otherwise.
    comfy.model_management.in_training = True
    text = model_module.build_text().to(device)
    training.initialise_text(text)
    known, compact = data["tokens"].unique(return_inverse=True)
    compact = (compact.view(data["tokens"].shape) + 1).long()
    embedding = nn.Embedding(len(known) + 1, model_module.WIDTH).to(device)
    nn.init.normal_(embedding.weight, std=0.3)
    text.text_model.embeddings.token_embedding = nn.Identity()
    text.text_projection = nn.Identity()
    parts = nn.ModuleDict({VARIANT.network: net, "text": text, "embedding": embedding})
    if start is not None:
        load_parts(parts, known, start)
    for p in parts.parameters():
        p.requires_grad_(True)
    velocity = VARIANT.prediction == "v"
    noising = flow if VARIANT.prediction == "flow" else diffusion(base.model_sampling, velocity, device)
    frame = (slice(None), slice(None)) + (None,) * (network.dimensions - 4)
    options = {"optimized_attention_override": training.attention_with_gradient}
    end = int((known == 49407).nonzero()) + 1
    compact, latents = compact.to(device), data["latents"].to(device)

    def loss_of() -> torch.Tensor:
        pick = torch.randint(len(latents), (s.batch,), generator=run.rng, device=device)
        noisy, t, target, weight = noising(latents[pick].float(), run.rng, phase)
        ids = captions(compact[pick], end, s, run.rng)
        with precision.autocast(device.type):
            context = training.encode_text(text, embedding, ids)
            out = net(noisy[frame], t, context=context, transformer_options=dict(options))
        out = out.float().view_as(target)
        return (weight * (out - target).square().mean((1, 2, 3))).mean()

    for phase in phases:
        run = loop.Run(
            work / f"{phase.name}.pt",
            parts,
            phase.lr,
            phase.steps,
            s.seed + phase.seed,
            s.warm_up,
            training.adam if VARIANT.network == "unet" else training.muon,
            device,
        )
        run.follow(s.ema)
        if not snapshot:
            run.loop(loss_of)
    return run, known

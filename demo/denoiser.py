"""Training of the demo model's UNet and text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import loop
import model as model_module
import torch
import training
from settings import Phase, Settings
from torch import nn


def load_parts(parts: nn.ModuleDict, known: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
    """The inverse of `exported`. Raises ValueError if the captions' words have changed."""
    if not torch.equal(state["text.token_ids"].long(), known.long()):
        raise ValueError("the weights know other words than these scenes have: train from nothing")
    values = {k: state[k].float() for k in parts.state_dict() if not k.startswith("embedding.")}
    rows = state["text.text_model.embeddings.token_embedding.weight"].float()
    parts.load_state_dict({**values, "embedding.weight": rows})


def exported(parts: nn.ModuleDict, known: torch.Tensor) -> dict[str, torch.Tensor]:
    """UNet and text encoder under the names `model.load` reads."""
    text = parts["text"].state_dict()
    text["text_model.embeddings.token_embedding.weight"] = parts["embedding"].weight
    text["text_projection.weight"] = torch.eye(model_module.WIDTH)
    text["token_ids"] = known.int()
    state = {f"unet.{k}": v for k, v in parts["unet"].state_dict().items()}
    return {**state, **{f"text.{k}": v for k, v in text.items()}}


def train_denoiser(
    s: Settings,
    phases: Sequence[Phase],
    data: dict,
    work: Path,
    device: torch.device,
    start: dict[str, torch.Tensor] | None = None,
) -> tuple[loop.Run, torch.Tensor]:
    """The text-to-image model on SD1's schedule, from nothing or from `start`; eps or v prediction.

    Returns the last phase's run and the known token ids.
    """
    torch.manual_seed(s.seed)
    base = model_module.build_unet(torch.float32, device)
    unet = base.diffusion_model
    training.initialise_unet(unet)
    text = model_module.build_text().to(device)
    training.initialise_text(text)
    known, compact = data["tokens"].unique(return_inverse=True)
    compact = (compact.view(data["tokens"].shape) + 1).long()
    embedding = nn.Embedding(len(known) + 1, model_module.WIDTH).to(device)
    nn.init.normal_(embedding.weight, std=0.3)
    text.text_model.embeddings.token_embedding = nn.Identity()
    text.text_projection = nn.Identity()
    parts = nn.ModuleDict({"unet": unet, "text": text, "embedding": embedding})
    if start is not None:
        load_parts(parts, known, start)
    for p in parts.parameters():
        p.requires_grad_(True)
    velocity = model_module.VARIANT.prediction == "v"
    alphas = 1 / (1 + base.model_sampling.sigmas.cpu().double() ** 2)
    options = {"optimized_attention_override": training.bmm_attention}
    end = int((known == 49407).nonzero()) + 1
    empty = torch.full((77,), end)
    empty[0] = compact[0, 0]

    def ids_of(pick: torch.Tensor) -> torch.Tensor:
        ids = compact[pick].clone()
        chance = torch.rand(2, s.batch, generator=run.rng)
        for i in range(s.batch):
            if chance[0, i] < s.caption_dropout:
                ids[i] = empty
            elif chance[1, i] < s.unknown_words:
                words = int((ids[i] != end).sum())
                at = int(torch.randint(1, words + 1, (1,), generator=run.rng))
                ids[i] = torch.cat([ids[i, :at], torch.zeros(1, dtype=torch.long), ids[i, at:-1]])
        return ids

    def loss_of() -> torch.Tensor:
        pick = torch.randint(len(data["latents"]), (s.batch,), generator=run.rng)
        t = (1000 * torch.rand(s.batch, generator=run.rng) ** phase.power).long().clamp(0, 999)
        x0 = data["latents"][pick].float()
        eps = torch.randn(x0.shape, generator=run.rng)
        a = alphas[t].float()[:, None, None, None]
        noisy = (a.sqrt() * x0 + (1 - a).sqrt() * eps).to(device)
        target = a.sqrt() * eps - (1 - a).sqrt() * x0 if velocity else eps
        weight = ((1 - alphas[t]) / alphas[t]).sqrt().clamp(0.7, phase.heaviest).float()
        weight = (torch.ones_like(weight) if velocity else weight).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            context = training.encode_text(text, embedding, ids_of(pick).to(device))
            out = unet(noisy, t.float().to(device), context=context, transformer_options=dict(options))
        return (weight * (out.float() - target.to(device)).square().mean((1, 2, 3))).mean()

    for phase in phases:
        run = loop.Run(
            work / f"{phase.name}.pt", parts, phase.lr, phase.steps, s.seed + phase.seed, s.warm_up
        )
        run.follow(s.ema)
        run.loop(loss_of)
    return run, known

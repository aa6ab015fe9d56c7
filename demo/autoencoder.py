"""The demo model's autoencoder, and the scenes as its latents."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import comfy.sd1_clip
import comfy.taesd.taesd
import loop
import model as model_module
import numpy as np
import precision
import scenes as scenes_module
import torch
import training
from settings import Settings
from torch import nn
from tqdm import tqdm

# Blocks left out of the autoencoder: with zero weights a TAESD block is a ReLU.
SKIP_ENCODER = (1, 3, 4, 5, 8, 9)
SKIP_DECODER = (10, 14, 15, 18)


class Autoencoder(nn.Module):
    """TAESD with the blocks of SKIP_* as plain ReLUs while training."""

    def __init__(self) -> None:
        super().__init__()
        full = comfy.taesd.taesd.TAESD(latent_channels=4)
        self.encoder, self.decoder = full.taesd_encoder, full.taesd_decoder
        for i in SKIP_ENCODER:
            self.encoder[i] = nn.ReLU()
        for i in SKIP_DECODER:
            self.decoder[i] = nn.ReLU()
        training.initialise(self)

    def state(self) -> dict[str, torch.Tensor]:
        """In the TAESD format, zero blocks included."""
        full = comfy.taesd.taesd.TAESD(latent_channels=4)
        state = {k: torch.zeros_like(v) for k, v in full.state_dict().items()}
        state.update({f"taesd_encoder.{k}": v for k, v in self.encoder.state_dict().items()})
        state.update({f"taesd_decoder.{k}": v for k, v in self.decoder.state_dict().items()})
        state["vae_scale"] = torch.tensor(model_module.LATENT_SCALE)
        state["vae_shift"] = torch.tensor(0.0)
        return state


def load_autoencoder(state: dict[str, torch.Tensor], device: torch.device) -> Autoencoder:
    """The inverse of `Autoencoder.state`; the blocks it leaves out are zero in `state`."""
    net = Autoencoder()
    own = {k: state[f"taesd_{k}"].float() for k in net.state_dict()}
    net.load_state_dict(own)
    return net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def images(batch: list[scenes_module.Scene]) -> torch.Tensor:
    return torch.from_numpy(np.stack([s.image for s in batch])).movedim(-1, 1)


def train_autoencoder(s: Settings, work: Path, device: torch.device) -> Autoencoder:
    """Pixels to latents of mean 0 and variance 1 and back, on crops; L1, L2 and edges."""
    net = Autoencoder().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = loop.Run(work / "vae.pt", nn.ModuleDict({"net": net}), s.vae_lr, s.vae_steps, s.seed)
    if run.step >= s.vae_steps:
        return net
    pictures = images(draw_many(s.seed, range(-s.vae_scenes, 0)))
    top = scenes_module.SIZE - s.vae_crop

    def loss_of() -> torch.Tensor:
        pick = torch.randint(len(pictures), (s.vae_batch,), generator=run.rng).tolist()
        ys, xs = torch.randint(top + 1, (2, s.vae_batch), generator=run.rng).tolist()
        crops = [
            pictures[i, :, y : y + s.vae_crop, x : x + s.vae_crop]
            for i, y, x in zip(pick, ys, xs, strict=True)
        ]
        x = (torch.stack(crops).float() / 255).to(device, memory_format=torch.channels_last)
        amount = torch.rand(s.vae_batch, 1, 1, 1, generator=run.rng) * 0.15
        with precision.autocast(device.type):
            z = net.encoder(x).float()
            noise = torch.randn(z.shape, generator=run.rng) * amount
            y = net.decoder(z + noise.to(device)).float()
        d = y - x
        edges = d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()
        spread = z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean()
        return d.abs().mean() + 2 * d.square().mean() + edges + 0.02 * spread

    run.loop(loss_of)
    return net


def draw_many(seed: int, indices: range) -> list[scenes_module.Scene]:
    """On every core where processes can be forked safely."""
    draw = partial(scenes_module.draw_scene, seed)
    if sys.platform != "linux" or len(indices) < 100:
        return list(map(draw, indices))
    with multiprocessing.get_context("fork").Pool() as pool:
        return pool.map(draw, indices, 25)


@cache
def tokenizer() -> comfy.sd1_clip.SD1Tokenizer:
    return comfy.sd1_clip.SD1Tokenizer()


@cache
def token_ids(caption: str) -> tuple[int, ...]:
    """Stock SD1's, 77."""
    return tuple(t[0] for t in tokenizer().tokenize_with_weights(caption)["l"][0])


@torch.inference_mode()
def encode(net: Autoencoder, batch: list[scenes_module.Scene], device: torch.device) -> dict:
    """float16 latents at model scale, uint8 labels and token ids of some scenes."""
    latents = []
    for part in images(batch).split(4 if device.type == "cpu" else 250):
        x = (part.float() / 255).to(device, memory_format=torch.channels_last)
        with precision.autocast(device.type):
            latents.append(net.encoder(x).cpu().half().contiguous())
    labels = torch.from_numpy(np.stack([s.labels for s in batch]))
    return {
        "latents": torch.cat(latents),
        "labels": labels,
        "tokens": torch.tensor([token_ids(s.caption) for s in batch], dtype=torch.int32),
    }


def shards(folder: Path, seed: int, count: int) -> Iterator[tuple[Path, int, range]]:
    for first in range(0, count, 1000):
        indices = range(first, min(first + 1000, count))
        yield folder / f"{seed}-{first}.pt", seed, indices


def all_latents(s: Settings, net: Autoencoder, work: Path, device: torch.device) -> tuple[dict, dict]:
    """Training set and held-out set, drawn and encoded in shards."""
    net.eval()
    folder = work / "latents"
    wanted = [*shards(folder, s.seed, s.scenes), *shards(folder, s.seed + 1, s.held_out)]
    missing = [w for w in wanted if not w[0].exists()]
    for path, seed, indices in tqdm(missing, desc="latents"):
        loop.save(encode(net, draw_many(seed, indices), device), path)
    sets: list[dict] = [{}, {}]
    for k, seed in enumerate((s.seed, s.seed + 1)):
        parts = [torch.load(w[0], weights_only=True) for w in wanted if w[1] == seed]
        sets[k] = {key: torch.cat([p[key] for p in parts]) for key in parts[0]}
    return sets[0], sets[1]

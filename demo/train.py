"""Trains the demo model and its judge from nothing: scenes -> autoencoder -> latents -> judge -> UNet.

    python demo/train.py --comfyui DIR      (the Python that runs this ComfyUI; CPU or GPU)

Work in progress lies in demo/progress/ and every stage goes on where it was stopped. The result is
demo/weights/: demo.safetensors, judge.safetensors (both float16) and training.json (settings, log).
Tickets and attention maps play no part here: the losses are the ordinary ones.
On Linux CPUs, LD_PRELOAD=libtcmalloc_minimal.so.4 nearly halves the time (fewer page faults).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import start

HERE = Path(__file__).parent
WORK = HERE / "progress"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the result depends on."""

    seed: int = 1
    vae_scenes: int = 3000
    vae_steps: int = 2600
    vae_batch: int = 12
    vae_crop: int = 96
    vae_lr: float = 1e-3
    scenes: int = 40_000
    judge_steps: int = 1500
    judge_batch: int = 64
    judge_lr: float = 2e-3
    held_out: int = 1000
    batch: int = 32
    warm_up: int = 100
    ema: float = 0.999
    caption_dropout: float = 0.1
    unknown_words: float = 0.15


class Phase(NamedTuple):
    """A cosine cycle of the denoiser's training.

    t is 1000 u^power for uniform u; the loss weight SNR^-1/2 is cut off at `heaviest`.
    """

    name: str
    steps: int
    lr: float
    power: float
    heaviest: float
    seed: int


# Where things stand is settled at high noise, which is learnt last: later cycles give it more weight.
PHASES = (
    Phase("unet", 4500, 1e-3, 0.75, 10.0, 0),
    Phase("refine", 2400, 8e-4, 0.5, 15.0, 1),
    Phase("polish", 1900, 7e-4, 0.5, 15.0, 2),
)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    start.add_option(parser)
    parser.add_argument("--device", default=None, help="cpu or cuda; default: what there is")
    parser.add_argument("--stage", choices=("vae", "latents", "judge"), help="stop after this stage")
    for field in dataclasses.fields(Settings):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    return parser.parse_args()


ARGS = parse()
start.comfyui(ARGS.comfyui, cpu=ARGS.device == "cpu")

import comfy.sd1_clip
import comfy.taesd.taesd
import judge as judge_module
import model as model_module
import numpy as np
import scenes as scenes_module
import torch
import training
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

# Blocks left out of the autoencoder: with zero weights a TAESD block is a ReLU.
SKIP_ENCODER = (1, 3, 4, 5, 8, 9)
SKIP_DECODER = (10, 14, 15, 18)


def save(value: Any, path: Path) -> None:
    """A file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(value, temporary)
    os.replace(temporary, path)


def draw_many(seed: int, indices: range) -> list[scenes_module.Scene]:
    return [scenes_module.draw_scene(seed, i) for i in indices]


def half_cosine(step: int, steps: int, warm_up: int = 50) -> float:
    """Learning rate factor: linear warm-up, then a half cosine to zero."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


class Run:
    """A training loop's state on disk: modules, optimiser, generator and log, saved as one file."""

    def __init__(
        self, name: str, parts: nn.ModuleDict, lr: float, steps: int, seed: int, warm_up: int = 50
    ) -> None:
        self.path, self.parts, self.steps = WORK / f"{name}.pt", parts, steps
        self.optimiser = torch.optim.AdamW(parts.parameters(), lr, betas=(0.9, 0.99))
        self.rate = partial(half_cosine, steps=steps, warm_up=warm_up)
        self.lr, self.name = lr, name
        self.rng = torch.Generator().manual_seed(seed)
        self.step, self.log, self.seconds = 0, [], 0.0
        self.average: training.Average | None = None
        if self.path.exists():
            kept = torch.load(self.path, weights_only=True, map_location="cpu")
            parts.load_state_dict(kept["parts"])
            self.optimiser.load_state_dict(kept["optimiser"])
            self.rng.set_state(kept["rng"])
            self.step, self.log, self.seconds = kept["step"], kept["log"], kept["seconds"]
            self.kept_average = kept.get("average")

    def follow(self, decay: float) -> None:
        """Keep a moving average of the weights."""
        self.average = training.Average([self.parts], decay)
        if self.step and self.kept_average is not None:
            for value, old in zip(self.average.values, self.kept_average, strict=True):
                value.copy_(old)

    def keep(self) -> None:
        state = {
            "parts": self.parts.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.get_state(),
            "step": self.step,
            "log": self.log,
            "seconds": self.seconds,
        }
        if self.average is not None:
            state["average"] = self.average.values
        save(state, self.path)

    def loop(self, loss_of: Callable[[], torch.Tensor], every: int = 250) -> None:
        """Take the steps that are left; `loss_of` draws a batch and returns its loss."""
        bar = tqdm(total=self.steps, initial=self.step, desc=self.name, mininterval=5)
        mean = None
        while self.step < self.steps:
            start = time.monotonic()
            for group in self.optimiser.param_groups:
                group["lr"] = self.lr * self.rate(self.step)
            loss = loss_of()
            loss.backward()
            nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
            if self.average is not None:
                self.average.update(self.step)
            value = float(loss.detach())
            mean = value if mean is None else 0.98 * mean + 0.02 * value
            self.step += 1
            self.seconds += time.monotonic() - start
            bar.update()
            bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
            if self.step % every == 0 or self.step == self.steps:
                self.log.append([self.step, round(mean, 5), round(self.seconds, 1)])
                self.keep()
        bar.close()


# --- autoencoder ---------------------------------------------------------------------------------


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


def images(batch: list[scenes_module.Scene]) -> torch.Tensor:
    return torch.from_numpy(np.stack([s.image for s in batch])).movedim(-1, 1)


def stage_vae(s: Settings, device: torch.device) -> Autoencoder:
    net = Autoencoder().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run("vae", nn.ModuleDict({"net": net}), s.vae_lr, s.vae_steps, s.seed)
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
        with torch.autocast(device.type, torch.bfloat16):
            z = net.encoder(x).float()
            noise = torch.randn(z.shape, generator=run.rng) * amount
            y = net.decoder(z + noise.to(device)).float()
        d = y - x
        edges = d.diff(dim=2).abs().mean() + d.diff(dim=3).abs().mean()
        spread = z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean()
        return d.abs().mean() + 2 * d.square().mean() + edges + 0.02 * spread

    run.loop(loss_of)
    return net


# --- latents -------------------------------------------------------------------------------------


def tokens_of(captions: list[str]) -> torch.Tensor:
    """Stock SD1 token ids [N, 77]."""
    tokenizer = comfy.sd1_clip.SD1Tokenizer()
    rows = [[t[0] for t in tokenizer.tokenize_with_weights(c)["l"][0]] for c in captions]
    return torch.tensor(rows, dtype=torch.int32)


@torch.inference_mode()
def encode(net: Autoencoder, batch: list[scenes_module.Scene], device: torch.device) -> dict:
    """float16 latents at model scale, uint8 labels and token ids of some scenes."""
    latents = []
    for part in images(batch).split(4):
        x = (part.float() / 255).to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            latents.append(net.encoder(x).cpu().half().contiguous())
    labels = torch.from_numpy(np.stack([s.labels for s in batch]))
    return {
        "latents": torch.cat(latents),
        "labels": labels,
        "tokens": tokens_of([s.caption for s in batch]),
    }


def shards(s: Settings, seed: int, count: int) -> Iterator[tuple[Path, int, range]]:
    for first in range(0, count, 1000):
        indices = range(first, min(first + 1000, count))
        yield WORK / "latents" / f"{seed}-{first}.pt", seed, indices


def stage_latents(s: Settings, net: Autoencoder, device: torch.device) -> tuple[dict, dict]:
    """Training set and held-out set, drawn and encoded in shards."""
    net.eval()
    wanted = [*shards(s, s.seed, s.scenes), *shards(s, s.seed + 1, s.held_out)]
    missing = [w for w in wanted if not w[0].exists()]
    for path, seed, indices in tqdm(missing, desc="latents"):
        save(encode(net, draw_many(seed, indices), device), path)
    sets: list[dict] = [{}, {}]
    for k, seed in enumerate((s.seed, s.seed + 1)):
        parts = [torch.load(w[0], weights_only=True) for w in wanted if w[1] == seed]
        sets[k] = {key: torch.cat([p[key] for p in parts]) for key in parts[0]}
    return sets[0], sets[1]


# --- judge ---------------------------------------------------------------------------------------


def stage_judge(s: Settings, data: dict, device: torch.device) -> judge_module.Judge:
    net = judge_module.Judge(len(scenes_module.CONCEPTS) + 1)
    net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run("judge", nn.ModuleDict({"net": net}), s.judge_lr, s.judge_steps, s.seed)

    def loss_of() -> torch.Tensor:
        pick = torch.randint(len(data["latents"]), (s.judge_batch,), generator=run.rng)
        x = data["latents"][pick].float()
        amount = torch.rand(s.judge_batch, 1, 1, 1, generator=run.rng) * 0.2
        x = x + torch.randn(x.shape, generator=run.rng) * amount
        x = x.to(device, memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            logits = net(x)
        return F.cross_entropy(logits.float(), data["labels"][pick].long().to(device))

    run.loop(loss_of)
    return net


@torch.inference_mode()
def judge_report(net: judge_module.Judge, data: dict) -> dict[str, float]:
    """Pixel accuracy and mean IoU over the classes (nothing included) on held-out scenes."""
    net = net.float().cpu().eval()
    found = torch.cat([net(x.float()).argmax(1) for x in data["latents"].split(50)])
    truth = data["labels"].long()
    classes = range(len(scenes_module.CONCEPTS) + 1)
    ious = []
    for c in classes:
        both = ((found == c) & (truth == c)).sum()
        ious.append(float(both / ((found == c) | (truth == c)).sum()))
    accuracy = float((found == truth).float().mean())
    return {"pixel_accuracy": accuracy, "mean_iou": sum(ious) / len(ious), "worst_iou": min(ious)}


# --- UNet and text encoder -----------------------------------------------------------------------


def stage_unet(s: Settings, data: dict, device: torch.device) -> tuple[Run, torch.Tensor]:
    """The text-to-image model: eps prediction on SD1's schedule. Returns the run and the known ids."""
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
    for p in parts.parameters():
        p.requires_grad_(True)
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
        weight = ((1 - alphas[t]) / alphas[t]).sqrt().clamp(0.7, phase.heaviest).float().to(device)
        with torch.autocast(device.type, torch.bfloat16):
            context = training.encode_text(text, embedding, ids_of(pick).to(device))
            out = unet(noisy, t.float().to(device), context=context, transformer_options=dict(options))
        return (weight * (out.float() - eps.to(device)).square().mean((1, 2, 3))).mean()

    for phase in PHASES:
        run = Run(phase.name, parts, phase.lr, phase.steps, s.seed + phase.seed, s.warm_up)
        run.follow(s.ema)
        run.loop(loss_of)
    return run, known


# --- result --------------------------------------------------------------------------------------


def sources() -> dict[str, str]:
    """Hashes of the files the weights come from."""
    names = ("start.py", "scenes.py", "model.py", "training.py", "judge.py", "train.py")
    return {n: hashlib.sha256((HERE / n).read_bytes()).hexdigest()[:16] for n in names}


def commit() -> str:
    command = ["git", "-C", str(HERE), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def write(state: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    half = {
        k: v.detach().cpu().half().contiguous() if v.is_floating_point() else v.cpu()
        for k, v in state.items()
    }
    temporary = path.with_suffix(".tmp")
    save_file(half, str(temporary))
    os.replace(temporary, path)


def export(
    s: Settings,
    net: Autoencoder,
    judge: judge_module.Judge,
    run: Run,
    known: torch.Tensor,
    log: dict,
) -> None:
    assert run.average is not None
    run.average.swap()
    text = run.parts["text"].state_dict()
    text["text_model.embeddings.token_embedding.weight"] = run.parts["embedding"].weight
    text["text_projection.weight"] = torch.eye(model_module.WIDTH)
    text["token_ids"] = known.int()
    state = {f"unet.{k}": v for k, v in run.parts["unet"].state_dict().items()}
    state.update({f"text.{k}": v for k, v in text.items()})
    state.update({f"vae.{k}": v for k, v in net.state().items()})
    write(state, model_module.WEIGHTS)
    write(judge.state_dict(), judge_module.WEIGHTS)
    run.average.swap()
    path = model_module.WEIGHTS.with_name("training.json")
    path.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    s = Settings(**{f.name: getattr(ARGS, f.name) for f in dataclasses.fields(Settings)})
    device = torch.device(ARGS.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(s.seed)
    started = {"commit": commit(), "sources": sources()}
    net = stage_vae(s, device)
    if ARGS.stage == "vae":
        return
    data, held_out = stage_latents(s, net, device)
    judge = stage_judge(s, data, device)
    report = judge_report(judge, held_out)
    print("judge on held-out scenes:", {k: round(v, 4) for k, v in report.items()})
    if ARGS.stage in ("latents", "judge"):
        return
    run, known = stage_unet(s, data, device)
    log: dict[str, Any] = {
        **started,
        "settings": {**dataclasses.asdict(s), "phases": [p._asdict() for p in PHASES]},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {device.type}",
        "torch": torch.__version__,
        "judge_held_out": report,
        "log": {"columns": ["step", "loss", "seconds"]},
    }
    for name in ("vae", "judge", *(p.name for p in PHASES)):
        log["log"][name] = torch.load(WORK / f"{name}.pt", weights_only=True)["log"]
    export(s, net, judge, run, known, log)
    print("written:", model_module.WEIGHTS.parent)


if __name__ == "__main__":
    main()

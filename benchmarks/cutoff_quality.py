"""What the guidance cutoff does to the pictures: presence of the named objects, distance to full guidance.

    python benchmarks/cutoff_quality.py --comfyui DIR [--cases 216] [--steps 20] [--bfloat16]
                                        [--tails conditional unconditional "lower cfg"]

Run with the Python of that ComfyUI. On the demo model: the same prompts of two objects and the same seeds at
every point, judged by the demo's judge. Distance: root of the mean squared difference of the latents to those
of the fully guided image, over that between two images of the same prompt of different seeds; and the
overlap (IoU) of the objects' masks with the fully guided image's, of objects that are in both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--cases", type=int, default=216)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--cfg", type=float, default=5.0)
parser.add_argument("--sampler", default="euler")
parser.add_argument("--tails", nargs="+", help="only these rows, beside full guidance")
parser.add_argument("--bfloat16", action="store_true", help="run the UNet in bfloat16")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.utils
import model as model_module
import numpy as np
import torch
from cases import BATCH, SHAPE, Case, Fixed, cases_of, conditioning, prompt_of, use_bfloat16
from judge import load_judge
from scenes import NAMES
from verdict import Found, classes_of, find, share
from winning_tickets.probe.cutoff import CONDITIONAL, LOWER, UNCONDITIONAL, Cutoff, Share
from winning_tickets.probe.cutoff_run import Settings, sample
from winning_tickets.tickets.noise import plain_noise

SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7)
LOWER_CFG = 2.0
FIRST_SEED = 40_000


def draw(parts: Any, cases: Sequence[Case], asked: Cutoff, first_seed: int = FIRST_SEED) -> torch.Tensor:
    """Latents at model scale [cases, 4, h, w]."""
    done = []
    for at in range(0, len(cases), BATCH):
        prompts = [prompt_of(c) for c in cases[at : at + BATCH]]
        conds = conditioning(parts.clip, prompts), conditioning(parts.clip, [""] * len(prompts))
        noise = torch.cat([plain_noise(first_seed + at + i, SHAPE) for i in range(len(prompts))])
        settings = Settings(0, ARGS.steps, ARGS.cfg, ARGS.sampler, "normal")
        result, _ = sample(
            parts.model, settings, *conds, {"samples": torch.zeros_like(noise)}, asked, Fixed(noise)
        )
        done.append(result["samples"] * model_module.LATENT_SCALE)
    return torch.cat(done)


def objects(judge: Any, latents: torch.Tensor, cases: Sequence[Case]) -> list[list[Found]]:
    maps = classes_of(judge, latents)
    return [[find(m, NAMES.index(n) + 1) for n in c.names] for m, c in zip(maps, cases, strict=True)]


def mean(values: Sequence[float]) -> str:
    """With a 95 % interval."""
    half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    centre = float(np.mean(values))
    return f"{centre:.3f} [{centre - half:.3f}, {centre + half:.3f}]"


def apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Root mean square per image [cases]."""
    return (a - b).flatten(1).square().mean(1).sqrt()


def line(name: str, guided: float, latents: torch.Tensor, found: Any, full: Any, full_found: Any) -> str:
    present = [all(f.present for f in fs) for fs in found]
    distance = apart(latents, full[0]) / full[1]
    overlaps = [
        float((f.mask & g.mask).sum() / (f.mask | g.mask).sum())
        for fs, gs in zip(found, full_found, strict=True)
        for f, g in zip(fs, gs, strict=True)
        if f.present and g.present
    ]
    forwards = (1 + guided) / 2 if name in (CONDITIONAL, UNCONDITIONAL) else 1
    return (
        f"| {name} | {guided:g} | {1 - forwards:.0%} | {share(present).split(' (')[0]} |"
        f" {mean(distance.tolist())} | {mean(overlaps)} |"
    )


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    parts, judge = model_module.load(), load_judge()
    empty = conditioning(parts.clip, [""])
    if ARGS.bfloat16:
        use_bfloat16(parts.model)
    cases = cases_of("two")[: ARGS.cases]
    whole = draw(parts, cases, Cutoff(Share(1.0)))
    # The mean over the cases: a pair of images can be alike by chance.
    scale = float(apart(whole, draw(parts, cases, Cutoff(Share(1.0)), FIRST_SEED + 10_000)).mean())
    full, full_found = (whole, scale), objects(judge, whole, cases)
    print(f"{len(cases)} prompts, {ARGS.sampler}, {ARGS.steps} steps, cfg {ARGS.cfg:g}; 95 % intervals\n")
    print("| after the cut | guided | forwards saved | both present | distance | overlap |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(line("(full guidance)", 1.0, whole, full_found, full, full_found), flush=True)
    for tail, name in (
        (CONDITIONAL, CONDITIONAL),
        (UNCONDITIONAL, UNCONDITIONAL),
        (LOWER, f"cfg {LOWER_CFG:g}"),
    ):
        for guided in SHARES if not ARGS.tails or tail in ARGS.tails else ():
            asked = Cutoff(Share(guided), tail, empty if tail == UNCONDITIONAL else None, LOWER_CFG)
            latents = draw(parts, cases, asked)
            found = objects(judge, latents, cases)
            print(line(name, guided, latents, found, full, full_found), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

"""What the guidance cutoff does to the pictures: presence of the named objects, distance to full guidance.

    python benchmarks/cutoff_quality.py --comfyui DIR [--cases 216] [--steps 20] [--bfloat16]
                                        [--tails conditional unconditional "lower cfg"] [--suggest]

Run with the Python of that ComfyUI. On the demo model: the same prompts of two objects and the same seeds at
every point, judged by the demo's judge. Distance: root of the mean squared difference of the latents to those
of the fully guided image, over that between two images of the same prompt of different seeds; and the
overlap (IoU) of the objects' masks with the fully guided image's, of objects that are in both. --suggest:
the share that Suggest Guidance Cutoff reads from each image's own run instead, beside the same shares dealt
to other images, and beside fixed ones.
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
parser.add_argument("--suggest", action="store_true", help="shares that are suggested")
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
from scenes import NAMES, category
from verdict import Found, classes_of, find
from winning_tickets.guidance.cutoff import CONDITIONAL, LOWER, UNCONDITIONAL, Cutoff, Share
from winning_tickets.guidance.suggest import suggest
from winning_tickets.guidance.trace import Trace
from winning_tickets.probe.attention.tokens import PromptTokens, find_phrases
from winning_tickets.probe.model.unet import UNet
from winning_tickets.probe.sampling.ksampler import Settings, sample
from winning_tickets.probe.sampling.watch import Watch, last_trace
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.trial.figures import share

SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7)
LOWER_CFG = 2.0
FIRST_SEED = 40_000


def draw(parts: Any, cases: Sequence[Case], asked: Cutoff, first_seed: int = FIRST_SEED) -> torch.Tensor:
    """Latents at model scale [cases, 4, h, w]."""
    done = []
    for at in range(0, len(cases), BATCH):
        part = list(range(at, min(at + BATCH, len(cases))))
        positive = conditioning(parts.clip, [prompt_of(cases[i]) for i in part])
        done.append(draw_some(parts.model, parts.clip, part, positive, asked, first_seed))
    return torch.cat(done)


def draw_some(
    model: Any, clip: Any, numbers: Sequence[int], positive: Any, asked: Cutoff, first_seed: int = FIRST_SEED
) -> torch.Tensor:
    """Of these cases, at most a batch."""
    negative = conditioning(clip, [""] * len(numbers))
    noise = torch.cat([plain_noise(first_seed + i, SHAPE) for i in numbers])
    settings = Settings(0, ARGS.steps, ARGS.cfg, ARGS.sampler, "normal")
    latent = {"samples": torch.zeros_like(noise)}
    result, _ = sample(model, settings, positive, negative, latent, asked, Fixed(noise))
    return result["samples"] * model_module.LATENT_SCALE


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


def in_groups(keys: Sequence[Any]) -> list[list[int]]:
    """Numbers of what has the same key, at most a batch of them at once."""
    groups: dict[Any, list[int]] = {}
    for number, key in enumerate(keys):
        groups.setdefault(key, []).append(number)
    return [some[at : at + BATCH] for some in groups.values() for at in range(0, len(some), BATCH)]


def watched(parts: Any, cases: Sequence[Case]) -> list[Trace]:
    """What a fully guided run of each case shows."""
    family = UNet(parts.model)
    phrases = [find_phrases(parts.clip, prompt_of(c), [category(n) for n in c.names]) for c in cases]
    traces: dict[int, Trace] = {}
    for group in in_groups([p.positions for p in phrases]):
        positive = conditioning(parts.clip, [prompt_of(cases[i]) for i in group])
        first = phrases[group[0]]
        together = PromptTokens(first.text, first.names, positive, first.length, first.positions)
        model = Watch(together, family, family.layers).attach(parts.model)
        draw_some(model, parts.clip, group, positive, Cutoff(Share(1.0)))
        traces |= {number: last_trace(model).of([i]) for i, number in enumerate(group)}
    return [traces[i] for i in range(len(cases))]


def draw_each(parts: Any, cases: Sequence[Case], shares: Sequence[float]) -> torch.Tensor:
    """Every case with a share of its own."""
    done: dict[int, torch.Tensor] = {}
    for group in in_groups(shares):
        positive = conditioning(parts.clip, [prompt_of(cases[i]) for i in group])
        latents = draw_some(parts.model, parts.clip, group, positive, Cutoff(Share(shares[group[0]])))
        done |= dict(zip(group, latents, strict=True))
    return torch.stack([done[i] for i in range(len(cases))])


def suggestions(parts: Any, judge: Any, cases: Sequence[Case], full: tuple[torch.Tensor, float]) -> None:
    """A table of suggested shares beside fixed ones."""
    traces = watched(parts, cases)
    both, push_alone = [suggest(c) for c in traces], [suggest(c, form=0.0) for c in traces]
    dealt = [both[i] for i in torch.randperm(len(both), generator=torch.Generator().manual_seed(0)).tolist()]
    print(
        "\n| share | guided, mean +- sd | forwards saved | both present | distance | sd | 90th percentile |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = [("suggested", both), ("suggested for another image", dealt)]
    if push_alone != both:
        rows.append(("by the push alone", push_alone))
    for name, shares in [*rows, *((f"{s:g} for all", [s] * len(cases)) for s in (0.4, 0.5))]:
        latents = draw_each(parts, cases, shares)
        present = [all(f.present for f in found) for found in objects(judge, latents, cases)]
        distance = (apart(latents, full[0]) / full[1]).numpy()
        print(
            f"| {name} | {np.mean(shares):.3f} +- {np.std(shares):.3f} | {(1 - np.mean(shares)) / 2:.1%} |"
            f" {share(present).split(' (')[0]} | {mean(distance.tolist())} | {distance.std():.3f} |"
            f" {np.quantile(distance, 0.9):.3f} |",
            flush=True,
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
    if ARGS.suggest:
        return suggestions(parts, judge, cases, full)
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

"""What the guidance cutoff does to the pictures: presence of the named objects, distance to full guidance.

    python benchmarks/cutoff_quality.py --comfyui DIR [--cases 216] [--steps 20] [--bfloat16]
                                        [--tails conditional unconditional "lower cfg"]
                                        [--adaptive 0.98 0.99 0.995 0.999] [--suggest] [--check]

Run with the Python of that ComfyUI; DEMO_VARIANT chooses another model than the demo's. The same prompts
of two objects and the same seeds at every point, judged by the model's judge. Distance: root of the mean
squared difference of the latents to those of the fully guided image, over that between two images of the
same prompt of different seeds; and the overlap (IoU) of the objects' masks with the fully guided image's, of
objects that are in both.

--adaptive: guidance of each image ends when its predictions agree so far. --suggest: after the share that
Suggest Guidance Cutoff reads from each image's own run. Both beside the same shares dealt to other images,
and beside the same number of guided steps for all: Wilcoxon's test of the distances, sign test of the
presence, image by image. They are kept in demo/progress/ladder.jsonl; started again, it resumes. --check:
draw a batch by the node itself, too.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
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
parser.add_argument("--adaptive", nargs="+", type=float, help="these similarities, beside fixed shares")
parser.add_argument("--suggest", action="store_true", help="shares that are suggested, beside fixed ones")
parser.add_argument("--check", action="store_true", help="draw a batch by the node itself, too")
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
from ladder import Climb, climbed
from scenes import NAMES
from scipy.stats import wilcoxon
from variants import chosen
from verdict import Found, classes_of, find
from winning_tickets.guidance.cutoff import CONDITIONAL, LOWER, UNCONDITIONAL, Cutoff, Share, Similar
from winning_tickets.guidance.suggest import PUSH, SETTLED, least
from winning_tickets.guidance.trace import push_to_come
from winning_tickets.probe.sampling.ksampler import Settings, sample
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.trial.figures import paired, share

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
    """With a 95% interval."""
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


def rule_row(name: str, guided: np.ndarray, climbs: Sequence[Climb], fixed: np.ndarray | None = None) -> None:
    """A row of images cut after numbers of steps of their own; fixed: those to compare them with."""
    scale = float(np.mean([c.apart for c in climbs]))

    def read(counts: np.ndarray) -> tuple[list[bool], np.ndarray, list[float | None]]:
        chosen = [(c, int(k) - 1) for c, k in zip(climbs, counts, strict=True)]
        distances = np.array([c.distance[k] for c, k in chosen]) / scale
        return [c.present[k] for c, k in chosen], distances, [c.overlap[k] for c, k in chosen]

    present, distance, overlap = read(guided)
    shares = guided / ARGS.steps
    cells = [
        name,
        f"{shares.mean():.3f} +- {shares.std():.3f}",
        f"{(1 - shares.mean()) / 2:.1%}",
        share(present).split(" (")[0],
        mean(distance.tolist()),
        f"{distance.std():.3f}",
        f"{np.quantile(distance, 0.9):.3f}",
        mean([o for o in overlap if o is not None]),
    ]
    if fixed is not None:
        there, away, _ = read(fixed)
        signs = paired(list(zip(present, there, strict=True)))
        nearer = away - distance
        p = float(wilcoxon(nearer).pvalue) if nearer.any() else 1.0
        cells += [f"{mean(nearer.tolist())}, p {p:.2g}", f"{signs.won} : {signs.lost}, p {signs.p:.2g}"]
    print("| " + " | ".join([*cells, *[""] * (10 - len(cells))]) + " |", flush=True)


def same_for_all(guided: np.ndarray) -> np.ndarray:
    """The same number of guided steps in all, as evenly as whole steps allow."""
    least, more = divmod(int(guided.sum()), len(guided))
    order = torch.randperm(len(guided), generator=torch.Generator().manual_seed(0)).numpy()
    return np.where(order < more, least + 1, least).clip(1)


def rules(climbs: Sequence[Climb], named: dict[str, np.ndarray]) -> None:
    """A table of rules: after how many steps guidance of each image ends [images]."""
    print(
        "\n| rule | guided, mean +- sd | forwards saved | both present | distance | sd | 90th percentile |"
        " overlap | nearer than the fixed share | both present only here : only there |"
    )
    print("| --- |" + " --- |" * 9)
    order = torch.randperm(len(climbs), generator=torch.Generator().manual_seed(1)).numpy()
    for name, guided in named.items():
        fixed = same_for_all(guided)
        rule_row(name, guided, climbs, fixed)
        if guided.std():
            rule_row("- dealt to other images", guided[order], climbs)
            rule_row("- the same share for all", fixed, climbs)


def adaptive(climbs: Sequence[Climb], similarities: Sequence[float]) -> dict[str, np.ndarray]:
    """After how many steps `adaptive` ends the guidance of each image."""
    cosines = np.array([c.cosine for c in climbs])
    return {
        f"similarity {s:g}": np.where((cosines > s).any(1), (cosines > s).argmax(1) + 1, ARGS.steps)
        for s in similarities
    }


def suggested(climbs: Sequence[Climb]) -> dict[str, np.ndarray]:
    """After how many steps the suggestion of each image's own run ends its guidance; and as it was before,
    when the maps had to agree with their final form as well."""
    alone, both = [], []
    for c in climbs:
        kept = least(to_come(c).tolist())
        alone.append(kept)
        settled = (k for k in range(max(1, kept), ARGS.steps) if c.agreement[k - 1] >= SETTLED)
        both.append(next(settled, ARGS.steps))
    return {
        f"suggested: push {PUSH:g}": np.array(alone).clip(1),
        f"push {PUSH:g} and agreement {SETTLED:g}": np.array(both),
    }


def to_come(climb: Climb) -> torch.Tensor:
    """Push of guidance still to come after 0, 1, ... steps."""
    return push_to_come(torch.tensor(climb.guidance)[:, None], torch.tensor(climb.sigmas))[:, 0]


def bins(climbs: Sequence[Climb]) -> None:
    """What push and agreement at the cut say of the picture, over all images and numbers of guided steps."""
    scale = float(np.mean([c.apart for c in climbs]))
    cuts = [
        (
            float(to_come(c)[k]),
            c.agreement[k - 1],
            c.present[k - 1],
            c.distance[k - 1] / scale,
            c.overlap[k - 1],
        )
        for c in climbs
        if c.present[-1]
        for k in range(1, ARGS.steps)
    ]
    print("\nImages that show both objects when fully guided, cut after 1, 2, ... steps:")
    print("\n| push still to come | agreement | cuts | both still present | distance | overlap |")
    print("| --- | --- | --- | --- | --- | --- |")
    every, low, high = (0.0, math.inf), (0.0, SETTLED), (SETTLED, math.inf)
    pushes = list(pairwise([0.0, 0.1, PUSH, 2 * PUSH, math.inf]))
    rows = [*((b, every) for b in pushes), (every, low), (every, high)]
    rows += [(b, f) for b in pushes[1:3] for f in (low, high)]
    for push, form in rows:
        found = [c for c in cuts if push[0] < c[0] <= push[1] and form[0] <= c[1] < form[1]]
        if found:
            overlaps = [c[4] for c in found if c[4] is not None]
            kept = np.mean([c[2] for c in found])
            print(
                f"| {named(push)} | {named(form)} | {len(found)} | {kept:.3f} |"
                f" {np.mean([c[3] for c in found]):.3f} | {np.mean(overlaps):.3f} |"
            )


def named(bounds: tuple[float, float]) -> str:
    low, high = bounds
    if high == math.inf:
        return f"above {low:g}" if low else "any"
    return f"{low:g} to {high:g}"


def check(parts: Any, cases: Sequence[Case], climbs: Sequence[Climb], guided: dict[str, np.ndarray]) -> None:
    """How far the pictures of the node itself lie from those that were read off, in the first batch."""
    numbers = list(range(min(BATCH, len(cases))))
    positive = conditioning(parts.clip, [prompt_of(cases[i]) for i in numbers])
    whole = draw_some(parts.model, parts.clip, numbers, positive, Cutoff(Share(1.0)))
    for (name, counts), similarity in zip(guided.items(), ARGS.adaptive, strict=True):
        drawn = draw_some(parts.model, parts.clip, numbers, positive, Cutoff(Similar(similarity)))
        read = torch.tensor([climbs[i].distance[int(counts[i]) - 1] for i in numbers])
        worst = float((apart(drawn, whole) - read).abs().max())
        print(f"{name}: distances of {len(read)} images drawn by the node differ by at most {worst:.4f}")


def read_off(parts: Any, judge: Any, cases: Sequence[Case]) -> None:
    """Rules that look at the run, from what was kept of every case cut after every number of steps."""
    climbs = climbed(parts, judge, cases, ARGS.steps, ARGS.cfg, ARGS.bfloat16)
    about = f"{len(climbs)} prompts, euler, {ARGS.steps} steps, cfg {ARGS.cfg:g}; 95% intervals"
    print(f"\n{chosen()[0] or 'demo model'}: {about}")
    print(f"Fully guided, both objects are present in {share([c.present[-1] for c in climbs])}.")
    guided = adaptive(climbs, ARGS.adaptive or ())
    rules(climbs, {**guided, **(suggested(climbs) if ARGS.suggest else {})})
    if ARGS.suggest:
        alone, both = suggested(climbs).values()
        without, with_maps = (
            [c.present[k - 1] for c, k in zip(climbs, counts, strict=True)] for counts in (alone, both)
        )
        signs = paired(list(zip(with_maps, without, strict=True)))
        more = (both - alone).mean() / ARGS.steps
        print(
            f"\nWith the limit on agreement, {more:.1%} more of the steps were guided; both objects present"
            f" only with it : only without, {signs.won} : {signs.lost}, p {signs.p:.2g}."
        )
        bins(climbs)
    if ARGS.check:
        check(parts, cases, climbs, guided)


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    parts, judge = model_module.load(), load_judge()
    empty = conditioning(parts.clip, [""])
    if ARGS.bfloat16:
        use_bfloat16(parts.model)
    cases = cases_of("two")[: ARGS.cases]
    if ARGS.adaptive or ARGS.suggest:
        return read_off(parts, judge, cases)
    whole = draw(parts, cases, Cutoff(Share(1.0)))
    # The mean over the cases: a pair of images can be alike by chance.
    scale = float(apart(whole, draw(parts, cases, Cutoff(Share(1.0)), FIRST_SEED + 10_000)).mean())
    full, full_found = (whole, scale), objects(judge, whole, cases)
    print(f"{len(cases)} prompts, {ARGS.sampler}, {ARGS.steps} steps, cfg {ARGS.cfg:g}; 95% intervals\n")
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

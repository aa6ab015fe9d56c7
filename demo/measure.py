"""Measures the demo model, and the pack on it.

    python demo/measure.py presence --comfyui DIR     objects present and duplicated, stock KSampler
    python demo/measure.py regions --comfyui DIR      objects in their regions: tickets, plain noise
    python demo/measure.py sweep --comfyui DIR        the same by layer, block size and thresholds
    python demo/measure.py layers --comfyui DIR       the same for every cross-attention layer
    python demo/measure.py schemes --comfyui DIR      the same for every scheme of prompts

Run with the Python of that ComfyUI. `python scripts/demo.py --measure` runs the first two.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import start


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("presence", "regions", "sweep", "layers", "schemes"))
    start.add_option(parser)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--sampler", default="euler")
    parser.add_argument("--guided", type=float, default=0.5)
    parser.add_argument("--layer", default="input 3")
    parser.add_argument("--cells", type=int, default=0, help="at the side of a block (0: what is usual)")
    parser.add_argument("--noises", type=int, default=128)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the images here")
    parser.add_argument("--shift", type=float, help="of a flow model's schedule, instead of its own")
    parser.add_argument("--cases", type=int, default=0, help="only about so many cases (0: all)")
    return parser.parse_args()


ARGS = parse()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.utils
import model as model_module
import numpy as np
import torch
from cases import BATCH, SHAPE, Outcome, Sampling, every_case, stock, ticket_noise
from judge import load_judge
from PIL import Image
from scenes import CATEGORIES, NAMES, draw_scene, listing
from scipy.stats import spearmanr
from verdict import classes_of, find
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.layers.choose import choose_layer
from winning_tickets.probe.layers.probe import LayerProbe
from winning_tickets.probe.layers.probe import measure as measure_worths
from winning_tickets.show.layers import table
from winning_tickets.tickets.bank.bank import BankError
from winning_tickets.tickets.layout.select import Thresholds
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import SCHEMES
from winning_tickets.trial.figures import share

CHOICES = {
    "tickets, the paper's thresholds": Thresholds(),
    "tickets, t_pos 0.7": Thresholds(t_pos=0.7),
}


HOW = Sampling(ARGS.steps, ARGS.cfg, ARGS.sampler, ARGS.guided)


def contact_sheet(parts: Any, latents: torch.Tensor, path: Path, columns: int = 12) -> None:
    images = parts.vae.decode(latents / model_module.LATENT_SCALE)
    rows = [torch.cat(list(images[i : i + columns]), 1) for i in range(0, len(images), columns)]
    sheet = torch.cat([r for r in rows if r.shape == rows[0].shape])
    Image.fromarray((sheet.clamp(0, 1) * 255).byte().numpy()).reduce(2).save(path, optimize=True)


def judge_accuracy(parts: Any, judge: torch.nn.Module, count: int = 200) -> None:
    """The judge on drawn scenes that no training has seen, through the shipped autoencoder."""
    drawn = [draw_scene(990_001, i) for i in range(count)]
    pixels = torch.from_numpy(np.stack([s.image for s in drawn])).float() / 255
    found = classes_of(judge, parts.vae.encode(pixels) * model_module.LATENT_SCALE)
    truth = np.stack([s.labels for s in drawn])
    both = [((found == c) & (truth == c)).sum() for c in range(len(NAMES) + 1)]
    either = [((found == c) | (truth == c)).sum() for c in range(len(NAMES) + 1)]
    ious = [b / e for b, e in zip(both, either, strict=True)]
    print(
        f"Judge on {count} held-out scenes: pixel accuracy {(found == truth).mean():.4f},"
        f" mean IoU {sum(ious) / len(ious):.3f}, worst class {min(ious):.3f}"
    )


def presence(parts: Any) -> None:
    """One- and two-object prompts with the stock KSampler and plain noise."""
    judge = load_judge()
    judge_accuracy(parts, judge)
    single: list[tuple[str, ...]] = [(n,) for n in NAMES for _ in range(20)]
    double: list[tuple[str, ...]] = [pair for pair in combinations(NAMES, 2) for _ in range(4)]
    if ARGS.cases:
        single, double = (c[:: max(1, len(c) // ARGS.cases)] for c in (single, double))
    print(f"Stock KSampler, {ARGS.sampler}, {ARGS.steps} steps, cfg {ARGS.cfg}:")
    for title, cases in (("one object", single), ("two objects", double)):
        noise = torch.cat([plain_noise(10_000 + i, SHAPE) for i in range(len(cases))])
        began = time.monotonic()
        latents = stock(parts, HOW, [listing(c) for c in cases], noise, title)
        seconds = (time.monotonic() - began) / len(cases)
        maps = classes_of(judge, latents)
        found = [
            [find(m, NAMES.index(name) + 1) for name in case] for m, case in zip(maps, cases, strict=True)
        ]
        each = [f.present for image in found for f in image]
        whole = [all(f.present for f in image) for image in found]
        twice = [any(f.pieces > 1 for f in image) for image in found]
        print(f"  {title}: all present {share(whole)}; per object {share(each)};")
        print(f"    with a duplicate {share(twice)}; {seconds:.2f} s an image in batches of {BATCH}")
        missed: dict[str, int] = {}
        for case, image in zip(cases, found, strict=True):
            for name, f in zip(case, image, strict=True):
                missed[name] = missed.get(name, 0) + (not f.present)
        print("    missing:", ", ".join(f"{k} {v}" for k, v in missed.items() if v) or "none")
        if ARGS.sheet:
            pick = latents[:: max(1, len(latents) // 48)][:48]
            contact_sheet(parts, pick, ARGS.sheet.with_stem(f"{ARGS.sheet.stem}-{len(cases[0])}"))


def collected(parts: Any, layer: str, cells: int, scheme: str = "pairs") -> Any:
    began = time.monotonic()
    request = CollectRequest(CATEGORIES, ARGS.noises, 0, 256, 256, layer, cells, scheme)
    bank = collect(parts.model, parts.clip, request)
    print(f"Collected {bank.describe()} in {time.monotonic() - began:.0f} s.", flush=True)
    return bank


def regions(parts: Any) -> None:
    """Both objects' centroids in their own boxes: tickets, plain noise, and the boxes swapped."""
    cases = every_case(ARGS.cases)
    bank = collected(parts, ARGS.layer, ARGS.cells)
    noises = {
        "plain noise": torch.cat([plain_noise(20_000 + i, SHAPE) for i in range(len(cases))]),
        **{title: ticket_noise(bank, cases, thresholds) for title, thresholds in CHOICES.items()},
    }
    print(
        f"Both centroids in their own boxes (96x96 of 256x256 pixels), {ARGS.sampler}, {ARGS.steps}"
        f" steps, cfg {ARGS.cfg}, guided {ARGS.guided}:"
    )
    for title, noise in noises.items():
        result = Outcome(parts, HOW, cases, noise)
        own = result.hits()
        print(f"  {title}: {share(own)}")
        print(f"    boxes swapped: {share(result.hits(swapped=True))}")
        for label, wanted in (("shared-colour pairs", True), ("other pairs", False)):
            part = [h for h, c in zip(own, cases, strict=True) if c.shared_colour == wanted]
            if part:
                print(f"    {label}: {share(part)}")
        print(f"    mean IoU with the box: {result.iou():.3f}")
        print(f"    both present: {share(result.present())}")
        each: dict[str, list[bool]] = {}
        for name, found, box in result.objects():
            each.setdefault(name, []).append(found.inside(box))
        print("    by object:", ", ".join(f"{n} {sum(v) / len(v):.2f}" for n, v in each.items()))
        if ARGS.sheet:
            path = ARGS.sheet.with_stem(f"{ARGS.sheet.stem}-{list(noises).index(title)}")
            contact_sheet(parts, result.latents[:: max(1, len(cases) // 48)][:48], path)


SWEEP = (
    ("input 3", 1, (0.3, 0.3, 0.1)),
    ("input 3", 1, (0.5, 0.3, 0.1)),
    ("input 3", 1, (0.7, 0.3, 0.1)),
    ("input 3", 1, (0.7, 0.3, 0.3)),
    ("input 3", 2, (0.7, 0.3, 0.1)),
    ("output 2", 1, (0.3, 0.3, 0.1)),
    ("output 2", 1, (0.7, 0.3, 0.1)),
    ("output 3", 1, (0.3, 0.3, 0.1)),
    ("input 5", 1, (0.3, 0.3, 0.1)),
)


def sweep(parts: Any) -> None:
    """What tickets depend on: layer, block size, thresholds."""
    cases = every_case(ARGS.cases)
    banks: dict[tuple[str, int], Any] = {}
    for layer, cells, thresholds in SWEEP:
        if (layer, cells) not in banks:
            banks[layer, cells] = collected(parts, layer, cells)
        label = f"{layer}, {cells} cell(s) a block, t_pos t_neg t_bg {thresholds}"
        try:
            noise = ticket_noise(banks[layer, cells], cases, Thresholds(*thresholds))
        except BankError as error:
            print(f"  {label}: {error}")
            continue
        print(f"  {label}: {Outcome(parts, HOW, cases, noise)}", flush=True)


def layers(parts: Any) -> None:
    """Ticket Layer Report's figures, and beside them what tickets of every layer achieve."""
    probe = LayerProbe(parts.model, parts.clip, CATEGORIES, 16, 0, 256, 256)
    worths = measure_worths(probe, images=4, steps=10, cfg=ARGS.cfg)
    print(table(worths), flush=True)
    request = CollectRequest(CATEGORIES, ARGS.noises, 0, 256, 256, "auto")
    print(choose_layer(parts.model, parts.clip, request, "measure.py")[1], flush=True)
    cases = every_case(ARGS.cases)
    for worth in sorted(worths, key=lambda w: -w.effect):
        bank = collected(parts, str(worth.layer), ARGS.cells)
        try:
            noise = ticket_noise(bank, cases, Thresholds(t_pos=0.7))
        except BankError as error:
            print(f"  {worth.layer}: {error}", flush=True)
            continue
        print(f"  {worth.layer}, effect {worth.effect:.2f}: {Outcome(parts, HOW, cases, noise)}", flush=True)


def schemes(parts: Any) -> None:
    """Prompts of each scheme: what they cost, how the scores agree with those of pairs, what they reach."""
    cases = every_case(ARGS.cases)
    reference = None
    for scheme in SCHEMES:
        began = time.monotonic()
        bank = collected(parts, ARGS.layer, ARGS.cells, scheme)
        cost = len(bank.prompts) * len(bank.seeds)
        print(f"{scheme}: {cost:,} evaluations, {time.monotonic() - began:.0f} s", flush=True)
        reference = reference or bank
        own, average = [], []
        for a in CATEGORIES:
            average.append(rank_correlation(bank.average(a), reference.average(a)))
            own += [rank_correlation(bank.score(a, b), reference.score(a, b)) for b in CATEGORIES if b != a]
        print(
            f"  rank correlation with pairs: {mean(own):.3f} beside a companion, {mean(average):.3f} average"
        )
        for t_pos in (0.7, 0.3):
            try:
                noise = ticket_noise(bank, cases, Thresholds(t_pos=t_pos))
                print(
                    f"  both in their boxes, t_pos {t_pos}: {Outcome(parts, HOW, cases, noise)}", flush=True
                )
            except BankError as error:
                print(f"  t_pos {t_pos}: {error}", flush=True)


def rank_correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Spearman's."""
    return float(spearmanr(one.numpy(), other.numpy()).statistic)


if __name__ == "__main__":
    comfy.utils.set_progress_bar_enabled(False)
    with torch.inference_mode():
        tasks = (presence, regions, sweep, layers, schemes)
        loaded = model_module.load()
        if ARGS.shift is not None:
            loaded.model.model.model_sampling.set_parameters(shift=ARGS.shift)
        {task.__name__: task for task in tasks}[ARGS.what](loaded)

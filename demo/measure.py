"""Measures the demo model, and the pack on it.

    python demo/measure.py presence --comfyui DIR     objects present and duplicated, stock KSampler
    python demo/measure.py regions --comfyui DIR      objects in their regions: tickets, plain noise
    python demo/measure.py sweep --comfyui DIR        the same by layer, block size and thresholds
    python demo/measure.py layers --comfyui DIR       the same for every cross-attention layer

Run with the Python of that ComfyUI. `python scripts/demo.py --measure` runs the first two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import start


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("presence", "regions", "sweep", "layers"))
    start.add_option(parser)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--sampler", default="euler")
    parser.add_argument("--guided", type=float, default=0.5)
    parser.add_argument("--layer", default="input 3")
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--noises", type=int, default=128)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the images here")
    parser.add_argument("--cases", type=int, default=0, help="only about so many cases (0: all)")
    return parser.parse_args()


ARGS = parse()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.sample
import comfy.utils
import model as model_module
import numpy as np
import torch
from judge import load_judge
from PIL import Image
from scenes import NAMES, SHARED_COLOUR, draw_scene, listing
from tqdm import tqdm
from verdict import Found, classes_of, find, share
from winning_tickets.probe import cutoff
from winning_tickets.probe.auto_layer import choose_layer
from winning_tickets.probe.collect import Wish, collect
from winning_tickets.probe.layer_report import measure as measure_worths
from winning_tickets.probe.layer_report import table
from winning_tickets.probe.layers import LayerProbe
from winning_tickets.tickets.bank import BankError
from winning_tickets.tickets.build import Layout
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.regions import Region
from winning_tickets.tickets.select import Thresholds

SHAPE = (4, 32, 32)
BATCH = 16
LAYOUTS = {
    "left, right": ((0.0625, 0.3125, 0.4375, 0.6875), (0.5625, 0.3125, 0.9375, 0.6875)),
    "diagonal": ((0.0625, 0.0625, 0.4375, 0.4375), (0.5625, 0.5625, 0.9375, 0.9375)),
}


CHOICES = {
    "tickets, the paper's thresholds": Thresholds(),
    "tickets, t_pos 0.7 as in the example workflow": Thresholds(t_pos=0.7),
}


class Fixed:
    """NOISE that was made before."""

    def __init__(self, noise: torch.Tensor) -> None:
        self.noise, self.seed = noise, 0

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return self.noise


def conditioning(clip: Any, prompts: Sequence[str]) -> Any:
    """One conditioning in which each image of the batch has its own prompt."""
    rows = [clip.encode_from_tokens(clip.tokenize(p)) for p in prompts]
    return [[torch.cat(rows), {}]]


def batches(prompts: Sequence[str], work: Callable[[slice], torch.Tensor], name: str) -> torch.Tensor:
    starts = range(0, len(prompts), BATCH)
    return torch.cat([work(slice(i, i + BATCH)) for i in tqdm(starts, desc=name, leave=False)])


def stock(parts: Any, prompts: Sequence[str], noise: torch.Tensor, name: str) -> torch.Tensor:
    """Latents at model scale, by the stock KSampler's path."""

    def work(part: slice) -> torch.Tensor:
        chosen = prompts[part]
        conds = conditioning(parts.clip, chosen), conditioning(parts.clip, [""] * len(chosen))
        empty = torch.zeros(len(chosen), *SHAPE)
        a = ARGS
        result = comfy.sample.sample(
            parts.model,
            noise[part],
            a.steps,
            a.cfg,
            a.sampler,
            "normal",
            *conds,
            empty,
            disable_pbar=True,
            seed=0,
        )
        return result * model_module.LATENT_SCALE

    return batches(prompts, work, name)


def cut(parts: Any, prompts: Sequence[str], noise: torch.Tensor, name: str) -> torch.Tensor:
    """Latents at model scale, by Guidance Cutoff KSampler's path."""

    def work(part: slice) -> torch.Tensor:
        chosen = prompts[part]
        conds = conditioning(parts.clip, chosen), conditioning(parts.clip, [""] * len(chosen))
        latent = {"samples": torch.zeros(len(chosen), *SHAPE)}
        a = ARGS
        settings = (0, a.steps, a.cfg, a.sampler, "normal", *conds, latent, 1.0, a.guided)
        result, _ = cutoff.sample(parts.model, *settings, cutoff.CONDITIONAL, Fixed(noise[part]))
        return result["samples"] * model_module.LATENT_SCALE

    return batches(prompts, work, name)


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
    single = [(n,) for n in NAMES for _ in range(20)]
    double = [pair for pair in combinations(NAMES, 2) for _ in range(4)]
    print(f"Stock KSampler, {ARGS.sampler}, {ARGS.steps} steps, cfg {ARGS.cfg}:")
    for title, cases in (("one object", single), ("two objects", double)):
        noise = torch.cat([plain_noise(10_000 + i, SHAPE) for i in range(len(cases))])
        began = time.monotonic()
        latents = stock(parts, [listing(c) for c in cases], noise, title)
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


@dataclass(frozen=True)
class Case:
    """Two categories and their boxes."""

    names: tuple[str, str]
    boxes: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def shared_colour(self) -> bool:
        return tuple(sorted(self.names)) in {tuple(sorted(p)) for p in SHARED_COLOUR}


def every_case() -> list[Case]:
    """All pairs of concepts, in both layouts and both orders; or about --cases of them."""
    cases = [
        Case(names, boxes)
        for pair in combinations(NAMES, 2)
        for boxes in LAYOUTS.values()
        for names in (pair, pair[::-1])
    ]
    return cases[:: max(1, len(cases) // ARGS.cases) if ARGS.cases else 1]


def collected(parts: Any, layer: str, cells: int, scheme: str = "pairs") -> Any:
    began = time.monotonic()
    wish = Wish(NAMES, ARGS.noises, 0, 256, 256, layer, cells, scheme)
    bank = collect(parts.model, parts.clip, wish)
    print(f"Collected {bank.describe()} in {time.monotonic() - began:.0f} s.", flush=True)
    return bank


def ticket_noise(bank: Any, cases: Sequence[Case], thresholds: Thresholds) -> torch.Tensor:
    built = []
    for i, case in enumerate(cases):
        places = tuple(Region(n, *b) for n, b in zip(case.names, case.boxes, strict=True))
        built.append(Layout(bank, places, 32, 32, thresholds).build(20_000 + i))
    return torch.cat(built)


class Outcome:
    """Where the objects of each case are in the images made from `noise`."""

    def __init__(self, parts: Any, judge: Any, cases: Sequence[Case], noise: torch.Tensor) -> None:
        self.cases = cases
        self.latents = cut(parts, [listing(c.names) for c in cases], noise, "sampling")
        maps = classes_of(judge, self.latents)
        self.found = [
            [find(m, NAMES.index(n) + 1) for n in c.names] for m, c in zip(maps, cases, strict=True)
        ]

    def objects(self) -> Iterator[tuple[str, Found, tuple[float, ...]]]:
        for case, found in zip(self.cases, self.found, strict=True):
            yield from zip(case.names, found, case.boxes, strict=True)

    def hits(self, swapped: bool = False) -> list[bool]:
        """Both centroids in their own boxes; or, swapped, in each other's."""
        turn = -1 if swapped else 1
        return [
            all(f.inside(b) for f, b in zip(found, case.boxes[::turn], strict=True))
            for case, found in zip(self.cases, self.found, strict=True)
        ]

    def iou(self) -> float:
        values = [f.iou(box) for _, f, box in self.objects()]
        return sum(values) / len(values)

    def present(self) -> list[bool]:
        return [all(f.present for f in found) for found in self.found]


def regions(parts: Any) -> None:
    """Both objects' centroids in their own boxes: tickets, plain noise, and the boxes swapped."""
    judge, cases = load_judge(), every_case()
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
        result = Outcome(parts, judge, cases, noise)
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
    judge, cases = load_judge(), every_case()
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
        result = Outcome(parts, judge, cases, noise)
        print(
            f"  {label}: {share(result.hits())}, swapped {sum(result.hits(swapped=True)) / len(cases):.3f},"
            f" IoU {result.iou():.3f}, both present {sum(result.present()) / len(cases):.3f}",
            flush=True,
        )


def layers(parts: Any) -> None:
    """Ticket Layer Report's figures, and beside them what tickets of every layer reach."""
    probe = LayerProbe(parts.model, parts.clip, NAMES, 16, 0, SHAPE)
    worths = measure_worths(probe, images=4, steps=10, cfg=ARGS.cfg)
    print(table(worths), flush=True)
    wish = Wish(NAMES, ARGS.noises, 0, 256, 256, "auto")
    print(choose_layer(parts.model, parts.clip, wish)[1], flush=True)
    judge, cases = load_judge(), every_case()
    for worth in sorted(worths, key=lambda w: -w.reach):
        bank = collected(parts, str(worth.layer), 1)
        try:
            noise = ticket_noise(bank, cases, Thresholds(t_pos=0.7))
        except BankError as error:
            print(f"  {worth.layer}: {error}", flush=True)
            continue
        result = Outcome(parts, judge, cases, noise)
        print(
            f"  {worth.layer}: reach {worth.reach:.2f} +- {worth.error:.2f}, kept {worth.kept:.3f}, agreement"
            f" {worth.agreement:.3f} ({worth.chance:.3f}); both in their boxes {share(result.hits())},"
            f" swapped {sum(result.hits(swapped=True)) / len(cases):.3f}, IoU {result.iou():.3f}",
            flush=True,
        )


if __name__ == "__main__":
    comfy.utils.set_progress_bar_enabled(False)
    with torch.inference_mode():
        {"presence": presence, "regions": regions, "sweep": sweep, "layers": layers}[ARGS.what](
            model_module.load()
        )

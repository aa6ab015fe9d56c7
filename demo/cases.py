"""What measuring on the demo model is made of: cases of two objects in two boxes, sampled and judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import comfy.sample
import model as model_module
import precision
import torch
from comfy.patcher_extension import WrappersMP
from judge import load_judge
from scenes import BACKGROUNDS, NAMES, SHARED_COLOUR, category, listing
from tqdm import tqdm
from verdict import Found, classes_of, find
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.probe.sampling.ksampler import Settings
from winning_tickets.probe.sampling.ksampler import sample as cutoff_sample
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.tickets.layout.select import Thresholds
from winning_tickets.trial.figures import share

SHAPE = (4, 32, 32)
BATCH = 16
Boxes = tuple[tuple[float, ...], ...]
LAYOUTS: dict[str, Boxes] = {
    "left, right": ((0.0625, 0.3125, 0.4375, 0.6875), (0.5625, 0.3125, 0.9375, 0.6875)),
    "diagonal": ((0.0625, 0.0625, 0.4375, 0.4375), (0.5625, 0.5625, 0.9375, 0.9375)),
}
SETS: dict[str, dict[str, Boxes]] = {
    "two": LAYOUTS,
    "unequal": {
        "large left": ((0.03125, 0.15625, 0.59375, 0.84375), (0.6875, 0.375, 0.9375, 0.625)),
        "large right": ((0.0625, 0.0625, 0.3125, 0.3125), (0.375, 0.375, 0.96875, 0.96875)),
    },
    "three": {
        "row": (
            (0.03125, 0.3125, 0.34375, 0.6875),
            (0.34375, 0.3125, 0.65625, 0.6875),
            (0.65625, 0.3125, 0.96875, 0.6875),
        ),
        "triangle": (
            (0.0625, 0.0625, 0.4375, 0.4375),
            (0.5625, 0.0625, 0.9375, 0.4375),
            (0.3125, 0.5625, 0.6875, 0.9375),
        ),
    },
    "four": {
        "square": (
            (0.0625, 0.0625, 0.4375, 0.4375),
            (0.5625, 0.0625, 0.9375, 0.4375),
            (0.0625, 0.5625, 0.4375, 0.9375),
            (0.5625, 0.5625, 0.9375, 0.9375),
        ),
    },
}
"""Layouts by name of the set: of two to four regions."""
SET_SIZE = 216


class Fixed:
    """NOISE that was made before."""

    def __init__(self, noise: torch.Tensor) -> None:
        self.noise, self.seed = noise, 0

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return self.noise


def in_bfloat16(executor: Any, x: torch.Tensor, *inputs: Any, **options: Any) -> torch.Tensor:
    """A wrapper of the denoiser: what runs in it runs in bfloat16, all else stays as it is."""
    with precision.autocast(x.device.type):
        return executor(x, *inputs, **options)


def use_bfloat16(model: Any) -> None:
    """Let the denoiser of this MODEL run so."""
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "bfloat16", in_bfloat16)


def conditioning(clip: Any, prompts: Sequence[str]) -> Any:
    """One conditioning in which each image of the batch has its own prompt."""
    rows = [clip.encode_from_tokens(clip.tokenize(p), return_pooled=True) for p in prompts]
    contexts, pooled = map(torch.cat, zip(*rows, strict=True))
    return [[contexts, {"pooled_output": pooled}]]


def batches(prompts: Sequence[str], work: Callable[[slice], torch.Tensor], name: str) -> torch.Tensor:
    starts = range(0, len(prompts), BATCH)
    return torch.cat([work(slice(i, i + BATCH)) for i in tqdm(starts, desc=name, leave=False)])


@dataclass(frozen=True)
class Sampling:
    """How images are made."""

    steps: int
    cfg: float
    sampler: str
    guided: float


def framed(parts: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents [images, C, h, w] as the model takes them: models of videos have a dimension for time."""
    video = parts.model.get_model_object("latent_format").latent_dimensions == 3
    return latents.unsqueeze(2) if video else latents


def stock(parts: Any, how: Sampling, prompts: Sequence[str], noise: torch.Tensor, name: str) -> torch.Tensor:
    """Latents at model scale, by the stock KSampler's path."""

    def work(part: slice) -> torch.Tensor:
        chosen = prompts[part]
        conds = conditioning(parts.clip, chosen), conditioning(parts.clip, [""] * len(chosen))
        start = framed(parts, noise[part])
        result = comfy.sample.sample(
            parts.model,
            start,
            how.steps,
            how.cfg,
            how.sampler,
            "normal",
            *conds,
            torch.zeros_like(start),
            disable_pbar=True,
            seed=0,
        )
        return result.reshape(len(chosen), *SHAPE) * model_module.LATENT_SCALE

    return batches(prompts, work, name)


def cut(parts: Any, how: Sampling, prompts: Sequence[str], noise: torch.Tensor, name: str) -> torch.Tensor:
    """Latents at model scale, by Guidance Cutoff KSampler's path."""

    def work(part: slice) -> torch.Tensor:
        chosen = prompts[part]
        conds = conditioning(parts.clip, chosen), conditioning(parts.clip, [""] * len(chosen))
        start = framed(parts, noise[part])
        latent = {"samples": torch.zeros_like(start)}
        settings = Settings(0, how.steps, how.cfg, how.sampler, "normal")
        asked = Cutoff(Share(how.guided))
        result, _ = cutoff_sample(parts.model, settings, *conds, latent, asked, Fixed(start))
        return result["samples"].reshape(len(chosen), *SHAPE) * model_module.LATENT_SCALE

    return batches(prompts, work, name)


@dataclass(frozen=True)
class Case:
    """Categories and their boxes."""

    names: tuple[str, ...]
    boxes: tuple[tuple[float, ...], ...]

    @property
    def shared_colour(self) -> bool:
        """Two of them are of one colour."""
        return any(set(pair) <= set(self.names) for pair in SHARED_COLOUR)


def prompt_of(case: Case) -> str:
    """As banks are collected: `a cat and an apple`."""
    return listing(case.names)


def other_prompt_of(case: Case) -> str:
    """Unlike those: `a picture of an apple and a cat in the snow`."""
    where = list(BACKGROUNDS)[sum(map(NAMES.index, case.names)) % len(BACKGROUNDS)]
    return f"a picture of {listing(case.names[::-1])} {where}"


def every_case(about: int = 0) -> list[Case]:
    """All pairs of concepts, in both layouts and both orders; or `about` so many of them."""
    cases = [
        Case(names, boxes)
        for pair in combinations(NAMES, 2)
        for boxes in LAYOUTS.values()
        for names in (pair, pair[::-1])
    ]
    return cases[:: max(1, len(cases) // about) if about else 1]


def cases_of(name: str) -> list[Case]:
    """All cases of "two", SET_SIZE of another set, in an order of which any beginning is a fair sample."""
    order = random.Random(name)
    if name == "two":
        cases = every_case()
        order.shuffle(cases)
        return cases
    layouts = list(SETS[name].values())
    return [
        Case(tuple(order.sample(NAMES, len(layouts[0]))), layouts[i % len(layouts)]) for i in range(SET_SIZE)
    ]


def layout_of(name: str, case: Case) -> str:
    """Which of the set's layouts a case has."""
    return next(layout for layout, boxes in SETS[name].items() if boxes == case.boxes)


def ticket_noise(bank: Any, cases: Sequence[Case], thresholds: Thresholds) -> torch.Tensor:
    built = []
    for i, case in enumerate(cases):
        places = tuple(Region(category(n), *b) for n, b in zip(case.names, case.boxes, strict=True))
        built.append(Layout(bank, places, 32, 32, thresholds).build(20_000 + i))
    return torch.cat(built)


class Outcome:
    """Where the objects of each case are in the images made from `noise`."""

    def __init__(
        self,
        parts: Any,
        how: Sampling,
        cases: Sequence[Case],
        noise: torch.Tensor,
        prompt: Callable[[Case], str] = prompt_of,
    ) -> None:
        self.cases = cases
        judge = load_judge()
        self.latents = cut(parts, how, [prompt(c) for c in cases], noise, "sampling")
        maps = classes_of(judge, self.latents)
        self.found = [
            [find(m, NAMES.index(n) + 1) for n in c.names] for m, c in zip(maps, cases, strict=True)
        ]

    def objects(self) -> Iterator[tuple[str, Found, tuple[float, ...]]]:
        for case, found in zip(self.cases, self.found, strict=True):
            yield from zip(case.names, found, case.boxes, strict=True)

    def hits(self, swapped: bool = False) -> list[bool]:
        """All centroids in their own boxes; or, swapped, each in the next one's."""
        turn = 1 if swapped else 0
        return [
            all(f.inside(b) for f, b in zip(found, case.boxes[turn:] + case.boxes[:turn], strict=True))
            for case, found in zip(self.cases, self.found, strict=True)
        ]

    def iou(self) -> float:
        values = [f.iou(box) for _, f, box in self.objects()]
        return sum(values) / len(values)

    def present(self) -> list[bool]:
        return [all(f.present for f in found) for found in self.found]

    def __str__(self) -> str:
        swapped, present = (sum(v) / len(self.cases) for v in (self.hits(swapped=True), self.present()))
        return (
            f"{share(self.hits())}, swapped {swapped:.3f}, IoU {self.iou():.3f}, both present {present:.3f}"
        )

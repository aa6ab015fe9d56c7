"""The second paper's findings on the demo model: early shape, early text, and what the end tokens carry.

    python benchmarks/mechanism.py --comfyui DIR [--what shape text ends] [--cases 216] [--steps 20]
    [--bfloat16]

Run with the Python of that ComfyUI; judged by the demo's judge, 95% intervals.

shape: full guidance, watched: how far maps and objects have their final form after a share of the steps.
text: prompts of two objects, the prompt only in the first or only in the last steps, the empty prompt in the
others. ends: prompts of one object, with the end tokens (or the words) of another's, or zeros, or noise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--what", nargs="+", choices=["shape", "text", "ends"], default=["shape", "text", "ends"])
parser.add_argument("--cases", type=int, default=216)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--cfg", type=float, default=5.0)
parser.add_argument("--bfloat16", action="store_true", help="run the UNet in bfloat16")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.sample
import comfy.utils
import model as model_module
import numpy as np
import torch
from cases import BATCH, SHAPE, cases_of, conditioning, prompt_of, use_bfloat16
from judge import load_judge
from scenes import NAMES, category, listing
from verdict import classes_of, find
from winning_tickets.guidance.eos import replace_eos
from winning_tickets.guidance.trace import agreement
from winning_tickets.probe.attention.tokens import find_phrases
from winning_tickets.probe.model.unet import UNet
from winning_tickets.probe.sampling.eos import read_ends, swap_eos, within
from winning_tickets.probe.sampling.watch import Watch, last_trace
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.trial.figures import share

FIRST_SEED = 60_000
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)


def sampled(
    model: Any, positive: Any, negative: Any, noise: torch.Tensor, callback: Any = None
) -> torch.Tensor:
    """Latents at model scale, by the stock KSampler's path."""
    result = comfy.sample.sample(
        model,
        noise,
        ARGS.steps,
        ARGS.cfg,
        "euler",
        "normal",
        positive,
        negative,
        torch.zeros_like(noise),
        callback=callback,
        disable_pbar=True,
        seed=0,
    )
    return result * model_module.LATENT_SCALE


def noises(begin: int, count: int) -> torch.Tensor:
    return torch.cat([plain_noise(FIRST_SEED + begin + i, SHAPE) for i in range(count)])


def mean(values: Any) -> str:
    values = np.asarray(values, dtype=float)
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return f"{values.mean():.3f} +- {half:.3f}"


def rate(values: Sequence[bool]) -> str:
    return share(values).split(" (")[0]


def drawn_in_batches(parts: Any, prompts: Sequence[Any], count: int) -> torch.Tensor:
    """Of a positive for each slice of images: a function of the slice."""
    empty = conditioning(parts.clip, [""])
    done = []
    for at in range(0, count, BATCH):
        part = slice(at, min(at + BATCH, count))
        done.append(sampled(parts.model, prompts(part), empty, noises(at, part.stop - at)))
    return torch.cat(done)


def shape(parts: Any, judge: Any) -> None:
    family = UNet(parts.model)
    maps: list[torch.Tensor] = []
    low: list[torch.Tensor] = []
    guidance: list[torch.Tensor] = []
    overlaps: list[list[float]] = []
    negative = conditioning(parts.clip, [""])
    for number, case in enumerate(cases_of("two")[: ARGS.cases]):
        phrases = find_phrases(parts.clip, prompt_of(case), [category(n) for n in case.names])
        model = Watch(phrases, family, family.layers).attach(parts.model)
        predictions: list[torch.Tensor] = []

        def keep(step: int, denoised: torch.Tensor, *about: Any, kept: list[Any] = predictions) -> None:
            kept.append(denoised.clone())

        sampled(model, phrases.conditioning, negative, noises(number, 1), keep)
        trace = last_trace(model)
        maps.append(agreement(trace.maps())[:, 0].mean(1))
        low.append(trace.low()[:, 0])
        guidance.append(trace.guidance()[:, 0])
        classes = classes_of(judge, torch.cat(predictions))
        last = [find(classes[-1], NAMES.index(name) + 1) for name in case.names]
        overlaps.append([_overlap(c, last, case.names) for c in classes])
    print(f"\n{len(maps)} prompts of two objects, watched, full guidance\n")
    print(
        "| after the step | agreement of the maps | objects' masks, IoU with the final | low frequencies |"
        " guidance term |"
    )
    print("| --- | --- | --- | --- | --- |")
    for step in sorted({max(1, round(s * ARGS.steps)) - 1 for s in (0.05, *SHARES, 1.0)}):
        cells = [[float(row[step]) for row in rows] for rows in (maps, overlaps, low, guidance)]
        print(f"| {step + 1} of {ARGS.steps} | {' | '.join(map(mean, cells))} |", flush=True)


def _overlap(classes: np.ndarray, last: Sequence[Any], names: Sequence[str]) -> float:
    now = [find(classes, NAMES.index(name) + 1) for name in names]
    both = sum(int((a.mask & b.mask).sum()) for a, b in zip(now, last, strict=True))
    either = sum(int((a.mask | b.mask).sum()) for a, b in zip(now, last, strict=True))
    return both / either if either else 1.0


def text(parts: Any, judge: Any) -> None:
    cases = cases_of("two")[: ARGS.cases]
    empty = conditioning(parts.clip, [""])[0][0]

    def only(begin: float, end: float) -> Callable[[slice], Any]:
        def positive(part: slice) -> Any:
            context = conditioning(parts.clip, [prompt_of(c) for c in cases[part]])[0][0]
            return within([context, {}], [empty, {}], begin, end)

        return positive

    def present(latents: torch.Tensor) -> str:
        classes = classes_of(judge, latents)
        found = [
            all(find(m, NAMES.index(n) + 1).present for n in c.names)
            for m, c in zip(classes, cases, strict=True)
        ]
        return rate(found)

    print(f"\n{len(cases)} prompts of two objects: both present, when the prompt is there only in\n")
    print("| share of the steps | the first | the last |")
    print("| --- | --- | --- |")
    for part in (*SHARES, 1.0):
        early = present(drawn_in_batches(parts, only(0.0, part), len(cases)))
        late = present(drawn_in_batches(parts, only(1 - part, 1.0), len(cases))) if part < 1 else early
        print(f"| {part:g} | {early} | {late} |", flush=True)


def ends(parts: Any, judge: Any) -> None:
    pairs = [(a, b) for a in NAMES for b in NAMES if a != b]
    chosen = [pairs[i % len(pairs)] for i in range(ARGS.cases)]
    prompts = [tuple(listing([n]) for n in pair) for pair in chosen]
    generator = torch.Generator().manual_seed(0)

    def combine(words: str, other: str, how: str) -> Any:
        mine = read_ends(parts.clip, words)
        if how == "swapped":
            return swap_eos(parts.clip, words, other)[0][0][0]
        if how == "ends zero":
            return swap_eos(parts.clip, words, other, "zero")[0][0][0]
        if how == "ends random":
            random = torch.randn(mine.context.shape, generator=generator) * mine.context.std()
            return replace_eos(mine.context, mine.spans, random, mine.spans)
        if how == "words zero":
            context = torch.zeros_like(mine.context)
            context[:, 0] = mine.context[:, 0]
            return replace_eos(context, mine.spans, mine.context, mine.spans)
        return mine.context

    def context(part: slice, how: str) -> torch.Tensor:
        return torch.cat([combine(*pair, how) for pair in prompts[part]])

    def combined(how: str, begin: float, end: float) -> Callable[[slice], Any]:
        def positive(part: slice) -> Any:
            return within([context(part, how), {}], [context(part, "plain"), {}], begin, end)

        return positive

    rows = (
        ("its own", "plain", 0.0, 1.0),
        ("the other's", "swapped", 0.0, 1.0),
        ("the other's in the first 0.2 of sampling", "swapped", 0.0, 0.2),
        ("the other's in the first 0.4", "swapped", 0.0, 0.4),
        ("the other's after 0.2", "swapped", 0.2, 1.0),
        ("the other's after 0.4", "swapped", 0.4, 1.0),
        ("zeros", "ends zero", 0.0, 1.0),
        ("noise", "ends random", 0.0, 1.0),
        ("its own, the words zeros", "words zero", 0.0, 1.0),
    )
    print(f"\n{len(prompts)} ordered pairs of prompts of one object; what the image shows\n")
    print("| end tokens | object of the words | object of the end tokens | both | none |")
    print("| --- | --- | --- | --- | --- |")
    for name, how, begin, end in rows:
        classes = classes_of(judge, drawn_in_batches(parts, combined(how, begin, end), len(prompts)))
        seen = [
            tuple(find(m, NAMES.index(n) + 1).present for n in pair)
            for m, pair in zip(classes, chosen, strict=True)
        ]
        cells = [
            [a and not b for a, b in seen],
            [b and not a for a, b in seen],
            [a and b for a, b in seen],
            [not a and not b for a, b in seen],
        ]
        print(f"| {name} | {' | '.join(map(rate, cells))} |", flush=True)


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    parts, judge = model_module.load(), load_judge()
    if ARGS.bfloat16:
        use_bfloat16(parts.model)
    print(f"euler, {ARGS.steps} steps, cfg {ARGS.cfg:g}; 95% intervals")
    for name in ARGS.what:
        {"shape": shape, "text": text, "ends": ends}[name](parts, judge)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

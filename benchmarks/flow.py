"""What a flow transformer's attention to noise says of where things end up: at which noise level, read how.

    DEMO_VARIANT=transformer python benchmarks/flow.py --comfyui DIR [--pairs 14] [--noises 16]
    python benchmarks/flow.py --comfyui DIR --table

Run with the Python of that ComfyUI. Images of two objects are drawn (euler, guided, in bfloat16) and judged.
Their noises are read before, at several noise levels t: of t * noise alone, with (1 - t) times the mean
prediction at t = 1, and after real steps of the run; every layer, softmax over all keys or the text's alone,
with and without each cell's mean over the noises subtracted, by tokens and by 2x2 of them. *Agreement*: the
correlation over an image's cells of (map of one object - map of the other) with where they are in it, minus
that with another noise's image of the same prompt. What was found is kept in demo/progress/flow.jsonl, a line
a prompt; started again, it resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--pairs", type=int, default=14)
parser.add_argument("--noises", type=int, default=16, help="of each pair")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--cfg", type=float, default=5.0)
parser.add_argument("--table", action="store_true", help="measure nothing, print what there is")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.sample
import comfy.samplers
import comfy.utils
import model as model_module
import numpy as np
import torch
from cases import conditioning, use_bfloat16
from judge import load_judge
from kept import PROGRESS, Lines
from scenes import NAMES, category, listing
from variants import chosen
from verdict import classes_of, find
from winning_tickets.probe.attention.first_step import FirstStep, SideBySide
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.attention.tokens import PromptTokens
from winning_tickets.probe.build.looking import AfterSteps, first_steps
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, make_prompts

FILE = "flow.jsonl"
FIRST_SEED, SIDE = 50_000, 256
LEVELS = (0.999, 0.99, 0.97, 0.936, 0.9, 0.8)
AFTER = (1, 2, 3, 4)


class Reading:
    """Reads noises of one prompt in every way."""

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        self.scorers = {
            "all keys": Scorer(parts.model, parts.clip, "flow.py", SIDE, SIDE),
            "text": Scorer(parts.model, parts.clip, "flow.py", SIDE, SIDE, joint=False),
        }
        own = self.scorers["all keys"]
        self.shape, self.latent = own.shape, own.latent
        self.format = parts.model.get_model_object("latent_format")

    def mean_prediction(self, prompt: PromptTokens, noise: torch.Tensor) -> torch.Tensor:
        """Of the noises at t = 1, as the model has latents [1, C, h, w]."""
        guider = SideBySide(self.parts.model)
        guider.inner_set_conds({"positive": prompt.conditioning})
        noise = noise.reshape(-1, *self.latent)
        sigmas = torch.tensor([1.0, 0.0])
        found = guider.sample(noise, torch.zeros_like(noise), FirstStep(), sigmas, seed=0, disable_pbar=True)
        return self.format.process_in(found).cpu().reshape(-1, *self.shape).mean(0, keepdim=True)

    def inputs(
        self, prompt: PromptTokens, noise: torch.Tensor
    ) -> Iterator[tuple[str, float, torch.Tensor, float]]:
        """How, at which level, latents [images, C, h, w] and the sigma that they are at."""
        mean = self.mean_prediction(prompt, noise)
        for name, base in (("0", torch.zeros_like(mean)), ("mean", mean)):
            for t in LEVELS:
                # What Scorer is given is multiplied by 1 - t.
                clean = (t * noise + (1 - t) * base) / (1 - t)
                yield name, t, self.format.process_out(clean.reshape(-1, *self.latent)), t
        for after in AFTER:
            asked = AfterSteps(after / ARGS.steps, ARGS.steps, ARGS.cfg)
            run = first_steps(self.parts.model, self.parts.clip, "flow.py", self.latent, prompt.text, asked)
            latents, sigmas, _ = run.take(noise, 0)
            yield "steps", after, latents, sigmas[0]

    def maps(
        self, prompt: PromptTokens, noise: torch.Tensor
    ) -> Iterator[tuple[tuple[Any, ...], torch.Tensor]]:
        """How they were read, and maps [images, 2, rows, columns]."""
        for base, level, latents, sigma in self.inputs(prompt, noise):
            for softmax, scorer in self.scorers.items():
                for layer, (found,) in scorer.maps([prompt], latents, sigma=sigma).items():
                    yield (base, level, softmax, str(layer)), found


def drawn(parts: Any, prompt: str, noise: torch.Tensor, latent: Sequence[int]) -> torch.Tensor:
    """Latents at model scale [images, C, h, w]."""
    noise = noise.reshape(-1, *latent)
    conds = (conditioning(parts.clip, [text] * len(noise)) for text in (prompt, ""))
    how = (parts.model, noise, ARGS.steps, ARGS.cfg, "euler", "normal", *conds, torch.zeros_like(noise))
    result = comfy.sample.sample(*how, disable_pbar=True, seed=0)
    return result.reshape(len(noise), latent[0], *latent[-2:]) * model_module.LATENT_SCALE


def pooled(maps: torch.Tensor, side: int) -> torch.Tensor:
    """[images, rows, columns] -> [images, side, side]."""
    return torch.nn.functional.adaptive_avg_pool2d(maps[:, None], side)[:, 0]


def agreement(maps: torch.Tensor, where: torch.Tensor) -> list[float]:
    """Of each image, both [images, rows, columns]; see above. NaN where nothing was drawn."""

    def standard(x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1).double()
        x = x - x.mean(1, keepdim=True)
        return x / x.norm(dim=1, keepdim=True)

    one, other = standard(maps), standard(where)
    own = (one * other).sum(1)
    others = [
        torch.stack([(one[i] * other[(i + k) % len(one)]).sum() for i in range(len(one))])
        for k in range(1, len(one))
    ]
    return [float(v) for v in own - torch.stack(others).nanmean(0)]


def measure(parts: Any, kept: Lines) -> None:
    judge, reading = load_judge(), Reading(parts)
    done = {tuple(line["names"]) for line in kept.of("agreement")}
    every = list(combinations(NAMES, 2))
    for number, names in enumerate(every[:: max(1, len(every) // ARGS.pairs)][: ARGS.pairs]):
        if names in done:
            continue
        categories = [category(name) for name in names]
        (prompt,) = reading.scorers["all keys"].encode(make_prompts(categories, JOINT))
        seeds = range(FIRST_SEED + number * ARGS.noises, FIRST_SEED + (number + 1) * ARGS.noises)
        noise = torch.cat([plain_noise(seed, reading.shape) for seed in seeds])
        classes = classes_of(judge, drawn(parts, listing(names), noise, reading.latent))
        found = [[find(of_image, NAMES.index(name) + 1) for name in names] for of_image in classes]
        where = torch.from_numpy(np.stack([a.mask.astype(float) - b.mask for a, b in found]))
        results = {}
        for how, maps in reading.maps(prompt, noise):
            difference = (maps[:, 0] - maps[:, 1]).double()
            for mean in ("kept", "taken off"):
                d = difference if mean == "kept" else difference - difference.mean(0)
                for block in (1, 2):
                    side = d.shape[-1] // block
                    values = np.array(agreement(pooled(d, side), pooled(where, side)))
                    results[json.dumps([*how, mean, block])] = [round(float(v), 4) for v in values]
        present = [[f.present for f in of_image] for of_image in found]
        kept.add(
            what="agreement",
            name=chosen()[0] or "demo",
            names=names,
            present=present,
            results=results,
            steps=ARGS.steps,
            cfg=ARGS.cfg,
        )
        print(names, f"both there {np.mean([all(p) for p in present]):.2f}", flush=True)


def tables() -> None:
    lines = [json.loads(line) for line in PROGRESS.with_name(FILE).read_text(encoding="utf-8").splitlines()]
    values: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for line in lines:
        for how, found in line["results"].items():
            both = [v for v, p in zip(found, line["present"], strict=True) if all(p)]
            values[(line["name"], *json.loads(how))] += both
    for name in sorted({key[0] for key in values}):
        mine = {key[1:]: np.array(v) for key, v in values.items() if key[0] == name}
        layers = list(dict.fromkeys(key[3] for key in mine))
        print(f"\n## {name}, {len(next(iter(mine.values())))} images in which both are there\n")
        for mean in ("kept", "taken off"):
            for block in (1, 2):
                print(f"\nEach cell's mean {mean}, blocks of {block}x{block} tokens; best layer\n")
                print("| softmax, base | " + " | ".join(f"t {t}" for t in LEVELS) + " |")
                print("| --- " * (1 + len(LEVELS)) + "|")
                for softmax in ("all keys", "text"):
                    for base in ("0", "mean"):
                        cells = [best(mine, layers, (base, t, softmax), mean, block) for t in LEVELS]
                        print(f"| {softmax}, {base} | {' | '.join(cells)} |")
                    cells = [best(mine, layers, ("steps", k, softmax), mean, block) for k in AFTER]
                    print(f"| {softmax}, after 1 to {len(AFTER)} steps | {' | '.join(cells)} |")


def best(
    values: dict[Any, np.ndarray], layers: Sequence[str], how: Sequence[Any], mean: str, block: int
) -> str:
    found = {layer: np.nanmean(values[(*how, layer, mean, block)]) for layer in layers}
    layer = max(found, key=lambda k: found[k])
    every = values[(*how, layer, mean, block)]
    error = np.nanstd(every) / np.sqrt(np.isfinite(every).sum())
    return f"{found[layer]:.2f} +- {error:.2f} ({layer})"


def main() -> None:
    if ARGS.table:
        return tables()
    comfy.utils.set_progress_bar_enabled(False)
    parts = model_module.load()
    model = fingerprint(parts.model, parts.clip).split("-")[0]
    fast = parts.model.clone()
    use_bfloat16(fast)
    measure(parts._replace(model=fast), Lines(FILE, model))
    tables()


if __name__ == "__main__":
    with torch.inference_mode():
        main()

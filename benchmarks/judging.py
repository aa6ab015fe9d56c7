"""How well a MODEL judges its own images, against the demo's trained judge, and against its attention.

    python benchmarks/judging.py --comfyui DIR [--cases 96 56 64] [--half first second] [--table]
    DEMO_VARIANT=transformer python benchmarks/judging.py --comfyui DIR --cases 48 24 24 --steps 20
        --layer "block 3"

Run with the Python of that ComfyUI; DEMO_VARIANT=NAME judges another model of `demo/variants.py`. Images of
two, three and four objects of the demo's cases are drawn of plain noise and of tickets as `demo/noises.py
--steps 10 --bfloat16` does. Each is judged by `ModelJudge`, once for the categories of its prompt and once
with one more that nobody asked for; and, to compare, by where its cross-attention goes when it is noised
again. What was measured is kept, a line for every image; started again, it is resumed. The rules were chosen
on the first half of the demo model's cases (the even ones); the second half and the variants are the test.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

HALVES = ("first", "second")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--cases", type=int, nargs=3, default=(96, 56, 64), help="of two, three and four objects")
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--layer", default="", help="of the tickets; default: the demo model's, or the first")
parser.add_argument("--half", nargs="+", default=HALVES, choices=HALVES, help="even and odd cases")
parser.add_argument("--table", action="store_true", help="measure nothing, print what there is")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.utils
import kept
import model as demo_model
import numpy as np
import torch
from cases import SHAPE, Case, Sampling, cases_of, cut, framed, prompt_of, use_bfloat16
from judge import load_judge
from kinds import FIRST_SEED, LAYER, PIXELS, RANK, plain, tickets
from scenes import CATEGORIES, NAMES, SHARED_COLOUR, category
from scipy.stats import rankdata
from verdict import Found, classes_of, find
from winning_tickets.probe.attention.first_step import SideBySide
from winning_tickets.probe.attention.reader import Reader
from winning_tickets.probe.attention.tokens import encode_prompt
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.judge import APART, ModelJudge, Noised, sigma_of
from winning_tickets.probe.model.architecture import family_of
from winning_tickets.probe.model.family import Layer
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, Prompt, make_prompts
from winning_tickets.trial.evidence import pieces, smoothed
from winning_tickets.trial.figures import interval
from winning_tickets.trial.verdict import Finding

KINDS = {"plain noise": plain, "tickets": tickets(RANK)}
SETS = dict(zip(("two", "three", "four"), ARGS.cases, strict=True))
CHUNK = 8
NOISES = 32
# Where attention says most of a finished image: t = 300 of 1,000.
QUIET = 0.83
# Of the noise that both candidates add.
NOISE = 7
SEED = NOISE ^ APART


def file_of(parts: Any) -> Path:
    weights = fingerprint(parts.model, parts.clip).split("-")[0]
    return kept.PROGRESS.with_name(f"judging-{weights}.jsonl")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def asked(names: Sequence[str]) -> Prompt:
    return make_prompts([category(n) for n in names], JOINT)[0]


def foreign(case: Case, number: int) -> str:
    """A concept that is not in the case, each in its turn."""
    others = [n for n in NAMES if n not in case.names]
    return others[number % len(others)]


def attention(
    parts: Any, layers: Sequence[Layer], case: Case, latent: torch.Tensor
) -> dict[str, list[Finding]]:
    """By layer, and by all of them: own minus the others' attention of the image with a little noise."""
    family = family_of(parts.model)
    prompt = encode_prompt(parts.clip, asked(case.names))
    reader = Reader(family, layers, 1, *latent.shape[-2:], stop=False)
    guider = SideBySide(reader.attach(parts.model))
    guider.inner_set_conds({"positive": prompt.conditioning})
    key = guider.original_conds["positive"][0]["uuid"]
    reader.prompts = {key: prompt}
    sigma = sigma_of(parts.model.get_model_object("model_sampling"), QUIET)
    noise, latent = framed(parts, plain_noise(NOISE, SHAPE)), framed(parts, latent)
    guider.sample(noise, latent, Noised(), torch.tensor([sigma, 0.0]), disable_pbar=True, seed=0)
    size = SHAPE[1:]
    maps = {
        str(layer): torch.nn.functional.interpolate(m.float(), size, mode="bilinear")[0].numpy()
        for (_, layer), m in reader.maps.items()
    }
    spread = [(m - m.mean((1, 2), keepdims=True)) / m.std((1, 2), keepdims=True) for m in maps.values()]
    maps["all"] = np.mean(spread, 0)
    return {name: own_minus_others(m) for name, m in maps.items()}


def own_minus_others(maps: np.ndarray) -> list[Finding]:
    """Always there: attention has no scale that says when not. confidence: its mean in the mask."""
    result = []
    for i, own in enumerate(maps):
        left = smoothed(np.maximum(own - np.delete(maps, i, 0).max(0), 0))
        mask = pieces(left)
        result.append(Finding(mask, float(left[mask].mean()) if mask.any() else 0.0, bool(mask.any())))
    return result


def compared(found: Finding, truth: Found) -> float | None:
    if not (found.present and truth.present):
        return None
    return round(float((found.mask & truth.mask).sum() / (found.mask | truth.mask).sum()), 4)


def judged(found: Finding, truth: Found, box: Sequence[float]) -> dict[str, Any]:
    """What is kept of one method's verdict on an object."""
    as_found = Found(found.mask, int(found.present))
    return {
        "present": bool(found.present),
        "inside": bool(as_found.inside(box)),
        "iou": round(as_found.iou(box), 4) if found.present else 0.0,
        "overlap": compared(found, truth),
        "confidence": round(found.confidence, 5),
    }


def measure(parts: Any, judge: ModelJudge, name: str, kind: str, numbers: Sequence[int], bank: Any) -> Any:
    """Draw and judge some cases."""
    cases = [cases_of(name)[i] for i in numbers]
    made = (KINDS[kind].make(parts, bank, c, FIRST_SEED + i) for i, c in zip(numbers, cases, strict=True))
    latents = cut(parts, HOW, [prompt_of(c) for c in cases], torch.cat(list(made)), "sampling")
    maps = classes_of(load_judge(), latents)
    latents = latents / demo_model.LATENT_SCALE
    began = time.process_time()
    every = judge.find([asked(case.names) for case in cases], framed(parts, latents), SEED)
    seconds = (time.process_time() - began) / len(cases)
    more = {i: foreign(case, i) for i, case in zip(numbers, cases, strict=True) if i % 4 < 2}
    extended = [asked((*c.names, more[i])) for i, c in zip(numbers, cases, strict=True) if i in more]
    chosen = [at for at, i in enumerate(numbers) if i in more]
    extra = (
        dict(zip(more, judge.find(extended, framed(parts, latents[chosen]), SEED), strict=True))
        if more
        else {}
    )
    layers = family_of(parts.model).layers
    for at, (i, case, found) in enumerate(zip(numbers, cases, every, strict=True)):
        truth = [find(maps[at], NAMES.index(n) + 1) for n in case.names]
        by_attention = attention(parts, layers, case, latents[at : at + 1])
        objects = []
        for k, (concept, true, box) in enumerate(zip(case.names, truth, case.boxes, strict=True)):
            pairs = [p for p in SHARED_COLOUR if concept in p and len(set(p) & set(case.names)) == 2]
            objects.append(
                {
                    "name": concept,
                    "shared": bool(pairs),
                    "true": {
                        "present": bool(true.present),
                        "inside": bool(true.inside(box)),
                        "iou": round(true.iou(box), 4) if true.present else 0.0,
                    },
                    "model": judged(found[k], true, box),
                    **{f"attention {n}": judged(v[k], true, box) for n, v in by_attention.items()},
                }
            )
        yield {
            "set": name,
            "kind": kind,
            "case": i,
            "seconds": round(seconds, 2),
            "objects": objects,
            "foreign": asked_for_nothing(extra[i][-1], maps[at], more[i]) if i in more else None,
        }


def asked_for_nothing(found: Finding, classes: np.ndarray, name: str) -> dict[str, Any]:
    """Of a concept that is not in the prompt."""
    return {
        "name": name,
        "true": bool(find(classes, NAMES.index(name) + 1).present),
        "present": bool(found.present),
        "confidence": round(found.confidence, 5),
    }


HOW = Sampling(ARGS.steps, 5.0, "euler", 0.5)


def run(parts: Any, path: Path) -> None:
    layers = [str(layer) for layer in family_of(parts.model).layers]
    layer = ARGS.layer or (LAYER if LAYER in layers else layers[0])
    bank = collect(parts.model, parts.clip, CollectRequest(CATEGORIES, NOISES, 0, PIXELS, PIXELS, layer))
    use_bfloat16(parts.model)
    judge = ModelJudge(parts.model, parts.clip, "judging.py", PIXELS, PIXELS)
    path.parent.mkdir(exist_ok=True)
    for half in ARGS.half:
        for name, count in SETS.items():
            for kind in KINDS:
                done = {x["case"] for x in lines(path) if (x["set"], x["kind"]) == (name, kind)}
                wanted = range(HALVES.index(half), min(count, len(cases_of(name))), 2)
                missing = [i for i in wanted if i not in done]
                for at in range(0, len(missing), CHUNK):
                    for line in measure(parts, judge, name, kind, missing[at : at + CHUNK], bank):
                        with path.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(line) + "\n")
                print(half, name, kind, len(wanted), flush=True)


def kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Cohen's: agreement beyond that of chance."""
    chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return float(((one == other).mean() - chance) / (1 - chance)) if chance < 1 else float("nan")


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """How often one that is there has the higher score than one that is not."""
    ranks, n = rankdata(scores), int(truth.sum())
    below = n * (len(truth) - n)
    return float((ranks[truth].sum() - n * (n + 1) / 2) / below) if below else float("nan")


def resampled(images: Sequence[Any], figure: Callable[[Sequence[Any]], float]) -> tuple[float, float]:
    """95% interval by the bootstrap over images, whose objects are not independent."""
    rng = np.random.default_rng(0)
    drawn = [figure([images[i] for i in rng.integers(0, len(images), len(images))]) for _ in range(400)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def column(images: Sequence[Any], who: str, what: str) -> np.ndarray:
    return np.array([o[who][what] for x in images for o in x["objects"]])


def row(label: str, images: Sequence[Any], who: str = "model") -> str:
    """Accuracy and kappa of `present and inside`, presence, overlap of the masks, and IoU with the box."""
    true, own = column(images, "true", "inside"), column(images, who, "inside")
    there, seen = column(images, "true", "present"), column(images, who, "present")

    def agreed(some: Sequence[Any]) -> float:
        return float((column(some, "true", "inside") == column(some, who, "inside")).mean())

    def beyond(some: Sequence[Any]) -> float:
        return kappa(column(some, "true", "inside"), column(some, who, "inside"))

    def part(values: np.ndarray) -> str:
        low, high = interval(int(values.sum()), len(values))
        return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]" if len(values) else "-"

    overlaps = [v for v in column(images, who, "overlap") if v is not None]
    boxes = np.corrcoef(column(images, "true", "iou"), column(images, who, "iou"))[0, 1]
    agreement, chance = resampled(images, agreed), resampled(images, beyond)
    cells = [
        label,
        str(len(true)),
        f"{(true == own).mean():.3f} [{agreement[0]:.3f}, {agreement[1]:.3f}]",
        f"{kappa(true, own):.3f} [{chance[0]:.3f}, {chance[1]:.3f}]",
        part(seen[there]),
        part(~seen[~there]),
        f"{auc(column(images, who, 'confidence'), there):.3f}",
        f"{np.mean(overlaps):.3f}",
        f"{boxes:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


HEADS = (
    *("images", "objects", "in its box or not: accuracy", "kappa", "sensitivity to presence", "specificity"),
    *("AUC of presence", "overlap of masks", "r of IoU with the box"),
)


def tables(images: Sequence[Any]) -> Iterator[str]:
    yield f"| {' | '.join(HEADS)} |\n" + "| --- " * len(HEADS) + "|"
    for number, half in enumerate(HALVES):
        if some := [x for x in images if x["case"] % 2 == number]:
            yield row(f"{half} half", some)
    for name in SETS:
        for kind in KINDS:
            if some := [x for x in images if (x["set"], x["kind"]) == (name, kind)]:
                yield row(f"{name}, {kind}", some)
    for shared, label in ((True, "pairs of one colour"), (False, "others")):
        some = [{**x, "objects": [o for o in x["objects"] if o["shared"] == shared]} for x in images]
        if some := [x for x in some if x["objects"]]:
            yield row(label, some)
    yield row("all", images)
    for who in images[0]["objects"][0]:
        if who.startswith("attention"):
            yield row(who, images, who)
    foreigners = [x["foreign"] for x in images if x["foreign"]]
    absent = [f["present"] for f in foreigners if not f["true"]]
    low, high = interval(sum(absent), len(absent))
    yield f"\nAnother category, absent from {len(absent)} images: found in {sum(absent)}"
    yield f"[{low:.3f}, {high:.3f}]."
    wrong: dict[str, int] = {}
    for o in (o for x in images for o in x["objects"]):
        wrong[o["name"]] = wrong.get(o["name"], 0) + (o["true"]["inside"] != o["model"]["inside"])
    yield "Disagreements by concept: " + ", ".join(f"{k} {v}" for k, v in sorted(wrong.items()))
    yield f"{np.mean([x['seconds'] for x in images]):.2f} CPU s an image."


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    parts = demo_model.load()
    path = file_of(parts)
    judge = ModelJudge(parts.model, parts.clip, "judging.py", PIXELS, PIXELS)
    if not ARGS.table:
        run(parts, path)
    print(f"Forwards an image: {', '.join(f'{k} categories {judge.nfe(k)}' for k in (2, 3, 4))}.")
    print("\n".join(tables(lines(path))))


if __name__ == "__main__":
    with torch.inference_mode():
        main()

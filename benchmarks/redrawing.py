"""Redraw Noise in Region: how much of the rest stays, and how often what was wrong comes right.

    [DEMO_VARIANT=NAME] python benchmarks/redrawing.py --comfyui DIR [--cases 200] [--layer NAME]
    python benchmarks/redrawing.py --comfyui DIR --table

Run with the Python of that ComfyUI. Images of two objects from plain noise, 10 euler steps, cfg 5, half
guided, in bfloat16, by the trained judge; those in which exactly one object stands in its box. Then the other
one's box, with a margin, is drawn anew: once, as the best of 8 by the first step or after two steps, or with
tickets. *Comes right*: it stands in its box now; *stays*: the one that stood well still does. What was found
is kept in demo/progress/redrawing.jsonl, a line each; started again, it resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--cases", type=int, default=200, help="with exactly one object in its box")
parser.add_argument("--layer", default="input 3", help="by which noise is looked at")
parser.add_argument("--table", action="store_true", help="measure nothing, print what there is")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.utils
import model as model_module
import torch
from cases import SHAPE, Case, Outcome, Sampling, cases_of, use_bfloat16
from kept import PROGRESS, Lines
from kinds import PIXELS, RANK, layout_for, regions_of
from scenes import CATEGORIES
from variants import chosen
from winning_tickets.probe.build.build import PlaceRequest, pick_noise
from winning_tickets.probe.build.looking import AfterSteps
from winning_tickets.probe.build.redraw import RedrawnNoise
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.probe.noise.forms import PlainNoise, ticket_noise
from winning_tickets.tickets.layout.redraw import redrawn_share
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.trial.figures import paired, share

FILE = "redrawing.jsonl"
FIRST_SEED, NOISES, CANDIDATES, MARGIN = 90_000, 32, 8, 1 / 16
HOW = Sampling(10, 5.0, "euler", 0.5)
AT_ONCE = 16
EMPTY = {"samples": torch.zeros(1, *SHAPE)}


def around(box: tuple[float, ...]) -> tuple[Region, ...]:
    x0, y0, x1, y1 = box
    sides = max(0.0, x0 - MARGIN), max(0.0, y0 - MARGIN), min(1.0, x1 + MARGIN), min(1.0, y1 + MARGIN)
    return (Region("here", *sides),)


def makers(parts: Any, bank: Any, case: Case, seed: int, wrong: int) -> dict[str, Any]:
    """How the noise [1, C, h, w] is drawn anew around the box of object `wrong`."""
    place = around(case.boxes[wrong])

    def redrawn(edge: int = 0, fill: Any = None) -> RedrawnNoise:
        return RedrawnNoise(PlainNoise(seed), place, seed + 1_000_000, edge, fill)

    def picked(after: AfterSteps | None) -> torch.Tensor:
        request = PlaceRequest(regions_of(case), PIXELS, PIXELS, seed, 1, CANDIDATES, 0, ARGS.layer)
        result = pick_noise(parts.model, parts.clip, replace(request, after=after), redrawn())
        return result.noise.generate_noise(result.empty)

    tickets = ticket_noise(layout_for(bank, case, RANK), seed + 2_000_000, "redrawing.py")
    return {
        "another seed": lambda: PlainNoise(seed + 1_000_000).generate_noise(EMPTY),
        "once": lambda: redrawn().generate_noise(EMPTY),
        "once, soft edge of 3": lambda: redrawn(3).generate_noise(EMPTY),
        "best of 8, first step": partial(picked, None),
        "best of 8, after 2 steps": partial(picked, AfterSteps(0.2, 10, 5.0)),
        "tickets": lambda: redrawn(0, tickets).generate_noise(EMPTY),
    }


def rms(one: torch.Tensor) -> float:
    return float(one.square().mean().sqrt())


def measure(parts: Any, bank: Any, kept: Lines) -> None:
    cases = cases_of("two")
    done = {x["number"] for x in kept.of("case")}
    found = sum(x["wrong"] is not None for x in kept.of("case"))
    for start_at in range(0, 10**6, AT_ONCE):
        if found >= ARGS.cases:
            return
        numbers = [n for n in range(start_at, start_at + AT_ONCE) if n not in done]
        if not numbers:
            continue
        some = [cases[n % len(cases)] for n in numbers]
        noise = torch.cat([PlainNoise(FIRST_SEED + n).generate_noise(EMPTY) for n in numbers])
        before = Outcome(parts, HOW, some, noise)
        for number, case, objects, latent in zip(numbers, some, before.found, before.latents, strict=True):
            right = [f.inside(b) for f, b in zip(objects, case.boxes, strict=True)]
            wrong = right.index(False) if sum(right) == 1 else None
            if wrong is not None:
                found += 1
                redraw(parts, bank, kept, number, case, wrong, latent)
            kept.add(what="case", name=chosen()[0] or "demo", number=number, wrong=wrong)


def redraw(
    parts: Any, bank: Any, kept: Lines, number: int, case: Case, wrong: int, latent: torch.Tensor
) -> None:
    made = makers(parts, bank, case, FIRST_SEED + number, wrong)
    noise = torch.cat([make() for make in made.values()])
    after = Outcome(parts, HOW, [case] * len(made), noise)
    _, height, width = SHAPE
    new = redrawn_share(around(case.boxes[wrong]), height, width, 0) > 0
    changes = [(one - latent) for one in after.latents]
    other = changes[list(made).index("another seed")]
    for name, objects, change in zip(made, after.found, changes, strict=True):
        right = [f.inside(b) for f, b in zip(objects, case.boxes, strict=True)]
        kept.add(
            what=name,
            name=chosen()[0] or "demo",
            number=number,
            right=right[wrong],
            stays=right[1 - wrong],
            rest=round(rms(change[:, ~new]) / rms(other[:, ~new]), 3),
            inside=round(rms(change[:, new]) / rms(other[:, new]), 3),
        )


def tables() -> None:
    """Every row; won and lost against the row it is compared with, by both in place and by what stays."""
    found: dict[str, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for line in map(json.loads, PROGRESS.with_name(FILE).read_text(encoding="utf-8").splitlines()):
        if line["what"] != "case":
            found[line["name"]][line["what"]][line["number"]] = line
    for name, rows in found.items():
        print(f"\n## {name}\n")
        print("| drawn anew | n | comes right | stays | both | rest, of another seed's | inside | beside |")
        print("| --- " * 8 + "|")
        for what, by_case in rows.items():
            xs = list(by_case.values())
            right, stays, both = (
                share([ask(x) for x in xs]).split(" (")[0] for ask in (_right, _stays, _both)
            )
            rest, inner = (sum(x[k] for x in xs) / len(xs) for k in ("rest", "inside"))
            print(
                f"| {what} | {len(xs)} | {right} | {stays} | {both} | {rest:.2f} | {inner:.2f}"
                f" | {_beside(rows, what)} |"
            )


def _right(line: dict[str, Any]) -> bool:
    return bool(line["right"])


def _stays(line: dict[str, Any]) -> bool:
    return bool(line["stays"])


def _both(line: dict[str, Any]) -> bool:
    return _right(line) and _stays(line)


BESIDE = {
    "once": "another seed",
    "once, soft edge of 3": "once",
    "best of 8, first step": "once",
    "best of 8, after 2 steps": "best of 8, first step",
    "tickets": "once",
}


def _beside(rows: dict[str, dict[int, Any]], what: str) -> str:
    if what not in BESIDE:
        return ""
    other = rows[BESIDE[what]]
    texts = []
    for name, ask in (("both", _both), ("stays", _stays)):
        two = paired([(ask(x), ask(other[number])) for number, x in rows[what].items() if number in other])
        texts.append(f"{name} {two.won} : {two.lost}, p {two.p:.2g}")
    return f"{BESIDE[what]}: {'; '.join(texts)}"


def main() -> None:
    if ARGS.table:
        return tables()
    comfy.utils.set_progress_bar_enabled(False)
    parts = model_module.load()
    kept = Lines(FILE, fingerprint(parts.model, parts.clip).split("-")[0])
    request = CollectRequest(CATEGORIES, NOISES, 0, PIXELS, PIXELS, ARGS.layer)
    bank = collect(parts.model, parts.clip, request)
    fast = parts.model.clone()
    use_bfloat16(fast)
    measure(parts._replace(model=fast), bank, kept)
    tables()


if __name__ == "__main__":
    with torch.inference_mode():
        main()

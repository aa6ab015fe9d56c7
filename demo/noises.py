"""Which initial noise puts things where they are asked for: every kind, with controls and intervals.

    python demo/noises.py --comfyui DIR [--sets two three] [--kinds NAME ...] [--cases 216] [--table]
                          [--steps 20] [--bfloat16] [--pack] [--fits] [--again]

Run with the Python of that ComfyUI. What was measured is kept, a line for every image; started
again, it goes on from there. Prints the table of all there is, the results in the repository included:
--steps 10 --bfloat16 --table prints those. --again draws what was measured once more, with the code as it is
now, and compares both case by case.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import start

CHUNK = 16


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    start.add_option(parser)
    parser.add_argument("--sets", nargs="+", default=["two"], help="two, unequal, three, four")
    parser.add_argument("--kinds", nargs="+", help="only kinds of these names, in this order (default: all)")
    parser.add_argument("--cases", type=int, default=1000, help="so many of each set (default: all)")
    parser.add_argument("--steps", type=int, default=20, help="of which the first half is guided")
    parser.add_argument("--bfloat16", action="store_true", help="run the UNet in bfloat16")
    parser.add_argument("--pack", action="store_true", help="put all results into demo/noises.jsonl")
    parser.add_argument("--table", action="store_true", help="measure nothing, print what there is")
    parser.add_argument("--again", action="store_true", help="compare with what was measured before")
    parser.add_argument("--fits", action="store_true", help="only how often noise of which fit succeeded")
    return parser.parse_args()


ARGS = parse()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.utils
import kept
import model as model_module
import torch
from cases import SETS, SHAPE, Case, Outcome, Sampling, cases_of, layout_of, use_bfloat16
from kinds import FIRST_SEED, KINDS, LAYER, PAIRS, PIXELS, RANK, Kind, layout_for
from scenes import CATEGORIES
from verdict import drawn_iou
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.model.family import find_layers
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.probe.model.unet import UNet
from winning_tickets.tickets.bank.file import load_bank, save_bank
from winning_tickets.tickets.prompts import JOINT, make_prompts
from winning_tickets.tickets.score import paper_score
from winning_tickets.tickets.search.fit import fit
from winning_tickets.trial.figures import Paired, share

NOISES = 128
FITTED = (
    "plain noise",
    "tickets, the paper's thresholds",
    "tickets",
    "tickets, best of 8, 3 rounds",
    "block swap, 3 rounds, best of 8",
)


def weights_of(parts: Any) -> str:
    """The model by its weights."""
    return fingerprint(parts.model, parts.clip).split("-")[0]


def the_bank(parts: Any) -> Any:
    """All pairs of the twelve concepts on 128 noises; kept beside the results."""
    path = kept.PROGRESS.with_name(f"bank-{weights_of(parts)}.safetensors")
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        save_bank(
            collect(parts.model, parts.clip, CollectRequest(CATEGORIES, NOISES, 0, 256, 256, LAYER)), path
        )
    return load_bank(path)


HOW = {"steps": ARGS.steps, "bfloat16": ARGS.bfloat16}


def measure(
    parts: Any, bank: Any, name: str, kind: Kind, numbers: Sequence[int], cases: Sequence[Case]
) -> None:
    """Draw, judge and keep some cases of a set."""
    how = Sampling(ARGS.steps, 5.0, kind.sampler, 0.5)
    noise = torch.cat([kind.maker.make(parts, bank, cases[i], FIRST_SEED + i) for i in numbers])
    result = Outcome(parts, how, [cases[i] for i in numbers], noise, kind.prompt)
    entries = []
    for at, i in enumerate(numbers):
        found = result.found[at]
        boxes = zip(found, cases[i].boxes, strict=True)
        entry = {
            "model": bank.recipe.fingerprint.split("-")[0],
            **HOW,
            "set": name,
            "kind": kind.name,
            "case": i,
            "hit": result.hits()[at],
            "swapped": result.hits(swapped=True)[at],
            "present": result.present()[at],
            "iou": round(sum(f.iou(box) for f, box in boxes) / len(found), 4),
            "shared_colour": cases[i].shared_colour,
        }
        entries.append(entry)
    kept.add(entries)


def again(parts: Any, bank: Any, name: str, kind: Kind, found: dict[int, dict[str, Any]]) -> str:
    """A line: the cases that were measured before, drawn once more; nothing is kept."""
    cases = cases_of(name)
    numbers = [i for i in sorted(found) if i < ARGS.cases]
    how = Sampling(ARGS.steps, 5.0, kind.sampler, 0.5)
    hits: list[bool] = []
    for at in range(0, len(numbers), CHUNK):
        part = numbers[at : at + CHUNK]
        noise = torch.cat([kind.maker.make(parts, bank, cases[i], FIRST_SEED + i) for i in part])
        hits += Outcome(parts, how, [cases[i] for i in part], noise, kind.prompt).hits()
    before = [bool(found[i]["hit"]) for i in numbers]
    won, lost = (sum(a != b and a == new for a, b in zip(hits, before, strict=True)) for new in (True, False))
    p = Paired(won, lost, len(hits)).p
    return f"| {name} | {kind.name} | {without_n(before)} | {without_n(hits)} | {won} : {lost} (p {p:.2g}) |"


def without_n(values: Sequence[bool]) -> str:
    return share(values).split(" (")[0]


def row(name: str, kind: Kind, found: dict[int, dict[str, Any]], look: float) -> str:
    """A line of a set's table. look: the share of a forward that it takes."""
    every = list(found.values())
    shared, other = ([e["hit"] for e in every if e["shared_colour"] == s] for s in (True, False))
    cases = cases_of(name)
    by_layout = [
        [e["hit"] for i, e in found.items() if layout_of(name, cases[i]) == layout] for layout in SETS[name]
    ]
    parts = [
        kind.name,
        str(len(every)),
        f"{kind.maker.looks * look:.1f}" if kind.maker.looks else "0",
        without_n([e["hit"] for e in every]),
        without_n([e["swapped"] for e in every]),
        f"{sum(e['iou'] for e in every) / len(every):.3f}",
        without_n([e["present"] for e in every]),
        *(without_n(hits) if hits else "-" for hits in (shared, other)),
        *(without_n(hits) if hits else "-" for hits in by_layout if len(by_layout) > 1),
    ]
    return "| " + " | ".join(parts) + " |"


def most_iou(name: str) -> float:
    """Of a set's cases, when all objects overlap their boxes as much as ones of their shape can."""
    every = [
        drawn_iou(n, box) for case in cases_of(name) for n, box in zip(case.names, case.boxes, strict=True)
    ]
    return sum(every) / len(every)


def paired(name: str, found: kept.Found) -> Iterator[str]:
    """Lines that compare two kinds on the very same cases and seeds, by the sign test."""
    for one, other in PAIRS:
        a, b = found.get((name, one), {}), found.get((name, other), {})
        both = a.keys() & b.keys()
        won, lost = (sum(x[i]["hit"] > y[i]["hit"] for i in both) for x, y in ((b, a), (a, b)))
        if won + lost:
            p = Paired(won, lost, len(both)).p
            yield f"| {one} | {other} | {len(both)} | {won} | {lost} | {p:.2g} |"


def tables(found: kept.Found, look: float) -> None:
    for name in dict.fromkeys(key[0] for key in found):
        most = most_iou(name)
        print(f"\n## {name}; mean IoU of drawings that overlap their boxes as much as can be: {most:.3f}")
        cases = cases_of(name)
        count = sum(case.shared_colour for case in cases)
        heads = [
            *("noise", "n", "forwards to look", "in their own boxes", "in each other's", "mean IoU"),
            *("all present", f"shared colour ({count})", f"others ({len(cases) - count})"),
            *(SETS[name] if len(SETS[name]) > 1 else ()),
        ]
        print(f"\n| {' | '.join(heads)} |\n" + "| --- " * len(heads) + "|")
        for kind in KINDS:
            if (name, kind.name) in found:
                print(row(name, kind, found[name, kind.name], look))
        print("\n| A | B | cases | only B succeeds | only A | p |")
        print("| --- | --- | --- | --- | --- | --- |")
        print("\n".join(paired(name, found)))


def fits(parts: Any, bank: Any, found: kept.Found) -> None:
    """How many images succeeded by the fit of their noise, of kinds that plain noise and layouts have.

    The noise is made anew, as it was when its image was drawn.
    """
    scorer = Scorer(parts.model, parts.clip, "noises.py", PIXELS, PIXELS, LAYER)
    by_fit: dict[int, list[bool]] = defaultdict(list)
    for name in ARGS.sets:
        for i, case in enumerate(cases_of(name)[: ARGS.cases]):
            layout = layout_for(bank, case, RANK)
            prompts = scorer.encode(make_prompts(layout.categories, JOINT))
            for kind in (k for k in KINDS if k.name in FITTED):
                if entry := found.get((name, kind.name), {}).get(i):
                    noise = kind.maker.make(parts, bank, case, FIRST_SEED + i)
                    (maps,) = scorer.blocks(prompts, noise, layout.grid)
                    value = fit(paper_score(maps), layout.groups())
                    by_fit[min(max(math.floor(10 * float(value)), -1), 4)].append(entry["hit"])
    print("| fit | images | in their own boxes |\n| --- | --- | --- |")
    for tenth, hits in sorted(by_fit.items()):
        from_, to = tenth / 10, (tenth + 1) / 10
        text = f"below {to:.0f}" if tenth < 0 else f"above {from_}" if tenth == 4 else f"{from_} to {to}"
        print(f"| {text} | {len(hits)} | {without_n(hits)} |")


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    parts = model_module.load()
    about = {"model": weights_of(parts), **HOW}
    family = UNet(parts.model)
    (layer,) = find_layers(family, LAYER)
    look = family.share(layer, *SHAPE[1:])
    if ARGS.fits:
        if ARGS.bfloat16:
            use_bfloat16(parts.model)
        fits(parts, the_bank(parts), kept.load(about))
        return
    if ARGS.again:
        if ARGS.bfloat16:
            use_bfloat16(parts.model)
        bank, known = the_bank(parts), kept.load(about)
        print("| set | noise | before | now | only now : only before |\n| --- | --- | --- | --- | --- |")
        for name in ARGS.sets:
            for kind in (k for k in KINDS if k.name in (ARGS.kinds or [k.name])):
                print(again(parts, bank, name, kind, known[name, kind.name]), flush=True)
        return
    if not ARGS.table:
        bank = the_bank(parts)
        by_name = {kind.name: kind for kind in KINDS}
        if ARGS.bfloat16:
            use_bfloat16(parts.model)
        for name in ARGS.sets:
            cases = cases_of(name)[: ARGS.cases]
            for kind in (by_name[k] for k in ARGS.kinds or by_name):
                done = kept.load(about)[name, kind.name]
                missing = [i for i in range(len(cases)) if i not in done]
                for at in range(0, len(missing), CHUNK):
                    measure(parts, bank, name, kind, missing[at : at + CHUNK], cases)
                print(row(name, kind, kept.load(about)[name, kind.name], look), flush=True)
    found = kept.load(about)
    if ARGS.pack:
        kept.pack(about, found)
    tables(found, look)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

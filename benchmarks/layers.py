"""Which layer makes the tickets that work, which judges a noise best, and which one `auto` chooses.

    python benchmarks/layers.py --comfyui DIR [--what tickets looks choices agreement] [--cases 56] [--table]

Run with the Python of that ComfyUI; DEMO_VARIANT chooses another model than the demo's. What was measured is
kept in demo/progress/layers.jsonl, a line each; started again, it resumes. 10 euler steps, cfg 5, half
guided, in bfloat16; judged by the trained judge.

tickets: every layer's own bank, its tickets in the cases of two objects. looks: of 16 plain seeds, the one
with the best fit at each layer. choices: the layer that `auto` chooses, without what it remembers, for
several seeds and sets of categories. agreement: effect and agreement of every layer as Ticket Layer Report
shows them, beside what its tickets achieved.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

WHAT = ("tickets", "looks", "choices", "agreement")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
parser.add_argument("--cases", type=int, default=56)
parser.add_argument("--noises", type=int, default=32, help="of each layer's bank; the node's default")
parser.add_argument("--table", action="store_true", help="measure nothing, print what there is")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.utils
import model as model_module
import torch
from cases import SHAPE, Outcome, Sampling, cases_of, use_bfloat16
from kept import Lines
from kinds import PIXELS, RANK, layout_for, regions_of
from scenes import CATEGORIES
from variants import chosen
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.layers.choose import look
from winning_tickets.probe.layers.probe import LayerProbe
from winning_tickets.probe.layers.remembered import RULE
from winning_tickets.probe.model.family import Layer
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.tickets.grid import Grid
from winning_tickets.tickets.layers.figures import LayerWorth, Tried, recommended
from winning_tickets.tickets.layout.regions import assign_cells, by_category
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, make_prompts
from winning_tickets.tickets.score import paper_score
from winning_tickets.tickets.search.fit import fit
from winning_tickets.trial.figures import share

FIRST_SEED, CANDIDATES = 30_000, 16
NEAR = 0.08
"""Of the best layer's success, how far below it the chosen layer's may lie."""
PRESENT = 0.05
"""How far presence may lie below plain noise's."""
HOW = Sampling(10, 5.0, "euler", 0.5)


def layers_of(parts: Any) -> list[Layer]:
    return LayerProbe(parts.model, parts.clip, CATEGORIES[:2], 2, 0, PIXELS, PIXELS).layers


def fast(parts: Any) -> Any:
    """Parts whose UNet runs in bfloat16."""
    model = parts.model.clone()
    use_bfloat16(model)
    return parts._replace(model=model)


def _tickets(kept: Lines) -> list[dict[str, Any]]:
    """Of banks of so many noises; plain noise has none."""
    return [x for x in kept.of("tickets") if x["layer"] == "none" or x.get("noises") == ARGS.noises]


def tickets(parts: Any, kept: Lines) -> None:
    cases = cases_of("two")[: ARGS.cases]
    done = {(x["layer"], x["case"]) for x in _tickets(kept)}
    for layer in ["none", *map(str, layers_of(parts))]:
        missing = [i for i in range(len(cases)) if (layer, i) not in done]
        if not missing:
            continue
        some = [cases[i] for i in missing]
        if layer == "none":
            noise = torch.cat([plain_noise(FIRST_SEED + i, SHAPE) for i in missing])
        else:
            request = CollectRequest(CATEGORIES, ARGS.noises, 0, PIXELS, PIXELS, layer)
            bank = collect(parts.model, parts.clip, request)
            layouts = [layout_for(bank, case, RANK) for case in some]
            noise = torch.cat(
                [layout.build(FIRST_SEED + i) for i, layout in zip(missing, layouts, strict=True)]
            )
        found = Outcome(fast(parts), HOW, some, noise)
        iou = [
            sum(f.iou(b) for f, b in zip(fs, c.boxes, strict=True)) / len(fs)
            for fs, c in zip(found.found, some, strict=True)
        ]
        figures = zip(missing, found.hits(), found.hits(swapped=True), found.present(), iou, strict=True)
        for case, hit, swapped, present, overlap in figures:
            kept.add(
                what="tickets",
                layer=layer,
                noises=ARGS.noises,
                case=case,
                hit=hit,
                swapped=swapped,
                present=present,
                iou=round(overlap, 3),
            )
        print(layer, found, flush=True)


def looks(parts: Any, kept: Lines) -> None:
    scorer = Scorer(parts.model, parts.clip, "layers.py", PIXELS, PIXELS, layers_of(parts))
    grids = {layer: Grid(*SHAPE[1:], scorer.family.stride(layer)) for layer in scorer.layers}
    done = {x["case"] for x in kept.of("looks")}
    for i, case in enumerate(cases_of("two")[: ARGS.cases]):
        if i in done:
            continue
        regions = regions_of(case)
        noise = torch.cat([plain_noise(FIRST_SEED + 1000 * (k + 1) + i, SHAPE) for k in range(CANDIDATES)])
        prompts = scorer.encode(make_prompts([r.category for r in regions], JOINT))
        maps = scorer.maps(prompts, noise)
        fits = {}
        for layer, grid in grids.items():
            cells = by_category(regions, assign_cells(regions, *grid.exact))
            scores = paper_score(grid.pool(maps[layer][0], grid.block))
            fits[str(layer)] = [round(x, 4) for x in fit(scores, cells).tolist()]
        found = Outcome(fast(parts), HOW, [case] * CANDIDATES, noise)
        kept.add(what="looks", case=i, fits=fits, hits=found.hits(), present=found.present())


def sets() -> list[tuple[str, ...]]:
    """Ten sets of two to eight categories."""
    order = random.Random("layers")
    return [tuple(order.sample(CATEGORIES, k)) for k in (2, 2, 2, 3, 3, 4, 5, 6, 7, 8)]


def _choices(kept: Lines) -> list[dict[str, Any]]:
    """By the rule as it is."""
    return [x for x in kept.of("choices") if x.get("rule") == RULE]


def choices(parts: Any, kept: Lines) -> None:
    every = [(seed, CATEGORIES[:8]) for seed in range(6)] + [(seed, s) for seed, s in enumerate(sets())]
    done = {(x["seed"], tuple(x["categories"])) for x in _choices(kept)}
    for seed, categories in every:
        if (seed, categories) in done:
            continue
        probe, worths, cost = look(fast(parts).model, parts.clip, categories, (PIXELS, PIXELS), seed)
        found = {str(w.layer): [round(w.effect, 3), round(w.error, 3)] for w in worths}
        tried = {str(w.layer): list(asdict(w.tried).values()) for w in worths if w.tried}
        best = str(recommended(worths).layer)
        kept.add(
            what="choices",
            rule=RULE,
            seed=seed,
            categories=categories,
            effect=found,
            tried=tried,
            chosen=best,
            nfe=round(cost),
        )
        print(seed, len(categories), best, tried, round(cost), flush=True)


def agreements(parts: Any, kept: Lines) -> None:
    if kept.of("agreement"):
        return
    probe = LayerProbe(fast(parts).model, parts.clip, CATEGORIES, 16, 0, PIXELS, PIXELS)
    for w in probe.agreement(probe.effect(), 4, 20, 5.0):
        figures = {k: round(getattr(w, k), 4) for k in ("effect", "error", "agreement", "chance")}
        kept.add(what="agreement", layer=str(w.layer), **figures)


def tables(kept: Lines) -> None:
    print(
        f"\n## {chosen()[0] or 'demo model'}\n\n| layer | n | in their own boxes | mean IoU | both present |"
    )
    print("| --- | --- | --- | --- | --- |")
    by_layer = defaultdict(list)
    for x in _tickets(kept):
        by_layer[x["layer"]].append(x)
    for layer, xs in by_layer.items():
        hits, present = ([x[k] for x in xs] for k in ("hit", "present"))
        iou = sum(x["iou"] for x in xs) / len(xs)
        print(f"| {layer} | {len(xs)} | {share(hits)} | {iou:.3f} | {share(present)} |")
    figures = kept.of("agreement")
    if figures and by_layer:
        print("\n| layer | effect | agreement (chance) | in their own boxes | both present |")
        print("| --- | --- | --- | --- | --- |")
        for x in figures:
            hits, present = ([y[k] for y in by_layer[x["layer"]]] for k in ("hit", "present"))
            print(
                f"| {x['layer']} | {x['effect']:.2f} +- {x['error']:.2f} |"
                f" {x['agreement']:.3f} ({x['chance']:.3f}) | {share(hits)} | {share(present)} |"
            )
    each = ({k: [x[f] for x in xs] for k, xs in by_layer.items()} for f in ("hit", "present"))
    chosen_table(kept, *each)
    every = kept.of("looks")
    if not every:
        return
    print(f"\n| best of {CANDIDATES} plain seeds at the first step by | in their own boxes |\n| --- | --- |")
    print(f"| one seed | {share([x['hits'][0] for x in every])} |")
    print(f"| the judge (any of them) | {share([any(x['hits']) for x in every])} |")
    names = list(every[0]["fits"])
    for name in names:
        picked = [x["hits"][max(range(CANDIDATES), key=x["fits"][name].__getitem__)] for x in every]
        print(f"| {name} | {share(picked)} |")


def _chosen(line: dict[str, Any]) -> str:
    """By the rule as it is, of what was tried then."""
    tried = {layer: Tried(*counts) for layer, counts in line["tried"].items()}
    worths = [LayerWorth(k, 0, 0, 0, *v, tried=tried.get(k)) for k, v in line["effect"].items()]
    return str(recommended(worths).layer)


def chosen_table(kept: Lines, hits: dict[str, list[bool]], there: dict[str, list[bool]]) -> None:
    """How the chosen layers' success compares with the best one's, and their presence with plain noise's."""
    every = _choices(kept)
    if not every or not hits:
        return
    success, presence = ({layer: sum(h) / len(h) for layer, h in one.items()} for one in (hits, there))
    best = max(success.values())
    greatest = [max(x["effect"], key=lambda layer: x["effect"][layer][0]) for x in every]
    rules = {"auto": [_chosen(x) for x in every], "the greatest effect (before)": greatest}
    print(
        f"\n| rule | choices | within {NEAR} of the best layer's success"
        f" | both present no more than {PRESENT} below plain noise | chosen |"
    )
    print("| --- | --- | --- | --- | --- |")
    for rule, layers in rules.items():
        near = [success[layer] >= best - NEAR for layer in layers]
        kept_up = [presence[layer] >= presence["none"] - PRESENT for layer in layers]
        counts = ", ".join(f"{layer} {layers.count(layer)}" for layer in dict.fromkeys(layers))
        print(f"| {rule} | {len(layers)} | {share(near)} | {share(kept_up)} | {counts} |")
    print(f"\nauto took {min(x['nfe'] for x in every)} to {max(x['nfe'] for x in every)} forwards.")


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    parts = model_module.load()
    kept = Lines("layers.jsonl", fingerprint(parts.model, parts.clip).split("-")[0])
    if not ARGS.table:
        for what in ARGS.what:
            measured = {"tickets": tickets, "looks": looks, "choices": choices, "agreement": agreements}
            measured[what](parts, kept)
    tables(kept)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

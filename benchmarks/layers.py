"""Which layer makes the tickets that work, which judges a noise best, and which one `auto` chooses.

    python benchmarks/layers.py --comfyui DIR [--what tickets ...] [--cases 56] [--table]

Run with the Python of that ComfyUI; DEMO_VARIANT chooses another model than the demo's. What was measured is
kept in demo/progress/layers.jsonl, a line each; started again, it resumes. 10 euler steps, cfg 5, half
guided, in bfloat16; judged by the trained judge.

tickets: every layer's own bank, its tickets in the cases of two objects. choices: the layer that `auto`
chooses, without what it remembers, for several seeds and sets of categories. own: as tickets, for each set of
two or three categories, whose choice is theirs alone. looks: of 16 plain seeds, the one with the best fit at
each layer. agreement: effect and agreement of every layer as Ticket Layer Report shows them, beside what its
tickets achieved.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

WHAT = ("tickets", "choices", "own", "looks", "agreement")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
start.add_part(parser, "choices")
parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
parser.add_argument("--cases", type=int, default=56)
parser.add_argument("--noises", type=int, default=32, help="of each layer's bank; the node's default")
parser.add_argument("--layers", nargs="+", help="whose tickets; none: plain noise; default: every one")
parser.add_argument("--table", action="store_true", help="measure nothing, print what there is")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.utils
import model as model_module
import torch
from cases import LAYOUTS, SHAPE, Case, Outcome, Sampling, cases_of, use_bfloat16
from kept import Lines
from kinds import PIXELS, RANK, layout_for, regions_of
from scenes import CATEGORIES, NAMES
from variants import chosen
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.layers.choose import ENOUGH, look
from winning_tickets.probe.layers.probe import LayerProbe
from winning_tickets.probe.layers.remembered import RULE
from winning_tickets.probe.model.family import Layer
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.tickets.grid import Grid
from winning_tickets.tickets.layers.figures import BETTER, LayerWorth, Tried, recommended
from winning_tickets.tickets.layout.regions import assign_cells, by_category
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, make_prompts
from winning_tickets.tickets.score import paper_score
from winning_tickets.tickets.search.fit import fit
from winning_tickets.trial.figures import share

FIRST_SEED, CANDIDATES = 30_000, 16
NEAR = 0.08
"""Of the best layer's success, how far below it the chosen layer's may lie."""
LEADS = 1.0, 0.5
"""Of another layer over the earliest, instead of the rule's own."""
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


def _tickets(kept: Lines, what: str = "tickets", words: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Of banks of so many noises; plain noise has none. words: of which the banks are, if not of all."""
    found = [x for x in kept.of(what) if tuple(x.get("words", ())) == tuple(words)]
    return [x for x in found if x["layer"] == "none" or x.get("noises") == ARGS.noises]


def tickets(parts: Any, kept: Lines) -> None:
    _measure(parts, kept, "tickets", CATEGORIES, cases_of("two")[: ARGS.cases])


def own(parts: Any, kept: Lines) -> None:
    for words in filter(_few, sets()):
        names = [NAMES[CATEGORIES.index(word)] for word in words]
        every = list(product(permutations(names, 2), LAYOUTS.values()))
        count = math.ceil(ARGS.cases / len(every))
        cases = [Case(pair, boxes) for pair, boxes in islice(every * count, ARGS.cases)]
        _measure(parts, kept, "own", words, cases, words=words)


def _measure(
    parts: Any, kept: Lines, what: str, categories: Sequence[str], cases: Sequence[Case], **about: Any
) -> None:
    """Plain noise, and the tickets of every layer's bank of these categories, in these cases."""
    done = {(x["layer"], x["case"]) for x in _tickets(kept, what, about.get("words", ()))}
    for layer in ARGS.layers or ["none", *map(str, layers_of(parts))]:
        missing = [i for i in range(len(cases)) if (layer, i) not in done]
        if not missing:
            continue
        some = [cases[i] for i in missing]
        if layer == "none":
            noise = torch.cat([plain_noise(FIRST_SEED + i, SHAPE) for i in missing])
        else:
            request = CollectRequest(tuple(categories), ARGS.noises, 0, PIXELS, PIXELS, layer)
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
                what=what,
                **about,
                layer=layer,
                noises=ARGS.noises,
                case=case,
                hit=hit,
                swapped=swapped,
                present=present,
                iou=round(overlap, 3),
            )
        print(*about.values(), layer, found, flush=True)


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


def _few(words: Sequence[str]) -> bool:
    """Whether a choice for them is theirs alone."""
    return math.comb(len(words), 2) < ENOUGH


def _choices(kept: Lines) -> list[dict[str, Any]]:
    """By the rule as it is."""
    return [x for x in kept.of("choices") if x.get("rule") == RULE]


def choices(parts: Any, kept: Lines) -> None:
    every = [(seed, CATEGORIES[:8]) for seed in range(6)] + [(seed, s) for seed, s in enumerate(sets())]
    done = {(x["seed"], tuple(x["categories"])) for x in _choices(kept)}
    for seed, categories in start.part(ARGS.part, every):
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
    chosen_table(kept)
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


def _chosen(line: dict[str, Any], better: float = BETTER) -> str:
    """By the rule as it is, or with another lead that it asks for, of what was tried then."""
    tried = {layer: Tried(*counts) for layer, counts in line["tried"].items()}
    worths = [LayerWorth(k, 0, 0, 0, *v, tried=tried.get(k)) for k, v in line["effect"].items()]
    return str(recommended(worths, better).layer)


@dataclass(frozen=True)
class Truth:
    """By layer ("none": plain noise), the share of images with both objects in place, and with both there."""

    success: dict[str, float]
    present: dict[str, float]

    def near(self, layer: str) -> bool:
        return self.success[layer] >= max(self.success.values()) - NEAR

    def kept_up(self, layer: str) -> bool:
        return self.present[layer] >= self.present["none"] - PRESENT


def truth_of(lines: Sequence[dict[str, Any]]) -> Truth:
    shares: dict[str, dict[str, list[bool]]] = {"hit": defaultdict(list), "present": defaultdict(list)}
    for field, found in shares.items():
        for x in lines:
            found[x["layer"]].append(x[field])
    return Truth(*({k: sum(v) / len(v) for k, v in found.items()} for found in shares.values()))


def chosen_table(kept: Lines) -> None:
    """How the chosen layers' success compares with the best one's, and their presence with plain noise's:
    for few words in images of those words, where there are some.
    """
    every, lines = _choices(kept), _tickets(kept)
    if not every or not lines:
        return
    all_words = truth_of(lines)
    own_words = {w: truth_of(found) for w in filter(_few, sets()) if (found := _tickets(kept, "own", w))}
    for words, truth in own_words.items():
        success = ", ".join(f"{layer} {share:.2f}" for layer, share in truth.success.items())
        print(f"\n{', '.join(words)}: {success}")
    greatest = [max(x["effect"], key=lambda layer: x["effect"][layer][0]) for x in every]
    rules = {
        "auto": [_chosen(x) for x in every],
        **{f"auto, if {e:g} standard errors were enough": [_chosen(x, e) for x in every] for e in LEADS},
        "the greatest effect (before)": greatest,
    }
    if (then := [x["chosen"] for x in every]) != rules["auto"]:
        rules = {"auto, when it was measured": then, **rules}
    print(
        f"\n| rule | words | choices | within {NEAR} of the best layer's success"
        f" | both present no more than {PRESENT} below plain noise | chosen |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for rule, layers in rules.items():
        found = [(tuple(x["categories"]), layer) for x, layer in zip(every, layers, strict=True)]
        for name, some in (
            ("four and more, judged by all words", [f for f in found if not _few(f[0])]),
            ("two and three, by all words", [f for f in found if _few(f[0])]),
            ("two and three, by their own", [f for f in found if f[0] in own_words]),
        ):
            if not some:
                continue
            truths = [(own_words[w] if "own" in name else all_words, layer) for w, layer in some]
            near, kept_up = ([getattr(t, m)(layer) for t, layer in truths] for m in ("near", "kept_up"))
            names = [layer for _, layer in some]
            counts = ", ".join(f"{layer} {names.count(layer)}" for layer in dict.fromkeys(names))
            print(f"| {rule} | {name} | {len(some)} | {share(near)} | {share(kept_up)} | {counts} |")
    print(f"\nauto took {min(x['nfe'] for x in every)} to {max(x['nfe'] for x in every)} forwards.")


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    parts = model_module.load()
    kept = Lines("layers.jsonl", fingerprint(parts.model, parts.clip).split("-")[0])
    if not ARGS.table:
        for what in ARGS.what:
            measured = (tickets, choices, own, looks, agreements)
            dict(zip(WHAT, measured, strict=True))[what](parts, kept)
    tables(kept)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

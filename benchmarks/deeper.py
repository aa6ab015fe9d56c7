"""Of several noises, how well the best one is found: by the first step's attention, or after a few steps.

    [DEMO_VARIANT=NAME] python benchmarks/deeper.py --comfyui DIR [--sets two ...] [--cases 200] [--steps 10]
    python benchmarks/deeper.py --comfyui DIR --table

Run with the Python of that ComfyUI. Candidates of several kinds: 16 plain seeds, or 64 (*many*); tickets;
seeds whose blocks were exchanged three times; tickets after three exchanges (*rounds*); and the three best of
the exchanged seeds with one more exchange of each by what is seen after two steps (*again*). Each is drawn to
its end (euler, guided with cfg 5, in bfloat16), judged by the trained judge, and read at every layer at its
first step and after one to four steps. Which candidate a rule takes, and what the best one would have
been, then follows from what is kept in demo/progress/deeper.jsonl, a line a case; started again, it resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

SETS = ("two", "unequal", "three", "four")
KINDS = ("plain", "tickets", "swap", "rounds", "again", "many")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--layer", default="input 3", help="of the tickets and the exchanges")
parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS[:3])
parser.add_argument("--cases", type=int, default=200)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--table", action="store_true", help="measure nothing, print what there is")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.sample
import comfy.utils
import model as model_module
import numpy as np
import torch
from cases import SHAPE, Case, cases_of, conditioning, prompt_of, use_bfloat16
from judge import load_judge
from kept import PROGRESS, Lines
from kinds import PIXELS, RANK, layout_for, regions_of
from scenes import CATEGORIES, NAMES
from variants import chosen
from verdict import classes_of, find
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.build.looking import AfterSteps, Looking, first_steps
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.model.family import find_layers
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.probe.model.unet import UNet
from winning_tickets.probe.sampling.first_steps import FirstSteps
from winning_tickets.tickets.bank.file import load_bank, save_bank
from winning_tickets.tickets.grid import Grid
from winning_tickets.tickets.layout.build import image_generator
from winning_tickets.tickets.layout.regions import assign_cells, by_category
from winning_tickets.tickets.prompts import JOINT, make_prompts
from winning_tickets.tickets.score import paper_score
from winning_tickets.tickets.search.candidates import SwapProposer, TicketProposer, plain_candidate, refine
from winning_tickets.tickets.search.fit import fit
from winning_tickets.tickets.search.swap import swap
from winning_tickets.trial.figures import Share, paired, share

FILE = "deeper.jsonl"
FIRST_SEED, NOISES, CFG, MOST = 70_000, 128, 5.0, 4
CANDIDATES = {"plain": 16, "tickets": 8, "swap": 8, "rounds": 16, "again": 8, "many": 64}
ROUNDS, BEST = 3, 3


class Looked:
    """What the model's layers say of noises and of what they have become after some steps."""

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        self.scorer = Scorer(parts.model, parts.clip, "deeper.py", PIXELS, PIXELS)
        stride = self.scorer.family.stride
        self.grids = {layer: Grid(*SHAPE[1:], stride(layer)) for layer in self.scorer.layers}
        self.own = Scorer(parts.model, parts.clip, "deeper.py", PIXELS, PIXELS, ARGS.layer)
        self.judge = load_judge()

    def candidates(self, kind: str, case: Case, bank: Any, seed: int) -> torch.Tensor:
        """Noises [candidates, C, h, w]."""
        count = CANDIDATES[kind]
        draw = partial(plain_candidate, seed, 0, SHAPE)
        if kind in ("plain", "many"):
            return torch.stack([draw(j) for j in range(count)])
        regions = regions_of(case)
        prompts = self.own.encode(make_prompts([r.category for r in regions], JOINT))
        looking = Looking(self.own, prompts, self.own.grid(), self.first_steps(prompts[0].text), seed)
        generators = partial(image_generator, seed, 0)
        if kind in ("tickets", "rounds"):
            layout = layout_for(bank, case, RANK)
            tickets = TicketProposer(layout, layout.plain(seed, (0,))[0], seed, 0)
            if kind == "tickets":
                return torch.stack([tickets.noise(tickets.start(j)) for j in range(count)])
            of = tickets, looking.first, layout.groups(0)
            return torch.stack([tickets.noise(s) for s in refine(*of, count, ROUNDS, generators).states])
        groups = by_category(regions, assign_cells(regions, *looking.grid.exact))
        swaps = SwapProposer(draw, groups, looking.grid.block)
        found = refine(swaps, looking.first, groups, count, ROUNDS, generators)
        if kind == "swap":
            return torch.stack(found.states)
        assert looking.deeper
        best = [found.states[j] for j in found.value.argsort(descending=True, stable=True)[:BEST].tolist()]
        scores = paper_score(looking.deeper(torch.stack(best)))
        pairs = zip(best, scores, strict=True)
        return torch.stack([*best, *(swap(noise, s, groups, looking.grid.block) for noise, s in pairs)])

    def first_steps(self, text: str) -> FirstSteps:
        """Two of the run's steps, with this text."""
        model, clip = self.parts.model, self.parts.clip
        after = AfterSteps(2 / ARGS.steps, ARGS.steps, CFG)
        return first_steps(model, clip, "deeper.py", self.own.shape, text, after)

    def run(self, case: Case, noise: torch.Tensor) -> tuple[torch.Tensor, dict[int, tuple[Any, float]]]:
        """Latents at the end, and what there was after each of the first steps, with its noise level."""
        prompts = [prompt_of(case)] * len(noise)
        conds = (conditioning(self.parts.clip, p) for p in (prompts, [""] * len(noise)))
        after: dict[int, Any] = {}

        def keep(step: int, denoised: torch.Tensor, x: torch.Tensor, steps: int) -> None:
            if step <= MOST:
                after[step] = x.float().cpu()

        how = (self.parts.model, noise, ARGS.steps, CFG, "euler", "normal", *conds, torch.zeros_like(noise))
        result = comfy.sample.sample(*how, callback=keep, disable_pbar=True, seed=0)
        sampler = comfy.samplers.KSampler(self.parts.model, ARGS.steps, "cpu", "euler", "normal")
        latent_format = self.parts.model.get_model_object("latent_format")
        return result, {
            step: (latent_format.process_out(x), float(sampler.sigmas[step])) for step, x in after.items()
        }

    def figures(self, case: Case, noise: torch.Tensor) -> list[dict[str, Any]]:
        """Of each noise: are all in place, are all there, and its fits by layer and step."""
        regions = regions_of(case)
        prompts = self.scorer.encode(make_prompts([r.category for r in regions], JOINT))
        latents, after = self.run(case, noise)
        fits: dict[str, list[list[float]]] = {str(layer): [] for layer in self.grids}
        for step, (x, sigma) in after.items():
            seen = self.scorer.maps(prompts, x if step else noise, sigma=sigma if step else None)
            for layer, grid in self.grids.items():
                cells = by_category(regions, assign_cells(regions, *grid.exact))
                scores = paper_score(grid.pool(seen[layer][0], grid.block))
                fits[str(layer)].append(fit(scores, cells).tolist())
        classes = classes_of(self.judge, latents * model_module.LATENT_SCALE)
        lines = []
        for image, of_image in enumerate(classes):
            found = [find(of_image, NAMES.index(name) + 1) for name in case.names]
            lines.append(
                {
                    "hit": all(f.inside(b) for f, b in zip(found, case.boxes, strict=True)),
                    "present": all(f.present for f in found),
                    "fits": {k: [round(step[image], 3) for step in v] for k, v in fits.items()},
                }
            )
        return lines


def the_bank(parts: Any, model: str) -> Any:
    """All pairs of the concepts; kept beside the results."""
    path = PROGRESS.with_name(f"deeper-{model}-{ARGS.layer.replace(' ', '')}.safetensors")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        request = CollectRequest(CATEGORIES, NOISES, 0, PIXELS, PIXELS, ARGS.layer)
        save_bank(collect(parts.model, parts.clip, request), path)
    return load_bank(path)


def measure(parts: Any, bank: Any, kept: Lines) -> None:
    looked = Looked(parts)
    done = {(x["set"], x["what"], x["steps"], x["case"]) for x in kept.lines if x["layer"] == ARGS.layer}
    for number in range(ARGS.cases):
        for name in ARGS.sets:
            every = cases_of(name)
            for kind in ARGS.kinds:
                if (name, kind, ARGS.steps, number) in done:
                    continue
                case, seed = every[number % len(every)], FIRST_SEED + number
                lines = looked.figures(case, looked.candidates(kind, case, bank, seed))
                about = {"set": name, "steps": ARGS.steps, "layer": ARGS.layer}
                kept.add(what=kind, name=chosen()[0] or "demo", case=number, **about, candidates=lines)


Rule = Callable[[Sequence[dict[str, Any]]], int]


def by(layers: Sequence[str], after: int, narrowed: float = 1.0) -> Rule:
    """The best fit, mean of the layers, `after` steps; among the `narrowed` share that fit best at first."""

    def rule(candidates: Sequence[dict[str, Any]]) -> int:
        fits = np.array([[c["fits"][layer] for layer in layers] for c in candidates]).mean(1)
        order = np.argsort(-fits[:, 0], kind="stable")[
            : max(1, int(np.ceil(narrowed * len(candidates) - 1e-9)))
        ]
        return int(order[fits[order, after].argmax()])

    return rule


def tables(parts: Any) -> None:
    path = PROGRESS.with_name(FILE)
    found: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        found[line["name"], line["layer"], line["steps"], line["set"], line["what"]].append(
            line["candidates"]
        )
    for (name, layer, steps, objects, kind), cases in sorted(found.items()):
        count = len(cases[0])
        print(f"\n## {name}, {kind} (`{layer}`), {objects}, {steps} steps, n = {len(cases)}\n")
        one, some = [c[0]["hit"] for c in cases], [any(x["hit"] for x in c) for c in cases]
        print(f"One: {share(one)}; any of {count}: {share(some)}.\n")
        if kind == "again":
            halves = slice(BEST), slice(BEST, None)
            old, new = ([x["hit"] for c in cases for x in c[part]] for part in halves)
            print(f"Before the further exchange: {share(old)}; after it: {share(new)}.\n")
        layers = list(cases[0][0]["fits"])
        # Earlier lines have no fourth step.
        after = range(1, min(len(c[0]["fits"][layer]) for c in cases))
        numbers = " | ".join(map(str, after))
        print(f"| read at | first step | after {numbers} | best third after {numbers} |")
        print("| --- " * (2 + 2 * len(after)) + "|")
        rows = {k: [k] for k in layers} | {"mean of all": layers}
        for row, read in rows.items():
            rules = [by(read, 0)] + [by(read, k, how) for how in (1, 1 / 3) for k in after]
            cells = [sum(c[rule(c)]["hit"] for c in cases) / len(cases) for rule in rules]
            print(f"| {row} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    there(found)
    family = UNet(parts.model)
    for layer in sorted({layer for name, layer, *_ in found if name == (chosen()[0] or "demo")}):
        (place,) = find_layers(family, layer)
        side_by_side(found, layer, family.share(place, *SHAPE[1:]))


def side_by_side(found: dict[tuple[Any, ...], list[Any]], layer: str, share_of: float) -> None:
    """Equal budgets: what the looks of a case win that take no more than an image guided half of its steps.

    share_of: of a forward, up to the layer. An exchanged candidate is looked at once more each round; in a
    deeper look it takes k guided steps and is read again.
    """
    print(f"\n## Within the forwards of one image guided half of its steps (`{layer}`)\n")
    after = range(1, MOST + 1)
    print(f"| | n | one | first step | {' | '.join(f'after {k}' for k in after)} | any |")
    print("| --- " * (5 + len(after)) + "|")
    for (name, own, steps, objects, kind), cases in sorted(found.items()):
        if (name, own) != (chosen()[0] or "demo", layer) or kind == "again":
            continue
        count, hits = len(cases[0]), []
        first = count * (1 + ROUNDS * (kind in ("swap", "rounds"))) * share_of
        for k in after:
            if k >= min(len(c[0]["fits"][layer]) for c in cases):
                hits.append("")
                continue
            seen = min(count, int((1.5 * steps - first) / (2 * k + share_of)))
            rule = by([layer], k, seen / count)
            got = sum(c[rule(c)]["hit"] for c in cases) / len(cases)
            hits.append(f"{got:.3f} ({seen} of {count})" if seen > 1 else "-")
        rule = by([layer], 0)
        ends = [sum(c[0]["hit"] for c in cases), sum(c[rule(c)]["hit"] for c in cases)]
        any_of = sum(any(x["hit"] for x in c) for c in cases) / len(cases)
        print(
            f"| {objects}, {kind}, {steps} steps | {len(cases)} | {ends[0] / len(cases):.3f} |"
            f" {ends[1] / len(cases):.3f} | {' | '.join(hits)} | {any_of:.3f} |"
        )


def there(found: dict[tuple[Any, ...], list[Any]]) -> None:
    """As the nodes look, at one layer: what the third after a fifth of the steps wins over the first step."""
    print("\n## At the layer of the tickets\n")
    head = "| | n | one | first step | after | third then | won : lost | all then | all one later | any"
    print(f"{head} | all there, one | third then |")
    print("| --- " * 12 + "|")
    together: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (name, layer, steps, objects, kind), cases in sorted(found.items()):
        read = min(len(c[0]["fits"][layer]) for c in cases)
        after = min(round(AfterSteps().share * steps), read - 1)
        rules = [by([layer], *how) for how in ((0,), (after, 1 / 3), (after,), (min(after + 1, read - 1),))]
        first, third, *every = ([c[rule(c)] for c in cases] for rule in rules)
        both = paired([(a["hit"], b["hit"]) for a, b in zip(third, first, strict=True)])
        together[name] = [a + b for a, b in zip(together[name], (both.won, both.lost), strict=True)]
        one = [c[0] for c in cases]
        hits = [sum(x["hit"] for x in xs) / len(xs) for xs in (one, first, third, *every)]
        any_of = sum(any(x["hit"] for x in c) for c in cases) / len(cases)
        present = [sum(x["present"] for x in xs) / len(xs) for xs in (one, third)]
        print(
            f"| {name}, {objects}, {kind}, {steps} steps | {len(cases)} | {hits[0]:.3f} | {hits[1]:.3f}"
            f" | {after} | {Share.of(x['hit'] for x in third)} | {both.won} : {both.lost} (p {both.p:.2g})"
            f" | {hits[3]:.3f} | {hits[4]:.3f}"
            f" | {any_of:.3f} | {present[0]:.2f} | {present[1]:.2f} |"
        )
    for name, (won, lost) in together.items():
        print(f"\nTogether on {name}: {won} won, {lost} lost.")


def main() -> None:
    parts = model_module.load()
    if ARGS.table:
        return tables(parts)
    comfy.utils.set_progress_bar_enabled(False)
    model = fingerprint(parts.model, parts.clip).split("-")[0]
    bank = the_bank(parts, model) if {"tickets", "rounds"} & set(ARGS.kinds) else None
    fast = parts.model.clone()
    use_bfloat16(fast)
    measure(parts._replace(model=fast), bank, Lines(FILE, model))
    tables(parts)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

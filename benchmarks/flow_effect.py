"""Where things end up on a flow transformer, by plain noise, picked, exchanged and built of tickets.

    DEMO_VARIANT=transformer python benchmarks/flow_effect.py --comfyui DIR --layer "block 5"
        [--level 0.9] [--softmax text] [--mean kept] [--score contrast] [--cells 2] [--kinds plain ...]
    python benchmarks/flow_effect.py --comfyui DIR --table

Run with the Python of that ComfyUI. Two objects in two boxes; candidates of several kinds: plain seeds; their
blocks exchanged three times; ticket draws; tickets after three rounds; as controls, the tickets of one draw
at random cells, one seed's blocks exchanged at random, and tickets of the other category. Each is drawn to
its end (euler, guided, in bfloat16) and judged, its fit to the layout read at its noise level and after one
to four steps. How noise is read is what benchmarks/flow.py compares: at which level, softmax over all keys or
the text's alone, with or without each cell's mean over other noises, each object's attention or its contrast
to the other's, blocks of one token or of 2x2. What was found is kept in demo/progress/flow_effect.jsonl, a
line a case; started again, it resumes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

KINDS = ("plain", "swap", "tickets", "rounds", "controls")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
start.add_part(parser, "cases")
parser.add_argument("--layer", default="")
parser.add_argument("--level", type=float, default=0.9)
parser.add_argument("--softmax", choices=("all keys", "text"), default="all keys")
parser.add_argument("--mean", choices=("kept", "taken off"), default="kept")
parser.add_argument("--score", choices=("own", "contrast"), default="own")
parser.add_argument("--cells", type=int, default=1, help="tokens at a block's side")
parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
parser.add_argument("--cases", type=int, default=200)
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
import torch
from cases import Case, cases_of, conditioning, prompt_of, use_bfloat16
from judge import load_judge
from kept import PROGRESS, Lines
from kinds import PIXELS, RANK, layout_for, regions_of
from scenes import CATEGORIES, NAMES
from variants import chosen
from verdict import classes_of, find
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.attention.tokens import PromptTokens
from winning_tickets.probe.collect.collect import Collector, CollectRequest
from winning_tickets.probe.model import transformer
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.tickets.bank.bank import TicketBank
from winning_tickets.tickets.bank.combine import merge
from winning_tickets.tickets.bank.file import load_bank, save_bank
from winning_tickets.tickets.grid import Grid
from winning_tickets.tickets.layout.build import image_generator
from winning_tickets.tickets.layout.regions import assign_cells, by_category
from winning_tickets.tickets.noise import place_blocks, to_blocks
from winning_tickets.tickets.prompts import JOINT, make_prompts
from winning_tickets.tickets.score import paper_score
from winning_tickets.tickets.search.candidates import (
    SwapProposer,
    TicketProposer,
    narrowed,
    plain_candidate,
    refine,
)
from winning_tickets.tickets.search.fit import GOOD, POOR, fit
from winning_tickets.trial.figures import Share, paired

FILE = "flow_effect.jsonl"
FIRST_SEED, NOISES = 70_000, 128
CANDIDATES, ROUNDS, MEAN_OF, MOST = 8, 3, 16, 4
HOW = f"{ARGS.layer}, t {ARGS.level:g}, {ARGS.softmax}, mean {ARGS.mean}, {ARGS.cells}x{ARGS.cells}"
HOW += ", contrast" * (ARGS.score == "contrast")


class Read(Scorer):
    """Reads noise as the options say."""

    def __init__(self, parts: Any) -> None:
        how = ARGS.layer, True, ARGS.softmax == "all keys", MEAN_OF if ARGS.mean == "taken off" else 0
        super().__init__(parts.model, parts.clip, "flow_effect.py", PIXELS, PIXELS, *how)

    def blocks(
        self, prompts: Any, noise: torch.Tensor, grid: Grid, *args: Any, **options: Any
    ) -> list[torch.Tensor]:
        found = super().blocks(prompts, noise, grid, *args, **options)
        if ARGS.score == "contrast":
            found = [m - (m.sum(1, keepdim=True) - m) / max(1, m.shape[1] - 1) for m in found]
        return found


class Effect:
    def __init__(self, parts: Any, bank: TicketBank | None) -> None:
        self.parts, self.bank = parts, bank
        self.own = Read(parts)
        self.every = Scorer(parts.model, parts.clip, "flow_effect.py", PIXELS, PIXELS)
        self.grid = self.own.grid(ARGS.cells)
        self.judge = load_judge()

    def groups(self, case: Case, grid: Grid) -> torch.Tensor:
        regions = regions_of(case)
        return by_category(regions, assign_cells(regions, *grid.exact))

    def candidates(self, kind: str, case: Case, prompts: list[PromptTokens], seed: int) -> torch.Tensor:
        """Noises [candidates, C, h, w]."""
        draw = partial(plain_candidate, seed, 0, self.own.shape)
        if kind == "plain":
            return torch.stack([draw(j) for j in range(CANDIDATES)])
        groups, generators = self.groups(case, self.grid), partial(image_generator, seed, 0)
        look = partial(self._look, prompts)
        if kind == "swap":
            swaps = SwapProposer(draw, groups, self.grid.block)
            return torch.stack(refine(swaps, look, groups, CANDIDATES, ROUNDS, generators).states)
        assert self.bank
        layout = layout_for(self.bank, case, RANK)
        plain = layout.plain(seed, (0,))[0]
        tickets = TicketProposer(layout, plain, seed, 0)
        if kind == "tickets":
            return torch.stack([tickets.noise(tickets.start(j)) for j in range(CANDIDATES)])
        if kind == "rounds":
            found = refine(tickets, look, layout.groups(0), CANDIDATES, ROUNDS, generators)
            return torch.stack([tickets.noise(state) for state in found.states])
        chosen = layout.arrange(seed)
        order = torch.randperm(chosen.numel(), generator=image_generator(seed, 0, 63))
        moved = layout.place(plain, chosen.flatten()[order].view_as(chosen))
        blocks = to_blocks(plain[None], self.grid.block)[0]
        shuffled = place_blocks(plain, blocks.flatten(0, 1)[order].view_as(blocks))
        others = layout_for(self.bank, case, RANK, turn=1)
        return torch.stack([moved, shuffled, others.place(plain, others.arrange(seed))])

    def _look(self, prompts: list[PromptTokens], noise: torch.Tensor) -> torch.Tensor:
        return self.own.blocks(prompts, noise, self.grid)[0]

    def run(self, case: Case, noise: torch.Tensor) -> tuple[torch.Tensor, dict[int, tuple[Any, float]]]:
        """Latents at the end, and what there was after each of the first steps, with its noise level."""
        model = self.parts.model
        noise = noise.reshape(-1, *self.own.latent)
        conds = (conditioning(self.parts.clip, [text] * len(noise)) for text in (prompt_of(case), ""))
        after: dict[int, Any] = {}

        def keep(step: int, denoised: torch.Tensor, x: torch.Tensor, steps: int) -> None:
            if 1 <= step <= MOST:
                after[step] = x.float().cpu()

        how = (model, noise, ARGS.steps, ARGS.cfg, "euler", "normal", *conds, torch.zeros_like(noise))
        result = comfy.sample.sample(*how, callback=keep, disable_pbar=True, seed=0)
        sigmas = comfy.samplers.KSampler(model, ARGS.steps, "cpu", "euler", "normal").sigmas
        latent_format = model.get_model_object("latent_format")
        found = {}
        for step, x in after.items():
            # What a sampler keeps of the image is (1 - sigma) of what Scorer takes.
            sigma = float(sigmas[step])
            found[step] = latent_format.process_out(x / (1 - sigma)), sigma
        shape = self.own.shape
        return result.reshape(-1, shape[0], *shape[1:]) * model_module.LATENT_SCALE, found

    def figures(self, case: Case, noise: torch.Tensor, prompts: list[PromptTokens]) -> list[dict[str, Any]]:
        """Of each noise: are all in place, are all there, and its fits by layer and step."""
        latents, after = self.run(case, noise)
        fits: dict[str, list[list[float]]] = defaultdict(list)
        fits["own"].append(self._fit(case, self.grid, self._look(prompts, noise)))
        for step in (0, *after):
            x, sigma = after[step] if step else (noise, None)
            for layer, (maps,) in self.every.maps(prompts, x, sigma=sigma).items():
                grid = Grid(*self.own.shape[1:], self.every.family.stride(layer))
                fits[str(layer)].append(self._fit(case, grid, maps))
        lines = []
        for image, of_image in enumerate(classes_of(self.judge, latents)):
            found = [find(of_image, NAMES.index(name) + 1) for name in case.names]
            lines.append(
                {
                    "hit": all(f.inside(b) for f, b in zip(found, case.boxes, strict=True)),
                    "swapped": all(f.inside(b) for f, b in zip(found, case.boxes[::-1], strict=True)),
                    "present": all(f.present for f in found),
                    "fits": {k: [round(step[image], 3) for step in v] for k, v in fits.items()},
                }
            )
        return lines

    def _fit(self, case: Case, grid: Grid, maps: torch.Tensor) -> list[float]:
        values: list[float] = fit(paper_score(maps), self.groups(case, grid)).tolist()
        return values


def the_bank(parts: Any, model: str) -> TicketBank:
    """All pairs of the concepts; kept beside the results."""
    name = "".join(c if c.isalnum() else "-" for c in HOW)
    path = PROGRESS.with_name(f"flow-{model}-{name}.safetensors")
    if not path.exists():
        request = CollectRequest(CATEGORIES, NOISES, 0, PIXELS, PIXELS, ARGS.layer, ARGS.cells)
        collector = Collector(parts.model, parts.clip, request)
        collector.scorer = Read(parts)
        found, missing = [], list(request.seeds)
        while missing:
            batch, count = collector.batch(missing)
            found.append(batch)
            missing = missing[count:]
        save_bank(merge(found), path)
    return load_bank(path)


def measure(parts: Any, bank: TicketBank | None, kept: Lines) -> None:
    effect, every = Effect(parts, bank), cases_of("two")
    about = {"how": HOW, "steps": ARGS.steps, "cfg": ARGS.cfg}
    done = {(x["what"], x["case"]) for x in kept.lines if about.items() <= x.items()}
    for number in start.part(ARGS.part, range(ARGS.cases)):
        missing = [kind for kind in ARGS.kinds if (kind, number) not in done]
        if not missing:
            continue
        case, seed = every[number % len(every)], FIRST_SEED + number
        prompts = effect.own.encode(make_prompts([r.category for r in regions_of(case)], JOINT))
        noises = [effect.candidates(kind, case, prompts, seed) for kind in missing]
        lines = iter(effect.figures(case, torch.cat(noises), prompts))
        for kind, noise in zip(missing, noises, strict=True):
            found = list(islice(lines, len(noise)))
            kept.add(what=kind, name=chosen()[0], case=number, **about, candidates=found)


def tables() -> None:
    lines = [json.loads(x) for x in PROGRESS.with_name(FILE).read_text(encoding="utf-8").splitlines()]
    found: dict[tuple[Any, ...], dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for x in lines:
        found[x["name"], x["how"], x["steps"], x["cfg"]][x["what"]][x["case"]] = x["candidates"]
    for (name, how, steps, cfg), kinds in sorted(found.items()):
        print(f"\n## {name}, {how}; {steps} steps, cfg {cfg:g}\n")
        print("| | n | in place | of those there | exchanged | both there | against plain |")
        print("| --- " * 7 + "|")
        # The same however noise is read.
        others = [k["plain"] for about, k in found.items() if about[::2] == (name, steps) and "plain" in k]
        plain = {k: c[0] for cases in others for k, c in cases.items()}
        for kind, cases in kinds.items():
            if kind == "controls":
                rows = {
                    "tickets at random cells": {k: c[0] for k, c in cases.items()},
                    "blocks exchanged at random": {k: c[1] for k, c in cases.items()},
                    "tickets of the other category": {k: c[2] for k, c in cases.items()},
                }
            else:
                every = {(k, j): x for k, c in cases.items() for j, x in enumerate(c)}
                rows = {f"{kind}, all draws": every, f"{kind}, one": {k: c[0] for k, c in cases.items()}}
                rows[f"{kind}, best fit of {CANDIDATES}"] = {
                    k: max(c, key=lambda x: x["fits"]["own"][0]) for k, c in cases.items()
                }
                layer = how.split(",")[0]
                for after in range(1, MOST + 1):
                    rows[f"{kind}, best after {after}"] = {k: best(c, layer, after) for k, c in cases.items()}
                    rows[f"{kind}, third after {after}"] = {
                        k: best(third(c), layer, after) for k, c in cases.items()
                    }
                rows[f"{kind}, any of {CANDIDATES}"] = {
                    k: max(c, key=lambda x: x["hit"]) for k, c in cases.items()
                }
            for row, of in rows.items():
                there = [x["hit"] for x in of.values() if x["present"]]
                pair = paired([(x["hit"], plain[k]["hit"]) for k, x in of.items() if k in plain])
                print(
                    f"| {row} | {len(of)} | {Share.of(x['hit'] for x in of.values())} | {Share.of(there)} |"
                    f" {sum(x['swapped'] for x in of.values()) / len(of):.3f} |"
                    f" {sum(x['present'] for x in of.values()) / len(of):.3f} |"
                    f" {pair.won} : {pair.lost} (p {pair.p:.2g}) |"
                )
    baselines(found)
    meaning(found)


def meaning(found: dict[tuple[Any, ...], dict[str, dict[int, Any]]]) -> None:
    """How many of the images had both in place, by the fit of the noise that they began with."""
    for about, kinds in sorted(found.items()):
        every = [(c["fits"]["own"][0], c["hit"]) for k in KINDS[:-1] for x in kinds[k].values() for c in x]
        if not every or not kinds["plain"]:
            continue
        print(f"\n| fit; {', '.join(map(str, about[:2]))} | images | both in place |")
        print("| --- | --- | --- |")
        for name, low, high in (
            (f"below {POOR:g}", -math.inf, POOR),
            (f"{POOR:g} to {GOOD:g}", POOR, GOOD),
            (f"above {GOOD:g}", GOOD, math.inf),
        ):
            hits = [hit for value, hit in every if low <= value < high]
            print(f"| {name} | {len(hits)} | {sum(hits) / max(1, len(hits)):.3f} |")
        plain = [c["fits"]["own"][0] for x in kinds["plain"].values() for c in x]
        print(f"| plain noise, mean fit | {len(plain)} | {mean(plain):.2f} |")


def baselines(found: dict[tuple[Any, ...], dict[str, dict[int, Any]]]) -> None:
    """In place, shares of all draws, where each cell's mean was taken off and where it was kept, the same
    cases of each; the difference, and that of the chosen ones, with standard errors over cases."""
    heads = "taken off | kept | taken off - kept | of the best fits"
    heads += " | of the third that fit best after four steps"
    print(f"\n| model, how | | cases | {heads} |")
    print("| --- " * 8 + "|")
    for about, kinds in sorted(found.items()):
        other = (about[0], about[1].replace("mean taken off", "mean kept"), *about[2:])
        if other == about or other not in found:
            continue
        for kind in filter(found[other].__contains__, kinds):
            cases = sorted(kinds[kind].keys() & found[other][kind].keys())
            if kind in ("plain", "controls") or len(cases) < 2:
                continue
            pairs = [(kinds[kind][k], found[other][kind][k]) for k in cases]
            draws = torch.tensor([[mean(x["hit"] for x in c) for c in pair] for pair in pairs])
            layer = about[1].split(",")[0]
            first = torch.tensor([[float(best(c, "own", 0)["hit"]) for c in pair] for pair in pairs])
            deeper = torch.tensor(
                [[float(best(third(c), layer, MOST)["hit"]) for c in pair] for pair in pairs]
            )
            off, kept = draws.mean(0).tolist()
            cells = [f"{off:.3f}", f"{kept:.3f}", *map(difference, (draws, first, deeper))]
            print(f"| {', '.join(map(str, about[:2]))} | {kind} | {len(cases)} | {' | '.join(cells)} |")


def difference(pairs: torch.Tensor) -> str:
    """Of the columns of [cases, 2], with its standard error."""
    values = pairs[:, 0] - pairs[:, 1]
    return f"{float(values.mean()):+.3f} ({float(values.std()) / len(values) ** 0.5:.3f})"


def third(candidates: list[Any]) -> list[Any]:
    """Those that fit best at the first look."""
    return sorted(candidates, key=lambda x: -x["fits"]["own"][0])[: narrowed(len(candidates))]


def best(candidates: list[Any], layer: str, after: int) -> Any:
    return max(candidates, key=lambda x: x["fits"][layer][after])


def main() -> None:
    if ARGS.table:
        return tables()
    comfy.utils.set_progress_bar_enabled(False)
    transformer.READ_AT = ARGS.level
    parts = model_module.load()
    model = fingerprint(parts.model, parts.clip).split("-")[0]
    fast = parts.model.clone()
    use_bfloat16(fast)
    parts = parts._replace(model=fast)
    bank = the_bank(parts, model) if {"tickets", "rounds", "controls"} & set(ARGS.kinds) else None
    measure(parts, bank, Lines(FILE, model))
    tables()


if __name__ == "__main__":
    with torch.inference_mode():
        main()

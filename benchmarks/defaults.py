"""Do the defaults of the nodes that make noise hold on other models than the one they were chosen on?

    [DEMO_VARIANT=NAME] python benchmarks/defaults.py --comfyui DIR [--layer NAME] [--groups ...]
    python benchmarks/defaults.py --comfyui DIR --table

Run with the Python of that ComfyUI. One default is changed at a time; the same cases of two objects and the
same seeds in every row, judged by the trained judge. 10 euler steps, cfg 5, half guided, in bfloat16, a bank
of 128 noises, unless the row says otherwise. What was measured is kept in demo/progress/defaults.jsonl, a
line each; started again, it resumes. --table: all models side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

GROUPS = ("noises", "best", "background", "calibration", "looking", "guidance")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--layer", default="input 3", help="whose tickets")
parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
parser.add_argument("--cases", type=int, default=56)
parser.add_argument("--table", action="store_true", help="measure nothing, print what there is")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.utils
import kinds
import model as model_module
import torch
from cases import Outcome, Sampling, cases_of, use_bfloat16
from kept import PROGRESS, Lines
from scenes import CATEGORIES
from variants import chosen
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.tickets.bank.combine import only
from winning_tickets.tickets.bank.file import load_bank, save_bank
from winning_tickets.tickets.layout.build import KEEP
from winning_tickets.tickets.layout.calibrate import GAUSSIANIZE, NONE
from winning_tickets.tickets.layout.select import Rank
from winning_tickets.trial.figures import Paired, paired, share

FILE = "defaults.jsonl"
FIRST_SEED = 50_000
MOST_NOISES, NOISES = 256, 128
HOW = Sampling(10, 5.0, "euler", 0.5)
DEFAULT = "the defaults"


@dataclass(frozen=True)
class Row:
    """A setting that is measured; noises: in the bank."""

    group: str
    name: str
    maker: kinds.Maker
    noises: int = NOISES
    how: Sampling = field(default=HOW)


def guidance() -> Iterator[Row]:
    for steps, cfg, guided in (
        *((10, cfg, guided) for guided in (0.5, 1.0) for cfg in (1.5, 2.0, 3.0, 5.0, 7.5)),
        *((steps, cfg, 1.0) for steps in (5, 20) for cfg in (2.0, 5.0, 7.5)),
    ):
        how = Sampling(steps, cfg, "euler", guided)
        name = f"{steps} steps, cfg {cfg:g}, guided {guided:g}"
        yield Row("guidance", f"tickets, {name}", kinds.tickets(Rank()), how=how)
        if steps == 10 and guided == 1 and cfg >= 2:
            yield Row("guidance", f"plain, {name}", kinds.plain, how=how)


def rows() -> Iterator[Row]:
    tickets = kinds.tickets
    yield Row("", "plain noise", kinds.plain)
    yield Row("", DEFAULT, tickets(Rank()))
    for noises in (8, 16, 32, 64, 256):
        yield Row("noises", f"{noises} noises", tickets(Rank()), noises)
    for best in (0.001, 0.02, 0.05, 0.2):
        yield Row("best", f"best {best:.1%}", tickets(Rank(best)))
    for background in (0.01, 0.02, 0.2):
        yield Row("background", f"background {background:.0%}", tickets(Rank(0.005, background)))
    yield Row("background", "background of plain noise", tickets(Rank(), background=KEEP))
    for background in (0.01, 0.02):
        for noises, looked in ((32, (1, 0)), (32, (8, 3)), (NOISES, (8, 3))):
            name = f"background {background:.0%}, {noises} noises, {_looked(*looked)}"
            yield Row("background", name, tickets(Rank(0.005, background), *looked), noises)
    for calibration in (NONE, GAUSSIANIZE):
        yield Row("calibration", calibration, tickets(Rank(), calibration=calibration))
    for candidates, rounds in ((8, 0), (32, 0), (1, 3), (8, 1), (8, 3), (8, 6), (32, 3)):
        yield Row("looking", f"tickets, {_looked(candidates, rounds)}", tickets(Rank(), candidates, rounds))
    # As collected by default; background: to compare with.
    yield Row("background", f"32 noises, {_looked(8, 3)}", tickets(Rank(), 8, 3), 32)
    for candidates, rounds in ((8, 3), (32, 3)):
        maker = kinds.swaps(candidates, rounds, ARGS.layer)
        yield Row("looking", f"block swap, {_looked(candidates, rounds)}", maker)
    yield from guidance()


def _looked(candidates: int, rounds: int) -> str:
    return f"{candidates} candidates, {rounds} rounds"


def the_bank(parts: Any, model: str) -> Any:
    """All pairs of the concepts on MOST_NOISES noises; kept beside the results."""
    path = PROGRESS.with_name(f"defaults-{model}-{ARGS.layer.replace(' ', '')}.safetensors")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        request = CollectRequest(CATEGORIES, MOST_NOISES, 0, kinds.PIXELS, kinds.PIXELS, ARGS.layer)
        save_bank(collect(parts.model, parts.clip, request), path)
    return load_bank(path)


def measure(parts: Any, bank: Any, lines: Lines, row: Row) -> None:
    done = {x["case"] for x in lines.of(row.name) if x["layer"] == ARGS.layer}
    cases = cases_of("two")[: ARGS.cases]
    missing = [i for i in range(len(cases)) if i not in done]
    if not missing:
        return
    some = [cases[i] for i in missing]
    part = only(bank, range(row.noises))
    noise = torch.cat([row.maker.make(parts, part, cases[i], FIRST_SEED + i).float() for i in missing])
    found = Outcome(parts, row.how, some, noise)
    every = zip(missing, found.hits(), found.hits(swapped=True), found.present(), strict=True)
    for case, hit, swapped, present in every:
        lines.add(
            name=chosen()[0] or "demo",
            layer=ARGS.layer,
            what=row.name,
            case=case,
            hit=hit,
            swapped=swapped,
            present=present,
        )
    print(row.name, found, flush=True)


def table() -> None:
    """Every row, of every model."""
    path = PROGRESS.with_name(FILE)
    found: dict[str, dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        found[f"{line['name']}, `{line['layer']}`"][line["what"]][line["case"]] = line
    print(f"| | {' | '.join(found)} |\n" + "| --- " * (1 + len(found)) + "|")
    for row in rows():
        cells = [_cell(by_row.get(row.name, {}), by_row[DEFAULT]) for by_row in found.values()]
        if any(cells):
            print(f"| {row.name} | {' | '.join(cells)} |")


def _cell(mine: dict[int, Any], default: dict[int, Any]) -> str:
    """In their own boxes and both there; the sign test against the defaults, on the same cases."""
    if not mine:
        return ""
    hits, present = ([x[k] for x in mine.values()] for k in ("hit", "present"))
    both = mine.keys() & default.keys()
    won, lost = (sum(a[i]["hit"] > b[i]["hit"] for i in both) for a, b in ((mine, default), (default, mine)))
    text = f"{share(hits).split(' (')[0]}; {sum(present) / len(present):.2f}"
    return text + (f"; {won}:{lost} p {Paired(won, lost, len(both)).p:.2g}" if won + lost else "")


def presence() -> None:
    """Whether all objects are there with tickets and with plain noise, here and in layers.jsonl together."""
    lines = [
        json.loads(x)
        for name in (FILE, "layers.jsonl")
        if (path := PROGRESS.with_name(name)).exists()
        for x in path.read_text(encoding="utf-8").splitlines()
    ]
    places = {(x["model"], x["name"], x["layer"]) for x in lines if x["what"] == DEFAULT}
    print("\n| | n | all there: plain noise | tickets | won : lost |\n| --- | --- | --- | --- | --- |")
    for model, name, layer in sorted(places):
        both: dict[tuple[str, int], dict[bool, bool]] = defaultdict(dict)
        for x in lines:
            if x["model"] != model:
                continue
            if x["what"] == "tickets" and (x["layer"] == "none" or (x["layer"], x["noises"]) == (layer, 32)):
                both["layers", x["case"]][x["layer"] == layer] = x["present"]
            elif x["what"] in ("plain noise", DEFAULT) and x["layer"] == layer:
                both["defaults", x["case"]][x["what"] == DEFAULT] = x["present"]
        pairs = [(found[True], found[False]) for found in both.values() if len(found) == 2]
        one = paired(pairs)
        tickets, plain = (sum(p[k] for p in pairs) / len(pairs) for k in (0, 1))
        print(
            f"| {name} {model[:6]}, `{layer}` | {one.n} | {plain:.3f} | {tickets:.3f}"
            f" | {one.won} : {one.lost} (p {one.p:.2g}) |"
        )


def main() -> None:
    if ARGS.table:
        table()
        return presence()
    comfy.utils.set_progress_bar_enabled(False)
    parts = model_module.load()
    model = fingerprint(parts.model, parts.clip).split("-")[0]
    bank, lines = the_bank(parts, model), Lines(FILE, model)
    fast = parts.model.clone()
    use_bfloat16(fast)
    for row in rows():
        if not row.group or row.group in ARGS.groups:
            measure(parts._replace(model=fast), bank, lines, row)
    table()


if __name__ == "__main__":
    with torch.inference_mode():
        main()

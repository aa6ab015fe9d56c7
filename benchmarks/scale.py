"""How time and memory grow: with tickets, categories, the image's size, regions and the batch.

    python benchmarks/scale.py --comfyui DIR [tickets categories sides regions batches] [--most 10000000]

A row for each operation: CPU seconds and, on Linux, how much the process grew at its peak, at the least and
the greatest value, and the exponents of both: the slope of a line through their logarithms, over what takes
at least 1 ms or 16 MB, of time over the last three values at least. An exponent above 1.15 is marked. The
largest bank, 10,000,000 tickets of 4 x 4 x 4 values, has 2.8 GB as a file and takes 6 GB of memory here.
One thread: OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

PARTS = ("tickets", "categories", "sides", "regions", "batches")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("what", nargs="*", choices=[*PARTS, []], help="which of them; all without")
parser.add_argument("--most", type=int, default=10**7, help="tickets of the largest bank")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import numpy as np
import torch
from winning_tickets.show.bank import latest_maps, report
from winning_tickets.show.heatmap import panel_of
from winning_tickets.show.layout import layout_picture
from winning_tickets.tickets.bank.bank import Recipe, TicketBank
from winning_tickets.tickets.bank.combine import merge, prune
from winning_tickets.tickets.bank.file import bank_facts, load_bank, save_bank
from winning_tickets.tickets.gaussian import measure
from winning_tickets.tickets.grid import Grid
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.calibrate import GAUSSIANIZE, calibrate
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.redraw import redrawn_share
from winning_tickets.tickets.layout.regions import MaskRegion, Region, assign_cells
from winning_tickets.tickets.layout.select import Rank, Thresholds, make_pools
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import make_prompts
from winning_tickets.tickets.score import paper_score
from winning_tickets.tickets.search.fit import cell_worth, fit
from winning_tickets.tickets.search.swap import arrangement

SIDE, BLOCK = 64, 4
EACH = (SIDE // BLOCK) ** 2
PAIR = ("castle", "tree")
TWO = (Region("castle", 0.0, 0.2, 0.4, 0.9), Region("tree", 0.55, 0.2, 0.95, 0.9))
LEAST = {"s": 1e-3, "MB": 16.0}
Works = dict[str, Callable[[], Any]]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"thing {k}" for k in range(count))


def make_bank(categories: Sequence[str], tickets: int, first: int = 0) -> TicketBank:
    """Random blocks with random attention; the last noise may lack some of its blocks."""
    prompts = make_prompts(categories)
    measured = tuple((c, i) for i, p in enumerate(prompts) for c, _, _ in p.phrases)
    generator = torch.Generator().manual_seed(first)
    number = torch.arange(tickets, dtype=torch.int32)
    noises = -(-tickets // EACH)
    return TicketBank(
        tuple(categories),
        tuple(p.text for p in prompts),
        measured,
        tuple(range(first, first + noises)),
        torch.randn(tickets, 4, BLOCK, BLOCK, generator=generator),
        number // EACH,
        number % EACH,
        torch.rand(len(measured), tickets, generator=generator),
        torch.zeros(len(measured), noises),
        torch.ones(len(measured), noises),
        Recipe("input 8", BLOCK, 4, SIDE, SIDE, 14.6, 0.18215, "SD15"),
    )


def resident(line: str) -> float:
    """MB of this process; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return next(int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith(line)) / 1024


def cost(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds, the shortest of some repeats, and MB by which the process grew at most."""
    gc.collect()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    before, times, grown = resident("VmRSS"), [], 0.0
    while not times or (sum(times) < 0.3 and len(times) < 20):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
        grown = grown or max(0.0, resident("VmHWM") - before)
    return min(times), grown


Point = tuple[float, float, float]


class Curves:
    """What was measured: by what it grows with and the operation, (amount, seconds, MB) of each."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, str], list[Point]] = {}

    def add(self, along: str, amount: float, works: Works) -> None:
        for name, work in works.items():
            self.points.setdefault((along, name), []).append((amount, *cost(work)))
        told = ", ".join(f"{name} {self.points[along, name][-1][1]:.3g} s" for name in works)
        print(f"  {along} {amount:,.0f}: {told}; {resident('VmRSS'):,.0f} MB", flush=True)

    def rows(self) -> Iterator[str]:
        yield "| with | what | from | to | s, from | s, to | exponent | MB, from | MB, to | exponent |"
        yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        for (along, name), points in self.points.items():
            (first, *low), (last, *high) = points[0], points[-1]
            cells = [along, name, f"{first:,.0f}", f"{last:,.0f}"]
            for k, unit in enumerate(("s", "MB")):
                exponent = slope([(p[0], p[k + 1]) for p in points], LEAST[unit])
                cells += [f"{low[k]:.3g}", f"{high[k]:.3g}", exponent]
            yield f"| {' | '.join(cells)} |"


def slope(points: Sequence[tuple[float, float]], least: float) -> str:
    """Exponent of what is not too small to be measured, and of the last three points at least."""
    counted = [p for k, p in enumerate(points) if p[1] >= least or (k >= len(points) - 3 and least < 1)]
    if len(counted) < 3:
        return ""
    x, y = np.array(counted).T
    value = float(np.polyfit(np.log(x), np.log(y), 1)[0])
    return f"**{value:.2f}**" if value > 1.15 else f"{value:.2f}"


def forgotten(bank: TicketBank) -> TicketBank:
    for kept in (bank._known, bank.pools, bank.excess):
        kept.clear()
    return bank


def tickets(curves: Curves, folder: Path) -> None:
    path = folder / "bank.safetensors"
    amounts = [10**k for k in range(1, 8) if 10**k <= ARGS.most]
    for amount in amounts:
        made = make_bank(PAIR, amount)
        curves.add("tickets", amount, {"save": lambda bank=made: save_bank(bank, path)})
        del made
        curves.add(
            "tickets", amount, {"load": lambda: load_bank(path), "names and block": lambda: bank_facts(path)}
        )
        size = path.stat().st_size / 2**20
        bank = load_bank(path)
        path.unlink()
        cells = min(32, amount // 10)
        ask = dict.fromkeys(PAIR, cells // 4), cells // 2
        layout = Layout(bank, TWO, SIDE, SIDE, shortage="repeat" if amount < 1000 else "relax")
        few = amount < EACH
        works: Works = {
            "score and rank": lambda b=bank: Rank().excess(forgotten(b), PAIR),
            "pools by rank": lambda b=bank, a=ask: make_pools(forgotten(b), Rank(), *a),
            "pools by thresholds": lambda b=bank, a=ask: make_pools(forgotten(b), Thresholds(), *a),
            "prune to 5%": lambda b=bank: prune(b, 0.05),
            "report": lambda b=bank: report(b),
        }
        if not few:
            works |= {
                "first noise of 512 px": lambda b=bank, w=layout: (forgotten(b), w.build(3)),
                "next noise": lambda w=layout: w.build(3),
            }
        curves.add("tickets", amount, works)
        del bank, layout, works
        halves = [make_bank(PAIR, amount // 2, first) for first in (0, 2**32)]
        curves.add("tickets", amount, {"merge halves": lambda h=halves: merge(h)})
        del halves
        print(f"    the file has {size:,.1f} MB", flush=True)


def categories(curves: Curves, folder: Path) -> None:
    path = folder / "bank.safetensors"
    generator = torch.Generator().manual_seed(0)
    for count in (2, 5, 10, 20, 50):
        bank = make_bank(names(count), 16 * EACH)
        ask = dict.fromkeys(bank.categories, 4), 100
        save_bank(bank, path)
        rows = len(bank.measured)
        works: Works = {
            "save": lambda b=bank: save_bank(b, path),
            "load": lambda: load_bank(path),
            "pools by rank": lambda b=bank, a=ask: make_pools(forgotten(b), Rank(), *a),
            "pools by thresholds": lambda b=bank, a=ask: make_pools(forgotten(b), Thresholds(), *a),
            "prune to 5%": lambda b=bank: prune(b, 0.05),
            "report": lambda b=bank: report(b),
            "merge with itself": lambda b=bank: merge([b, make_bank(b.categories, EACH, 1000)]),
        }
        curves.add("rows of scores", rows, works)
        scores = torch.rand(8, count, 32, 32, generator=generator)
        groups = spread(count, 32)
        curves.add(
            "categories",
            count,
            {
                "fit of 8 candidates": lambda s=scores, g=groups: fit(s, g),
                "worth of their cells": lambda s=scores, g=groups: cell_worth(s, g),
                "block swap, 1,024 cells": lambda s=scores, g=groups: arrangement(s[0], g),
                "maps of a preview": lambda b=bank: latest_maps(b, 0),
            },
        )


def spread(count: int, side: int) -> torch.Tensor:
    """Groups in the cells [side, side] of boxes, half of them background."""
    across = int(np.ceil(count**0.5))
    groups = torch.full((side, side), -1)
    for k in range(count):
        y, x = (v * side // across for v in divmod(k, across))
        groups[y : y + max(1, side * 7 // across // 10), x : x + max(1, side * 7 // across // 10)] = k
    return groups


def sides(curves: Curves, folder: Path) -> None:
    bank = make_bank(PAIR, 100_000)
    generator = torch.Generator().manual_seed(0)
    for pixels in (256, 512, 1024, 2048, 4096, 8192):
        side = pixels // 8
        grid = Grid(side, side, BLOCK)
        painted = torch.zeros(2, pixels, pixels)
        painted[0, : pixels // 2, : pixels // 3] = 1
        painted[1, pixels // 2 :, pixels // 2 :] = 0.8
        masks = tuple(MaskRegion(c, m[None]) for c, m in zip(PAIR, painted, strict=True))
        plain, soft = (Layout(bank, r, side, side, soft=r is masks) for r in (TWO, masks))
        noise = plain_noise(1, (4, side, side))
        owner = plain.owner()
        scores = torch.rand(2, side // 2, side // 2, generator=generator)
        cells = assign_cells(TWO, side // 2, side // 2)
        worth = torch.rand(owner.shape, generator=generator)
        maps = torch.rand(4, side // 2, side // 2, generator=generator)
        works: Works = {
            "noise": lambda w=plain: w.build(2),
            "noise of painted masks": lambda w=soft: w.build(2),
            "masks to blocks": lambda m=masks, g=grid: assign_cells(m, *g.exact),
            "block swap, cells of 16 px": lambda s=scores, g=cells: arrangement(s, g),
            "redrawn share": lambda m=masks, s=side: redrawn_share(m, s, s, 4),
            "noise report": lambda n=noise: measure(n, BLOCK),
            "gaussianize": lambda n=noise: calibrate(n[0], GAUSSIANIZE),
            "picture of the layout": lambda o=owner, w=worth, n=noise: layout_picture(o, o, w, n[0], 4, PAIR),
            "4 maps pooled, drawn": lambda m=maps, g=grid: panel_of(g.pool(paper_score(m), 2)[0], 96, 96),
        }
        curves.add("pixels", pixels**2, works)


def regions(curves: Curves, folder: Path) -> None:
    bank = make_bank(names(5), 100_000)
    for count in (1, 2, 4, 8, 16, 32, 64):
        boxes = []
        for k in range(count):
            y, x = divmod(k, 8)
            boxes.append({"category": f"thing {k % 5}", "box": [x / 8, y / 8, x / 8 + 0.1, y / 8 + 0.1]})
        text = json.dumps({"regions": boxes})
        found = tuple(parse_regions(text))
        layout = Layout(bank, found, 128, 128)
        owner, groups = layout.owner(), layout.groups()
        worth, noise = torch.rand(owner.shape), plain_noise(1, layout.shape)[0]
        works: Works = {
            "the editor's JSON read": lambda t=text: parse_regions(t),
            "boxes to blocks, 1024 px": lambda r=found: assign_cells(r, 32, 32),
            "noise of 1024 px": lambda w=layout: w.build(2),
            "picture of the layout": lambda o=owner, g=groups, w=worth, n=noise, c=layout.categories: (
                layout_picture(o, g, w, n, 4, c)
            ),
        }
        curves.add("regions", count, works)


def batches(curves: Curves, folder: Path) -> None:
    bank = make_bank(PAIR, 100_000)
    layout = Layout(bank, TWO, SIDE, SIDE)
    for count in (1, 2, 4, 8, 16, 32, 64):
        masks = (torch.rand(count, 512, 512, generator=torch.Generator().manual_seed(1)) > 0.5).float()
        works: Works = {
            "noise": lambda n=count: layout.build(2, range(n)),
            "plain noise": lambda n=count: plain_noise(2, (4, SIDE, SIDE), range(n)),
            "noise of a mask for each": lambda n=count, m=masks: Layout(
                bank, (MaskRegion("tree", m),), SIDE, SIDE, soft=True
            ).build(2, range(n)),
            "what was built, as text": lambda n=count: layout.describe(n),
            "noise report": lambda n=count: measure(plain_noise(2, (4, SIDE, SIDE), range(n)), BLOCK),
        }
        curves.add("images", count, works)


def main() -> None:
    curves = Curves()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for what in ARGS.what or PARTS:
            globals()[what](curves, Path(folder))
    print(f"\n{time.monotonic() - began:.0f} s\n")
    print("\n".join(curves.rows()))


if __name__ == "__main__":
    main()

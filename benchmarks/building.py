"""Ticket Latent from Regions against the authors' per-block loop: building; loading and merging large banks.

    python benchmarks/building.py --comfyui DIR [--forward] [--merge]

A bank of 100,352 tickets of 5 categories, a latent of 1024x1024 pixels (1,024 blocks) with 5 regions. The
same rules as plain Python over blocks, as the released code does it, in the same run; CPU time, the best
of some repeats. `--forward` also times a forward of SD1.5's shape with random weights at 512x512. `--merge`
times nothing but merging 100, 200 and 400 parts of 1,024 tickets each, at once and one after the other.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial, reduce
from itertools import permutations
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--repeats", type=int, default=12)
parser.add_argument("--forward", action="store_true", help="also time a forward of SD1.5's shape")
parser.add_argument("--merge", action="store_true", help="time merging alone")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import torch
from winning_tickets.tickets.bank.bank import Recipe, TicketBank
from winning_tickets.tickets.bank.combine import merge
from winning_tickets.tickets.bank.file import load_bank, save_bank
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.tickets.layout.select import REPEAT, Rank, Selection, Thresholds
from winning_tickets.tickets.noise import plain_noise, to_blocks
from winning_tickets.tickets.prompts import make_prompts

NAMES = ("castle", "lake", "sky", "tree", "boat")
NOISES = 98
REGIONS = (
    Region("castle", 0.6, 0.2, 1.0, 0.7),
    Region("lake", 0.0, 0.7, 1.0, 1.0),
    Region("sky", 0.0, 0.0, 1.0, 0.2),
    Region("tree", 0.0, 0.3, 0.3, 0.7),
    Region("boat", 0.4, 0.75, 0.55, 0.85),
)
# Random attention leans less than a model's: wide limits, so that every pool has enough.
LIMITS = Thresholds(t_pos=0.3, t_neg=0.9, t_bg=0.7)
RANK = Rank()


def make_bank(seeds: range = range(NOISES)) -> TicketBank:
    generator = torch.Generator().manual_seed(0)
    prompts = make_prompts(NAMES)
    measured = tuple((c, i) for i, p in enumerate(prompts) for c, _, _ in p.phrases)
    drawn = torch.cat([plain_noise(s, (4, 128, 128)) for s in seeds])
    recipe = Recipe("input 5", 4, 4, 128, 128, 14.6, 0.13, "SDXL")
    maps = torch.rand(len(measured), len(seeds), 32, 32, generator=generator)
    blocks = to_blocks(drawn, 4).flatten(0, 2)
    return TicketBank.of_maps(
        NAMES, tuple(p.text for p in prompts), measured, tuple(seeds), maps, blocks, recipe
    )


Given = dict[tuple[str, str], list[float]]
"""Of every category beside every other, a number for each block."""


def threshold_loop(score: Given, blocks: int) -> list[list[int]]:
    """Pools of every category, and of the background, block by block."""
    pools: list[list[int]] = [[] for _ in range(len(NAMES) + 1)]
    for i in range(blocks):
        for which, u in enumerate(NAMES):
            others = [v for v in NAMES if v != u]
            wins = all(score[u, v][i] > LIMITS.t_pos for v in others)
            if wins and all(score[v, u][i] < LIMITS.t_neg for v in others):
                pools[which].append(i)
        if all(s[i] < LIMITS.t_bg for s in score.values()):
            pools[-1].append(i)
    return pools


def rank_loop(ranks: Given, blocks: int) -> list[list[int]]:
    """The same by rank difference."""
    best, best_background = (round(share * blocks) for share in (RANK.best, RANK.best_background))
    pools = []
    for u in NAMES:
        others = [v for v in NAMES if v != u]
        gaps = [min(ranks[u, v][i] - ranks[v, u][i] for v in others) for i in range(blocks)]
        pools.append(sorted(range(blocks), key=lambda i: -gaps[i])[:best])
    highest = [max(r[i] for r in ranks.values()) for i in range(blocks)]
    pools.append(sorted(range(blocks), key=lambda i: highest[i])[:best_background])
    return pools


def filled(pools: list[list[int]], blocks: torch.Tensor, owner: list[list[int]]) -> torch.Tensor:
    """One block after another into the latent [4, 128, 128], as the released code does."""
    generator = random.Random(0)
    latent = torch.zeros(4, 128, 128)
    left = [generator.sample(pool, len(pool)) for pool in pools]
    whole = [list(pool) for pool in left]
    for y, line in enumerate(owner):
        for x, who in enumerate(line):
            if not left[who]:
                left[who] = list(whole[who])
            latent[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = blocks[left[who].pop()]
    return latent


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """CPU seconds of the shortest of some repeats: of all threads, without what others take of the cores."""
    return seconds_each([work] * repeats)


def seconds_each(works: Iterable[Callable[[], Any]]) -> float:
    times = []
    for work in works:
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def resident() -> float:
    """MB of this process in memory; 0 where the system does not tell so."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def build(bank: TicketBank, selection: Selection) -> torch.Tensor:
    """From nothing: regions to cells, scores, pools, draw."""
    return Layout(bank, REGIONS, 128, 128, selection, shortage=REPEAT).build(0)


def build_anew(bank: TicketBank, selection: Selection) -> torch.Tensor:
    """With scores and ranks known, pools not."""
    bank.pools.clear()
    bank.excess.clear()
    return build(bank, selection)


def merging() -> None:
    parts = [make_bank(range(k, k + 1)) for k in range(400)]
    for count in (100, 200, 400):
        some = parts[:count]
        at_once = seconds(lambda some=some: merge(some), 3)
        folded = seconds(lambda some=some: reduce(lambda one, other: merge([one, other]), some), 1)
        print(
            f"{count} parts: {at_once:.2f} CPU s at once, {folded:.2f} one after the other,"
            f" {folded / at_once:.0f} times"
        )


def main() -> None:
    if ARGS.merge:
        merging()
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank.safetensors"
        save_bank(make_bank(), path)
        before = resident()
        began = time.perf_counter()
        bank = load_bank(path)
        took = time.perf_counter() - began
        print(
            f"Loading {len(bank.blocks):,} tickets, {path.stat().st_size / 1e6:.0f} MB: {took:.2f} s,"
            f" {resident() - before:.0f} MB more in memory"
        )
    pairs = list(permutations(NAMES, 2))
    owner = Layout(bank, REGIONS, 128, 128).owner().tolist()
    kinds = (
        ("thresholds", LIMITS, threshold_loop, {pair: bank.score(*pair).tolist() for pair in pairs}),
        ("rank", RANK, rank_loop, {pair: bank.rank(*pair).tolist() for pair in pairs}),
    )
    for name, selection, loop, given in kinds:

        def theirs(loop: Any = loop, given: Given = given) -> torch.Tensor:
            return filled(loop(given, len(bank.blocks)), bank.blocks, owner)

        slow = seconds(theirs, max(1, ARGS.repeats // 4))
        fresh = seconds_each(partial(build, replace(bank), selection) for _ in range(ARGS.repeats))
        anew = seconds_each(partial(build_anew, bank, selection) for _ in range(ARGS.repeats))
        again = seconds(lambda s=selection: build(bank, s), ARGS.repeats)
        print(
            f"{name}: the loop over blocks {slow:.2f} CPU s, its scores or ranks given; ours likewise"
            f" {anew * 1e3:.1f} ms, {slow / anew:.0f} times faster; another seed {again * 1e3:.1f} ms,"
            f" {slow / again:.0f} times; of a bank just loaded {fresh * 1e3:.1f} ms,"
            f" {slow / fresh:.0f} times",
            flush=True,
        )
    if ARGS.forward:
        print(f"A forward of SD1.5's shape at 512x512: {forward():.2f} CPU s", flush=True)


def forward() -> float:
    import real_size
    from winning_tickets.probe.attention.scorer import Scorer

    model, clip = real_size.sd15()
    scorer = Scorer(model, clip, "forward", 512, 512)
    encoded, x = scorer.encode(make_prompts(NAMES[:2])[:1]), plain_noise(0, scorer.shape)
    return seconds(lambda: scorer.maps(encoded, x), 3) / scorer.share


if __name__ == "__main__":
    with torch.inference_mode():
        main()

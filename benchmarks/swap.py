"""Block swap: how long an arrangement takes, and how far its moves are from the shortest ones.

    OMP_NUM_THREADS=1 python benchmarks/swap.py [--repeats N] [--cells N ...]

Random scores, and smooth ones with noise on them as a model's are, for 1 to 4 regions; and the worst case:
everything in one half belongs into the other. CPU time, the least of the repeats. The moved blocks' squared
distances are compared with those of scipy's assignment of the same blocks.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--cells", type=int, nargs="+", default=[256, 1024, 4096])
ARGS = parser.parse_args()
start.pack()

import torch
from scipy.optimize import linear_sum_assignment
from winning_tickets.tickets.layout.regions import Region, assign_cells
from winning_tickets.tickets.search.swap import arrangement

REGIONS = (
    Region("a", 0.0, 0.0, 0.5, 0.5),
    Region("b", 0.5, 0.5, 1.0, 1.0),
    Region("c", 0.0, 0.6, 0.4, 1.0),
    Region("d", 0.6, 0.0, 1.0, 0.4),
)
Scores = Callable[[int, int], torch.Tensor]


def independent(count: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side + count)
    return torch.rand(count, side, side, generator=generator)


def smooth(count: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side + count)
    coarse = torch.randn(1, count, side // 8 + 1, side // 8 + 1, generator=generator)
    fine = torch.randn(count, side, side, generator=generator)
    large = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0]
    return torch.sigmoid(large + 0.3 * fine)


def groups_of(count: int, side: int) -> torch.Tensor:
    return assign_cells(REGIONS[:count], side, side)


def halves(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and groups of the worst case."""
    groups = torch.full((side, side), -1)
    groups[:, : side // 2] = 0
    return (groups < 0).float()[None], groups


def squared(start: torch.Tensor, end: torch.Tensor, side: int) -> torch.Tensor:
    return (start // side - end // side) ** 2 + (start % side - end % side) ** 2


def shortest(order: torch.Tensor, groups: torch.Tensor) -> int:
    """Sum of squared distances when the blocks that come into each group take the best of its cells."""
    side = groups.shape[1]
    group, cells = groups.flatten(), torch.arange(groups.numel())
    total = 0
    for g in group.unique():
        end = cells[(group == g) & (order != cells)]
        way = squared(order[end][:, None], end, side).double().numpy()
        rows, columns = linear_sum_assignment(way)
        total += int(way[rows, columns].sum())
    return total


def measure(scores: torch.Tensor, groups: torch.Tensor) -> tuple[float, int, float]:
    """CPU seconds, blocks moved, and their distances over the shortest."""
    seconds = []
    for _ in range(ARGS.repeats):
        began = time.process_time()
        order = arrangement(scores, groups)
        seconds.append(time.process_time() - began)
    cells = torch.arange(len(order))
    ways = int(squared(order, cells, groups.shape[1]).sum())
    return min(seconds), int((order != cells).sum()), ways / max(shortest(order, groups), 1)


def main() -> None:
    torch.set_num_threads(1)
    print("| cells | regions | scores | moved | CPU time | distance / shortest |")
    print("| --- | --- | --- | --- | --- | --- |")
    for cells in ARGS.cells:
        side = math.isqrt(cells)
        cases = [
            (str(count), make.__name__, make(count, side), groups_of(count, side))
            for count in range(1, 5)
            for make in (independent, smooth)
        ]
        cases.append(("1", "worst case", *halves(side)))
        for count, name, scores, groups in cases:
            seconds, moved, ratio = measure(scores, groups)
            print(
                f"| {cells:,} | {count} | {name} | {moved:,} | {1000 * seconds:.1f} ms | {ratio:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

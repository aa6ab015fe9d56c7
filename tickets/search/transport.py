"""Blocks to groups of fixed sizes, with the greatest total value, and then to the nearest free cells.

The first is a transportation problem with many blocks and few groups, for which a general assignment (cubic
in the blocks) is far too slow: it is solved by exchanges between groups until none is left that gains
anything. The second is an assignment on a grid, which is fast once good prices of the cells are known.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment

LEAST_GAIN = 1e-6
# Cells of one assignment, whose costs then take 128 MB: its time and memory grow with their square. Of more,
# each part has PART at most.
MOST_AT_ONCE = 4096
PART = 2048


def regroup(value: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The group of every block [blocks], as many in each as in `group`, of the greatest total value.

    value [blocks, groups]. group [blocks]: where they are. Exchanges that gain less than LEAST_GAIN are
    not made, so blocks that are well placed stay.
    """
    group = group.copy()
    count = value.shape[1]
    while any([_exchange(value, group, g, h) for g in range(count) for h in range(g)]):
        pass
    while (cycle := _best_cycle(*_moves(value, group))) is not None:
        for block, target in cycle:
            group[block] = target
    return group


def _exchange(value: np.ndarray, group: np.ndarray, g: int, h: int) -> bool:
    """All gainful exchanges of one block of g with one of h; whether there were any."""
    there, back = np.flatnonzero(group == g), np.flatnonzero(group == h)
    gains = [value[there, h] - value[there, g], value[back, g] - value[back, h]]
    order = [np.argsort(-gain, kind="stable") for gain in gains]
    size = min(len(there), len(back))
    together = gains[0][order[0][:size]] + gains[1][order[1][:size]]
    gainful = int((together > LEAST_GAIN).sum())
    group[there[order[0][:gainful]]], group[back[order[1][:gainful]]] = h, g
    return gainful > 0


def _moves(value: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The greatest gain of moving one block from each group to each other, and which block."""
    count = value.shape[1]
    gain = np.full((count, count), -np.inf)
    who = np.zeros((count, count), np.int64)
    for g in range(count):
        members = np.flatnonzero(group == g)
        if len(members):
            gains = value[members] - value[members, g, None]
            who[g] = members[gains.argmax(0)]
            gain[g] = gains.max(0)
    np.fill_diagonal(gain, -np.inf)
    return gain, who


def _best_cycle(gain: np.ndarray, who: np.ndarray) -> list[tuple[int, int]] | None:
    """(block, new group) all along a cycle of moves that gains something; None if there is no such cycle."""
    count = len(gain)
    total = gain.copy()
    following = np.tile(np.arange(count), (count, 1))
    for k in range(count):
        through = total[:, k, None] + total[k]
        better = through > total + 1e-12
        total = np.where(better, through, total)
        following = np.where(better, following[:, k, None], following)
        gainful = np.flatnonzero(total.diagonal() > LEAST_GAIN)
        if len(gainful):
            start = at = int(gainful[0])
            cycle, seen = [], set()
            while at not in seen:
                seen.add(at)
                towards = int(following[at, start])
                cycle.append((int(who[at, towards]), towards))
                at = towards
            # A walk may enter the cycle late: what comes before is not part of it.
            entry = next(i for i, (_, target) in enumerate([(-1, start), *cycle]) if target == at)
            return cycle[entry:]
    return None


def nearest(coming: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Which free cell each coming one goes to, both numbered in raster order [cells that come].

    coming, free [rows, columns] bool, as many of the one as of the other. The sum of the squared distances
    is the least possible one for up to MOST_AT_ONCE; more are halved first, by where they are, as often as
    it takes.
    """
    there, here = np.argwhere(coming), np.argwhere(free)
    most = MOST_AT_ONCE if len(there) <= MOST_AT_ONCE else PART
    partner = np.empty(len(there), np.int64)
    for some, places in _halved(there, here, np.arange(len(there)), np.arange(len(here)), most):
        whole = len(some) == len(there)
        part = (coming, free) if whole else _marked(there[some], here[places])
        partner[some] = places[_assigned(*part)]
    return here[partner] @ (coming.shape[1], 1)


def _halved(
    there: np.ndarray, here: np.ndarray, some: np.ndarray, places: np.ndarray, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Parts of at most `most` cells that come and as many free ones near to them, as ascending indices."""
    if len(some) <= most:
        yield some, places
        return
    axis = int(np.maximum(np.ptp(there[some], 0), np.ptp(here[places], 0)).argmax())
    some = some[there[some, axis].argsort(kind="stable")]
    places = places[here[places, axis].argsort(kind="stable")]
    half = len(some) // 2
    for part in (slice(half), slice(half, None)):
        yield from _halved(there, here, np.sort(some[part]), np.sort(places[part]), most)


def _marked(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of cells [cells, 2] as masks [rows, columns] that begin where each of them does.

    Where both are moved to the same place, the best assignment by squared distances stays the best one.
    """
    cells = [points - points.min(0) for points in (one, other)]
    masks = np.zeros((2, *(np.maximum(*(c.max(0) for c in cells)) + 1)), bool)
    for mask, places in zip(masks, cells, strict=True):
        mask[tuple(places.T)] = True
    return masks[0], masks[1]


def _assigned(coming: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Which free cell each coming one goes to, as `nearest`, numbered among the free ones."""
    near, far = (np.rint(p) for p in _prices(coming, free))
    (y, x), (v, u) = np.nonzero(coming), np.nonzero(free)
    # Prices change the cost of every assignment by the same sum. With good ones nearly every cell's best
    # partner costs about 0 and is found at once. Whole numbers keep the costs exact. As one product:
    # (y - v)^2 + (x - u)^2 - near - far.
    left = np.stack([y, x, np.ones_like(y), y**2 + x**2 - near[coming]], 1)
    right = np.stack([-2 * v, -2 * u, v**2 + u**2 - far[free], np.ones_like(v)], 1)
    return linear_sum_assignment(left @ right.T)[1]


def _prices(coming: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prices of the cells [rows, columns] at which coming and free ones nearly agree on their partners.

    Those of entropic optimal transport (Cuturi 2013, "Sinkhorn Distances"), with ever less blur. On a grid
    its kernel is one small matrix for each axis (Solomon et al. 2015, "Convolutional Wasserstein Distances").
    """
    side = max(coming.shape)
    squares = [np.subtract.outer(np.arange(n), np.arange(n)) ** 2 for n in coming.shape]
    near, far = np.zeros(coming.shape), np.zeros(coming.shape)
    for blur in side * np.array([4, 2, 1, 1 / 2, 1 / 4]):
        down, across = (np.exp(-s / blur) for s in squares)
        here = coming * np.exp(np.clip(near / blur, -600, 600))
        for _ in range(1 + side // 8):
            there = free / np.maximum(down @ here @ across, 1e-300)
            here = coming / np.maximum(down @ there @ across, 1e-300)
        near, far = blur * np.log(np.where(coming, here, 1)), blur * np.log(np.where(free, there, 1))
    return near, far

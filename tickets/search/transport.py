"""Blocks to groups of fixed sizes, with the greatest total value.

A transportation problem with many blocks and few groups, for which a general assignment (cubic in the
blocks) is far too slow: it is solved by exchanges between groups until none is left that gains anything.
"""

from __future__ import annotations

import numpy as np

LEAST_GAIN = 1e-6


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

"""Moved blocks: do they keep their scores in other noises and places? (Mao et al. 2024, property 1.)"""

from __future__ import annotations

import torch
from einops import rearrange

from .noise import place_blocks, to_blocks
from .score import paper_score


def shuffled(noise: torch.Tensor, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noises [S, C, h, w] with all whole blocks exchanged at random, between noises and places alike.

    Also the order: block i of the result, in the raster of all noises, was block order[i] before.
    """
    blocks = to_blocks(noise, size)
    shape = blocks.shape[:3]
    flat = blocks.flatten(0, 2)
    order = torch.randperm(len(flat), generator=torch.Generator("cpu").manual_seed(seed % 2**63))
    moved = flat[order].unflatten(0, shape)
    return torch.stack([place_blocks(n, b) for n, b in zip(noise, moved, strict=True)]), order


def correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Pearson's, along the last dimension; 0 where one of them does not vary."""
    a, b = (x - x.mean(-1, keepdim=True) for x in (one.double(), other.double()))
    scale = (a.square().sum(-1) * b.square().sum(-1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(-1) / scale.clamp_min(1e-300), torch.zeros_like(scale))


def kept_score(before: torch.Tensor, after: torch.Tensor, order: torch.Tensor) -> float:
    """How much of the paper's score moved with the blocks: correlation, mean over the rows.

    before, after: attention [rows, noises, y, x] on the blocks' grid, of the noises as drawn and
    `shuffled`. 1: a block's score is its own; 0: it is all its surroundings'.
    """
    was = rearrange(paper_score(before), "r s y x -> r (s y x)")[:, order]
    now = rearrange(paper_score(after), "r s y x -> r (s y x)")
    return float(correlation(was, now).mean())

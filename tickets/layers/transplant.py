"""Moved blocks: what they do in other noises and places (Mao et al. 2024, property 1)."""

from __future__ import annotations

import torch
from einops import rearrange

from ..grid import Grid
from ..layout.regions import Region, assign_cells
from ..layout.select import draw
from ..noise import place_blocks, to_blocks
from ..score import paper_score

# A place for each of two categories, mirrored, so that neither is favoured by where things usually are.
BOXES = (Region("left", 0.0625, 0.25, 0.4375, 0.75), Region("right", 0.5625, 0.25, 0.9375, 0.75))
BEST = 0.05


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


def standardised(maps: torch.Tensor) -> torch.Tensor:
    """Maps [..., rows, columns], each of mean 0 and variance 1; a flat one is 0."""
    centred = maps - maps.mean((-2, -1), keepdim=True)
    return centred / centred.std((-2, -1), keepdim=True).clamp_min(1e-12)


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


def transplant(
    attention: torch.Tensor, noise: torch.Tensor, grid: Grid, images: int, seed: int
) -> torch.Tensor:
    """Noises [images, C, h, w] with the best blocks of one or two phrases in BOXES, the worst around.

    attention [phrases, S, rows, columns]: of the noises [S, C, h, w] whose blocks on the grid are taken.
    Best: the highest BEST of all blocks by the paper's score less the other phrase's. In every second image
    the phrases change places. Latents beyond the last whole block stay as they were.
    """
    blocks = to_blocks(noise, grid.block)
    scores = paper_score(attention).flatten(1)
    own = scores if len(scores) == 1 else scores - scores.flip(0)
    count = max(1, round(BEST * scores.shape[1]))
    pools = [s.topk(count).indices for s in (*own, -scores.amax(0))]
    owner = assign_cells(list(BOXES), *grid.exact)
    generator = torch.Generator("cpu").manual_seed(seed % 2**63)
    result = []
    for image in range(images):
        chosen = torch.full_like(owner, -1)
        for box in range(2):
            who = (box + image) % 2
            cells = owner == box
            pool = pools[who] if who < len(scores) else pools[-1]
            chosen[cells] = draw(pool, int(cells.sum()), generator)
        chosen[owner < 0] = draw(pools[-1], int((owner < 0).sum()), generator)
        result.append(place_blocks(noise[image % len(noise)], blocks.flatten(0, 2)[chosen]))
    return torch.stack(result)


def bias(maps: torch.Tensor, grid: Grid) -> torch.Tensor:
    """How much more of the attention is in a phrase's box than in the other one [images].

    maps [images, phrases, rows, columns]: attention on noises made by `transplant`, on the grid. In standard
    deviations of a map, mean over the phrases; about 0 for noise without tickets.
    """
    owner = assign_cells(list(BOXES), *grid.exact)
    scaled = standardised(maps)
    left, right = (scaled[..., owner == box].mean(-1) for box in range(2))
    image, phrase = torch.arange(maps.shape[0])[:, None], torch.arange(maps.shape[1])[None]
    sign = 1 - 2 * ((image + phrase) % 2)
    return ((left - right) * sign).mean(1)


def effects(biases: torch.Tensor) -> torch.Tensor:
    """Effect of each layer's tickets on the whole UNet, per sample [layers, samples].

    biases [layers that read, layers of the tickets, samples]. Mean over the layers that read, weighted by
    how much they respond to the tickets of *other* layers in all *other* samples: what sees nothing, or
    only itself, counts for nothing, and chance stays at 0.
    """
    layers, _, samples = biases.shape
    if layers == 1:
        return biases[0]
    others = 1 - torch.eye(layers)
    response = (biases * others[..., None]).sum(1) / (layers - 1)
    if samples > 1:
        response = (response.sum(1, keepdim=True) - response) / (samples - 1)
    weights = response.clamp_min(0)
    weights = torch.where(weights.sum(0) > 0, weights, torch.ones(()))[:, None]
    return (weights * biases).sum(0) / weights.sum(0)

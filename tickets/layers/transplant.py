"""Moved blocks: what they do in other noises and places (Mao et al. 2024, property 1)."""

from __future__ import annotations

from dataclasses import replace

import torch
from einops import rearrange

from ..bank.bank import Recipe, TicketBank
from ..grid import Grid
from ..layout.build import Layout
from ..layout.calibrate import STANDARDIZE
from ..layout.regions import Region, assign_cells
from ..layout.select import Rank
from ..noise import place_blocks, to_blocks
from ..score import paper_score

PLACES = (
    (Region("left", 0.0625, 0.25, 0.4375, 0.75), Region("right", 0.5625, 0.25, 0.9375, 0.75)),
    (Region("above", 0.0625, 0.0625, 0.4375, 0.4375), Region("below", 0.5625, 0.5625, 0.9375, 0.9375)),
)


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


def places(image: int) -> tuple[Region, Region]:
    """Where the first and the second phrase go in an image: they change places in every second one."""
    pair = PLACES[image // 2 % len(PLACES)]
    return pair if image % 2 == 0 else (pair[1], pair[0])


def transplant(
    attention: torch.Tensor, noise: torch.Tensor, grid: Grid, images: int, seed: int, first: int = 0
) -> torch.Tensor:
    """Noises [images, C, h, w] of tickets of one or two phrases at `places`, as layouts are made by default.

    attention [phrases, S, rows, columns]: of the noises [S, C, h, w], whose blocks on the grid are taken.
    first: number of the first image.
    """
    names = ("first", "second")[: len(attention)]
    channels, height, width = noise.shape[1:]
    bank = TicketBank.of_maps(
        names,
        ("both",),
        tuple((n, 0) for n in range(len(names))),
        tuple(range(len(noise))),
        attention.float(),
        to_blocks(noise, grid.block).flatten(0, 2),
        Recipe("", grid.block, channels, height, width, 1.0, 1.0, ""),
    )
    result = []
    for image in range(first, first + images):
        regions = tuple(replace(r, category=n) for r, n in zip(places(image), names, strict=False))
        layout = Layout(bank, regions, width, height, Rank(), calibration=STANDARDIZE)
        result.append(layout.build(seed, (image,)))
    return torch.cat(result)


def bias(maps: torch.Tensor, grid: Grid, first: int = 0) -> torch.Tensor:
    """How much more of the attention is in a phrase's place than in the other one [images].

    maps [images, phrases, rows, columns]: attention on noises made by `transplant`, on the grid. In standard
    deviations of a map, mean over the phrases; about 0 for noise without tickets.
    """
    scaled = standardised(maps)
    found = []
    for image, own in enumerate(scaled, first):
        owner = assign_cells(places(image), *grid.exact)
        one, other = (own[..., owner == box].mean(-1) for box in range(2))
        signs = torch.tensor([1.0, -1.0][: len(own)]).to(own)
        found.append(((one - other) * signs).mean())
    return torch.stack(found)


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

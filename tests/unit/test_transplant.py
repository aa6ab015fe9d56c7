"""Moved blocks: what the figures of a layer mean, on cases with a known answer."""

from __future__ import annotations

import pytest
import torch
from winning_tickets.tickets import noise
from winning_tickets.tickets.grid import Grid
from winning_tickets.tickets.layers.transplant import (
    bias,
    correlation,
    effects,
    kept_score,
    places,
    shuffled,
    transplant,
)
from winning_tickets.tickets.layout.regions import assign_cells

GRID = Grid(16, 16, 2)


def drawn(count: int = 6) -> torch.Tensor:
    return torch.cat([noise.plain_noise(s, (4, 16, 16)) for s in range(count)])


def means(x: torch.Tensor, size: int = 2) -> torch.Tensor:
    """A score that lies in the block alone [1, S, y, x]."""
    return noise.to_blocks(x, size).mean((-3, -2, -1))[None]


def test_shuffling_moves_whole_blocks_and_tells_where_from() -> None:
    x = drawn()
    moved, order = shuffled(x, 2, 5)
    before, after = (noise.to_blocks(t, 2).flatten(0, 2) for t in (x, moved))
    assert torch.equal(after, before[order]) and not torch.equal(after, before)
    assert torch.equal(shuffled(x, 2, 5)[0], moved)


def test_a_score_of_the_block_itself_is_kept_and_one_of_its_place_is_not() -> None:
    x = drawn(20)
    moved, order = shuffled(x, 2, 0)
    assert kept_score(means(x), means(moved), order) > 0.9
    place = torch.arange(64.0).view(1, 1, 8, 8).expand(1, 20, 8, 8)
    assert abs(kept_score(place, place, order)) < 0.1


def test_correlation_of_what_does_not_vary_is_nothing() -> None:
    assert correlation(torch.ones(3, 8), torch.rand(3, 8)).tolist() == [0, 0, 0]
    torch.testing.assert_close(
        correlation(torch.arange(8.0), -torch.arange(8.0)), torch.tensor(-1.0).double()
    )


def test_tickets_of_a_phrase_lie_in_its_place_and_losers_around() -> None:
    x = drawn(20)
    attention = torch.cat([means(x), -means(x)])
    built = transplant(attention, x, GRID, images=4, seed=3)
    found = means(built)[0]
    for image in range(4):
        owner = assign_cells(places(image), 8, 8)
        assert found[image][owner == 0].min() > found[image][owner < 0].max()
        assert found[image][owner == 1].max() < found[image][owner < 0].min()
    assert torch.equal(transplant(attention, x, GRID, images=4, seed=3), built)


def test_phrases_change_places_and_stand_in_several() -> None:
    assert places(0) == places(1)[::-1] and places(2) == places(3)[::-1]
    assert len({region.category for image in range(4) for region in places(image)}) == 4


def test_a_lone_phrase_has_one_place() -> None:
    x = drawn(20)
    found = means(transplant(means(x), x, GRID, images=4, seed=3))[0]
    for image in range(4):
        owner = assign_cells(places(image), 8, 8)
        assert found[image][owner == 0].min() > found[image][owner != 0].max()


def test_transplanted_noise_is_what_a_layout_makes_by_default() -> None:
    """A late layer's blocks seemed to do most: unlike a layout's, they made a mosaic of the image."""
    x = drawn(20)
    built = transplant(torch.cat([means(x), -means(x)]), x, GRID, images=2, seed=3)
    torch.testing.assert_close(built.mean((-2, -1)), torch.zeros(2, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(built.std((-2, -1), correction=0), torch.ones(2, 4))


@pytest.mark.parametrize("size", [(18, 18, 4), (19, 13, 2), (6, 5, 2), (4, 4, 2)])
def test_any_size_with_two_cells_a_side_will_do(size: tuple[int, int, int]) -> None:
    height, width, block = size
    x = torch.cat([noise.plain_noise(s, (4, height, width)) for s in range(4)])
    scores = noise.to_blocks(x, block).mean((-3, -2, -1))[None]
    for attention in (scores, torch.cat([scores, -scores])):
        built = transplant(attention, x, Grid(height, width, block), images=4, seed=0)
        assert built.shape == x.shape and bool(built.isfinite().all())
        grid = Grid(height, width, block)
        assert bool(
            bias(torch.cat([noise.to_blocks(built, block).mean((-3, -2, -1))[:, None]], 1), grid)
            .isfinite()
            .all()
        )


def test_bias_is_positive_where_attention_follows_the_places() -> None:
    owners = [assign_cells(places(image), 8, 8) for image in range(4)]
    right_way = torch.stack([torch.stack([o == 0, o == 1]).float() for o in owners])
    assert (bias(right_way, GRID) > 1).all()
    torch.testing.assert_close(bias(right_way.flip(1), GRID), -bias(right_way, GRID))
    torch.testing.assert_close(bias(3 * right_way + 5, GRID), bias(right_way, GRID))
    assert bias(torch.ones(2, 2, 8, 8), GRID).tolist() == [0, 0]


def test_effect_of_chance_is_nothing_and_dead_layers_do_not_dilute_it() -> None:
    generator = torch.Generator().manual_seed(0)
    noise_only = torch.randn(7, 7, 400, generator=generator)
    assert effects(noise_only).mean(1).abs().max() < 0.3
    alive = noise_only.clone()
    alive[:2, :2] += 2.0
    found = effects(alive).mean(1)
    assert (found[:2] > 1.5).all() and found[2:].abs().max() < 0.3


def test_a_layer_that_only_sees_itself_has_no_effect() -> None:
    """Rule: a layer's own opinion of its tickets says nothing of what the others make of them."""
    biases = 0.1 * torch.randn(5, 5, 50, generator=torch.Generator().manual_seed(0))
    biases[0, 0] += 5
    biases[1:3, 1:3] += 1
    found = effects(biases).mean(1)
    assert found[0] < 0.2 < 0.8 < found[1]

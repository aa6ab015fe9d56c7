"""Grid: which cells of a map lie under which blocks of a latent, at every size."""

from __future__ import annotations

import pytest
import torch
from winning_tickets.tickets.grid import Grid, GridError, latent_side, map_size


@pytest.mark.parametrize("side", range(8, 42))
def test_a_map_has_as_many_cells_as_convolutions_of_stride_2_leave(side: int) -> None:
    x = torch.zeros(1, 1, side, side + 3)
    for stride in (1, 2, 4, 8):
        assert map_size(side, side + 3, stride) == tuple(x.shape[-2:])
        x = torch.nn.functional.conv2d(x, torch.zeros(1, 1, 3, 3), stride=2, padding=1)


def test_blocks_are_whole_and_pooled_from_the_cells_above_them() -> None:
    grid = Grid(19, 13, 4)
    assert grid.shape == (4, 3) and grid.exact == (19 / 4, 13 / 4)
    fine = torch.arange(10 * 7).float().view(1, 10, 7)
    pooled = grid.pool(fine, 2)
    assert pooled.shape == (1, 4, 3)
    assert float(pooled[0, 3, 2]) == float(fine[0, 6:8, 4:6].mean())
    assert torch.equal(grid.pool(torch.ones(2, 3, 5, 4), 4), torch.ones(2, 3, 4, 3))


def test_a_map_of_another_size_is_refused() -> None:
    """Rule: a map is never taken for the image's own because its size happens to divide."""
    with pytest.raises(GridError, match="A map of 11x11 cells is not of a latent of 64x64, which has 8x8"):
        Grid(64, 64, 8).pool(torch.ones(1, 11, 11), 8)


def test_cells_coarser_than_blocks_are_refused() -> None:
    with pytest.raises(GridError, match="Blocks of 2 latent pixels cannot be told apart .* for every 4"):
        Grid(64, 64, 2).pool(torch.ones(1, 16, 16), 4)


def test_blocks_larger_than_the_image_are_refused() -> None:
    with pytest.raises(
        GridError, match="Blocks of 8x8 latent pixels do not fit a latent of 40x7: raise width"
    ):
        Grid(7, 40, 8)


def test_several_layers_meet_on_the_coarsest() -> None:
    assert Grid.of_layers(40, 40, [1, 4, 2], 2).block == 8
    assert latent_side(520) == 65

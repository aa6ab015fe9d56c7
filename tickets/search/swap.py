"""Block swap (Mao et al. 2023, "Guided Image Synthesis via Initial Image Editing"), for any regions.

The blocks of one noise change places, so that those which lean most towards a category lie in its region.
The noise stays a permutation of what was drawn: exactly Gaussian, whatever the regions.
"""

from __future__ import annotations

import torch

from ..noise import place_blocks, to_blocks
from .fit import best_other
from .transport import nearest, regroup


def block_value(scores: torch.Tensor) -> torch.Tensor:
    """What each block is worth to each category, and last to the background [blocks, categories + 1].

    scores [categories, rows, columns]. To a category: own score minus the best other; to the background:
    minus the best score.
    """
    flat = scores.flatten(1)
    return torch.cat([flat - best_other(flat, 0), -flat.amax(0, keepdim=True)]).T.contiguous()


def arrangement(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Which block goes into each cell, both in raster order [cells].

    groups [rows, columns]: the category to place in each cell, -1 for the background. The blocks are
    given to the groups with the greatest total value; those which lie in their group already stay, the
    others go to the cells set free, as near to where they were as can be.
    """
    value = block_value(scores).double()
    group = torch.where(groups < 0, value.shape[1] - 1, groups).numpy()
    wanted = regroup(value.numpy(), group.ravel()).reshape(group.shape)
    result = torch.arange(group.size)
    for g in range(value.shape[1]):
        coming, free = (wanted == g) & (group != g), (wanted != g) & (group == g)
        if coming.any():
            result[nearest(coming, free)] = torch.from_numpy(coming.ravel().nonzero()[0])
    return result


def swap(noise: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, block: int) -> torch.Tensor:
    """Noise [C, h, w] with its blocks of `block` x `block` latent pixels exchanged; see `arrangement`."""
    blocks = to_blocks(noise[None], block)[0]
    order = arrangement(scores, groups)
    return place_blocks(noise, blocks.flatten(0, 1)[order].view_as(blocks))

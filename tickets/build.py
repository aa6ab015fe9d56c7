"""New initial noise from winning and losing tickets (Mao et al. 2024, SemI)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .bank import BankError, TicketBank
from .noise import place_blocks, plain_noise
from .regions import Region, assign_cells
from .select import Pools, Thresholds, draw, require, threshold_pools


def image_generator(seed: int, index: int) -> torch.Generator:
    """The random numbers of image `index` of `seed`, the same in any batch."""
    state = np.random.SeedSequence([seed % 2**64, index]).generate_state(1, np.uint64)
    return torch.Generator("cpu").manual_seed(int(state[0]))


@dataclass(frozen=True)
class Layout:
    """Everything that decides the noise of an image, but for its seed and index in the batch.

    width and height are those of the latent, in latent pixels.
    """

    bank: TicketBank
    regions: tuple[Region, ...]
    width: int
    height: int
    thresholds: Thresholds = Thresholds()

    @cached_property
    def owner(self) -> torch.Tensor:
        """Index of the region each whole block belongs to, -1 for background [rows, columns]."""
        block = self.bank.recipe.block
        if min(self.height, self.width) < block:
            raise BankError(
                f"The bank's blocks of {block * 8} pixels do not fit an image of"
                f" {self.width * 8}x{self.height * 8}: raise width and height."
            )
        return assign_cells(list(self.regions), self.height / block, self.width / block)

    @cached_property
    def pools(self) -> Pools:
        """The tickets that fit; BankError when there are none to draw from."""
        pools = threshold_pools(self.bank, [r.category for r in self.regions], self.thresholds)
        require(pools, self.thresholds, background=bool((self.owner < 0).any()))
        return pools

    def build(self, seed: int, indices: Iterable[int] = (0,)) -> torch.Tensor:
        """Noise [len(indices), C, height, width] float32 for images `indices` of a batch of `seed`.

        Each image has its own draw. Latents beyond the last whole block keep the seed's plain noise.
        """
        wanted = list(indices)
        plain = plain_noise(seed, (self.bank.recipe.channels, self.height, self.width), wanted)
        return torch.stack(
            [
                place_blocks(noise, self.bank.blocks[self._arrange(seed, index)])
                for noise, index in zip(plain, wanted, strict=True)
            ]
        )

    def _arrange(self, seed: int, index: int) -> torch.Tensor:
        """Block index for every cell [rows, columns]."""
        owner, pools = self.owner, self.pools
        generator = image_generator(seed, index)
        chosen = torch.empty_like(owner)
        for category in dict.fromkeys(r.category for r in self.regions):
            mine = [i for i, r in enumerate(self.regions) if r.category == category]
            cells = torch.isin(owner, torch.tensor(mine))
            chosen[cells] = draw(pools.winners[category], int(cells.sum()), generator)
        background = owner < 0
        if background.any():
            chosen[background] = draw(pools.losers, int(background.sum()), generator)
        return chosen

    def describe(self) -> str:
        """One line for people: tickets to draw from, per category and for the background."""
        parts = [f"{c}: {len(pool):,} tickets" for c, pool in self.pools.winners.items()]
        return (
            f"{int((self.owner >= 0).sum())} of {self.owner.numel()} blocks in regions; "
            + ", ".join(parts)
            + f", background: {len(self.pools.losers):,}"
        )

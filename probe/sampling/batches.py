"""Runs of a sampler for many images: as many at once as memory allows, and each the same alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import comfy.sample
import torch

from ...tickets.noise import SEED_RANGE
from ..model.memory import Rows
from ..model.random import seeded

Result = TypeVar("Result")


class Batches:
    """Batches of guided images, halved where memory runs out.

    shape: of a latent. alone: image by image from the start. Where a batch draws random numbers, as patches
    and some samplers do, its images are run one by one, each from its own seed, so that an image depends on
    no other.
    """

    def __init__(self, model: Any, shape: tuple[int, ...], alone: bool) -> None:
        self._rows, self._shape, self._alone = Rows(model, shape), shape, alone

    @property
    def at_once(self) -> int:
        """Images in a batch."""
        return 1 if self._alone else max(1, self._rows.count // 2)

    def run(
        self, images: int, seed_of: Callable[[int], int], work: Callable[[slice], Result]
    ) -> list[Result]:
        """What `work` makes of each batch of the images; seed_of: an image's seed.

        Raises what `work` does.
        """
        done: list[Result] = []
        start = 0
        while start < images:
            size = min(self.at_once, images - start)
            some = partial(work, slice(start, start + size))
            found = self._rows.attempt(partial(self._seeded, seed_of(start), size, some), 2 * size, least=2)
            if found is None:
                continue
            result, drew = found
            if drew and size > 1:
                self._alone = True
            else:
                done.append(result)
                start += size
        return done

    def _seeded(self, seed: int, size: int, work: Callable[[], Result]) -> tuple[Result, bool]:
        """And whether random numbers were drawn."""
        with seeded(seed) as drew:
            if size == 1:
                # Where the stock sampler nodes leave the generators, which others draw from.
                comfy.sample.prepare_noise(torch.zeros(1, *self._shape), seed % SEED_RANGE)
                return work(), False
            return work(), drew()

"""How much is evaluated at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import comfy.model_management

MOST = 32
Result = TypeVar("Result")


class Rows:
    """Images x prompts of one evaluation: what fits into free memory."""

    def __init__(self, model: Any, shape: tuple[int, int, int]) -> None:
        """shape: of one latent. By ComfyUI's own estimate of a whole forward, and half as much again."""
        free = comfy.model_management.get_free_memory(model.load_device)
        self.count = MOST
        while self.count > 1 and model.memory_required([self.count, *shape]) * 1.5 > free:
            self.count //= 2

    def halve(self) -> None:
        """After memory ran out."""
        self.count = max(1, self.count // 2)
        comfy.model_management.soft_empty_cache()


class Batches:
    """Runs of a sampler in batches as large as memory allows, each image guided; `alone`: image by image."""

    def __init__(self, model: Any, shape: tuple[int, int, int], alone: bool) -> None:
        self._rows, self._alone = Rows(model, shape), alone

    @property
    def at_once(self) -> int:
        """Images in a batch."""
        return 1 if self._alone else max(1, self._rows.count // 2)

    def run(self, images: int, work: Callable[[slice], Result | None]) -> list[Result]:
        """What `work` makes of each batch of the images; None: that it must be done image by image.

        Raises what `work` does; where memory runs out, the batch is halved.
        """
        done: list[Result] = []
        start = 0
        while start < images:
            size = min(self.at_once, images - start)
            found, full = None, False
            try:
                found = work(slice(start, start + size))
            except RuntimeError as error:
                comfy.model_management.raise_non_oom(error)
                if size == 1:
                    raise
                full = True
            if full:
                self._rows.count = min(self._rows.count, 2 * size)
                self._rows.halve()
            elif found is None:
                self._alone = True
            else:
                done.append(found)
                start += size
        return done

"""How much is evaluated at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import comfy.model_management

MOST = 32
T = TypeVar("T")


class Rows:
    """Images x prompts of one evaluation: what fits into free memory, halved when that was too much."""

    def __init__(self, model: Any, shape: tuple[int, int, int]) -> None:
        """shape: of one latent. By ComfyUI's own estimate of a whole forward, and half as much again."""
        free = comfy.model_management.get_free_memory(model.load_device)
        self.count = MOST
        while self.count > 1 and model.memory_required([self.count, *shape]) * 1.5 > free:
            self.count //= 2

    def retry(self, work: Callable[[int], T]) -> T:
        """work(rows), again with half the rows as long as memory runs out."""
        while True:
            try:
                return work(self.count)
            except comfy.model_management.OOM_EXCEPTION:
                if self.count == 1:
                    raise
            self.count //= 2
            comfy.model_management.soft_empty_cache()

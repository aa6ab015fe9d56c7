"""How much is evaluated at once."""

from __future__ import annotations

from typing import Any

import comfy.model_management

MOST = 32


class Rows:
    """Images x prompts of one evaluation: what fits into free memory."""

    def __init__(self, model: Any, shape: tuple[int, ...]) -> None:
        """shape: of one latent. By ComfyUI's own estimate of a whole forward, and half as much again."""
        free = comfy.model_management.get_free_memory(model.load_device)
        self.count = MOST
        while self.count > 1 and model.memory_required([self.count, *shape]) * 1.5 > free:
            self.count //= 2

    def halve(self) -> None:
        """After memory ran out."""
        self.limit(self.count // 2)

    def limit(self, count: int) -> None:
        """After memory ran out."""
        self.count = max(1, count)
        comfy.model_management.soft_empty_cache()

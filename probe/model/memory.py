"""How much is evaluated at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import comfy.model_management

MOST = 32
Result = TypeVar("Result")


class Rows:
    """Images x prompts of one evaluation: what fits into free memory."""

    def __init__(self, model: Any, shape: tuple[int, ...]) -> None:
        """shape: of one latent. By ComfyUI's own estimate of a whole forward, and half as much again."""
        free = comfy.model_management.get_free_memory(model.load_device)
        self.count = MOST
        while self.count > 1 and model.memory_required([self.count, *shape]) * 1.5 > free:
            self.count //= 2

    def attempt(self, work: Callable[[], Result], rows: int, least: int = 1) -> Result | None:
        """What `work` gives, which evaluates `rows` at once; None if memory ran out, and half of them are to
        be tried. least: how many rows cannot be parted. Raises what `work` does otherwise.
        """
        try:
            return work()
        except RuntimeError as error:
            comfy.model_management.raise_non_oom(error)
            if rows <= least:
                raise
        # Not before: the error holds what was evaluated.
        self.count = least * -(-rows // (2 * least))
        comfy.model_management.soft_empty_cache()
        return None

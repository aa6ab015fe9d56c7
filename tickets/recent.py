"""The results of costly calls that were asked for last."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Keeps at most `most` results by key; the one not asked for longest goes first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: dict[Hashable, Value] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The result kept under a key; made, and kept, if there is none. What raises is not kept."""
        value = self._kept.pop(key) if key in self._kept else make()
        self._kept[key] = value
        while len(self._kept) > self.most:
            del self._kept[next(iter(self._kept))]
        return value

    def drop(self, key: Hashable) -> None:
        """Keep the result under a key no longer, if there is one."""
        self._kept.pop(key, None)

    def clear(self) -> None:
        self._kept.clear()

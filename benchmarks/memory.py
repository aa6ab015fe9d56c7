"""Peak memory of tensors, counted as they are made and dropped."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """`with Peak() as peak:` ... `peak.bytes`: the most that tensors made inside held at one time.

    Weights and inputs that were there before do not count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.bytes = 0
        self.known: set[int] = set()

    def _drop(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {
            t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.known and key not in before:
                self.known.add(key)
                self.live += storage.nbytes()
                self.bytes = max(self.bytes, self.live)
                weakref.finalize(storage, self._drop, key, storage.nbytes())
        return result

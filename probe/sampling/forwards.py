"""What the model really runs in one sampler run, whichever patches stand between it and the sampler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comfy.patcher_extension import WrappersMP

from ..model.clone import COMPILE_KEY


@dataclass
class Call:
    """One call of the model. whole: its forward calls wrappers, as ComfyUI's own do; ran: it was run."""

    options: dict[str, Any]
    whole: bool = False
    ran: bool = False


class Forwards:
    """Tells of each forward of the model and of each call that was answered without one.

    Counted where ComfyUI applies the model, since not every model calls DIFFUSION_MODEL wrappers, nor does
    a forward that a patch put in its place; where they are called, they say whether a cache answered.
    Several GPUs and calls inside of calls are told apart by thread and depth.
    """

    def __init__(self, ran: Callable[[int], None], done: Callable[[Call], None] = lambda call: None) -> None:
        self._ran, self._done = ran, done
        self._local = threading.local()
        self._lock = threading.Lock()

    def install(self, guider: Any, key: str) -> None:
        """On a guider's copy of the options: outside of all wrappers of the forward, and inside of them."""
        model_options = guider.model_options
        wrappers = model_options.setdefault("transformer_options", {}).setdefault("wrappers", {})
        wrappers.setdefault(WrappersMP.APPLY_MODEL, {}).setdefault(key, []).append(self._apply)
        whole = guider.model_patcher.object_patches.get("diffusion_model")
        if COMPILE_KEY in wrappers[WrappersMP.APPLY_MODEL] or hasattr(whole, "_orig_mod"):
            # A compiled forward takes its wrappers with it; these are not to be compiled.
            return
        others = wrappers.get(WrappersMP.DIFFUSION_MODEL, {})
        first, last = {f"{key}_first": [self._enter]}, {f"{key}_last": [self._forward]}
        wrappers[WrappersMP.DIFFUSION_MODEL] = {**first, **others, **last}

    @property
    def _calls(self) -> list[Call]:
        if not hasattr(self._local, "calls"):
            self._local.calls = []
        calls: list[Call] = self._local.calls
        return calls

    def _apply(self, executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        options = kwargs.get("transformer_options") or (args[4] if len(args) > 4 else {})
        call = Call(options)
        self._calls.append(call)
        try:
            result = executor(x, *args, **kwargs)
        finally:
            self._calls.pop()
        with self._lock:
            if not call.whole:
                self._ran(len(x))
            self._done(call)
        return result

    def _enter(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        if self._calls:
            self._calls[-1].whole = True
        return executor(*args, **kwargs)

    def _forward(self, executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if self._calls:
            self._calls[-1].ran = True
        with self._lock:
            self._ran(len(x[0]) if isinstance(x, (list, tuple)) else len(x))
        return executor(x, *args, **kwargs)

"""Rule: a MODEL is freed as soon as nothing uses it, without a garbage collection, however a run ended.

ComfyUI takes a clone that only a collection can free for a memory leak: it says so, and from then on it
collects garbage whenever it loads a model, which made each load of a busy server take seconds.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import comfy.model_management
import pytest
import torch
from cutoff_runs import PROMPT, cutoff, ours, stock
from other_patches import tiles
from test_other_patches import COLLECT, PLACE
from winning_tickets.guidance.cutoff import LOWER, UNCONDITIONAL
from winning_tickets.probe.build.build import arrange_noise, pick_noise
from winning_tickets.probe.collect.collect import collect
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.watch import last_trace, watched

Use = Callable[[Any], object]


@pytest.fixture
def odd() -> dict[str, Any]:
    return {"samples": torch.zeros(2, 4, 19, 13)}


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def freed(model: Any, use: Use) -> bool:
    """Whether a clone of the model is gone when its use has ended."""

    def used() -> Any:
        clone = model.clone()
        use(clone)
        return weakref.ref(clone)

    return used()() is None


@pytest.mark.parametrize("read", [collect, arrange_noise, pick_noise])
def test_after_reading(model: Any, clip: Any, no_collection: None, read: Any) -> None:
    assert freed(model, lambda m: read(m, clip, COLLECT if read is collect else PLACE))


def test_after_a_refusal(model: Any, clip: Any, no_collection: None) -> None:
    def refused(m: Any) -> None:
        with pytest.raises(ProbeError):
            collect(tiles(m), clip, COLLECT)

    assert freed(model, refused)


@pytest.mark.parametrize("tail", [UNCONDITIONAL, LOWER])
def test_after_a_run_that_was_cut(model: Any, encode: Any, odd: Any, no_collection: None, tail: str) -> None:
    patch = cutoff(0.5, tail, encode(""))
    assert freed(model, lambda m: ours(m, encode, odd, "euler", "normal", patch))
    assert freed(
        model, lambda m: stock(CutoffPatch(patch, tell=False).attach(m), encode, odd, "euler", "normal")
    )


def test_after_a_run_that_was_watched(
    model: Any, clip: Any, encode: Any, odd: Any, no_collection: None
) -> None:
    def run(m: Any) -> None:
        watching = watched(m, clip, PROMPT, "cat")[0]
        stock(watching, encode, odd, "euler", "normal")
        assert last_trace(watching).is_read

    assert freed(model, run)


def test_after_a_watched_run_that_was_cancelled(
    model: Any, clip: Any, encode: Any, odd: Any, no_collection: None
) -> None:
    def cancelled(m: Any) -> None:
        watching = watched(m, clip, PROMPT, "cat")[0]
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            stock(watching, encode, odd, "euler", "normal", callback=cancel)

    def cancel(*step: Any) -> None:
        comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()

    assert freed(model, cancelled)

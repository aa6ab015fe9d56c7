"""Collecting takes no more memory than a stock sampling step of as many images x prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import comfy.sample
import pytest
import torch
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.tickets import noise, prompts

sys.path.append(str(Path(__file__).parent.parent.parent / "benchmarks"))

from memory import Peak  # noqa: E402


def test_peak_counts_what_is_held_at_one_time() -> None:
    there = torch.zeros(1000)
    with Peak() as peak:
        kept = there + 1
        for _ in range(5):
            dropped = torch.ones(500) * 2
            del dropped
        view = kept[10:]
    assert peak.bytes == 4 * (1000 + 2 * 500) and len(view)


@pytest.mark.parametrize("layer", ["input 1", "input 3", "input 5", "output 5"])
def test_peak_is_at_most_that_of_a_stock_step(model: Any, clip: Any, layer: str) -> None:
    scorer = Scorer(model, clip, "test", 256, 256, layer)
    encoded = scorer.encode(prompts.make_prompts(("cat", "tree", "car")))[:2]
    x = torch.cat([noise.plain_noise(s, (4, 32, 32)) for s in range(4)])
    positive, negative = (p.conditioning for p in encoded)
    with torch.inference_mode():
        with Peak() as ours:
            scorer.maps(encoded, x)
        with Peak() as stock:
            comfy.sample.sample(
                *(model, x, 1, 5.0, "euler", "normal", positive, negative, torch.zeros_like(x)),
                disable_pbar=True,
            )
    assert 0 < ours.bytes <= stock.bytes, (ours.bytes, stock.bytes)

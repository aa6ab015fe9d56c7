"""Guidance cutoff on transformers of every kind: the stock sampler's bits, and each forward counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cutoff_runs import cutoff, ours, stock
from forwards import counted
from tiny import FAMILIES, UNREADABLE
from winning_tickets.guidance.cutoff import Cutoff, Similar
from winning_tickets.guidance.suggest import suggest
from winning_tickets.guidance.trace import StepsError
from winning_tickets.probe.sampling.watch import last_trace, watched

VIDEO = (16, 3, 8, 6)
MODELS = {
    **{name: (family.model, family.clip, family.latent) for name, family in (FAMILIES | UNREADABLE).items()},
    "a video of Wan": (FAMILIES["Wan"].model, FAMILIES["Wan"].clip, VIDEO),
}


@pytest.fixture(params=MODELS)
def parts(request: pytest.FixtureRequest) -> tuple[Any, Any, dict[str, Any]]:
    """MODEL, how its texts are encoded, and an empty latent of two images."""
    model, clip, latent = (make() if callable(make) else make for make in MODELS[request.param])

    def encode(text: str) -> Any:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    return model, encode, {"samples": torch.zeros(2, *latent)}


def test_forwards_are_counted_and_saved(parts: Any) -> None:
    """Rule: models whose forward calls no wrappers, as SD3's, were reported with no forward at all."""
    model, encode, latent = parts
    counting, seen = counted(model)
    with torch.inference_mode():
        expected = stock(model, encode, latent, "euler", "simple", steps=4)
        found, _ = ours(model, encode, latent, "euler", "simple", cutoff(1.0), steps=4)
        assert torch.equal(found["samples"], expected)
        cut, report = ours(counting, encode, latent, "euler", "simple", cutoff(0.5), steps=4)
    assert seen.total == 2 * 6
    assert report.startswith("6 NFE for 4 steps, 2 of them guided; a stock run takes 8: 25% saved.")
    assert cut["samples"].isfinite().all() and not torch.equal(cut["samples"], expected)


def test_at_cfg_1_there_is_nothing_to_save(parts: Any) -> None:
    """As models that are distilled for guidance are run."""
    model, encode, latent = parts
    with torch.inference_mode():
        expected = stock(model, encode, latent, "euler", "simple", steps=2, cfg=1.0)
        found, report = ours(model, encode, latent, "euler", "simple", cutoff(0.5), steps=2, cfg=1.0)
    assert torch.equal(found["samples"], expected)
    assert report.startswith("2 NFE for 2 steps") and "as at cfg 1: nothing to save" in report


@pytest.mark.parametrize("name", ["SD3", "a video of Wan"])
def test_an_image_or_video_ends_guidance_itself(name: str) -> None:
    """Every prediction agrees by more than -1: after the first step all do."""
    model, clip, latent = (make() if callable(make) else make for make in MODELS[name])
    counting, seen = counted(model)

    def encode(text: str) -> Any:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    samples = {"samples": torch.zeros(2, *latent)}
    with torch.inference_mode():
        _, report = ours(counting, encode, samples, "euler", "simple", Cutoff(Similar(-1.0)), steps=4)
    assert seen.total == 2 * 5 and report.startswith("5 NFE for 4 steps, 1 of them guided")


@pytest.mark.parametrize("cfg", [4.0, 1.0])
def test_a_share_is_suggested(cfg: float) -> None:
    family = FAMILIES["Qwen-Image"]
    clip = family.clip()
    watching, _ = watched(family.model(), clip, "a cat", "cat")

    def encode(text: str) -> Any:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    with torch.inference_mode():
        stock(watching, encode, {"samples": torch.zeros(2, *family.latent)}, "euler", "simple", cfg=cfg)
    trace = last_trace(watching)
    if cfg == 1:
        with pytest.raises(StepsError, match="at cfg 1 there is nothing to cut"):
            suggest(trace)
    else:
        assert float(trace.guidance().min()) > 0 and 0 < suggest(trace) <= 1

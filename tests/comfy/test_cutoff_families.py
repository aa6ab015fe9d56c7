"""Guidance cutoff on transformers of every kind: the stock sampler's bits, and each forward counted."""

from __future__ import annotations

from typing import Any

import comfy.nested_tensor
import comfy.utils
import pytest
import torch
from cutoff_runs import PROMPT, cutoff, ours, stock
from forwards import counted
from tiny import FAMILIES, UNREADABLE, VIDEOS
from winning_tickets.guidance.cutoff import Cutoff, Similar
from winning_tickets.guidance.trace import StepsError
from winning_tickets.probe.sampling.watch import trace_of, watched
from winning_tickets.show.trace import shown, suggested

MODELS = {
    **{
        name: (family.model, family.clip, [family.latent]) for name, family in (FAMILIES | UNREADABLE).items()
    },
    **{f"a video of {name}": parts for name, parts in VIDEOS.items()},
}


def parts_of(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """MODEL, how its texts are encoded, and an empty latent of two images."""
    model, clip, shapes = MODELS[name]
    clip = clip()

    def encode(text: str) -> Any:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    samples = [torch.zeros(2, *shape) for shape in shapes]
    empty = samples[0] if len(samples) == 1 else comfy.nested_tensor.NestedTensor(samples)
    return model(), encode, {"samples": empty}


@pytest.fixture(params=MODELS)
def parts(request: pytest.FixtureRequest) -> tuple[Any, Any, dict[str, Any]]:
    return parts_of(request.param)


def values(samples: Any) -> torch.Tensor:
    """Of a latent, of all its parts."""
    return comfy.utils.pack_latents(samples.unbind())[0] if samples.is_nested else samples


def test_forwards_are_counted_and_saved(parts: Any) -> None:
    """Rule: models whose forward calls no wrappers, as SD3's, were reported with no forward at all."""
    model, encode, latent = parts
    counting, seen = counted(model)
    with torch.inference_mode():
        expected = stock(model, encode, latent, "euler", "simple", steps=4)
        found, _ = ours(model, encode, latent, "euler", "simple", cutoff(1.0), steps=4)
        assert torch.equal(values(found["samples"]), values(expected))
        cut, report = ours(counting, encode, latent, "euler", "simple", cutoff(0.5), steps=4)
    assert seen.total == 2 * 6
    assert report.startswith("6 NFE for 4 steps, 2 of them guided; a stock run takes 8: 25% saved.")
    cut = values(cut["samples"])
    assert cut.isfinite().all() and not torch.equal(cut, values(expected))


def test_at_cfg_1_there_is_nothing_to_save(parts: Any) -> None:
    """As models that are distilled for guidance are run."""
    model, encode, latent = parts
    with torch.inference_mode():
        expected = stock(model, encode, latent, "euler", "simple", steps=2, cfg=1.0)
        found, report = ours(model, encode, latent, "euler", "simple", cutoff(0.5), steps=2, cfg=1.0)
    assert torch.equal(values(found["samples"]), values(expected))
    assert report.startswith("2 NFE for 2 steps") and "as at cfg 1: nothing to save" in report


@pytest.mark.parametrize("name", ["SD3", "a video of Wan", "a video of LTXV with sound"])
def test_an_image_or_video_ends_guidance_itself(name: str) -> None:
    """Every prediction agrees by more than -1: after the first step all do."""
    model, encode, latent = parts_of(name)
    counting, seen = counted(model)
    with torch.inference_mode():
        _, report = ours(counting, encode, latent, "euler", "simple", Cutoff(Similar(-1.0)), steps=4)
    assert seen.total == 2 * 5 and report.startswith("5 NFE for 4 steps, 1 of them guided")


@pytest.mark.parametrize("cfg", [4.0, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_a_share_is_suggested(name: str, cfg: float) -> None:
    """The rule: what guidance does can be watched on every model, whether its maps can be read or not."""
    model, encode, latent = parts_of(name)
    watching, positive = watched(model, MODELS[name][1](), PROMPT, "cat")
    with torch.inference_mode():
        expected = stock(model, encode, latent, "euler", "simple", cfg=cfg, steps=4)
        found = stock(watching, encode, latent, "euler", "simple", cfg=cfg, steps=4)
    assert torch.equal(values(found), values(expected))
    assert torch.equal(positive[0][0], encode(PROMPT)[0][0])
    trace, number = trace_of(watching, {"samples": found}, 2)
    seen = shown(trace, "", number, found.shape[-2:])
    if name in UNREADABLE or name.startswith("a video"):
        assert not trace.is_read and "No step has maps: " in seen.report
    else:
        assert trace.is_read
    if cfg == 1:
        with pytest.raises(StepsError, match="at cfg 1 there is nothing to cut"):
            suggested(trace)
        return
    assert float(trace.guidance().min()) > 0
    guided, _, report = suggested(trace)
    assert 0 < guided <= 1 and report.startswith("Guide ")

"""Redraw Noise in Region, the node itself, for models of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_sampling
import comfy.patcher_extension
import comfy.sample
import folder_paths
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from forwards import counted
from tiny import FAMILIES, UNREADABLE, Family
from winning_tickets.nodes.noise import PickBestNoise
from winning_tickets.nodes.redraw import RedrawNoiseInRegion
from winning_tickets.probe.build.redraw import RedrawnNoise
from winning_tickets.probe.model.transformer import BASELINE
from winning_tickets.probe.noise.forms import PlainNoise
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.redraw import redrawn_share
from winning_tickets.tickets.search.candidates import derived_seed

import nodes as core

LEFT = "left: 0 0 0.5 1"
PLACES = tuple(parse_regions(LEFT))
RUN = 2, 4.0, "euler", "simple"
# Images, and videos of one frame; a latent pixel of 8 and of 16 pixels; a flow, and none.
SOME = ("SD3", "Anima", "Flux.2 Klein", "Cosmos-Predict2")


@pytest.fixture(autouse=True)
def as_nodes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    with torch.inference_mode():
        yield


@pytest.fixture
def family(request: pytest.FixtureRequest) -> Family:
    return (FAMILIES | UNREADABLE)[request.param]


def stock(family: Family) -> dict[str, Any]:
    """Two images of Empty Latent Image, whatever the model."""
    height, width = (side * family.pixels // 8 for side in family.latent[-2:])
    return {"samples": torch.zeros(2, 4, height, width), "downscale_ratio_spacial": 8}


def own(family: Family) -> dict[str, Any]:
    return {"samples": torch.zeros(2, *family.latent)}


def redrawn(family: Family, latent: dict[str, Any], edge: int = 0, model: Any = None) -> Any:
    """What the node gives: noise, noise latent, picture and report."""
    model = model or family.model()
    return RedrawNoiseInRegion.execute(PlainNoise(3), latent, LEFT, 8, edge, model=model).args


@pytest.mark.parametrize("make", [own, stock])
@pytest.mark.parametrize("family", FAMILIES | UNREADABLE, indirect=True)
def test_a_part_is_new_whatever_the_model_takes(family: Family, make: Any) -> None:
    """Empty Latent Image with a model of videos, and model connected, ended in torch's words."""
    model, clip, latent = family.model(), family.clip(), make(family)
    noise, ready, picture, report = redrawn(family, latent, 1)
    # As samplers hand it to a NOISE.
    empty = comfy.sample.fix_empty_latent_channels(
        model, latent["samples"], latent.get("downscale_ratio_spacial")
    )
    found = noise.generate_noise({"samples": empty})
    before, after = (PlainNoise(seed).generate_noise({"samples": empty}) for seed in (3, 8))
    share = redrawn_share(PLACES, *family.latent[-2:], 1)
    assert found.shape == (2, *family.latent)
    assert torch.equal(found[..., share == 0], before[..., share == 0])
    assert torch.equal(found[..., share == 1], after[..., share == 1])
    assert f"{float((share == 1).float().mean()):.1%} of the noise is new" in report and len(picture) == 1
    alone = noise.generate_noise({"samples": empty[:1], "batch_index": [1]})
    singly = noise.generate_noise({"samples": empty, "batch_index": [0, 1]})
    assert torch.equal(alone[0], singly[1])
    conds = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a cat", "")]
    sampled = comfy.sample.sample(model, found, *RUN, *conds, empty, disable_pbar=True, seed=3)
    assert sampled.shape == empty.shape and bool(sampled.isfinite().all())
    if isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST):
        assert isinstance(ready, ExecutionBlocker) and ready.message in report
        assert ready.message.startswith("Redraw Noise in Region: for this model no latent carries noise")
        return
    (same,) = core.common_ksampler(model, 3, *RUN, *conds, ready, disable_noise=True)
    torch.testing.assert_close(same["samples"], sampled, rtol=1e-3, atol=1e-3 * float(sampled.abs().max()))


@pytest.mark.parametrize("steps", [0, 4])
@pytest.mark.parametrize("name", SOME)
def test_the_best_new_part_is_picked(name: str, steps: int) -> None:
    """The rule: of a flow nothing is read at noise alone, so that a first look tells whom to see again."""
    family = FAMILIES[name]
    levels: list[float] = []

    def see(executor: Any, x: torch.Tensor, sigma: torch.Tensor, *more: Any, **named: Any) -> Any:
        levels.append(float(sigma.flatten()[0]))
        return executor(x, sigma, *more, **named)

    model, seen = counted(family.model())
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "test", see)
    noise, *_ = redrawn(family, own(family))
    height, width = (side * family.pixels for side in family.latent[-2:])
    look: dict[str, Any] = {"look": "first step"}
    if steps:
        look = {"look": "after steps", "after_percent": 50.0, "steps": steps, "cfg": 4.0}
    found, _, _, _, report = PickBestNoise.execute(
        *(model, family.clip(), "cat: 0 0 0.5 1\ntree: 0.5 0 1 1", 7, 2, family.layers[1], 3),
        noise=noise,
        size={"size": "custom", "width": width, "height": height},
        look=look,
        advanced={"advanced": "defaults"},
    ).args
    flow = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)
    assert seen.total == BASELINE + 2 * (3 + 2 * (2 * 2 + 1) * (steps > 0))
    if flow and not steps:
        assert max(levels) < 0.95 and "Warning" not in report
    latent = {**own(family), "batch_index": [0, 1]}
    images = found.generate_noise(latent)
    tried = [RedrawnNoise(PlainNoise(3), PLACES, derived_seed(8, j)).generate_noise(latent) for j in range(3)]
    assert all(any(torch.equal(images[k], one[k]) for one in tried) for k in range(2))

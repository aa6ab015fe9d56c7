"""Tickets and block swap on transformers: the blocks are those of whole tokens, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.model_sampling
import comfy.sample
import numpy as np
import pytest
import torch
from tiny import FAMILIES, Family
from winning_tickets.probe.build.build import (
    NoiseResult,
    PlaceRequest,
    TicketRequest,
    arrange_noise,
    build_tickets,
)
from winning_tickets.probe.build.looking import AfterSteps
from winning_tickets.probe.collect.collect import CollectRequest
from winning_tickets.probe.collect.keep import collect_and_keep
from winning_tickets.probe.layers import choose, probe
from winning_tickets.probe.layers.probe import LayerProbe
from winning_tickets.probe.model.transformer import BASELINE
from winning_tickets.tickets.bank.file import load_bank, save_bank
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.select import Rank
from winning_tickets.tickets.noise import plain_noise, to_blocks
from winning_tickets.tickets.search.candidates import plain_candidate

CATEGORIES = ("cat", "tree")
REGIONS = tuple(parse_regions("cat: 0 0 0.5 0.5\ntree: 0.5 0.5 1 1"))
# Joint and cross attention, videos of one frame, a latent pixel of 8 and of 16 pixels, a flow and none.
SOME = ("SD3", "Anima", "Flux.2 Klein", "Cosmos-Predict2")

AFTER = AfterSteps(0.5, 4, 4.0)


@pytest.fixture(autouse=True)
def as_nodes_run() -> Iterator[None]:
    """Anima prepares its text in inference mode only."""
    with torch.inference_mode():
        yield


@pytest.fixture(params=SOME)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def parts(family: Family) -> tuple[Any, Any]:
    return family.model(), family.clip()


def block_of(family: Family) -> int:
    """Latent pixels at the side of a block of 32 pixels, a token of which has its patch."""
    return max(family.patch, 32 // family.pixels)


def size_of(family: Family) -> tuple[int, int]:
    height, width = (side * family.pixels for side in family.latent[-2:])
    return width, height


def blocks_of(noise: torch.Tensor, block: int) -> set[bytes]:
    """Of noises [images, C, h, w], all whole blocks."""
    return {b.numpy().tobytes() for b in to_blocks(noise, block).flatten(0, 2)}


def sampled(parts: tuple[Any, Any], family: Family, result: NoiseResult) -> torch.Tensor:
    model, clip = parts
    empty = comfy.sample.fix_empty_latent_channels(model, result.empty["samples"])
    noise = result.noise.generate_noise({"samples": empty})
    conds = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a cat and a tree", ""))
    return comfy.sample.sample(model, noise, 2, 4.0, "euler", "simple", *conds, empty, disable_pbar=True)


def is_flow(model: Any) -> bool:
    return isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_arranged_noise_is_a_permutation_of_the_seeds_tokens(family: Family, parts: tuple[Any, Any]) -> None:
    """The rule: a token sees exactly the latent pixels of its block, so that whole tokens change places."""
    request = PlaceRequest(REGIONS, *size_of(family), 9, 2, 2, 2, family.layers[1])
    result = arrange_noise(*parts, request)
    channels, *_, height, width = family.latent
    shape = channels, height, width
    noise = result.noise.batch(2).reshape(2, *shape)
    assert result.empty["samples"].shape[1:] == shape
    moved = False
    for image in range(2):
        seeds = [plain_candidate(9, image, shape, candidate) for candidate in range(2)]
        (own,) = (
            s
            for s in seeds
            if blocks_of(s[None], block_of(family)) == blocks_of(noise[[image]], block_of(family))
        )
        moved = moved or not torch.equal(noise[image], own)
        whole = height // block_of(family) * block_of(family), width // block_of(family) * block_of(family)
        for kept in (np.s_[:, whole[0] :], np.s_[:, :, whole[1] :]):
            assert torch.equal(noise[image][kept], own[kept]), "beyond the last whole token"
    assert moved, "an exchange that does not help is dropped, but not in both images"
    assert "a transformer. Objects have been shown to follow" in result.report
    assert "of the images of two small transformers; plain noise has about -0.4." in result.report
    assert sampled(parts, family, result).isfinite().all()


def test_a_bank_is_of_whole_tokens_and_builds_noise(
    family: Family, parts: tuple[Any, Any], tmp_path: Any
) -> None:
    """The rule: a bank tells where its noise was read and how large a latent pixel is, and its tickets are
    blocks of that noise."""
    model, clip = parts
    width, height = size_of(family)
    request = CollectRequest(CATEGORIES, 3, 0, width, height, family.layers[1])
    bank, note = collect_and_keep(model, clip, request)
    assert "a transformer. Objects have been shown to follow" in note
    channels, *_, rows, columns = family.latent
    recipe = bank.recipe
    assert (recipe.block, recipe.pixels, recipe.channels) == (block_of(family), family.pixels, channels)
    assert recipe.sigma == pytest.approx(0.9 if is_flow(model) else 9.0)
    assert recipe.baseline == BASELINE
    assert recipe.latent_scale == 0, "a run starts at another level"
    assert f"noises of {width}x{height}" in bank.describe()
    noise = torch.cat([plain_noise(seed, (channels, rows, columns)) for seed in range(3)])
    assert {b.numpy().tobytes() for b in bank.blocks} == blocks_of(noise, block_of(family))
    save_bank(bank, tmp_path / "bank.safetensors")
    layout = Layout(load_bank(tmp_path / "bank.safetensors"), REGIONS, columns, rows, Rank())
    alone = build_tickets(TicketRequest(layout, 5, 2, 1, 0))
    looked = build_tickets(TicketRequest(layout, 5, 2, 2, 1), model, clip)
    for result in (alone, looked):
        made = result.noise.batch(2)
        assert blocks_of(made, block_of(family)) <= {b.numpy().tobytes() for b in bank.blocks}
        assert sampled(parts, family, result).isfinite().all()
        assert is_flow(model) == ("Use the noise output instead" in result.report)
    assert "a transformer. Objects have been shown to follow" in looked.report


def test_every_layer_has_its_figures(family: Family, parts: tuple[Any, Any]) -> None:
    """The rule: a report reads noise where tickets are read, not at the highest level, where every noise of a
    flow looks alike."""
    report = LayerProbe(*parts, CATEGORIES, 4, 0, *size_of(family), transplanted=2)
    worths = report.agreement(report.kept(report.effect()), 2, 3, 4.0)
    assert [str(worth.layer) for worth in worths] == list(family.layers)
    assert all(worth.block == block_of(family) for worth in worths)
    figures = [(w.effect, w.error, w.kept, w.agreement, w.chance) for w in worths]
    assert np.isfinite(np.array(figures, float)).all()
    maps = report.read(report.prompts[0], report.noise)[report.layers[0]]
    assert not torch.allclose(maps[0], maps[1], rtol=1e-3)


def test_auto_tries_a_transformers_layers(
    family: Family, parts: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule: a fresh node works with its defaults, on transformers too."""
    monkeypatch.setattr(choose, "NOISES", 4)
    monkeypatch.setattr(choose, "SAMPLES", 4)
    request = CollectRequest(CATEGORIES, 3, 0, *size_of(family), choose.AUTO)
    asked, why = choose.choose_layer(*parts, request, "test")
    assert asked.layer in family.layers and why.startswith(f"layer auto: {asked.layer} (effect ")


def test_of_many_blocks_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule: auto's cost does not grow with a model's depth."""
    family = FAMILIES["Flux.2 Klein"]
    monkeypatch.setattr(probe, "MOST_BLOCKS", 2)
    few = LayerProbe(family.model(), family.clip(), CATEGORIES, 2, 0, *size_of(family), first_only=True)
    assert [str(layer) for layer in few.layers] == [family.layers[0], family.layers[-1]]


def test_rounds_are_made_before_a_look_after_steps(family: Family, parts: tuple[Any, Any]) -> None:
    """The rule: what a first look can tell is used; only where it is at noise alone are there no rounds."""
    request = PlaceRequest(REGIONS, *size_of(family), 7, 1, 3, 1, family.layers[1], after=AFTER)
    report = arrange_noise(*parts, request).report
    assert (
        "No rounds" not in report and "6 looks of" in report and "2 candidates were looked at then" in report
    )

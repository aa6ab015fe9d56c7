"""On transformers attention is read over a baseline: what other noises show at a cell, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from forwards import counted
from tiny import FAMILIES, Family
from winning_tickets.probe.attention.baseline import SEED
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.model.transformer import BASELINE
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, make_prompts

NAMES = ("cat", "tree")
PROMPTS = make_prompts((*NAMES, "sun"))


@pytest.fixture(autouse=True)
def as_nodes_run() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def family() -> Family:
    return FAMILIES["SD3"]


def scorer_of(family: Family, model: Any, **how: Any) -> Scorer:
    height, width = (side * family.pixels for side in family.latent[-2:])
    return Scorer(model, family.clip(), "test", width, height, family.layers[1], **how)


def noises(scorer: Scorer, count: int, first: int = 0) -> torch.Tensor:
    return torch.cat([plain_noise(first + k, scorer.shape) for k in range(count)])


def test_blocks_are_read_over_what_other_noises_show_there(family: Family) -> None:
    scorer, bare = (scorer_of(family, family.model().clone(), **how) for how in ({}, {"baseline": 0}))
    prompts, noise, grid = scorer.encode(PROMPTS), noises(scorer, 3), scorer.grid()
    found, plain = scorer.blocks(prompts, noise, grid), bare.blocks(prompts, noise, grid)
    others = bare.blocks(prompts, noises(scorer, BASELINE, SEED), grid)
    for maps, own, other in zip(found, plain, others, strict=True):
        torch.testing.assert_close(maps, own - other.mean(0), rtol=1e-4, atol=1e-6)
    after = scorer.blocks(prompts, noise, grid, sigma=0.5)
    torch.testing.assert_close(after[0], bare.blocks(prompts, noise, grid, sigma=0.5)[0])


def test_a_baseline_is_read_once_for_a_model_and_its_text(family: Family) -> None:
    """The rule: what is kept is of this MODEL, as it is patched, and of this text, as it was encoded."""
    model, seen = counted(family.model())
    for _ in range(2):
        scorer = scorer_of(family, model)
        prompts = scorer.encode(PROMPTS)
        for part in (prompts[:2], prompts):
            scorer.blocks(part, noises(scorer, 1), scorer.grid())
    assert seen.total == 3 * BASELINE + 2 * (2 + 3)
    (context, options), *_ = prompts[0].conditioning
    # What cannot be compared, as hooks, is nobody else's.
    for entry in ([context + 1, options], [context, {**options, "other": object()}]):
        seen.clear()
        other = replace(prompts[0], conditioning=[entry])
        for _ in range(2):
            scorer.blocks([other], noises(scorer, 1), scorer.grid())
        assert seen.total == BASELINE + 2
    seen.clear()
    other, others = counted(family.model())
    scorer_of(family, other).blocks(prompts[:1], noises(scorer, 1), scorer.grid())
    assert (seen.total, others.total) == (0, BASELINE + 1), "another MODEL's is its own"


def test_a_bank_says_what_it_was_read_over(family: Family) -> None:
    """Banks over a baseline and without one do not mix, and looks at a bank's tickets are as it was read."""
    height, width = (side * family.pixels for side in family.latent[-2:])
    model, clip = family.model(), family.clip()
    bank = collect(model, clip, CollectRequest(NAMES, 2, 0, width, height, family.layers[1]))
    assert bank.recipe.baseline == BASELINE
    before = replace(bank.recipe, baseline=0)
    assert bank.recipe.contrast(before) == f"baseline {BASELINE} instead of 0"
    for recipe in (bank.recipe, before):
        scorer = Scorer.of_bank(recipe, model, clip, "test", width, height)
        assert scorer.baseline.noises == recipe.baseline
    scorer = scorer_of(family, model)
    (prompt,) = scorer.encode(make_prompts(NAMES, JOINT))
    maps = scorer.blocks([prompt], noises(scorer, 2), scorer.grid())[0]
    torch.testing.assert_close(bank.attention, maps.transpose(0, 1).flatten(1), rtol=1e-4, atol=1e-6)

"""Noise for transformers: looked at below the highest noise level, picked, sampled by ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import comfy.model_sampling
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import flops_transformers
import pytest
import torch
from forwards import counted
from tiny import FAMILIES, Family
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.build.build import PlaceRequest, pick_noise
from winning_tickets.probe.build.looking import AfterSteps, first_steps
from winning_tickets.probe.model.architecture import family_of
from winning_tickets.probe.model.transformer import BASELINE
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, make_prompts
from winning_tickets.tickets.search.candidates import derived_seed

REGIONS = tuple(parse_regions("cat: 0 0 0.5 0.5\ntree: 0.5 0.5 1 1"))
AFTER = AfterSteps(0.5, 4, 4.0)


@pytest.fixture(autouse=True)
def as_nodes_run() -> Iterator[None]:
    """Anima prepares its text in inference mode only."""
    with torch.inference_mode():
        yield


# Images, and videos of one frame; joint and cross attention; a latent pixel of 8 and of 16 pixels.
SOME = ("SD3", "Anima", "Flux.2 Klein")


@pytest.fixture
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture
def model(family: Family) -> Any:
    return family.model()


@pytest.fixture
def clip(family: Family) -> Any:
    return family.clip()


def request_of(family: Family, **changes: Any) -> PlaceRequest:
    height, width = (side * family.pixels for side in family.latent[-2:])
    return replace(PlaceRequest(REGIONS, width, height, 7, 1, 3, 0, family.layers[1]), **changes)


def scorer_of(family: Family) -> Scorer:
    request = request_of(family)
    return Scorer(family.model(), family.clip(), "test", request.width, request.height, request.layer)


def noises_of(family: Family, count: int) -> torch.Tensor:
    channels, *_, height, width = family.latent
    return torch.cat([plain_noise(seed, (channels, height, width)) for seed in range(count)])


@pytest.mark.parametrize("family", SOME, indirect=True)
def test_noise_is_read_where_a_tenth_is_signal(family: Family) -> None:
    """The rule: at the highest level of a flow the prediction is the same for every noise."""
    levels: list[tuple[float, torch.Tensor]] = []

    def see(executor: Any, x: torch.Tensor, sigma: torch.Tensor, *more: Any, **named: Any) -> Any:
        levels.append((float(sigma.flatten()[0]), x.clone()))
        return executor(x, sigma, *more, **named)

    watched = family.model().clone()
    watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "test", see)
    request = request_of(family)
    scorer = Scorer(watched, family.clip(), "test", request.width, request.height, request.layer)
    prompts = scorer.encode(make_prompts(("cat", "tree"), JOINT))
    noise = noises_of(family, 2)
    (maps,) = scorer.blocks(prompts, noise, scorer.grid(1))
    assert [level for level, _ in levels] == pytest.approx([0.9, 0.9]), "the baseline's noises, and these"
    torch.testing.assert_close(levels[1][1], 0.9 * noise.reshape(-1, *family.latent))
    rows, columns = (side // family.patch for side in family.latent[-2:])
    assert maps.shape == (2, 2, rows, columns) and bool(maps.isfinite().all())
    assert not torch.equal(maps[0], maps[1])
    alone = scorer.blocks(prompts, noise[1:], scorer.grid(1))[0]
    torch.testing.assert_close(alone[0], maps[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", SOME, indirect=True)
def test_the_first_steps_are_those_of_the_stock_run(family: Family) -> None:
    """The rule: what is looked at is what the run has there, of images and of videos of one frame."""
    scorer, model = scorer_of(family), family.model()
    steps = first_steps(model, family.clip(), "test", scorer.latent, "a cat and a tree", AFTER)
    noise = noises_of(family, 2)
    latents, sigmas, each = steps.take(noise, 3)
    kept: list[torch.Tensor] = []
    run = steps.run
    whole = noise.reshape(-1, *family.latent)
    comfy.sample.sample_custom(
        *(model, whole, run.cfg, run.sampler, run.sigmas, run.positive, run.negative),
        torch.zeros_like(whole),
        callback=lambda step, denoised, x, total: kept.append(x.clone()),
        disable_pbar=True,
        seed=3,
    )
    assert each == 4 and sigmas == pytest.approx([float(run.sigmas[2])] * 2)
    scaled = kept[2] / (1 - sigmas[0])
    expected = model.get_model_object("latent_format").process_out(scaled).reshape(noise.shape)
    torch.testing.assert_close(latents, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES, indirect=True)
def test_the_best_noise_is_picked_and_sampled(family: Family, model: Any, clip: Any) -> None:
    """Read where a tenth is signal, a first look at a flow tells enough to look at a third of them again."""
    counting, seen = counted(model)
    result = pick_noise(counting, clip, request_of(family, batch=2, after=AFTER))
    flow = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.CONST)
    assert seen.total == BASELINE + 2 * (3 + 2 * (2 * 2 + 1))
    assert ("Use the noise output instead" in result.report) == flow, "no LATENT carries noise there"
    latent = {"samples": torch.zeros(2, *family.latent)}
    noise = result.noise.generate_noise(latent)
    shape = result.empty["samples"].shape[1:]
    every = [plain_noise(derived_seed(7, j), shape, (0, 1)) for j in range(3)]
    for image in range(2):
        assert any(torch.equal(noise[image].reshape(shape), seeds[image]) for seeds in every)
    alone = pick_noise(model, clip, request_of(family, after=AFTER)).noise.batch(1)
    assert torch.equal(alone.reshape(-1, *shape)[0], noise[0].reshape(shape))
    conds = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a cat and a tree", ""))
    empty = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    sampled = comfy.sample.sample(model, noise, 2, 4.0, "euler", "simple", *conds, empty, disable_pbar=True)
    assert sampled.shape == empty.shape and bool(sampled.isfinite().all())


@pytest.mark.parametrize("family", SOME, indirect=True)
def test_the_share_of_a_forward_grows_with_the_layer(family: Family, model: Any) -> None:
    own = family_of(model)
    shares = [own.share(layer, 64, 64) for layer in own.layers]
    assert shares == sorted(shares) and 0 < shares[0] < 0.5 < shares[-1] < 1


@pytest.mark.parametrize("name", flops_transformers.SIZES)
def test_the_maps_take_less_memory_than_a_stock_forward(name: str) -> None:
    """In addition to it: at real sizes in bfloat16, of four blocks; what one takes is free again after it."""
    size = flops_transformers.SIZES[name]
    few = {"num_blocks": 4, "depth_single_blocks": 2, "num_layers": 4}
    few |= {} if name.startswith("SD3") else {"depth": 2}
    settings = size.settings | {key: count for key, count in few.items() if key in size.settings}
    size = replace(size, settings=settings)
    model = flops_transformers.model_of(size, torch.bfloat16)
    layers, stock = family_of(model).layers, flops_transformers.memory(model, size)
    assert len(layers) == 4 and stock > 2**27
    assert flops_transformers.memory(model, size, layers[2:3], stop=True) < 2 * stock
    assert flops_transformers.memory(model, size, layers) < 2 * stock


@pytest.mark.parametrize("name", flops_transformers.SIZES)
def test_what_a_look_is_announced_to_cost_is_what_it_does_at_real_sizes(name: str) -> None:
    """Operations counted on the meta device."""
    size = flops_transformers.SIZES[name]
    model = flops_transformers.model_of(size)
    own = family_of(model)
    layer = own.layers[len(own.layers) // 3]
    found = flops_transformers.flops(model, size, layer) / flops_transformers.flops(model, size)
    assert own.share(layer, *size.latent[-2:]) == pytest.approx(found, abs=0.01)

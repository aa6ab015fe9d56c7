"""The built noise is what the first UNet call receives, by every route."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import torch
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.probe.build.noise import empty_latent, noise_latent, ticket_noise
from winning_tickets.probe.collect import collect
from winning_tickets.probe.sampling import ksampler as cutoff_run
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.select import Thresholds
from winning_tickets.tickets.noise import plain_noise

LOOSE = Thresholds(t_pos=0.1, t_neg=0.9, t_bg=0.6)


def make_layout(model: Any, clip: Any) -> Layout:
    bank = collect.collect(model, clip, collect.CollectRequest(("cat", "tree"), 4, 0, 128, 128, "input 3"))
    regions = tuple(parse_regions("cat: 0 0 0.5 0.5\ntree: 0.5 0.5 1 1"))
    return Layout(bank, regions, 24, 16, LOOSE)


@pytest.fixture
def case(any_model: Any, clip: Any) -> tuple[Any, Layout]:
    return any_model, make_layout(any_model, clip)


def test_noise_reaches_the_unet_through_the_cutoff_sampler(case: Any, encode: Any, first_input: Any) -> None:
    model, layout = case
    spied, seen = first_input(model)
    latent = empty_latent(2, layout.shape)
    noise = ticket_noise(layout, 9, "the node")
    conds = encode("a cat"), encode("")
    settings = cutoff_run.Settings(0, 2, 5.0, "euler", "simple")
    cutoff_run.sample(spied, settings, *conds, latent, Cutoff(Share(0.5)), noise)
    built = layout.build(9, (0, 1))
    torch.testing.assert_close(seen[0][:2], built, rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[0][2:], built, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheduler", ["simple", "karras", "normal", "exponential", "sgm_uniform"])
def test_noise_latent_reaches_the_unet_with_add_noise_disabled(
    case: Any, encode: Any, first_input: Any, scheduler: str
) -> None:
    """KSampler (Advanced), add_noise disabled, start_at_step 0: zeros as noise, our latent as image."""
    model, layout = case
    spied, seen = first_input(model)
    built = layout.build(9, (0, 1))
    latent = noise_latent(built, layout.bank.recipe.sigma, layout.bank.recipe.latent_scale)["samples"]
    comfy.sample.sample(
        spied,
        torch.zeros_like(latent),
        4,
        5.0,
        "euler",
        scheduler,
        encode("a cat"),
        encode(""),
        latent,
        disable_noise=True,
        start_step=0,
        last_step=10000,
        disable_pbar=True,
        seed=0,
    )
    torch.testing.assert_close(seen[0][:2], built, rtol=0, atol=2e-6)


def test_noise_object_serves_a_guider_as_random_noise_does(case: Any, encode: Any, first_input: Any) -> None:
    """The way of SamplerCustomAdvanced."""
    model, layout = case
    spied, seen = first_input(model)
    guider = comfy.samplers.CFGGuider(spied)
    guider.inner_set_conds({"positive": encode("a cat"), "negative": encode("")})
    noise, latent = ticket_noise(layout, 4, "the node"), empty_latent(1, layout.shape)
    sigma = float(model.get_model_object("model_sampling").sigma_max)
    guider.sample(
        noise.generate_noise(latent),
        latent["samples"],
        comfy.samplers.sampler_object("euler"),
        torch.tensor([sigma, 0.0]),
        disable_pbar=True,
        seed=noise.seed,
    )
    torch.testing.assert_close(seen[0], layout.build(4), rtol=0, atol=1e-6)


def test_plain_noise_is_stock_comfyui_noise() -> None:
    for seed in (0, 1, 2**63 + 5, 2**64 - 1):
        stock = comfy.sample.prepare_noise(torch.zeros(3, 4, 10, 14), seed)
        assert torch.equal(plain_noise(seed, (4, 10, 14), range(3)), stock)
        picked = comfy.sample.prepare_noise(torch.zeros(2, 4, 10, 14), seed, [2, 0])
        assert torch.equal(plain_noise(seed, (4, 10, 14), (2, 0)), picked)


def test_image_k_of_a_batch_equals_a_run_with_batch_index_k(model: Any, clip: Any) -> None:
    layout = make_layout(model, clip)
    noise = ticket_noise(layout, 3, "the node")
    batch = noise.generate_noise(empty_latent(4, layout.shape))
    alone = noise.generate_noise({**empty_latent(1, layout.shape), "batch_index": [2]})
    assert torch.equal(alone[0], batch[2])
    assert not torch.equal(batch[0], batch[1])


def test_noise_for_another_size_is_refused(model: Any, clip: Any) -> None:
    layout = make_layout(model, clip)
    with pytest.raises(ValueError, match=r"for a latent of \(4, 16, 24\).*\(4, 32, 32\)"):
        ticket_noise(layout, 3, "the node").generate_noise({"samples": torch.zeros(1, 4, 32, 32)})


def test_noise_and_noise_latent_together_are_refused(model: Any, clip: Any, encode: Any) -> None:
    layout = make_layout(model, clip)
    latent = noise_latent(layout.build(1), 14.6, 0.18)
    with pytest.raises(ValueError, match="both a noise and a latent that is noise already"):
        cutoff_run.initial_noise(latent, latent["samples"], 0, ticket_noise(layout, 1, "the node"))

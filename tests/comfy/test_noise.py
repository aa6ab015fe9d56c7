"""The built noise is what the first UNet call receives, by every route."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import comfy.latent_formats
import comfy.model_sampling as MS
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_extras import nodes_tomesd
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.probe.build.build import (
    PlaceRequest,
    TicketRequest,
    arrange_noise,
    build_tickets,
    pick_noise,
)
from winning_tickets.probe.collect import collect
from winning_tickets.probe.layers.probe import LayerProbe, measure
from winning_tickets.probe.noise.forms import (
    BuiltNoise,
    PlainNoise,
    compared,
    empty_latent,
    noise_latent,
    recipe_latent,
    ticket_noise,
)
from winning_tickets.probe.sampling import ksampler as cutoff_run
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.select import Thresholds
from winning_tickets.tickets.noise import plain_noise

LOOSE = Thresholds(t_pos=0.1, t_neg=0.9, t_bg=0.6)
REGIONS = tuple(parse_regions("cat: 0 0 0.5 0.5\ntree: 0.5 0.5 1 1"))


def make_layout(model: Any, clip: Any) -> Layout:
    bank = collect.collect(model, clip, collect.CollectRequest(("cat", "tree"), 4, 0, 128, 128, "input 3"))
    return Layout(bank, REGIONS, 24, 16, LOOSE)


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


ADVANCED = {"disable_noise": True, "start_step": 0, "last_step": 10000, "disable_pbar": True, "seed": 0}
"""KSampler (Advanced), add_noise disabled, start_at_step 0: zeros as noise, our latent as image."""


@pytest.mark.parametrize("scheduler", ["simple", "karras", "normal", "exponential", "sgm_uniform"])
def test_noise_latent_reaches_the_unet_with_add_noise_disabled(
    case: Any, encode: Any, first_input: Any, scheduler: str
) -> None:
    model, layout = case
    spied, seen = first_input(model)
    built = layout.build(9, (0, 1))
    by_bank, note = recipe_latent(built, layout.bank.recipe, "the node")
    assert "scaled for the bank's model" in note
    zeros, conds = torch.zeros_like(built), (encode("a cat"), encode(""))
    for latent in (noise_latent(built, model, "the node")[0], by_bank):
        seen.clear()
        comfy.sample.sample(spied, zeros, 2, 5.0, "euler", scheduler, *conds, latent["samples"], **ADVANCED)
        torch.testing.assert_close(seen[0][:2], built, rtol=0, atol=2e-6)


FORMATS = comfy.latent_formats
SAMPLINGS: dict[str, tuple[Any, dict[str, Any], Any, Any]] = {
    "eps": (MS.ModelSamplingDiscrete, {}, MS.EPS, FORMATS.SD15),
    "v": (MS.ModelSamplingDiscrete, {}, MS.V_PREDICTION, FORMATS.SD15),
    "zero-terminal-SNR v": (MS.ModelSamplingDiscrete, {"zsnr": True}, MS.V_PREDICTION, FORMATS.SD15),
    "x0": (MS.ModelSamplingDiscrete, {}, MS.X0, FORMATS.SDXL),
    "EDM": (MS.ModelSamplingContinuousEDM, {}, MS.EDM, FORMATS.SDXL_Playground_2_5),
    "continuous v": (MS.ModelSamplingContinuousV, {}, MS.V_PREDICTION, FORMATS.SDXL),
    "cascade": (MS.StableCascadeSampling, {}, MS.EPS, FORMATS.SDXL),
    "v of DDPM": (MS.ModelSamplingDiscrete, {}, MS.V_PREDICTION_DDPM, FORMATS.SDXL),
    "Cosmos": (MS.ModelSamplingCosmosRFlow, {}, MS.COSMOS_RFLOW, FORMATS.SDXL),
    "image to image": (MS.ModelSamplingDiscrete, {}, MS.IMG_TO_IMG, FORMATS.SDXL),
}
FLOWS: dict[str, tuple[Any, Any]] = {
    "flow": (MS.ModelSamplingDiscreteFlow, MS.CONST),
    "Flux": (MS.ModelSamplingFlux, MS.CONST),
    "image to image flow": (MS.ModelSamplingDiscreteFlow, MS.IMG_TO_IMG_FLOW),
}


def resampled(model: Any, base: Any, prediction: Any, **settings: Any) -> Any:
    """A clone of MODEL with another sampling, as core's ModelSampling nodes make one."""
    clone = model.clone()
    kind = type("ModelSamplingAdvanced", (base, prediction), {})
    clone.add_object_patch("model_sampling", kind(model.model.model_config, **settings))
    return clone


@pytest.mark.parametrize("kind", SAMPLINGS)
def test_noise_latent_starts_sampling_as_stock_starts_from_the_noise(
    make_model: Any, encode: Any, first_input: Any, kind: str
) -> None:
    """The rule: the connected model's own sampling and latent format scale the noise."""
    base, settings, prediction, latent_format = SAMPLINGS[kind]
    model = resampled(make_model(0, latent_format=latent_format), base, prediction, **settings)
    noise = plain_noise(3, (4, 19, 13), (0, 1))
    before = noise.clone()
    latent, note = noise_latent(noise, model, "the node")
    assert not note and torch.equal(noise, before)
    spied, seen = first_input(model)
    zeros, conds = torch.zeros_like(noise), (encode("a cat"), encode(""))
    run = ("euler", "simple", *conds)
    comfy.sample.sample(spied, noise, 1, 1.0, *run, zeros, disable_pbar=True, seed=0)
    stock = seen[0]
    seen.clear()
    comfy.sample.sample(spied, zeros, 1, 1.0, *run, latent["samples"], **ADVANCED)
    torch.testing.assert_close(seen[0], stock, rtol=1e-5, atol=1e-5 * float(stock.abs().max()))
    if kind.startswith("zero"):
        assert float(latent["samples"].std()) == pytest.approx(24_808, rel=0.05), "not sigma 14.6's 80"


@pytest.mark.parametrize("kind", FLOWS)
def test_a_model_whose_latents_carry_no_noise_blocks_the_noise_latent(
    model: Any, clip: Any, encode: Any, first_input: Any, kind: str
) -> None:
    """The rule: a latent from which sampling would start from zeros is not given; NOISE still is."""
    flow = resampled(model, *FLOWS[kind])
    request = PlaceRequest(REGIONS, 192, 128, 7, 2, 2, 1, "input 3")
    result = arrange_noise(flow, clip, request)
    assert isinstance(result.latent, ExecutionBlocker)
    assert result.latent.message in result.report
    assert "Arrange Noise by Regions: for this model no latent carries noise" in result.report
    assert "Use the noise output instead" in result.report
    layout = make_layout(flow, clip)
    for blind in (
        build_tickets(TicketRequest(layout, 3, 1, 1, 0)),
        build_tickets(TicketRequest(layout, 3, 1, 1, 0), flow, clip),
    ):
        assert isinstance(blind.latent, ExecutionBlocker) and "Use the noise output" in blind.report
    if kind != "image to image flow":
        spied, seen = first_input(flow)
        noise, zeros = result.noise.generate_noise(result.empty), result.empty["samples"]
        conds = encode("a cat"), encode("")
        comfy.sample.sample(spied, noise, 2, 1.0, "euler", "simple", *conds, zeros, disable_pbar=True, seed=0)
        torch.testing.assert_close(seen[0][:2], noise, rtol=0, atol=1e-6)


def test_a_bank_that_does_not_know_the_scale_of_latents_says_so(make_model: Any, clip: Any) -> None:
    """The rule: no latent is scaled by a guess. Playground's latents have a mean, too."""
    model = make_model(0, latent_format=FORMATS.SDXL_Playground_2_5)
    layout = make_layout(model, clip)
    blind = build_tickets(TicketRequest(layout, 3, 1, 1, 0))
    assert isinstance(blind.latent, ExecutionBlocker) and "connect model and clip" in blind.latent.message
    assert not isinstance(
        build_tickets(TicketRequest(layout, 3, 1, 1, 0), model, clip).latent, ExecutionBlocker
    )


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


SIZES = [(4, 10, 14), (4, 16, 16), (4, 19, 13), (4, 75, 75)]
"""Of the second alone, the values of an image are a multiple of 16."""


@pytest.mark.parametrize("shape", SIZES)
def test_plain_noise_is_stock_noise_with_batch_index(shape: tuple[int, int, int]) -> None:
    """The rule: image k of a seed is the same alone and in any batch, as stock's batch_index has it."""
    for seed in (0, 1, 2**63 + 5, 2**64 - 1):
        drawn = plain_noise(seed, shape, range(3))
        for indices in ([0], [2], [2, 0], [1, 1, 2], [0, 1, 2]):
            stock = comfy.sample.prepare_noise(torch.zeros(len(indices), *shape), seed, indices)
            assert torch.equal(plain_noise(seed, shape, indices), stock)
            assert torch.equal(drawn[indices], stock)
        assert torch.equal(drawn[:1], comfy.sample.prepare_noise(torch.zeros(1, *shape), seed)), (
            "a single image"
        )


@pytest.mark.parametrize("shape", SIZES)
def test_stock_draws_a_batch_at_once(shape: tuple[int, int, int]) -> None:
    """The reason why the rule is not "as stock": there image k depends on the batch at most sizes."""
    stock = comfy.sample.prepare_noise(torch.zeros(2, *shape), 0)
    assert torch.equal(plain_noise(0, shape, range(2)), stock) == (math.prod(shape) % 16 == 0)
    assert torch.equal(PlainNoise(0).generate_noise({"samples": torch.zeros(2, *shape)}), stock)


@pytest.mark.parametrize("size", [(19, 13), (24, 16)])
def test_switched_off_the_noise_is_stock_noise_bit_for_bit(
    model: Any, clip: Any, size: tuple[int, int]
) -> None:
    """The rule: strength 0, or one candidate and nothing exchanged, is RandomNoise in batches of any size."""
    width, height = size
    layout = replace(make_layout(model, clip), width=width, height=height, strength=0.0, shortage="repeat")
    one = PlaceRequest(REGIONS, width * 8, height * 8, 7, 2, 1, 0, "input 3")
    results = [build_tickets(TicketRequest(layout, 7, 2, 2, 1), *look) for look in ((), (model, clip))]
    results += [pick_noise(model, clip, one), arrange_noise(model, clip, one)]
    for latent in (
        {"samples": torch.zeros(2, 4, height, width)},
        {"batch_index": [2]},
        {"batch_index": [1, 0]},
    ):
        latent.setdefault("samples", torch.zeros(len(latent.get("batch_index", [0, 1])), 4, height, width))
        stock = comfy.sample.prepare_noise(latent["samples"], 7, latent.get("batch_index"))
        for result in results:
            assert torch.equal(result.noise.generate_noise(latent), stock)
    stock = comfy.sample.prepare_noise(torch.zeros(2, 4, height, width), 7)
    for result in results:
        # The latent, too, is what stock sampling of the seed starts from.
        expected = noise_latent(stock, model, "")[0]["samples"]
        assert torch.allclose(result.latent["samples"], expected, rtol=1e-6)


@pytest.mark.parametrize("size", [(24, 16), (19, 13)])
def test_image_k_of_a_batch_equals_a_run_with_batch_index_k(
    model: Any, clip: Any, size: tuple[int, int]
) -> None:
    layout = replace(make_layout(model, clip), width=size[0], height=size[1])
    noise = ticket_noise(layout, 3, "the node")
    batch = noise.generate_noise(empty_latent(4, layout.shape))
    alone = noise.generate_noise({**empty_latent(1, layout.shape), "batch_index": [2]})
    assert torch.equal(alone[0], batch[2])
    assert torch.equal(noise.generate_noise(empty_latent(2, layout.shape)), batch[:2])
    assert not torch.equal(batch[0], batch[1])


def test_built_noise_leaves_torchs_generator_as_random_noise_does(model: Any, clip: Any) -> None:
    """The rule: what draws from the global generator afterwards draws the same in every run."""
    layout = make_layout(model, clip)
    for latent in (empty_latent(2, layout.shape), {**empty_latent(1, layout.shape), "batch_index": [3]}):
        comfy.sample.prepare_noise(latent["samples"], 9, latent.get("batch_index"))
        expected = torch.rand(4)
        noise = ticket_noise(layout, 9, "the node")
        for _ in range(2):
            noise.generate_noise(latent)
            assert torch.equal(torch.rand(4), expected)


def test_building_looking_and_reporting_do_not_touch_the_global_generator(model: Any, clip: Any) -> None:
    layout = make_layout(model, clip)
    request = PlaceRequest(REGIONS, 192, 128, 7, 2, 2, 1, "input 3")
    state = torch.get_rng_state()
    result = build_tickets(TicketRequest(layout, 3, 2, 2, 1), model, clip)
    arrange_noise(model, clip, request)
    pick_noise(model, clip, request)
    compared(result.noise, result.empty)
    assert torch.equal(torch.get_rng_state(), state)


def jittered(model: Any) -> Any:
    """A MODEL whose attention draws from the global generator, as token merging does."""
    clone = model.clone()
    clone.set_model_attn1_patch(lambda q, k, v, extra: (q + 0.1 * torch.rand(q.shape[1:]), k, v))
    return clone


@pytest.mark.parametrize("patch", ["own", "token merging"])
def test_the_same_inputs_give_the_same_image_beside_a_patch_that_draws(
    model: Any, clip: Any, encode: Any, patch: str
) -> None:
    """The rule: the same seed gives the same result, whatever ran before."""
    merging = nodes_tomesd.TomePatchModel
    drawing = jittered(model) if patch == "own" else merging.execute(model, 0.4)[0]
    layout = make_layout(model, clip)
    request = PlaceRequest(REGIONS, 192, 128, 7, 1, 3, 1, "input 3")
    images = []
    for before in range(2):
        torch.manual_seed(before)
        for result in (
            build_tickets(TicketRequest(layout, 3, 1, 2, 1), drawing, clip),
            arrange_noise(drawing, clip, request),
        ):
            noise = result.noise.generate_noise(result.empty)
            conds = encode("a cat"), encode("")
            images.append(
                comfy.sample.sample(
                    drawing,
                    noise,
                    2,
                    5.0,
                    "euler",
                    "simple",
                    *conds,
                    result.empty["samples"],
                    disable_pbar=True,
                    seed=result.noise.seed,
                )
            )
    assert torch.equal(images[0], images[2]) and torch.equal(images[1], images[3])


def test_a_layer_report_is_the_same_beside_a_patch_that_draws(model: Any, clip: Any) -> None:
    """The rule: the same seed gives the same report, and the user's later run is not touched."""
    values = []
    for before in range(2):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        probe = LayerProbe(jittered(model), clip, ("cat", "tree"), 2, 0, 104, 152, transplanted=2)
        values.append(str(measure(probe, 2, 2, 5.0)))
        assert torch.equal(torch.get_rng_state(), state)
    assert values[0] == values[1]


def test_made_noise_is_not_kept_for_ever() -> None:
    """The rule: memory is bounded; but a whole batch is kept, however large, as every sampler asks for it."""
    made: list[tuple[int, int]] = []

    def make(seed: int, index: int) -> torch.Tensor:
        made.append((seed, index))
        return plain_noise(seed, (4, 2, 2), (index,))[0]

    noise = BuiltNoise(make, (4, 2, 2), 1, "the node")
    for _ in range(2):
        noise.images(range(100))
    assert len(made) == 100
    for seed in range(200):
        noise.seed = seed
        noise.images([0])
    assert len(noise._made) == 100


def test_noise_for_another_size_is_refused(model: Any, clip: Any) -> None:
    layout = make_layout(model, clip)
    with pytest.raises(ValueError, match=r"for a latent of \(4, 16, 24\).*\(4, 32, 32\)"):
        ticket_noise(layout, 3, "the node").generate_noise({"samples": torch.zeros(1, 4, 32, 32)})
    nested = NestedTensor([torch.zeros(1, 4, 16, 24)])
    with pytest.raises(ValueError, match="latent_image is several parts"):
        ticket_noise(layout, 3, "the node").generate_noise({"samples": nested})


def test_an_image_may_be_a_video_of_one_frame(model: Any, clip: Any) -> None:
    """Samplers hand such latents to NOISE for Qwen-Image, Anima, Wan: it was refused."""
    layout = make_layout(model, clip)
    flat = empty_latent(2, layout.shape)
    framed, video = ({"samples": torch.zeros(2, 4, frames, 16, 24)} for frames in (1, 2))
    noise = ticket_noise(layout, 3, "the node")
    found = noise.generate_noise(framed)
    assert found.shape == (2, 4, 1, 16, 24) and torch.equal(found[:, :, 0], noise.generate_noise(flat))
    for one, other in zip(compared(noise, framed), compared(noise, flat), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match=r"latent_image is \(4, 2, 16, 24\)"):
        noise.generate_noise(video)
    with pytest.raises(ValueError, match="Noise Report needs a latent of images"):
        compared(noise, video)


def test_noise_and_noise_latent_together_are_refused(model: Any, clip: Any, encode: Any) -> None:
    layout = make_layout(model, clip)
    latent, _ = noise_latent(layout.build(1), model, "the node")
    with pytest.raises(ValueError, match="both a noise and a latent that is noise already"):
        cutoff_run.initial_noise(latent, latent["samples"], 0, ticket_noise(layout, 1, "the node"))

"""The first steps of a run, and looking at noise after them, with ComfyUI's real samplers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import comfy.k_diffusion.sampling
import comfy.model_base
import comfy.model_management
import comfy.sample
import comfy.samplers
import other_patches
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_advanced_samplers import SamplerLCMUpscale
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from forwards import counted
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.sampling.first_steps import FirstSteps, Run
from winning_tickets.probe.sampling.samplers import EVALUATIONS
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, make_prompts

SHAPE = (4, 19, 13)
STEPS, CFG = 6, 4.0
Encode = Callable[[str], Any]


def run_of(
    model: Any, encode: Encode, sampler: str = "euler", cfg: float = CFG, scheduler: str = "normal"
) -> Run:
    sigmas = comfy.samplers.KSampler(model, STEPS, "cpu", sampler, scheduler).sigmas
    return Run(comfy.samplers.sampler_object(sampler), sigmas, encode("a cat"), encode("ugly"), cfg)


def whole(model: Any, run: Run, noise: torch.Tensor, seed: int) -> list[tuple[float, torch.Tensor]]:
    """Noise level and input of every evaluation of the stock run."""
    seen: list[tuple[float, torch.Tensor]] = []

    def predict(executor: Any, x: torch.Tensor, timestep: torch.Tensor, *more: Any, **named: Any) -> Any:
        seen.append((float(timestep.flatten()[0]), x.clone()))
        return executor(x, timestep, *more, **named)

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "test", predict)
    empty = torch.zeros_like(noise)
    comfy.sample.prepare_noise(empty, seed)
    comfy.sample.sample_custom(
        *(watched, noise, run.cfg, run.sampler, run.sigmas, run.positive, run.negative, empty),
        disable_pbar=True,
        seed=seed,
    )
    return seen


def at(model: Any, latents: torch.Tensor, sigma: float) -> torch.Tensor:
    """What the model is given of latents at a noise level."""
    latent_format, sampling = (model.get_model_object(k) for k in ("latent_format", "model_sampling"))
    clean = latent_format.process_in(latents)
    return sampling.noise_scaling(torch.tensor(sigma), torch.zeros_like(clean), clean, False)


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_they_are_those_of_the_whole_run(model: Any, encode: Encode, sampler: str) -> None:
    """The rule: the same noise and seed give the same first steps, whatever the sampler draws of its own."""
    run = run_of(model, encode, sampler)
    noise = plain_noise(8, SHAPE)
    every = whole(model, run, noise, 8)
    for after in (1, 3):
        latents, (sigma,), each = FirstSteps(model, run, after, SHAPE, "test").take(noise, 8)
        evaluated = int(each / 2)
        own = sampler in ("dpm_fast", "dpm_adaptive")
        levels = [level for level, _ in every[: evaluated + own]]
        number = levels.index(sigma) if own else evaluated
        assert every[number][0] == sigma and evaluated < len(every) or sampler == "dpm_fast", (
            "the rest is not evaluated"
        )
        torch.testing.assert_close(at(model, latents, sigma), every[number][1], rtol=1e-4, atol=1e-4)
        assert sigma < float(run.sigmas[after]) if own else sigma == pytest.approx(float(run.sigmas[after]))


def test_on_every_kind_of_model(any_model: Any, encode: Encode) -> None:
    run = run_of(any_model, encode)
    noise = plain_noise(8, SHAPE)
    latents, (sigma, *_), _ = FirstSteps(any_model, run, 2, SHAPE, "test").take(noise, 8)
    expected = whole(any_model, run, noise, 8)[2][1]
    torch.testing.assert_close(at(any_model, latents, sigma), expected, rtol=1e-4, atol=1e-4)


def test_on_a_flow_model(make_model: Callable[..., Any], encode: Encode) -> None:
    """The rule: what there is after some steps can be read on a model whose first step shows nothing."""
    flow = make_model(0, comfy.model_base.ModelType.FLOW)
    run = run_of(flow, encode, scheduler="simple")
    noise = plain_noise(8, SHAPE)
    latents, (sigma, *_), _ = FirstSteps(flow, run, 2, SHAPE, "test").take(noise, 8)
    assert sigma < 1
    expected = whole(flow, run, noise, 8)[2][1]
    torch.testing.assert_close(at(flow, latents, sigma), expected, rtol=1e-4, atol=1e-4)


def test_on_a_model_of_zero_terminal_snr(make_model: Callable[..., Any], encode: Encode) -> None:
    """Its first step shows nothing in theory; after two steps it is read at the noise level there."""
    model = make_model(0, comfy.model_base.ModelType.V_PREDICTION)
    (zero,) = ModelSamplingDiscrete().patch(model, "v_prediction", True)
    run = run_of(zero, encode)
    assert float(run.sigmas[0]) > 1000
    noise = plain_noise(8, SHAPE)
    latents, (sigma, *_), _ = FirstSteps(zero, run, 2, SHAPE, "test").take(noise, 8)
    level, expected = whole(zero, run, noise, 8)[2]
    assert sigma == level < 100
    torch.testing.assert_close(at(zero, latents, sigma), expected, rtol=1e-3, atol=1e-3)


def test_alone_and_in_a_batch(model: Any, encode: Encode) -> None:
    """The rule: what a noise becomes does not depend on what is beside it."""
    noise = torch.cat([plain_noise(seed, SHAPE) for seed in (8, 9, 3)])
    for sampler, patch in (
        ("euler", None),
        ("uni_pc", None),
        ("ddim", None),
        ("euler_ancestral", None),
        ("euler", other_patches.random_numbers),
    ):
        patched = patch(model) if patch else model
        taking = FirstSteps(patched, run_of(patched, encode, sampler), 2, SHAPE, "test")
        together, _, _ = taking.take(noise, 8)
        assert taking.run.batched == (sampler in ("euler", "uni_pc")), "as far as a name tells"
        alone = torch.cat([taking.take(one[None], 8)[0] for one in noise])
        exact = not taking.run.batched or patch
        torch.testing.assert_close(together, alone, rtol=0, atol=0 if exact else 0.01)


def test_every_forward_counts(model: Any, encode: Encode) -> None:
    """The rule: those of a batch that had to be run again, image by image, were run, too."""
    noise = torch.cat([plain_noise(seed, SHAPE) for seed in (8, 9)])
    for patch, churn in ((other_patches.random_numbers, 0.0), (lambda same: same, 5.0)):
        patched, seen = counted(patch(model))
        run = replace(run_of(patched, encode), sampler=comfy.samplers.ksampler("euler", {"s_churn": churn}))
        _, _, each = FirstSteps(patched, run, 2, SHAPE, "test").take(noise, 8)
        assert seen.total == 2 * each and max(seen.rows) > min(seen.rows)


class Silent(comfy.samplers.Sampler):
    """Euler that reports no steps."""

    def sample(
        self,
        model_wrap: Any,
        sigmas: torch.Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: torch.Tensor,
        latent_image: Any = None,
        denoise_mask: Any = None,
        disable_pbar: bool = False,
    ) -> torch.Tensor:
        full = self.max_denoise(model_wrap, sigmas)
        x = model_wrap.inner_model.model_sampling.noise_scaling(sigmas[0], noise, latent_image, full)
        for sigma, following in zip(sigmas[:-1], sigmas[1:], strict=True):
            denoised = model_wrap(x, sigma * x.new_ones(len(x)), **extra_args)
            x = x + (x - denoised) / sigma * (following - sigma)
        return x


def test_a_sampler_that_reports_no_steps(model: Any, encode: Encode) -> None:
    """A step too many was taken, and the whole rest of the run evaluated."""
    counting, seen = counted(model)
    run, noise = replace(run_of(counting, encode), sampler=Silent()), plain_noise(8, SHAPE)
    latents, (sigma,), each = FirstSteps(counting, run, 2, SHAPE, "test").take(noise, 8)
    assert sigma == float(run.sigmas[2]) and seen.total == each == 2 * 2
    expected = FirstSteps(model, run_of(model, encode), 2, SHAPE, "test").take(noise, 8)[0]
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-3)


def wrapped_euler(change: Callable[..., Any]) -> Any:
    def sample(model: Any, x: torch.Tensor, sigmas: torch.Tensor, *args: Any, **options: Any) -> Any:
        return comfy.k_diffusion.sampling.sample_euler(partial(change, model), x, sigmas, *args, **options)

    return comfy.samplers.KSAMPLER(sample)


def test_noise_alone_is_not_taken_for_a_step(model: Any, encode: Encode) -> None:
    """Samplers that report less noise to the model than there is, as Detail Daemon does, begin lower."""
    less = wrapped_euler(lambda model, x, sigma, **options: model(x, 0.3 * sigma, **options))
    run, noise = replace(run_of(model, encode), sampler=less), plain_noise(8, SHAPE)
    assert 0.3 * float(run.sigmas[0]) < float(run.sigmas[1])
    latents, (sigma,), _ = FirstSteps(model, run, 1, SHAPE, "test").take(noise, 8)
    level, expected = whole(model, run, noise, 8)[1]
    assert sigma == level
    torch.testing.assert_close(at(model, latents, sigma), expected, rtol=1e-4, atol=1e-4)


def test_a_sampler_that_changes_the_size_is_refused(model: Any, encode: Encode) -> None:
    """It was blamed on a patch on the MODEL."""
    upscale = SamplerLCMUpscale.execute(1.5, 2, "bilinear").result[0]
    run = replace(run_of(model, encode), sampler=upscale)
    with pytest.raises(ProbeError, match="Pick: this sampler makes the latents .* instead of 13x19"):
        FirstSteps(model, run, 2, SHAPE, "Pick").take(plain_noise(8, SHAPE), 8)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2", "dpmpp_2s_ancestral"])
def test_what_a_cutoff_saves_is_what_the_second_half_evaluates(
    model: Any, encode: Encode, sampler: str
) -> None:
    """The rule: each evaluation of the second half without the negative prompt is one forward less."""
    run = run_of(model, encode, sampler)
    run = replace(
        run, sigmas=comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 5)
    )
    evaluations = len(whole(model, run, plain_noise(8, SHAPE), 8))
    steps = FirstSteps(model, run, 2, SHAPE, "test")
    assert steps.saved == evaluations - 2 * EVALUATIONS.get(sampler, 1)
    assert FirstSteps(model, replace(run, cfg=1.0), 2, SHAPE, "test").saved == 0


def test_nothing_is_left_behind(model: Any, encode: Encode) -> None:
    """The rule: neither on the MODEL nor in torch's random numbers, whatever ends the run."""
    counting, seen = counted(model)
    run = run_of(counting, encode, "euler_ancestral")
    before = (dict(counting.wrappers), torch.get_rng_state())
    taking = FirstSteps(counting, run, 2, SHAPE, "test")
    taking.take(plain_noise(8, SHAPE), 8)
    assert seen.total == 4 and dict(counting.wrappers) == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        raise comfy.model_management.InterruptProcessingException

    broken = model.clone()
    broken.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", interrupted)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        FirstSteps(broken, run, 2, SHAPE, "test").take(plain_noise(8, SHAPE), 8)
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("after", [0, 6])
def test_a_run_has_fewer_steps(model: Any, encode: Encode, after: int) -> None:
    with pytest.raises(ProbeError, match="Pick: after is . of 6 steps; it must be 1 to 5"):
        FirstSteps(model, run_of(model, encode), after, SHAPE, "Pick")


def test_a_step_that_takes_no_noise_away_is_refused(make_model: Callable[..., Any], encode: Encode) -> None:
    """It was divided by no signal at all, and half precision was blamed."""
    flow = make_model(0, comfy.model_base.ModelType.FLOW)
    run = replace(run_of(flow, encode, scheduler="simple"), sigmas=torch.tensor([1.0, 1.0, 0.5, 0.0]))
    with pytest.raises(ProbeError, match="Pick: after step 1 of 3 the noise level is 1, no lower .* more of"):
        FirstSteps(flow, run, 1, SHAPE, "Pick")
    latents, _, _ = FirstSteps(flow, run, 2, SHAPE, "Pick").take(plain_noise(8, SHAPE), 8)
    assert bool(latents.isfinite().all())


def test_what_is_read_is_the_runs_own_attention(model: Any, clip: Any, encode: Encode) -> None:
    """The rule: a map after some steps is what the run's own evaluation has there."""
    scorer = Scorer(model, clip, "test", SHAPE[2] * 8, SHAPE[1] * 8, "input 1, input 3")
    prompts = scorer.encode(make_prompts(["cat", "tree"], JOINT))
    run = run_of(model, encode)
    noise = torch.cat([plain_noise(seed, SHAPE) for seed in (8, 9)])
    latents, (sigma, *_), _ = FirstSteps(model, run, 2, SHAPE, "test").take(noise, 8)
    found = scorer.maps(prompts, latents, sigma=sigma)
    level, x = whole(model, run, noise, 8)[2]
    assert level == sigma
    clean = model.get_model_object("latent_format").process_out(x)
    for layer, (expected,) in scorer.maps(prompts, clean, sigma=level).items():
        torch.testing.assert_close(found[layer][0], expected, rtol=1e-3, atol=1e-6)
        first = scorer.maps(prompts, noise)[layer][0]
        assert (first - expected).abs().max() > 1e-5

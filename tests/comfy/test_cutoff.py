"""Guidance Cutoff KSampler against the stock KSampler, bit for bit and forward by forward."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.sample
import comfy.samplers
import latent_preview  # noqa: F401  (imports with ComfyUI's root on the path)
import pytest
import torch
from winning_tickets.probe import cutoff

STEPS = 6


@pytest.fixture
def latent() -> dict[str, Any]:
    return {"samples": torch.zeros(2, 4, 8, 12)}


def stock(model: Any, encode: Any, latent: Any, sampler: str, scheduler: str, **options: Any) -> Any:
    """The core KSampler node's own path."""
    samples = latent["samples"]
    noise = comfy.sample.prepare_noise(samples, 3, latent.get("batch_index"))
    arguments = {"cfg": 5.0, "denoise": 1.0, **options}
    return comfy.sample.sample(
        model,
        noise,
        STEPS,
        arguments["cfg"],
        sampler,
        scheduler,
        encode("a cat"),
        encode("blurry"),
        samples,
        denoise=arguments["denoise"],
        noise_mask=latent.get("noise_mask"),
        disable_pbar=True,
        seed=3,
    )


def ours(model: Any, encode: Any, latent: Any, sampler: str, scheduler: str, **options: Any) -> Any:
    arguments = {"cfg": 5.0, "denoise": 1.0, "guided": 1.0, "tail": cutoff.CONDITIONAL, **options}
    return cutoff.sample(
        model,
        3,
        STEPS,
        sampler_name=sampler,
        scheduler=scheduler,
        positive=encode("a cat"),
        negative=encode("blurry"),
        latent=latent,
        **arguments,
    )


@pytest.mark.parametrize(
    "sampler", ["euler", "dpmpp_2m", "dpmpp_sde", "heun", "uni_pc", "euler_cfg_pp", "ddim"]
)
@pytest.mark.parametrize("tail", cutoff.TAILS)
def test_fully_guided_equals_the_stock_sampler(
    model: Any, encode: Any, latent: Any, sampler: str, tail: str
) -> None:
    expected = stock(model, encode, latent, sampler, "karras")
    found, _ = ours(model, encode, latent, sampler, "karras", tail=tail, unconditional=encode(""))
    assert torch.equal(found["samples"], expected)


@pytest.mark.parametrize("scheduler", ["simple", "normal", "ddim_uniform"])
def test_fully_guided_image_to_image_equals_the_stock_sampler(
    model: Any, encode: Any, scheduler: str
) -> None:
    torch.manual_seed(0)
    latent = {
        "samples": torch.randn(2, 4, 8, 12),
        "batch_index": [4, 1],
        "noise_mask": (torch.rand(1, 1, 64, 96) > 0.5).float(),
    }
    expected = stock(model, encode, latent, "euler", scheduler, denoise=0.6)
    found, _ = ours(model, encode, latent, "euler", scheduler, denoise=0.6)
    assert torch.equal(found["samples"], expected)
    assert found["batch_index"] == [4, 1] and "noise_mask" in found


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "dpmpp_2m_sde"])
def test_never_guided_equals_the_stock_sampler_at_cfg_1(
    model: Any, encode: Any, latent: Any, sampler: str
) -> None:
    expected = stock(model, encode, latent, sampler, "simple", cfg=1.0)
    found, report = ours(model, encode, latent, sampler, "simple", guided=0.0)
    assert torch.equal(found["samples"], expected)
    assert report.startswith(f"{STEPS} forwards for {STEPS} steps, 0 of them guided")


def test_unconditional_tail_is_the_prediction_for_the_empty_prompt(
    model: Any, encode: Any, latent: Any
) -> None:
    """Eq. 9 of the paper: after the cut CFG with scale 0, on the empty prompt, not the negative."""
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    euler = comfy.samplers.sampler_object("euler")
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)

    class TwoPass(comfy.samplers.CFGGuider):
        def predict_noise(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> Any:
            late = float(timestep.max()) <= float(sigmas[2]) * 1.00001
            name, scale = ("empty", 0.0) if late else ("negative", 5.0)
            return comfy.samplers.sampling_function(
                self.inner_model,
                x,
                timestep,
                self.conds[name],
                self.conds["positive"],
                scale,
                model_options,
            )

    guider = TwoPass(model)
    guider.inner_set_conds({"positive": encode("a cat"), "negative": encode("blurry"), "empty": encode("")})
    expected = guider.sample(
        noise, latent["samples"], euler, sigmas, callback=None, disable_pbar=True, seed=3
    )
    found, _ = ours(
        model,
        encode,
        latent,
        "euler",
        "simple",
        guided=2 / STEPS,
        tail=cutoff.UNCONDITIONAL,
        unconditional=encode(""),
    )
    torch.testing.assert_close(found["samples"], expected, rtol=1e-3, atol=1e-3)
    with_negative, _ = ours(
        model, encode, latent, "euler", "simple", guided=2 / STEPS, tail=cutoff.UNCONDITIONAL
    )
    assert not torch.allclose(with_negative["samples"], expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("scheduler", ["simple", "normal", "karras", "beta", "sgm_uniform", "ddim_uniform"])
@pytest.mark.parametrize("denoise", [1.0, 0.5])
@pytest.mark.parametrize("tail", cutoff.TAILS)
def test_guided_counts_the_runs_own_steps(
    model: Any, encode: Any, latent: Any, scheduler: str, denoise: float, tail: str
) -> None:
    """A share of 0.5 is half of the steps that run, whatever their sigmas are."""
    latent["samples"] = torch.ones_like(latent["samples"])
    _, report = ours(model, encode, latent, "euler", scheduler, denoise=denoise, guided=0.5, tail=tail)
    # ddim_uniform runs 7 steps when asked for 6.
    steps = 7 if scheduler == "ddim_uniform" and denoise == 1.0 else STEPS
    kept = (steps + 1) // 2
    assert report.startswith(f"{steps + kept} forwards for {steps} steps, {kept} of them")


@pytest.mark.parametrize("sampler", ["euler_cfg_pp", "dpmpp_2m_cfg_pp", "res_multistep_cfg_pp"])
def test_one_forward_after_the_cut_where_the_shortcut_at_cfg_1_is_off(
    model: Any, encode: Any, latent: Any, sampler: str
) -> None:
    _, report = ours(model, encode, latent, sampler, "simple", guided=0.5)
    assert report.startswith(f"{STEPS + STEPS // 2} forwards")


def test_nothing_stays_on_the_model(model: Any, encode: Any, latent: Any) -> None:
    before = repr(model.model_options), dict(model.wrappers)
    ours(model, encode, latent, "euler", "simple", guided=0.5)
    assert (repr(model.model_options), dict(model.wrappers)) == before

"""Guidance cutoff against stock ComfyUI, bit for bit and forward by forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import torch
from cutoff_runs import NEGATIVE, PROMPT, STEPS, cutoff, ours, stock
from winning_tickets.guidance.cutoff import (
    CONDITIONAL,
    LOWER,
    TAILS,
    UNCONDITIONAL,
    Cutoff,
    CutoffError,
    Final,
    Share,
    Sigma,
    Similar,
)
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.ksampler import Settings, make_guider, report_of

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULERS = comfy.samplers.KSampler.SCHEDULERS
# Their evaluations are not those of the schedule's steps.
OWN_GRID = ("dpm_fast", "dpm_adaptive")


class TestSwitchedOff:
    """Guidance in every step is stock ComfyUI, bit for bit."""

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_fully_guided_is_the_stock_sampler(
        self, model: Any, encode: Any, latent: Any, sampler: str
    ) -> None:
        expected = stock(model, encode, latent, sampler, "karras")
        tail = TAILS[SAMPLERS.index(sampler) % len(TAILS)]
        found, _ = ours(model, encode, latent, sampler, "karras", cutoff(1.0, tail, encode("")))
        assert torch.equal(found["samples"], expected)

    @pytest.mark.parametrize("trigger", [Share(1.0), Final(0), Sigma(0.0), Similar(1.0)], ids=repr)
    def test_so_is_every_trigger_that_never_fires(
        self, model: Any, encode: Any, latent: Any, trigger: Any
    ) -> None:
        expected = stock(model, encode, latent, "euler", "simple")
        found, report = ours(model, encode, latent, "euler", "simple", Cutoff(trigger))
        assert torch.equal(found["samples"], expected)
        assert report.startswith(f"{2 * STEPS} NFE for {STEPS} steps, {STEPS} of them guided")

    @pytest.mark.parametrize("scheduler", ["simple", "normal", "ddim_uniform"])
    def test_image_to_image_with_a_mask_and_batch_indices(
        self, model: Any, encode: Any, scheduler: str
    ) -> None:
        torch.manual_seed(0)
        latent = {
            "samples": torch.randn(2, 4, 19, 13),
            "batch_index": [4, 1],
            "noise_mask": (torch.rand(1, 1, 152, 104) > 0.5).float(),
        }
        expected = stock(model, encode, latent, "euler", scheduler, denoise=0.6)
        found, _ = ours(model, encode, latent, "euler", scheduler, cutoff(1.0), denoise=0.6)
        assert torch.equal(found["samples"], expected)
        assert found["batch_index"] == [4, 1] and "noise_mask" in found

    @pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "dpmpp_2m_sde"])
    def test_never_guided_is_stock_at_cfg_1(self, model: Any, encode: Any, latent: Any, sampler: str) -> None:
        expected = stock(model, encode, latent, sampler, "simple", cfg=1.0)
        found, report = ours(model, encode, latent, sampler, "simple", cutoff(0.0))
        assert torch.equal(found["samples"], expected)
        assert report.startswith(f"{STEPS} NFE for {STEPS} steps, 0 of them guided; a stock run takes 12")

    def test_at_cfg_1_nothing_is_lost(self, model: Any, encode: Any, latent: Any) -> None:
        expected = stock(model, encode, latent, "euler", "simple", cfg=1.0)
        found, report = ours(model, encode, latent, "euler", "simple", cutoff(0.5), cfg=1.0)
        assert torch.equal(found["samples"], expected)
        assert report.startswith(f"{STEPS} NFE") and "nothing to save" in report

    def test_no_step_at_all(self, model: Any, encode: Any, latent: Any) -> None:
        latent["samples"] = torch.ones_like(latent["samples"])
        expected = stock(model, encode, latent, "euler", "simple", denoise=0.0)
        found, report = ours(model, encode, latent, "euler", "simple", cutoff(0.5), denoise=0.0)
        assert torch.equal(found["samples"], expected) and report.startswith("0 NFE")


class TestOneForward:
    @pytest.mark.parametrize("tail", [CONDITIONAL, UNCONDITIONAL])
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_after_the_cut_with_every_sampler(
        self, spied: Any, encode: Any, latent: Any, sampler: str, tail: str
    ) -> None:
        model, seen = spied
        sigmas = comfy.samplers.KSampler(model, STEPS, "cpu", sampler, "karras").sigmas.clone()
        _, report = ours(model, encode, latent, sampler, "karras", cutoff(0.5, tail, encode("")))
        cut = float(sigmas[STEPS // 2]) * 1.0001
        assert {rows for sigma, rows in seen if sigma <= cut} == {2}
        assert {rows for sigma, rows in seen if sigma > cut} == {4}
        assert report.startswith(f"{seen.total / 2:g} NFE for ")
        if sampler not in OWN_GRID:
            assert f" for {STEPS} steps, {STEPS // 2} of them guided" in report

    @pytest.mark.parametrize("scheduler", SCHEDULERS)
    @pytest.mark.parametrize("denoise", [1.0, 0.5])
    def test_counted_in_the_runs_own_steps(
        self, model: Any, encode: Any, latent: Any, scheduler: str, denoise: float
    ) -> None:
        """A share of 0.5 is half of the steps that run, whatever their sigmas are."""
        latent["samples"] = torch.ones_like(latent["samples"])
        _, report = ours(model, encode, latent, "euler", scheduler, cutoff(0.5), denoise=denoise)
        run = comfy.samplers.KSampler(model, STEPS, "cpu", "euler", scheduler, denoise)
        steps = len(run.sigmas) - 1
        kept = (steps + 1) // 2
        assert report.startswith(f"{steps + kept} NFE for {steps} steps, {kept} of them guided")

    def test_counted_in_the_steps_of_a_part_of_a_run(self, model: Any, encode: Any, latent: Any) -> None:
        """KSampler (Advanced), steps 2 to 6 of 8: two of the four are guided."""
        patch = CutoffPatch(cutoff(0.5))
        options = {"steps": 8, "start_step": 2, "last_step": 6, "force_full_denoise": False}
        stock(patch.attach(model), encode, latent, "euler", "karras", **options)
        assert str(patch.run).startswith("6 NFE for 4 steps, 2 of them guided; a stock run takes 8")

    def test_the_last_steps(self, model: Any, encode: Any, latent: Any) -> None:
        _, report = ours(model, encode, latent, "euler", "beta", Cutoff(Final(4)))
        assert report.startswith("8 NFE for 6 steps, 2 of them guided; a stock run takes 12: 33% saved")

    def test_below_a_noise_level(self, spied: Any, encode: Any, latent: Any) -> None:
        model, seen = spied
        ours(model, encode, latent, "euler", "karras", Cutoff(Sigma(2.0)))
        assert (
            all(rows == (4 if sigma > 2.0 else 2) for sigma, rows in seen) and len({r for _, r in seen}) == 2
        )


class TestForms:
    def test_sampler_guider_and_patch_give_the_same(self, model: Any, encode: Any, latent: Any) -> None:
        for asked in (cutoff(0.5), cutoff(0.5, UNCONDITIONAL, encode("")), cutoff(0.3, LOWER, cfg=2.0)):
            expected, report = ours(model, encode, latent, "dpmpp_2m", "karras", asked)
            patched = CutoffPatch(asked).attach(model)
            assert torch.equal(stock(patched, encode, latent, "dpmpp_2m", "karras"), expected["samples"])
            guider = make_guider(model, encode(PROMPT), encode(NEGATIVE), 5.0, asked)
            sigmas = comfy.samplers.calculate_sigmas(
                model.get_model_object("model_sampling"), "karras", STEPS
            )
            noise = comfy.sample.prepare_noise(latent["samples"], 3)
            found = guider.sample(
                noise,
                latent["samples"],
                comfy.samplers.sampler_object("dpmpp_2m"),
                sigmas,
                disable_pbar=True,
                seed=3,
            )
            assert torch.equal(found, expected["samples"])
            first = report.split(" saved")[0]
            assert report_of(expected, model=patched).startswith(first)
            assert report_of(expected, guider=guider).startswith(first)

    def test_the_last_cutoff_counts(self, model: Any, encode: Any, latent: Any) -> None:
        patched = CutoffPatch(cutoff(0.0)).attach(model)
        expected, _ = ours(model, encode, latent, "euler", "simple", cutoff(0.5))
        found, report = ours(patched, encode, latent, "euler", "simple", cutoff(0.5))
        assert torch.equal(found["samples"], expected["samples"]) and "3 of them guided" in report

    def test_every_sampler_after_the_patch_counts_its_own_steps(
        self, model: Any, encode: Any, latent: Any
    ) -> None:
        patch = CutoffPatch(cutoff(0.5))
        patched = patch.attach(model)
        for steps in (4, 8):
            stock(patched, encode, latent, "euler", "simple", steps=steps)
            assert str(patch.run).startswith(f"{steps * 3 // 2} NFE for {steps} steps")

    @pytest.mark.parametrize("end", ["done", "error", "interrupt"])
    def test_nothing_stays(self, model: Any, encode: Any, latent: Any, end: str) -> None:
        patched = CutoffPatch(cutoff(0.5, UNCONDITIONAL, encode(""))).attach(model)

        def state() -> Any:
            return [(repr(m.model_options), repr(m.wrappers)) for m in (model, patched)]

        before = state()
        errors: dict[str, type[BaseException]] = {
            "error": RuntimeError,
            "interrupt": comfy.model_management.InterruptProcessingException,
        }

        def callback(step: int, *about: Any) -> None:
            if step == 4 and end in errors:
                raise errors[end]

        def run() -> None:
            stock(patched, encode, latent, "euler", "simple", callback=callback)

        if end in errors:
            with pytest.raises(errors[end]):
                run()
        else:
            run()
        assert state() == before
        assert torch.equal(
            stock(patched, encode, latent, "euler", "simple"),
            ours(model, encode, latent, "euler", "simple", cutoff(0.5, UNCONDITIONAL, encode("")))[0][
                "samples"
            ],
        )


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: Share(1.5), "guided is 1.5; it must be between 0 and 1"),
            (lambda: Share(float("nan")), "guided is nan"),
            (lambda: Final(-1), "unguided_steps is -1"),
            (lambda: Sigma(float("nan")), "sigma is nan"),
            (lambda: Similar(1.2), "similarity is 1.2; it must be between -1 and 1"),
            (lambda: Similar(0.9, -1), "latest is -1"),
            (lambda: Cutoff(Share(), "sometimes"), "after_cutoff is 'sometimes'; choose one of"),
            (lambda: Cutoff(Share(), cfg=float("inf")), "cfg after the cut is inf"),
            (lambda: Settings(0, 0, 7.0, "euler", "simple"), "steps is 0; at least 1"),
            (lambda: Settings(0, 9, float("nan"), "euler", "simple"), "cfg is nan"),
            (
                lambda: Settings(0, 9, 7.0, "euler", "simple", 1.1),
                "denoise is 1.1; it must be between 0 and 1",
            ),
        ],
    )
    def test_values_out_of_range(self, make: Callable[[], Any], says: str) -> None:
        with pytest.raises(CutoffError, match=says):
            make()

    def test_more_unguided_steps_than_there_are(self, model: Any, encode: Any, latent: Any) -> None:
        with pytest.raises(CutoffError, match="unguided_steps is 7, but this run has 6 steps: set it to 6"):
            ours(model, encode, latent, "euler", "simple", Cutoff(Final(7)))

    def test_no_unconditional(self, model: Any, encode: Any, latent: Any) -> None:
        guider = comfy.samplers.CFGGuider(CutoffPatch(cutoff(0.5, UNCONDITIONAL)).attach(model))
        guider.inner_set_conds({"positive": encode("a cat")})
        euler, noise = comfy.samplers.sampler_object("euler"), torch.ones(1, 4, 8, 8)
        with pytest.raises(CutoffError, match="this guider has no negative: connect"):
            guider.sample(noise, 0 * noise, euler, torch.tensor([9.0, 4.0, 0.0]), disable_pbar=True, seed=1)

    def test_a_latent_of_no_numbers(self, model: Any, encode: Any, latent: Any) -> None:
        latent["samples"][0, 0, 0, 0] = float("nan")
        with pytest.raises(CutoffError, match="latent_image contains NaN or Inf"):
            ours(model, encode, latent, "euler", "simple", cutoff(0.5))

    def test_reports_of_what_has_none(self, model: Any) -> None:
        latent = {"samples": torch.ones(1, 4, 19, 13)}
        with pytest.raises(CutoffError, match="needs the model or the guider that sampled"):
            report_of(latent)
        with pytest.raises(CutoffError, match="this model has no cutoff"):
            report_of(latent, model)
        # The same before and after a run of it: a report does not depend on what was queued before.
        told = report_of(latent, CutoffPatch(cutoff(0.5)).attach(model))
        assert told.startswith("No run with this cutoff made this latent as it is")

"""What a run did: its own steps, counted for any noise levels; found by the latent that it returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from cutoff_runs import NEGATIVE, PROMPT, STEPS, cutoff, ours, stock
from winning_tickets.guidance.cutoff import Cutoff, CutoffError, Final, Share, Sigma, Similar
from winning_tickets.guidance.trace import StepsError, agreement
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.ksampler import report_of
from winning_tickets.probe.sampling.watch import last_trace, trace_of, watched

OWN_WAY = ("dpm_fast", "dpm_adaptive")
SIGMAS = {
    "rising": [0.1, 0.4, 1.0, 2.5, 6.0, 10.0, 14.0],
    "repeated": [14.0, 14.0, 6.0, 6.0, 1.0, 1.0, 0.4],
    "restarted": [14.0, 6.0, 1.0, 14.0, 6.0, 1.0, 0.1],
}


def custom(
    model: Any, conds: tuple[Any, Any], sigmas: list[float], sampler: str = "euler", latent: Any = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """SamplerCustomAdvanced itself: its two outputs."""
    from comfy_extras import nodes_custom_sampler as core

    guider = core.CFGGuider.execute(model, *conds, 5.0).result[0]
    noise = core.RandomNoise.execute(3).result[0]
    chosen = comfy.samplers.sampler_object(sampler)
    latent = latent or {"samples": torch.zeros(2, 4, 19, 13)}
    return core.SamplerCustomAdvanced.execute(noise, guider, chosen, torch.tensor(sigmas), latent).result


def ksampler(model: Any, conds: tuple[Any, Any], latent: Any, steps: int = STEPS) -> dict[str, Any]:
    """The core KSampler node itself."""
    import nodes

    return nodes.KSampler().sample(model, 3, steps, 5.0, "euler", "normal", *conds, latent)[0]


@pytest.fixture
def conds(encode: Any) -> tuple[Any, Any]:
    return encode(PROMPT), encode(NEGATIVE)


class TestSteps:
    """Rule: a share of the run's own steps, from the first on, whatever their noise levels are."""

    @pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
    def test_of_every_sampler_at_any_noise_levels(self, spied: Any, conds: Any, sampler: str) -> None:
        model, seen = spied
        patch = CutoffPatch(cutoff(0.5), tell=False)
        # Some solve equations that these levels make singular.
        few = sampler.startswith(("uni_pc", "sa_solver"))
        name = "rising" if few else list(SIGMAS)[comfy.samplers.KSampler.SAMPLERS.index(sampler) % 3]
        custom(patch.attach(model), conds, SIGMAS[name], sampler)
        assert patch.run.nfe * 2 == seen.total and seen.rows[0] == 4
        if sampler not in OWN_WAY:
            assert patch.run.steps.total == STEPS and patch.run.steps_of(True) == {0, 1, 2}
            assert {3, 4, 5} <= patch.run.steps_of(False)

    @pytest.mark.parametrize("trigger", [Final(4), Similar(1.0, 1 / 3), Share(1 / 3)], ids=repr)
    def test_of_every_trigger_that_counts(self, spied: Any, conds: Any, trigger: Any) -> None:
        model, seen = spied
        patch = CutoffPatch(Cutoff(trigger))
        custom(patch.attach(model), conds, SIGMAS["rising"])
        assert seen.rows == [4] * 2 + [2] * 4
        assert str(patch.run).startswith("8 NFE for 6 steps, 2 of them guided; a stock run takes 12: 33%")

    def test_a_noise_level_ends_nothing_where_the_noise_rises(self, spied: Any, conds: Any) -> None:
        model, seen = spied
        patch = CutoffPatch(Cutoff(Sigma(2.0)))
        custom(patch.attach(model), conds, SIGMAS["rising"])
        assert seen.rows == [4] * 6 and "The noise level rises in this run" in str(patch.run)

    def test_a_sampler_of_its_own_way_reports_its_own_steps(self, spied: Any, conds: Any) -> None:
        """Rule: the true number of guided steps; dpm_fast with 6 set makes 3 steps."""
        model, _ = spied
        patch = CutoffPatch(cutoff(0.5))
        custom(patch.attach(model), conds, [14.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.1], "dpm_fast")
        assert "for 3 steps of the sampler's own (set: 6), " in str(patch.run)
        guided = {
            n for n, e in zip(patch.run.steps.numbers(), patch.run.evaluations, strict=True) if e.guided
        }
        assert f", {len(guided)} of them guided" in str(patch.run)

    @pytest.mark.parametrize("name", SIGMAS)
    def test_a_watched_run_has_them_in_their_order(
        self, model: Any, clip: Any, conds: Any, name: str
    ) -> None:
        watching = watched(model, clip, PROMPT, "cat")[0]
        seen: list[float] = []

        def predict(executor: Any, x: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(float(timestep.max()))
            return executor(x, timestep, *args, **kwargs)

        watching.add_wrapper_with_key("predict_noise", "spy", predict)
        custom(watching, conds, SIGMAS[name])
        trace = last_trace(watching)
        assert trace.sigmas[:-1].tolist() == pytest.approx(seen) and trace.maps().isfinite().all()
        assert (trace.remaining() is None) == (name != "repeated")


def one_by_one(model: Any, x: Any, sigmas: Any, extra_args: Any, callback: Any, **_: Any) -> Any:
    """A sampler that evaluates the images of a batch one after the other."""
    for i, sigma in enumerate(sigmas[:-1]):
        parts = [model(part, sigma * part.new_ones(1), **extra_args) for part in x.split(1)]
        denoised = torch.cat(parts)
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        x = denoised + (x - denoised) * sigmas[i + 1] / sigma
    return x


def halves(model: Any, x: Any, sigmas: Any, extra_args: Any, callback: Any, **_: Any) -> Any:
    """A sampler that evaluates the latent in two parts."""
    for i, sigma in enumerate(sigmas[:-1]):
        parts = [model(part, sigma * x.new_ones(len(x)), **extra_args) for part in x.split(10, -2)]
        denoised = torch.cat(parts, -2)
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        x = denoised + (x - denoised) * sigmas[i + 1] / sigma
    return x


def doubled(model: Any, x: Any, sigmas: Any, extra_args: Any, callback: Any, **_: Any) -> Any:
    """A sampler that evaluates each image with a variation of it."""
    for i, sigma in enumerate(sigmas[:-1]):
        both = torch.cat([x, x * 0.99])
        denoised = model(both, sigma * x.new_ones(len(both)), **extra_args)[: len(x)]
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        x = denoised + (x - denoised) * sigmas[i + 1] / sigma
    return x


@pytest.mark.parametrize(("sampler", "each"), [(one_by_one, 1), (halves, 2), (doubled, 2)])
class TestSamplersOfOtherBatches:
    """Rule: whatever a sampler hands to the model at once, its steps are counted and no run ends."""

    def run(self, model: Any, conds: Any, sampler: Any) -> Any:
        from comfy_extras import nodes_custom_sampler as core

        guider = core.CFGGuider.execute(model, *conds, 5.0).result[0]
        noise, latent = core.RandomNoise.execute(3).result[0], {"samples": torch.zeros(2, 4, 19, 13)}
        sigmas = torch.tensor([14.0, 6.0, 1.0, 0.2, 0.1])
        chosen = comfy.samplers.KSAMPLER(sampler)
        return core.SamplerCustomAdvanced.execute(noise, guider, chosen, sigmas, latent).result[0]

    def test_are_watched_without_a_change(
        self, model: Any, clip: Any, conds: Any, sampler: Any, each: int
    ) -> None:
        watching = watched(model, clip, PROMPT, "cat")[0]
        made = self.run(watching, conds, sampler)
        assert torch.equal(made["samples"], self.run(model, conds, sampler)["samples"])
        trace, _ = trace_of(watching, made, 2)
        assert not trace.is_read and trace.low().shape == (4, 2)
        assert "No step has maps: the sampler evaluates " in trace.notes[0]

    @pytest.mark.parametrize("trigger", [Share(0.5), Similar(-1.0), Similar(1.0, 0.5)], ids=repr)
    def test_are_cut_by_their_steps(
        self, model: Any, conds: Any, sampler: Any, each: int, trigger: Any
    ) -> None:
        patch = CutoffPatch(Cutoff(trigger), tell=False)
        report = report_of(self.run(patch.attach(model), conds, sampler), patch.attach(model))
        adaptive_is_blind = trigger == Similar(-1.0) and sampler is not halves
        assert (
            f" for 4 steps, {4 if adaptive_is_blind else 1 if trigger == Similar(-1.0) else 2} of" in report
        )
        assert ("adaptive saw no agreement" in report) == (
            isinstance(trigger, Similar) and sampler is not halves
        )


class TestForwards:
    def replaced(self, model: Any, seen: list[int]) -> Any:
        """An object patch in place of the forward, which calls no wrappers; as of models without them."""
        unet = model.get_model_object("diffusion_model")

        def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(len(x))
            return unet._forward(x, *args, **kwargs)

        clone = model.clone()
        clone.add_object_patch("diffusion_model.forward", forward)
        return clone

    def test_of_a_model_whose_forward_calls_no_wrappers(self, model: Any, conds: Any, latent: Any) -> None:
        """Rule: counted where the model is applied; the report said that 0 forwards were run."""
        seen: list[int] = []
        patch = CutoffPatch(cutoff(0.5))
        ksampler(patch.attach(self.replaced(model, seen)), conds, latent)
        assert sum(seen) == 2 * 9
        assert str(patch.run).startswith(
            "9 NFE for 6 steps, 3 of them guided; a stock run takes 12: 25% saved"
        )

    def test_what_attention_it_has_is_watched(self, model: Any, clip: Any, conds: Any, latent: Any) -> None:
        watching = watched(self.replaced(model, []), clip, PROMPT, "cat")[0]
        ksampler(watching, conds, latent)
        assert last_trace(watching).maps().isfinite().all()

    def test_steps_that_a_cache_answered_have_no_map_and_say_so(
        self, model: Any, clip: Any, conds: Any, latent: Any
    ) -> None:
        """Rule: the true reason, not "no phrase was watched"."""
        from comfy_extras.nodes_easycache import EasyCacheNode

        watching = watched(model, clip, PROMPT, "cat")[0]
        cached = EasyCacheNode.execute(watching, 1e6, 0.0, 1.0, False).result[0]
        assert torch.equal(
            ksampler(cached, conds, latent)["samples"],
            ksampler(EasyCacheNode.execute(model, 1e6, 0.0, 1.0, False).result[0], conds, latent)["samples"],
        )
        trace = last_trace(watching)
        read = [step is not None and step.maps is not None for step in trace.steps]
        assert any(read) and not all(read)
        assert any("a cache, replaces the model's forward and answered without it" in n for n in trace.notes)
        assert agreement(trace.maps()).isnan().any()

    def test_calls_inside_of_calls_and_on_several_threads(self, model: Any) -> None:
        """Several GPUs call the model at once; a patch may call it inside of a call."""
        import threading

        from winning_tickets.probe.sampling.forwards import Call
        from winning_tickets.probe.sampling.forwards import Forwards as Counter

        rows: list[int] = []
        calls: list[Call] = []
        counter = Counter(rows.append, calls.append)

        def plain(x: Any, *args: Any) -> Any:
            return x

        def nested(x: Any, *args: Any) -> Any:
            counter._apply(plain, x[:1])
            counter._enter(lambda x: counter._forward(plain, x), x)
            return x

        threads = [
            threading.Thread(target=counter._apply, args=(nested, torch.ones(n + 2, 1))) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(rows) == [1] * 8 + list(range(2, 10))
        assert sum(call.ran for call in calls) == 8 and len(calls) == 16

    def test_a_run_that_another_patch_answers_saves_nothing(
        self, model: Any, conds: Any, latent: Any
    ) -> None:
        """Rule: what a cache saves is not the cutoff's; the report said 100% saved."""
        from other_patches import no_forward

        patch = CutoffPatch(cutoff(0.5))
        ksampler(patch.attach(no_forward(model)), conds, latent)
        assert "a stock run takes 0: 0% saved." in str(patch.run)
        assert "The model was not run" in str(patch.run) and "at cfg 1" not in str(patch.run)


class TestStock:
    def test_prompts_in_time_ranges_are_counted_one_by_one(
        self, spied: Any, encode: Any, latent: Any
    ) -> None:
        """Rule: what a stock run takes is what it takes."""
        model, seen = spied
        first, last = encode(PROMPT), encode("a tree")
        positive = [
            [first[0][0], {**first[0][1], "start_percent": 0.0, "end_percent": 0.5}],
            [last[0][0], {**last[0][1], "start_percent": 0.3, "end_percent": 1.0}],
        ]
        conds = positive, encode(NEGATIVE)
        ksampler(model, conds, latent)
        takes = seen.total / 2
        patch = CutoffPatch(cutoff(0.5))
        ksampler(patch.attach(model), conds, latent)
        assert f"a stock run takes {takes:g}:" in str(patch.run)

    def test_a_pack_that_leaves_out_the_negative_saves_it_itself(
        self, spied: Any, conds: Any, latent: Any
    ) -> None:
        model, seen = spied
        calls = [0]

        def batch(args: dict[str, Any]) -> Any:
            calls[0] += 1
            positive, negative = args["conds"]
            rest = args["model"], [positive, negative if calls[0] < 3 else None]
            return comfy.samplers.calc_cond_batch(*rest, args["input"], args["sigma"], args["model_options"])

        model.set_model_sampler_calc_cond_batch_function(batch)
        ksampler(model, conds, latent)
        takes, calls[0] = seen.total / 2, 0
        patch = CutoffPatch(cutoff(0.5))
        ksampler(patch.attach(model), conds, latent)
        assert f"a stock run takes about {takes:g} at most: 0% saved" in str(patch.run)


class TestEntries:
    """Rule: every entry that carries the prompt is read; what follows another has no map, and a note."""

    def test_a_prompt_of_several_entries(self, model: Any, clip: Any, encode: Any, latent: Any) -> None:
        watching, positive = watched(model, clip, PROMPT, "cat")
        other = encode("a tree")[0]
        ranges = [(positive[0], 0.0, 0.3), (positive[0], 0.31, 0.6), (other, 0.61, 1.0)]
        entries = [[c, {**more, "start_percent": a, "end_percent": b}] for (c, more), a, b in ranges]
        ksampler(watching, (entries, encode(NEGATIVE)), latent)
        trace = last_trace(watching)
        read = [step is not None and step.maps is not None for step in trace.steps]
        assert read[0] and read[2] and not read[-1]
        assert any("followed another entry" in note for note in trace.notes)
        last = agreement(trace.maps())
        assert last[-1].isnan().all() and not last[0].isnan().any()

    def test_a_prompt_whose_form_hooks_change_over_time(
        self, model: Any, clip: Any, encode: Any, latent: Any
    ) -> None:
        """With Create Hook Keyframes on CLIP the prompt is encoded once for each range."""
        import comfy.hooks
        from comfy_extras.nodes_hooks import SetClipHooks

        key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1"
        weight = dict(clip.cond_stage_model.named_parameters())[f"{key}.weight"]
        torch.manual_seed(0)
        lora = {
            f"text_encoders.{key}.lora_up.weight": torch.randn(weight.shape[0], 2),
            f"text_encoders.{key}.lora_down.weight": torch.randn(2, weight.shape[1]),
        }
        hooks = comfy.hooks.create_hook_lora(lora, 0.0, 1.0)
        frames = comfy.hooks.HookKeyframeGroup()
        frames.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.0))
        frames.add(comfy.hooks.HookKeyframe(strength=0.2, start_percent=0.5))
        hooks.set_keyframes_on_hooks(frames)
        hooked = SetClipHooks().apply_hooks(clip, True, True, hooks)[0]
        watching, positive = watched(model, hooked, PROMPT, "cat")
        assert len(positive) == 2 and not torch.equal(positive[0][0], positive[1][0])
        ksampler(watching, (positive, encode(NEGATIVE)), latent)
        trace = last_trace(watching)
        assert trace.maps().isfinite().all() and not trace.notes
        assert float(agreement(trace.maps())[0].max()) < 1

    def test_a_prompt_in_another_precision_and_for_each_image(
        self, model: Any, clip: Any, encode: Any, latent: Any
    ) -> None:
        """Rule: a prompt is known by its values; other packs store it in half precision, or repeat it."""
        watching, positive = watched(model, clip, PROMPT, "cat")
        context, more = positive[0]
        for theirs in (context.half(), context.repeat(2, 1, 1)):
            ksampler(watching, ([[theirs, more]], encode(NEGATIVE)), latent, 2)
            assert last_trace(watching).maps().isfinite().all() and not last_trace(watching).notes

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ({"start_percent": 0.9, "end_percent": 1.0}, "no entry of the prompt holds in them"),
            (
                {"mask": (torch.ones(1, 4, 13).cumsum(1) > 2).float(), "set_area_to_bounds": True},
                "areas of its own",
            ),
        ],
    )
    def test_the_reason_is_the_conditioning_where_it_is(
        self, model: Any, clip: Any, encode: Any, latent: Any, more: Any, why: str
    ) -> None:
        """Rule: the true reason; another patch was blamed for it."""
        watching, positive = watched(model, clip, PROMPT, "cat")
        entry = [positive[0][0], {**positive[0][1], **more}]
        ksampler(watching, ([entry], encode(NEGATIVE)), latent, 2)
        (note,) = last_trace(watching).notes
        assert why in note and "patch" not in note


class TestReports:
    """Rule: the report shows the run that made the latent it is given."""

    def two(self, model: Any, conds: Any, latent: Any) -> tuple[Any, Any]:
        return ksampler(model, conds, latent, 6), ksampler(model, conds, latent, 3)

    def test_of_two_samplers_on_one_model(self, model: Any, clip: Any, conds: Any, latent: Any) -> None:
        patch = CutoffPatch(cutoff(0.5), tell=False)
        both = patch.attach(watched(model, clip, PROMPT, "cat")[0])
        six, three = self.two(both, conds, latent)
        for steps, made in ((6, six), (3, three), (6, dict(six))):
            assert f" for {steps} steps," in report_of(made, both)
            assert len(trace_of(both, made, 2)[0].steps) == steps

    def test_of_either_output_and_of_single_images(
        self, model: Any, clip: Any, conds: Any, latent: Any
    ) -> None:
        import nodes

        watching = watched(model, clip, PROMPT, "cat")[0]
        output, denoised = custom(watching, conds, [14.0, 6.0, 1.0])
        assert not torch.equal(output["samples"], denoised["samples"])
        whole = trace_of(watching, output, 2)
        assert whole[1] == 2 and trace_of(watching, denoised, 2)[0].images == 2
        # Rule: number 0, which a link can bring, is no image; the last one's map was shown.
        with pytest.raises(StepsError, match="number is 0, but the latent has images 1 to 2"):
            trace_of(watching, output, 0)
        second = nodes.LatentFromBatch().frombatch(output, 1, 1)[0]
        trace, number = trace_of(watching, second, 1)
        assert number == 1 and torch.equal(trace.maps()[:, 0], whole[0].maps()[:, 1])

    def test_of_images_of_two_runs_in_one_latent(self, model: Any, conds: Any, latent: Any) -> None:
        patched = CutoffPatch(cutoff(0.5), tell=False).attach(model)
        made = [m["samples"] for m in self.two(patched, conds, latent)]
        report = report_of({"samples": torch.cat(made)}, patched)
        assert report.startswith("Images 1 to 2: 9 NFE for 6 steps") and "Images 3 to 4: " in report

    def test_of_a_latent_that_was_changed_or_made_elsewhere(
        self, model: Any, clip: Any, conds: Any, latent: Any
    ) -> None:
        patched = CutoffPatch(cutoff(0.5), tell=False).attach(watched(model, clip, PROMPT, "cat")[0])
        made = ksampler(patched, conds, latent)
        for other in ({"samples": made["samples"] * 1.01}, ksampler(model, conds, latent)):
            assert report_of(other, patched).startswith("No run with this cutoff made this latent as it is")
        with pytest.raises(StepsError, match="no run of this watched model made this latent as it is"):
            trace_of(patched, {"samples": made["samples"].flip(-1)}, 1)

    @pytest.mark.parametrize("error", [RuntimeError, comfy.model_management.InterruptProcessingException])
    def test_a_cancelled_run_replaces_none(
        self, model: Any, clip: Any, encode: Any, conds: Any, latent: Any, error: type[BaseException]
    ) -> None:
        patch = CutoffPatch(cutoff(0.5), tell=False)
        both = patch.attach(watched(model, clip, PROMPT, "cat")[0])
        made = ksampler(both, conds, latent)

        def callback(step: int, *about: Any) -> None:
            if step == 1:
                raise error

        with pytest.raises(error):
            stock(both, encode, latent, "euler", "normal", steps=4, callback=callback)
        assert len(last_trace(both).steps) == STEPS and patch.run.steps.total == STEPS
        assert " for 6 steps," in report_of(made, both)

    def test_records_go_with_the_model(self, model: Any, clip: Any, conds: Any, latent: Any) -> None:
        import gc
        import weakref

        watching = watched(model, clip, PROMPT, "cat")[0]
        ksampler(watching, conds, latent)
        gone = weakref.ref(last_trace(watching))
        del watching
        gc.collect()
        assert gone() is None


class TestOtherPatches:
    def test_a_guider_that_tells_less_ends_no_run(
        self, model: Any, clip: Any, conds: Any, latent: Any
    ) -> None:
        """Rule: what is not reported is not needed: hooks called without cond_scale and more."""

        def sampling(executor: Any, x: Any, timestep: Any, options: Any, seed: Any) -> Any:
            guider = executor.class_obj
            both = [guider.conds["positive"], guider.conds["negative"]]
            out = comfy.samplers.calc_cond_batch(guider.inner_model, both, x, timestep, options)
            for hook in options.get("sampler_pre_cfg_function", []):
                out = hook({"conds_out": out})
            denoised = out[1] + 5 * (out[0] - out[1])
            for hook in options.get("sampler_post_cfg_function", []):
                denoised = hook({"denoised": denoised, "cond_denoised": out[0]})
            return denoised

        import comfy.patcher_extension

        odd = model.clone()
        kind = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
        plain = odd.clone()
        plain.add_wrapper_with_key(kind, "odd", sampling)
        watching = watched(model, clip, PROMPT, "cat")[0]
        both = CutoffPatch(Cutoff(Similar(-1.0)), tell=False).attach(watching)
        for patched in (watching, both):
            patched.add_wrapper_with_key(kind, "odd", sampling)
        assert torch.equal(
            ksampler(watching, conds, latent)["samples"], ksampler(plain, conds, latent)["samples"]
        )
        assert last_trace(watching).guidance().isnan().all()
        assert ksampler(both, conds, latent)["samples"].isfinite().all()

    def test_ours_are_never_named(self, model: Any, clip: Any, conds: Any, latent: Any) -> None:
        """Rule: the report said that "_Running" was off in unguided steps."""
        patch = CutoffPatch(cutoff(0.5), tell=False)
        for both in (
            patch.attach(watched(model, clip, PROMPT, "cat")[0]),
            watched(patch.attach(model), clip, PROMPT, "cat")[0],
        ):
            ksampler(both, conds, latent)
            assert len(str(patch.run).splitlines()) == 2 and "about" not in str(patch.run)

    def test_maps_of_several_sizes(self, model: Any, clip: Any, conds: Any) -> None:
        """PatchModelAddDownscale until 0.35 of sampling: a grid of its own, then the model's."""
        from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

        watching = watched(model, clip, PROMPT, "cat")[0]
        down = PatchModelAddDownscale.execute(watching, 1, 2.0, 0.0, 0.35, True, "bicubic", "bicubic").result[
            0
        ]
        sized = {"samples": torch.zeros(2, 4, 19, 13)}
        ksampler(down, conds, sized)
        trace = last_trace(watching)
        assert trace.maps()[-1].isfinite().all() and agreement(trace.maps())[-1].min() == 1

    def test_a_second_pass_of_a_noise_latent_may_have_a_noise(self, model: Any, conds: Any) -> None:
        """Rule: what is sampled is not noise any more, whatever its dict still holds."""
        from winning_tickets.probe.noise.forms import noise_latent
        from winning_tickets.probe.sampling.ksampler import initial_noise

        start = noise_latent(torch.randn(2, 4, 19, 13), model, "the node")[0]
        sampled = ksampler(model, conds, start, 2)

        class Noise:
            seed = 0

            def generate_noise(self, latent: Any) -> torch.Tensor:
                return torch.ones_like(latent["samples"])

        assert initial_noise(sampled, sampled["samples"], 0, Noise()).min() == 1
        with pytest.raises(CutoffError, match="noise already"):
            initial_noise(start, start["samples"], 0, Noise())


def test_a_step_with_an_unguided_look_ahead_is_guided_in_part(model: Any, encode: Any, latent: Any) -> None:
    """Rule: a step counts as guided if any of its evaluations was; both are told."""
    _, report = ours(model, encode, latent, "heun", "normal", cutoff(0.5))
    assert ", 3 of them guided (1 in part); a stock run takes " in report


def test_adaptive_compares_where_there_is_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: MPS has no float64; predictions are compared on the CPU."""
    seen: list[torch.Tensor] = []
    plain: Callable[..., torch.Tensor] = torch.nn.functional.cosine_similarity

    def compared(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen.append(one)
        return plain(one, other)

    monkeypatch.setattr(torch.nn.functional, "cosine_similarity", compared)
    meta = torch.ones(2, 4, 3, 3)
    assert Similar(0.9).agree(meta, meta).tolist() == [True, True]
    assert seen[0].device.type == "cpu" and seen[0].dtype == torch.float64

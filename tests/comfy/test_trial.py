"""Layout Trial's run: the kinds are the nodes' own, images depend on nothing else, nothing is lost."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import folder_paths
import latent_preview
import numpy as np
import other_patches
import pytest
import safetensors.torch
import torch
from comfy.cli_args import LatentPreviewMethod
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_easycache import EasyCacheNode
from forwards import counted
from winning_tickets.guidance.cutoff import CONDITIONAL, Cutoff, Final
from winning_tickets.probe.build.build import (
    PlaceRequest,
    TicketRequest,
    arrange_noise,
    build_tickets,
    pick_noise,
)
from winning_tickets.probe.build.looking import AfterSteps
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.layers import remembered
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.probe.noise.forms import ticket_noise
from winning_tickets.probe.preview import LiveTrial
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.draw import Drawing, Sampling
from winning_tickets.probe.sampling.samplers import BATCHED
from winning_tickets.probe.sampling.watch import watched
from winning_tickets.probe.trial.kinds import (
    LOOKED,
    NO_BANK,
    NO_OTHER,
    OTHERS,
    SWAP,
    TICKETS,
    Choice,
    Noises,
    best_of,
)
from winning_tickets.probe.trial.trial import Outcome, Trial, TrialRequest, give, run_trial
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.calibrate import STANDARDIZE
from winning_tickets.tickets.layout.select import Rank
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import Prompt
from winning_tickets.trial.cases import PAIRS, PLAIN, Case, TrialError, given_cases, made_cases, turned
from winning_tickets.trial.kept import load
from winning_tickets.trial.verdict import Finding

# Of a latent of 19x13, which no level of the UNet halves evenly.
SIZE = WIDTH, HEIGHT = 104, 152
SHAPE = (4, 19, 13)
NAMES = ("cat", "tree", "car")
LAYER = "input 3"
EULER = Sampling(3, 4.0, "euler", "normal", "ugly")
FEW = Choice(best_of=2, candidates=2, rounds=1, control=True)
QUICK = Choice(best_of=0, tickets=False, candidates=2, rounds=1)


class Halves:
    """A judge whose findings follow from the latents alone: the categories at the left and right by sign."""

    def __init__(self, model: Any, clip: Any, node: str, width: int, height: int) -> None:
        self.judged = 0

    def find(self, prompts: Sequence[Prompt], latents: torch.Tensor, seed: int) -> list[list[Finding]]:
        self.judged += len(latents)
        result = []
        for prompt, latent in zip(prompts, latents, strict=True):
            masks = [latent[i % 4].numpy() > 0 for i, _ in enumerate(prompt.phrases)]
            result.append([Finding(m, float(m.mean()), bool(m.mean() > 0.4)) for m in masks])
        return result

    def nfe(self, categories: int) -> float:
        return 4.0


def rescale(multiplier: float) -> Any:
    """As RescaleCFG makes its patch."""

    def patch(args: dict[str, Any]) -> torch.Tensor:
        return multiplier * (args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"])

    return patch


@pytest.fixture(autouse=True)
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


@pytest.fixture
def bank(model: Any, clip: Any) -> Any:
    return collect(model, clip, CollectRequest(NAMES, 6, 0, 128, 128, LAYER))


def cases_of(count: int, seed: int = 5) -> tuple[Case, ...]:
    return tuple(made_cases(NAMES, PAIRS, "", count, seed))


def request(count: int = 3, how: Sampling = EULER, choice: Choice = QUICK, **more: Any) -> TrialRequest:
    asked = {"categories": list(NAMES), "prompt": ""}
    return TrialRequest(cases_of(count), 5, asked, *SIZE, how, choice, LAYER, **more)


def drawn(outcome: Outcome) -> dict[tuple[str, int], torch.Tensor]:
    return {(d.record.kind, d.record.case): d.latent for d in outcome.drawn}


class TestKinds:
    def test_every_kind_is_what_its_node_makes(self, model: Any, clip: Any, bank: Any) -> None:
        (case,) = cases_of(1, 7)
        noises = Noises(model, clip, "test", NAMES, *SIZE, LAYER, bank, FEW)
        made = {kind.name: kind.make(case) for kind in noises.kinds([case])}
        place = (case.regions, *SIZE, case.seed, 1, 2)
        layouts = [
            Layout(bank, regions, 13, 19, Rank(), calibration=STANDARDIZE)
            for regions in (case.regions, turned(case.regions))
        ]
        looked = build_tickets(TicketRequest(layouts[0], case.seed, 1, 2, 1), model, clip)
        nodes = {
            PLAIN: plain_noise(case.seed, SHAPE),
            best_of(2): pick_noise(model, clip, PlaceRequest(*place, 0, LAYER)).noise.batch(1),
            SWAP: arrange_noise(model, clip, PlaceRequest(*place, 1, LAYER)).noise.batch(1),
            TICKETS: ticket_noise(layouts[0], case.seed, "test").batch(1),
            LOOKED: looked.noise.batch(1),
            OTHERS: ticket_noise(layouts[1], case.seed, "test").batch(1),
        }
        assert made.keys() == nodes.keys()
        for name, noise in nodes.items():
            assert torch.equal(made[name], noise[0]), name
        # The best of two seeds may be the first, which is plain noise.
        assert len({noise.numpy().tobytes() for noise in made.values()}) >= len(made) - 1

    def test_looking_after_some_steps_is_the_nodes(
        self, model: Any, clip: Any, bank: Any, encode: Any
    ) -> None:
        """The rule: a trial looks as the nodes do with the same run, and says what that costs."""
        (case,) = cases_of(1, 7)
        choice = replace(FEW, best_of=4, candidates=4, control=False, after=0.4)
        noises = Noises(model, clip, "test", NAMES, *SIZE, LAYER, bank, choice, sampling=EULER)
        kinds = {kind.name: kind for kind in noises.kinds([case])}
        euler = comfy.samplers.sampler_object("euler")
        prompts = encode(case.prompt.text), encode("ugly")
        after = AfterSteps(0.4, 3, 4.0, euler, EULER.sigmas(model), *prompts)
        place = (case.regions, *SIZE, case.seed, 1, 4)
        layout = Layout(bank, case.regions, 13, 19, Rank(), calibration=STANDARDIZE)
        counting, seen = counted(model)
        nodes = {
            best_of(4): lambda: pick_noise(counting, clip, PlaceRequest(*place, 0, LAYER, after=after)),
            SWAP: lambda: arrange_noise(counting, clip, PlaceRequest(*place, 1, LAYER, after=after)),
            LOOKED: lambda: build_tickets(TicketRequest(layout, case.seed, 1, 4, 1, after), counting, clip),
        }
        share = noises.scorer.share
        for name, make in nodes.items():
            seen.clear()
            assert torch.equal(kinds[name].make(case), make().noise.batch(1)[0]), name
            looks = kinds[name].looks
            assert seen.total == looks + 2 * (2 + 1)
            assert noises.cost(kinds[name]) == pytest.approx(looks * share + 2 * (2 + share))
        settings = [
            run_trial(model, clip, request(1, choice=c), Halves).records[0].settings
            for c in (QUICK, replace(QUICK, after=0.4))
        ]
        assert "after" not in settings[0] and settings[1]["after"] == 0.4

    def test_the_forwards_of_looks_are_those_that_were_run(self, model: Any, clip: Any) -> None:
        """An estimate was kept, whatever the sampler and the patches on the MODEL made of it."""
        cases = cases_of(1, 7)
        choice = replace(QUICK, candidates=4, after=0.6)
        for patched, sampler, evaluated in (
            (model, "heun", 2 * 3),
            # A batch that is run again, image by image.
            (other_patches.random_numbers(model), "euler", 2 * 2 + 2 * 2),
        ):
            counting, seen = counted(patched)
            how = replace(EULER, sampler_name=sampler)
            asked = TrialRequest(cases, 5, {"categories": list(NAMES)}, *SIZE, how, choice, LAYER)
            (plain, swap) = run_trial(counting, clip, asked, Halves).records
            share = Noises(model, clip, "test", NAMES, *SIZE, LAYER).scorer.share
            # Of the first batch that is looked at, then of all.
            looks = 4 * 2 + 2 + (4 if patched is not model else 0)
            assert swap.look_nfe == pytest.approx(looks * share + 2 * evaluated, abs=1e-3)
            assert plain.look_nfe == 0 and swap.nfe == plain.nfe
            assert seen.total == plain.nfe + swap.nfe + looks + 2 * evaluated

    def test_what_the_first_case_showed_holds_for_all(self, model: Any, clip: Any) -> None:
        """The deeper look of every image ran twice where patches draw random numbers."""
        choice = replace(QUICK, candidates=4, after=0.6)
        patched = other_patches.random_numbers(model)
        noises = Noises(patched, clip, "test", NAMES, *SIZE, LAYER, choice=choice, sampling=EULER)
        _, swap = noises.kinds(cases_of(3))
        took = [noises.make(swap, case)[1] for case in cases_of(3)]
        assert took[0] > noises.cost(swap)
        assert took[1:] == pytest.approx([noises.cost(swap)] * 2)

    @pytest.mark.parametrize("steps", [2, 3])
    def test_levels_of_every_scheduler_are_a_whole_run(self, model: Any, clip: Any, steps: int) -> None:
        """Those of ddim_uniform were refused, after plain images were drawn, as if they were split."""
        how = replace(EULER, steps=steps, scheduler="ddim_uniform")
        choice = replace(QUICK, candidates=4, after=0.4)
        noises = Noises(model, clip, "test", NAMES, *SIZE, LAYER, choice=choice, sampling=how)
        _, swap = noises.kinds(cases_of(1))
        assert noises.make(swap, cases_of(1)[0])[1] == pytest.approx(noises.cost(swap))

    def test_a_share_that_is_no_number_is_named(self) -> None:
        with pytest.raises(ProbeError, match="look_after_percent is nan; a finite number is needed"):
            Choice(after=float("nan"))

    def test_without_a_bank_there_are_no_tickets(self, model: Any, clip: Any) -> None:
        noises = Noises(model, clip, "test", NAMES, *SIZE, LAYER, choice=FEW)
        assert [kind.name for kind in noises.kinds(cases_of(1))] == [PLAIN, best_of(2), SWAP]
        assert noises.notes == [NO_BANK]
        none = Noises(model, clip, "test", NAMES, *SIZE, LAYER, choice=Choice(2, True, False, False))
        assert none.kinds(cases_of(1)) and not none.notes

    def test_a_control_of_the_tickets_themselves_is_left_out(self, model: Any, clip: Any, bank: Any) -> None:
        """With one category the control was the tickets, and did as well: the sentence blamed them."""
        alone = tuple(made_cases(NAMES[:1], PAIRS, "", 1, 5))
        outcome = run_trial(model, clip, replace(request(1, choice=FEW), cases=alone), Halves, bank)
        assert outcome.kinds == [PLAIN, best_of(2), SWAP, TICKETS, LOOKED]
        assert NO_OTHER in give(outcome).report

    def test_a_trial_that_looks_at_nothing_chooses_no_layer(self, model: Any, clip: Any) -> None:
        """Plain noise alone paid for a choice of hundreds of forwards."""
        counting, seen = counted(model)
        noises = Noises(counting, clip, "test", NAMES, *SIZE, "auto", choice=Choice(0, False))
        assert [kind.name for kind in noises.kinds(cases_of(1))] == [PLAIN]
        assert noises.layer == "none" and seen.total == 0

    def test_auto_is_the_layer_of_the_bank(self, model: Any, clip: Any, bank: Any) -> None:
        assert Noises(model, clip, "test", NAMES, *SIZE, "auto", bank).layer == LAYER

    def test_a_category_that_the_bank_lacks_is_named_before_anything_is_drawn(
        self, model: Any, clip: Any, bank: Any
    ) -> None:
        with pytest.raises(ValueError, match="owl"):
            Noises(model, clip, "test", ("cat", "owl"), *SIZE, LAYER, bank)


class TestDrawing:
    """The rule: image k is the same alone and in any batch, and what the stock KSampler draws."""

    def stock(self, model: Any, encode: Any, seed: int, how: Sampling) -> torch.Tensor:
        empty = torch.zeros(1, *SHAPE)
        return comfy.sample.sample(
            *(model, comfy.sample.prepare_noise(empty, seed), how.steps, how.cfg),
            *(how.sampler_name, how.scheduler, encode("a cat"), encode(how.negative), empty),
            disable_pbar=True,
            seed=seed,
        )

    @pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral", "dpmpp_sde"])
    def test_alone_and_in_a_batch(self, model: Any, clip: Any, encode: Any, sampler: str) -> None:
        how = Sampling(3, 4.0, sampler, "normal", "ugly")
        drawing = Drawing(model, clip, how, SHAPE)
        seeds = [3, 8, 4]
        noise = torch.cat([plain_noise(seed, SHAPE) for seed in seeds])
        together, nfe = drawing.draw(noise, "a cat", seeds, lambda *step: None)
        evaluations = {"dpmpp_sde": 5}.get(sampler, 3)
        assert nfe == 2 * evaluations
        assert (drawing.at_once > 1) == (sampler in BATCHED)
        for seed, image in zip(seeds, together, strict=True):
            expected = self.stock(model, encode, seed, how)[0]
            if sampler in BATCHED:
                torch.testing.assert_close(image, expected, rtol=0, atol=0.01)
            else:
                assert torch.equal(image, expected)

    @pytest.mark.parametrize("patch", ["random_numbers", "twice"])
    def test_other_patches_do_their_work(self, model: Any, clip: Any, encode: Any, patch: str) -> None:
        patched = getattr(other_patches, patch)(model)
        noise = torch.cat([plain_noise(seed, SHAPE) for seed in (3, 8)])
        together, nfe = Drawing(patched, clip, EULER, SHAPE).draw(noise, "a cat", [3, 8], lambda *step: None)
        # The batch that drew random numbers was drawn, too.
        assert nfe == (9 if patch == "twice" else 12)
        for seed, image in zip((3, 8), together, strict=True):
            expected = self.stock(patched, encode, seed, EULER)[0]
            if patch == "random_numbers":
                assert torch.equal(image, expected)
            torch.testing.assert_close(image, expected, rtol=0, atol=0.01)
            assert (image - self.stock(model, encode, seed, EULER)[0]).abs().max() > 0.05

    def test_where_memory_runs_out_fewer_are_drawn_at_once(self, model: Any, clip: Any) -> None:
        def small(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if len(x) > 4:
                raise torch.OutOfMemoryError
            return executor(x, *args, **kwargs)

        narrow = model.clone()
        narrow.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "small", small)
        noise = torch.cat([plain_noise(seed, SHAPE) for seed in range(5)])
        results = []
        for chosen in (model, narrow):
            drawing = Drawing(chosen, clip, EULER, SHAPE)
            results.append(drawing.draw(noise, "a cat", range(5), lambda *step: None)[0])
        assert drawing.at_once == 2
        torch.testing.assert_close(*results, rtol=0, atol=0.01)

    def test_of_three_images_that_do_not_fit_two_are_tried(self, model: Any, clip: Any) -> None:
        """It went on with one by one."""

        def small(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if len(x) > 4:
                raise torch.OutOfMemoryError
            return executor(x, *args, **kwargs)

        narrow = model.clone()
        narrow.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "small", small)
        noise = torch.cat([plain_noise(seed, SHAPE) for seed in range(3)])
        drawing = Drawing(narrow, clip, EULER, SHAPE)
        drawing.draw(noise, "a cat", range(3), lambda *step: None)
        assert drawing.at_once == 2

    def test_without_guidance_a_step_is_one_forward(self, model: Any, clip: Any) -> None:
        how = Sampling(3, 1.0, "euler", "normal")
        _, nfe = Drawing(model, clip, how, SHAPE).draw(plain_noise(0, SHAPE), "a cat", [0], lambda *s: None)
        assert nfe == how.about == 3

    def test_unknown_names_are_refused(self) -> None:
        with pytest.raises(ProbeError, match="sampler_name is eule"):
            Sampling(3, 1.0, "eule", "normal")
        with pytest.raises(ProbeError, match="cfg is nan"):
            Sampling(3, float("nan"), "euler", "normal")


class TestTrial:
    def test_all_kinds_of_a_case_share_its_prompt_and_seed(self, model: Any, clip: Any, bank: Any) -> None:
        outcome = run_trial(model, clip, request(4, choice=FEW), Halves, bank)
        assert [(r.case, r.kind) for r in outcome.records] == [
            (case, kind) for case in range(4) for kind in (PLAIN, best_of(2), SWAP, TICKETS, LOOKED, OTHERS)
        ]
        for record in outcome.records:
            case = cases_of(4)[record.case]
            assert (record.seed, record.prompt, record.regions) == (
                case.seed,
                case.prompt.text,
                case.regions,
            )
            assert record.nfe == 6
            assert (record.look_nfe > 0) == (record.kind in (best_of(2), SWAP, LOOKED))

    def test_the_model_is_given_one_prompt_at_a_time_and_all_its_images_together(
        self, model: Any, clip: Any
    ) -> None:
        spied, seen = counted(model)
        trial = Trial(spied, clip, request(4, choice=Choice(0, False)), Halves, None)
        trial.run()
        assert seen.rows == [4, 4, 4, 4, 4, 4]

    def test_a_cancel_costs_few_images(self, model: Any, clip: Any) -> None:
        """The rule: a batch is of as few cases as make good use of a GPU, all of whose kinds are in it."""
        same = replace(request(8), cases=tuple(given_cases(cases_of(1)[0].regions, "", 8, 5)))
        trial = Trial(model, clip, same, Halves, None)
        missing = list(trial._wanted(False))
        assert [number for number, _ in trial._batch(missing)] == [0, 0, 1, 1]

    def test_nothing_is_left_behind_and_no_random_number_taken(self, model: Any, clip: Any) -> None:
        before = repr(sorted(model.model_options["transformer_options"])), len(model.wrappers)
        torch.manual_seed(11)
        expected = torch.rand(3)
        torch.manual_seed(11)
        run_trial(model, clip, request(1), Halves)
        assert torch.equal(torch.rand(3), expected)
        assert (repr(sorted(model.model_options["transformer_options"])), len(model.wrappers)) == before

    def test_a_cancelled_trial_is_resumed_as_if_nothing_had_happened(self, model: Any, clip: Any) -> None:
        whole = run_trial(model, clip, request(4, name="whole"), Halves)
        left = 12

        def cancelled(executor: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise comfy.model_management.InterruptProcessingException
            return executor(*args, **kwargs)

        spied, seen = counted(model)
        spied.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "cancel", cancelled)
        again = replace(request(4), asked={"tried": "again"})
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            run_trial(spied, clip, again, Halves)
        seen.clear()
        trial = Trial(spied, clip, again, Halves, None)
        kept = set(trial.keeper.records)
        assert 0 < len(kept) < 8
        counts = [sum(kind == name for kind, _ in kept) for name in (PLAIN, SWAP)]
        assert counts[0] == counts[1], "balanced"
        trial.run()
        looks = (4 - counts[1]) * 2 * 2
        assert seen.total == looks + (8 - len(kept)) * 2 * EULER.steps
        assert trial.judge.judged == 8 - len(kept)
        outcome = trial.outcome()
        assert any("were drawn before" in note for note in outcome.notes)
        for key, latent in drawn(whole).items():
            torch.testing.assert_close(drawn(outcome)[key], latent, rtol=0, atol=0.01)

    @pytest.mark.parametrize("name", ["", "mine"])
    def test_a_trial_is_resumed_with_its_layer_whatever_auto_has_chosen_since(
        self, model: Any, clip: Any, name: str
    ) -> None:
        """A cancelled trial began anew when auto had meanwhile chosen a layer for all words."""
        about = f"{fingerprint(model, clip)} {WIDTH}x{HEIGHT}"
        asked = replace(request(2, name=name), layer="auto")
        remembered.remember(about, LAYER, "For now.")
        first = Trial(model, clip, asked, Halves, None)
        assert first.settings["layer"] == LAYER
        first.keeper.add(first._draw(first._batch(list(first._wanted(False)))[:2]))
        remembered.remember(about, "output 0", "Since then.")
        again = Trial(model, clip, replace(asked, layer=" Auto"), Halves, None)
        assert again.settings == first.settings and again.keeper.path == first.keeper.path
        assert len(again.keeper.records) == again.resumed == 2
        assert f"layer auto: {LAYER}, as for the images that were drawn before." in again.noises.notes
        # Another trial takes what auto says now.
        other = Trial(model, clip, replace(asked, seed=6), Halves, None)
        assert other.settings["layer"] == "output 0" and not other.resumed

    def test_a_layer_that_was_asked_for_is_not_what_auto_chose(self, model: Any, clip: Any) -> None:
        run_trial(model, clip, request(1), Halves)
        remembered.remember(f"{fingerprint(model, clip)} {WIDTH}x{HEIGHT}", "output 0", "Chosen.")
        trial = Trial(model, clip, replace(request(1), layer="auto"), Halves, None)
        assert trial.settings["layer"] == "output 0" and not trial.resumed

    def test_more_images_draw_only_what_is_missing(self, model: Any, clip: Any) -> None:
        spied, seen = counted(model)
        first = run_trial(spied, clip, request(2), Halves)
        seen.clear()
        second = run_trial(spied, clip, request(3, choice=QUICK), Halves)
        assert seen.total == 4 + 2 * 2 * EULER.steps
        assert second.records[: len(first.records)] == first.records
        assert run_trial(spied, clip, request(3), Halves).records == second.records
        assert seen.total == 4 + 2 * 2 * EULER.steps

    def test_the_layer_does_not_depend_on_how_many_images_are_drawn(self) -> None:
        assert request(1).categories == NAMES != request(1).cases[0].categories

    def test_other_settings_are_another_trial_in_the_same_file(
        self, model: Any, clip: Any, output: Path
    ) -> None:
        for how in (EULER, Sampling(2, 4.0, "euler", "normal", "ugly")):
            outcome = run_trial(model, clip, request(1, how, name="mine"), Halves)
            assert len(outcome.records) == 2
        records = load(output / "layout_trials" / "mine.jsonl").records
        assert len(records) == 4 and len({record.run for record in records}) == 2

    def test_a_latent_that_is_gone_is_named_and_its_image_counted(
        self, model: Any, clip: Any, output: Path
    ) -> None:
        run_trial(model, clip, request(2), Halves)
        (lost, broken, *_) = sorted(output.glob("layout_trials/latents/*/*.latent"))
        lost.unlink()
        broken.write_bytes(b"")
        outcome = run_trial(model, clip, request(2), Halves)
        assert len(outcome.records) == 4 and len(outcome.drawn) == 2
        given = give(outcome)
        assert "The latents of 2 images are gone" in given.report
        assert len(given.records) == len(given.latents["samples"]) == 2

    def test_with_a_vae_images_are_missing_for_the_latents_that_are_gone(
        self, model: Any, clip: Any, output: Path
    ) -> None:
        """A vae was asked for although one was connected."""
        run_trial(model, clip, request(1), Halves)
        shutil.rmtree(output / "layout_trials" / "latents")
        outcome = run_trial(model, clip, request(1), Halves)
        assert "the latents of this trial are gone" in give(outcome, vae=object()).images.message
        assert "without a vae" in give(outcome).images.message
        assert len(run_trial(model, clip, request(1, name="anew"), Halves).drawn) == 2

    def test_what_was_found_is_kept_with_the_latent(self, model: Any, clip: Any) -> None:
        for image in run_trial(model, clip, request(1), Halves).drawn:
            expected = [image.latent[i].numpy() > 0 for i in range(2)]
            assert np.array_equal(image.masks, np.stack(expected))

    @pytest.mark.parametrize("name", ["../out", "CON", "a:b", "a\nb"])
    def test_a_name_that_is_no_file_is_refused_before_anything_is_drawn(
        self, model: Any, clip: Any, name: str
    ) -> None:
        with pytest.raises(TrialError, match="save_as is .* inside output/layout_trials"):
            run_trial(model, clip, request(1, name=name), Halves)

    @pytest.mark.parametrize("name", ["c" * 201, "a\x9bcat"])
    def test_what_could_not_be_read_again_is_refused_before_anything_is_drawn(
        self, model: Any, clip: Any, output: Path, name: str
    ) -> None:
        cases = tuple(made_cases([name, "tree"], PAIRS, "", 2, 5))
        with pytest.raises(TrialError, match="could not be kept, since category .* without control"):
            run_trial(model, clip, replace(request(2), cases=cases), Halves)
        assert not (output / "layout_trials").exists()

    def test_a_folder_with_the_name_of_the_file(self, model: Any, clip: Any, output: Path) -> None:
        (output / "layout_trials" / "mine.jsonl").mkdir(parents=True)
        with pytest.raises(TrialError, match="mine.jsonl cannot be written"):
            run_trial(model, clip, request(1, name="mine"), Halves)

    def test_a_latent_of_another_size_is_as_good_as_gone(self, model: Any, clip: Any, output: Path) -> None:
        run_trial(model, clip, request(1), Halves)
        first, *_ = output.glob("layout_trials/latents/*/*.latent")
        parts = safetensors.torch.load(first.read_bytes())
        first.write_bytes(safetensors.torch.save(parts | {"latent_tensor": torch.zeros(1, 4, 8, 8)}))
        outcome = run_trial(model, clip, request(1), Halves)
        assert (len(outcome.records), len(outcome.drawn)) == (2, 1)

    def test_other_patches_of_guidance_and_of_runs_are_another_trial(self, model: Any, clip: Any) -> None:
        """Resumed with RescaleCFG or a cutoff, a trial showed the images of the stock model."""
        rescaled = model.clone()
        rescaled.set_model_sampler_cfg_function(rescale(0.7))
        less = model.clone()
        less.set_model_sampler_cfg_function(rescale(0.5))
        cut = [CutoffPatch(Cutoff(Final(n), CONDITIONAL)).attach(model) for n in (1, 2)]
        quick = replace(request(1), choice=Choice(best_of=0, swap=False))
        runs = [Trial(m, clip, quick, Halves, None).keeper.run for m in (model, rescaled, less, *cut)]
        assert len(set(runs)) == 5
        run_trial(cut[0], clip, quick, Halves)
        again = CutoffPatch(Cutoff(Final(1), CONDITIONAL)).attach(model)
        assert Trial(again, clip, quick, Halves, None).resumed == 1
        assert Trial(model.clone(), clip, quick, Halves, None).keeper.run == runs[0]

    def test_wrappers_and_what_they_are_set_to_are_another_trial(self, model: Any, clip: Any) -> None:
        """A trial was resumed with images of the model before another pack's wrapper was added."""
        quick = replace(request(1), choice=Choice(best_of=0, swap=False))

        def wrapped(kind: str, strength: float, within: bool) -> Any:
            log: list[float] = []

            def weaker(executor: Any, *args: Any, **kwargs: Any) -> Any:
                log.append(time.time())
                return strength * executor(*args, **kwargs)

            other = model.clone()
            if within:
                options = other.model_options["transformer_options"]
                comfy.patcher_extension.add_wrapper_with_key(kind, "theirs", weaker, options)
            else:
                other.add_wrapper_with_key(kind, "theirs", weaker)
            return other

        def cached(threshold: float) -> Any:
            return EasyCacheNode.execute(model, threshold, 0.15, 0.95, False)[0]

        kinds = WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL
        made = {
            (kind, strength, within): partial(wrapped, kind, strength, within)
            for kind in kinds
            for strength, within in ((0.5, False), (0.7, False), (0.6, True))
        } | {threshold: partial(cached, threshold) for threshold in (0.1, 0.2)}
        for make in made.values():
            patched = make()
            run_trial(patched, clip, quick, Halves)
            for again in (patched, make()):
                assert Trial(again, clip, quick, Halves, None).resumed == 1
        plain = Trial(model.clone(), clip, quick, Halves, None)
        runs = {plain.keeper.run, *(Trial(m(), clip, quick, Halves, None).keeper.run for m in made.values())}
        assert plain.resumed == 0 and len(runs) == 1 + len(made)

    def test_compiling_and_our_own_watch_are_no_other_trial(self, model: Any, clip: Any) -> None:
        plain = Trial(model, clip, request(1), Halves, None).keeper.run
        compiled = model.clone()
        set_torch_compile_wrapper(model=compiled, backend="eager")
        for other in (compiled, watched(model, clip, "a cat", "cat")[0]):
            assert Trial(other, clip, request(1), Halves, None).keeper.run == plain

    def test_a_folder_that_cannot_be_written(self, model: Any, clip: Any, output: Path) -> None:
        (output / "layout_trials").write_text("in the way", encoding="utf-8")
        with pytest.raises(TrialError, match="cannot be written"):
            run_trial(model, clip, request(1), Halves)


class TestLive:
    @pytest.fixture
    def live(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> LiveTrial:
        monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Latent2RGB)
        return LiveTrial(model, 10)

    def test_all_images_of_a_batch_are_previewed(self, live: LiveTrial) -> None:
        kind, sheet, _ = live._seen(torch.ones(3, *SHAPE))
        assert kind == "JPEG" and sheet.size == (2 * 13, 2 * 19)
        assert sheet.getpixel((5, 30)) != sheet.getpixel((20, 30)) == (0, 0, 0), "three of four places"

    def test_a_preview_that_fails_ends_nothing(self, live: LiveTrial) -> None:
        live.step(3, torch.ones(2, 7, 19, 13))
        assert live._previewer is None


class Vae:
    """Enlarges three channels of a latent."""

    decoded = 0

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        self.decoded += len(samples)
        return samples[:, :3].movedim(1, -1).repeat_interleave(8, 1).repeat_interleave(8, 2)


class TestGiven:
    def test_images_latents_and_records_are_in_the_same_order(self, model: Any, clip: Any) -> None:
        outcome = run_trial(model, clip, request(5), Halves)
        given = give(outcome, Vae())
        assert given.images.shape == (10, HEIGHT, WIDTH, 3) and given.picture.shape[-1] == 3
        for n, record in enumerate(given.records):
            assert torch.equal(given.images[n, ::8, ::8], given.latents["samples"][n, :3].movedim(0, -1))
            assert torch.equal(given.latents["samples"][n], drawn(outcome)[record.kind, record.case])

    def test_no_more_images_are_decoded_than_leave_the_node(self, model: Any, clip: Any) -> None:
        """Every image was decoded and kept in memory, 1 GB with the defaults, for a picture of few."""
        outcome = run_trial(model, clip, replace(request(9), choice=Choice(0, False)), Halves)
        vae = Vae()
        given = give(outcome, vae)
        assert vae.decoded == len(given.images) == len(given.latents["samples"]) == len(given.records) == 8
        assert 'are of the first 8 of 9 cases; "all" in pass_on (advanced) gives all.' in given.report
        assert re.search(r"\| plain noise +\| 9 ", given.report), "all are counted"
        vae = Vae()
        given = give(outcome, vae, every=True)
        assert vae.decoded == len(given.images) == len(given.records) == 9 and "pass_on" not in given.report

    def test_images_never_fill_the_memory(
        self, model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outcome = run_trial(model, clip, request(4), Halves)
        for free, cases in (
            (4 * 2 * 2 * 12 * WIDTH * HEIGHT, 4),
            (2 * 2 * 2 * 12 * WIDTH * HEIGHT, 2),
            (0, 1),
        ):
            monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device, free=free: free)
            vae = Vae()
            given = give(outcome, vae, every=True)
            assert vae.decoded == len(given.images) == len(given.records) == 2 * cases
            told = (
                f"of the first {cases} of 4 cases: all would take more than half of the memory that is free."
            )
            assert (told in given.report) == (cases < 4)

    def test_without_a_vae_nodes_that_take_the_images_are_told(self, model: Any, clip: Any) -> None:
        given = give(run_trial(model, clip, request(1), Halves), note="First.")
        assert "connect the model's" in given.images.message
        assert given.report.index("First.") < given.report.index("Kept in output/layout_trials/trial_")

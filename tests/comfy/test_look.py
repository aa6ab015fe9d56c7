"""Noise judged in context before a step is sampled, with ComfyUI's real sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from forwards import counted
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.build.build import (
    NoiseResult,
    PlaceRequest,
    TicketRequest,
    arrange_noise,
    build_tickets,
    pick_noise,
)
from winning_tickets.probe.build.looking import AfterSteps, Looking, first_steps
from winning_tickets.probe.build.redraw import RedrawnNoise
from winning_tickets.probe.build.searching import searched_swaps, searched_tickets
from winning_tickets.probe.collect import collect
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.noise.forms import PlainNoise
from winning_tickets.probe.sampling.first_steps import FirstSteps
from winning_tickets.tickets.grid import Grid, GridError
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.regions import assign_cells, by_category
from winning_tickets.tickets.layout.select import Rank
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, make_prompts
from winning_tickets.tickets.score import paper_score
from winning_tickets.tickets.search.candidates import derived_seed
from winning_tickets.tickets.search.fit import fit

REGIONS = tuple(parse_regions("cat: 0 0 0.5 0.5\ntree: 0.5 0.5 1 1"))
SHAPE = (4, 16, 24)
REQUEST = PlaceRequest(REGIONS, 192, 128, 7, 1, 3, 2, "input 3")


def look_of(
    model: Any, clip: Any, categories: Sequence[str], layer: str = "input 3", grid: Grid | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    scorer = Scorer(model, clip, "test", 192, 128, layer)
    prompts = scorer.encode(make_prompts(categories, JOINT))
    return lambda noise: scorer.blocks(prompts, noise, grid or scorer.grid())[0]


@pytest.fixture
def layout(model: Any, clip: Any) -> Layout:
    bank = collect.collect(model, clip, collect.CollectRequest(("cat", "tree"), 6, 0, 128, 128, "input 3"))
    return Layout(bank, REGIONS, 24, 16, Rank(0.2, 0.2))


def test_a_look_reads_what_collecting_reads(model: Any, clip: Any) -> None:
    """The rule: a noise scores the same in a bank's joint prompt and under a look."""
    request = collect.CollectRequest(("cat", "tree", "car"), 3, 5, 192, 128, "input 3", scheme=JOINT)
    bank = collect.collect(model, clip, request)
    maps = look_of(model, clip, request.categories)(torch.cat([plain_noise(s, SHAPE) for s in bank.seeds]))
    for c in range(3):
        torch.testing.assert_close(maps[:, c], bank.maps(c), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("at_once", [1, 2, 32])
def test_scores_do_not_depend_on_how_many_are_looked_at_at_once(model: Any, clip: Any, at_once: int) -> None:
    scorer = Scorer(model, clip, "test", 192, 128, "input 3")
    prompts = scorer.encode(make_prompts(("cat", "tree", "car")))
    noise = torch.cat([plain_noise(s, SHAPE) for s in range(5)])
    apart = [[scorer.blocks([p], n[None], scorer.grid())[0] for n in noise] for p in prompts]
    scorer.rows.count = at_once
    for found, expected in zip(scorer.blocks(prompts, noise, scorer.grid()), apart, strict=True):
        torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5, atol=1e-8)


def test_cells_are_as_large_as_the_maps_say(model: Any, clip: Any) -> None:
    scorer = Scorer(model, clip, "test", 256, 256)
    maps = scorer.maps(scorer.encode(make_prompts(("cat", "tree"), JOINT)), plain_noise(0, (4, 32, 32)))
    for layer, (found,) in maps.items():
        assert found.shape[-1] * scorer.family.stride(layer) == 32, str(layer)


def test_blocks_finer_than_the_map_are_refused(model: Any, clip: Any) -> None:
    look = look_of(model, clip, ("cat", "tree"), "middle 0", Grid(16, 24, 2))
    with pytest.raises(GridError, match="Blocks of 2 latent pixels cannot be told apart .* every 4: choose"):
        look(plain_noise(0, SHAPE))


def test_the_share_of_a_forward_grows_with_the_layer(model: Any) -> None:
    family = Scorer(model, None, "test", 192, 128).family
    shares = [family.share(layer, 16, 24) for layer in family.layers]
    assert shares == sorted(shares) and 0 < shares[0] < 0.5 < shares[-1] < 1


def test_tickets_are_looked_at_as_often_as_the_report_says(model: Any, clip: Any, layout: Layout) -> None:
    counting, seen = counted(model)
    result = build_tickets(TicketRequest(layout, 3, 2, 4, 1), counting, clip)
    assert seen.total == 2 * 4 * 2 and "16 looks" in result.report
    seen.clear()
    result.noise.generate_noise(result.empty)
    assert not seen, "what was built is not looked at again"
    blind = build_tickets(TicketRequest(layout, 3, 2, 4, 1))
    assert torch.equal(blind.noise.generate_noise(blind.empty), layout.build(3, (0, 1)))
    assert "connect model and clip" in blind.report


def test_looking_finds_a_better_fit(model: Any, clip: Any, layout: Layout) -> None:
    scorer = Scorer(model, clip, "test", 192, 128, "input 3")
    prompts = scorer.encode(make_prompts(layout.categories, JOINT))
    searching = searched_tickets(layout, Looking(scorer, prompts, layout.grid), 6, 2)
    searching(3, 0)
    (found,) = searching.found.values()
    assert found.after > found.before


@pytest.mark.parametrize("kind", ["tickets", "arrange", "pick"])
def test_image_k_of_a_batch_equals_a_run_with_batch_index_k(
    model: Any, clip: Any, layout: Layout, kind: str
) -> None:
    def run(batch: int) -> Any:
        if kind == "tickets":
            return build_tickets(TicketRequest(layout, 3, batch, 3, 1), model, clip)
        make = arrange_noise if kind == "arrange" else pick_noise
        return make(model, clip, replace(REQUEST, batch=batch))

    many, one = run(3), run(1)
    batch = many.noise.generate_noise(many.empty)
    alone = one.noise.generate_noise({**one.empty, "batch_index": [2]})
    assert torch.equal(alone[0], batch[2])
    assert not torch.equal(batch[0], batch[1])


def test_arranged_noise_is_a_permutation_of_one_seeds_noise(model: Any, clip: Any) -> None:
    result = arrange_noise(model, clip, REQUEST)
    values = result.noise.generate_noise(result.empty).flatten().sort().values
    seeds = [derived_seed(7, j) for j in range(3)]
    assert any(torch.equal(values, plain_noise(s, SHAPE).flatten().sort().values) for s in seeds)


def test_picked_noise_is_one_of_the_seeds_unchanged(model: Any, clip: Any) -> None:
    result = pick_noise(model, clip, replace(REQUEST, candidates=5))
    built = result.noise.generate_noise(result.empty)
    assert any(torch.equal(built, plain_noise(derived_seed(7, j), SHAPE)) for j in range(5))


def test_any_noise_that_has_a_seed_is_picked_from(model: Any, clip: Any, layout: Layout) -> None:
    class Uniform:
        """A noise of another pack."""

        def __init__(self, seed: int) -> None:
            self.seed = seed

        def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
            generator = torch.Generator().manual_seed(self.seed)
            return torch.rand(input_latent["samples"].shape, generator=generator)

    theirs = Uniform(4)
    found = pick_noise(model, clip, REQUEST, theirs)
    assert theirs.seed == 4
    built = found.noise.generate_noise(found.empty)
    latent = {"samples": torch.zeros(1, *SHAPE)}
    assert any(torch.equal(built, Uniform(derived_seed(4, j)).generate_noise(latent)) for j in range(3))
    tickets = build_tickets(TicketRequest(layout, 3, 1, 1, 0)).noise
    best = pick_noise(model, clip, REQUEST, tickets)
    drawn = [layout.build(derived_seed(3, j)) for j in range(3)]
    assert any(torch.equal(best.noise.generate_noise(best.empty), d) for d in drawn)


def test_picked_noise_is_picked_from_and_fills_a_region(model: Any, clip: Any) -> None:
    """It was the same under every seed, and refused for that."""
    counting, seen = counted(model)
    picked = pick_noise(counting, clip, REQUEST).noise
    seen.clear()
    best = pick_noise(counting, clip, REQUEST, picked)
    assert seen.total == 3 + 2 * 3 and "1.2 of them made the noise connected" in best.report
    assert torch.equal(best.noise.batch(2)[0], pick_noise(model, clip, REQUEST, picked).noise.batch(1)[0])
    redrawn = RedrawnNoise(PlainNoise(4), REGIONS[:1], 5, 0, picked)
    chosen = pick_noise(model, clip, replace(REQUEST, candidates=6), redrawn).noise.batch(1)
    twice = pick_noise(model, clip, REQUEST, pick_noise(model, clip, REQUEST, redrawn).noise).noise.batch(1)
    kept = redrawn.shares({"samples": chosen})[0] == 0
    for noise in (chosen, twice):
        assert torch.equal(noise[..., kept], plain_noise(4, SHAPE)[..., kept])
        assert not torch.equal(noise, plain_noise(4, SHAPE))


def test_noise_that_has_no_seed_is_refused(model: Any, clip: Any) -> None:
    class Zeros:
        seed = 0

        def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
            return torch.zeros_like(input_latent["samples"])

    with pytest.raises(ValueError, match="does not change with its seed"):
        pick_noise(model, clip, REQUEST, Zeros())


def test_only_one_of_model_and_clip_is_refused(model: Any, clip: Any, layout: Layout) -> None:
    with pytest.raises(ProbeError, match="only one of model and clip"):
        build_tickets(TicketRequest(layout, 3, 1, 2, 0), model, None)


def test_a_patched_model_is_told_apart_from_the_banks(model: Any, clip: Any, layout: Layout) -> None:
    same = build_tickets(TicketRequest(layout, 3, 1, 1, 0), model, clip)
    assert "Warning: the bank" not in same.report
    patched = model.clone()
    key = next(k for k in model.model_state_dict() if k.endswith("attn2.to_q.weight"))
    patched.add_patches({key: (torch.ones_like(model.model_state_dict()[key]),)}, 0.5)
    other = build_tickets(TicketRequest(layout, 3, 1, 1, 0), patched, clip)
    assert (
        "Warning: the bank was collected with other settings. What differs: model or LoRAs." in other.report
    )


@pytest.mark.parametrize("after", [0, 1, 3])
def test_cancel_leaves_nothing_on_the_model(model: Any, clip: Any, after: int) -> None:
    options = dict(model.model_options)
    patches = {k: list(v) for k, v in model.patches.items()}
    counting, seen = counted(model)

    def wrapper(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(seen) > after:
            raise comfy.model_management.InterruptProcessingException()
        return executor(x, *args, **kwargs)

    key = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    counting.add_wrapper_with_key(key, "cancel", wrapper)
    before = {k: str(v) for k, v in counting.model_options.items()}
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        arrange_noise(counting, clip, replace(REQUEST, rounds=5))
    assert model.model_options == options and {k: list(v) for k, v in model.patches.items()} == patches
    assert {k: str(v) for k, v in counting.model_options.items()} == before


def look_and_build(model: Any, clip: Any, request: PlaceRequest) -> Any:
    bank = collect.collect(model, clip, collect.CollectRequest(("cat", "tree"), 6, 0, 128, 128, "input 3"))
    layout = Layout(bank, REGIONS, 24, 16, Rank(0.2, 0.2))
    return build_tickets(
        TicketRequest(layout, request.seed, 1, request.candidates, request.rounds), model, clip
    )


MAKERS = [look_and_build, arrange_noise, pick_noise]


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_built_is_the_first_input_of_the_unet(
    any_model: Any, clip: Any, encode: Any, first_input: Any, make: Any
) -> None:
    result = make(any_model, clip, REQUEST)
    noise = result.noise.generate_noise(result.empty)
    spied, seen = first_input(any_model)
    sigma = float(any_model.get_model_object("model_sampling").sigma_max)
    guider = comfy.samplers.CFGGuider(spied)
    guider.inner_set_conds({"positive": encode("a cat"), "negative": encode("")})
    euler = comfy.samplers.sampler_object("euler")
    guider.sample(
        noise, result.empty["samples"], euler, torch.tensor([sigma, 0.0]), disable_pbar=True, seed=0
    )
    torch.testing.assert_close(seen[0][:1], noise, rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_the_latent_is_the_first_input_of_the_unet(
    any_model: Any, clip: Any, encode: Any, first_input: Any, make: Any
) -> None:
    """KSampler (Advanced), add_noise disabled: zeros as noise, our latent as image."""
    result = make(any_model, clip, REQUEST)
    spied, seen = first_input(any_model)
    latent = result.latent["samples"]
    zeros, conds = torch.zeros_like(latent), (encode("a cat"), encode(""))
    how = {"disable_noise": True, "start_step": 0, "last_step": 10000, "disable_pbar": True, "seed": 0}
    comfy.sample.sample(spied, zeros, 4, 5.0, "euler", "normal", *conds, latent, **how)
    noise = result.noise.generate_noise(result.empty)
    torch.testing.assert_close(seen[0][:1], noise, rtol=0, atol=2e-6)


def test_an_image_smaller_than_a_block_is_refused(model: Any, clip: Any) -> None:
    with pytest.raises(GridError, match="do not fit a latent of 8x8: raise"):
        arrange_noise(model, clip, replace(REQUEST, width=64, height=64, cells=8))


class TestAfterSteps:
    """Candidates that fit best at the first step are looked at again after some steps of the run."""

    AFTER = AfterSteps(0.4, 5, 4.0)

    @staticmethod
    def steps(scorer: Scorer, after: AfterSteps) -> FirstSteps:
        return first_steps(scorer.model, scorer.clip, "test", scorer.shape, "a cat and a tree", after)

    def build(self, kind: str, model: Any, clip: Any, layout: Layout, batch: int = 1) -> NoiseResult:
        if kind == "tickets":
            return build_tickets(TicketRequest(layout, 3, batch, 7, 1, self.AFTER), model, clip)
        make = arrange_noise if kind == "arrange" else pick_noise
        request = replace(REQUEST, seed=3, batch=batch, candidates=7, rounds=1, after=self.AFTER)
        return make(model, clip, request)

    @pytest.mark.parametrize("kind", ["tickets", "arrange", "pick"])
    def test_what_it_costs_is_what_it_says(self, model: Any, clip: Any, layout: Layout, kind: str) -> None:
        counting, seen = counted(model)
        result = self.build(kind, counting, clip, layout, 2)
        first, deeper = 2 * 7 * (1 if kind == "pick" else 2), 2 * 3
        assert seen.total == first + deeper * (2 * 2 + 1), "a third of seven, two guided steps, one reading"
        share = Scorer(model, clip, "test", 192, 128, "input 3").share
        forwards = first * share + deeper * (4 + share)
        assert "After 2 of 5 steps: fit " in result.report and f"; {deeper} candidates were" in result.report
        assert "Warning" not in result.report, "limits of the first step's fit say nothing of another"
        assert f"All looks took {forwards:.1f} forwards" in result.report
        assert "after half of the steps would save 6." in result.report
        seen.clear()
        result.noise.generate_noise(result.empty)
        assert not seen, "what was built is not looked at again"

    @pytest.mark.parametrize("kind", ["tickets", "arrange", "pick"])
    def test_image_k_is_the_same_in_every_batch(
        self, model: Any, clip: Any, layout: Layout, kind: str
    ) -> None:
        """The rule: the same seed gives the same noise for any batch size."""
        together = self.build(kind, model, clip, layout, 2).noise.batch(2)
        other = self.build(kind, model, clip, layout, 1).noise
        assert torch.equal(other.batch(1)[0], together[0])
        assert torch.equal(other.images([1])[0], together[1])

    @pytest.mark.parametrize("after", [None, AFTER])
    def test_what_the_noise_connected_takes_is_counted(
        self, model: Any, clip: Any, after: AfterSteps | None
    ) -> None:
        """The rule: a candidate whose noise is looked at to be made costs those looks, too."""
        counting, seen = counted(model)
        arranged = arrange_noise(counting, clip, replace(REQUEST, after=self.AFTER))
        redrawn = RedrawnNoise(PlainNoise(4), REGIONS[:1], 5, 0, arranged.noise)
        seen.clear()
        report = pick_noise(counting, clip, replace(REQUEST, rounds=0, after=after), redrawn).report
        # Candidate 0 was made before; each other one takes nine first looks, and two deeper ones.
        inner, deeper = 2, 2 if after else 0
        assert seen.total == inner * (9 + 2 * (4 + 1)) + 3 + deeper * (4 + 1)
        share = Scorer(model, clip, "test", 192, 128, "input 3").share
        others = inner * (9 * share + 2 * (4 + share))
        forwards = others + 3 * share + deeper * (4 + share)
        note = f"(a guided step takes 2; {others:.1f} of them made the noise connected)"
        assert f"{forwards:.1f} forwards of one image {note}" in report

    def test_the_one_that_fits_best_then_is_taken(self, model: Any, clip: Any) -> None:
        seeds = [derived_seed(3, j) for j in range(7)]
        noise = torch.cat([plain_noise(seed, SHAPE) for seed in seeds])
        groups = by_category(REGIONS, assign_cells(REGIONS, *Grid(16, 24, 2).exact))
        scorer = Scorer(model, clip, "test", 192, 128, "input 3")
        prompts = scorer.encode(make_prompts(("cat", "tree"), JOINT))
        looking = Looking(scorer, prompts, scorer.grid(), self.steps(scorer, self.AFTER), 3)
        looking.announce(1, 7, 0)
        first = fit(paper_score(looking.first(noise)), groups)
        best = first.argsort(descending=True)[:3]
        assert looking.deeper
        after = fit(paper_score(looking.deeper(noise[best])), groups)
        chosen = self.build("pick", model, clip, None).noise.batch(1)[0]  # type: ignore[arg-type]
        assert torch.equal(chosen, noise[best[after.argmax()]])

    def test_the_runs_own_sampler_levels_and_prompts_are_used(
        self, model: Any, clip: Any, encode: Callable[[str], Any]
    ) -> None:
        counting, seen = counted(model)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", 8)
        heun = comfy.samplers.sampler_object("heun")
        prompts = encode("a cat in a tree"), encode("ugly")
        after = AfterSteps(0.25, 3, 1.0, heun, sigmas, *prompts)
        request = replace(REQUEST, candidates=3, rounds=0, after=after)
        result = pick_noise(counting, clip, request)
        assert "After 2 of 8 steps" in result.report and "would save 0." in result.report
        assert seen.total == 3 + 2 * (3 + 1), "heun, unguided: two evaluations a step, but the second's last"

    @pytest.mark.parametrize(("candidates", "seen"), [(1, 0), (2, 2), (3, 2), (7, 3)])
    def test_two_at_least_are_looked_at_and_one_alone_is_not(
        self, model: Any, clip: Any, candidates: int, seen: int
    ) -> None:
        """The rule: no steps are paid for where there is nothing to choose."""
        counting, forwards = counted(model)
        request = replace(REQUEST, candidates=candidates, rounds=0, after=self.AFTER)
        result = pick_noise(counting, clip, request)
        assert forwards.total == candidates + seen * (2 * 2 + 1)
        assert ("After 2 of 5 steps" in result.report) == (seen > 0)

    def test_all_are_looked_at_where_the_first_step_shows_nothing(
        self, make_model: Callable[..., Any], clip: Any
    ) -> None:
        """The rule: a model of zero terminal SNR is not narrowed by its first step."""
        v = make_model(0, comfy.model_base.ModelType.V_PREDICTION)
        (zero,) = ModelSamplingDiscrete().patch(v, "v_prediction", True)
        counting, seen = counted(zero)
        result = pick_noise(counting, clip, replace(REQUEST, candidates=7, rounds=0, after=self.AFTER))
        assert "; 7 candidates were looked at then" in result.report
        assert seen.total == 7 + 7 * (2 * 2 + 1)

    @pytest.mark.parametrize("kind", ["tickets", "arrange"])
    def test_no_rounds_are_judged_by_a_first_step_that_shows_nothing(
        self, make_model: Callable[..., Any], clip: Any, layout: Layout, kind: str
    ) -> None:
        """They cost a look each, and moved noise by what nothing had been seen of."""
        v = make_model(0, comfy.model_base.ModelType.V_PREDICTION)
        (zero,) = ModelSamplingDiscrete().patch(v, "v_prediction", True)
        counting, seen = counted(zero)
        report = self.build(kind, counting, clip, layout, 1).report
        assert seen.total == 7 + 7 * (2 * 2 + 1)
        assert "No rounds were made: the first step of this model" in report
        advice = "means little: set look to after steps, with at least 2 candidates"
        assert advice not in report
        for request in (replace(REQUEST, rounds=1), replace(REQUEST, candidates=1, after=self.AFTER)):
            assert advice in arrange_noise(zero, clip, request).report
        assert advice not in arrange_noise(v, clip, replace(REQUEST, rounds=1)).report

    def test_noises_at_levels_of_their_own_are_read_there(self, model: Any, clip: Any) -> None:
        """Samplers that choose levels reach others with every noise: all were read at the first one's."""
        scorer = Scorer(model, clip, "test", 192, 128, "input 3")
        prompts = scorer.encode(make_prompts(("cat", "tree"), JOINT))
        adaptive = replace(self.AFTER, sampler=comfy.samplers.sampler_object("dpm_adaptive"))
        looking = Looking(scorer, prompts, scorer.grid(), self.steps(scorer, adaptive), 3)
        noise = torch.cat([plain_noise(seed, SHAPE) * scale for seed, scale in ((1, 1.0), (2, 3.0))])
        assert looking.steps and looking.deeper
        _, sigmas, _ = looking.steps.take(noise, 3)
        assert sigmas[0] != sigmas[1]
        together = looking.deeper(noise)
        for one, found in zip(noise, together, strict=True):
            torch.testing.assert_close(looking.deeper(one[None])[0], found)

    def test_what_is_no_whole_run_is_refused(self, model: Any, clip: Any, encode: Any) -> None:
        sampling = model.get_model_object("model_sampling")
        part = comfy.samplers.calculate_sigmas(sampling, "normal", 10)[5:]
        two = [[torch.cat([encode("a cat")[0][0]] * 2), {}]]
        for after, why in (
            (AfterSteps(sigmas=part), "sigmas begin at .*, the model's noise at 14.6: .* not split"),
            (AfterSteps(positive=two), "positive holds a batch of prompts"),
            (AfterSteps(sigmas=torch.tensor([14.0, 0.0])), "at least 2 steps, but this one has 1"),
            (AfterSteps(sigmas=torch.tensor([])), "at least 2 steps, but this one has 0"),
        ):
            with pytest.raises(ProbeError, match=f"Pick Best Noise: .*{why}"):
                pick_noise(model, clip, replace(REQUEST, after=after))
        with pytest.raises(ProbeError, match="steps is 1; at least 2 are needed"):
            AfterSteps(steps=1)
        with pytest.raises(ProbeError, match="cfg is nan; a finite number is needed"):
            AfterSteps(cfg=float("nan"))
        with pytest.raises(ProbeError, match="after_percent is nan; a finite number is needed"):
            AfterSteps(float("nan"))

    def test_progress_follows_the_steps(self, model: Any, clip: Any, monkeypatch: Any) -> None:
        """The bar stood still for the whole of a deeper look."""
        scorer = Scorer(model, clip, "test", 192, 128, "input 3")
        prompts = scorer.encode(make_prompts(("cat", "tree"), JOINT))
        looking = Looking(scorer, prompts, scorer.grid(), self.steps(scorer, self.AFTER), 3)
        shown: list[float] = []
        monkeypatch.setattr(
            comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *more, **named: shown.append(value / total)
        )
        monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0)
        looking.announce(1, 3, 0)
        noise = torch.cat([plain_noise(seed, SHAPE) for seed in range(3)])
        looking.first(noise)
        assert looking.deeper and len(shown) == 1
        looking.deeper(noise[:2])
        assert len(shown) == 1 + 2 + 1 and shown == sorted(shown) and shown[-1] == 1

    def test_a_whole_run_may_begin_below_the_highest_level(
        self, make_model: Callable[..., Any], clip: Any
    ) -> None:
        """The levels of ddim_uniform were refused where the highest one stands alone (zero terminal SNR)."""
        v = make_model(0, comfy.model_base.ModelType.V_PREDICTION)
        (zero,) = ModelSamplingDiscrete().patch(v, "v_prediction", True)
        for model, steps in ((zero, 4), (zero, 20), (v, 4)):
            sampling = model.get_model_object("model_sampling")
            sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", steps)
            assert float(sigmas[0]) < 0.5 * float(sampling.sigma_max)
            after = AfterSteps(sigmas=sigmas)
            assert first_steps(model, clip, "test", SHAPE, "a cat", after).run.steps == len(sigmas) - 1

    def test_what_differs_from_image_to_image_is_refused(
        self, model: Any, clip: Any, encode: Any, control_net: Any
    ) -> None:
        """Candidates were compared under different hints, or a mask did not fit their number."""
        import nodes

        p, n = encode("a cat"), encode("ugly")
        for count in (1, 2):
            masked = nodes.ConditioningSetMask().append(p, torch.ones(count, 128, 192), "default", 1.0)[0]
            hints = torch.ones(count, 128, 192, 3)
            controlled, _ = nodes.ControlNetApplyAdvanced().apply_controlnet(
                p, n, control_net, hints, 1.0, 0.0, 1.0
            )
            for positive, what in ((masked, "masks"), (controlled, "ControlNet images")):
                request = replace(REQUEST, rounds=0, after=replace(self.AFTER, positive=positive))
                if count == 1:
                    assert "After 2 of 5 steps" in pick_noise(model, clip, request).report
                    continue
                with pytest.raises(ProbeError, match=f"Pick Best Noise: positive holds a batch of {what}:"):
                    pick_noise(model, clip, request)

    def test_it_is_refused_before_a_layer_is_looked_for(self, model: Any, clip: Any) -> None:
        """The rule: what cannot work says so before anything is paid for."""
        counting, seen = counted(model)
        after = AfterSteps(sigmas=torch.tensor([14.0, 0.0]))
        with pytest.raises(ProbeError, match="at least 2 steps"):
            pick_noise(counting, clip, replace(REQUEST, layer="auto", after=after))
        assert not seen

    def test_the_picture_is_of_the_look_that_chose(self, model: Any, clip: Any) -> None:
        """A first step that shows nothing was drawn as if it had decided."""
        scorer = Scorer(model, clip, "test", 192, 128, "input 3")
        prompts = scorer.encode(make_prompts(("cat", "tree"), JOINT))
        looking = Looking(scorer, prompts, scorer.grid(), self.steps(scorer, self.AFTER), 3)
        groups = by_category(REGIONS, assign_cells(REGIONS, *scorer.grid().exact))
        searching = searched_swaps(lambda index: groups, SHAPE, looking, 4, 0)
        noise = searching(3, 0)
        (found,) = searching.found.values()
        assert looking.deeper
        torch.testing.assert_close(found.scores, paper_score(looking.deeper(noise[None]))[0])
        assert fit(found.scores[None], groups)[0] == pytest.approx(found.deep.taken)

    def test_a_controlnet_of_the_connected_prompt_takes_part(
        self, model: Any, clip: Any, encode: Callable[[str], Any], control_net: Any
    ) -> None:
        """The rule: the steps are those of the run, with all that its conditioning holds."""
        import nodes

        scorer = Scorer(model, clip, "test", 192, 128, "input 3")
        image = torch.rand(1, 128, 192, 3, generator=torch.Generator().manual_seed(0))
        bare = encode("a cat"), encode("ugly")
        controlled = nodes.ControlNetApplyAdvanced().apply_controlnet(
            *bare, control_net, image, 1.0, 0.0, 1.0
        )
        found = []
        for positive, negative in (bare, controlled):
            after = replace(self.AFTER, positive=positive, negative=negative)
            steps = self.steps(scorer, after)
            latents, _, _ = steps.take(plain_noise(3, SHAPE), 3)
            levels = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 5)
            kept: list[torch.Tensor] = []
            comfy.sample.sample_custom(
                *(model, plain_noise(3, SHAPE), 4.0, comfy.samplers.sampler_object("euler"), levels),
                *(positive, negative, torch.zeros(1, *SHAPE)),
                callback=lambda step, denoised, x, steps, kept=kept: kept.append(x.clone()),
                disable_pbar=True,
                seed=3,
            )
            expected = model.get_model_object("latent_format").process_out(kept[2])
            torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-3)
            found.append(latents)
        assert not torch.allclose(*found, rtol=1e-3, atol=1e-3)

    def test_where_memory_runs_out_fewer_take_the_steps_at_once(self, model: Any, clip: Any) -> None:
        """The rule: nothing is lost when memory is short, and the noises become the same."""
        scorer = Scorer(model, clip, "test", 192, 128, "input 3")
        noise = torch.cat([plain_noise(seed, SHAPE) for seed in range(5)])
        expected, _, each = self.steps(scorer, self.AFTER).take(noise, 3)
        rows: list[int] = []

        def small(executor: Any, x: torch.Tensor, *more: Any, **named: Any) -> Any:
            rows.append(len(x))
            if len(x) > 4:
                raise torch.OutOfMemoryError("too much")
            return executor(x, *more, **named)

        crowded = model.clone()
        crowded.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "small", small)
        scorer = Scorer(crowded, clip, "test", 192, 128, "input 3")
        found, sigmas, forwards = self.steps(scorer, self.AFTER).take(noise, 3)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
        assert max(rows) > 4 and len(sigmas) == 5 and forwards == each

    def test_a_cache_of_another_pack_does_not_hide_the_step(self, model: Any, clip: Any) -> None:
        """Where another wrapper answers without asking, a later step was taken for the one that was meant."""
        asked: list[float] = []

        def cache(executor: Any, x: torch.Tensor, timestep: torch.Tensor, *more: Any, **named: Any) -> Any:
            asked.append(float(timestep[0]))
            return executor(x, timestep, *more, **named) if len(asked) % 2 else x

        cached = model.clone()
        cached.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "cache", cache)
        scorer = Scorer(cached, clip, "test", 192, 128, "input 3")
        prompts = scorer.encode(make_prompts(("cat", "tree"), JOINT))
        looking = Looking(scorer, prompts, scorer.grid(), self.steps(scorer, self.AFTER), 3)
        assert looking.steps
        _, (sigma,), _ = looking.steps.take(plain_noise(1, SHAPE), 3)
        assert sigma == pytest.approx(float(looking.steps.run.sigmas[2])) and len(asked) == 2

"""Attention over Steps: it changes no bit, reads what it says, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import pytest
import torch
from cutoff_runs import PROMPT, STEPS, ours, stock
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.guidance.trace import StepsError, Trace, agreement, low_share
from winning_tickets.probe.attention.reader import token_attention
from winning_tickets.probe.attention.tokens import find_phrases
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.watch import last_trace, watched
from winning_tickets.show.trace import shown

SAMPLERS = (
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpmpp_2m",
    "dpmpp_sde",
    "uni_pc",
    "lcm",
    "dpm_adaptive",
)


@pytest.fixture
def watching(model: Any, clip: Any) -> Any:
    """A watched clone of the model."""
    return watched(model, clip, PROMPT, "cat")[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_bit_of_the_picture_changes(
    model: Any, watching: Any, encode: Any, latent: Any, sampler: str
) -> None:
    plain = stock(model, encode, latent, sampler, "normal")
    assert torch.equal(stock(watching, encode, latent, sampler, "normal"), plain)
    trace = last_trace(watching)
    # dpm_adaptive goes its own way.
    assert sampler == "dpm_adaptive" or len(trace.steps) == STEPS
    assert len(trace.sigmas) == len(trace.steps) + 1 and None not in trace.steps


def test_nor_on_other_kinds_of_models(any_model: Any, clip: Any, encode: Any, latent: Any) -> None:
    watching, positive = watched(any_model, clip, PROMPT, "cat")
    plain = stock(any_model, encode, latent, "euler", "normal")
    assert torch.equal(stock(watching, encode, latent, "euler", "normal"), plain)
    assert torch.equal(positive[0][0], encode(PROMPT)[0][0])


def test_nothing_is_left_behind(model: Any, watching: Any, encode: Any, latent: Any) -> None:
    before = {name: str(value) for name, value in model.model_options.items()}
    stock(watching, encode, latent, "euler", "normal")
    assert {name: str(value) for name, value in model.model_options.items()} == before
    assert watching.model_options["transformer_options"].get("patches_replace", {}) == {}
    assert "sampler_post_cfg_function" not in watching.model_options
    assert list(watching.wrappers) == [comfy.patcher_extension.WrappersMP.OUTER_SAMPLE]


def test_an_error_leaves_nothing_either(watching: Any, encode: Any, latent: Any) -> None:
    def fail(args: dict[str, Any]) -> Any:
        raise RuntimeError("stop")

    broken = watching.clone()
    broken.set_model_sampler_post_cfg_function(fail)
    with pytest.raises(RuntimeError, match="stop"):
        stock(broken, encode, latent, "euler", "normal")
    assert "sampler_post_cfg_function" not in watching.model_options
    assert stock(watching, encode, latent, "euler", "normal").isfinite().all()
    assert last_trace(watching).evaluations == STEPS


def test_maps_are_the_attention_of_the_phrases_tokens(
    model: Any, clip: Any, encode: Any, latent: Any
) -> None:
    """Against the layer's own queries and keys, seen by a patch beneath."""
    seen: list[torch.Tensor] = []
    found = find_phrases(clip, PROMPT, ["cat"])
    assert found.length == 154 and found.positions[0][0] > 77

    def spy(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra: dict[str, Any]) -> torch.Tensor:
        from comfy.ldm.modules.attention import optimized_attention

        rows = [i for i, cond in enumerate(extra["cond_or_uncond"]) if cond == 0]
        chunks = len(extra["cond_or_uncond"])
        pair = q.chunk(chunks)[rows[0]], k.chunk(chunks)[rows[0]]
        seen.append(token_attention(*pair, extra["n_heads"], found.positions, found.length))
        return optimized_attention(q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"])

    spied = model.clone()
    spied.set_model_attn2_replace(spy, "middle", 0)
    watching = watched(spied, clip, PROMPT, "cat", "middle 0")[0]
    stock(watching, encode, latent, "euler", "normal")
    maps = last_trace(watching).maps()
    assert maps.shape[:3] == (STEPS, 2, 1)
    assert torch.allclose(maps.flatten(-2), torch.stack(seen), atol=1e-6)


def test_the_run_is_measured_step_by_step(watching: Any, encode: Any, latent: Any) -> None:
    stock(watching, encode, latent, "euler", "normal")
    trace = last_trace(watching)
    model_sampling = watching.get_model_object("model_sampling")
    assert torch.equal(trace.sigmas, comfy.samplers.calculate_sigmas(model_sampling, "normal", STEPS))
    assert trace.guidance().shape == trace.low().shape == (STEPS, 2)
    assert float(trace.guidance().min()) > 0 and 0 < float(trace.low().min()) < 1
    agree = agreement(trace.maps())
    assert agree.shape == (STEPS, 2, 1) and torch.equal(agree[-1], torch.ones(2, 1))


def watched_evaluations(model: Any, encode: Any, latent: Any, sampler: str) -> list[torch.Tensor]:
    """The prediction of each evaluation, seen apart from the watch."""
    seen: list[torch.Tensor] = []

    def predict(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(executor(*args, **kwargs))
        return seen[-1]

    spied = model.clone()
    spied.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, "spy", predict)
    stock(spied, encode, latent, sampler, "normal")
    return seen


def test_second_evaluations_of_a_step_are_not_taken_for_the_next(
    watching: Any, encode: Any, latent: Any
) -> None:
    stock(watching, encode, latent, "heun", "normal")
    trace = last_trace(watching)
    assert trace.evaluations == 2 * STEPS - 1
    # heun looks ahead to the next step's noise level and then begins that step there.
    first = watched_evaluations(watching, encode, latent, "heun")[::2]
    assert torch.equal(trace.low(), torch.stack([low_share(denoised) for denoised in first]))


def test_an_image_is_watched_alike_alone_and_in_a_batch(watching: Any, encode: Any) -> None:
    together = {"samples": torch.zeros(2, 4, 19, 13), "batch_index": [0, 1]}
    stock(watching, encode, together, "euler", "normal")
    both = last_trace(watching)
    stock(watching, encode, {"samples": torch.zeros(1, 4, 19, 13), "batch_index": [0]}, "euler", "normal")
    alone = last_trace(watching)
    assert torch.allclose(both.maps()[:, :1], alone.maps(), atol=1e-5)
    assert torch.allclose(both.guidance()[:, :1], alone.guidance(), atol=1e-4)


@pytest.mark.parametrize("cutoff_first", [True, False])
def test_beside_a_guidance_cutoff(
    model: Any, clip: Any, encode: Any, latent: Any, cutoff_first: bool
) -> None:
    cut = Cutoff(Share(0.5))
    expected, _ = ours(model, encode, latent, "euler", "normal", cut)
    if cutoff_first:
        watching = watched(CutoffPatch(cut, tell=False).attach(model), clip, PROMPT, "cat")[0]
    else:
        watching = CutoffPatch(cut, tell=False).attach(watched(model, clip, PROMPT, "cat")[0])
    assert torch.equal(stock(watching, encode, latent, "euler", "normal"), expected["samples"])
    guidance = last_trace(watching).guidance()
    assert float(guidance[: STEPS // 2].min()) > 0 and float(guidance[STEPS // 2 :].max()) == 0


def test_a_run_with_another_prompt_is_not_ended_but_explained(
    model: Any, clip: Any, encode: Any, latent: Any
) -> None:
    """Rule: what only watches never ends a run; a second pass may have another prompt."""
    watching = watched(model, clip, "a tree", "tree")[0]
    plain = stock(model, encode, latent, "euler", "normal")
    assert torch.equal(stock(watching, encode, latent, "euler", "normal"), plain)
    with pytest.raises(StepsError, match="no prompt of this run is the one .* connect its output positive"):
        last_trace(watching).maps()
    assert float(last_trace(watching).guidance().min()) > 0


def test_a_phrase_that_the_prompt_has_not_is_explained(model: Any, clip: Any) -> None:
    with pytest.raises(ProbeError, match='"dog" is not in the prompt "a cat": use its own words'):
        watched(model, clip, "a cat", "dog")
    with pytest.raises(StepsError, match="phrases is empty: write words of the prompt"):
        watched(model, clip, "a cat", " \n")


def test_a_report_before_any_run_is_explained(model: Any, watching: Any) -> None:
    with pytest.raises(StepsError, match="not sampled with yet: connect the latent"):
        last_trace(watching)
    with pytest.raises(StepsError, match="not watched: connect the model that comes out of Attention over"):
        last_trace(model)


def test_report_shows_the_chosen_steps_and_image(watching: Any, encode: Any, latent: Any) -> None:
    stock(watching, encode, latent, "euler", "normal")
    trace = last_trace(watching)
    seen = shown(trace, "1, 3 6", 2, latent["samples"].shape[-2:])
    assert seen.masks.shape == (1, 152, 104) and float(seen.masks.max()) == 1
    table, meaning = seen.report.splitlines()[:4], seen.report.splitlines()[4:]
    assert [line.split()[0] for line in table] == ["step", "1", "3", "6"]
    assert [line.split()[0] for line in meaning] == ["After", "Agreement"]
    pictured = shown(trace, "", 1, latent["samples"].shape[-2:], torch.rand(2, 32, 48, 3))
    assert pictured.masks.shape == (1, 32, 48) and pictured.picture.shape[-1] == 3
    with pytest.raises(StepsError, match="steps has 7, but this run has the steps 1 to 6"):
        shown(trace, "7", 1, (19, 13))
    for wrong in (3, 0):
        with pytest.raises(StepsError, match=f"number is {wrong}, but the run has images 1 to 2"):
            shown(trace, "", wrong, (19, 13))


@pytest.mark.parametrize("name", ["L", "H", "L and G"])
def test_phrases_are_found_in_long_weighted_and_repeated_prompts(
    make_clip: Callable[[str], Any], name: str
) -> None:
    clip = make_clip(name)
    weighted = find_phrases(clip, "a (fire hydrant:1.4) and a Cat, a [fire] (cat)", ["fire hydrant", "cat"])
    assert weighted.positions == ((2, 3, 4), (7, 13))
    long = find_phrases(clip, "very " * 80 + "big fire hydrant", ["fire hydrant"])
    assert long.length == 154 and long.positions == ((77 + 7, 77 + 8, 77 + 9),)


def test_maps_of_a_long_prompt_are_read(model: Any, clip: Any, encode: Any, latent: Any) -> None:
    prompt = "very " * 80 + "big cat"
    watching, positive = watched(model, clip, prompt, "cat")
    noise = comfy.sample.prepare_noise(latent["samples"], 3)
    comfy.sample.sample(
        watching, noise, 3, 5.0, "euler", "normal", positive, encode(""), latent["samples"], disable_pbar=True
    )
    trace: Trace = last_trace(watching)
    assert float(trace.maps().std()) > 0


def test_a_compiled_model_is_watched_too(model: Any, clip: Any, encode: Any, latent: Any) -> None:
    """As TorchCompileModel does it; the backend runs the graph as it is."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    compiled = model.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    watching = watched(compiled, clip, PROMPT, "cat")[0]
    plain = stock(model, encode, latent, "euler", "normal")
    assert torch.equal(stock(watching, encode, latent, "euler", "normal"), plain)
    assert float(last_trace(watching).maps().std()) > 0


def test_tickets_are_collected_on_a_watched_model(model: Any, watching: Any, clip: Any) -> None:
    """The watch looked for its own prompt in the collecting run, and refused it."""
    request = CollectRequest(("dog", "tree"), 2, 5, 64, 96, "input 3")
    assert torch.equal(collect(watching, clip, request).attention, collect(model, clip, request).attention)

"""Judging images by the MODEL that drew them, with ComfyUI's real sampling."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sample
import numpy as np
import other_patches
import pytest
import torch
from forwards import counted
from winning_tickets.probe.judge import APART, ModelJudge, noise_levels, sigma_of
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.tickets.prompts import JOINT, Prompt, make_prompts

sys.path.append(str(Path(__file__).parent.parent.parent / "demo"))
PROMPT = make_prompts(("cat", "tree"), JOINT)[0]
THREE = make_prompts(("cat", "tree", "owl"), JOINT)[0]
SHAPE = (4, 19, 13)
WIDTH, HEIGHT = 8 * 13, 8 * 19


def judge_of(model: Any, clip: Any) -> ModelJudge:
    return ModelJudge(model, clip, "test", WIDTH, HEIGHT)


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3)) * 3


def evidence(judge: ModelJudge, latents: torch.Tensor, prompt: Prompt = PROMPT) -> np.ndarray:
    """Change and gain [2, images, categories, h, w]."""
    return np.stack([np.stack(both) for both in judge.evidence([prompt] * len(latents), latents, 7)], 1)


def test_every_family_is_judged(any_model: Any, clip: Any, latents: torch.Tensor) -> None:
    judge = judge_of(any_model, clip)
    findings = judge.find([PROMPT], latents, 7)
    assert [len(f) for f in findings] == [2, 2]
    assert all(f.mask.shape == SHAPE[1:] and 0 <= f.confidence <= 1 for image in findings for f in image)
    change, gain = evidence(judge, latents)
    assert (change >= 0).all() and change.any() and np.isfinite(gain).all()


def test_sdxl_with_its_sizes_is_judged(
    sdxl: Any, make_clip: Callable[..., Any], latents: torch.Tensor
) -> None:
    judge = ModelJudge(sdxl, make_clip("L and G"), "test", WIDTH, HEIGHT)
    assert len(judge.find([PROMPT], latents, 7)) == 2


def test_the_forwards_are_those_that_are_promised(model: Any, clip: Any, latents: torch.Tensor) -> None:
    spied, forwards = counted(model)
    judge = judge_of(spied, clip)
    seen: list[int] = []
    judge.find([PROMPT], latents, 7, seen.append)
    assert sum(forwards.rows) == judge.nfe(2) * 2 == sum(seen)


def test_the_encodings_of_long_trials_do_not_pile_up(model: Any, clip: Any, latents: torch.Tensor) -> None:
    """The encoding of every text was kept for the whole run."""
    many, few = judge_of(model, clip), judge_of(model, clip)
    few._encoded.most = 2
    for prompt in (PROMPT, THREE):
        assert np.array_equal(evidence(many, latents, prompt), evidence(few, latents, prompt))
    assert len(few._encoded) == 2 and len(many._encoded) == 6 < many._encoded.most


@torch.no_grad()
def test_the_evidence_is_of_the_models_own_predictions(
    any_model: Any, clip: Any, latents: torch.Tensor
) -> None:
    """Against the formula, with the model run by hand; with other noise than an image of that seed has."""
    judge = judge_of(any_model, clip)
    comfy.model_management.load_models_gpu([any_model])
    base = any_model.model
    change, gain = (torch.zeros(2, *SHAPE[1:]) for _ in range(2))
    clean = base.process_latent_in(latents)
    for number, (sigma, weight) in enumerate(judge.levels):
        noise = comfy.sample.prepare_noise(latents[:1], 7 ^ APART) * (-1) ** number
        at = torch.full((2,), sigma)
        predictions = [
            base.apply_model(
                clean + sigma * noise,
                at,
                c_crossattn=clip.encode_from_tokens(clip.tokenize(text)).repeat(2, 1, 1),
                transformer_options={},
            )
            for text in ("a cat and a tree", "a tree")
        ]
        full, part = predictions
        change += weight * (full - part).square().sum(1)
        gain += weight * ((clean - part).square() - (clean - full).square()).sum(1)
    assert not torch.equal(noise.abs(), comfy.sample.prepare_noise(latents[:1], 7).abs())
    found = evidence(judge, latents)
    np.testing.assert_allclose(found[0][:, 0], change, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1][:, 0], gain, rtol=1e-3, atol=1e-3)


def test_an_image_is_judged_alone_as_in_a_batch(model: Any, clip: Any, latents: torch.Tensor) -> None:
    judge = judge_of(model, clip)
    together = evidence(judge, latents)
    for i in range(2):
        np.testing.assert_allclose(
            evidence(judge, latents[i : i + 1])[:, 0], together[:, i], rtol=1e-4, atol=1e-4
        )


def test_images_of_several_prompts_are_judged_side_by_side(
    model: Any, clip: Any, latents: torch.Tensor
) -> None:
    """Longer ones, too, whose texts are not of one length."""
    spied, forwards = counted(model)
    judge = judge_of(spied, clip)
    mixed = list(judge.evidence([PROMPT, THREE], latents, 7))
    assert [len(change) for change, _ in mixed] == [2, 3] and forwards.rows == [7] * len(judge.levels)
    long = make_prompts(("cat", "tree"), JOINT, "in a country far away, " * 14 + "{}")[0]
    for other in (THREE, long):
        mixed = list(judge.evidence([PROMPT, other], latents, 7))
        for i, prompt in enumerate((PROMPT, other)):
            alone = evidence(judge, latents[i : i + 1], prompt)[:, 0]
            np.testing.assert_allclose(np.stack(mixed[i]), alone, rtol=1e-4, atol=1e-4)


def test_nothing_is_left_behind(model: Any, clip: Any, latents: torch.Tensor) -> None:
    """Neither on the MODEL nor in torch's random numbers, nor in the latents."""
    options, state, before = str(model.model_options), torch.get_rng_state(), latents.clone()
    judge_of(model, clip).find([PROMPT], latents, 7)
    assert str(model.model_options) == options and not model.wrappers.get("outer_sample")
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(latents, before)


def test_a_cancel_ends_it_between_two_forwards(model: Any, clip: Any, latents: torch.Tensor) -> None:
    spied, forwards = counted(model)
    interrupt = comfy.model_management.interrupt_current_processing
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        judge_of(spied, clip).find([PROMPT], latents, 7, lambda rows: interrupt(True))
    interrupt(False)
    assert forwards.rows == [6]


def test_memory_that_runs_out_makes_the_batches_smaller(model: Any, clip: Any, latents: torch.Tensor) -> None:
    expected = evidence(judge_of(model, clip), latents)

    def scarce(executor: Any, x: torch.Tensor, *args: Any, **more: Any) -> Any:
        if len(x) > 1:
            raise comfy.model_management.OOM_EXCEPTION("out of memory")
        return executor(x, *args, **more)

    clone = model.clone()
    clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "scarce", scarce)
    judge = judge_of(clone, clip)
    np.testing.assert_allclose(evidence(judge, latents), expected, rtol=1e-4, atol=1e-4)
    assert judge.rows.count == 1


@pytest.mark.parametrize("patch", other_patches.HARMLESS.values(), ids=other_patches.HARMLESS)
def test_other_patches_act_on_every_text_alike(
    patch: Callable[[Any], Any], model: Any, clip: Any, latents: torch.Tensor
) -> None:
    """The rule: an image is judged alone as in a batch, by the patched model."""
    judge = judge_of(patch(model), clip)
    together = evidence(judge, latents)
    np.testing.assert_allclose(evidence(judge, latents[1:])[:, 0], together[:, 1], rtol=1e-4, atol=1e-4)


def test_a_prompt_without_categories_has_no_findings(model: Any, clip: Any, latents: torch.Tensor) -> None:
    assert judge_of(model, clip).find([Prompt("a landscape", ()), PROMPT], latents, 7)[0] == []


def test_what_no_word_changes_is_refused(model: Any, clip: Any, latents: torch.Tensor) -> None:
    with pytest.raises(ProbeError, match=r"test: the prompt makes no difference .* \(no_forward may be why"):
        judge_of(other_patches.no_forward(model), clip).find([PROMPT], latents, 7)


def test_latents_that_are_not_the_models_are_refused(model: Any, clip: Any, latents: torch.Tensor) -> None:
    judge = judge_of(model, clip)
    with pytest.raises(ProbeError, match=r"test: the latents are \(2, 4, 13, 19\) .* instead of .*4, 19, 13"):
        judge.find([PROMPT], latents.transpose(2, 3), 7)
    with pytest.raises(ProbeError, match="test: the latents contain NaN"):
        judge.find([PROMPT], latents / 0, 7)
    with pytest.raises(ProbeError, match="3 prompts for 2 images"):
        judge.find([PROMPT] * 3, latents, 7)
    with pytest.raises(ProbeError, match="clip is empty"):
        judge_of(model, None)


def test_the_noise_is_as_loud_in_every_kind_of_sampling(any_model: Any) -> None:
    """Flow models count sigma otherwise: there a share of 0.75 is noise three times as loud as the signal."""
    sampling = any_model.get_model_object("model_sampling")
    assert sigma_of(sampling, 3.0) == pytest.approx(3, rel=1e-4)

    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    assert sigma_of(Flow(), 3.0) == pytest.approx(0.75, rel=1e-4)
    assert [w for _, w in noise_levels(Flow())] == [w for _, w in noise_levels(sampling)]


def test_the_order_of_images_and_of_categories_does_not_count(
    model: Any, clip: Any, latents: torch.Tensor
) -> None:
    judge = judge_of(model, clip)
    one, other = list(judge.evidence([PROMPT, THREE], latents, 7))
    back = list(judge.evidence([THREE, PROMPT], latents.flip(0), 7))
    np.testing.assert_allclose(np.stack(back[0]), np.stack(other), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.stack(back[1]), np.stack(one), rtol=1e-4, atol=1e-4)
    turned = Prompt(PROMPT.text, PROMPT.phrases[::-1])
    np.testing.assert_allclose(
        evidence(judge, latents, turned)[:, :, ::-1], evidence(judge, latents), rtol=1e-4, atol=1e-4
    )


def test_a_run_after_a_judgement_is_the_run_without(
    model: Any, clip: Any, latents: torch.Tensor, encode: Callable[[str], Any]
) -> None:
    def drawn() -> torch.Tensor:
        options = (
            3,
            5.0,
            "euler_ancestral",
            "normal",
            encode("a cat"),
            encode(""),
            torch.zeros_like(latents),
        )
        return comfy.sample.sample(model, latents, *options, disable_pbar=True, seed=4)

    before = drawn()
    judge_of(model, clip).find([PROMPT], latents, 7)
    assert torch.equal(drawn(), before)


def test_caches_that_skip_steps_skip_none_here(model: Any, clip: Any, latents: torch.Tensor) -> None:
    """Core's EasyCache and LazyCache, at their most careless."""
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    expected = evidence(judge_of(model, clip), latents)
    for node in (EasyCacheNode, LazyCacheNode):
        (cached,) = node.execute(model, 3.0, 0.0, 1.0, False).args
        np.testing.assert_allclose(evidence(judge_of(cached, clip), latents), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model, steps, most", [("", 8, 0), ("transformer", 16, 2), ("crossing", 16, 2)])
def test_the_demo_models_find_what_they_have_drawn(model: str, steps: int, most: int) -> None:
    """The rules hold where there is something to see: the same verdicts as the trained judge, of six at
    most so many others (benchmarks/judging.py says how often).
    """
    demo, scenes, verdict, trained = (
        importlib.import_module(n) for n in ("model", "scenes", "verdict", "judge")
    )
    pairs = [("castle", "tree"), ("sun", "car"), ("fish", "flower")]
    parts = demo.load(demo.weights(model))
    prompts = [make_prompts(pair, JOINT)[0] for pair in pairs]
    encoded = [parts.clip.encode_from_tokens(parts.clip.tokenize(p.text), True) for p in prompts]
    texts, pooled = map(torch.cat, zip(*encoded, strict=True))
    empty = parts.clip.encode_from_tokens_scheduled(parts.clip.tokenize(""))
    blank = comfy.sample.fix_empty_latent_channels(parts.model, torch.zeros(3, 4, 32, 32))
    noise = comfy.sample.prepare_noise(blank, 11)
    conds = [[texts, {"pooled_output": pooled}]], empty
    options = (steps, 5.0, "euler", "normal", *conds, blank)
    drawn = comfy.sample.sample(parts.model, noise, *options, disable_pbar=True, seed=0)
    judge = ModelJudge(parts.model, parts.clip, "test", 256, 256)
    maps = verdict.classes_of(trained.load_judge(), drawn.view(3, 4, 32, 32) * demo.LATENT_SCALE)
    overlaps: list[float] = []
    others = 0
    for pair, classes, findings in zip(pairs, maps, judge.find(prompts, drawn, 7), strict=True):
        for name, found in zip(pair, findings, strict=True):
            truth = verdict.find(classes, scenes.NAMES.index(name) + 1)
            others += found.present != truth.present
            if truth.present and found.present:
                others += np.hypot(*np.subtract(found.centre(), truth.centre())) >= 0.1
                overlaps.append((found.mask & truth.mask).sum() / (found.mask | truth.mask).sum())
    assert others <= most and len(overlaps) > 3 and np.mean(overlaps) > 0.5
    more = [
        make_prompts((*pair, name), JOINT)[0]
        for pair, name in zip(pairs, ("cat", "flower", "tree"), strict=True)
    ]
    assert [findings[2].present for findings in judge.find(more, drawn, 7)] == [False] * 3

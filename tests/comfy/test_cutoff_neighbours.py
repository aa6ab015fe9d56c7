"""The cutoff with other patches, guiders and conditionings of core in the same graph, found out by running.

What the help page's table says of each is what is asserted here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import comfy.hooks
import comfy.patcher_extension
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch
from cutoff_runs import NEGATIVE, PROMPT, STEPS
from forwards import Forwards
from winning_tickets.guidance.cutoff import CONDITIONAL, UNCONDITIONAL, Cutoff, Final, Share, Similar
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.tail import empty_conds


def run(model: Any, positive: Any, negative: Any, size: tuple[int, int] = (19, 13)) -> torch.Tensor:
    latent = torch.zeros(2, 4, *size)
    noise = comfy.sample.prepare_noise(latent, 3)
    return comfy.sample.sample(
        model, noise, STEPS, 5.0, "euler", "simple", positive, negative, latent, disable_pbar=True, seed=3
    )


def core(module: str, node: str, model: Any, *settings: Any, **named: Any) -> Any:
    """What a node of ComfyUI's own makes of MODEL."""
    found = getattr(importlib.import_module(f"comfy_extras.{module}"), node)
    if hasattr(found, "FUNCTION"):
        return getattr(found(), found.FUNCTION)(model, *settings, **named)[0]
    return found.execute(model, *settings, **named).result[0]


# Each: how it is made, and what the report says of it. Rows after the cut are asserted below.
PATCHES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "RescaleCFG": (lambda m, e: core("nodes_model_advanced", "RescaleCFG", m, 0.7), "RescaleCFG"),
    "APG": (lambda m, e: core("nodes_apg", "APG", m, 1.0, 5.0, 0.0), "APG"),
    "TCFG": (lambda m, e: core("nodes_tcfg", "TCFG", m), "TCFG"),
    "PAG": (
        lambda m, e: core("nodes_pag", "PerturbedAttentionGuidance", m, 3.0),
        "PerturbedAttentionGuidance",
    ),
    "SAG": (lambda m, e: core("nodes_sag", "SelfAttentionGuidance", m, 0.5, 2.0), "SelfAttentionGuidance"),
    "Mahiro": (lambda m, e: core("nodes_mahiro", "Mahiro", m), "Mahiro"),
    "CFGZeroStar": (lambda m, e: core("nodes_cfg", "CFGZeroStar", m), "CFGZeroStar"),
    "FreSca": (lambda m, e: core("nodes_fresca", "FreSca", m, 1.0, 1.25, 20), "FreSca"),
    "NAG": (lambda m, e: core("nodes_nag", "NAGuidance", m, 5.0, 0.5, 1.5), ""),
    "FreeU": (lambda m, e: core("nodes_freelunch", "FreeU_V2", m, 1.3, 1.4, 0.9, 0.2), ""),
    "ToMe": (lambda m, e: core("nodes_tomesd", "TomePatchModel", m, 0.3), ""),
    "HyperTile": (lambda m, e: core("nodes_hypertile", "HyperTile", m, 64, 2, 0, False), ""),
    "EasyCache": (lambda m, e: core("nodes_easycache", "EasyCacheNode", m, 0.0, 0.15, 0.95, False), ""),
    "LazyCache": (lambda m, e: core("nodes_easycache", "LazyCacheNode", m, 0.0, 0.15, 0.95, False), ""),
    "CFGOverride": (lambda m, e: core("nodes_custom_sampler", "CFGOverride", m, 3.0, 0.0, 1.0), ""),
}


@pytest.mark.parametrize("order", ["patch first", "cutoff first"])
@pytest.mark.parametrize("tail", [CONDITIONAL, UNCONDITIONAL])
@pytest.mark.parametrize("name", PATCHES)
def test_one_forward_after_the_cut_beside(spied: Any, encode: Any, name: str, tail: str, order: str) -> None:
    make, says = PATCHES[name]
    model, seen = spied
    patch = CutoffPatch(Cutoff(Share(0.5), tail, encode("")))
    conds = encode(PROMPT), encode(NEGATIVE)
    whole = run(make(model, encode), *conds)
    before = seen.rows
    seen.clear()
    first = order == "patch first"
    both = patch.attach(make(model, encode)) if first else make(patch.attach(model), encode)
    result = run(both, *conds)
    assert torch.isfinite(result).all() and not torch.equal(result, whole)
    per_step = sum(before) // STEPS
    assert seen.total == per_step * STEPS // 2 + 2 * STEPS // 2, (before, seen.rows)
    assert seen.rows[-STEPS // 2 :] == [2] * (STEPS // 2)
    report = str(patch.run)
    assert ("Off in unguided steps" in report) == bool(says) and says in report, report


@pytest.mark.parametrize("name", [n for n in PATCHES if not n.endswith("Cache")])
def test_the_unguided_steps_are_those_without_that_patch(model: Any, encode: Any, name: str) -> None:
    """What combines two predictions is off after the cut; what changes the UNet itself stays on."""
    make, says = PATCHES[name]
    asked = Cutoff(Share(0.0))
    # HyperTile finds no tiles in odd sizes.
    size = (16, 16) if name == "HyperTile" else (19, 13)
    conds = encode(PROMPT), encode(NEGATIVE), size
    with_patch = run(CutoffPatch(asked).attach(make(model, encode)), *conds)
    without = run(CutoffPatch(asked).attach(model), *conds)
    stays = name in ("FreeU", "ToMe", "HyperTile")
    assert torch.equal(with_patch, without) != stays


@pytest.mark.parametrize("name", ["EasyCacheNode", "LazyCacheNode"])
def test_forwards_that_a_cache_skips_are_not_counted(model: Any, encode: Any, name: str) -> None:
    rows: list[int] = []
    first = model.model.diffusion_model.input_blocks[0][0]
    first.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    patch = CutoffPatch(Cutoff(Share(0.5)))
    # The cutoff lies nearer to the model than the cache, and still counts what the model really does.
    cached = core("nodes_easycache", name, patch.attach(model), 1e6, 0.0, 1.0, False)
    run(cached, encode(PROMPT), encode(NEGATIVE))
    assert patch.run.nfe == sum(rows) / 2 < STEPS * 1.5


@pytest.mark.parametrize(("tail", "slot"), [(CONDITIONAL, 0), (UNCONDITIONAL, 1)])
def test_attention_patches_are_told_which_prompt_runs(model: Any, encode: Any, tail: str, slot: int) -> None:
    """IPAdapter and its like choose what to add by cond_or_uncond."""
    seen = []

    def replace(q: Any, k: Any, v: Any, extra_options: dict[str, Any]) -> torch.Tensor:
        seen.append((list(extra_options["cond_or_uncond"]), len(q)))
        return q

    clone = model.clone()
    clone.set_model_attn2_replace(replace, "input", 1)
    run(CutoffPatch(Cutoff(Share(0.5), tail, encode(""))).attach(clone), encode(PROMPT), encode(NEGATIVE))
    assert [which for which, _ in seen[-STEPS // 2 :]] == [[slot]] * (STEPS // 2)
    assert all(sorted(which) == [0, 1] and rows == 4 for which, rows in seen[: STEPS // 2])


def set_area(cond: Any, *area: int) -> Any:
    return [
        [text, {**rest, "area": area, "strength": 1.0, "set_area_to_bounds": False}] for text, rest in cond
    ]


def set_mask(cond: Any, mask: torch.Tensor) -> Any:
    return [
        [text, {**rest, "mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False}]
        for text, rest in cond
    ]


class TestConditionings:
    """Areas, masks, ControlNets and LoRA schedules stay what they are after the cut."""

    def rows(self, spied: Any, positive: Any, negative: Any, tail: str, empty: Any) -> tuple[Forwards, str]:
        model, seen = spied
        seen.clear()
        patch = CutoffPatch(Cutoff(Share(0.5), tail, empty))
        assert torch.isfinite(run(patch.attach(model), positive, negative)).all()
        return seen, str(patch.run)

    def test_masks_take_a_forward_for_every_prompt_and_areas_too(self, spied: Any, encode: Any) -> None:
        """A composition of two prompts is two predictions; without guidance it is not four."""
        left = torch.zeros(1, 152, 104)
        left[..., :52] = 1
        masked = set_mask(encode(PROMPT), left) + set_mask(encode("a tree"), 1 - left)
        areas = encode(PROMPT) + set_area(encode("a tree"), 8, 8, 4, 4)
        for positive in (masked, areas):
            model, seen = spied
            seen.clear()
            patch = CutoffPatch(Cutoff(Share(0.5)))
            run(patch.attach(model), positive, encode(NEGATIVE))
            unguided, guided = (sum(e.rows for e in patch.run.of(kind)) for kind in (False, True))
            assert unguided == 2 * 2 * 3 and guided > unguided
            assert seen.total == guided + unguided and "instead of" not in str(patch.run)

    def test_negatives_areas_are_the_empty_prompts_too(self, model: Any, encode: Any) -> None:
        control, hooks = object(), object()
        negative = [
            [
                encode(NEGATIVE)[0][0],
                {"control": control, "area": (8, 8, 0, 0), "start_percent": 0.0, "end_percent": 0.5},
            ],
            [
                encode("ugly")[0][0],
                {"control": control, "area": (8, 8, 0, 0), "start_percent": 0.5, "end_percent": 1.0},
            ],
            [encode("dark")[0][0], {"hooks": hooks}],
        ]
        converted = comfy.sampler_helpers.convert_cond(negative)
        found = empty_conds(encode(""), converted)
        assert [(e.get("control"), e.get("hooks")) for e in found] == [(control, None), (None, hooks)]
        assert all(torch.equal(e["cross_attn"], encode("")[0][0]) for e in found)
        assert not any("start_percent" in e for e in found)
        assert len({e["uuid"] for e in found + converted}) == 5

    def test_a_lora_that_a_hook_adds(self, spied: Any, encode: Any) -> None:
        model, _ = spied
        name = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_v"
        out, into = (
            model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn2.to_v.weight.shape
        )
        torch.manual_seed(0)
        lora = {
            f"{name}.lora_up.weight": torch.randn(out, 4),
            f"{name}.lora_down.weight": torch.randn(4, into),
        }
        hooks = comfy.hooks.create_hook_lora(lora, 1.0, 1.0)
        hooked = [comfy.hooks.set_hooks_for_conditioning(encode(t), hooks) for t in (PROMPT, NEGATIVE)]
        for tail, empty in ((CONDITIONAL, None), (UNCONDITIONAL, None), (UNCONDITIONAL, encode(""))):
            for guided in (0.0, 0.5):
                patch = CutoffPatch(Cutoff(Share(guided), tail, empty))
                with_lora = run(patch.attach(model), *hooked)
                without = run(patch.attach(model), encode(PROMPT), encode(NEGATIVE))
                assert torch.isfinite(with_lora).all()
                assert not torch.allclose(with_lora, without, atol=1e-3), (tail, empty is None, guided)
                assert patch.run.nfe == STEPS * (1 + guided)
        seen, report = self.rows(spied, *hooked, CONDITIONAL, None)
        assert "instead of" not in report


class TestControlNet:
    @pytest.mark.parametrize("way", ["advanced", "old"])
    @pytest.mark.parametrize("tail", [CONDITIONAL, UNCONDITIONAL])
    def test_stays_after_the_cut(
        self, spied: Any, encode: Any, control_net: Any, way: str, tail: str
    ) -> None:
        import nodes

        model, seen = spied
        torch.manual_seed(1)
        image = torch.rand(1, 152, 104, 3)
        conds = encode(PROMPT), encode(NEGATIVE)
        if way == "advanced":
            controlled = nodes.ControlNetApplyAdvanced().apply_controlnet(
                *conds, control_net, image, 1.0, 0.0, 1.0
            )
        else:
            controlled = (
                nodes.ControlNetApply().apply_controlnet(conds[0], control_net, image, 1.0)[0],
                conds[1],
            )
        for empty in (encode(""), None):
            patch = CutoffPatch(Cutoff(Share(0.0), tail, empty))
            seen.clear()
            found = run(patch.attach(model), *controlled)
            assert seen.rows == [2] * STEPS
            alone = run(patch.attach(model), *conds)
            assert torch.isfinite(found).all() and not torch.allclose(found, alone, atol=1e-3)


class TestGuiders:
    def sampled(self, guider: Any) -> torch.Tensor:
        noise = comfy.sample.prepare_noise(torch.zeros(2, 4, 19, 13), 3)
        sigmas = comfy.samplers.calculate_sigmas(
            guider.model_patcher.get_model_object("model_sampling"), "simple", STEPS
        )
        return guider.sample(
            noise, 0 * noise, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=3
        )

    def make(self, name: str, model: Any, encode: Any) -> Any:
        from comfy_extras import nodes_custom_sampler as custom
        from comfy_extras import nodes_perpneg as perpneg

        one, two, three, empty = map(encode, (PROMPT, NEGATIVE, "a tree", ""))
        made = {
            "Basic": lambda: custom.BasicGuider.execute(model, one),
            "CFG": lambda: custom.CFGGuider.execute(model, one, two, 5.0),
            "DualCFG": lambda: custom.DualCFGGuider.execute(
                model, one, encode("a tree"), two, 5.0, 3.0, "regular"
            ),
            "DualModel": lambda: custom.DualModelGuider.execute(
                model, one, model_negative=model, negative=two, cfg=5.0
            ),
            "PerpNeg": lambda: perpneg.PerpNegGuider.execute(model, one, two, empty, 5.0, 1.0),
        }
        return made[name]().result[0]

    @pytest.mark.parametrize(
        ("name", "guided"), [("CFG", 2), ("DualCFG", 3), ("DualModel", 2), ("PerpNeg", 3), ("Basic", 1)]
    )
    def test_of_core_go_on_with_the_positive_prompt(
        self, spied: Any, encode: Any, name: str, guided: int
    ) -> None:
        model, seen = spied
        patch = CutoffPatch(Cutoff(Share(0.5)))
        self.sampled(self.make(name, patch.attach(model), encode))
        assert seen.total == 2 * (3 * guided + 3)
        assert seen.rows[-3:] == [2, 2, 2]
        assert f"a stock run takes {6 * guided}:" in str(patch.run)
        assert ("nothing to save" in str(patch.run)) == (guided == 1)
        never = CutoffPatch(Cutoff(Share(0.0)))
        self.sampled(self.make(name, never.attach(model), encode))
        known = name in ("Basic", "CFG")
        takes = f"{6 * guided}" if known else f"about {6 * guided} at most"
        assert f"6 NFE for 6 steps, 0 of them guided; a stock run takes {takes}:" in str(never.run)

    def test_perpneg_has_an_empty_prompt_of_its_own(self, spied: Any, encode: Any) -> None:
        model, _ = spied
        patch = CutoffPatch(Cutoff(Share(0.0), UNCONDITIONAL))
        found = self.sampled(self.make("PerpNeg", patch.attach(model), encode))
        expected = self.sampled(self.make("Basic", model, lambda text: encode("")))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_adaptive_tells_when_a_guider_hides_its_predictions(self, model: Any, encode: Any) -> None:
        patch = CutoffPatch(Cutoff(Similar(-1.0)))
        self.sampled(self.make("DualCFG", patch.attach(model), encode))
        assert "does not show both predictions" in str(patch.run)

    def test_a_guider_without_a_positive_is_left_alone(self, model: Any, encode: Any) -> None:
        class Own(comfy.samplers.CFGGuider):
            def predict_noise(
                self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None
            ) -> Any:
                conds = [self.conds["mine"]]
                return comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)[0]

        def own(model: Any) -> torch.Tensor:
            guider = Own(model)
            guider.inner_set_conds({"mine": encode(PROMPT)})
            return self.sampled(guider)

        patch = CutoffPatch(Cutoff(Share(0.5), UNCONDITIONAL))
        assert torch.equal(own(patch.attach(model)), own(model))
        assert "Own has no positive prompt of its own: nothing was cut." in str(patch.run)


def test_collecting_on_a_model_with_a_cutoff(model: Any, clip: Any) -> None:
    """Rule: the cutoff counts a sampler's steps; one evaluation to read attention has none to cut."""
    patched = CutoffPatch(Cutoff(Final(10))).attach(model)
    request = CollectRequest(("cat", "tree"), 2, 0, 128, 128, "input 3")
    assert torch.equal(collect(patched, clip, request).attention, collect(model, clip, request).attention)


def test_a_patch_that_runs_the_model_again_is_named(spied: Any, encode: Any) -> None:
    """Who prevents a saving is shown to the user."""
    model, seen = spied

    def greedy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        executor(*args, **kwargs)
        return executor(*args, **kwargs)

    kind = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH
    model.add_wrapper_with_key(kind, "greedy", greedy)
    patch = CutoffPatch(Cutoff(Share(0.5)))
    run(patch.attach(model), encode(PROMPT), encode(NEGATIVE))
    assert seen.rows == [4, 4] * 3 + [2, 2] * 3
    assert "Unguided steps took 2 NFE each instead of 1; other patches on this MODEL: " in str(patch.run)
    assert "greedy" in str(patch.run) or "test_a_patch_that_runs_the_model_again" in str(patch.run)

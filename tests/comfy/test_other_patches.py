"""The contract beside other patches: the right result, or a clear refusal; a watch never ends a run.

Latents of an odd size, batches of two; each patch before and after ours where both orders exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.model_management
import pytest
import torch
from cutoff_runs import PROMPT, STEPS, cutoff, ours, stock
from other_patches import EVERY, HARMLESS, REFUSED, random_numbers
from winning_tickets.guidance.trace import StepsError
from winning_tickets.probe.attention import reader
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.build.build import (
    PlaceRequest,
    TicketRequest,
    arrange_noise,
    build_tickets,
    pick_noise,
)
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.watch import last_trace, watched
from winning_tickets.show.trace import shown
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.select import Rank
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import make_prompts

# Latents of 19 x 13.
WIDTH, HEIGHT = 104, 152
NAMES = ("cat", "fire hydrant", "tree", "car")
REGIONS = tuple(parse_regions("cat: 0 0 0.5 0.5\ntree: 0.5 0.5 1 1"))
COLLECT = CollectRequest(NAMES, 2, 5, WIDTH, HEIGHT, "input 3, input 5")
PLACE = PlaceRequest(REGIONS, WIDTH, HEIGHT, 7, 2, 2, 1, "input 3, input 5")
Patch = Callable[[Any], Any]


@pytest.fixture
def odd() -> dict[str, Any]:
    return {"samples": torch.zeros(2, 4, 19, 13)}


@pytest.fixture(params=HARMLESS)
def harmless(request: pytest.FixtureRequest) -> Patch:
    return HARMLESS[request.param]


@pytest.fixture(params=[f.__name__ for f in REFUSED])
def refused(request: pytest.FixtureRequest) -> tuple[Patch, str]:
    return next((f, words) for f, words in REFUSED.items() if f.__name__ == request.param)


@pytest.fixture(params=EVERY)
def any_patch(request: pytest.FixtureRequest) -> Patch:
    return EVERY[request.param]


def state(model: Any) -> str:
    options = {k: v for k, v in model.model_options.items() if k != "transformer_options"}
    inside = model.model_options["transformer_options"]
    return repr((options, sorted(inside.items(), key=str), model.wrappers, model.object_patches))


class TestCollecting:
    def test_prompts_read_together_score_as_those_read_alone(
        self, model: Any, clip: Any, harmless: Patch
    ) -> None:
        """Rule: every prompt is a positive. Numbered 0..N-1, they were taken for negatives by number 1."""
        scorer = Scorer(harmless(model), clip, "test", WIDTH, HEIGHT, "input 3, input 5")
        prompts = scorer.encode(make_prompts(NAMES))
        noise = torch.cat([plain_noise(s, scorer.shape) for s in (5, 6)])
        together = scorer.blocks(prompts, noise, scorer.grid())
        for prompt, found in zip(prompts, together, strict=True):
            alone = [scorer.blocks([prompt], n[None], scorer.grid())[0] for n in noise]
            torch.testing.assert_close(found, torch.cat(alone), rtol=1e-5, atol=1e-7)

    def test_a_patch_that_would_give_a_wrong_map_is_refused(
        self, model: Any, clip: Any, refused: tuple[Patch, str]
    ) -> None:
        patch, words = refused
        patched = patch(model)
        before = state(patched)
        with pytest.raises(
            ProbeError, match=f"^Collect Tickets: another patch on this MODEL .*{words}.* Connect"
        ):
            collect(patched, clip, COLLECT)
        assert state(patched) == before and model.model.current_patcher is None

    def test_what_lies_before_a_smaller_map_is_read(self, model: Any, clip: Any) -> None:
        smaller = next(f for f in REFUSED if f.__name__ == "smaller_map")
        early = replace(COLLECT, layer="input 1")
        assert torch.equal(
            collect(smaller(model), clip, early).attention, collect(model, clip, early).attention
        )

    def test_random_numbers_of_a_patch_are_the_same_in_any_batch(
        self, model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rule: the same seed gives the same result for any batch size, beside patches that draw numbers."""
        from winning_tickets.probe.model import memory

        patched, found = random_numbers(model), []
        for most in (32, 3):
            monkeypatch.setattr(memory, "MOST", most)
            torch.manual_seed(most)
            found.append(collect(patched, clip, COLLECT).attention)
        assert torch.equal(*found)
        assert not torch.equal(found[0], collect(model, clip, COLLECT).attention)


class TestNotFinite:
    """Rule: NaN attention, as of SD2.x in half precision, is named; it was called a damaged bank."""

    def broken(self, model: Any) -> Any:
        clone = model.clone()
        clone.set_model_attn2_patch(lambda n, context, value, extra: (n * torch.nan, context, value))
        return clone

    def test_is_refused(self, model: Any, clip: Any) -> None:
        with pytest.raises(
            ProbeError, match=r"^Collect Tickets: the attention at layer input 3 contains NaN"
        ):
            collect(self.broken(model), clip, COLLECT)
        with pytest.raises(
            ProbeError, match=r"^Arrange.*: the attention at layer .* --force-upcast-attention"
        ):
            arrange_noise(self.broken(model), clip, PLACE)

    def test_is_noted(self, model: Any, clip: Any, encode: Any, odd: Any) -> None:
        watching = watched(self.broken(model), clip, PROMPT, "cat")[0]
        stock(watching, encode, odd, "euler", "normal", steps=2)
        assert not last_trace(watching).is_read
        assert (
            "No step has maps: the attention contains NaN"
            in shown(last_trace(watching), "", 1, (19, 13)).report
        )


class TestLooking:
    def layout(self, model: Any, clip: Any) -> Layout:
        bank = collect(model, clip, replace(COLLECT, noises=6))
        return Layout(bank, REGIONS, WIDTH // 8, HEIGHT // 8, Rank(0.3, 0.3))

    @pytest.mark.parametrize("make", [arrange_noise, pick_noise])
    def test_noise_is_arranged_and_picked_with_a_harmless_patch(
        self, model: Any, clip: Any, harmless: Patch, make: Any
    ) -> None:
        """Several layers, averaged, as in collecting: "Blocks of 1 latent pixels cannot be told apart"."""
        result = make(harmless(model), clip, PLACE)
        again = make(harmless(model), clip, PLACE)
        built = result.noise.generate_noise(result.empty)
        assert built.shape == (2, 4, 19, 13)
        assert torch.equal(built, again.noise.generate_noise(again.empty))

    @pytest.mark.parametrize("make", [arrange_noise, pick_noise])
    def test_a_patch_that_would_give_a_wrong_map_is_refused(
        self, model: Any, clip: Any, refused: tuple[Patch, str], make: Any
    ) -> None:
        patch, words = refused
        with pytest.raises(ProbeError, match=f"Noise.*: another patch .*{words}"):
            make(patch(model), clip, PLACE)

    def test_tickets_are_looked_at_alike(self, model: Any, clip: Any, refused: tuple[Patch, str]) -> None:
        layout, (patch, words) = self.layout(model, clip), refused
        assert build_tickets(TicketRequest(layout, 3, 2, 2, 1), model, clip).report
        with pytest.raises(ProbeError, match=f"^Ticket Latent from Regions: another patch .*{words}"):
            build_tickets(TicketRequest(layout, 3, 2, 2, 1), patch(model), clip)


class TestWatching:
    def watch(self, model: Any, clip: Any, patch: Patch, first: bool) -> Any:
        """Watched after the patch, or patched after the watch."""
        if first:
            return watched(patch(model), clip, PROMPT, "cat")[0]
        return patch(watched(model, clip, PROMPT, "cat")[0])

    @pytest.mark.parametrize("first", [True, False])
    def test_no_bit_changes_and_no_run_ends(
        self, model: Any, clip: Any, encode: Any, odd: Any, any_patch: Patch, first: bool
    ) -> None:
        plain = stock(any_patch(model), encode, odd, "euler", "normal")
        watching = self.watch(model, clip, any_patch, first)
        assert torch.equal(stock(watching, encode, odd, "euler", "normal"), plain)

    @pytest.mark.parametrize("first", [True, False])
    def test_maps_are_the_prompts_own(
        self, model: Any, clip: Any, encode: Any, odd: Any, harmless: Patch, first: bool
    ) -> None:
        watching = self.watch(model, clip, harmless, first)
        stock(watching, encode, odd, "euler", "normal")
        assert last_trace(watching).maps().shape[:3] == (STEPS, 2, 1)

    @pytest.mark.parametrize("first", [True, False])
    def test_instead_of_a_wrong_map_there_is_a_note(
        self, model: Any, clip: Any, encode: Any, odd: Any, refused: tuple[Patch, str], first: bool
    ) -> None:
        """Rule: a couple's rows were shown as the prompt's map, three maps for two images, silently."""
        patch, words = refused
        watching = self.watch(model, clip, patch, first)
        stock(watching, encode, odd, "euler", "normal")
        trace = last_trace(watching)
        assert not trace.is_read
        seen = shown(trace, "", 2, (19, 13))
        assert re.search(words, seen.report) and "The masks are empty" in seen.report
        assert seen.masks.shape == (1, 152, 104) and not seen.masks.any()
        with pytest.raises(StepsError, match=words):
            trace.maps()

    def test_memory_that_runs_out_while_reading_ends_no_run(
        self, model: Any, clip: Any, encode: Any, odd: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> Any:
            raise comfy.model_management.OOM_EXCEPTION("no memory")

        watching = watched(model, clip, PROMPT, "cat")[0]
        monkeypatch.setattr(reader, "token_attention", fail)
        plain = stock(model, encode, odd, "euler", "normal")
        assert torch.equal(stock(watching, encode, odd, "euler", "normal"), plain)
        assert "cannot be read" in shown(last_trace(watching), "", 1, (19, 13)).report


class TestCutting:
    def test_guided_throughout_it_is_the_patched_model(
        self, model: Any, encode: Any, odd: Any, any_patch: Patch
    ) -> None:
        plain = stock(any_patch(model), encode, odd, "euler", "normal")
        found, _ = ours(any_patch(model), encode, odd, "euler", "normal", cutoff(1.0))
        assert torch.equal(found["samples"], plain)

    @pytest.mark.parametrize("first", [True, False])
    def test_both_orders_give_the_same(
        self, model: Any, encode: Any, odd: Any, any_patch: Patch, first: bool
    ) -> None:
        expected, _ = ours(any_patch(model), encode, odd, "euler", "normal", cutoff(0.5))
        patch = CutoffPatch(cutoff(0.5), tell=False)
        both = patch.attach(any_patch(model)) if first else any_patch(patch.attach(model))
        assert torch.equal(stock(both, encode, odd, "euler", "normal"), expected["samples"])

"""Ticket Layer Report and layer auto on the real sampling path with a tiny random UNet."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.utils
import pytest
import torch
from forwards import counted
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.probe.build.build import PlaceRequest, arrange_noise, pick_noise
from winning_tickets.probe.collect.collect import CollectRequest
from winning_tickets.probe.layers import choose as auto_layer
from winning_tickets.probe.layers import probe as layer_report
from winning_tickets.probe.layers import remembered
from winning_tickets.probe.layers.probe import LayerProbe, LayerWorth, recommended
from winning_tickets.probe.model import memory
from winning_tickets.probe.model.family import Layer
from winning_tickets.probe.model.unet import UNet
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.trial.kinds import Noises
from winning_tickets.tickets.layers import figures
from winning_tickets.tickets.layout.parse import parse_regions

CATEGORIES = ("cat", "fire hydrant", "tree")
SHAPE = (4, 16, 16)


def probe_of(model: Any, clip: Any, **more: Any) -> LayerProbe:
    return LayerProbe(model, clip, CATEGORIES, 3, 0, 128, 128, prompts=2, transplanted=2, **more)


def test_effect_takes_the_evaluations_it_says(model: Any, clip: Any) -> None:
    counting, seen = counted(model)
    probe = probe_of(counting, clip)
    worths = probe.effect()
    assert [w.layer for w in worths] == UNet(model).layers
    assert seen.total == 2 * (3 + 2 * len(probe.layers))
    assert all(w.block * w.rows == 16 and w.error > 0 for w in worths)


def test_figures_do_not_depend_on_the_batch_size(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most in (1, 32):
        monkeypatch.setattr(memory, "MOST", most)
        probe = probe_of(model, clip)
        worths = probe.kept(probe.effect())
        found.append(torch.tensor([[w.effect, w.kept, w.error] for w in worths]))
    torch.testing.assert_close(found[0][:, 1], found[1][:, 1], rtol=1e-3, atol=1e-3)
    # On some CPUs two blocks of nearly the same score change ranks, and another one is taken.
    assert ((found[0] - found[1])[:, 0].abs() < found[0][:, 2] / 2).all()


def test_out_of_memory_halves_the_batch(model: Any, clip: Any) -> None:
    def short(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if x.shape[0] > 3:
            raise comfy.model_management.OOM_EXCEPTION("no memory")
        return executor(x, *args, **kwargs)

    small = model.clone()
    small.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "short", short)
    probe = probe_of(small, clip)
    assert len(probe.effect()) == len(probe.layers) and probe.scorer.rows.count == 2


@pytest.mark.parametrize("images", [0, 2])
def test_report_has_a_line_for_every_layer_and_a_picture(model: Any, clip: Any, images: int) -> None:
    probe = probe_of(model, clip)
    seen: list[tuple[int, int]] = []
    worths = layer_report.measure(probe, images, 3, 2.0, lambda done, total: seen.append((done, total)))
    text, picture, layer = layer_report.report(probe, worths)
    assert [line.split("  ")[0] for line in text.splitlines()[1:][: len(worths)]] == [
        str(w.layer) for w in worths
    ]
    assert layer == str(recommended(worths).layer)
    assert picture.shape[-1] == 3 and float(picture.min()) >= 0 and float(picture.max()) <= 1
    assert all((w.agreement is not None) == bool(images) for w in worths)
    assert all(-1 <= w.agreement <= 1 for w in worths if w.agreement is not None)
    done = [d for d, _ in seen]
    assert done == sorted(done) and seen[-1][0] == seen[-1][1]


def test_a_lone_category_can_be_looked_at(model: Any, clip: Any) -> None:
    worths = LayerProbe(model, clip, ("cat",), 3, 0, 128, 128, transplanted=2).effect()
    assert all(torch.isfinite(torch.tensor([w.effect, w.error])).all() for w in worths)


REQUEST = CollectRequest(CATEGORIES, 4, 77, 128, 128, " Auto")


@pytest.fixture
def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was measured is sure enough to be remembered."""
    auto_layer._known.clear()
    monkeypatch.setattr(figures.Tried, "works", True)
    monkeypatch.setattr(figures, "CLEAR", -1e9)
    monkeypatch.setattr(auto_layer, "ENOUGH", 3)


def test_auto_takes_the_forwards_that_it_announces(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto_layer._known.clear()
    said: list[str] = []
    monkeypatch.setattr(auto_layer, "announce", said.append)
    monkeypatch.setattr(figures, "WORTH_TRYING", -1e9)
    counting, seen = counted(model)
    ticks: list[tuple[int, int]] = []
    _, why = auto_layer.choose_layer(counting, clip, REQUEST, "test", lambda *at: ticks.append(at))
    first, *stages = said
    found = re.fullmatch(r"layer auto: at most ([\d,]+) forwards, .+ looked at with ([\d,]+)\.", first)
    assert found
    most, *announced = (int(number.replace(",", "")) for number in found.groups())
    announced += [int(re.findall(r"([0-9,]+) forwards", line)[0].replace(",", "")) for line in stages]
    assert sum(announced) <= most < 9 * sum(announced)
    # Those of the first are partial: they end at the last layer.
    assert len(announced) >= 2 and 0 <= seen.total - sum(announced) < 0.1 * announced[0]
    assert f"It took {sum(announced)} forwards." in why
    assert ticks[-1][0] == ticks[-1][1] and [d for d, _ in ticks] == sorted(d for d, _ in ticks)
    assert model.model.current_patcher is None


def test_a_sure_choice_is_remembered_for_the_model_and_not_for_another(
    model: Any, clip: Any, sure: None, user_folder: Path
) -> None:
    """Arrange Noise paid for a choice with every new pair of words, and every start of ComfyUI."""
    counting, seen = counted(model)
    chosen, note = auto_layer.choose_layer(counting, clip, REQUEST, "test")
    assert note.startswith(f"layer auto: {chosen.layer} (effect ") and not auto_layer.is_auto(chosen)
    assert chosen == replace(REQUEST, layer=chosen.layer)
    evaluated = seen.total
    auto_layer._known.clear()
    other = replace(REQUEST, categories=("cat", "tree"), seed=3)
    again, known = auto_layer.choose_layer(counting, clip, other, "test")
    assert again.layer == chosen.layer and seen.total == evaluated and "Known from 2" in known
    patched = counting.clone()
    patched.set_model_attn2_patch(lambda q, k, v, extra: (q, k, v))
    auto_layer.choose_layer(patched, clip, REQUEST, "test")
    assert seen.total > evaluated
    assert len(json.loads(remembered.path().read_text(encoding="utf-8"))["layers"]) == 2
    assert [p.name for p in remembered.path().parent.iterdir()] == [remembered.NAME]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"rule": 2, "layers": {"a": 3}}', '{"rule": 0, "layers": {}}']
)
def test_a_broken_memory_costs_a_new_choice_and_no_run(model: Any, clip: Any, sure: None, text: str) -> None:
    remembered.path().parent.mkdir(parents=True)
    remembered.path().write_text(text, encoding="utf-8")
    chosen, _ = auto_layer.choose_layer(model, clip, REQUEST, "test")
    auto_layer._known.clear()
    again, known = auto_layer.choose_layer(model, clip, REQUEST, "test")
    assert again == chosen and "Known from 2" in known


@pytest.mark.parametrize(
    "spoilt",
    [{"layer": ["input 1"]}, {"why": {"a": 1}}, {"why": "\x1b[2J"}, {"why": "x" * 9999}, {"more": ""}],
)
def test_a_memory_that_was_changed_by_hand_is_not_believed(spoilt: dict[str, Any]) -> None:
    remembered.remember("model", "input 1", "why")
    assert remembered.recall("model") is not None
    whole = json.loads(remembered.path().read_text(encoding="utf-8"))
    whole["layers"]["model"].update(spoilt)
    remembered.path().write_text(json.dumps(whole), encoding="utf-8")
    assert remembered.recall("model") is None


@pytest.mark.parametrize("deep", [300, 900, 90_000])
def test_a_memory_of_lists_in_lists_ends_no_run(deep: int) -> None:
    remembered.remember("model", "input 1", "why")
    deeper = '{"rule": 2, "layers": {"a": {"layer": ' + "[" * deep + "]" * deep + "}}}"
    remembered.path().write_text(deeper, encoding="utf-8")
    remembered.remember("other", "input 2", "why")
    assert remembered.recall("other") is not None and remembered.recall("a") is None


def test_a_memory_that_cannot_be_written_costs_no_run(
    model: Any, clip: Any, sure: None, user_folder: Path
) -> None:
    user_folder.write_text("a file where the folder should be", encoding="utf-8")
    chosen, _ = auto_layer.choose_layer(model, clip, REQUEST, "test")
    assert not auto_layer.is_auto(chosen)


def test_an_unsure_choice_is_kept_for_the_same_words_only(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto_layer._known.clear()
    monkeypatch.setattr(figures.Tried, "works", False)
    monkeypatch.setattr(figures, "CLEAR", 1e9)
    counting, seen = counted(model)
    chosen, note = auto_layer.choose_layer(counting, clip, REQUEST, "test")
    assert "too little to tell whether tickets do anything" in note and not remembered.path().exists()
    evaluated = seen.total
    again, known = auto_layer.choose_layer(counting, clip, replace(REQUEST, seed=4), "test")
    assert again.layer == chosen.layer and seen.total == evaluated
    assert known.endswith("Known from an earlier run.")
    auto_layer.choose_layer(counting, clip, replace(REQUEST, categories=("cat", "tree")), "test")
    assert seen.total > evaluated


def test_a_clear_choice_of_few_words_is_remembered_for_these_and_forgotten_with_the_file(
    model: Any, clip: Any, sure: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two words the choice was paid at every start; deleting the file changed nothing until the next."""
    monkeypatch.setattr(auto_layer, "ENOUGH", 4)
    counting, seen = counted(model)
    auto_layer.choose_layer(counting, clip, REQUEST, "test")
    evaluated = seen.total
    assert not auto_layer._known
    _, known = auto_layer.choose_layer(counting, clip, replace(REQUEST, seed=3), "test")
    assert seen.total == evaluated and "Known from 2" in known
    other = replace(REQUEST, categories=("cat", "tree"))
    auto_layer.choose_layer(counting, clip, other, "test")
    assert seen.total > evaluated
    # A later choice for all words: a bank of the first ones could not be resumed.
    chosen = {
        about: found["layer"]
        for about, found in json.loads(remembered.path().read_text(encoding="utf-8"))["layers"].items()
    }
    assert len(chosen) == 2 and "middle 0" not in chosen.values()
    (about,) = {words.partition(" [[")[0] for words in chosen}
    remembered.remember(about, "middle 0", "By all words.")
    evaluated = seen.total
    for asked, layer in (
        (REQUEST, next(iter(chosen.values()))),
        (replace(other, categories=("cat",)), "middle 0"),
    ):
        assert auto_layer.choose_layer(counting, clip, asked, "test")[0].layer == layer
    assert seen.total == evaluated
    remembered.path().unlink()
    auto_layer.choose_layer(counting, clip, REQUEST, "test")
    assert seen.total > evaluated


@pytest.mark.parametrize("at", [1, 3, 9])
def test_nothing_is_remembered_of_an_interrupted_choice(
    model: Any, clip: Any, sure: None, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "WORTH_TRYING", -1e9)

    def stop(done: int, total: int) -> None:
        if done == at:
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        auto_layer.choose_layer(model, clip, REQUEST, "test", stop)
    assert not auto_layer._known and not remembered.path().exists()
    assert model.model.current_patcher is None


PLACES = PlaceRequest(tuple(parse_regions("cat: 0 0 0.5 1\ntree: 0.5 0 1 1")), 128, 128, 7, 1, 2, 0, "auto")


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, clip: arrange_noise(model, clip, PLACES),
        lambda model, clip: pick_noise(model, clip, PLACES),
        lambda model, clip: Noises(model, clip, "test", CATEGORIES, 128, 128),
    ],
    ids=["arrange", "pick", "trial"],
)
def test_whatever_asks_for_a_layer_shows_how_far_the_choice_is_and_can_be_cancelled(
    model: Any, clip: Any, ask: Callable[[Any, Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of forwards passed without a bar, but in Collect Tickets."""
    auto_layer._known.clear()
    counting, seen = counted(model)

    def cancel(value: int, total: int, *more: Any, **named: Any) -> None:
        assert 0 < value < total
        comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        ask(counting, clip)
    # Only the noises of the first prompt were looked at.
    assert seen.total == auto_layer.NOISES and not auto_layer._known and not remembered.path().exists()
    assert model.model.current_patcher is None


def test_a_model_without_a_layer_that_stands_out_is_told_so() -> None:
    worths = [LayerWorth(Layer("input", n, 0), 8, 8, 2, 0.1 * n, 0.2) for n in range(3)]
    assert "too little to tell" in auto_layer.explain(worths)
    assert "Recommended" not in layer_report.table(worths)
    clear = [LayerWorth(Layer("input", 7, 0), 8, 8, 2, 2.0, 0.2), *worths]
    assert auto_layer.explain(clear) == "layer auto: input 7 (effect 2.00 +- 0.20)."


def test_the_sentence_names_the_layers_that_were_not_tried_and_why() -> None:
    first = LayerWorth(Layer("input", 1, 0), 8, 8, 2, 2.0, 0.2, tried=figures.Tried(8, 16, 15, 0, 16))
    rest = [LayerWorth(Layer("output", n, 0), 8, 8, 2, 2.0 + n, 0.2) for n in range(2)]
    said = "In 8 images its tickets put 15 of 16 objects in place and 0 in another's place (16 present)."
    assert auto_layer.explain([first, *rest]).endswith(
        f"{said} output 0 and output 1 were not tried: with as many images, none could do clearly better."
    )
    assert auto_layer.explain([first, rest[0]]).endswith(
        "output 0 was not tried: with as many images, none could do clearly better."
    )
    assert auto_layer.explain([first]).endswith(said)


def test_the_sentence_names_the_layers_that_were_tried_after_the_first_ones_failed() -> None:
    """Of five layers that were tried, it named the three contenders."""
    tried = [figures.Tried(8, 16, own, 4, 16) for own in (2, 3, 1)]
    failed = [LayerWorth(Layer("input", n, 0), 8, 8, 2, 2.0 + n, 0.2, tried=t) for n, t in enumerate(tried)]
    last = LayerWorth(Layer("output", 1, 0), 8, 8, 2, 0.1, 0.2, tried=figures.Tried(8, 16, 15, 0, 16))
    assert auto_layer.explain([*failed, last]) == (
        "layer auto: output 1 (effect 0.10 +- 0.20). In 8 images its tickets put 15 of 16 objects in"
        " place and 0 in another's place (16 present); those of input 0: 2 of 16 and 4, input 1: 3 of"
        " 16 and 4, input 2: 1 of 16 and 4."
    )


def test_the_report_goes_on_where_no_layer_works_as_auto_does() -> None:
    """auto tried other layers then, the report did not, and recommended another layer."""

    class Failing:
        prompts = ("one",)

        def effect(self) -> list[LayerWorth]:
            return [LayerWorth(f"layer {n}", 8, 8, 2, e, 0.2) for n, e in enumerate((0.3, 2.0, 1.8, 0.2, -1))]

        def kept(self, worths: list[LayerWorth], *how: Any) -> list[LayerWorth]:
            return worths

        agreement = kept

        def tried(self, worths: list[LayerWorth], some: list[LayerWorth]) -> list[LayerWorth]:
            self.tick()
            return [replace(w, tried=figures.Tried(8, 16, 2, 3, 9)) if w in some else w for w in worths]

    ticks: list[tuple[int, int]] = []
    worths = layer_report.measure(Failing(), 1, 2, 2.0, lambda *at: ticks.append(at))
    assert [bool(w.tried) for w in worths] == [True, True, True, True, False]
    assert ticks[-1][0] == ticks[-1][1]


@pytest.mark.parametrize("own, tried", [(1, 3), (14, 1)])
def test_auto_tries_no_other_layer_where_the_first_could_not_be_beaten(
    own: int, tried: int, model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forwards that it takes are counted, those that it announces are the most that it can take."""
    monkeypatch.setattr(figures, "WORTH_TRYING", -1e9)
    monkeypatch.setattr(figures.Tried, "works", True)
    find = layer_report.ModelJudge.find

    class Placed:
        def __init__(self, number: int) -> None:
            self.own, self.present = number < own, True
            self.asked = 0

        def inside(self, box: Any) -> bool:
            self.asked += 1
            return self.own if self.asked == 1 else not self.own

    seen_objects = 0

    def placed(self: Any, prompts: Any, latents: Any, seed: int, *more: Any, **named: Any) -> Any:
        nonlocal seen_objects
        find(self, prompts, latents, seed, *more, **named)
        result = []
        for _ in latents:
            result.append([Placed((seen_objects + k) % 16) for k in range(2)])
            seen_objects += 2
        return result

    monkeypatch.setattr(layer_report.ModelJudge, "find", placed)
    monkeypatch.setattr(layer_report, "TRIAL_STEPS", 1)
    monkeypatch.setattr(auto_layer, "NOISES", 2)
    said: list[str] = []
    monkeypatch.setattr(auto_layer, "announce", said.append)
    counting, seen = counted(model)
    ticks: list[tuple[int, int]] = []
    probe, worths, cost = auto_layer.look(
        counting, clip, CATEGORIES, (128, 128), 0, progress=lambda *at: ticks.append(at)
    )
    some = figures.contenders(worths)
    assert len(some) == 3 and sum(w.tried is not None for w in worths) == tried
    assert "at most" in said[1] and f"{probe.trial_cost(3):.0f} forwards" in said[1]
    assert cost == probe.cost + probe.trial_cost(tried)
    assert 0 <= seen.total - round(cost) < 0.1 * probe.cost
    assert ticks[-1][0] == ticks[-1][1] and [d for d, _ in ticks] == sorted(d for d, _ in ticks)


def test_trial_images_do_not_depend_on_the_batch_size(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most in (1, 32):
        monkeypatch.setattr(memory, "MOST", most)
        probe = probe_of(model, clip)
        worths = probe.effect()
        found.append([w.tried for w in probe.tried(worths, worths[:2])])
    assert found[0] == found[1] and found[0][0] is not None and found[0][2] is None
    assert found[0][0].images == 4 and found[0][0].objects == 8


def test_another_round_of_a_trial_draws_other_images(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[torch.Tensor, list[int]]] = []
    draw = layer_report.Drawing.draw

    def watched(self: Any, noise: torch.Tensor, text: str, seeds: list[int], *more: Any) -> Any:
        drawn.append((noise, list(seeds)))
        return draw(self, noise, text, seeds, *more)

    monkeypatch.setattr(layer_report.Drawing, "draw", watched)
    probe = probe_of(model, clip)
    worths = probe.effect()
    once = probe.tried(worths, worths[:1])
    half = len(drawn)
    twice = probe.tried(once, worths[:1])
    first, both = once[0].tried, twice[0].tried
    assert (
        first
        and both
        and (both.rounds, both.images, both.objects) == (2, 2 * first.images, 2 * first.objects)
    )
    assert both.own >= first.own and both.present >= first.present
    for (noise, seeds), (other, later) in zip(drawn[:half], drawn[half:], strict=True):
        assert noise.shape == other.shape and not set(seeds) & set(later)
        assert not any(torch.equal(a, b) for a in noise for b in other)


def test_what_changes_predictions_or_runs_is_another_choice_and_ours_is_not(
    model: Any, clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that was chosen before another pack's wrapper was added was believed with it, too."""
    auto_layer._known.clear()
    asked: list[str] = []
    choice = auto_layer.Choice("input 1", "why", False)
    monkeypatch.setattr(auto_layer, "_choose", lambda model, *more: asked.append(model) or choice)

    def weaker(strength: float) -> Any:
        def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
            return strength * executor(*args, **kwargs)

        other = model.clone()
        other.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "theirs", wrapper)
        return other

    def choose(other: Any) -> int:
        auto_layer.choose_layer(other, clip, REQUEST, "test")
        return len(asked)

    assert [choose(m) for m in (model, weaker(0.5), weaker(0.7), weaker(0.5), model.clone())] == [
        1,
        2,
        3,
        3,
        3,
    ]
    cut = CutoffPatch(Cutoff(Share(0.5)))
    assert choose(cut.attach(model)) == 3


def test_the_trial_of_a_layer_is_no_run_of_the_users(model: Any, clip: Any) -> None:
    """Guidance Cutoff Report told of the layers' trial instead of the image."""
    cut = CutoffPatch(Cutoff(Share(0.5)))
    counting, seen = counted(cut.attach(model))
    probe = probe_of(counting, clip)
    worths = probe.effect()
    seen.clear()
    probe.tried(worths, worths[:1])
    assert cut.run is None and seen.total == probe.trial_cost(1)


def test_a_lone_category_can_be_tried(model: Any, clip: Any) -> None:
    probe = LayerProbe(model, clip, ("cat",), 3, 0, 128, 128, transplanted=2)
    worths = probe.effect()
    (tried,) = (w.tried for w in probe.tried(worths, worths[:1]) if w.tried)
    assert tried.objects == tried.images == 2

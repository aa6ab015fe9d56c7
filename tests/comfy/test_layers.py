"""Ticket Layer Report and layer auto on the real sampling path with a tiny random UNet."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.patcher_extension
import pytest
import torch
from forwards import counted
from winning_tickets.probe.collect.collect import CollectRequest
from winning_tickets.probe.layers import choose as auto_layer
from winning_tickets.probe.layers import probe as layer_report
from winning_tickets.probe.layers.probe import LayerProbe, LayerWorth, recommended
from winning_tickets.probe.model import memory
from winning_tickets.probe.model.family import Layer
from winning_tickets.probe.model.unet import UNet

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
        found.append(torch.tensor([[w.effect, w.kept] for w in probe.kept(probe.effect())]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


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


def test_auto_chooses_once_for_the_same_question(model: Any, clip: Any) -> None:
    auto_layer._known.clear()
    counting, seen = counted(model)
    request = CollectRequest(CATEGORIES, 4, 77, 128, 128, " Auto")
    assert auto_layer.is_auto(request)
    ticks: list[tuple[int, int]] = []
    chosen, note = auto_layer.choose_layer(counting, clip, request, "test", lambda *at: ticks.append(at))
    assert note.startswith(f"layer auto: {chosen.layer} (effect ") and not auto_layer.is_auto(chosen)
    assert ticks[-1][0] == ticks[-1][1]
    evaluated = seen.total
    again, remembered = auto_layer.choose_layer(
        counting,
        clip,
        CollectRequest(CATEGORIES, 9, 5, 128, 128, "auto"),
        "test",
        lambda *at: ticks.append(at),
    )
    assert again.layer == chosen.layer and seen.total == evaluated
    assert "forwards" in note and remembered.endswith("Known from an earlier run.")
    other, _ = auto_layer.choose_layer(
        counting, clip, CollectRequest(("cat", "tree"), 4, 0, 128, 128, "auto"), "test"
    )
    assert seen.total > evaluated and not auto_layer.is_auto(other)


def test_nothing_is_remembered_of_an_interrupted_choice(model: Any, clip: Any) -> None:
    auto_layer._known.clear()

    def stop(done: int, total: int) -> None:
        comfy.model_management.interrupt_current_processing()

    request = CollectRequest(CATEGORIES, 4, 0, 128, 128, "auto")
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        auto_layer.choose_layer(model, clip, request, "test", stop)
    assert not auto_layer._known
    assert model.model.current_patcher is None


def test_a_model_without_a_layer_that_stands_out_is_told_so() -> None:
    worths = [LayerWorth(Layer("input", n, 0), 8, 8, 2, 0.1 * n, 0.2) for n in range(3)]
    assert "No layer stands out" in auto_layer.explain(worths)
    assert "recommended" not in layer_report.table(worths)
    clear = [LayerWorth(Layer("input", 7, 0), 8, 8, 2, 2.0, 0.2), *worths]
    assert auto_layer.explain(clear) == "layer auto: input 7 (effect 2.00 +- 0.20; next input 2, 0.20)."

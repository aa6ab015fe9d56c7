"""Rule: wherever a run is cancelled, the MODEL is as it was, and the next run is what it would have been."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import pytest
import torch
from cutoff_runs import PROMPT, cutoff, ours, stock
from moments import Moments
from odd_pack.digests import digest
from other_patches import by_kind, random_numbers
from same import differences, state
from test_other_patches import COLLECT, PLACE
from test_trial import Halves, request
from winning_tickets.guidance.cutoff import UNCONDITIONAL
from winning_tickets.probe.build.build import TicketRequest, arrange_noise, build_tickets, pick_noise
from winning_tickets.probe.build.looking import AfterSteps
from winning_tickets.probe.collect.collect import collect
from winning_tickets.probe.collect.keep import collect_and_keep
from winning_tickets.probe.model import memory
from winning_tickets.probe.sampling.cutoff import CutoffPatch
from winning_tickets.probe.sampling.watch import last_trace, watched
from winning_tickets.probe.trial.trial import run_trial
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.select import Rank

AFTER = replace(PLACE, after=AfterSteps(0.5, 4, 4.0))


def built(result: Any) -> Any:
    return result.noise.generate_noise(result.empty)


def seen(model: Any, clip: Any, encode: Any, latent: Any) -> Any:
    watching = watched(model, clip, PROMPT, "cat")[0]
    return stock(watching, encode, latent, "euler", "normal"), last_trace(watching).maps


def tickets(model: Any, clip: Any) -> Any:
    bank = collect(model, clip, replace(COLLECT, width=128, height=128))
    layout = Layout(bank, PLACE.regions, 13, 19, Rank(0.5, 0.5))
    return built(build_tickets(TicketRequest(layout, 3, 2, 2, 1, AFTER.after), model, clip))


def trial(model: Any, clip: Any) -> Any:
    return [(d.record.line(), d.latent) for d in run_trial(model, clip, request(2), Halves).drawn]


USES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "collect": lambda m, c, e, x: collect(m, c, COLLECT),
    "collect, kept": lambda m, c, e, x: collect_and_keep(m, c, replace(COLLECT, noises=6), "kept")[0],
    "arrange": lambda m, c, e, x: built(arrange_noise(m, c, PLACE)),
    "arrange, after steps": lambda m, c, e, x: built(arrange_noise(m, c, AFTER)),
    "pick": lambda m, c, e, x: built(pick_noise(m, c, PLACE)),
    "tickets": lambda m, c, e, x: tickets(m, c),
    "cut": lambda m, c, e, x: ours(m, e, x, "euler_ancestral", "normal", cutoff(0.5)),
    "cut by a patch": lambda m, c, e, x: stock(
        CutoffPatch(cutoff(0.5, UNCONDITIONAL, e("")), tell=False).attach(m), e, x, "dpmpp_2m", "karras"
    ),
    "watched": seen,
    "trial": lambda m, c, e, x: trial(m, c),
}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(memory, "MOST", 12)


@pytest.fixture
def moments() -> Iterator[Moments]:
    moments = Moments()
    yield moments
    moments.close()


@pytest.mark.parametrize("what", USES)
def test_at_any_moment(
    model: Any, clip: Any, encode: Any, latent: Any, moments: Moments, tmp_path: Path, what: str
) -> None:
    """Half of the cancels come out of a module, half are ComfyUI's flag. Other patches are there, too."""
    theirs = random_numbers(by_kind(model))
    run = lambda: digest(USES[what](theirs, clip, encode, latent))  # noqa: E731
    run()
    for path in tmp_path.rglob("*.*"):
        path.unlink()
    moments.begin()
    undisturbed, many = run(), moments.count
    states = [state(one, True) for one in (model, theirs, clip.patcher)]
    draw, cancelled = random.Random(what), 0
    for turn in range(4):
        for path in tmp_path.rglob("*.*"):
            path.unlink()
        moments.begin(draw.randint(1, many), turn % 2 == 0)
        try:
            run()
        except comfy.model_management.InterruptProcessingException:
            cancelled += 1
        moments.begin()
        # As before each prompt.
        comfy.model_management.interrupt_current_processing(False)
        now = [state(one, True) for one in (model, theirs, clip.patcher)]
        assert not [d for one, other in zip(states, now, strict=True) for d in differences(one, other)]
        torch.manual_seed(turn)
        assert run() == undisturbed
    assert cancelled > 1

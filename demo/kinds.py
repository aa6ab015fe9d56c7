"""Kinds of initial noise that are compared, and the controls they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from cases import Case, other_prompt_of, prompt_of
from scenes import category
from winning_tickets.probe.build.build import (
    PlaceRequest,
    TicketRequest,
    arrange_noise,
    build_tickets,
    pick_noise,
)
from winning_tickets.tickets.layout.build import KEEP, Layout, image_generator
from winning_tickets.tickets.layout.calibrate import GAUSSIANIZE, NONE, STANDARDIZE
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.tickets.layout.select import Rank, Thresholds

PIXELS = 256
LAYER = "input 3"
FIRST_SEED = 20_000


@dataclass(frozen=True)
class Maker:
    """How the noise [1, 4, 32, 32] of a case is made, and how often the model looks at one for it."""

    make: Callable[[Any, Any, Case, int], torch.Tensor]
    looks: int = 0


@dataclass(frozen=True)
class Kind:
    """A name, how the noise is made, how it is sampled if not by euler, and the prompt."""

    name: str
    maker: Maker
    sampler: str = "euler"
    prompt: Callable[[Case], str] = prompt_of


def regions_of(case: Case, turn: int = 0) -> tuple[Region, ...]:
    """turn: gives the names to other boxes, for the wrong-class control."""
    names = case.names[turn:] + case.names[:turn]
    return tuple(Region(category(n), *b) for n, b in zip(names, case.boxes, strict=True))


def plain_noise(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
    return Layout(bank, regions_of(case), 32, 32).plain(seed, (0,))


def layout_for(bank: Any, case: Case, selection: Rank | Thresholds, turn: int = 0, **filling: Any) -> Layout:
    """As the node makes it where nothing else is said."""
    settings = {"calibration": STANDARDIZE, **filling}
    return Layout(bank, regions_of(case, turn), 32, 32, selection, **settings)


def tickets(
    selection: Rank | Thresholds, candidates: int = 1, rounds: int = 0, turn: int = 0, **filling: Any
) -> Maker:
    looked = candidates > 1 or rounds > 0

    def make(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
        layout = layout_for(bank, case, selection, turn, **filling)
        if not looked:
            return layout.build(seed)
        request = TicketRequest(layout, seed, 1, candidates, rounds)
        result = build_tickets(request, parts.model, parts.clip)
        return result.noise.generate_noise(result.empty)

    return Maker(make, candidates * (1 + rounds) if looked else 0)


def shuffled(selection: Rank | Thresholds) -> Maker:
    """The very same tickets, at random cells of the image."""

    def make(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
        layout = layout_for(bank, case, selection)
        chosen = layout.arrange(seed)
        order = torch.randperm(chosen.numel(), generator=image_generator(seed, 0, 63))
        moved = chosen.flatten()[order].view_as(chosen)
        return layout.place(layout.plain(seed, (0,))[0], moved)[None]

    return Maker(make)


def random_blocks(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
    """Any blocks of the bank."""
    layout = layout_for(bank, case, Rank())
    generator = image_generator(seed, 0, 62)
    cells = layout.owner().shape
    chosen = torch.randperm(len(bank.blocks), generator=generator)[: cells[0] * cells[1]].view(cells)
    return layout.place(layout.plain(seed, (0,))[0], chosen)[None]


def placed(what: Callable[..., Any], candidates: int, rounds: int, layer: str = LAYER) -> Maker:
    """Noise that needs no bank."""

    def make(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
        request = PlaceRequest(regions_of(case), PIXELS, PIXELS, seed, 1, candidates, rounds, layer)
        result = what(parts.model, parts.clip, request)
        return result.noise.generate_noise(result.empty)

    return Maker(make, candidates * (1 + rounds))


swaps, picks = partial(placed, arrange_noise), partial(placed, pick_noise, rounds=0)
plain = Maker(plain_noise)
RANK, PAPER = Rank(), Thresholds()
BEST = tickets(RANK, 8)

KINDS = [
    Kind("plain noise", plain),
    Kind("best of 64 plain seeds", picks(64)),
    Kind("tickets, the paper's thresholds", tickets(PAPER, calibration=NONE)),
    Kind("tickets", tickets(RANK)),
    Kind("tickets, best of 8", BEST),
    Kind("tickets, best of 32", tickets(RANK, 32)),
    Kind("tickets, 3 rounds", tickets(RANK, 1, 3)),
    Kind("tickets, best of 8, 1 round", tickets(RANK, 8, 1)),
    Kind("tickets, best of 8, 2 rounds", tickets(RANK, 8, 2)),
    Kind("tickets, best of 8, 3 rounds", tickets(RANK, 8, 3)),
    Kind("tickets, best of 32, 3 rounds", tickets(RANK, 32, 3)),
    Kind("block swap, 1 round", swaps(1, 1)),
    Kind("block swap, 3 rounds", swaps(1, 3)),
    Kind("block swap, 1 round, best of 8", swaps(8, 1)),
    Kind("block swap, 3 rounds, best of 8", swaps(8, 3)),
    Kind("block swap, 3 rounds, best of 32", swaps(32, 3)),
    Kind("control: random blocks", Maker(random_blocks)),
    Kind("control: tickets of the other category", tickets(RANK, turn=1)),
    Kind("control: the tickets at random cells", shuffled(RANK)),
    Kind("best of 8, not calibrated", tickets(RANK, 8, calibration=NONE)),
    Kind("best of 8, gaussianized", tickets(RANK, 8, calibration=GAUSSIANIZE)),
    Kind("best of 8, plain background", tickets(RANK, 8, background=KEEP)),
    Kind("best of 8 of the best 0.2 %", tickets(Rank(0.002), 8)),
    Kind("best of 8 of the best 2 %", tickets(Rank(0.02), 8)),
    Kind("best of 8 of the best 5 %", tickets(Rank(0.05), 8)),
    Kind("best of 8 of the best 20 %", tickets(Rank(0.2, 0.2), 8)),
    Kind("the paper's thresholds, t_pos 0.7", tickets(replace(PAPER, t_pos=0.7), calibration=NONE)),
    Kind("the paper's thresholds, best of 8", tickets(PAPER, 8)),
    Kind("plain noise; euler_ancestral", plain, "euler_ancestral"),
    Kind("tickets, best of 8; euler_ancestral", BEST, "euler_ancestral"),
    Kind("plain noise; dpmpp_sde", plain, "dpmpp_sde"),
    Kind("tickets, best of 8; dpmpp_sde", BEST, "dpmpp_sde"),
    Kind("plain noise; other prompts", plain, prompt=other_prompt_of),
    Kind("tickets, best of 8; other prompts", BEST, prompt=other_prompt_of),
]

PAIRS = [
    ("plain noise", "best of 64 plain seeds"),
    ("best of 64 plain seeds", "tickets"),
    ("tickets, the paper's thresholds", "tickets"),
    ("tickets", "tickets, best of 8"),
    ("tickets, best of 8", "tickets, best of 32"),
    ("tickets, best of 8", "tickets, best of 8, 3 rounds"),
    ("tickets, best of 8, 3 rounds", "tickets, best of 32, 3 rounds"),
    ("block swap, 3 rounds, best of 8", "tickets, best of 8, 3 rounds"),
    ("block swap, 3 rounds, best of 8", "block swap, 3 rounds, best of 32"),
    ("best of 8, not calibrated", "tickets, best of 8"),
    ("best of 8, gaussianized", "tickets, best of 8"),
    ("best of 8, plain background", "tickets, best of 8"),
    ("best of 8 of the best 0.2 %", "tickets, best of 8"),
    ("best of 8 of the best 2 %", "tickets, best of 8"),
    ("best of 8 of the best 5 %", "tickets, best of 8"),
    ("tickets, best of 8; euler_ancestral", "tickets, best of 8"),
    ("tickets, best of 8; dpmpp_sde", "tickets, best of 8"),
    ("tickets, best of 8; other prompts", "tickets, best of 8"),
]
"""Which kinds are compared case by case."""

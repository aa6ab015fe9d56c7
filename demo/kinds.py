"""Kinds of initial noise that are compared, and the controls they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from cases import Case, other_prompt_of, prompt_of
from scenes import category
from winning_tickets.probe.build import PlaceWish, TicketWish, arrange_noise, build_tickets, pick_noise
from winning_tickets.tickets.build import KEEP, Layout, image_generator
from winning_tickets.tickets.regions import Region
from winning_tickets.tickets.select import Rank, Thresholds

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


def tickets(
    selection: Rank | Thresholds, candidates: int = 1, rounds: int = 0, turn: int = 0, **filling: Any
) -> Maker:
    looked = candidates > 1 or rounds > 0

    def make(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
        layout = Layout(bank, regions_of(case, turn), 32, 32, selection, **filling)
        if not looked:
            return layout.build(seed)
        wish = TicketWish(layout, seed, 1, candidates, rounds)
        result = build_tickets(wish, parts.model, parts.clip)
        return result.noise.generate_noise(result.empty)

    return Maker(make, candidates * (1 + rounds) if looked else 0)


def shuffled(selection: Rank | Thresholds) -> Maker:
    """The very same tickets, at random cells of the image."""

    def make(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
        layout = Layout(bank, regions_of(case), 32, 32, selection)
        chosen = layout.arrange(seed)
        order = torch.randperm(chosen.numel(), generator=image_generator(seed, 0, 63))
        moved = chosen.flatten()[order].view_as(chosen)
        return layout.place(layout.plain(seed, (0,))[0], moved)[None]

    return Maker(make)


def random_blocks(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
    """Any blocks of the bank."""
    layout = Layout(bank, regions_of(case), 32, 32)
    generator = image_generator(seed, 0, 62)
    cells = layout.owner().shape
    chosen = torch.randperm(len(bank.blocks), generator=generator)[: cells[0] * cells[1]].view(cells)
    return layout.place(layout.plain(seed, (0,))[0], chosen)[None]


def placed(what: Callable[..., Any], candidates: int, rounds: int) -> Maker:
    """Noise that needs no bank."""

    def make(parts: Any, bank: Any, case: Case, seed: int) -> torch.Tensor:
        wish = PlaceWish(regions_of(case), PIXELS, PIXELS, seed, 1, candidates, rounds, LAYER)
        result = what(parts.model, parts.clip, wish)
        return result.noise.generate_noise(result.empty)

    return Maker(make, candidates * (1 + rounds))


swaps, picks = partial(placed, arrange_noise), partial(placed, pick_noise, rounds=0)
plain = Maker(plain_noise)
RANK, PAPER = Rank(), Thresholds()

KINDS = [
    Kind("plain noise", plain),
    Kind("best of 64 plain seeds", picks(64)),
    Kind("tickets, paper's thresholds", tickets(PAPER)),
    Kind("tickets, t_pos 0.7", tickets(replace(PAPER, t_pos=0.7))),
    Kind("tickets, rank, best 5 %", tickets(RANK)),
    Kind("tickets, rank, best of 8", tickets(RANK, 8)),
    Kind("tickets, rank, best of 32", tickets(RANK, 32)),
    Kind("tickets, rank, best of 8, 3 rounds", tickets(RANK, 8, 3)),
    Kind("block swap, 1 round", swaps(1, 1)),
    Kind("block swap, 3 rounds, best of 8", swaps(8, 3)),
    Kind("control: random blocks of the bank", Maker(random_blocks)),
    Kind("control: the other category's tickets", tickets(RANK, turn=1)),
    Kind("control: the same tickets at other cells", shuffled(RANK)),
    Kind("tickets, rank, plain background", tickets(RANK, background=KEEP)),
    Kind("tickets, rank, best of 8, standardize", tickets(RANK, 8, calibration="standardize")),
    Kind("tickets, rank, best of 8, gaussianize", tickets(RANK, 8, calibration="gaussianize")),
    Kind("tickets, rank, best 1 %", tickets(Rank(0.01, 0.01))),
    Kind("tickets, rank, best 20 %", tickets(Rank(0.2, 0.2))),
    Kind("tickets, rank, 1 candidate, 3 rounds", tickets(RANK, 1, 3)),
    Kind("block swap, 3 rounds", swaps(1, 3)),
    Kind("block swap, 1 round, best of 8", swaps(8, 1)),
    Kind("block swap, 3 rounds, best of 32", swaps(32, 3)),
    Kind("tickets, rank, best of 8; euler_ancestral", tickets(RANK, 8), "euler_ancestral"),
    Kind("tickets, rank, best of 8; dpmpp_sde", tickets(RANK, 8), "dpmpp_sde"),
    Kind("plain noise; euler_ancestral", plain, "euler_ancestral"),
    Kind("plain noise; dpmpp_sde", plain, "dpmpp_sde"),
    Kind("tickets, rank, best of 8; other prompts", tickets(RANK, 8), prompt=other_prompt_of),
    Kind("plain noise; other prompts", plain, prompt=other_prompt_of),
]

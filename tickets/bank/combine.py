"""Banks made of banks: several merged into one, and one cut down to its best tickets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from .bank import BOTH, BankError, TicketBank

NEEDED = ("block", "channels", "height", "width")
# Along which each tensor grows with the noises.
DIMENSIONS = {"blocks": 0, "noise": 0, "cell": 0, "attention": 1, "low": 1, "high": 1}


def merge(banks: Sequence[TicketBank], any_recipe: bool = False) -> TicketBank:
    """One bank with the noises of all; a noise that several hold is taken from the first.

    The banks must be of one recipe, and of the same categories and prompts; `any_recipe` lets recipes
    differ in all but the sizes, and keeps the first one's, with the fingerprints of all. BankError names
    what differs. Time and memory grow with the tickets, not with the number of banks.
    """
    if not banks:
        raise BankError("There is no bank to merge: connect one or more.")
    first = banks[0]
    longest = first.recipe.fingerprint
    for number, other in enumerate(banks[1:], 2):
        for name in ("categories", "prompts"):
            if difference := list_difference(getattr(other, name), getattr(first, name)):
                raise BankError(f"Bank {number} has other {name} than bank 1: {difference}.")
        if other.measured != first.measured:
            raise BankError(f"Bank {number} scores its categories in other prompts than bank 1.")
        recipe = replace(first.recipe, fingerprint=longest)
        longest = max(longest, other.recipe.fingerprint, key=len)
        differences = other.recipe.differences(recipe)
        hard = [d for d in differences if d in NEEDED]
        if hard or (differences and not any_recipe):
            raise BankError(f"Bank {number} has {other.recipe.contrast(recipe, hard or differences)}.")
    known: set[int] = set()
    new = []
    for bank in banks:
        new.append([k for k, seed in enumerate(bank.seeds) if seed not in known])
        known.update(bank.seeds)
    joined = first if not any(new[1:]) else _join(banks, new)
    every = dict.fromkeys(p or "unknown" for b in banks for p in b.recipe.fingerprint.split(BOTH))
    # As far as the banks tell: early versions recorded less.
    prints = [p for p in every if not any(p.startswith(f"{other}-") for other in every)]
    if len(every) == 1 or prints == [first.recipe.fingerprint]:
        return joined
    return replace(joined, recipe=replace(first.recipe, fingerprint=BOTH.join(prints)))


def list_difference(mine: Sequence[str], theirs: Sequence[str]) -> str:
    """How one list of texts differs from another, for people; empty if it does not."""
    if len(mine) != len(theirs):
        return f"{len(mine)} instead of {len(theirs)}"
    for number, (one, other) in enumerate(zip(mine, theirs, strict=True), 1):
        if one != other:
            return f'number {number} is "{one}" instead of "{other}"'
    return ""


def mixed(banks: Sequence[TicketBank]) -> list[str]:
    """What the banks' recipes differ in, with the values of all: "layer (input 8, input 7)"."""
    values = {
        name: dict.fromkeys(str(getattr(b.recipe, name)) for b in banks) for name in vars(banks[0].recipe)
    }
    return [
        f"{name} ({', '.join(v or 'none' for v in found)})"
        for name, found in values.items()
        if len(found) > 1
    ]


def _join(banks: Sequence[TicketBank], new: Sequence[Sequence[int]]) -> TicketBank:
    """These noises of each bank, one bank after the other, each tensor of the result written once."""
    taken = []
    first = 0
    for bank, noises in zip(banks, new, strict=True):
        at = torch.full((len(bank.seeds),), -1, dtype=torch.int32)
        at[list(noises)] = torch.arange(first, first + len(noises), dtype=torch.int32)
        noise = at[bank.noise.long()]
        taken.append((bank, list(noises), noise, (noise >= 0).nonzero().flatten()))
        first += len(noises)
    count = sum(len(tickets) for *_, tickets in taken)
    joined: dict[str, Any] = {}
    for name, dimension in DIMENSIONS.items():
        # As large as a bank's: a second copy of it may not fit into memory.
        like = getattr(banks[0], name)
        shape = list(like.shape)
        shape[dimension] = first if name in ("low", "high") else count
        joined[name] = like.new_empty(shape)
        begin = 0
        for bank, noises, noise, tickets in taken:
            which = torch.tensor(noises, dtype=torch.int64) if name in ("low", "high") else tickets
            part = joined[name].narrow(dimension, begin, len(which))
            own = noise if name == "noise" else getattr(bank, name)
            for row, values in zip(part, own, strict=True) if dimension else [(part, own)]:
                torch.index_select(values, 0, which, out=row)
            begin += len(which)
    seeds = tuple(bank.seeds[k] for bank, noises, *_ in taken for k in noises)
    return replace(banks[0], seeds=seeds, **joined)


def prune(bank: TicketBank, share: float) -> TicketBank:
    """The best `share` (0..1) of the tickets for each category, and as many for the background.

    Best for a category: by margin against all others. For the background: the lowest highest average.
    Scores of what is left do not change.
    """
    if not 0 < share <= 1:
        raise BankError(f"share is {share}; it must be above 0 and at most 1.")
    count = max(1, round(share * len(bank.blocks)))
    wanted = [bank.margin(c, bank.categories) for c in bank.categories]
    wanted.append(-torch.stack([bank.average(c) for c in bank.categories]).amax(0))
    kept = torch.cat([w.topk(count).indices for w in wanted]).unique()
    return bank.take(kept)


def only(bank: TicketBank, seeds: Sequence[int]) -> TicketBank:
    """The bank's noises of these seeds, in this order; BankError if one is not there."""
    place = {seed: k for k, seed in enumerate(bank.seeds)}
    if absent := [s for s in seeds if s not in place]:
        raise BankError(f"The bank has no noise of seed {absent[0]}.")
    if tuple(seeds) == bank.seeds:
        return bank
    order = [place[s] for s in seeds]
    at = torch.full((len(bank.seeds),), len(order), dtype=torch.int32)
    at[order] = torch.arange(len(order), dtype=torch.int32)
    noise = at[bank.noise.long()]
    sorted_noise, tickets = noise.sort(stable=True)
    tickets = tickets[sorted_noise < len(order)]
    return replace(
        bank,
        seeds=tuple(seeds),
        blocks=bank.blocks[tickets],
        noise=noise[tickets],
        cell=bank.cell[tickets],
        attention=bank.attention[:, tickets],
        low=bank.low[:, order],
        high=bank.high[:, order],
    )

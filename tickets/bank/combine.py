"""Banks made of banks: several merged into one, and one cut down to its best tickets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from .bank import BankError, TicketBank

NEEDED = ("block", "channels", "height", "width")


def merge(banks: Sequence[TicketBank], any_recipe: bool = False) -> TicketBank:
    """One bank with the noises of all; a noise that several hold is taken from the first.

    The banks must be of one recipe, and of the same categories and prompts; `any_recipe` lets recipes
    differ in all but the sizes, and keeps the first one's. BankError names what differs.
    """
    first = banks[0]
    for number, other in enumerate(banks[1:], 2):
        for name in ("categories", "prompts"):
            if getattr(other, name) != getattr(first, name):
                raise BankError(
                    f"Bank {number} has other {name} ({', '.join(getattr(other, name))}) than bank 1"
                    f" ({', '.join(getattr(first, name))}); merge banks of the same {name}, in one order."
                )
        differences = first.recipe.differences(other.recipe)
        hard = [d for d in differences if d in NEEDED]
        if hard or (differences and not any_recipe):
            what = ", ".join(
                f"{d} {getattr(other.recipe, d)!r} instead of {getattr(first.recipe, d)!r}"
                for d in hard or differences
            )
            way_out = "" if hard else ", or turn on any_recipe"
            raise BankError(f"Bank {number} has {what}; merge banks of one recipe{way_out}.")
        first = _join(first, other)
    return first


def mixed(banks: Sequence[TicketBank]) -> list[str]:
    """Names of what the banks' recipes differ in."""
    return sorted({name for other in banks for name in banks[0].recipe.differences(other.recipe)})


def _join(one: TicketBank, other: TicketBank) -> TicketBank:
    known = set(one.seeds)
    new = [k for k, seed in enumerate(other.seeds) if seed not in known]
    if not new:
        return one
    at = torch.full((len(other.seeds),), -1, dtype=torch.int32)
    at[new] = torch.arange(len(one.seeds), len(one.seeds) + len(new), dtype=torch.int32)
    noise = at[other.noise.long()]
    tickets = (noise >= 0).nonzero().flatten()
    return replace(
        one,
        seeds=one.seeds + tuple(other.seeds[k] for k in new),
        blocks=torch.cat([one.blocks, other.blocks[tickets]]),
        noise=torch.cat([one.noise, noise[tickets]]),
        cell=torch.cat([one.cell, other.cell[tickets]]),
        attention=torch.cat([one.attention, other.attention[:, tickets]], 1),
        low=torch.cat([one.low, other.low[:, new]], 1),
        high=torch.cat([one.high, other.high[:, new]], 1),
    )


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

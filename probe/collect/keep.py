"""Collecting as a node does it: with a layer chosen if asked, and into a file that survives a cancel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...tickets.bank.bank import TicketBank
from ...tickets.bank.file import load_bank, save_bank
from ..files import new_bank_path
from .auto import choose_layer, is_auto
from .collect import Wish, collect


def collect_and_keep(
    model: Any,
    clip: Any,
    wish: Wish,
    save_as: str = "",
    progress: Callable[[int, TicketBank], None] = lambda done, latest: None,
    choosing: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[TicketBank, str]:
    """`collect`, kept as `save_as` in models/ticket_banks unless that is empty; and a line about it.

    A bank of this name is gone on from if it is of the same wish, apart from the noises; BankError
    says what differs if it is not, before anything is collected or written. With layer auto its layer
    is taken, and without such a bank one is chosen, which `choosing` follows.
    """
    path = new_bank_path(save_as) if save_as.strip() else None
    before = load_bank(path) if path and path.exists() else None
    notes = []
    if is_auto(wish) and before:
        wish = replace(wish, layer=before.recipe.layer)
        notes.append(f"layer auto: {wish.layer}, as in the bank saved before.")
    elif is_auto(wish):
        wish, note = choose_layer(model, clip, wish, choosing)
        notes.append(note)
    keep = None if path is None else lambda bank: save_bank(bank, path)
    bank = collect(model, clip, wish, before, progress, keep)
    return bank, " ".join([bank.describe() + ".", *notes])

"""Collecting into a file: what there is survives a cancel, and the next run goes on from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..tickets.bank import TicketBank
from ..tickets.bank_file import load_bank, save_bank
from .collect import Wish, collect
from .files import new_bank_path


def collect_and_keep(
    model: Any,
    clip: Any,
    wish: Wish,
    save_as: str = "",
    progress: Callable[[int, TicketBank], None] = lambda done, latest: None,
) -> TicketBank:
    """`collect`, kept as `save_as` in models/ticket_banks unless that is empty.

    A bank of this name is gone on from if it is of the same wish, apart from the noises; BankError
    says what differs if it is not, before anything is collected or written.
    """
    if not save_as.strip():
        return collect(model, clip, wish, progress=progress)
    path = new_bank_path(save_as)
    before = load_bank(path) if path.exists() else None
    return collect(model, clip, wish, before, progress, lambda bank: save_bank(bank, path))

"""Collecting as a node does it: with a layer chosen if asked, and into a file that survives a cancel."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...tickets.bank.bank import BankError, TicketBank
from ...tickets.bank.combine import merge
from ...tickets.bank.file import check_path, load_bank, save_bank, stamp
from ..files import advised, new_bank_path
from ..layers.choose import choose_layer, is_auto
from ..model.architecture import unproven
from ..model.family import latent_shape
from .collect import NODE, CollectRequest, collect


class Keeper:
    """Writes a bank that is being collected to `path`, again and again.

    What another process wrote there meanwhile, from the same request, is kept beside it. A write that
    fails ends nothing: `failure` is why the last one did, empty if it did not.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.failure, self.seen = path, "", stamp(path)

    def __call__(self, bank: TicketBank) -> None:
        try:
            save_bank(self._with_others(bank), self.path)
            self.failure, self.seen = "", stamp(self.path)
        except BankError as error:
            self.failure = f"Not saved: {error}"
            logging.warning("%s: %s", NODE, self.failure)

    def _with_others(self, bank: TicketBank) -> TicketBank:
        if self.seen == stamp(self.path) or not self.path.is_file():
            return bank
        try:
            return merge([bank, load_bank(self.path)])
        except BankError as error:
            raise BankError(f"{self.path.name} was replaced meanwhile. {error}") from None


def collect_and_keep(
    model: Any,
    clip: Any,
    request: CollectRequest,
    save_as: str = "",
    progress: Callable[[int, TicketBank], None] = lambda done, latest: None,
    choosing: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[TicketBank, str]:
    """`collect`, kept as `save_as` in models/ticket_banks unless that is empty; and a line about it.

    A bank of this name is resumed if it is of the same request, apart from the noises. BankError says what
    differs if it is not, or that nothing can be written there, before anything is collected; a write
    that fails later is reported in the line, and the bank is returned all the same. With layer auto the
    resumed bank's layer is taken, and without such a bank one is chosen, which `choosing` follows.
    """
    path = new_bank_path(save_as, "save_as") if save_as.strip() else None
    before = None
    if path:
        try:
            check_path(path, room=_least_size(model, request))
            before = load_bank(path) if path.exists() else None
        except BankError as error:
            raise advised(error, "give Collect Tickets another name in save_as, or leave it empty") from None
    notes = list(filter(None, [unproven(model)]))
    if is_auto(request) and before:
        request = replace(request, layer=before.recipe.layer)
        notes.append(f"layer auto: {request.layer}, as in the bank saved before.")
    elif is_auto(request):
        request, note = choose_layer(model, clip, request, NODE, choosing)
        notes.append(note)
    if before and before.pruned:
        notes.append("Of the noises saved before, only the best tickets are there.")
    keep = None if path is None else Keeper(path)
    bank = collect(model, clip, request, before, progress, keep, choosing)
    if keep and keep.failure:
        notes.append(f"Warning: {keep.failure} Connect Save Ticket Bank to save it elsewhere.")
    return bank, " ".join([bank.describe() + ".", *notes])


def _least_size(model: Any, request: CollectRequest) -> int:
    """Bytes that the blocks of a request take in a file at least: whole blocks cover half of each side."""
    channels, *_, height, width = latent_shape(model, request.width, request.height)
    return 4 * request.noises * channels * (height // 2) * (width // 2)

"""Load Ticket Bank, Save Ticket Bank."""

from __future__ import annotations

import os

from comfy_api.latest import io, ui

from ..probe import files
from ..tickets.bank import TicketBank, load_bank, save_bank
from .types import CATEGORY, Bank


class LoadTicketBank(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadTicketBank",
            display_name="Load Ticket Bank",
            category=CATEGORY,
            description="Loads tickets that were collected before, from models/ticket_banks.",
            search_aliases=["winning tickets", "open bank"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=files.bank_names(),
                    tooltip="A file in models/ticket_banks, or a bank that comes with the pack.",
                )
            ],
            outputs=[Bank.Output(display_name="bank", tooltip="The scored blocks.")],
        )

    @classmethod
    def fingerprint_inputs(cls, name: str, **kwargs: object) -> tuple[int, int]:
        found = os.stat(files.bank_path(name))
        return found.st_mtime_ns, found.st_size

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        bank = load_bank(files.bank_path(name))
        return io.NodeOutput(bank, ui=ui.PreviewText(bank.describe()))


class SaveTicketBank(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveTicketBank",
            display_name="Save Ticket Bank",
            category=CATEGORY,
            description="Saves collected tickets in models/ticket_banks, to use them again.",
            search_aliases=["winning tickets", "write bank"],
            is_output_node=True,
            inputs=[
                Bank.Input("bank", tooltip="The tickets to save."),
                io.String.Input(
                    "name",
                    default="tickets",
                    tooltip="File name, or folder/name, inside models/ticket_banks. An older file of this"
                    " name is replaced.",
                ),
            ],
            outputs=[Bank.Output(display_name="bank", tooltip="The same tickets.")],
        )

    @classmethod
    def execute(cls, bank: TicketBank, name: str) -> io.NodeOutput:
        path = files.new_bank_path(name)
        save_bank(bank, path)
        return io.NodeOutput(bank, ui=ui.PreviewText(f"{path}: {bank.describe()}"))

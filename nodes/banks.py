"""Load, Save and Merge Ticket Banks, Ticket Bank Report."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..probe import files
from ..show.bank import report
from ..tickets.bank.bank import BankError, TicketBank
from ..tickets.bank.combine import merge, mixed, prune
from ..tickets.bank.file import SaveError, load_bank, save_bank, stamp
from .inputs import CATEGORY, Bank, names_itself, preview

EXACT, HALF = "float32", "float16"


class LoadTicketBank(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadTicketBank",
            display_name="Load Ticket Bank",
            category=CATEGORY,
            description="Loads a ticket bank from models/ticket_banks.",
            search_aliases=["winning tickets", "open bank"],
            has_intermediate_output=True,
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
    def fingerprint_inputs(cls, name: str, **kwargs: object) -> tuple[int, ...]:
        return stamp(files.bank_path(name))

    @classmethod
    @names_itself
    def execute(cls, name: str) -> io.NodeOutput:
        path = files.bank_path(name)
        try:
            bank = load_bank(path)
        except BankError as error:
            raise files.advised(error, "choose another file, or collect or copy it again") from None
        return io.NodeOutput(bank, ui=ui.PreviewText(bank.describe()))


class SaveTicketBank(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveTicketBank",
            display_name="Save Ticket Bank",
            category=CATEGORY,
            description="Saves a ticket bank to models/ticket_banks, to use it again.",
            search_aliases=["winning tickets", "write bank", "prune bank"],
            is_output_node=True,
            inputs=[
                Bank.Input("bank", tooltip="The tickets to save."),
                io.String.Input(
                    "name",
                    default="tickets",
                    tooltip="File name, or folder/name, inside models/ticket_banks. An existing file of "
                    "this name is replaced.",
                ),
                io.Float.Input(
                    "best_percent",
                    default=100.0,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    advanced=True,
                    tooltip="Keep only the best tickets of each category, and as many for the background. "
                    "100 keeps all.",
                ),
                io.Combo.Input(
                    "precision",
                    options=[EXACT, HALF],
                    default=EXACT,
                    advanced=True,
                    tooltip="float32 keeps the noise exactly as drawn; float16 halves the file size.",
                ),
            ],
            outputs=[Bank.Output(display_name="bank", tooltip="The tickets that were saved.")],
        )

    @classmethod
    @names_itself
    def execute(cls, bank: TicketBank, name: str, best_percent: float, precision: str) -> io.NodeOutput:
        path = files.new_bank_path(name)
        kept = bank if best_percent == 100 else prune(bank, best_percent / 100)
        try:
            save_bank(kept, path, half=precision == HALF)
        except SaveError as error:
            raise files.advised(error, "give Save Ticket Bank another name, or make room there") from None
        return io.NodeOutput(kept, ui=ui.PreviewText(f"{path}: {kept.describe()}"))


class MergeTicketBanks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MergeTicketBanks",
            display_name="Merge Ticket Banks",
            category=CATEGORY,
            description=(
                "Combines banks of the same model, settings and categories, collected on several machines "
                "or with different seeds. Noises of the same seed are kept once."
            ),
            search_aliases=["winning tickets", "join banks", "combine"],
            has_intermediate_output=True,
            inputs=[
                io.Autogrow.Input(
                    "banks",
                    template=io.Autogrow.TemplatePrefix(Bank.Input("bank"), prefix="bank", min=2, max=50),
                    tooltip="Banks of one recipe. A new input appears when the last one is connected.",
                ),
                io.Boolean.Input(
                    "any_recipe",
                    default=False,
                    advanced=True,
                    tooltip="Also merge banks of other models or settings, as long as the sizes agree. "
                    "Their scores are then not comparable.",
                ),
            ],
            outputs=[Bank.Output(display_name="bank", tooltip="The tickets of all banks.")],
        )

    @classmethod
    @names_itself
    def execute(cls, banks: dict[str, TicketBank], any_recipe: bool) -> io.NodeOutput:
        try:
            merged = merge(list(banks.values()), any_recipe)
        except BankError as error:
            way_out = "" if any_recipe else ", or any_recipe on"
            raise files.advised(error, f"Merge Ticket Banks needs banks of one recipe{way_out}") from None
        text = merged.describe()
        if different := mixed(list(banks.values())):
            text += f"\nWarning: the banks differ in {', '.join(different)}; their scores are not comparable."
        return io.NodeOutput(merged, ui=ui.PreviewText(text))


class TicketBankReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TicketBankReport",
            display_name="Ticket Bank Report",
            category=CATEGORY,
            description=(
                "Shows what a bank holds: how many tickets pass the thresholds for each category, how "
                "scores spread, which categories compete for the same blocks, and the best noises as heat "
                "maps."
            ),
            search_aliases=["winning tickets", "inspect bank", "histogram"],
            is_output_node=True,
            inputs=[Bank.Input("bank", tooltip="The bank to report on.")],
            outputs=[
                io.String.Output(display_name="report", tooltip="The figures, as text."),
                io.Image.Output(display_name="picture", tooltip="Histograms and heat maps."),
            ],
        )

    @classmethod
    @names_itself
    def execute(cls, bank: TicketBank) -> io.NodeOutput:
        text, picture = report(bank)
        return io.NodeOutput(text, picture[None], ui=preview(cls, picture[None], text))

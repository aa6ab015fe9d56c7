"""The pack's nodes. Each declares its schema and calls one function."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..probe import files
from . import routes
from .attention import AttentionOverSteps, AttentionOverStepsReport, SuggestGuidanceCutoff, SwapEndTokens
from .banks import LoadTicketBank, MergeTicketBanks, SaveTicketBank, TicketBankReport
from .guidance import GuidanceCutoff, GuidanceCutoffGuider, GuidanceCutoffKSampler, GuidanceCutoffReport
from .noise import ArrangeNoiseByRegions, NoiseReport, PickBestNoise
from .redraw import RedrawNoiseInRegion
from .regions import TicketRegionFromMask, TicketRegions, TicketRegionsFromBoxes
from .tickets import CollectTickets, TicketLatentFromRegions, TicketLayerReport
from .trial import LayoutScore, LayoutTrial

NODES: list[type[io.ComfyNode]] = [
    CollectTickets,
    TicketRegions,
    TicketLatentFromRegions,
    GuidanceCutoffKSampler,
    GuidanceCutoffGuider,
    GuidanceCutoff,
    GuidanceCutoffReport,
    LoadTicketBank,
    SaveTicketBank,
    MergeTicketBanks,
    TicketBankReport,
    TicketLayerReport,
    ArrangeNoiseByRegions,
    PickBestNoise,
    TicketRegionFromMask,
    TicketRegionsFromBoxes,
    NoiseReport,
    AttentionOverSteps,
    AttentionOverStepsReport,
    SuggestGuidanceCutoff,
    SwapEndTokens,
    LayoutTrial,
    LayoutScore,
    RedrawNoiseInRegion,
]


class WinningTickets(ComfyExtension):
    async def on_load(self) -> None:
        files.register()
        routes.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES

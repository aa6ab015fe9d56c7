"""The pack's nodes. Each declares its schema and calls one function."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..probe import files
from . import routes
from .arrange import ArrangeNoiseByRegions, PickBestNoise
from .banks import LoadTicketBank, MergeTicketBanks, SaveTicketBank, TicketBankReport
from .collect import CollectTickets
from .cutoff import (
    GuidanceCutoff,
    GuidanceCutoffGuider,
    GuidanceCutoffKSampler,
    GuidanceCutoffReport,
)
from .end_tokens import SwapEndTokens
from .layers import TicketLayerReport
from .layout import TicketLatentFromRegions
from .noise_report import NoiseReport
from .region_editor import TicketRegions
from .regions import TicketRegionFromMask, TicketRegionsFromBoxes
from .steps import AttentionOverSteps, AttentionOverStepsReport, SuggestGuidanceCutoff

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
]


class WinningTickets(ComfyExtension):
    async def on_load(self) -> None:
        files.register()
        routes.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES

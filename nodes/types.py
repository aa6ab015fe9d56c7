"""The pack's own socket types and what its nodes share."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "tickets"
Bank = io.Custom("TICKET_BANK")
MAX_SEED = 0xFFFFFFFFFFFFFFFF
MAX_SIDE = 16384

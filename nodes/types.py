"""The pack's own socket types and what its nodes share."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "tickets"
Bank = io.Custom("TICKET_BANK")


def seed_input(tooltip: str, control: bool = True) -> io.Int.Input:
    """`control`: with ComfyUI's control after generate."""
    return io.Int.Input(
        "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=control, tooltip=tooltip
    )


def side_input(name: str, tooltip: str) -> io.Int.Input:
    """Width or height of an image in pixels."""
    return io.Int.Input(name, default=512, min=64, max=16384, step=8, tooltip=tooltip)

"""Small banks for the tests of `tickets`."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from winning_tickets.tickets import noise
from winning_tickets.tickets.bank.bank import Recipe, TicketBank
from winning_tickets.tickets.prompts import PAIRS, make_prompts

RECIPE = Recipe("input 8", 4, 4, 16, 16, 14.6, 0.18215, "BaseModel")


def slow_rank(values: torch.Tensor) -> torch.Tensor:
    """Every value against every other."""
    below = (values[None] < values[:, None]).float().mean(1)
    return below + (values[None] == values[:, None]).float().mean(1) / 2


def make_bank(
    categories: tuple[str, ...] = ("cat", "tree", "car"),
    noises: int = 3,
    first: int = 0,
    scheme: str = PAIRS,
    attention_seed: int = 0,
) -> TicketBank:
    """Random attention to `categories` on noises of seeds first, first + 1, ..., 4x4 blocks each."""
    generator = torch.Generator().manual_seed(attention_seed)
    prompts = make_prompts(categories, scheme)
    measured = tuple((c, i) for i, p in enumerate(prompts) for c, _, _ in p.phrases)
    seeds = tuple(range(first, first + noises))
    drawn = torch.cat([noise.plain_noise(s, (4, 16, 16)) for s in seeds])
    return TicketBank.of_maps(
        categories=categories,
        prompts=tuple(p.text for p in prompts),
        measured=measured,
        seeds=seeds,
        maps=torch.rand(len(measured), noises, 4, 4, generator=generator),
        blocks=noise.to_blocks(drawn, 4).flatten(0, 2),
        recipe=RECIPE,
        made_by="the tests",
    )


def container(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def write_container(path: Path, header: bytes, data: bytes = b"") -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def is_a_sentence(text: str) -> bool:
    return text.endswith(".") and len(text) < 600 and text.isprintable()

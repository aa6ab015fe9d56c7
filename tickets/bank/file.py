"""Ticket banks as safetensors files: written whole or not at all, read with suspicion."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .bank import BankError, Recipe, TicketBank

FORMAT = 2
FLOATS = ("F32", "F16")
DTYPES = {
    "blocks": FLOATS,
    "attention": FLOATS,
    "low": FLOATS,
    "high": FLOATS,
    "noise": ("I32",),
    "cell": ("I32",),
    "measured": ("I32",),
    "seeds": ("I64",),
}


def _signed(seed: int) -> int:
    return seed - 2**64 if seed >= 2**63 else seed


def save_bank(bank: TicketBank, path: Path, half: bool = False) -> None:
    """Write safetensors: whole or not at all.

    half: blocks and attention in float16; else both are kept exactly.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "format": str(FORMAT),
        "categories": json.dumps(bank.categories),
        "prompts": json.dumps(bank.prompts),
        "recipe": json.dumps(asdict(bank.recipe)),
        "made_by": bank.made_by,
    }
    dtype = torch.float16 if half else torch.float32
    tensors = {
        "blocks": bank.blocks.to(dtype).contiguous(),
        "attention": bank.attention.to(dtype).contiguous(),
        # Rounded like the attention they are the extremes of, so that scores stay in 0..1.
        "low": bank.low.to(dtype).contiguous(),
        "high": bank.high.to(dtype).contiguous(),
        "noise": bank.noise.to(torch.int32).contiguous(),
        "cell": bank.cell.to(torch.int32).contiguous(),
        "measured": torch.tensor(bank.measured, dtype=torch.int32).reshape(-1, 2),
        "seeds": torch.tensor([_signed(s) for s in bank.seeds], dtype=torch.int64),
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, str(temporary), metadata={"ticket_bank": json.dumps(header)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _strings(value: Any) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise TypeError("not a list of texts")
    return value


def _recipe(value: Any) -> Recipe:
    """A recipe with every field of its type and every size positive."""
    kinds = {f.name: {"int": int, "float": float, "str": str}[str(f.type)] for f in fields(Recipe)}
    if not isinstance(value, dict) or not value.keys() <= kinds.keys():
        raise TypeError("its recipe is not one")
    for name, given in value.items():
        fits = isinstance(given, kinds[name]) or (kinds[name] is float and isinstance(given, int))
        if not fits or isinstance(given, bool):
            raise TypeError(f"{name} of its recipe is {given!r}")
        if isinstance(given, (int, float)) and not 0 < given < 1e6:
            raise ValueError(f"{name} of its recipe is {given}")
    return Recipe(**value)


def _tensors(file: Any) -> dict[str, torch.Tensor]:
    for name, allowed in DTYPES.items():
        found = file.get_slice(name).get_dtype()
        if found not in allowed:
            raise TypeError(f"{name} is of type {found}")
    return {name: file.get_tensor(name) for name in DTYPES}


def bank_facts(path: Path) -> tuple[tuple[str, ...], int]:
    """Categories and block side in latent pixels, from a bank's header alone; BankError if it is none."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {})["ticket_bank"])
        recipe = _recipe(json.loads(header["recipe"]))
        return tuple(_strings(json.loads(header["categories"]))), recipe.block
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise BankError(f"{path.name} is no ticket bank, or damaged ({error}).") from None


def load_bank(path: Path) -> TicketBank:
    """Read a bank, mapped into memory; BankError in one sentence when it is missing, damaged or none."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("ticket_bank", "null"))
            if header is None:
                raise BankError(f"{path.name} is no ticket bank; choose a file that Winning Tickets saved.")
            version = int(header["format"])
            if version > FORMAT:
                raise BankError(
                    f"{path.name} has format {version}, newer than this pack's {FORMAT};"
                    " update Winning Tickets."
                )
            if version < FORMAT:
                raise BankError(f"{path.name} has the old format {version}; collect the bank again.")
            tensors = _tensors(file)
            return TicketBank(
                categories=tuple(_strings(json.loads(header["categories"]))),
                prompts=tuple(_strings(json.loads(header["prompts"]))),
                measured=tuple((int(c), int(p)) for c, p in tensors["measured"].tolist()),
                seeds=tuple(s % 2**64 for s in tensors["seeds"].tolist()),
                blocks=tensors["blocks"].float(),
                noise=tensors["noise"],
                cell=tensors["cell"],
                attention=tensors["attention"].float(),
                low=tensors["low"].float(),
                high=tensors["high"].float(),
                recipe=_recipe(json.loads(header["recipe"])),
                made_by=str(header.get("made_by", "")),
            )
    except FileNotFoundError:
        raise BankError(f"No ticket bank at {path}.") from None
    except BankError as error:
        raise BankError(f"{path.name}: {error}") from None
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise BankError(f"{path.name} is damaged ({error}); collect or copy it again.") from None

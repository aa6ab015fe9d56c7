"""A ticket bank: blocks of initial noise with the attention each category paid them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .score import paper_score

FORMAT = 1


class BankError(ValueError):
    """A bank that cannot be used as asked; the message says what to change."""


@dataclass(frozen=True)
class Recipe:
    """How a bank was collected; banks of different recipes do not mix.

    layer: cross-attention read, e.g. "input 8". block: side of a block in latent pixels.
    sigma: the noise level, the model's highest. latent_scale: what the model multiplies latents by.
    """

    layer: str
    block: int
    channels: int
    height: int
    width: int
    sigma: float
    latent_scale: float
    model: str


@dataclass(frozen=True)
class TicketBank:
    """Scored blocks of many noises. Never changed once made: nodes share it by reference.

    seeds: of each noise, drawn by `plain_noise(seed, (channels, height, width))`.
    measured: (category, prompt) indices of each row of `attention`.
    attention [rows, noises, y, x] float32: probability of the category's words, mean over heads.
    blocks [noises * y * x, channels, block, block]: in order of noise, row, column.
    """

    categories: tuple[str, ...]
    prompts: tuple[str, ...]
    measured: tuple[tuple[int, int], ...]
    seeds: tuple[int, ...]
    attention: torch.Tensor
    blocks: torch.Tensor
    recipe: Recipe

    def __post_init__(self) -> None:
        rows, noises, *cells = self.attention.shape
        side = (self.recipe.channels, self.recipe.block, self.recipe.block)
        expected = [
            (len(cells) == 2, "attention has no rows and columns"),
            (rows == len(self.measured), "attention and the list of what was measured differ"),
            (noises == len(self.seeds), "attention and seeds differ in number"),
            (
                len(self.blocks) == self.attention[0].numel() if rows else False,
                "no block per score",
            ),
            (tuple(self.blocks.shape[1:]) == side, f"blocks are not {side}"),
            (bool(torch.isfinite(self.attention).all()), "scores are not finite"),
            (bool(torch.isfinite(self.blocks).all()), "blocks are not finite"),
            (len(set(self.categories)) == len(self.categories), "a category is listed twice"),
            (
                all(0 <= c < len(self.categories) and 0 <= p < len(self.prompts) for c, p in self.measured),
                "it scores a category or prompt it does not name",
            ),
        ]
        for fine, complaint in expected:
            if not fine:
                raise BankError(f"Damaged ticket bank: {complaint}. Collect it again.")

    @cached_property
    def _companions(self) -> dict[tuple[int, int], int]:
        """(category, companion in the same prompt) -> row; (category, category) where it stood alone."""
        in_prompt: dict[int, list[tuple[int, int]]] = {}
        for row, (category, prompt) in enumerate(self.measured):
            in_prompt.setdefault(prompt, []).append((category, row))
        return {
            (category, other): row
            for members in in_prompt.values()
            for category, row in members
            for other, _ in (members if len(members) == 1 else [m for m in members if m[1] != row])
        }

    def index(self, category: str) -> int:
        """Position of a category; BankError lists what there is."""
        if category not in self.categories:
            known = ", ".join(self.categories)
            raise BankError(f'The bank holds no tickets of "{category}"; it has: {known}.')
        return self.categories.index(category)

    def score(self, category: str, companion: str) -> torch.Tensor:
        """The paper's s(category | companion) of every block [noises * y * x], in 0..1."""
        key = (self.index(category), self.index(companion))
        if key not in self._companions:
            raise BankError(
                f'"{category}" and "{companion}" were not collected together; collect a bank with both.'
            )
        return paper_score(self.attention[self._companions[key]]).flatten()

    def average(self, category: str) -> torch.Tensor:
        """The paper's average score of every block over all companions [noises * y * x]."""
        me = self.index(category)
        rows = [row for (category, _), row in self._companions.items() if category == me]
        return paper_score(self.attention[rows]).mean(0).flatten()

    def describe(self) -> str:
        """One line for people."""
        y, x = self.attention.shape[-2:]
        r = self.recipe
        return (
            f"{len(self.blocks):,} tickets of {len(self.categories)} categories"
            f" ({', '.join(self.categories)}) from {len(self.seeds)} noises of"
            f" {r.width * 8}x{r.height * 8}, {y}x{x} blocks of {r.block}x{r.block}, layer {r.layer}"
        )


def _signed(seed: int) -> int:
    return seed - 2**64 if seed >= 2**63 else seed


def save_bank(bank: TicketBank, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write safetensors: whole or not at all. `dtype` is that of the attention; blocks stay exact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        "format": str(FORMAT),
        "categories": json.dumps(bank.categories),
        "prompts": json.dumps(bank.prompts),
        "recipe": json.dumps(asdict(bank.recipe)),
    }
    tensors = {
        "attention": bank.attention.to(dtype).contiguous(),
        "blocks": bank.blocks.contiguous(),
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


def load_bank(path: Path) -> TicketBank:
    """Read a bank; BankError in one sentence when the file is missing, damaged or no bank."""
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("ticket_bank", "null"))
            if header is None:
                raise BankError(f"{path.name} is no ticket bank; choose a file that Save Ticket Bank wrote.")
            if int(header["format"]) > FORMAT:
                raise BankError(
                    f"{path.name} has format {header['format']}, newer than this pack's {FORMAT};"
                    " update Winning Tickets."
                )
            tensors = {k: file.get_tensor(k) for k in ("attention", "blocks", "measured", "seeds")}
            return TicketBank(
                categories=tuple(_strings(json.loads(header["categories"]))),
                prompts=tuple(_strings(json.loads(header["prompts"]))),
                measured=tuple((int(c), int(p)) for c, p in tensors["measured"].tolist()),
                seeds=tuple(s % 2**64 for s in tensors["seeds"].tolist()),
                attention=tensors["attention"].float(),
                blocks=tensors["blocks"].float(),
                recipe=Recipe(**json.loads(header["recipe"])),
            )
    except FileNotFoundError:
        raise BankError(f"No ticket bank at {path}.") from None
    except BankError as error:
        raise BankError(f"{path.name}: {error}") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise BankError(f"{path.name} is damaged ({error}); collect or copy it again.") from None

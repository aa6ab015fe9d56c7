"""A ticket bank: blocks of initial noise with the attention each category paid them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import torch

from ..grid import PIXELS
from ..recent import Recent
from ..score import rank, stretch
from ..words import same_category

# Between the fingerprints of banks that were merged all the same.
BOTH = " + "
FINGERPRINT = (
    "model or LoRAs",
    "text encoder settings such as clip skip",
    "sampling or attention patches",
)
# Rows as large as the blocks themselves, if these have 4x4 latent pixels: enough for 6 categories.
ROWS_KEPT = 64
POOLS_KEPT = 8
EXCESS_KEPT = 2


class BankError(ValueError):
    """A bank that cannot be used as asked; the message says what to change."""


class MissingCategory(BankError):
    """A bank has no tickets of a category."""


@dataclass(frozen=True)
class Recipe:
    """How a bank was collected; banks of different recipes do not mix.

    layer: cross-attention read, e.g. "input 8"; several are averaged. block: side of a block in latent
    pixels. channels, height, width: of the latents. sigma: the noise level at which noise was read.
    latent_scale: what the model multiplies latents by, 0: it does something else, or its own noise level is
    another. pixels: of the image, along the side of a latent pixel. baseline: over how many other noises the
    attention at each cell was averaged, which was subtracted; 0: it was not. model: its family. scheme
    and template: how prompts were made of the categories. fingerprint: of the weights, how the text is
    encoded, how the model is run; joined by dashes, in the first banks the weights alone.
    """

    layer: str
    block: int
    channels: int
    height: int
    width: int
    sigma: float
    latent_scale: float
    model: str
    scheme: str = "pairs"
    template: str = "{}"
    fingerprint: str = ""
    pixels: int = PIXELS
    baseline: int = 0

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of whole blocks in one noise."""
        return self.height // self.block, self.width // self.block

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the images in pixels."""
        return self.width * self.pixels, self.height * self.pixels

    def differences(self, other: Recipe) -> list[str]:
        """Names of the fields in which two recipes differ."""
        changed = model_changes(self.fingerprint, other.fingerprint)
        fields = [n for n, v in vars(self).items() if n != "fingerprint" and v != getattr(other, n)]
        return [*fields, "fingerprint"] if changed else fields

    def contrast(self, other: Recipe, names: Iterable[str] | None = None) -> str:
        """These fields of the recipe beside the other one's, for people; all that differ, without names."""
        chosen = self.differences(other) if names is None else names
        found = [f"{n} {getattr(self, n)!r} instead of {getattr(other, n)!r}" for n in chosen]
        changed = model_changes(self.fingerprint, other.fingerprint) if "fingerprint" in chosen else []
        return ", ".join(found) + (f" (what differs: {', '.join(changed)})" if changed else "")


def model_changes(one: str, other: str) -> list[str]:
    """What differs between two fingerprints, as far as both of them reach.

    One of several banks together differs from another in all that any of them does.
    """
    if one == other:
        return []
    pairs = [(a.split("-"), b.split("-")) for a in one.split(BOTH) for b in other.split(BOTH)]
    found = {what for pair in pairs for what, a, b in zip(FINGERPRINT, *pair, strict=False) if a != b}
    return [what for what in FINGERPRINT if what in found]


@dataclass(frozen=True)
class TicketBank:
    """Scored blocks of many noises. Never changed once made: nodes share it by reference.

    seeds: of each noise, drawn by `plain_noise(seed, (channels, height, width))`.
    measured: (category, prompt) indices of each row of `attention`.
    blocks [tickets, channels, block, block] float32, as drawn.
    noise, cell [tickets]: index into seeds, and place in the raster of that noise's blocks.
    attention [rows, tickets] float32: probability of the category's words, mean over heads, less the
    baseline's.
    low, high [rows, noises]: its extremes over all blocks of a noise, also of those not kept.
    made_by: versions, for people.
    """

    categories: tuple[str, ...]
    prompts: tuple[str, ...]
    measured: tuple[tuple[int, int], ...]
    seeds: tuple[int, ...]
    blocks: torch.Tensor
    noise: torch.Tensor
    cell: torch.Tensor
    attention: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    recipe: Recipe
    made_by: str = ""

    @classmethod
    def of_maps(
        cls,
        categories: tuple[str, ...],
        prompts: tuple[str, ...],
        measured: tuple[tuple[int, int], ...],
        seeds: tuple[int, ...],
        maps: torch.Tensor,
        blocks: torch.Tensor,
        recipe: Recipe,
        made_by: str = "",
    ) -> TicketBank:
        """From whole noises: maps [rows, noises, y, x], blocks [noises * y * x, C, block, block]."""
        rows, noises, y, x = maps.shape
        return cls(
            categories,
            prompts,
            measured,
            seeds,
            blocks,
            noise=torch.arange(noises, dtype=torch.int32).repeat_interleave(y * x),
            cell=torch.arange(y * x, dtype=torch.int32).repeat(noises),
            attention=maps.reshape(rows, -1),
            low=maps.amin((-2, -1)),
            high=maps.amax((-2, -1)),
            recipe=recipe,
            made_by=made_by,
        )

    def __post_init__(self) -> None:
        rows, tickets, noises = len(self.measured), len(self.blocks), len(self.seeds)
        r = self.recipe
        cells = r.grid[0] * r.grid[1]
        shapes = {
            "attention": (self.attention, (rows, tickets)),
            "blocks": (self.blocks, (tickets, r.channels, r.block, r.block)),
            "noise": (self.noise, (tickets,)),
            "cell": (self.cell, (tickets,)),
            "low": (self.low, (rows, noises)),
            "high": (self.high, (rows, noises)),
        }
        for name, (tensor, shape) in shapes.items():
            if tuple(tensor.shape) != shape:
                raise BankError(f"Damaged ticket bank: {name} is {tuple(tensor.shape)}, not {shape}.")
            if tensor.is_floating_point() and not _finite(tensor):
                raise BankError(f"Damaged ticket bank: {name} is not finite.")
        named = all(0 <= c < len(self.categories) and 0 <= p < len(self.prompts) for c, p in self.measured)
        scored = {c for c, _ in self.measured}
        expected = [
            (bool(self.categories), "it has no categories"),
            (named, "it scores a category or prompt it does not name"),
            (len(set(self.categories)) == len(self.categories), "a category is listed twice"),
            (len(scored) == len(self.categories), "it does not score all of its categories"),
            (len(set(self.measured)) == rows, "a score is listed twice"),
            (_distinct(np.array(self.seeds, np.uint64)), "a noise is listed twice"),
            (tickets > 0, "it holds no tickets"),
            (_within(self.noise, noises) and _within(self.cell, cells), "a ticket comes from nowhere"),
            (_distinct(self._places.numpy()), "a ticket is listed twice"),
        ]
        for fine, complaint in expected:
            if not fine:
                raise BankError(f"Damaged ticket bank: {complaint}.")

    @property
    def _places(self) -> torch.Tensor:
        """A number for each ticket that no other has [tickets]."""
        cells = self.recipe.grid[0] * self.recipe.grid[1]
        return self.noise.to(torch.int64, copy=True).mul_(cells).add_(self.cell)

    @cached_property
    def _rows(self) -> dict[tuple[int, int | None], int]:
        """Row by category and companion; a category's own prompt has no companion."""
        prompts: dict[int, list[tuple[int, int]]] = {}
        for row, (c, p) in enumerate(self.measured):
            prompts.setdefault(p, []).append((c, row))
        found: dict[tuple[int, int | None], int] = {}
        # Of several prompts that hold both, the one of the fewest categories, of these the first.
        for members in (m for _, m in sorted(prompts.items(), key=lambda item: (len(item[1]), item[0]))):
            if len(members) == 1:
                found.setdefault((members[0][0], None), members[0][1])
            for (me, row), (other, _) in product(members, members):
                found.setdefault((me, other), row)
        return found

    def row(self, category: str, companion: str) -> int:
        """Row of `attention` that holds how `category` scores beside `companion`.

        The prompt of just these two, if there is one (scheme pairs, the paper's); else a prompt that
        holds both (joint); else the category's own prompt (singles): there, one score serves beside
        every companion.
        """
        me, other = self.index(category), self.index(companion)
        row = self._rows.get((me, other), self._rows.get((me, None)))
        if row is None:
            raise BankError(f'"{category}" and "{companion}" were not collected together.')
        return row

    def index(self, category: str) -> int:
        """Position of a category; MissingCategory lists what there is."""
        if category in self.categories:
            return self.categories.index(category)
        for number, own in enumerate(self.categories):
            if same_category(own, category):
                return number
        known = ", ".join(self.categories)
        raise MissingCategory(f'The bank holds no tickets of "{category}"; it has: {known}.')

    def own_name(self, category: str) -> str:
        """A category as this bank writes it, or as given if there is none."""
        try:
            return self.categories[self.index(category)]
        except BankError:
            return category

    @cached_property
    def _known(self) -> Recent[torch.Tensor]:
        """Scores and ranks asked for last, by row: a bank is used again for every seed."""
        return Recent(ROWS_KEPT)

    @cached_property
    def pools(self) -> Recent[Any]:
        """Pools made of this bank last, by what was asked for; see `make_pools`."""
        return Recent(POOLS_KEPT)

    @cached_property
    def excess(self) -> Recent[Any]:
        """How far every ticket is from being chosen, by selection and categories asked for last."""
        return Recent(EXCESS_KEPT)

    def _stretched(self, rows: list[int]) -> torch.Tensor:
        at = self.noise.long()
        return stretch(self.attention[rows], self.low[rows][:, at], self.high[rows][:, at])

    def score(self, category: str, companion: str) -> torch.Tensor:
        """The paper's s(category | companion) of every ticket [tickets], in 0..1."""
        row = self.row(category, companion)
        return self._known.get(("score", row), lambda: self._stretched([row])[0])

    def rank(self, category: str, companion: str) -> torch.Tensor:
        """Share of the bank that scores lower than each ticket [tickets]; see `score.rank`."""
        row = self.row(category, companion)
        return self._known.get(("rank", row), lambda: rank(self.score(category, companion)))

    def average(self, category: str) -> torch.Tensor:
        """The paper's average score of every ticket over all companions [tickets]."""
        me = self.index(category)
        return self._stretched([row for row, (c, _) in enumerate(self.measured) if c == me]).mean(0)

    def margin(self, category: str, others: Iterable[str]) -> torch.Tensor:
        """Own score minus the best other one's [tickets], in -1..1; without others the average score."""
        others = [o for o in others if o != category]
        if not others:
            return self.average(category)
        gaps = [self.score(category, o) - self.score(o, category) for o in others]
        return torch.stack(gaps).amin(0)

    def maps(self, row: int) -> torch.Tensor:
        """Raw attention of one row as maps [noises, rows, columns]; NaN where no ticket was kept."""
        y, x = self.recipe.grid
        result = torch.full((len(self.seeds), y * x), float("nan"))
        result[self.noise.long(), self.cell.long()] = self.attention[row]
        return result.view(-1, y, x)

    def take(self, tickets: torch.Tensor) -> TicketBank:
        """The same bank with only the tickets of these indices; BankError if there are none."""
        parts = {name: getattr(self, name)[tickets] for name in ("blocks", "noise", "cell")}
        return replace(self, attention=self.attention[:, tickets], **parts)

    @property
    def pruned(self) -> bool:
        """Not all blocks of its noises are there."""
        y, x = self.recipe.grid
        return len(self.blocks) < len(self.seeds) * y * x

    def describe(self) -> str:
        """One line for people."""
        y, x = self.recipe.grid
        r = self.recipe
        best = ", the best" if self.pruned else ""
        categories = "category" if len(self.categories) == 1 else "categories"
        return (
            f"{len(self.blocks):,} tickets of {len(self.categories)} {categories}"
            f" ({', '.join(self.categories)}){best} from {len(self.seeds)} noises of"
            f" {r.size[0]}x{r.size[1]}, {y}x{x} blocks of {r.block}x{r.block}, layer"
            f" {r.layer}, model {' '.join(filter(None, (r.model, r.fingerprint)))}"
        )


# What follows makes no copy as large as a bank's tensors: those may be as large as the memory.


def _finite(values: torch.Tensor) -> bool:
    return not values.numel() or all(math.isfinite(v) for v in torch.aminmax(values))


def _within(index: torch.Tensor, size: int) -> bool:
    if not index.numel():
        return True
    low, high = torch.aminmax(index)
    return int(low) >= 0 and int(high) < size


def _distinct(values: np.ndarray) -> bool:
    """Sorts them in place."""
    values.sort()
    return not bool((values[1:] == values[:-1]).any())

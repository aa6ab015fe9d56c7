"""New initial noise from winning and losing tickets (Mao et al. 2024, SemI)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from einops import repeat

from ..bank.bank import TicketBank
from ..grid import Grid
from ..noise import SEED_RANGE, blended, place_blocks, plain_noise
from ..recent import Recent
from .calibrate import NONE, calibrate
from .regions import SMALLER, AnyRegion, LayoutError, MaskRegion, assign_cells, by_category, categories_of
from .select import RELAX, Pools, Selection, Thresholds, draw, eligible, make_pools

LOSERS, KEEP = BACKGROUNDS = ("losers", "keep")
SHARE_EXCHANGED = 0.3
OWNERS_KEPT = 64


def image_generator(seed: int, index: int, candidate: int = 0) -> torch.Generator:
    """The random numbers of arrangement `candidate` of image `index` of `seed`, the same in any batch."""
    entropy = [seed % SEED_RANGE, index, candidate]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator("cpu").manual_seed(int(state[0]))


@dataclass(frozen=True)
class Layout:
    """Everything that decides the noise of an image, but for its seed and index in the batch.

    width and height are those of the latent, in latent pixels. background: `losers`, or `keep` for the
    seed's plain noise there. strength: share of the tickets in the noise, 0 (the seed's plain noise) to
    1 (tickets only); between them sqrt(1 - strength^2) plain + strength tickets, which keeps the
    variance. soft: masks weigh it once more, latent pixel by latent pixel. calibration: see `calibrate`.
    """

    bank: TicketBank
    regions: tuple[AnyRegion, ...]
    width: int
    height: int
    selection: Selection = Thresholds()
    overlap: str = SMALLER
    shortage: str = RELAX
    background: str = LOSERS
    strength: float = 1.0
    soft: bool = False
    calibration: str = NONE

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise LayoutError(f"strength is {self.strength}; it must be between 0 and 1.")
        if self.background not in BACKGROUNDS:
            raise LayoutError(f"background is {self.background!r}; choose one of {', '.join(BACKGROUNDS)}.")
        # One name for a category, whichever way regions write it: maps, prompts and reports go by it.
        named = tuple(replace(r, category=self.bank.own_name(r.category)) for r in self.regions)
        object.__setattr__(self, "regions", named)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one noise: channels, height, width."""
        return self.bank.recipe.channels, self.height, self.width

    @cached_property
    def grid(self) -> Grid:
        """Of the bank's blocks; GridError when none fits."""
        return Grid(self.height, self.width, self.bank.recipe.block)

    @property
    def categories(self) -> tuple[str, ...]:
        """Those present, in the order of the regions."""
        return categories_of(self.regions)

    @cached_property
    def _owners(self) -> Recent[torch.Tensor]:
        return Recent(OWNERS_KEPT)

    def owner(self, index: int = 0) -> torch.Tensor:
        """Index of the region of each whole block of image `index`, -1: background [rows, columns]."""
        # Masks begin again each after its own number: images of the same ones have the same layout.
        masks = tuple(index % len(r.masks) for r in self.regions if isinstance(r, MaskRegion))
        return self._owners.get(masks, lambda: self._assign(index))

    def _assign(self, index: int) -> torch.Tensor:
        return assign_cells(self.regions, *self.grid.exact, index, self.overlap)

    def groups(self, index: int = 0) -> torch.Tensor:
        """Index into `categories` of each whole block, -1: background [rows, columns]."""
        return by_category(self.regions, self.owner(index))

    @property
    def pools(self) -> Pools:
        """The tickets to draw the first image from."""
        return self.pools_of(0)

    def pools_of(self, index: int) -> Pools:
        """The tickets to draw image `index` from, whatever batch it is in; BankError: they are too few."""
        groups = self.groups(index)
        needed = {c: int((groups == g).sum()) for g, c in enumerate(self.categories)}
        background = int((groups < 0).sum()) if self.background == LOSERS else 0
        return make_pools(self.bank, self.selection, needed, background, self.shortage)

    def _drawn(self, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Pools that image `index` draws from, with the cells [rows, columns] that each fills."""
        pools, categories = self.pools_of(index), self.categories
        return [
            (pools.winners[categories[group]] if group >= 0 else pools.losers, cells)
            for group, cells in self._filled(index)
        ]

    def _filled(self, index: int) -> list[tuple[int, torch.Tensor]]:
        """Groups that get tickets in image `index`, with their cells [rows, columns]."""
        groups = self.groups(index)
        wanted = [*range(len(self.categories)), *([-1] if self.background == LOSERS else [])]
        return [(g, groups == g) for g in wanted if bool((groups == g).any())]

    def arrange(self, seed: int, index: int = 0, candidate: int = 0) -> torch.Tensor:
        """Ticket of every cell [rows, columns], -1 where plain noise is kept."""
        generator = image_generator(seed, index, candidate)
        chosen = torch.full_like(self.owner(index), -1)
        for pool, cells in self._drawn(index):
            count = int(cells.sum())
            chosen[cells] = draw(eligible(pool, count, self.selection), count, generator)
        return chosen

    def exchange(
        self, chosen: torch.Tensor, worth: torch.Tensor, index: int, generator: torch.Generator
    ) -> torch.Tensor:
        """An arrangement in which the worst cells of every group have other tickets of its pool.

        worth [rows, columns]: how well each cell does in context. Tickets that are in no cell yet are
        drawn; where there are none left, the cells stay as they are.
        """
        result = chosen.clone()
        for pool, cells in self._drawn(index):
            unused = pool[~torch.isin(pool, chosen[cells])]
            count = min(len(unused), round(SHARE_EXCHANGED * int(cells.sum())))
            if count:
                places = cells.flatten().nonzero().flatten()
                worst = places[torch.topk(worth.flatten()[places], count, largest=False).indices]
                fresh = eligible(unused, count, self.selection)
                result.view(-1)[worst] = draw(fresh, count, generator)
        return result

    def weight(self, index: int = 0) -> torch.Tensor:
        """Share of the tickets in each latent pixel of the whole blocks [rows, columns] x block, in 0..1."""
        block = self.bank.recipe.block
        owner = self.owner(index)
        weight = torch.ones(owner.shape[0] * block, owner.shape[1] * block)
        large = repeat(owner, "y x -> (y p) (x q)", p=block, q=block)
        if self.background == KEEP:
            weight[large < 0] = 0
        for i, region in enumerate(self.regions):
            if self.soft and isinstance(region, MaskRegion):
                cover = region.coverage(self.height, self.width, index)[: len(weight), : weight.shape[1]]
                weight = torch.where(large == i, cover.to(weight), weight)
        return weight * self.strength

    def place(self, plain: torch.Tensor, chosen: torch.Tensor, index: int = 0) -> torch.Tensor:
        """Noise [C, height, width] of an arrangement, over the plain noise of the seed."""
        tickets = place_blocks(plain, self.bank.blocks[chosen.clamp_min(0)].to(plain))
        weight = torch.zeros(plain.shape[1:])
        inner = self.weight(index)
        weight[: len(inner), : inner.shape[1]] = inner
        mixed = blended(plain, tickets, weight)
        return calibrate(mixed, self.calibration) if self.strength else mixed

    def plain(self, seed: int, indices: Iterable[int]) -> torch.Tensor:
        """The seed's own noise [len(indices), C, height, width]; see `plain_noise`."""
        return plain_noise(seed, self.shape, indices)

    def build(self, seed: int, indices: Iterable[int] = (0,)) -> torch.Tensor:
        """Noise [len(indices), C, height, width] float32 for images `indices` of a batch of `seed`.

        Each image has its own draw. Latents beyond the last whole block keep the seed's plain noise.
        """
        wanted = list(indices)
        pairs = zip(self.plain(seed, wanted), wanted, strict=True)
        return torch.stack([self.place(noise, self.arrange(seed, i), i) for noise, i in pairs])

    def ticket_worth(self, chosen: torch.Tensor, index: int = 0) -> torch.Tensor:
        """What the bank says each cell's ticket is worth [rows, columns], as `cell_worth`; NaN: none."""
        worth = torch.full(chosen.shape, float("nan"))
        for group, cells in self._filled(index):
            if group >= 0:
                value = self.bank.margin(self.categories[group], self.categories)
            else:
                value = -torch.stack([self.bank.average(c) for c in self.categories]).amax(0)
            worth[cells] = value[chosen[cells]]
        return worth

    def describe(self, images: int = 1) -> str:
        """For people: tickets the first image draws from, and what was widened for each of `images`."""
        owner = self.owner()
        parts = [f"{c}: {len(pool):,} tickets" for c, pool in self.pools.winners.items()]
        if self.background == LOSERS and bool((owner < 0).any()):
            parts.append(f"background: {len(self.pools.losers):,}")
        line = f"{int((owner >= 0).sum())} of {owner.numel()} blocks in regions; {', '.join(parts)}"
        notes: dict[str, list[int]] = {}
        for index in range(images):
            for note in self.pools_of(index).notes:
                notes.setdefault(note, []).append(index + 1)
        return "\n".join([line, *(_of_images(note, which, images) for note, which in notes.items())])


def _of_images(note: str, which: Sequence[int], images: int) -> str:
    """A note and the images of a batch that it is about, if not about all."""
    if len(which) == images:
        return note
    return f"Image{'s' if len(which) > 1 else ''} {', '.join(map(str, which))}: {note}"

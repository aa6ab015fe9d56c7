"""Ticket Latent from Regions, Arrange Noise by Regions and Pick Best Noise: from a wish to its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import comfy.utils
import torch

from ...show.draw import unwritten
from ...show.layout import layout_picture
from ...tickets.layout.build import Layout
from ...tickets.layout.regions import SMALLER, AnyRegion, assign_cells, by_category, categories_of
from ...tickets.search.fit import cell_worth
from ..attention.look import Look
from ..attention.reader import ProbeError, cell_side, find_layers
from ..collect.auto import choose_layer, is_auto
from ..collect.collect import Wish
from ..model.cost import forward_share
from ..model.fingerprint import fingerprint
from .noise import (
    BuiltNoise,
    PlainNoise,
    Searching,
    Shape,
    empty_latent,
    noise_latent,
    searched_noises,
    searched_swaps,
    searched_tickets,
    ticket_noise,
)

TICKETS, ARRANGE, PICK = NODES = (
    "Ticket Latent from Regions",
    "Arrange Noise by Regions",
    "Pick Best Noise",
)


@dataclass(frozen=True)
class NoiseResult:
    """noise: for samplers that take a NOISE. latent: the same, scaled. picture [1, h, w, 3]."""

    noise: BuiltNoise
    latent: dict[str, Any]
    empty: dict[str, Any]
    picture: torch.Tensor
    report: str


class Bar:
    """ComfyUI's progress bar over looks."""

    def __init__(self, total: int) -> None:
        self.bar = comfy.utils.ProgressBar(total)

    def __call__(self, looks: int) -> None:
        self.bar.update_absolute(looks)


@dataclass(frozen=True)
class TicketWish:
    """A layout's noise for a batch; candidates and rounds count when there is a model to look with."""

    layout: Layout
    seed: int
    batch: int
    candidates: int
    rounds: int


def build_tickets(wish: TicketWish, model: Any = None, clip: Any = None) -> NoiseResult:
    """Noise of tickets; ProbeError when only one of model and clip is given."""
    layout, recipe = wish.layout, wish.layout.bank.recipe
    if (model is None) != (clip is None):
        raise ProbeError(
            f"{TICKETS} has only one of model and clip: connect both to look at the noise, or neither."
        )
    shape = layout.shape
    lines = [layout.describe(wish.batch)]
    searching = None
    if model is None:
        noise = ticket_noise(layout, wish.seed, TICKETS)
        lines.append("Not looked at: connect model and clip to choose among candidates.")
    else:
        if fingerprint(model, clip) != recipe.fingerprint:
            lines.append(
                "Warning: this model is not the one the bank was collected on, or is patched otherwise."
            )
        size = (layout.width * 8, layout.height * 8)
        progress = Bar(wish.batch * wish.candidates * (1 + wish.rounds))
        about = (layout.categories, recipe.layer, *size, recipe.block, recipe.template, progress)
        look = Look(model, clip, *about)
        if look.shape != shape:
            raise ProbeError(f"The bank's latents have {shape[0]} channels, this model's {look.shape[0]}.")
        searching = searched_tickets(layout, look, wish.candidates, wish.rounds)
        noise = BuiltNoise(searching, shape, wish.seed, TICKETS)
    built = noise.images(range(wish.batch))
    if searching:
        lines.append(searching.describe(forward_share(model, look.layers[-1], *shape[1:])))
        worth = _worth(searching, layout.groups)
    else:
        worth = layout.ticket_worth(layout.arrange(wish.seed))
    lines += unwritten(layout.categories)
    return NoiseResult(
        noise,
        noise_latent(built, recipe.sigma, recipe.latent_scale),
        empty_latent(wish.batch, shape),
        layout_picture(
            layout.owner(), layout.groups(), worth, built[0], recipe.block, categories_of(layout.regions)
        )[None],
        "\n".join(lines),
    )


@dataclass(frozen=True)
class PlaceWish:
    """Regions for noise that needs no bank. width and height in pixels; layer may be `auto`."""

    regions: tuple[AnyRegion, ...]
    width: int
    height: int
    seed: int
    batch: int
    candidates: int
    rounds: int
    layer: str
    cells: int = 1
    overlap: str = SMALLER

    @property
    def categories(self) -> tuple[str, ...]:
        return categories_of(self.regions)


def arrange_noise(model: Any, clip: Any, wish: PlaceWish) -> NoiseResult:
    """The blocks of one seed's own noise exchanged; a permutation of it."""

    def start(look: Look, groups: Callable[[int], torch.Tensor], shape: Shape) -> tuple[Searching, int]:
        return searched_swaps(groups, shape, look, wish.candidates, wish.rounds), wish.seed

    return _place(model, clip, wish, ARRANGE, start)


def pick_noise(model: Any, clip: Any, wish: PlaceWish, noise: Any = None) -> NoiseResult:
    """The best of several seeds of a NOISE, stock noise without one."""
    noise = noise if noise is not None else PlainNoise(wish.seed)

    def start(look: Look, groups: Callable[[int], torch.Tensor], shape: Shape) -> tuple[Searching, int]:
        return searched_noises(groups, noise, shape, look, wish.candidates), getattr(noise, "seed", 0)

    return _place(model, clip, wish, PICK, start)


def _place(model: Any, clip: Any, wish: PlaceWish, node: str, start: Any) -> NoiseResult:
    lines = []
    asked = Wish(wish.categories, 1, wish.seed, wish.width, wish.height, wish.layer)
    if is_auto(asked):
        asked, why = choose_layer(model, clip, asked)
        lines.append(why)
    block = wish.cells * cell_side(model, find_layers(model, asked.layer)[0])
    progress = Bar(wish.batch * wish.candidates * (1 + wish.rounds))
    look = Look(model, clip, wish.categories, asked.layer, wish.width, wish.height, block, progress=progress)
    _, height, width = look.shape
    if min(height, width) < block:
        raise ProbeError(
            f"{node}: blocks of {block} latent pixels do not fit an image of {wish.width}x{wish.height}:"
            " raise width and height or choose a finer layer."
        )
    owner = lru_cache(maxsize=None)(
        lambda index: assign_cells(wish.regions, height / block, width / block, index, wish.overlap)
    )

    def groups(index: int) -> torch.Tensor:
        return by_category(wish.regions, owner(index))

    searching, seed = start(look, groups, look.shape)
    noise = BuiltNoise(searching, look.shape, seed, node)
    built = noise.images(range(wish.batch))
    latent_format = model.get_model_object("latent_format")
    lines.append(searching.describe(forward_share(model, look.layers[-1], height, width)))
    lines += unwritten(wish.categories)
    return NoiseResult(
        noise,
        noise_latent(built, look.sigma, float(latent_format.scale_factor)),
        empty_latent(wish.batch, look.shape),
        layout_picture(owner(0), groups(0), _worth(searching, groups), built[0], block, wish.categories)[
            None
        ],
        "\n".join(lines),
    )


def _worth(searching: Searching, groups: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """Of the first image's cells, in context."""
    (first, *_) = searching.found.values()
    return cell_worth(first.scores[None], groups(0))[0]

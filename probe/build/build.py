"""Ticket Latent from Regions, Arrange Noise by Regions and Pick Best Noise: from a request to its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from ...show.draw import unwritten
from ...show.layout import layout_picture
from ...tickets.bank.bank import model_changes
from ...tickets.layout.build import Layout
from ...tickets.layout.regions import SMALLER, AnyRegion, assign_cells, by_category, categories_of
from ...tickets.prompts import JOINT, make_prompts
from ...tickets.search.fit import cell_worth
from ..attention.scorer import Scorer
from ..collect.collect import CollectRequest
from ..layers.choose import choose_layer, is_auto
from ..model.architecture import unproven
from ..model.family import ProbeError, latent_shape, require
from ..noise.foreign import Variants, seed_of
from ..noise.forms import (
    BuiltNoise,
    PlainNoise,
    empty_latent,
    noise_latent,
    recipe_latent,
    ticket_noise,
)
from ..preview import ChoiceBar
from .looking import AfterSteps, Looking, first_steps
from .searching import Groups, Searching, searched_noises, searched_swaps, searched_tickets

OWNERS_KEPT = 64
TICKETS, ARRANGE, PICK = NODES = (
    "Ticket Latent from Regions",
    "Arrange Noise by Regions",
    "Pick Best Noise",
)


@dataclass(frozen=True)
class NoiseResult:
    """noise: for samplers that take a NOISE. latent: the same, scaled for the model, or what blocks the nodes
    that take it. picture [1, h, w, 3].
    """

    noise: BuiltNoise
    latent: Any
    empty: dict[str, Any]
    picture: torch.Tensor
    report: str


@dataclass(frozen=True)
class TicketRequest:
    """A layout's noise for a batch; candidates and rounds count when there is a model to look with."""

    layout: Layout
    seed: int
    batch: int
    candidates: int
    rounds: int
    after: AfterSteps | None = None

    def __post_init__(self) -> None:
        _require_counts(self)


def build_tickets(request: TicketRequest, model: Any = None, clip: Any = None) -> NoiseResult:
    """Noise of tickets; ProbeError when only one of model and clip is given."""
    layout, recipe = request.layout, request.layout.bank.recipe
    if (model is None) != (clip is None):
        raise ProbeError(
            f"{TICKETS} has only one of model and clip: connect both to look at the noise, or neither."
        )
    shape = layout.shape
    lines = [layout.describe(request.batch)]
    searching = None
    if model is None:
        noise = ticket_noise(layout, request.seed, TICKETS)
        lines.append(
            "Not looked at: connect model and clip to choose among candidates, and to check that the bank"
            f" is of this model; it was collected on {recipe.model} {recipe.fingerprint}."
        )
    else:
        scorer = Scorer.of_bank(recipe, model, clip, TICKETS, *_pixels(layout))
        if changed := model_changes(scorer.fingerprint, recipe.fingerprint):
            lines.append(
                f"Warning: the bank was collected with other settings. What differs: {', '.join(changed)}."
            )
        prompts = scorer.encode(make_prompts(layout.categories, JOINT, recipe.template))
        steps = None
        if request.after:
            steps = first_steps(model, clip, TICKETS, scorer.latent, prompts[0].text, request.after)
        looking = Looking(scorer, prompts, layout.grid, steps, request.seed)
        looking.announce(request.batch, request.candidates, request.rounds)
        searching = searched_tickets(layout, looking, request.candidates, request.rounds)
        off = None if layout.strength else PlainNoise(request.seed)
        noise = BuiltNoise(searching, shape, request.seed, TICKETS, off)
    built = noise.images(range(request.batch))
    if searching:
        lines.append(searching.describe())
        worth = _worth(searching, layout.groups)
        searching.forget()
    else:
        worth = layout.ticket_worth(layout.arrange(request.seed))
    ready = noise.batch(request.batch)
    if model is None:
        latent, note = recipe_latent(ready, recipe, TICKETS)
    else:
        latent, note = noise_latent(ready, model, TICKETS)
        lines += filter(None, [unproven(model)])
    lines += [*filter(None, [note]), *unwritten(layout.categories)]
    return NoiseResult(
        noise,
        latent,
        empty_latent(request.batch, shape),
        layout_picture(
            layout.owner(), layout.groups(), worth, built[0], recipe.block, categories_of(layout.regions)
        )[None],
        "\n".join(lines),
    )


@dataclass(frozen=True)
class PlaceRequest:
    """Regions for noise that needs no bank. width and height in pixels; layer may be `auto`."""

    regions: tuple[AnyRegion, ...]
    width: int
    height: int
    seed: int
    batch: int
    candidates: int
    rounds: int
    layer: str
    cells: int = 0
    overlap: str = SMALLER
    after: AfterSteps | None = None

    def __post_init__(self) -> None:
        _require_counts(self)

    @property
    def categories(self) -> tuple[str, ...]:
        return categories_of(self.regions)


def _require_counts(request: TicketRequest | PlaceRequest) -> None:
    require("batch_size", request.batch, 1)
    require("candidates", request.candidates, 1)
    require("rounds", request.rounds, 0)


def arrange_noise(model: Any, clip: Any, request: PlaceRequest) -> NoiseResult:
    """The blocks of one seed's own noise exchanged; a permutation of it."""

    def start(looking: Looking, groups: Groups) -> Searching:
        shape = looking.scorer.shape
        return searched_swaps(groups, shape, looking, request.candidates, request.rounds)

    off = PlainNoise(request.seed) if request.candidates == 1 and not request.rounds else None
    return _place(model, clip, request, ARRANGE, start, request.seed, off)


def pick_noise(model: Any, clip: Any, request: PlaceRequest, noise: Any = None) -> NoiseResult:
    """The best of several seeds of a NOISE, stock noise without one."""
    noise = noise if noise is not None else PlainNoise(request.seed)
    seed, off = seed_of(noise, request.seed), noise if request.candidates == 1 else None

    def start(looking: Looking, groups: Groups) -> Searching:
        variants = Variants(noise, looking.scorer.shape, seed, PICK)
        return searched_noises(groups, variants, looking, request.candidates, request.batch)

    return _place(model, clip, request, PICK, start, seed, off)


def _place(
    model: Any,
    clip: Any,
    request: PlaceRequest,
    node: str,
    start: Callable[[Looking, Groups], Searching],
    seed: int,
    off: Any,
) -> NoiseResult:
    """seed, off: see `BuiltNoise`."""
    lines = []
    size = request.width, request.height
    texts = make_prompts(request.categories, JOINT)
    steps = None
    if request.after:
        # Before the layer is looked for, which takes longer.
        shape = latent_shape(model, *size)
        steps = first_steps(model, clip, node, shape, texts[0].text, request.after)
    asked = CollectRequest(request.categories, 1, request.seed, *size, request.layer)
    if is_auto(asked):
        asked, why = choose_layer(model, clip, asked, node, ChoiceBar())
        lines.append(why)
    scorer = Scorer(model, clip, node, *size, asked.layer)
    grid = scorer.grid(request.cells)
    looking = Looking(scorer, scorer.encode(texts), grid, steps, seed)
    looking.announce(request.batch, request.candidates, request.rounds)
    owner = lru_cache(maxsize=OWNERS_KEPT)(
        lambda index: assign_cells(request.regions, *grid.exact, index, request.overlap)
    )

    def groups(index: int) -> torch.Tensor:
        return by_category(request.regions, owner(index))

    searching = start(looking, groups)
    noise = BuiltNoise(searching, scorer.shape, seed, node, off)
    built = noise.images(range(request.batch))
    latent, note = noise_latent(noise.batch(request.batch), model, node)
    # Picking leaves blocks where they are.
    moved = "" if node == PICK else unproven(model)
    lines += [searching.describe(), *filter(None, [note, moved]), *unwritten(request.categories)]
    worth = _worth(searching, groups)
    searching.forget()
    return NoiseResult(
        noise,
        latent,
        empty_latent(request.batch, scorer.shape),
        layout_picture(owner(0), groups(0), worth, built[0], grid.block, request.categories)[None],
        "\n".join(lines),
    )


def _pixels(layout: Layout) -> tuple[int, int]:
    """Width and height of the image."""
    pixels = layout.bank.recipe.pixels
    return layout.width * pixels, layout.height * pixels


def _worth(searching: Searching, groups: Groups) -> torch.Tensor:
    """Of the first image's cells, in context."""
    (first, *_) = searching.found.values()
    return cell_worth(first.scores[None], groups(0))[0]

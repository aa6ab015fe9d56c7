"""layer = auto: a quick look at which layer's tickets have the greatest effect."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...tickets.layers.figures import LayerWorth, recommended
from ...tickets.recent import Recent
from ..collect.collect import CollectRequest
from ..model.fingerprint import fingerprint
from ..server import announce
from .probe import LayerProbe

AUTO = "auto"
NOISES = 8
PROMPTS = 4
SAMPLES = 12
# The same question has the same answer: seed 0, whatever the seed of the collection.
SEED = 0


@dataclass(frozen=True)
class Choice:
    """What every layer is worth, and what it took to find out: forwards of one image without guidance."""

    worths: list[LayerWorth]
    forwards: float


_known: Recent[Choice] = Recent(32)


def is_auto(request: CollectRequest) -> bool:
    return request.layer.strip().lower() == AUTO


def choose_layer(
    model: Any,
    clip: Any,
    request: CollectRequest,
    node: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[CollectRequest, str]:
    """The request with a layer instead of `auto`, and a sentence on the choice.

    Looks at the first layer of every block with cross-attention; the last answers are remembered for a
    model, its patches, the categories, template and size, until ComfyUI ends.
    """
    size = request.width, request.height
    key = (fingerprint(model, clip), request.categories, request.template, size)

    new = False

    def look() -> Choice:
        nonlocal new
        done, new = 0, True

        def tick() -> None:
            nonlocal done
            done += 1
            progress(done, 2 * len(probe.prompts))

        pairs = min(PROMPTS, max(1, math.comb(len(request.categories), 2)))
        transplanted = 2 * math.ceil(SAMPLES / 2 / pairs)
        about = (model, clip, request.categories, NOISES, SEED, *size, True, request.template)
        probe = LayerProbe(*about, PROMPTS, transplanted, tick, node)
        announce(f"layer auto: {len(probe.layers)} layers are tried with {probe.cost:.0f} forwards.")
        return Choice(probe.effect(), probe.cost)

    choice = _known.get(key, look)
    cost = f"It took {choice.forwards:.0f} forwards" if new else "Known from an earlier run"
    best = recommended(choice.worths)
    return replace(request, layer=str(best.layer)), f"{explain(choice.worths)} {cost}."


def explain(worths: list[LayerWorth]) -> str:
    """What was chosen, and how far it lies before the others."""
    best, *others = sorted(worths, key=lambda w: w.effect, reverse=True)
    text = f"layer auto: {best.layer} (effect {best.effect:.2f} +- {best.error:.2f}"
    text += f"; next {others[0].layer}, {others[0].effect:.2f})." if others else ")."
    if not best.clear:
        text += " No layer stands out on this model: its tickets may do nothing."
    return text

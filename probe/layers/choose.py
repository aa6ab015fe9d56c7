"""layer = auto: the layers whose tickets have an effect are found, and tried in a few images."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

from ...tickets.layers.figures import (
    LayerWorth,
    contenders,
    most_trials,
    recommended,
    settled,
    to_try,
)
from ...tickets.prompts import PLACE
from ...tickets.recent import Recent
from ..model.architecture import family_of
from ..model.clone import plain_clone
from ..model.fingerprint import fingerprint, sampling_patches
from ..server import announce
from .probe import NODE, LayerProbe
from .remembered import recall, remember

AUTO = "auto"
# As many as are collected by default: how strictly tickets are chosen changes which layer's work.
NOISES = 32
PROMPTS = 4
# Noises of each layer's tickets, for its effect.
SAMPLES = 16
# So many pairs speak for other categories, too: of fewer words it is those words' own layer.
ENOUGH = PROMPTS
# The same question has the same answer: seed 0, whatever the seed of the collection.
SEED = 0


class Asked(Protocol):
    """A dataclass that names a layer, and what it is for: categories, and an image's pixels."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def categories(self) -> tuple[str, ...]: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def layer(self) -> str: ...
    @property
    def template(self) -> str: ...


Request = TypeVar("Request", bound=Asked)


@dataclass(frozen=True)
class Choice:
    """The layer, a sentence on why, whether that is sure enough to hold for other categories, too, and
    whether the layer's tickets did anything at all that chance would not.
    """

    layer: str
    why: str
    sure: bool
    clear: bool = False


_known: Recent[Choice] = Recent(32)


def is_auto(request: Asked) -> bool:
    return request.layer.strip().lower() == AUTO


def choose_layer(
    model: Any,
    clip: Any,
    request: Request,
    node: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Request, str]:
    """The request with a layer instead of `auto`, and a sentence on the choice.

    Looks at the first layer of every block in which image attends to text, of MOST_BLOCKS at most. A sure
    answer is remembered for the model with all that changes its predictions, and for the size, in a file; one
    of few words for these words. An open one is kept for the words until ComfyUI ends.
    """
    # As its images are drawn.
    patches = sampling_patches(plain_clone(model))
    about = " ".join(
        [fingerprint(model, clip), *filter(None, [patches]), f"{request.width}x{request.height}"]
    )
    words = f"{about} {json.dumps([request.categories, request.template])}"
    # What was chosen for these very words holds for them, so that a trial or bank of them can be resumed.
    for before in (recall(words), recall(about)):
        if before and before.layer in _names(model):
            return replace(request, layer=before.layer), f"{before.why} Known from {before.date}."
    new = False

    def look() -> Choice:
        nonlocal new
        new = True
        return _choose(model, clip, request, node, progress)

    choice = _known.get(words, look)
    if choice.clear and remember(about if choice.sure else words, choice.layer, choice.why):
        _known.drop(words)
    if not new:
        return replace(request, layer=choice.layer), f"{choice.why} Known from an earlier run."
    return replace(request, layer=choice.layer), choice.why


def _choose(model: Any, clip: Any, request: Asked, node: str, progress: Callable[[int, int], None]) -> Choice:
    size = request.width, request.height
    probe, worths, cost = look(model, clip, request.categories, size, SEED, request.template, node, progress)
    best = recommended(worths)
    sure = best.clear and len(probe.prompts) >= ENOUGH
    return Choice(str(best.layer), f"{explain(worths)} It took {cost:.0f} forwards.", sure, best.clear)


def look(
    model: Any,
    clip: Any,
    categories: Sequence[str],
    size: tuple[int, int],
    seed: int,
    template: str = PLACE,
    node: str = NODE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[LayerProbe, list[LayerWorth], float]:
    """The figures by which `auto` chooses, and what they took, in forwards of one image without guidance."""
    pairs = min(PROMPTS, max(1, math.comb(len(categories), 2)))
    probe = LayerProbe(
        *(model, clip, categories, NOISES, seed, *size, True, template),
        prompts=PROMPTS,
        transplanted=2 * math.ceil(SAMPLES / pairs / 2),
        node=node,
    )
    most = probe.cost + probe.trial_cost(most_trials(len(probe.layers)))
    announce(
        f"layer auto: at most {most:,.0f} forwards, usually far fewer. First, {len(probe.layers)} layers are"
        f" looked at with {probe.cost:,.0f}."
    )
    done, total = 0, 2 * len(probe.prompts)

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    probe.tick = tick
    worths, cost = probe.effect(), probe.cost
    while some := to_try(worths):
        total += len(some) * len(probe.prompts)
        names = listed([str(w.layer) for w in some])
        forwards = f"{'at most ' if len(some) > 1 else ''}{probe.trial_cost(len(some)):,.0f} forwards"
        which = "more images" if some[0].tried else "images"
        announce(f"layer auto: tickets of {names} are tried in {which}, with {forwards}.")
        for w in some:
            worths, cost = probe.tried(worths, [w]), cost + probe.trial_cost(1)
            if settled(worths):
                break
    progress(total, total)
    return probe, worths, cost


def explain(worths: Sequence[LayerWorth]) -> str:
    """What was chosen, and what speaks for it."""
    best, some = recommended(worths), contenders(worths)
    text = f"layer auto: {best.layer} (effect {best.effect:.2f} +- {best.error:.2f}"
    if best.tried:
        text += f"). In {best.tried.images} images its tickets put {_placed(best)}"
        rest = [w for w in worths if w.tried and w is not best]
        text += f"; those of {', '.join(f'{w.layer}: {_share(w)}' for w in rest)}." if rest else "."
        if left := [str(w.layer) for w in some if not w.tried]:
            were = "was" if len(left) == 1 else "were"
            text += f" {listed(left)} {were} not tried: with as many images, none could do clearly better."
    else:
        rest = [w for w in some if w is not best]
        text += f"; {', '.join(f'{w.layer} {w.effect:.2f}' for w in rest)})." if rest else ")."
    if not best.clear:
        text += (
            " This is too little to tell whether tickets do anything on this model; this is the safest layer."
            " Layout Trial tells more."
        )
    return text


def _placed(worth: LayerWorth) -> str:
    tried = worth.tried
    assert tried
    return (
        f"{tried.own} of {tried.objects} objects in place and {tried.other} in another's place"
        f" ({tried.present} present)"
    )


def _share(worth: LayerWorth) -> str:
    assert worth.tried
    return f"{worth.tried.own} of {worth.tried.objects} and {worth.tried.other}"


def listed(names: Sequence[str]) -> str:
    """For people: `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _names(model: Any) -> set[str]:
    return {str(layer) for layer in family_of(model).layers}

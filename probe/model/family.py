"""What has to be known of an architecture to read its attention."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch

from ...tickets.grid import latent_side


class ProbeError(ValueError):
    """A model, layer or prompt that cannot be read; the message says what to change."""


def require(name: str, value: int, least: int) -> None:
    """ProbeError for a count that is too small: ComfyUI checks typed values, but not linked ones."""
    if value < least:
        raise ProbeError(f"{name} is {value}; at least {least} {'is' if least == 1 else 'are'} needed.")


def require_clip(clip: Any) -> None:
    """ProbeError where a loader found no text encoder."""
    if clip is None:
        raise ProbeError(
            "clip is empty: the checkpoint has no text encoder. Connect one, such as that of Load CLIP."
        )


class Layer(NamedTuple):
    """A cross-attention layer by ComfyUI's block names; written "input 8", or "input 7.3" deeper in."""

    block: str
    number: int
    depth: int

    def __str__(self) -> str:
        return f"{self.block} {self.number}" + (f".{self.depth}" if self.depth else "")


def pixels_of(model: Any) -> int:
    """Pixels of an image along the side of a pixel of this MODEL's latents."""
    return int(model.get_model_object("latent_format").spacial_downscale_ratio)


def latent_shape(model: Any, width: int, height: int) -> tuple[int, ...]:
    """Channels, height and width of the latent of an image of width x height pixels, with a length of 1 after
    the channels where latents may be videos.
    """
    latent_format = model.get_model_object("latent_format")
    ratio = pixels_of(model)
    length = (1,) * (latent_format.latent_dimensions - 2)
    sides = latent_side(height, ratio), latent_side(width, ratio)
    return (latent_format.latent_channels, *length, *sides)


@dataclass(frozen=True)
class AttentionCall:
    """One call of a layer's attention from image to text, inside a forward.

    q [rows, cells, heads * dim] or [rows, heads, cells, dim]: rows of the forward, cells of the map in raster
    order. k, of the same form: all keys that share the softmax; of them, `text` are the prompt's tokens.
    context [rows, tokens, width]: what the keys were made of, None where that was not seen. size: rows and
    columns of the map. mask: that the attention was given, over queries or not. scale: of the scores, None
    for the usual one. wrong: what about the call is not as the model alone would have it, as a predicate of
    "another patch ...".
    """

    layer: Layer
    q: torch.Tensor
    k: torch.Tensor
    context: torch.Tensor | None
    heads: int
    size: tuple[int, int]
    text: slice = field(default_factory=lambda: slice(None))
    mask: torch.Tensor | None = None
    scale: float | None = None
    wrong: str = ""

    @property
    def cells(self) -> int:
        return int(self.q.shape[-2])

    @property
    def tokens(self) -> int:
        return len(range(self.k.shape[-2])[self.text])


Read = Callable[[Callable[[], AttentionCall | None]], None]
"""Takes what makes a call, so that what fails there is the reader's to judge; None: not of image to text."""


class Family(Protocol):
    """An architecture, of one MODEL."""

    @property
    def layers(self) -> list[Layer]:
        """Every layer in which image attends to text, in forward order."""

    def stride(self, layer: Layer) -> int:
        """Latent pixels from one cell of a layer's map to the next."""

    @property
    def cells(self) -> int:
        """Cells of a map along the side of a block of noise, where nothing else is asked for."""

    @property
    def baseline(self) -> int:
        """Over how many other noises the attention at each cell is averaged and subtracted; 0: it is not."""

    def told(self, entry: Sequence[Any], like: torch.Tensor) -> torch.Tensor:
        """What the model is given for an entry of a conditioning, before ComfyUI repeats or fills it."""

    def obscured(self, given: Mapping[str, Any]) -> str:
        """Why a forward with these further inputs cannot be read, as a predicate of "another patch ..."."""

    def covered(self, height: int, width: int) -> tuple[float, float]:
        """Share of a map's height and width that a latent has, where models add to it for whole cells."""

    def text_width(self) -> int:
        """Values in a token of the texts that the layers attend to."""

    def noise_level(self) -> float:
        """The sigma at which a noise is read."""

    def share(self, layer: Layer, height: int, width: int) -> float:
        """Share of a forward on a latent of height x width that lies before a layer's attention weights."""

    def hooked(
        self,
        options: Mapping[str, Any],
        layers: Sequence[Layer],
        read: Read,
        size: tuple[int, int],
        tokens: int,
        given: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Transformer options of a forward in which every attention call of the layers goes to `read`.

        size: height and width of the latent that the model is given; tokens: of the text; given: its further
        inputs. Patches already there do their work; `read` may end the forward by an exception.
        """


def find_layers(family: Family, names: str) -> list[Layer]:
    """The layers called `names`, comma-separated, in forward order; ProbeError lists the model's own."""
    listed = re.split(r"[,;\n\u3001]", unicodedata.normalize("NFKC", names).strip(" ,;\n\u3001"))
    wanted = [" ".join(name.lower().split()) for name in listed]
    known = [str(layer) for layer in family.layers]
    for name in wanted:
        if name not in known:
            raise ProbeError(
                f'layer is "{name}", but this model attends to the prompt in: {", ".join(known)}.'
            )
    return [layer for layer in family.layers if str(layer) in wanted]


def shares(costs: Iterator[tuple[Layer | None, float]]) -> dict[Layer, float]:
    """Of each layer the share of all costs that come before it; costs in forward order."""
    total, before = 0.0, {}
    for layer, cost in costs:
        if layer is not None:
            before[layer] = total
        total += cost
    return {layer: done / total for layer, done in before.items()}

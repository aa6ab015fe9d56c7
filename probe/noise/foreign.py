"""NOISE of other packs: drawn for a latent, image by image, under its own seed and derived ones."""

from __future__ import annotations

import copy
import operator
from contextlib import suppress
from functools import cached_property
from typing import Any

import comfy.model_management
import torch

from ...tickets.search.candidates import derived_seed
from ..model.random import seeded

Shape = tuple[int, int, int]
# Candidates of which one at least must be another noise.
TRIED = 1, 2, 3


class NoiseError(ValueError):
    """A NOISE, or what is asked of one, that cannot be used; the message says what to connect."""


class Varied:
    """A NOISE that makes its own candidates: a part of it stays the same in all of them."""

    def candidate(self, number: int) -> Any:
        """Another NOISE for each number; 0: this one itself."""
        raise NotImplementedError


def drawn(noise: Any, latent: dict[str, Any], node: str) -> torch.Tensor:
    """What a NOISE of any pack gives for a LATENT, CPU float32; the LATENT stays as it is.

    NoiseError, naming `node`, for one that does not fit. A LATENT of several parts is left to the NOISE.
    """
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        return noise.generate_noise(latent)
    try:
        found = noise.generate_noise({**latent, "samples": samples.clone()})
    except (LookupError, AttributeError, TypeError) as error:
        raise NoiseError(
            f"{node}: the noise connected ({type(noise).__name__}) fails on this latent"
            f" ({type(error).__name__}: {error}): connect one for this model, such as RandomNoise."
        ) from error
    if not isinstance(found, torch.Tensor) or found.shape != samples.shape:
        got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise NoiseError(
            f"{node}: the noise connected ({type(noise).__name__}) gave {got} for a latent of"
            f" {tuple(samples.shape)} (images, channels, height, width): connect one for this size, such as"
            " RandomNoise."
        )
    found = found.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(found).all()):
        raise NoiseError(
            f"{node}: the noise connected ({type(noise).__name__}) contains NaN or Inf: connect another, such"
            " as RandomNoise."
        )
    return found


def image_size(latent: dict[str, Any]) -> Shape | None:
    """Channels, height and width of a LATENT's images; None if it holds none, but a video or several parts.

    For models of videos, samplers make an image a video of one frame [images, C, 1, h, w].
    """
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        return None
    size = tuple(samples.shape[1:])
    if len(size) == 4 and size[1] == 1:
        size = (size[0], *size[2:])
    return size if len(size) == 3 else None


def seed_of(noise: Any, otherwise: int) -> int:
    """The seed of a NOISE, of those that have none `otherwise`."""
    # Other packs' properties fail in ways of their own.
    with suppress(Exception):
        return operator.index(noise.seed)
    return otherwise


def reseeded(noise: Any, candidate: int) -> Any:
    """A copy of a NOISE, and of those that it is made of, whose seeds are derived from their own.

    candidate 0 is the NOISE itself; `Varied` says for itself what the others are. A seed that can be read
    only is changed where the object keeps it. What cannot be copied or changed stays as it is.
    """
    return noise if candidate == 0 else _reseeded(noise, candidate, {})


def _reseeded(noise: Any, candidate: int, copies: dict[int, Any]) -> Any:
    """copies: by the identity of what they are of, which may be made of itself."""
    if id(noise) in copies:
        return copies[id(noise)]
    if isinstance(noise, Varied):
        return copies.setdefault(id(noise), noise.candidate(candidate))
    old = seed_of(noise, 0)
    new = derived_seed(old, candidate)
    copies[id(noise)] = noise
    try:
        # A named tuple with a method is a NOISE, too.
        named = getattr(noise, "_replace", None) if isinstance(noise, tuple) else None
        other = named(seed=new) if named else copy.copy(noise)
    except Exception:
        return noise
    copies[id(noise)] = other
    own = getattr(other, "__dict__", {})
    for name, value in list(own.items()):
        own[name] = _parts_reseeded(value, candidate, copies)
    try:
        other.seed = new
    except Exception:
        for name, value in list(own.items()):
            if "seed" in name.lower() and type(value) is int and value == old:
                own[name] = new
        if not own:
            # Frozen, and without a dictionary.
            with suppress(Exception):
                object.__setattr__(other, "seed", new)
    return other


def _parts_reseeded(value: Any, candidate: int, copies: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {k: _parts_reseeded(v, candidate, copies) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_parts_reseeded(v, candidate, copies) for v in value)
    return _reseeded(value, candidate, copies) if hasattr(value, "generate_noise") else value


class Variants:
    """Single images [C, h, w] of a NOISE of any pack, as in a batch, under its own seed and derived ones.

    NoiseError for a NOISE that gives every image of a batch, or every seed, the same noise.
    """

    def __init__(self, noise: Any, shape: Shape, seed: int, node: str) -> None:
        """seed: for a NOISE that has none of its own and draws from torch's global generator."""
        self.noise, self.shape, self.seed, self.node = noise, shape, seed, node

    @cached_property
    def _alone(self) -> bool:
        """Whether an image can be drawn by itself, with batch_index, and is the same as in its batch.

        Some take no notice of batch_index or cannot do without a batch, some vary the first image of one.
        """
        try:
            first, second = self._draw(0, 2, [0, 1])
            return torch.equal(self._draw(0, 1, [1])[0], second) and not torch.equal(first, second)
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception:
            return False

    def _draw(self, candidate: int, count: int, batch_index: list[int] | None = None) -> torch.Tensor:
        latent: dict[str, Any] = {"samples": torch.zeros(count, *self.shape)}
        if batch_index is not None:
            latent["batch_index"] = batch_index
        # What of a varied noise is kept may be drawn from torch's generators.
        seed = self.seed if isinstance(self.noise, Varied) else derived_seed(self.seed, candidate)
        with seeded(seed):
            return drawn(reseeded(self.noise, candidate), latent, self.node)

    def image(self, index: int, candidate: int) -> torch.Tensor:
        if index == 0:
            return self._draw(candidate, 1)[0]
        if self._alone:
            return self._draw(candidate, 1, [index])[0]
        first, *_, last = self._draw(candidate, index + 1)
        if torch.equal(first, last):
            raise NoiseError(
                f"{self.node}: the noise connected ({type(self.noise).__name__}) gives every image of a batch"
                " the same noise: set batch_size to 1, or connect one that does not, such as RandomNoise."
            )
        return last

    def under(self, seed: int) -> Variants:
        """The same for another seed, from which all others are derived; this one for its own."""
        if seed == self.seed:
            return self
        # What of a varied noise is kept may be drawn from torch's generators.
        own = self.seed if isinstance(self.noise, Varied) else seed
        return Variants(reseeded(self.noise, seed), self.shape, own, self.node)

    def check_seeds(self, images: int = 1) -> None:
        """NoiseError if none of the images of a batch follows the seed, or does so without one."""
        first = self._draw(0, 1)
        if not torch.equal(first, self._draw(0, 1)):
            raise NoiseError(
                f"{self.node}: the noise connected ({type(self.noise).__name__}) changes every time it is"
                " asked for, so that none can be picked: connect one that follows its seed, such as"
                " RandomNoise; or set candidates to 1."
            )
        # In some images of a batch nothing of a varied noise may be varied.
        varied = range(images if isinstance(self.noise, Varied) else 1)
        # A noise that is itself the best of several seeds may be the same one under two of them.
        if all(torch.equal(self.image(k, 0), self.image(k, j)) for k in varied for j in TRIED):
            raise NoiseError(
                f"{self.node}: the noise connected ({type(self.noise).__name__}) does not change with its"
                " seed: connect one that does, such as RandomNoise, or none; or set candidates to 1."
            )

"""Built noise in the forms ComfyUI's samplers take: NOISE and LATENT."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import comfy.model_management
import comfy.sample
import torch
from comfy_execution.graph_utils import ExecutionBlocker

from ...tickets.bank.bank import Recipe
from ...tickets.layout.build import Layout, image_generator
from ...tickets.noise import SEED_RANGE
from ...tickets.recent import Recent
from ...tickets.search.candidates import (
    Found,
    Look,
    Proposer,
    SwapProposer,
    TicketProposer,
    derived_seed,
    plain_candidate,
    search,
)
from ...tickets.search.fit import verdict
from ..model.random import seeded

NOISE_LATENT = "winning_tickets_noise"
KEPT = 64
Shape = tuple[int, int, int]
Groups = Callable[[int], torch.Tensor]
"""Index of an image in its batch -> the group of each of its cells, see `fit`."""


class NoiseError(ValueError):
    """A NOISE, or what is asked of one, that cannot be used; the message says what to connect."""


class BuiltNoise:
    """NOISE for SamplerCustomAdvanced and Guidance Cutoff KSampler: image by image, each made once.

    Image k of a seed is the same alone and in a batch of any size. make: the noise [C, h, w] of a seed and
    the index of an image in its batch. shape: of that noise. node: whose it is. off: the NOISE that this one
    leaves as it is, if it does, its own way with batches included.
    """

    def __init__(
        self,
        make: Callable[[int, int], torch.Tensor],
        shape: Shape,
        seed: int,
        node: str,
        off: Any = None,
    ) -> None:
        self.make, self.shape, self.seed, self.node, self.off = make, shape, seed, node, off
        self._made: Recent[torch.Tensor] = Recent(KEPT)

    def images(self, indices: Iterable[int]) -> torch.Tensor:
        """Noise [len(indices), C, h, w]."""
        wanted = [(self.seed, int(i)) for i in indices]
        # A batch is asked for again by every sampler.
        self._made.most = max(self._made.most, len(wanted))
        return torch.stack([self._made.get(key, partial(self.make, *key)) for key in wanted])

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        """CPU float32 noise of the shape of input_latent["samples"], batch_index honoured.

        Leaves torch's global generators as RandomNoise does: patches and samplers draw from them.
        """
        samples = input_latent["samples"]
        if getattr(samples, "is_nested", False) or tuple(samples.shape[1:]) != self.shape:
            size = "several parts" if getattr(samples, "is_nested", False) else tuple(samples.shape[1:])
            raise NoiseError(
                f"The noise is for a latent of {self.shape}, the sampler's latent_image is {size} (channels,"
                f" height, width): connect the empty latent of {self.node}, or give it this width and height."
            )
        if isinstance(self.off, PlainNoise):
            return PlainNoise(self.seed).generate_noise(input_latent)
        if self.off is not None:
            return self.off.generate_noise(input_latent)
        made = self.images(_indices(input_latent))
        PlainNoise(self.seed).generate_noise(input_latent)
        return made

    def batch(self, count: int) -> torch.Tensor:
        """What a sampler gets for an empty latent [count, C, h, w]; nothing global is changed."""
        with seeded(self.seed):
            return self.generate_noise(empty_latent(count, self.shape))


class PlainNoise:
    """Stock ComfyUI's noise of a seed, as a NOISE: what RandomNoise draws, batches included.

    Stock draws a batch at once. Where the values of an image are no multiple of 16, its images then differ
    from those of `plain_noise`, which are drawn one by one, as stock does with batch_index.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        given = input_latent.get("batch_index")
        chosen = None if given is None or not len(given) else _indices(input_latent)
        return comfy.sample.prepare_noise(input_latent["samples"], self.seed % SEED_RANGE, chosen)


def _indices(latent: dict[str, Any]) -> Sequence[int]:
    """Which images of a batch a LATENT holds; others' nodes give arrays and tensors, too."""
    given = latent.get("batch_index")
    found = [] if given is None else [int(i) for i in given]
    return found or range(len(latent["samples"]))


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


def seed_of(noise: Any, otherwise: int) -> int:
    """The seed of a NOISE, of those that have none `otherwise`."""
    # Other packs' properties fail in ways of their own.
    with suppress(Exception):
        return operator.index(noise.seed)
    return otherwise


def reseeded(noise: Any, candidate: int) -> Any:
    """A copy of a NOISE, and of those that it is made of, whose seeds are derived from their own.

    candidate 0 is the NOISE itself. A seed that can be read only is changed where the object keeps it. What
    cannot be copied or changed stays as it is.
    """
    return noise if candidate == 0 else _reseeded(noise, candidate, {})


def _reseeded(noise: Any, candidate: int, copies: dict[int, Any]) -> Any:
    """copies: by the identity of what they are of, which may be made of itself."""
    if id(noise) in copies:
        return copies[id(noise)]
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


class Redrawn:
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
        with seeded(derived_seed(self.seed, candidate)):
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

    def check_seeds(self) -> None:
        first = self._draw(0, 1)
        if not torch.equal(first, self._draw(0, 1)):
            raise NoiseError(
                f"{self.node}: the noise connected ({type(self.noise).__name__}) is another one whenever it"
                " is asked for, so that none can be picked: connect one that follows its seed, such as"
                " RandomNoise; or set candidates to 1."
            )
        if torch.equal(first, self._draw(1, 1)):
            raise NoiseError(
                f"{self.node}: the noise connected ({type(self.noise).__name__}) does not change with its"
                " seed: connect one that does, such as RandomNoise, or none; or set candidates to 1."
            )


class Searching:
    """Makes each image of a batch by looking at candidates; what was found is kept for the report.

    proposer: of a seed and image. groups: the cells of an image, see `fit`. look: noise to attention.
    """

    def __init__(
        self,
        proposer: Callable[[int, int], Proposer],
        groups: Groups,
        look: Look,
        candidates: int,
        rounds: int,
    ) -> None:
        self.proposer, self.groups, self.look = proposer, groups, look
        self.candidates, self.rounds = candidates, rounds
        self.found: dict[tuple[int, int], Found] = {}
        self._reported = False

    def __call__(self, seed: int, index: int) -> torch.Tensor:
        generators = partial(image_generator, seed, index)
        proposer, groups = self.proposer(seed, index), self.groups(index)
        check = comfy.model_management.throw_exception_if_processing_interrupted
        found = search(proposer, self.look, groups, self.candidates, self.rounds, generators, check)
        if not self._reported:
            self.found[seed, index] = found
        return found.noise

    def forget(self) -> None:
        """What was found, and will be, is not kept any longer."""
        self._reported = True
        self.found.clear()

    def describe(self, share: float) -> str:
        """For people: fit before and after, and what the looks cost; share: of a forward, each look."""
        found = self.found.values()
        looks = sum(f.looks for f in found)
        before, after = (sum(getattr(f, name) for f in found) / len(found) for name in ("before", "after"))
        (_, index), lowest = min(self.found.items(), key=lambda item: item[1].after)
        mean = f" (mean of the batch; lowest {lowest.after:.3f})" if len(found) > 1 else ""
        return (
            f"Fit of the layout {before:.3f} -> {after:.3f}{mean}; {looks} looks of {share:.0%} of a forward"
            f" each, together {looks * share:.1f} forwards of one image (a guided step takes 2)."
            f"\n{verdict(lowest.after, self.groups(index))}"
        )


def ticket_noise(layout: Layout, seed: int, node: str) -> BuiltNoise:
    """A layout's noise, not looked at."""
    off = None if layout.strength else PlainNoise(seed)
    return BuiltNoise(lambda seed, index: layout.build(seed, (index,))[0], layout.shape, seed, node, off)


def searched_tickets(layout: Layout, look: Look, candidates: int, rounds: int) -> Searching:
    """Tickets in the arrangement that fits best."""

    def proposer(seed: int, index: int) -> Proposer:
        return TicketProposer(layout, layout.plain(seed, (index,))[0], seed, index)

    return Searching(proposer, layout.groups, look, candidates, rounds)


def searched_swaps(
    groups: Groups, shape: Shape, look: Look, block: int, candidates: int, rounds: int
) -> Searching:
    """Blocks of the seed's own noise, or of a derived seed's, exchanged `rounds` times."""

    def proposer(seed: int, index: int) -> Proposer:
        draw = partial(plain_candidate, seed, index, shape)
        return SwapProposer(draw, groups(index), block)

    return Searching(proposer, groups, look, candidates, rounds)


def searched_noises(groups: Groups, redrawn: Redrawn, look: Look, block: int, candidates: int) -> Searching:
    """The best of any NOISE under its seed and derived ones; NoiseError for one that has none."""
    if candidates > 1:
        redrawn.check_seeds()

    def proposer(seed: int, index: int) -> Proposer:
        return SwapProposer(partial(redrawn.image, index), groups(index), block)

    return Searching(proposer, groups, look, candidates, 0)


def noise_latent(noise: torch.Tensor, model: Any, node: str) -> tuple[Any, str]:
    """LATENT whose sampling with *add noise* disabled starts as stock sampling of `noise` does; a note.

    noise [images, C, h, w]. Scaled by the MODEL's own sampling and latent format, at its highest noise
    level. Where no latent does (flow: with added noise disabled it is multiplied by zero), the LATENT blocks
    the nodes that take it, with a sentence for people, which is the note.
    """
    sampling = model.get_model_object("model_sampling")
    latent_format = model.get_model_object("latent_format")
    sigma = torch.as_tensor(sampling.sigma_max).detach().to("cpu", torch.float32)
    zeros = torch.zeros_like(noise)
    start = sampling.noise_scaling(sigma, noise.clone(), zeros, True)
    samples = latent_format.process_out(start)
    again = sampling.noise_scaling(sigma, zeros, latent_format.process_in(samples), True)
    if bool(start.any()) and torch.allclose(again, start, rtol=1e-4, atol=1e-4 * float(start.abs().max())):
        return _marked(samples), ""
    return _blocked(
        f"{node}: for this model no latent carries noise, as sampling without added noise drops it"
    )


def recipe_latent(noise: torch.Tensor, recipe: Recipe, node: str) -> tuple[Any, str]:
    """As `noise_latent`, without the MODEL: by what a bank tells of the one it was collected on."""
    if recipe.sigma <= 1:
        return _blocked(f"{node}: this bank's model is a flow model, for which no latent carries noise")
    if not recipe.latent_scale:
        note = f"{node}: this bank does not tell how its model scales latents: connect model and clip."
        return ExecutionBlocker(note), note
    samples = noise * (1 + recipe.sigma**2) ** 0.5 / recipe.latent_scale
    return _marked(samples), (
        f"The noise latent is scaled for the bank's model (sigma {recipe.sigma:.4g}, latent scale"
        f" {recipe.latent_scale:.4g}): connect model and clip if yours samples otherwise."
    )


def _marked(samples: torch.Tensor) -> dict[str, Any]:
    return {"samples": samples, NOISE_LATENT: samples}


def _blocked(why: str) -> tuple[ExecutionBlocker, str]:
    note = f"{why}. Use the noise output instead, with SamplerCustomAdvanced or Guidance Cutoff KSampler."
    return ExecutionBlocker(note), note


def is_noise(latent: dict[str, Any]) -> bool:
    """Whether a LATENT is `noise_latent`'s, and not what a sampler made of it: nodes copy all entries."""
    return latent.get(NOISE_LATENT) is latent["samples"]


def empty_latent(batch: int, shape: Sequence[int]) -> dict[str, Any]:
    """The empty latent that goes with noise of a shape [C, h, w]."""
    return {"samples": torch.zeros(batch, *shape)}


def compared(noise: Any, latent: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """What a NOISE makes for a latent, and stock ComfyUI's noise of the same seed, both [images, C, h, w]."""
    samples = latent["samples"]
    if samples.is_nested or samples.dim() != 4:
        size = "several parts" if samples.is_nested else tuple(samples.shape)
        raise NoiseError(
            f"Noise Report needs a latent of images [batch, channels, height, width], but latent_image is"
            f" {size}: connect one of an image model, such as Empty Latent Image."
        )
    seed = seed_of(noise, 0)
    with seeded(seed):
        made = drawn(noise, latent, "Noise Report")
        plain = PlainNoise(seed).generate_noise(latent)
    return made, plain.to("cpu", torch.float32)

"""Built noise in the forms ComfyUI's samplers take: NOISE and LATENT."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch

from ...tickets.layout.build import Layout, image_generator
from ...tickets.noise import plain_noise
from ...tickets.search.candidates import (
    Found,
    Proposer,
    SwapProposer,
    TicketProposer,
    derived_seed,
    plain_candidate,
    search,
)
from ...tickets.search.fit import verdict

NOISE_LATENT = "winning_tickets_noise"
Shape = tuple[int, int, int]


class BuiltNoise:
    """NOISE for SamplerCustomAdvanced and Guidance Cutoff KSampler: image by image, each made once.

    make: the noise [C, h, w] of a seed and the index of an image in its batch. shape: of that noise.
    node: whose it is.
    """

    def __init__(self, make: Callable[[int, int], torch.Tensor], shape: Shape, seed: int, node: str) -> None:
        self.make, self.shape, self.seed, self.node = make, shape, seed, node
        self._made: dict[tuple[int, int], torch.Tensor] = {}

    def images(self, indices: Iterable[int]) -> torch.Tensor:
        """Noise [len(indices), C, h, w]."""
        wanted = [(self.seed, int(i)) for i in indices]
        for key in wanted:
            if key not in self._made:
                self._made[key] = self.make(*key)
        return torch.stack([self._made[key] for key in wanted])

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        """CPU float32 noise of the shape of input_latent["samples"], batch_index honoured."""
        samples = input_latent["samples"]
        if tuple(samples.shape[1:]) != self.shape:
            raise ValueError(
                f"The noise is for a latent of {self.shape}, the sampler's latent_image is"
                f" {tuple(samples.shape[1:])} (channels, height, width): connect the empty latent of"
                f" {self.node}, or give it this width and height."
            )
        return self.images(_indices(input_latent))


def _indices(latent: dict[str, Any]) -> Sequence[int]:
    """Which images of a batch a LATENT holds."""
    return latent.get("batch_index") or range(len(latent["samples"]))


class Searching:
    """Makes each image of a batch by looking at candidates; what was found is kept for the report.

    proposer: of a seed and image. groups: the cells of an image, see `fit`. look: noise to attention.
    """

    def __init__(
        self,
        proposer: Callable[[int, int], Proposer],
        groups: Callable[[int], torch.Tensor],
        look: Callable[[torch.Tensor], torch.Tensor],
        candidates: int,
        rounds: int,
    ) -> None:
        self.proposer, self.groups, self.look = proposer, groups, look
        self.candidates, self.rounds = candidates, rounds
        self.found: dict[tuple[int, int], Found] = {}

    def __call__(self, seed: int, index: int) -> torch.Tensor:
        generators = partial(image_generator, seed, index)
        proposer, groups = self.proposer(seed, index), self.groups(index)
        found = search(proposer, self.look, groups, self.candidates, self.rounds, generators)
        self.found[seed, index] = found
        return found.noise

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
    return BuiltNoise(lambda seed, index: layout.build(seed, (index,))[0], layout.shape, seed, node)


def searched_tickets(layout: Layout, look: Any, candidates: int, rounds: int) -> Searching:
    """Tickets in the arrangement that fits best."""

    def proposer(seed: int, index: int) -> Proposer:
        return TicketProposer(layout, layout.plain(seed, (index,))[0], seed, index)

    return Searching(proposer, layout.groups, look, candidates, rounds)


def searched_swaps(
    groups: Callable[[int], torch.Tensor], shape: Shape, look: Any, block: int, candidates: int, rounds: int
) -> Searching:
    """Blocks of the seed's own noise, or of a derived seed's, exchanged `rounds` times."""

    def proposer(seed: int, index: int) -> Proposer:
        draw = partial(plain_candidate, seed, index, shape)
        return SwapProposer(draw, groups(index), block)

    return Searching(proposer, groups, look, candidates, rounds)


def searched_noises(
    groups: Callable[[int], torch.Tensor], noise: Any, shape: Shape, look: Any, block: int, candidates: int
) -> Searching:
    """The best of any NOISE under seeds derived from its own; ValueError for one that has none."""

    def proposer(seed: int, index: int) -> Proposer:
        draw = partial(_reseeded, noise, shape, seed, index)
        if candidates > 1 and torch.equal(draw(0), draw(1)):
            raise ValueError(
                "Pick Best Noise has a noise that does not change with its seed: connect one that does, such"
                " as RandomNoise, or none."
            )
        return SwapProposer(draw, groups(index), block)

    return Searching(proposer, groups, look, candidates, 0)


def _reseeded(noise: Any, shape: Shape, seed: int, index: int, candidate: int) -> torch.Tensor:
    """Image `index` of a NOISE [C, h, w] under a seed derived from `seed`."""
    other = copy.copy(noise)
    other.seed = derived_seed(seed, candidate)
    latent = {"samples": torch.zeros(1, *shape), "batch_index": [index]}
    return other.generate_noise(latent)[0].to("cpu", torch.float32)


class PlainNoise:
    """Stock ComfyUI's noise of a seed, as a NOISE."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        shape = tuple(input_latent["samples"].shape[1:])
        return plain_noise(self.seed, shape, _indices(input_latent))


def noise_latent(noise: torch.Tensor, sigma: float, latent_scale: float) -> dict[str, Any]:
    """LATENT whose sampling with *add noise* disabled starts from `noise` (eps and v prediction).

    Stock sampling starts from noise * sqrt(1 + sigma_max^2) in the model's scale.
    """
    samples = noise * (1 + sigma**2) ** 0.5 / latent_scale
    return {"samples": samples, NOISE_LATENT: True}


def empty_latent(batch: int, shape: Sequence[int]) -> dict[str, Any]:
    """The empty latent that goes with noise of a shape [C, h, w]."""
    return {"samples": torch.zeros(batch, *shape)}


def compared(noise: Any, latent: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """What a NOISE makes for a latent, and stock ComfyUI's noise of the same seed, both [images, C, h, w]."""
    samples = latent["samples"]
    if samples.is_nested or samples.dim() != 4:
        raise ValueError("Noise Report needs a latent of images [batch, channels, height, width].")
    made = noise.generate_noise(latent).to("cpu", torch.float32)
    plain = PlainNoise(int(getattr(noise, "seed", 0))).generate_noise({**latent, "samples": samples})
    return made, plain

"""Built noise in the forms ComfyUI's samplers take: NOISE and LATENT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import comfy.sample
import torch
from comfy_execution.graph_utils import ExecutionBlocker

from ...tickets.bank.bank import Recipe
from ...tickets.layout.build import Layout
from ...tickets.noise import SEED_RANGE
from ...tickets.recent import Recent
from ..model.random import seeded
from .foreign import NoiseError, Shape, drawn, image_size, seed_of

NOISE_LATENT = "winning_tickets_noise"
KEPT = 64


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
        if image_size(input_latent) != self.shape:
            size = "several parts" if getattr(samples, "is_nested", False) else tuple(samples.shape[1:])
            raise NoiseError(
                f"The noise is for a latent of {self.shape}, the sampler's latent_image is {size} (channels,"
                f" height, width): connect the empty latent of {self.node}, or give it this width and height."
            )
        if isinstance(self.off, PlainNoise):
            return PlainNoise(self.seed).generate_noise(input_latent)
        if self.off is not None:
            return self.off.generate_noise(input_latent)
        made = self.images(indices_of(input_latent))
        PlainNoise(self.seed).generate_noise(input_latent)
        return made.reshape(len(made), *samples.shape[1:])

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
        chosen = None if given is None or not len(given) else indices_of(input_latent)
        return comfy.sample.prepare_noise(input_latent["samples"], self.seed % SEED_RANGE, chosen)


def indices_of(latent: dict[str, Any]) -> Sequence[int]:
    """Which images of a batch a LATENT holds; others' nodes give arrays and tensors, too."""
    given = latent.get("batch_index")
    found = [] if given is None else [int(i) for i in given]
    return found or range(len(latent["samples"]))


def ticket_noise(layout: Layout, seed: int, node: str) -> BuiltNoise:
    """A layout's noise, not looked at."""
    off = None if layout.strength else PlainNoise(seed)
    return BuiltNoise(lambda seed, index: layout.build(seed, (index,))[0], layout.shape, seed, node, off)


def noise_latent(noise: torch.Tensor, model: Any, node: str) -> tuple[Any, str]:
    """LATENT whose sampling with *add noise* disabled starts as stock sampling of `noise` does; a note.

    noise [images, C, h, w]; where latents may be videos, the LATENT has a length of 1 after C. Scaled by the
    MODEL's own sampling and latent format, at its highest noise level. Where no latent does (flow: with added
    noise disabled it is multiplied by zero), the LATENT blocks the nodes that take it, with a sentence for
    people, which is the note.
    """
    sampling = model.get_model_object("model_sampling")
    latent_format = model.get_model_object("latent_format")
    if latent_format.latent_dimensions == 3 and noise.dim() == 4:
        noise = noise[:, :, None]
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
        note = f"{node}: this bank does not say how its model scales latents: connect model and clip."
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
    size = image_size(latent)
    if size is None:
        given = "several parts" if samples.is_nested else tuple(samples.shape)
        raise NoiseError(
            f"Noise Report needs a latent of images [batch, channels, height, width], but latent_image is"
            f" {given}: connect one of an image model, such as Empty Latent Image."
        )
    seed = seed_of(noise, 0)
    with seeded(seed):
        made = drawn(noise, latent, "Noise Report")
        plain = PlainNoise(seed).generate_noise(latent)
    return made.reshape(-1, *size), plain.to("cpu", torch.float32).reshape(-1, *size)

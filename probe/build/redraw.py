"""Redraw Noise in Region: a NOISE of any pack with new noise in some places."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import comfy.sample
import torch
from comfy_execution.graph_utils import ExecutionBlocker

from ...show.redraw import picture
from ...tickets.grid import PIXELS
from ...tickets.layout.redraw import redrawn_share
from ...tickets.layout.regions import AnyRegion
from ...tickets.noise import blended
from ...tickets.search.candidates import derived_seed
from ..model.family import pixels_of
from ..model.random import seeded
from ..noise.foreign import NoiseError, Varied, drawn, image_size, reseeded, seed_of
from ..noise.forms import PlainNoise, indices_of, noise_latent

NODE = "Redraw Noise in Region"


@dataclass(eq=False)
class RedrawnNoise(Varied):
    """NOISE that is `noise` but for the regions, where it is that of `redraw`, a second seed.

    fill: a NOISE to take there instead, under its own seed. edge: see `redrawn_share`.
    """

    noise: Any
    regions: tuple[AnyRegion, ...]
    redraw: int
    edge: int = 0
    fill: Any = None

    @property
    def seed(self) -> int:
        """The first noise's: what a sampler draws of its own stays as it was."""
        return seed_of(self.noise, 0)

    @seed.setter
    def seed(self, seed: int) -> None:
        """As others set it on any NOISE; the one connected keeps its own."""
        other = copy.copy(self.noise)
        other.seed = seed
        self.noise = other

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        """CPU float32 noise of the shape of input_latent["samples"], batch_index honoured.

        torch's global generators are left as `noise` leaves them.
        """
        samples = input_latent["samples"]
        if image_size(input_latent) is None:
            size = "several parts" if getattr(samples, "is_nested", False) else tuple(samples.shape)
            raise NoiseError(
                f"{NODE} needs a latent of images [batch, channels, height, width], but the sampler's"
                f" latent_image is {size}."
            )
        fill = self.fill if self.fill is not None else PlainNoise(self.redraw)
        with seeded(seed_of(fill, self.redraw)):
            new = drawn(fill, input_latent, NODE)
        old = drawn(self.noise, input_latent, NODE)
        shares = self.shares(input_latent)
        return torch.stack([blended(*three) for three in zip(old, new, shares, strict=True)])

    def shares(self, latent: dict[str, Any]) -> torch.Tensor:
        """How much of each latent pixel is new [images, height, width], for the images of a LATENT."""
        height, width = latent["samples"].shape[-2:]
        indices = indices_of(latent)
        return torch.stack([redrawn_share(self.regions, height, width, self.edge, i) for i in indices])

    def candidate(self, number: int) -> RedrawnNoise:
        """The same with another second seed, derived from this one; 0 is this one itself."""
        if number == 0:
            return self
        fill = None if self.fill is None else reseeded(self.fill, number)
        return replace(self, redraw=derived_seed(self.redraw, number), fill=fill)


def pixel_side(latent: dict[str, Any], model: Any = None) -> tuple[int, bool]:
    """Pixels of the image along the side of a LATENT's pixel; whether they are known: from the LATENT
    itself, as stock nodes make empty ones, or else from a MODEL.
    """
    side = latent.get("downscale_ratio_spacial")
    if side is None and model is not None:
        side = pixels_of(model)
    return (PIXELS, False) if side is None else (int(side), True)


@dataclass(frozen=True, eq=False)
class Redrawing:
    """noise; latent: as of the nodes that build noise; picture [1, h, w, 3]; report."""

    noise: RedrawnNoise
    latent: Any
    picture: torch.Tensor
    report: str


def redraw_noise(
    noise: Any,
    latent: dict[str, Any],
    regions: Sequence[AnyRegion],
    seed: int,
    edge: int,
    fill: Any = None,
    model: Any = None,
) -> Redrawing:
    """NoiseError for a NOISE that does not fit the LATENT, or where nothing would be new.

    An empty LATENT of other channels than the MODEL's is taken as samplers take it.
    """
    if model is not None:
        ratios = latent.get("downscale_ratio_spacial"), latent.get("downscale_ratio_temporal")
        latent = {
            **latent,
            "samples": comfy.sample.fix_empty_latent_channels(model, latent["samples"], *ratios),
        }
    redrawn = RedrawnNoise(noise, tuple(regions), seed, edge, fill)
    with seeded(redrawn.seed):
        old = drawn(noise, latent, NODE)
    with seeded(redrawn.seed):
        new = redrawn.generate_noise(latent)
    share = redrawn.shares(latent)
    if not bool(share.any()):
        raise NoiseError(
            f"{NODE}: region leaves nothing to redraw in any of the {len(share)} images: their masks are"
            " empty. Paint where to redraw."
        )
    if torch.equal(new, old):
        change = "connect another fill" if fill is not None else f"change seed (now {seed})"
        raise NoiseError(
            f"{NODE}: the new noise is the same as the old one: {change}, so that it differs from the noise"
            " connected."
        )
    of = "of the noise connected as fill" if fill is not None else f"of seed {seed}"
    lines = [
        f"{float((share == 1).float().mean()):.1%} of the noise is new, {of}; the rest stays bit-identical."
    ]
    if edge:
        lines.append(
            f"At the edge, {float(((share > 0) & (share < 1)).float().mean()):.1%} is a blend of both."
        )
    if edge and float(share.max()) < 1:
        lines.append(f"Warning: no part is completely new, since edge ({edge}) is wider than the region.")
    if model is None:
        ready: Any = ExecutionBlocker(f"{NODE}: connect model for a noise latent, which is scaled for it.")
    else:
        ready, note = noise_latent(new, model, NODE)
        lines += filter(None, [note])
    before, after = (noises[0].reshape(-1, *share[0].shape) for noises in (old, new))
    return Redrawing(
        redrawn,
        ready,
        picture(before, after, share[0])[None],
        "\n".join(lines),
    )

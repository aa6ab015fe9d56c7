"""How far noise is from the standard normal noise that samplers expect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from scipy import ndimage, special, stats

from .grid import GridError

BANDS = 12
# Cycles per latent pixel in the corner of the spectrum.
HIGHEST = 0.5**0.5


@dataclass(frozen=True)
class NoiseFigures:
    """Of noise [images, C, h, w]; standard normal noise has the values in brackets.

    mean, variance, kurtosis [C]: per channel (0, 1, 3). distance [C]: Kolmogorov-Smirnov's, to the standard
    normal (about 0.6 / sqrt(n)). within, across: correlation of neighbouring latent pixels inside a block
    and over its border (0, 0). spectrum [BANDS]: mean power from low to high frequencies (1 in each); NaN
    where small noise has no frequency of that band. Figures without a meaning are NaN.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    kurtosis: torch.Tensor
    distance: torch.Tensor
    within: float
    across: float
    spectrum: torch.Tensor


def measure(noise: torch.Tensor, block: int) -> NoiseFigures:
    """Figures of noise [images, C, h, w]; block: side of the blocks it is made of, in latent pixels.

    GridError for a side below 1.
    """
    if block < 1:
        raise GridError(f"block is {block}; at least 1 latent pixel is needed.")
    x = noise.cpu().double()
    flat = rearrange(x, "n c h w -> c (n h w)").numpy()
    distance = [stats.ks_1samp(channel, special.ndtr, method="asymp").statistic for channel in flat]
    # A flat channel has no kurtosis.
    varies = flat.var(1) > 0
    kurtosis = np.full(len(flat), np.nan)
    kurtosis[varies] = stats.kurtosis(flat[varies], axis=1, fisher=False)
    within, across = _neighbours(x, block)
    return NoiseFigures(
        torch.from_numpy(flat.mean(1)),
        torch.from_numpy(flat.var(1)),
        torch.from_numpy(kurtosis),
        torch.tensor(distance, dtype=torch.float64),
        within,
        across,
        spectrum(x),
    )


def _neighbours(x: torch.Tensor, block: int) -> tuple[float, float]:
    """Correlation of horizontal and vertical neighbours, inside blocks and over their borders."""
    pairs: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    for turned in (x, x.mT):
        last = torch.arange(turned.shape[-1] - 1) % block == block - 1
        for border in (False, True):
            a, b = turned[..., :-1][..., last == border], turned[..., 1:][..., last == border]
            pairs[border].append(torch.stack([a.flatten(), b.flatten()]))
    values = []
    for border in (False, True):
        both = torch.cat(pairs[border], 1)
        values.append(float(torch.corrcoef(both)[0, 1]) if both.shape[1] > 1 else float("nan"))
    return values[0], values[1]


def spectrum(x: torch.Tensor) -> torch.Tensor:
    """Mean power of [images, C, h, w] in BANDS rings of equal width, from low to high frequency."""
    power = torch.fft.fft2(x, norm="ortho").abs().square().mean((0, 1))
    fy, fx = (np.fft.fftfreq(side) for side in x.shape[-2:])
    band = np.minimum(np.hypot(fy[:, None], fx) / HIGHEST * BANDS, BANDS - 1).astype(int)
    found = np.unique(band)
    result = np.full(BANDS, np.nan)
    result[found] = ndimage.mean(power.numpy(), band, found)
    return torch.from_numpy(result)

"""How far noise is from what samplers expect, beside plain noise: as figures and as a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..tickets.layout.calibrate import normal_quantiles
from .chart import PANEL, aligned, canvas, curve, wide
from .heatmap import in_a_row

BANDS = 12
BINS = 45
OURS, PLAIN, AXIS = (0.86, 0.32, 0.23), (0.35, 0.55, 0.85), (0.75, 0.75, 0.75)


@dataclass(frozen=True)
class NoiseFigures:
    """Of noise [images, C, h, w]; standard normal noise has the values in brackets.

    mean, variance, kurtosis [C]: per channel (0, 1, 3). distance [C]: Kolmogorov-Smirnov's, to the standard
    normal (about 0.6 / sqrt(n)). within, across: correlation of neighbouring latent pixels inside a block
    and over its border (0, 0). spectrum [BANDS]: mean power from low to high frequencies (1 in each).
    """

    mean: torch.Tensor
    variance: torch.Tensor
    kurtosis: torch.Tensor
    distance: torch.Tensor
    within: float
    across: float
    spectrum: torch.Tensor


def measure(noise: torch.Tensor, block: int) -> NoiseFigures:
    """Figures of noise [images, C, h, w]; block: side of the blocks it is made of, in latent pixels."""
    x = noise.double()
    flat = x.movedim(1, 0).flatten(1)
    mean, variance = flat.mean(1), flat.var(1, correction=0)
    centred = (flat - mean[:, None]) / variance.clamp_min(1e-12).sqrt()[:, None]
    within, across = _neighbours(x, block)
    return NoiseFigures(mean, variance, centred.pow(4).mean(1), _distance(flat), within, across, spectrum(x))


def _distance(flat: torch.Tensor) -> torch.Tensor:
    ordered = torch.special.ndtr(flat.sort(1).values)
    n = flat.shape[1]
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    return torch.maximum((steps[1:] - ordered).amax(1), (ordered - steps[:-1]).amax(1))


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
    power = torch.fft.fft2(x, norm="ortho").abs() ** 2
    fy, fx = torch.fft.fftfreq(x.shape[-2]), torch.fft.fftfreq(x.shape[-1])
    radius = (fy[:, None] ** 2 + fx**2).sqrt() / 0.5**0.5
    band = (radius * BANDS).long().clamp_max(BANDS - 1).flatten()
    mean = power.flatten(2).mean((0, 1))
    total = torch.zeros(BANDS, dtype=x.dtype).index_add(0, band, mean)
    return total / torch.bincount(band, minlength=BANDS).clamp_min(1)


def table(ours: NoiseFigures, plain: NoiseFigures) -> str:
    """Both, for people."""
    rows = [("", *(f"channel {c}" for c in range(len(ours.mean))))]
    for name in ("mean", "variance", "kurtosis", "distance"):
        title = "KS distance" if name == "distance" else name
        for label, figures in ((title, ours), ("  plain noise", plain)):
            rows.append((label, *(f"{v:.3f}" for v in getattr(figures, name).tolist())))
    lines = aligned(rows)
    for title, name in (("inside a block", "within"), ("across block borders", "across")):
        found, usual = getattr(ours, name), getattr(plain, name)
        lines.append(f"Correlation of neighbours {title}: {found:+.4f}, plain noise {usual:+.4f}")
    low, high = (
        float(ours.spectrum[s].mean() / plain.spectrum[s].mean()) for s in (slice(0, 3), slice(-3, None))
    )
    lines.append(f"Power beside plain noise: low frequencies {low:.3f}, high frequencies {high:.3f}")
    return "\n".join(lines)


def picture(
    noise: torch.Tensor, plain: torch.Tensor, ours: NoiseFigures, theirs: NoiseFigures
) -> torch.Tensor:
    """Histogram, quantiles and spectrum [h, w, 3]; the noise red, plain noise blue."""
    hist = canvas()
    for values, paint in ((plain, PLAIN), (noise, OURS)):
        counts = torch.histc(values.float().flatten(), bins=BINS, min=-4.5, max=4.5)
        curve(hist, wide(counts / values.numel() * BINS / 9), 0.0, 0.5, paint)
    quantiles = canvas()
    at = normal_quantiles(PANEL[1])
    curve(quantiles, at, -4.0, 4.0, AXIS)
    for values, paint in ((plain, PLAIN), (noise, OURS)):
        ordered = values.double().flatten().sort().values
        pick = ((torch.arange(PANEL[1]) + 0.5) / PANEL[1] * len(ordered)).long()
        curve(quantiles, ordered[pick], -4.0, 4.0, paint)
    bands = canvas()
    for figures, paint in ((theirs, PLAIN), (ours, OURS)):
        curve(bands, wide(figures.spectrum), 0.0, 2.0, paint)
    return in_a_row([hist, quantiles, bands])

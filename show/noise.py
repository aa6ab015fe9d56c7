"""How far noise is from what samplers expect, beside plain noise: as figures and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image

from ..tickets.gaussian import BANDS, HIGHEST, NoiseFigures
from ..tickets.layout.calibrate import normal_quantiles
from .chart import Axis, Line, line_chart, roof
from .colours import BLUE, GREY, RED, Colour
from .draw import GAP, framed, stacked, tensor_of
from .table import aligned, figure

BINS, POINTS = 45, 200
WIDEST = 4.5
# Half of the least range of differences shown: small ones stay small.
NARROWEST = 0.25
OURS, PLAIN, NORMAL = "this noise", "plain noise", "standard normal"


def table(ours: NoiseFigures, plain: NoiseFigures) -> str:
    """Both, for people."""
    rows = [("", *(f"channel {c + 1}" for c in range(len(ours.mean))))]
    for name, title in (
        ("mean", "mean (0)"),
        ("variance", "variance (1)"),
        ("kurtosis", "kurtosis (3)"),
        ("distance", "KS distance (0)"),
    ):
        for label, figures in ((title, ours), ("  plain noise", plain)):
            rows.append((label, *(figure(v, ".3f") for v in getattr(figures, name).tolist())))
    lines = ["In brackets: the value for standard normal noise.", *aligned(rows)]
    for title, name in (("inside a block", "within"), ("across block borders", "across")):
        found, usual = (figure(getattr(figures, name), "+.4f") for figures in (ours, plain))
        lines.append(f"Correlation of neighbours {title} (0): {found}, plain noise {usual}")
    low, high = (
        figure(float(ours.spectrum[part].nanmean() / plain.spectrum[part].nanmean()), ".3f")
        for part in (slice(0, 3), slice(-3, None))
    )
    lines.append(f"Power relative to plain noise (1): low frequencies {low}, high frequencies {high}")
    return "\n".join(lines)


def picture(
    noise: torch.Tensor, plain: torch.Tensor, ours: NoiseFigures, theirs: NoiseFigures
) -> torch.Tensor:
    """Histogram, quantiles and spectrum [h, w, 3]; the noise red, plain noise blue."""
    both = [
        (label, values.cpu().double().flatten(), colour)
        for label, values, colour in ((OURS, noise, RED), (PLAIN, plain, BLUE))
    ]
    return tensor_of(framed(stacked([_densities(both), _quantiles(both), _spectra(ours, theirs)], 2 * GAP)))


def _densities(both: Sequence[tuple[str, torch.Tensor, Colour]]) -> Image.Image:
    middles = (torch.arange(BINS) + 0.5) / BINS * 2 * WIDEST - WIDEST
    fine = torch.linspace(-WIDEST, WIDEST, POINTS)
    normal = torch.exp(-(fine**2) / 2) / math.sqrt(2 * math.pi)
    lines = []
    for label, values, colour in both:
        counts = torch.histc(values, BINS, -WIDEST, WIDEST)
        lines.append(Line(label, middles, counts / values.numel() * BINS / (2 * WIDEST), colour))
    lines.append(Line(NORMAL, fine, normal, GREY, dashed=True))
    highest = roof(torch.cat([line.y for line in lines]))
    x, y = Axis("value of a latent pixel", -WIDEST, WIDEST), Axis("density", 0, highest)
    return line_chart("Histogram", x, y, lines)


def _quantiles(both: Sequence[tuple[str, torch.Tensor, Colour]]) -> Image.Image:
    at = normal_quantiles(POINTS)
    end = float(at[-1])
    lines = []
    for label, values, colour in both:
        ordered = values.sort().values
        pick = ((torch.arange(POINTS) + 0.5) / POINTS * len(ordered)).long()
        lines.append(Line(label, at, ordered[pick] - at, colour))
    most = roof(torch.cat([torch.tensor([NARROWEST]), *(line.y.abs() for line in lines)]))
    lines.append(Line(f"{NORMAL}: 0", at, torch.zeros(POINTS), GREY, dashed=True))
    x, y = Axis("quantile of the standard normal", -end, end), Axis("difference", -most, most)
    return line_chart("Quantiles minus those of the standard normal", x, y, lines)


def _spectra(ours: NoiseFigures, theirs: NoiseFigures) -> Image.Image:
    at = (torch.arange(BANDS) + 0.5) / BANDS * HIGHEST
    lines = [Line(OURS, at, ours.spectrum, RED), Line(PLAIN, at, theirs.spectrum, BLUE)]
    lines.append(Line(f"{NORMAL}: 1", torch.tensor([0.0, HIGHEST]), torch.ones(2), GREY, dashed=True))
    highest = roof(torch.cat([torch.tensor([1.9]), ours.spectrum, theirs.spectrum]))
    x = Axis("spatial frequency, cycles per latent pixel", 0, HIGHEST)
    return line_chart("Spectrum", x, Axis("mean power", 0, highest), lines)

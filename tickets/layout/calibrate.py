"""Noise of selected blocks made standard normal again (not in the paper, whose code only prints it)."""

from __future__ import annotations

import torch

from .regions import LayoutError

NONE, STANDARDIZE, GAUSSIANIZE = CALIBRATIONS = ("none", "standardize", "gaussianize")


def calibrate(noise: torch.Tensor, how: str) -> torch.Tensor:
    """Noise [C, h, w] of the same shape.

    none: as it is, the paper's way. standardize: mean 0 and variance 1 in each channel. gaussianize:
    the values of each channel become the normal quantiles of their ranks; their order stays.
    """
    if how == NONE:
        return noise
    if how == STANDARDIZE:
        deviation = noise.std((-2, -1), correction=0, keepdim=True)
        return (noise - noise.mean((-2, -1), keepdim=True)) / deviation.clamp_min(1e-12)
    if how == GAUSSIANIZE:
        flat = noise.flatten(1)
        order = flat.cpu().argsort(dim=1, stable=True)
        values = normal_quantiles(flat.shape[1]).expand(order.shape)
        return torch.empty(order.shape, dtype=values.dtype).scatter_(1, order, values).to(flat).view_as(noise)
    raise LayoutError(f"calibration is {how!r}; choose one of {', '.join(CALIBRATIONS)}.")


def normal_quantiles(count: int) -> torch.Tensor:
    """The `count` values at (i + 1/2) / count of the standard normal distribution, ascending, float64."""
    return torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)

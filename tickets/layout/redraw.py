"""Part of a noise drawn again, the rest kept: the re-painting of Mao et al. 2023, "Guided Image Synthesis via
Initial Image Editing in Diffusion Model".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from .regions import AnyRegion

# A mask of one grey covers every pixel alike but for the last bits.
ROUNDING = 1e-9


def redrawn_share(
    regions: Sequence[AnyRegion], height: int, width: int, edge: int, index: int = 0
) -> torch.Tensor:
    """How much of each latent pixel is new [height, width]: 1 in the regions, 0 elsewhere.

    A pixel is new that a region covers at least half, of a region too thin for that the one it covers most.
    edge: over so many latent pixels inside of a region's border the share rises; the image's own border is
    none. index: of the image, for regions with a mask for each.
    """
    inside = np.zeros((height, width), bool)
    for region in regions:
        cover = region.coverage(height, width, index).numpy()
        most = float(cover.max())
        if most > 0:
            inside |= cover >= min(0.5, most) - ROUNDING
    if not inside.any():
        return torch.zeros(height, width)
    far = distance_transform_edt(np.pad(inside, edge + 1, mode="edge"))[edge + 1 :, edge + 1 :]
    return torch.from_numpy(np.clip(far[:height, :width] / (edge + 1), 0, 1)).to(torch.float32)

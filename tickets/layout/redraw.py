"""Part of a noise drawn again, the rest kept: the re-painting of Mao et al. 2023, "Guided Image Synthesis via
Initial Image Editing in Diffusion Model".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from .regions import AnyRegion, assign_cells


def redrawn_share(
    regions: Sequence[AnyRegion], height: int, width: int, edge: int, index: int = 0
) -> torch.Tensor:
    """How much of each latent pixel is new [height, width]: 1 in the regions, 0 elsewhere.

    edge: over so many latent pixels inside of a region's border it rises; the image's own border is none.
    index: of the image, for regions with a mask for each.
    """
    inside = assign_cells(regions, height, width, index).numpy() >= 0
    far = distance_transform_edt(np.pad(inside, edge + 1, mode="edge"))[edge + 1 :, edge + 1 :]
    return torch.from_numpy(np.clip(far[:height, :width] / (edge + 1), 0, 1)).to(torch.float32)

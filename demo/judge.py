"""The judge: a small network that tells which object stands in which latent cell.

It is trained on drawn scenes only, never on generated images.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

if __package__:  # ComfyUI loads the folder as a pack, the scripts import from it
    from .variants import judge_folder  # type: ignore[import-not-found]
else:
    from variants import judge_folder

WEIGHTS = judge_folder() / "judge.safetensors"


def _double(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(n_out, n_out, 3, padding=1),
        nn.ReLU(),
    )


def _grown(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """To the size of `fine`, which may be odd."""
    return nn.functional.interpolate(coarse, fine.shape[-2:])


class Judge(nn.Module):
    """Latents [B, 4, h, w] (model scale) -> class logits [B, classes, h, w]; class 0 is nothing."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.down0, self.down1, self.middle = _double(4, 48), _double(48, 96), _double(96, 96)
        self.up1, self.up0 = _double(192, 96), _double(144, 48)
        self.out = nn.Conv2d(48, classes, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.down0(x)
        coarse = self.down1(self.pool(fine))
        middle = self.middle(self.pool(coarse))
        y = self.up1(torch.cat([_grown(middle, coarse), coarse], 1))
        return self.out(self.up0(torch.cat([_grown(y, fine), fine], 1)))


def load_judge(path: Path = WEIGHTS) -> Judge:
    from safetensors.torch import load_file

    state = load_file(str(path))
    judge = Judge(state["out.weight"].shape[0])
    judge.load_state_dict({k: v.float() for k, v in state.items()})
    return judge.eval()

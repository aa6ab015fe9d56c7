"""Looking at whole noises: first-step attention to the categories of a layout, read in one prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import comfy.model_management
import torch

from ...tickets.prompts import JOINT, PLACE, make_prompts
from ...tickets.score import pool_cells
from ..collect.collect import latent_size
from ..model.memory import Rows
from .first_step import read_attention
from .reader import ProbeError, find_layers
from .tokens import encode_prompt


class Look:
    """Attention of noises [images, C, h, w] to `categories`: [images, categories, rows, columns].

    All categories stand in one prompt, made with the template; each forward ends at the last of the
    layers. block: side of a cell of the result in latent pixels. looks counts images, progress is told
    after every forward. ProbeError when the layers' maps are too coarse for the blocks.
    """

    def __init__(
        self,
        model: Any,
        clip: Any,
        categories: Sequence[str],
        layers: str,
        width: int,
        height: int,
        block: int,
        template: str = PLACE,
        progress: Callable[[int], None] = lambda looks: None,
    ) -> None:
        self.model, self.block, self.progress = model, block, progress
        self.layers = find_layers(model, layers)
        self.name = ", ".join(map(str, self.layers))
        (prompt,) = make_prompts(categories, JOINT, template)
        self.prompt = encode_prompt(clip, prompt)
        self.sigma = float(model.get_model_object("model_sampling").sigma_max)
        self.shape = latent_size(model, width, height)
        self.rows = Rows(model, self.shape)
        self.looks = 0

    def __call__(self, noise: torch.Tensor) -> torch.Tensor:
        maps: list[torch.Tensor] = []
        done = 0
        while done < len(noise):
            comfy.model_management.throw_exception_if_processing_interrupted()
            maps.append(self.rows.retry(partial(self._read, noise[done:])))
            done += len(maps[-1])
            self.looks += len(maps[-1])
            self.progress(self.looks)
        return self._pooled(torch.cat(maps))

    def _read(self, noise: torch.Tensor, rows: int) -> torch.Tensor:
        (maps,) = read_attention(self.model, [self.prompt], noise[:rows], self.layers, self.sigma)
        return maps

    def _pooled(self, maps: torch.Tensor) -> torch.Tensor:
        cell = 2 ** round(math.log2(self.shape[1] / maps.shape[-2]))
        if self.block % cell:
            raise ProbeError(
                f"Blocks of {self.block} latent pixels cannot be told apart at {self.name}, where a cell has"
                f" {cell}: choose a finer layer."
            )
        rows, columns = self.shape[1] // self.block, self.shape[2] // self.block
        return pool_cells(maps, self.block // cell)[..., :rows, :columns]

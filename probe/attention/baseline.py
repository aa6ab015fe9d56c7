"""What other noises show at a cell: its place has a share in its attention that no block takes along."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch

from ...tickets.noise import plain_noise
from ...tickets.recent import Recent
from ..model.family import Layer
from .tokens import PromptTokens

Maps = dict[Layer, list[torch.Tensor]]
"""Of each layer, for each prompt: [images, phrases, h, w]."""
# Not what users type, or count up to.
SEED = 0xBA5E << 16
KEPT = 64
_known: WeakKeyDictionary[Any, Recent[dict[Layer, torch.Tensor]]] = WeakKeyDictionary()


class Baseline:
    """Mean maps over other noises, one a prompt, of one way of reading a MODEL.

    noises: how many, 0: nothing is subtracted. how: all that the maps depend on, apart from MODEL and prompt.
    As long as the MODEL lives, the latest ones are kept for other runs.
    """

    def __init__(self, model: Any, noises: int, shape: tuple[int, ...], how: Hashable) -> None:
        self.noises, self.shape = noises, shape
        self._how = model.patches_uuid, noises, shape, how
        self._shared = _known.setdefault(model, Recent(KEPT))
        # Those of this run, of however many prompts.
        self._own: dict[Hashable, dict[Layer, torch.Tensor]] = {}

    def draw(self) -> torch.Tensor:
        """The noises [noises, C, h, w], the same for every run."""
        return torch.cat([plain_noise(SEED + k, self.shape) for k in range(self.noises)])

    def missing(self, prompts: Sequence[PromptTokens]) -> list[PromptTokens]:
        """Those whose mean is not known yet."""
        unknown: dict[Hashable, PromptTokens] = {}
        for prompt in prompts if self.noises else ():
            key = self._key(prompt)
            if key in self._own:
                continue
            if key in self._shared:
                self._own[key] = self._shared.get(key, dict)
            else:
                unknown[key] = prompt
        return list(unknown.values())

    def learn(self, prompts: Sequence[PromptTokens], maps: Maps) -> None:
        """From the maps of `draw`."""
        for i, prompt in enumerate(prompts):
            key = self._key(prompt)
            self._own[key] = {layer: found[i].mean(0) for layer, found in maps.items()}
            if prompt not in key:
                self._shared.get(key, partial(self._own.__getitem__, key))

    def subtracted(self, prompts: Sequence[PromptTokens], maps: Maps) -> Maps:
        """Maps of noises, less the mean at each cell."""
        if not self.noises:
            return maps
        means = [self._own[self._key(prompt)] for prompt in prompts]
        return {
            layer: [m - mean[layer] for m, mean in zip(found, means, strict=True)]
            for layer, found in maps.items()
        }

    def _key(self, prompt: PromptTokens) -> tuple[Hashable, ...]:
        """With the prompt itself where it holds what cannot be compared, such as hooks."""
        digests = [_digest(*entry) for entry in prompt.conditioning]
        return (*self._how, prompt.groups, *(prompt if digest is None else digest for digest in digests))


def _digest(context: torch.Tensor, options: Mapping[str, Any]) -> str | None:
    """Of an encoded text: the same words may be encoded otherwise."""
    found = hashlib.sha256()
    for name, value in (("", context), *sorted(options.items())):
        if isinstance(value, torch.Tensor):
            found.update(value.detach().float().cpu().contiguous().numpy().tobytes())
            value = tuple(value.shape)
        elif not isinstance(value, (str, int, float, type(None))):
            return None
        found.update(f"{name}: {value};".encode())
    return found.hexdigest()

"""Models of which a part stays in main memory, with a LoRA: weights are cast and patched as they are used."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import pytest
import torch
from cutoff_runs import PROMPT, stock
from tiny import CPU, FAMILIES, Family
from winning_tickets.probe.build.build import PlaceRequest, pick_noise
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.probe.sampling.watch import last_trace, watched
from winning_tickets.tickets.layout.parse import parse_regions


class Offloaded(comfy.model_patcher.ModelPatcher):
    """As on a graphics card that has room for next to nothing of the model."""

    def load(self, device_to: Any = None, *more: Any, **named: Any) -> None:
        super().load(device_to, 1)


def with_lora(patcher: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    weights = {k: w for k, w in patcher.model_state_dict("diffusion_model.").items() if w.dim() == 2}
    patched = patcher.clone()
    patched.add_patches({k: (torch.randn(w.shape, generator=generator) * 0.05,) for k, w in weights.items()})
    return patched


@pytest.mark.parametrize("name", ["SD3", "Flux.1", "Z-Image", "Wan"])
def test_a_partly_loaded_model_is_read_as_a_loaded_one(name: str) -> None:
    family: Family = FAMILIES[name]
    clip = family.clip()

    def encode(text: str) -> Any:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    def made(model: Any) -> tuple[list[torch.Tensor], list[str]]:
        before = fingerprint(model, clip)
        latent = {"samples": torch.zeros(2, *family.latent)}
        plain = stock(model, encode, latent, "euler", "simple", steps=2)
        watching, _ = watched(model, clip, PROMPT, "cat\nhouse")
        assert torch.equal(stock(watching, encode, latent, "euler", "simple", steps=2), plain)
        height, width = (side * family.pixels for side in family.latent[-2:])
        places = tuple(parse_regions("cat: 0 0 0.5 1\ntree: 0.5 0 1 1"))
        picked = pick_noise(model, clip, PlaceRequest(places, width, height, 7, 1, 3, 0, family.layers[1]))
        tensors = [plain, last_trace(watching).maps(), picked.noise.batch(1)]
        return tensors, [before, fingerprint(model, clip)]

    # Each has a model of its own, with the same weights.
    whole, other = family.model.__wrapped__(), family.model.__wrapped__()  # type: ignore[attr-defined]
    offloaded = Offloaded(other.model, load_device=CPU, offload_device=CPU)
    with torch.inference_mode():
        expected, names = made(with_lora(whole))
        found, others = made(with_lora(offloaded))
    assert offloaded.model.model_lowvram and not whole.model.model_lowvram
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(two, one)
    assert len({*names, *others}) == 1

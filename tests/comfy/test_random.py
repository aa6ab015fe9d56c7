"""Random numbers that others draw while the pack evaluates a model."""

from __future__ import annotations

import pytest
import torch
from winning_tickets.probe.model.random import seeded


def test_what_is_drawn_inside_depends_on_the_seed_alone() -> None:
    def drawn(seed: int) -> torch.Tensor:
        with seeded(seed):
            return torch.rand(5)

    torch.manual_seed(1)
    first = drawn(3)
    torch.manual_seed(2)
    assert torch.equal(drawn(3), first) and torch.equal(drawn(3 + 2**64), first)
    assert not torch.equal(drawn(4), first)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(5), first), "as stock ComfyUI seeds"


def test_the_generators_go_on_as_if_nothing_had_been_drawn() -> None:
    """The rule: what the pack evaluates does not change what is sampled afterwards, on any path."""
    torch.manual_seed(7)
    expected = torch.rand(3), torch.rand(3)
    torch.manual_seed(7)
    with seeded(0):
        torch.rand(100)
    assert torch.equal(torch.rand(3), expected[0])
    with pytest.raises(KeyError), seeded(0):
        torch.rand(100)
        raise KeyError
    assert torch.equal(torch.rand(3), expected[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_devices_generators_too() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3, device="cuda")
    torch.manual_seed(7)
    with seeded(1):
        inside = torch.rand(3, device="cuda")
    assert torch.equal(torch.rand(3, device="cuda"), expected)
    with seeded(1):
        assert torch.equal(torch.rand(3, device="cuda"), inside)

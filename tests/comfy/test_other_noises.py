"""NOISE objects as other packs write them, in Pick Best Noise, Noise Report and Guidance Cutoff KSampler."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import comfy.sample
import numpy as np
import pytest
import torch
from comfy.nested_tensor import NestedTensor
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.probe.build.build import PlaceRequest, pick_noise
from winning_tickets.probe.noise.foreign import NoiseError, Variants, reseeded
from winning_tickets.probe.noise.forms import compared
from winning_tickets.probe.sampling import ksampler
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.search.candidates import derived_seed

SHAPE = (4, 19, 13)
REGIONS = tuple(parse_regions("cat: 0 0 0.5 1\ntree: 0.5 0 1 1"))
REQUEST = PlaceRequest(REGIONS, 104, 152, 7, 2, 3, 0, "input 3")


def stock(latent: dict[str, Any], seed: int) -> torch.Tensor:
    return comfy.sample.prepare_noise(latent["samples"], seed, latent.get("batch_index"))


@dataclass
class Plain:
    seed: Any

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, int(self.seed))


@dataclass(frozen=True)
class Frozen:
    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, self.seed)


class ReadOnly:
    """Its seed is a property; the value lies elsewhere."""

    def __init__(self, seed: int) -> None:
        self.noise_seed = seed

    @property
    def seed(self) -> int:
        return self.noise_seed

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, self.seed)


class Slotted:
    __slots__ = ("seed",)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, self.seed)


@dataclass
class Mix:
    """Two others; its seed is the first one's and can be read only."""

    one: Any
    two: Any
    mask: torch.Tensor = field(default_factory=lambda: torch.ones(1, 1))

    @property
    def seed(self) -> Any:
        return self.one.seed

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        self.mask.unsqueeze_(0)
        made = self.one.generate_noise(input_latent) + self.two.generate_noise(input_latent)
        return made * 0.5**0.5


@dataclass
class Sum:
    """Others in a list, and a seed that can be set and is used by nobody."""

    parts: list[Any]
    seed: int = 0

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return torch.stack([p.generate_noise(input_latent) for p in self.parts]).sum(0)


class Seedless:
    """torch's global generator, as it happens to be."""

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return torch.randn(input_latent["samples"].shape)


@dataclass
class Deaf:
    """Takes no notice of batch_index."""

    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(input_latent["samples"].shape, generator=generator)


@dataclass
class Varied:
    """The first image of the batch, and variations of it."""

    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        made = stock(input_latent, self.seed)
        return torch.cat([made[:1], 0.6 * made[:1] + 0.8 * made[1:]])


@dataclass
class Whole:
    """Fails when it is given batch_index."""

    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        if "batch_index" in input_latent:
            raise RuntimeError("Could not infer dtype of NoneType")
        return stock(input_latent, self.seed)


@dataclass
class Same:
    """One noise for all images."""

    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        samples = input_latent["samples"]
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(1, *samples.shape[1:], generator=generator).expand_as(samples)


@dataclass
class Double:
    """Of another type, and in place."""

    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        samples = input_latent["samples"]
        samples += stock(input_latent, self.seed)
        return samples.double()


@dataclass
class Broken:
    seed: int
    gives: Any

    def generate_noise(self, input_latent: dict[str, Any]) -> Any:
        return self.gives(stock(input_latent, self.seed))


USABLE = {
    "plain": lambda: Plain(4),
    "frozen": lambda: Frozen(4),
    "read-only seed": lambda: ReadOnly(4),
    "slots": lambda: Slotted(4),
    "tensor seed": lambda: Plain(torch.tensor(4)),
    "mix": lambda: Mix(Plain(4), Frozen(5)),
    "mix of mixes": lambda: Mix(Mix(ReadOnly(4), Plain(5)), Sum([Slotted(6)])),
    "no seed": Seedless,
    "mix without seed": lambda: Mix(Seedless(), Seedless()),
    "deaf": lambda: Deaf(4),
    "varied": lambda: Varied(4),
    "whole": lambda: Whole(4),
    "in place": lambda: Double(4),
}


@pytest.mark.parametrize("kind", USABLE)
def test_a_noise_of_another_pack_gives_its_own_images_under_other_seeds(kind: str) -> None:
    """The rules: image k is the same alone and in a batch; candidate 0 is the noise itself; what it
    draws from torch's global generator depends on the seed alone."""
    noise = USABLE[kind]()
    redrawn = Variants(noise, SHAPE, 4, "Pick Best Noise")
    redrawn.check_seeds()
    images = {(k, c): redrawn.image(k, c) for k in range(3) for c in range(3)}
    assert all(i.shape == SHAPE and i.dtype == torch.float32 for i in images.values())
    different = [i.flatten().tolist() for i in images.values()]
    assert len({tuple(d) for d in different}) == 9
    torch.manual_seed(99)
    again = Variants(noise, SHAPE, 4, "Pick Best Noise")
    for (k, c), image in reversed(images.items()):
        assert torch.equal(again.image(k, c), image)
    if kind in ("plain", "frozen", "read-only seed", "slots"):
        assert torch.equal(
            images[1, 2],
            stock({"samples": torch.zeros(1, *SHAPE), "batch_index": [1]}, derived_seed(4, 2))[0],
        )
        assert noise.seed == 4


@pytest.mark.parametrize("kind", ["deaf", "varied", "whole"])
def test_images_that_cannot_be_drawn_alone_are_those_of_the_batch(kind: str) -> None:
    """The rule: candidate 0 is what the noise gives a sampler; the variations of the first image of a batch
    were lost, and a noise that does not know batch_index ended the node with its own error."""
    # At other sizes torch draws an image differently in batches of two and of three.
    shape = (4, 20, 12)
    batch = USABLE[kind]().generate_noise({"samples": torch.zeros(3, *shape)})
    redrawn = Variants(USABLE[kind](), shape, 4, "Pick Best Noise")
    assert torch.equal(torch.stack([redrawn.image(k, 0) for k in range(3)]), batch)


def test_the_parts_of_a_wrapper_are_not_changed() -> None:
    one, two = Plain(4), ReadOnly(5)
    wrapper = Sum([Mix(one, two)], 3)
    other = reseeded(wrapper, 2)
    assert other.seed == derived_seed(3, 2) != 3
    (mix,) = other.parts
    assert (mix.one.seed, mix.two.seed) == (derived_seed(4, 2), derived_seed(5, 2))
    assert (one.seed, two.seed, wrapper.seed) == (4, 5, 3) and wrapper.parts[0].one is one


@pytest.mark.parametrize(
    ("noise", "why"),
    [
        (
            Broken(1, torch.zeros_like),
            r"Pick Best Noise: .*\(Broken\) does not change with its seed: connect one",
        ),
        (Same(1), r"\(Same\) gives every image of a batch the same noise: set batch_size to 1"),
        (Broken(1, lambda n: torch.cat([n, n])), r"\(Broken\) gave \(2, 4, 19, 13\) for .* \(1, 4, 19, 13\)"),
        (Broken(1, lambda n: NestedTensor([n])), r"\(Broken\) gave NestedTensor for a latent of"),
        (Broken(1, lambda n: (n,)), r"\(Broken\) gave tuple for a latent of"),
        (Broken(1, lambda n: n / 0), r"\(Broken\) contains NaN or Inf: connect another"),
    ],
)
def test_a_noise_that_cannot_be_picked_from_is_refused(model: Any, clip: Any, noise: Any, why: str) -> None:
    """The rule: one sentence that names the node, the noise, and what to connect, and no equal images."""
    with pytest.raises(NoiseError, match=why):
        pick_noise(model, clip, REQUEST, noise)


@pytest.mark.parametrize("kind", ["mix", "deaf", "varied", "whole", "no seed"])
def test_pick_best_noise_gives_what_it_looked_at(model: Any, clip: Any, kind: str) -> None:
    noise = USABLE[kind]()
    result = pick_noise(model, clip, REQUEST, noise)
    built = result.noise.generate_noise(result.empty)
    redrawn = Variants(USABLE[kind](), SHAPE, result.noise.seed, "")
    for k in range(2):
        assert any(torch.equal(built[k], redrawn.image(k, c)) for c in range(3))
    assert not torch.equal(built[0], built[1])
    assert result.noise.seed == (7 if kind == "no seed" else 4), "the widget's seed where there is no other"
    assert torch.equal(
        pick_noise(model, clip, REQUEST, USABLE[kind]()).noise.generate_noise(result.empty), built
    )


def test_one_candidate_is_the_noise_as_it_is(model: Any, clip: Any) -> None:
    """The rule: nothing to choose from, nothing changed, not even how it draws a batch."""
    request = PlaceRequest(REGIONS, 104, 152, 7, 2, 1, 0, "input 3")
    result = pick_noise(model, clip, request, Deaf(4))
    assert torch.equal(result.noise.generate_noise(result.empty), Deaf(4).generate_noise(result.empty))


def test_a_noise_that_writes_into_its_latent_leaves_it_as_it_was(model: Any, clip: Any, encode: Any) -> None:
    """The rule: inputs are shared with other nodes and are never changed."""
    latent = {"samples": torch.zeros(2, *SHAPE)}
    ours, plain = compared(Double(4), latent)
    assert torch.equal(ours, plain)
    conds = encode("a cat"), encode("")
    settings = ksampler.Settings(0, 1, 1.0, "euler", "simple")
    ksampler.sample(model, settings, *conds, latent, Cutoff(Share(1.0)), Double(4))
    assert not latent["samples"].any()


def test_a_noise_of_another_size_is_refused_before_sampling(model: Any, clip: Any, encode: Any) -> None:
    latent, conds = {"samples": torch.zeros(2, *SHAPE)}, (encode("a cat"), encode(""))
    settings = ksampler.Settings(0, 1, 1.0, "euler", "simple")
    with pytest.raises(NoiseError, match=r"Guidance Cutoff KSampler: .*\(Broken\) gave \(2, 4, 19, 26\)"):
        wide = Broken(1, lambda n: torch.cat([n, n], -1))
        ksampler.sample(model, settings, *conds, latent, Cutoff(Share(1.0)), wide)


@dataclass(frozen=True, slots=True)
class FrozenSlots:
    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, self.seed)


class Tuple(NamedTuple):
    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, self.seed)


class Checked:
    """Its seed can be set, by its own rules; it knows itself."""

    def __init__(self, seed: int) -> None:
        self.noise_seed, self.whole = seed, self

    @property
    def seed(self) -> int:
        return self.noise_seed

    @seed.setter
    def seed(self, seed: int) -> None:
        raise ValueError("not while it is queued")

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, self.seed)


@dataclass
class Uncopied:
    seed: int

    def __copy__(self) -> Any:
        raise TypeError("cannot be copied")

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, self.seed)


class Ongoing:
    """Goes on with a generator of its own."""

    def __init__(self, seed: int) -> None:
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return torch.randn(input_latent["samples"].shape, generator=self.generator)


@dataclass
class Typed:
    """Reads an entry of the latent that most do not have."""

    seed: int

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return stock(input_latent, self.seed + input_latent["frames"])


@pytest.mark.parametrize("make", [FrozenSlots, Tuple, Checked])
def test_a_seed_is_changed_on_a_copy_of_any_object(make: Any) -> None:
    """The rule: no error of the object's own, and no claim that the noise does not follow its seed."""
    noise = make(4)
    redrawn = Variants(noise, SHAPE, 4, "Pick Best Noise")
    redrawn.check_seeds()
    assert torch.equal(
        redrawn.image(0, 1)[None], stock({"samples": torch.zeros(1, *SHAPE)}, derived_seed(4, 1))
    )
    assert noise.seed == 4


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Uncopied, r"\(Uncopied\) does not change with its seed"),
        (Ongoing, r"\(Ongoing\) changes every time it is asked for"),
        (Typed, r"\(Typed\) fails on this latent \(KeyError: 'frames'\): connect one"),
    ],
)
def test_what_cannot_be_picked_from_is_refused_in_a_sentence(make: Any, why: str) -> None:
    with pytest.raises(NoiseError, match=f"^Pick Best Noise: the noise connected {why}"):
        Variants(make(4), SHAPE, 4, "Pick Best Noise").check_seeds()


@pytest.mark.parametrize("index", [torch.tensor([3, 1]), np.array([3, 1]), (3, 1)], ids=str)
def test_batch_index_may_be_an_array(model: Any, clip: Any, index: Any) -> None:
    """The rule: what other packs write into a LATENT is read as it comes."""
    built = pick_noise(model, clip, REQUEST, Plain(4)).noise
    latent = {"samples": torch.zeros(2, *SHAPE), "batch_index": index}
    assert torch.equal(built.generate_noise(latent), built.images([3, 1]))

"""Redraw Noise in Region: new noise in some places of any NOISE, the rest bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.sample
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from winning_tickets.nodes import RedrawNoiseInRegion, TicketRegionFromMask
from winning_tickets.probe.build.build import PlaceRequest, arrange_noise, pick_noise
from winning_tickets.probe.build.redraw import RedrawnNoise, pixel_side, redraw_noise
from winning_tickets.probe.noise.foreign import NoiseError, seed_of
from winning_tickets.probe.noise.forms import PlainNoise
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.redraw import redrawn_share
from winning_tickets.tickets.layout.regions import MaskRegion
from winning_tickets.tickets.search.candidates import derived_seed

REGIONS = tuple(parse_regions("cat: 0 0 0.5 1\ntree: 0.5 0 1 1"))
LEFT = tuple(parse_regions("left: 0 0 0.5 1"))
REQUEST = PlaceRequest(REGIONS, 104, 152, 7, 2, 3, 0, "input 3")


class Steady:
    """A NOISE of another pack, of the same seed for ever."""

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return comfy.sample.prepare_noise(input_latent["samples"], 5, input_latent.get("batch_index"))


@pytest.mark.parametrize("noise", [PlainNoise(3), Steady()], ids=["with a seed", "without"])
@pytest.mark.parametrize("edge", [0, 3])
def test_the_rest_stays_bit_for_bit(latent: dict[str, Any], noise: Any, edge: int) -> None:
    """The rule: outside of the region nothing changes; inside it is the second seed's noise."""
    new = RedrawnNoise(noise, LEFT, 8, edge).generate_noise(latent)
    old, other = noise.generate_noise(latent), PlainNoise(8).generate_noise(latent)
    share = redrawn_share(LEFT, 19, 13, edge)
    assert torch.equal(new[..., share == 0], old[..., share == 0])
    assert torch.equal(new[..., share == 1], other[..., share == 1])
    mixed = (share > 0) & (share < 1)
    assert bool(mixed.any()) == (edge > 0)
    assert not bool(((new == old) | (new == other))[..., mixed].any())


def test_the_edge_lies_inside_and_not_at_the_images_border() -> None:
    share = redrawn_share(LEFT, 19, 13, 2)
    assert share[9].tolist() == pytest.approx([1, 1, 1, 1, 1, 2 / 3, 1 / 3] + 6 * [0], abs=1e-6)
    assert torch.equal(share[0], share[9])


def test_a_soft_edge_keeps_the_variance() -> None:
    latent = {"samples": torch.zeros(40, 4, 32, 32)}
    new = RedrawnNoise(PlainNoise(3), tuple(parse_regions("a: 0.2 0.2 0.8 0.8")), 8, 8).generate_noise(latent)
    share = redrawn_share(tuple(parse_regions("a: 0.2 0.2 0.8 0.8")), 32, 32, 8)
    for low, high in ((0, 0.01), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8)):
        some = new[..., (share >= low) & (share <= high)]
        assert float(some.var()) == pytest.approx(1, abs=6 * (2 / some.numel()) ** 0.5)


def test_image_k_is_the_same_alone_and_has_its_own_mask() -> None:
    """The rule: a batch and batch_index give the same images."""
    masks = torch.zeros(2, 19, 13)
    masks[0, :5], masks[1, 10:] = 1, 1
    samples = torch.zeros(3, 4, 16, 16)
    redrawn = RedrawnNoise(PlainNoise(3), (MaskRegion("mask", masks),), 8)
    together = redrawn.generate_noise({"samples": samples})
    for index in range(3):
        alone = redrawn.generate_noise({"samples": samples[:1], "batch_index": [index]})
        assert torch.equal(alone[0], together[index])
    old = PlainNoise(3).generate_noise({"samples": samples})
    assert [(together[i] != old[i]).any(0).any(1).nonzero().flatten().min() for i in range(3)] == [0, 8, 0]


def test_samplers_draw_what_they_drew_before(latent: dict[str, Any]) -> None:
    """The rule: the seed, and torch's random numbers after it, are the first noise's."""
    redrawn = RedrawnNoise(PlainNoise(3), LEFT, 8)
    assert seed_of(redrawn, 0) == 3
    after = []
    for noise in (PlainNoise(3), redrawn):
        noise.generate_noise(latent)
        after.append(torch.randn(3))
    assert torch.equal(*after)


def test_its_seed_can_be_set(latent: dict[str, Any]) -> None:
    """The rule: as on the pack's other noises; the noise connected, which others use, stays as it was."""
    noise = PlainNoise(3)
    redrawn = RedrawnNoise(noise, LEFT, 8)
    redrawn.seed = 4
    assert (noise.seed, redrawn.seed) == (3, 4)
    expected = RedrawnNoise(PlainNoise(4), LEFT, 8).generate_noise(latent)
    assert torch.equal(redrawn.generate_noise(latent), expected)


def test_pick_best_noise_varies_the_new_part_only(model: Any, clip: Any) -> None:
    """The rule: with candidates, what was to be kept is kept."""
    redrawn = RedrawnNoise(PlainNoise(3), LEFT, 8)
    result = pick_noise(model, clip, REQUEST, redrawn)
    found = result.noise.batch(2)
    # At this odd size stock draws a batch otherwise without batch_index.
    latent = {**result.empty, "batch_index": [0, 1]}
    old = PlainNoise(3).generate_noise(latent)
    share = redrawn_share(LEFT, 19, 13, 0)
    assert torch.equal(found[..., share == 0], old[..., share == 0])
    seeds = [derived_seed(8, j) for j in range(3)]
    drawn = [RedrawnNoise(PlainNoise(3), LEFT, s).generate_noise(latent) for s in seeds]
    for image in range(2):
        assert sum(torch.equal(found[image], one[image]) for one in drawn) == 1


def test_other_tickets_or_blocks_can_fill_it(model: Any, clip: Any) -> None:
    fill = arrange_noise(model, clip, REQUEST).noise
    latent = {"samples": torch.zeros(1, 4, 19, 13)}
    found = redraw_noise(PlainNoise(3), latent, LEFT, 8, 0, fill, model)
    new, share = found.noise.generate_noise(latent), redrawn_share(LEFT, 19, 13, 0)
    assert torch.equal(new[..., share == 1], fill.generate_noise(latent)[..., share == 1])
    assert found.latent["samples"].shape == new.shape and found.picture.dim() == 4
    assert "53.8% of the noise is new" in found.report


def test_without_a_model_no_latent(latent: dict[str, Any]) -> None:
    found = redraw_noise(PlainNoise(3), latent, LEFT, 8, 0)
    assert isinstance(found.latent, ExecutionBlocker) and "connect model" in found.latent.message


def test_what_does_not_fit_is_refused(latent: dict[str, Any]) -> None:
    with pytest.raises(NoiseError, match="Redraw Noise in Region: the new noise is the same .* seed .now 3."):
        redraw_noise(PlainNoise(3), latent, LEFT, 3, 0)
    with pytest.raises(NoiseError, match="the new noise is the same as the old one: connect another fill"):
        redraw_noise(PlainNoise(3), latent, LEFT, 8, 0, PlainNoise(3))
    with pytest.raises(NoiseError, match="Redraw Noise in Region needs a latent of images"):
        redraw_noise(PlainNoise(3), {"samples": torch.zeros(1, 16, 2, 8, 8)}, LEFT, 8, 0)


def test_an_image_may_be_a_video_of_one_frame() -> None:
    """Samplers hand such latents to NOISE for Qwen-Image, Anima, Wan: it was refused."""
    flat = {"samples": torch.zeros(2, 16, 19, 13)}
    framed = {"samples": flat["samples"][:, :, None]}
    found = redraw_noise(PlainNoise(3), framed, LEFT, 8, 3)
    new = found.noise.generate_noise(framed)
    assert new.shape == (2, 16, 1, 19, 13)
    assert torch.equal(new[:, :, 0], found.noise.generate_noise(flat))
    assert torch.equal(found.picture, redraw_noise(PlainNoise(3), flat, LEFT, 8, 3).picture)


def test_places_may_overlap_and_an_image_may_have_none(latent: dict[str, Any]) -> None:
    """The rule: whose a place is does not matter here; boxes of a detector may be there twice."""
    twice = tuple(parse_regions("a: 0 0 0.5 1\nb: 0 0 0.5 1"))
    assert torch.equal(redrawn_share(twice, 19, 13, 0), redrawn_share(LEFT, 19, 13, 0))
    masks = torch.zeros(2, 19, 13)
    masks[1, :5] = 1
    redrawn = RedrawnNoise(PlainNoise(3), (MaskRegion("mask", masks, may_be_empty=True),), 8)
    old, new = PlainNoise(3).generate_noise(latent), redrawn.generate_noise(latent)
    assert torch.equal(new[0], old[0]) and not torch.equal(new[1], old[1])
    report = redraw_noise(PlainNoise(3), latent, redrawn.regions, 8, 0).report
    assert "Warning" not in report and "13.2% of the noise is new" in report, "of both images"
    thin = tuple(parse_regions("a: 0.5 0.5 0.51 0.51"))
    assert int((redrawn_share(thin, 19, 13, 0) > 0).sum()) == 1


def test_a_latent_pixel_is_as_large_as_the_latent_or_the_model_says(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes in pixels lay elsewhere where latents are not 8 times smaller, as Flux.2's are 16 times."""
    latent = {"samples": torch.zeros(1, 4, 19, 13)}
    assert pixel_side(latent) == (8, False) and pixel_side(latent, model) == (8, True)
    monkeypatch.setattr(model.get_model_object("latent_format"), "spacial_downscale_ratio", 16, raising=False)
    assert pixel_side(latent, model) == (16, True)
    # A stock empty latent says for itself, and is made smaller by the sampler.
    assert pixel_side({**latent, "downscale_ratio_spacial": 8}, model) == (8, True)


def test_a_grey_mask_is_all_new() -> None:
    """Rounding made holes in a mask of one light grey: a few pixels of all were new."""
    for grey in (0.1, 0.3, 1 / 3):
        for side in (100, 500):
            mask = MaskRegion("mask", torch.full((1, side, side), grey))
            assert bool((redrawn_share((mask,), 19, 13, 0) == 1).all())
            assert bool((redrawn_share((mask,), 64, 64, 0) == 1).all())


def test_masks_that_are_empty_for_these_images_are_named(latent: dict[str, Any]) -> None:
    """It was blamed on the seed."""
    masks = torch.zeros(3, 8, 8)
    masks[2] = 1
    with pytest.raises(NoiseError, match="nothing to redraw in any of the 2 images: their masks are empty"):
        redraw_noise(PlainNoise(3), latent, (MaskRegion("mask", masks, may_be_empty=True),), 8, 0)


def test_pick_best_noise_takes_a_batch_with_an_empty_mask(model: Any, clip: Any) -> None:
    """It was refused, as if nothing followed the seed."""
    masks = torch.zeros(2, 8, 8)
    masks[1, :4] = 1
    redrawn = RedrawnNoise(PlainNoise(3), (MaskRegion("mask", masks, may_be_empty=True),), 8)
    found = pick_noise(model, clip, REQUEST, redrawn).noise.batch(2)
    old = PlainNoise(3).generate_noise({"samples": torch.zeros(2, 4, 19, 13), "batch_index": [0, 1]})
    assert torch.equal(found[0], old[0]) and not torch.equal(found[1], old[1])
    with pytest.raises(NoiseError, match="does not change with its seed"):
        pick_noise(model, clip, replace(REQUEST, batch=1), redrawn)


@pytest.mark.parametrize("shape", [(19, 13), (1, 1, 19, 13)])
def test_a_mask_with_or_without_its_dimensions_is_the_same_mask(
    latent: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """One with a channel, which some packs give, was refused for a shape that nobody had connected."""
    mask = torch.zeros(1, 19, 13)
    mask[:, :5] = 1
    named = {"category": "castle", "batch": "one for each image"}
    (usual,), (other,) = (
        TicketRegionFromMask.execute(mask=m, **named).result for m in (mask, mask.view(shape))
    )
    assert torch.equal(usual.regions[0].masks, other.regions[0].masks)
    drawn = [
        RedrawNoiseInRegion.execute(
            noise=PlainNoise(3), latent_image=latent, region=m, seed=8, edge=0
        ).result[0]
        for m in (mask, mask.view(shape))
    ]
    first, second = (noise.generate_noise(latent) for noise in drawn)
    assert torch.equal(first, second)


def test_the_report_tells_new_from_mixed(latent: dict[str, Any]) -> None:
    report = redraw_noise(PlainNoise(3), latent, LEFT, 8, 2).report
    assert "38.5% of the noise is new, of seed 8" in report and "At the edge, 15.4% is a blend" in report
    wide = redraw_noise(PlainNoise(3), latent, LEFT, 8, 60, PlainNoise(9)).report
    assert "0.0% of the noise is new, of the noise connected as fill" in wide
    assert "Warning: no part is completely new, since edge (60) is wider" in wide


class Global:
    """A NOISE of another pack that draws from torch's own generator."""

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        return torch.randn(input_latent["samples"].shape)


def test_what_is_kept_is_kept_of_a_noise_without_a_seed(model: Any, clip: Any) -> None:
    """Its kept part was drawn under the candidates' seeds, another one for each."""
    request = replace(REQUEST, batch=1)
    redrawn = RedrawnNoise(Global(), LEFT, 8)
    found = [pick_noise(model, clip, replace(request, candidates=n), redrawn).noise.batch(1) for n in (2, 6)]
    share = redrawn_share(LEFT, 19, 13, 0)
    assert torch.equal(found[0][..., share == 0], found[1][..., share == 0])

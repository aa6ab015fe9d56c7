"""Layout Trial and its judge on transformers: which kinds are tried, single frames, what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.sample
import comfy.samplers
import folder_paths
import numpy as np
import pytest
import torch
from forwards import counted
from tiny import FAMILIES, UNREADABLE, Family
from winning_tickets.probe.build.build import (
    PlaceRequest,
    TicketRequest,
    arrange_noise,
    build_tickets,
    pick_noise,
)
from winning_tickets.probe.build.looking import AfterSteps
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.judge import APART, ModelJudge
from winning_tickets.probe.model.family import ProbeError
from winning_tickets.probe.model.transformer import BASELINE
from winning_tickets.probe.sampling.draw import Sampling, decoded
from winning_tickets.probe.trial.kinds import LOOKED, OTHERS, SWAP, TICKETS, Choice, Noises, best_of
from winning_tickets.probe.trial.trial import Trial, TrialRequest, give, run_trial
from winning_tickets.tickets.bank.bank import TicketBank
from winning_tickets.tickets.layout.build import Layout
from winning_tickets.tickets.layout.calibrate import STANDARDIZE
from winning_tickets.tickets.layout.select import Rank
from winning_tickets.tickets.prompts import without
from winning_tickets.trial.cases import PAIRS, PLAIN, Case, made_cases, turned

NAMES = ("cat", "tree", "car")
EULER = Sampling(2, 4.0, "euler", "simple", "ugly")
QUICK = Choice(best_of=3, swap=False, tickets=False, looked=False)
# Images, and videos of one frame; joint and cross attention; a latent pixel of 8 and of 16 pixels.
SOME = ("SD3", "Anima", "Flux.2 Klein")


class Parts:
    """model, clip, and the latent of an image of `size`, width and height in pixels."""

    def __init__(self, name: str, families: Mapping[str, Family] = FAMILIES | UNREADABLE) -> None:
        family = families[name]
        self.latent, self.model, self.clip = family.latent, family.model(), family.clip()
        self.layer = family.layers[1] if family.layers else "auto"
        self.size = self.latent[-1] * family.pixels, self.latent[-2] * family.pixels

    def encode(self, text: str) -> Any:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def request(self, choice: Choice = QUICK, images: int = 2, layer: str | None = None) -> TrialRequest:
        asked = {"categories": list(NAMES), "prompt": ""}
        return TrialRequest(
            cases_of(images), 5, asked, *self.size, EULER, choice, self.layer if layer is None else layer
        )

    def bank(self) -> TicketBank:
        return collect(self.model, self.clip, CollectRequest(NAMES, 4, 0, *self.size, self.layer))

    def noises(self, choice: Choice, layer: str | None = None, bank: Any = None) -> Noises:
        layer = self.layer if layer is None else layer
        return Noises(self.model, self.clip, "Layout Trial", NAMES, *self.size, layer, bank, choice)


def cases_of(count: int) -> tuple[Case, ...]:
    return tuple(made_cases(NAMES, PAIRS, "", count, 5))


@pytest.fixture(autouse=True)
def as_nodes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Anima prepares its text in inference mode only."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    with torch.inference_mode():
        yield


@pytest.fixture
def parts(request: pytest.FixtureRequest) -> Parts:
    return Parts(request.param)


def predicted(parts: Parts, text: str, latents: torch.Tensor, noise: torch.Tensor, sigma: float) -> Any:
    """What the model predicts at model scale: one stock step of euler to no noise."""
    prompt = parts.encode(text)
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([sigma, 0.0])
    out = comfy.sample.sample_custom(
        *(parts.model, noise, 1.0, sampler, sigmas, prompt, prompt, latents), disable_pbar=True, seed=0
    )
    return parts.model.model.process_latent_in(out)


@pytest.mark.parametrize("parts", FAMILIES | UNREADABLE, indirect=True)
def test_the_judge_compares_the_models_own_predictions(parts: Parts) -> None:
    """The rule: the evidence is that of stock runs, one text at a time, with latents as samplers leave them;
    models that make videos and those whose attention cannot be read were refused."""
    latents = torch.randn(2, *parts.latent, generator=torch.Generator().manual_seed(3))
    prompt = cases_of(1)[0].prompt
    judge = ModelJudge(parts.model, parts.clip, "test", *parts.size)
    clean = parts.model.model.process_latent_in(latents)
    change, gain = torch.zeros(2, 2, *parts.latent[-2:]), torch.zeros(2, 2, *parts.latent[-2:])
    for number, (sigma, weight) in enumerate(judge.levels):
        noise = comfy.sample.prepare_noise(latents[:1], 7 ^ APART).expand(2, *parts.latent)
        noise = noise * (-1) ** number
        full = predicted(parts, prompt.text, latents, noise, sigma)
        for i in range(2):
            part = predicted(parts, without(prompt, i), latents, noise, sigma)
            squares = [
                x.square().sum(1).reshape(2, *parts.latent[-2:])
                for x in (part - full, clean - part, clean - full)
            ]
            change[:, i] += weight * squares[0]
            gain[:, i] += weight * (squares[1] - squares[2])
    flat = latents.reshape(2, parts.latent[0], *parts.latent[-2:])
    found = list(judge.evidence([prompt] * 2, flat, 7))
    for k, (own_change, own_gain) in enumerate(found):
        for own, expected in ((own_change, change[k]), (own_gain, gain[k])):
            np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert float(change.max()) > 0
    whole = judge.find([prompt], latents, 7)
    for one, other in zip(whole, judge.find([prompt], flat, 7), strict=True):
        assert [f.mask.shape for f in one] == [parts.latent[-2:]] * 2
        assert all(np.array_equal(a.mask, b.mask) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("parts", FAMILIES, indirect=True)
def test_all_kinds_are_tried(parts: Parts) -> None:
    """The rule: images are the stock KSampler's, noises those of the nodes, forwards those that were run."""
    counting, seen = counted(parts.model)
    bank = parts.bank()
    choice = Choice(best_of=3, control=True, candidates=2, rounds=0)
    outcome = run_trial(counting, parts.clip, parts.request(choice), ModelJudge, bank)
    kinds = [PLAIN, best_of(3), SWAP, TICKETS, LOOKED, OTHERS]
    assert outcome.kinds == kinds and len(outcome.records) == 12
    looks = {best_of(3): 3, SWAP: 2, LOOKED: 2}
    judged = 4 * 3 * len(outcome.records)
    counted_looks = 2 * sum(looks.values())
    assert seen.total == sum(round(r.nfe) for r in outcome.records) + counted_looks + judged + BASELINE
    assert "a transformer. Objects have been shown to follow moved blocks" in give(outcome).report
    negative = parts.encode("ugly")
    different = set()
    for image in outcome.drawn:
        case = cases_of(2)[image.record.case]
        assert image.latent.shape == parts.latent and image.record.nfe == 4
        assert (image.record.look_nfe > 0) == (image.record.kind in looks)
        noise = made(parts, bank, case, image.record.kind)
        different.add(noise.numpy().tobytes())
        empty = torch.zeros(1, *parts.latent)
        stock = comfy.sample.sample(
            *(parts.model, noise, 2, 4.0, "euler", "simple", parts.encode(case.prompt.text), negative, empty),
            disable_pbar=True,
            seed=case.seed,
        )[0]
        torch.testing.assert_close(image.latent, stock, rtol=1e-2, atol=0.01 * float(stock.abs().max()))
    # The best of few may be the first, and an exchange that does not help is dropped.
    assert len(different) >= 6
    seen.clear()
    again = Trial(counting, parts.clip, parts.request(choice), ModelJudge, bank)
    again.run()
    assert seen.total == 0 and len(again.outcome().drawn) == 12, "latents of single frames are read again"


def made(parts: Parts, bank: TicketBank, case: Case, kind: str) -> torch.Tensor:
    """The noise of a case, by the nodes."""
    empty = torch.zeros(1, *parts.latent)
    if kind == PLAIN:
        return comfy.sample.prepare_noise(empty, case.seed)
    place = PlaceRequest(case.regions, *parts.size, case.seed, 1, 2, 0, parts.layer)
    if kind == best_of(3):
        result = pick_noise(parts.model, parts.clip, replace(place, candidates=3))
    elif kind == SWAP:
        result = arrange_noise(parts.model, parts.clip, place)
    else:
        regions = turned(case.regions) if kind == OTHERS else case.regions
        layout = Layout(bank, tuple(regions), *parts.latent[:-3:-1], Rank(), calibration=STANDARDIZE)
        looks = (parts.model, parts.clip) if kind == LOOKED else ()
        result = build_tickets(TicketRequest(layout, case.seed, 1, 2 if looks else 1, 0), *looks)
    return result.noise.generate_noise({"samples": empty})


@pytest.mark.parametrize("name", SOME)
def test_after_some_steps_the_best_seeds_are_looked_at_again(name: str) -> None:
    """The rule: as Pick Best Noise, two of three."""
    parts = Parts(name, FAMILIES)
    choice = replace(QUICK, after=0.5)
    counting, seen = counted(parts.model)
    run = Noises(counting, parts.clip, "test", NAMES, *parts.size, parts.layer, choice=choice, sampling=EULER)
    (case,) = cases_of(1)
    _, best = run.kinds([case])
    noise, forwards = run.make(best, case)
    share = run.scorer.share
    assert seen.total == BASELINE + 3 + 2 * (2 + 1)
    assert forwards == pytest.approx(run.cost(best)) == pytest.approx(3 * share + 2 * (2 + share))
    euler = comfy.samplers.sampler_object("euler")
    after = AfterSteps(
        *(0.5, 2, 4.0, euler, EULER.sigmas(parts.model)), parts.encode(case.prompt.text), parts.encode("ugly")
    )
    place = PlaceRequest(case.regions, *parts.size, case.seed, 1, 3, 0, parts.layer, after=after)
    assert torch.equal(noise, pick_noise(parts.model, parts.clip, place).noise.batch(1)[0].reshape(run.shape))


@pytest.mark.parametrize("name", SOME)
def test_what_is_not_known_of_moved_blocks_is_said_where_they_are_moved(name: str) -> None:
    parts = Parts(name, FAMILIES)
    noises = parts.noises(Choice(best_of=4), bank=parts.bank())
    kinds = [PLAIN, best_of(4), SWAP, TICKETS, LOOKED]
    assert [kind.name for kind in noises.kinds(cases_of(1))] == kinds
    note, once = noises.notes
    assert f"its mean over {BASELINE} other noises: about" in once and "once for each prompt" in once
    assert re.match(r"This model is \w+, a transformer\. Objects have been shown to follow", note)
    assert "Layout Trial" not in note, "that is what tells it here"
    noises = parts.noises(Choice(best_of=0, tickets=False, looked=False))
    assert [kind.name for kind in noises.kinds(cases_of(1))] == [PLAIN, SWAP] and noises.notes[0] == note
    noises = parts.noises(QUICK)
    assert [kind.name for kind in noises.kinds(cases_of(1))] == [PLAIN, best_of(3)] and len(noises.notes) == 1
    noises = parts.noises(Choice(best_of=0, swap=False, tickets=False, looked=False), "auto")
    assert [kind.name for kind in noises.kinds(cases_of(1))] == [PLAIN] and not noises.notes


@pytest.mark.parametrize("layer", ["auto", "block 1"])
def test_a_bank_of_another_model_is_refused(model: Any, clip: Any, layer: str) -> None:
    """It was left out, while nothing could be built of any; then a layer was named that nobody had set."""
    sd3, unet = Parts("SD3"), collect(model, clip, CollectRequest(NAMES, 2, 0, 128, 128, "input 3"))
    channels = (
        f"the bank's latents have 4 channels at 1/8 of the image's size, this model's {sd3.latent[0]} at"
    )
    own = sd3.bank()
    like = replace(own, recipe=replace(own.recipe, layer="input 3"))
    for bank, told in ((unet, channels), (like, 'the bank\'s layer is "input 3", but .* block 0, block 1')):
        with pytest.raises(ProbeError, match=f"^Layout Trial: {told}.* Connect the model that the bank was"):
            sd3.noises(Choice(best_of=2, control=True), layer, bank)
        layout = Layout(bank, cases_of(1)[0].regions, *sd3.latent[:-3:-1], Rank())
        with pytest.raises(ProbeError, match=f"^Ticket Latent from Regions: {told}"):
            build_tickets(TicketRequest(layout, 5, 1, 2, 0), sd3.model, sd3.clip)


@pytest.mark.parametrize("parts", UNREADABLE, indirect=True)
def test_where_no_attention_can_be_read_plain_noise_is_tried(parts: Parts) -> None:
    """The rule: what needs no attention works: drawing and judging."""
    outcome = run_trial(parts.model, parts.clip, parts.request(Choice(), 1), ModelJudge)
    assert outcome.kinds == [PLAIN] and outcome.drawn[0].latent.shape == parts.latent
    assert outcome.records[0].settings["layer"] == "none" and outcome.records[0].nfe == 4
    report = give(outcome).report
    assert "Only plain noise was tried" in report
    assert "Best of 32 seeds, block swap and tickets were left out. This model is " in report
    assert "no patch can read it." in report and "a transformer" not in report
    with pytest.raises(ProbeError, match=r"\(best of 8 seeds and block swap\) cannot .* Choose usual ones"):
        parts.noises(Choice(best_of=8, tickets=False, looked=False))
    place = PlaceRequest(cases_of(1)[0].regions, *parts.size, 5, 1, 2, 0, "auto")
    with pytest.raises(ProbeError, match=r"no patch can read it\. .*[Uu]se a model of another kind\.$"):
        arrange_noise(parts.model, parts.clip, place)


class Frames:
    """A VAE of videos: more frames than the latent has, of which the first is the image."""

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        first = samples[:, :3].movedim(1, -1).repeat_interleave(8, 2).repeat_interleave(8, 3)
        return torch.cat([first, torch.zeros_like(first)], 1)


@pytest.mark.parametrize("parts", ["Wan"], indirect=True)
def test_images_of_a_video_model_are_its_first_frames(parts: Parts) -> None:
    """Frames were counted as images, and the pictures did not belong to their records."""
    outcome = run_trial(parts.model, parts.clip, parts.request(Choice(0, False, False, False)), ModelJudge)
    given = give(outcome, Frames())
    assert given.latents["samples"].shape == (2, *parts.latent)
    assert given.images.shape == (2, parts.size[1], parts.size[0], 3) and given.picture.shape[0] == 1
    for image, latent in zip(given.images, given.latents["samples"], strict=True):
        assert torch.equal(image[::8, ::8], latent[:3, 0].movedim(0, -1))
    assert decoded(Frames(), given.latents["samples"][:1]).shape == (1, *given.images.shape[1:])


def test_what_makes_no_images_is_refused(make_model: Callable[..., Any], clip: Any) -> None:
    class Sound(comfy.latent_formats.StableAudio1):
        latent_channels = 4

    with pytest.raises(ProbeError, match="test: this model is BaseModel, which makes no images"):
        ModelJudge(make_model(0, latent_format=Sound), clip, "test", 64, 64)


def test_a_unet_has_all_kinds_as_before(model: Any, clip: Any) -> None:
    """The rule: what transformers cannot do is nobody else's note."""
    bank = collect(model, clip, CollectRequest(NAMES, 2, 0, 128, 128, "input 3"))
    noises = Noises(model, clip, "test", NAMES, 104, 152, "input 3", bank, Choice(control=True))
    assert len(noises.kinds(cases_of(1))) == 6 and not noises.notes
    assert noises.latent == noises.shape == (4, 19, 13)

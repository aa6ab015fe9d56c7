"""Every case cut after every number of steps, with what its fully guided run showed; kept, and resumed.

One guided run shows, step by step, what any rule decides by. From each of its steps a run without guidance
goes on, so that the picture that any rule would make is there: what a rule gives is read off, not drawn anew.
For samplers that remember nothing of the steps before, such as euler.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import comfy.sample
import model as model_module
import torch
from cases import BATCH, SHAPE, Case, conditioning, prompt_of
from kept import PROGRESS
from scenes import NAMES, category
from verdict import Found, classes_of, find
from winning_tickets.guidance.trace import agreement
from winning_tickets.probe.attention.tokens import PromptTokens, find_phrases
from winning_tickets.probe.model.fingerprint import fingerprint
from winning_tickets.probe.model.unet import UNet
from winning_tickets.probe.sampling.watch import Watch, last_trace
from winning_tickets.tickets.noise import plain_noise

FILE = PROGRESS.with_name("ladder.jsonl")
FIRST_SEED, OTHER_SEED = 40_000, 50_000


@dataclass(frozen=True)
class How:
    """The runs; model: of which fingerprint."""

    model: str
    steps: int
    cfg: float
    bfloat16: bool
    sampler: str = "euler"


@dataclass
class Climb:
    """One case. Of the fully guided run, a value for each step: cosine of both denoised predictions and of
    both predictions of the noise, norm of the guidance term, agreement of the phrases' maps with their last;
    sigmas: one more. Of the runs that were guided in the first 1, 2, ... steps, all of them the last:
    present (both objects), distance (root mean square difference to the full run's latents), overlap (mean
    IoU of the objects' masks with the full run's, of objects in both; None without any). apart: distance to
    the image of another seed.
    """

    case: int
    sigmas: list[float]
    cosine: list[float]
    noise_cosine: list[float]
    guidance: list[float]
    agreement: list[float]
    apart: float
    present: list[bool] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    overlap: list[float | None] = field(default_factory=list)


def kept(how: How) -> dict[int, Climb]:
    """What was measured so, by case."""
    if not FILE.exists():
        return {}
    lines = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return {x["climb"]["case"]: Climb(**x["climb"]) for x in lines if x["how"] == asdict(how)}


def climbed(
    parts: Any, judge: Any, cases: Sequence[Case], steps: int, cfg: float, bfloat16: bool
) -> list[Climb]:
    """All of the cases, in their order."""
    how = How(fingerprint(parts.model, parts.clip).split("-")[0], steps, cfg, bfloat16)
    known = kept(how)
    missing = [i for i in range(len(cases)) if i not in known]
    for climbs in _climbs(parts, judge, cases, missing, how):
        FILE.parent.mkdir(parents=True, exist_ok=True)
        with FILE.open("a", encoding="utf-8") as file:
            for one in climbs:
                file.write(json.dumps({"how": asdict(how), "climb": asdict(one)}) + "\n")
                known[one.case] = one
        print(f"{len(known)} of {len(cases)} cases", flush=True)
    return [known[i] for i in range(len(cases))]


def _climbs(
    parts: Any, judge: Any, cases: Sequence[Case], missing: Sequence[int], how: How
) -> Iterator[list[Climb]]:
    # Phrases must stand at the same tokens to be watched in one batch.
    phrases = {
        i: find_phrases(parts.clip, prompt_of(cases[i]), [category(n) for n in cases[i].names])
        for i in missing
    }
    groups: dict[Any, list[int]] = {}
    for i, one in phrases.items():
        groups.setdefault(one.positions, []).append(i)
    for same in groups.values():
        for at in range(0, len(same), BATCH):
            part = same[at : at + BATCH]
            yield _climb(parts, judge, [cases[i] for i in part], part, phrases[part[0]], how)


def _climb(
    parts: Any, judge: Any, cases: Sequence[Case], numbers: list[int], first: PromptTokens, how: How
) -> list[Climb]:
    positive = conditioning(parts.clip, [prompt_of(c) for c in cases])
    negative = conditioning(parts.clip, [""] * len(cases))
    family = UNet(parts.model)
    together = PromptTokens(first.text, first.names, positive, first.length, first.positions)
    model = Watch(together, family, family.layers).attach(parts.model)
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def look(args: dict[str, Any]) -> Any:
        x, (conditional, unconditional) = args["input"].float(), (o.float() for o in args["conds_out"])
        noise = [(x - one).flatten(1) for one in (conditional, unconditional)]
        cosine = torch.nn.functional.cosine_similarity
        seen.append((x, cosine(conditional.flatten(1), unconditional.flatten(1)), cosine(*noise)))
        return args["conds_out"]

    model.set_model_sampler_pre_cfg_function(look)

    def run(
        which: Any, noise: torch.Tensor, latent: torch.Tensor, cfg: float, start: int = 0
    ) -> torch.Tensor:
        settings = how.steps, cfg, how.sampler, "normal", positive, negative, latent
        return comfy.sample.sample(which, noise, *settings, start_step=start, disable_pbar=True, seed=0)

    def noises(seed: int) -> torch.Tensor:
        return torch.cat([plain_noise(seed + i, SHAPE) for i in numbers])

    empty = torch.zeros(len(cases), *SHAPE)
    whole = run(model, noises(FIRST_SEED), empty, how.cfg)
    apart = _apart(whole, run(parts.model, noises(OTHER_SEED), empty, how.cfg))
    trace = last_trace(model)
    agree, guidance = agreement(trace.maps()).mean(2), trace.guidance()
    climbs = [
        Climb(
            number,
            [float(s) for s in trace.sigmas],
            [float(s[1][i]) for s in seen],
            [float(s[2][i]) for s in seen],
            guidance[:, i].tolist(),
            agree[:, i].tolist(),
            float(apart[i]),
        )
        for i, number in enumerate(numbers)
    ]
    full = _objects(judge, whole, cases)
    for guided in range(1, how.steps + 1):
        done = whole
        if guided < how.steps:
            at = parts.model.model.process_latent_out(seen[guided][0])
            # At cfg 1 core runs the prompt alone.
            done = run(parts.model, torch.zeros_like(empty), at, 1.0, guided)
        distance = _apart(done, whole)
        for i, (climb, found) in enumerate(zip(climbs, _objects(judge, done, cases), strict=True)):
            climb.present.append(all(f.present for f in found))
            climb.distance.append(float(distance[i]))
            climb.overlap.append(_overlap(found, full[i]))
    return climbs


def _objects(judge: Any, latents: torch.Tensor, cases: Sequence[Case]) -> list[list[Found]]:
    maps = classes_of(judge, latents * model_module.LATENT_SCALE)
    return [[find(m, NAMES.index(n) + 1) for n in c.names] for m, c in zip(maps, cases, strict=True)]


def _apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Root mean square per image at model scale [cases]."""
    return (a - b).flatten(1).square().mean(1).sqrt() * model_module.LATENT_SCALE


def _overlap(found: Sequence[Found], full: Sequence[Found]) -> float | None:
    both = [(f.mask, g.mask) for f, g in zip(found, full, strict=True) if f.present and g.present]
    return sum(float((f & g).sum() / (f | g).sum()) for f, g in both) / len(both) if both else None

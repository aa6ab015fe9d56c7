"""Layout Trial: the same cases drawn with several kinds of noise, judged, kept, and resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import comfy.model_management
import numpy as np
import torch
from comfy_execution.graph_utils import ExecutionBlocker

from ...show.trial import Sample, picture, report
from ...tickets import VERSION
from ...tickets.bank.bank import TicketBank
from ...tickets.prompts import Prompt
from ...trial.cases import Case, TrialError
from ...trial.record import (
    BY_MODEL,
    LAYER,
    LONGEST_NAME,
    LONGEST_PROMPT,
    SEED,
    Record,
    RecordError,
    parse,
    placed,
    run_of,
)
from ...trial.verdict import Finding
from ..model.fingerprint import fingerprint, sampling_patches
from ..preview import LiveTrial
from ..sampling.draw import Drawing, Sampling, decoded
from .keep import Drawn, Keeper
from .kinds import NONE, Choice, Kind, Noises

NODE = "Layout Trial"
# Cases whose images the picture may show.
SHOWN = 8
# Images in a batch that make good use of a GPU; what a cancel costs grows with them.
ENOUGH = 4


class Judge(Protocol):
    """Says where the categories of a prompt are in an image."""

    def find(self, prompts: Sequence[Prompt], latents: torch.Tensor, seed: int) -> list[list[Finding]]:
        """Of each latent [images, C, h, w] or [images, C, 1, h, w] and its prompt, for each phrase."""

    def nfe(self, categories: int) -> float:
        """What it takes for an image, in forwards of one image without guidance."""


MakeJudge = Callable[[Any, Any, str, int, int], Judge]
"""Of model, clip, the node's name, and width and height in pixels."""


@dataclass(frozen=True)
class TrialRequest:
    """What is tried. width, height: of the images in pixels. layer: see `Noises`. name: see `Keeper`.

    seed, asked: the first case's seed and what the cases are made of, as settings of the records.
    """

    cases: tuple[Case, ...]
    seed: int
    asked: dict[str, Any]
    width: int
    height: int
    sampling: Sampling
    choice: Choice = Choice()
    layer: str = "auto"
    name: str = ""

    @property
    def categories(self) -> tuple[str, ...]:
        """All that are asked for, however few cases there are: by them `auto` chooses a layer."""
        named = self.asked.get("categories") or (name for case in self.cases for name in case.categories)
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True, eq=False)
class Outcome:
    """drawn: the trial's images, case by case; kinds: in the order of the table; notes: sentences."""

    drawn: list[Drawn]
    records: list[Record]
    kinds: list[str]
    notes: list[str]


def run_trial(
    model: Any,
    clip: Any,
    request: TrialRequest,
    make_judge: MakeJudge,
    bank: TicketBank | None = None,
) -> Outcome:
    """Draws and judges all that is not kept yet; what is done stays kept whatever ends it.

    Errors begin with the node's name or name the setting.
    """
    trial = Trial(model, clip, request, make_judge, bank)
    trial.run()
    return trial.outcome()


class Trial:
    """A trial's run on one model."""

    def __init__(
        self, model: Any, clip: Any, request: TrialRequest, make_judge: MakeJudge, bank: TicketBank | None
    ) -> None:
        size = request.width, request.height
        self.request = request
        self.model = fingerprint(model, clip)
        settings = partial(self._settings, sampling_patches(model), bank)

        def run(layer: str) -> str:
            return run_of(self.model, *size, settings(layer))

        # After the layer that is asked for: with auto, the file is found before one is chosen.
        self.keeper = Keeper(request.name.strip() or f"trial_{run(request.layer.strip().lower())}")
        kept = next((layer for layer in reversed(self.keeper.layers(run)) if layer != NONE), "")
        self.noises = Noises(
            *(model, clip, NODE, request.categories, *size, request.layer, bank, request.choice, kept),
            sampling=request.sampling,
        )
        self.kinds = self.noises.kinds(request.cases)
        self.drawing = Drawing(model, clip, request.sampling, self.noises.latent)
        self.judge = make_judge(model, clip, NODE, *size)
        self.settings = settings(self.noises.layer)
        self._require_readable()
        self.keeper.start(run(self.noises.layer))
        self.resumed = sum(1 for _ in self._wanted(True))
        self.live = LiveTrial(model, self._left())

    def _settings(self, patches: str, bank: TicketBank | None, layer: str) -> dict[str, Any]:
        """All that decides what case n of a kind looks like."""
        how, choice = self.request.sampling, self.request.choice
        return {
            SEED: self.request.seed,
            "steps": how.steps,
            "cfg": how.cfg,
            "sampler": how.sampler_name,
            "scheduler": how.scheduler,
            "negative": how.negative,
            LAYER: layer,
            "candidates": choice.candidates,
            "rounds": choice.rounds,
            "bank": digest(bank) if bank else None,
            "noises": len(bank.seeds) if bank else None,
            "version": VERSION,
            **({"patches": patches} if patches else {}),
            **({"after": choice.after} if choice.after else {}),
            **self.request.asked,
        }

    def _require_readable(self) -> None:
        """TrialError, before anything is drawn, for cases whose lines nobody could read again."""
        seen = set()
        for number, case in enumerate(self.request.cases):
            if (case.prompt, case.regions) in seen:
                continue
            seen.add((case.prompt, case.regions))
            missing = [Finding.missing(1, 1) for _ in case.categories]
            try:
                parse(self._record(number, self.kinds[0], case, missing, 0.0, 0.0).line())
            except RecordError as error:
                raise TrialError(
                    f"An image of this trial could not be kept, since {error}: write categories of at most"
                    f" {LONGEST_NAME} characters and prompts of at most {LONGEST_PROMPT}, without control"
                    " characters."
                ) from None

    def _wanted(self, done: bool) -> Iterator[tuple[int, Kind]]:
        """Cases with kinds, case by case, so that any beginning is balanced; kept ones, or those to draw."""
        for number in range(len(self.request.cases)):
            for kind in self.kinds:
                if ((kind.name, number) in self.keeper.records) == done:
                    yield number, kind

    def _cost(self, number: int, kind: Kind) -> float:
        case = self.request.cases[number]
        judged = self.judge.nfe(len(case.categories))
        return self.noises.cost(kind) + self.request.sampling.about + judged

    def _left(self) -> float:
        return sum(self._cost(*wanted) for wanted in self._wanted(False))

    def run(self) -> None:
        missing = list(self._wanted(False))
        if not missing:
            return
        looks = sum(self.noises.cost(kind) for _, kind in missing)
        sampling = len(missing) * self.request.sampling.about
        kept = f", {self.resumed} are kept from before" if self.resumed else ""
        self.live.say(
            f"{len(missing)} images to draw{kept}: about {self.live.total:,.0f} forwards of one image"
            f" (sampling {sampling:,.0f}, looking at noises {looks:,.0f}, judging"
            f" {self.live.total - sampling - looks:,.0f})."
        )
        while missing:
            batch = self._batch(missing)
            self.keeper.add(self._draw(batch))
            missing = missing[len(batch) :]
            self.live.images(len(missing))

    def _batch(self, missing: Sequence[tuple[int, Kind]]) -> list[tuple[int, Kind]]:
        """The next ones of one prompt, as many as are drawn at once, of as few cases as give ENOUGH."""
        batch: list[tuple[int, Kind]] = []
        for number, kind in missing[: self.drawing.at_once]:
            last = batch[-1][0] if batch else number
            if number != last and len(batch) >= ENOUGH:
                break
            if self.request.cases[number].prompt != self.request.cases[last].prompt:
                break
            batch.append((number, kind))
        return batch

    def _draw(self, batch: Sequence[tuple[int, Kind]]) -> list[Drawn]:
        cases = [self.request.cases[number] for number, _ in batch]
        noises, looks = [], []
        for number, kind in batch:
            comfy.model_management.throw_exception_if_processing_interrupted()
            noise, forwards = self.noises.make(kind, self.request.cases[number])
            noises.append(noise)
            looks.append(forwards)
            self.live.spend(self.noises.cost(kind))
        each = self.request.sampling.about
        before = self.live.spent

        def stepped(step: int, steps: int, seen: torch.Tensor) -> None:
            self.live.step(before + len(batch) * each * step / steps, seen)

        seeds = [case.seed for case in cases]
        latents, nfe = self.drawing.draw(torch.stack(noises), cases[0].prompt.text, seeds, stepped)
        self.live.spent = before + len(batch) * each
        latents = latents.detach().to("cpu", torch.float32)
        prompts = [case.prompt for case in cases]
        findings = self.judge.find(prompts, latents, self.request.seed)
        self.live.spend(sum(self.judge.nfe(len(case.categories)) for case in cases))
        drawn = []
        for (number, kind), look, case, latent, found in zip(
            batch, looks, cases, latents, findings, strict=True
        ):
            record = self._record(number, kind, case, found, nfe, look)
            drawn.append(Drawn(record, latent, np.stack([f.mask for f in found])))
        return drawn

    def _record(
        self, number: int, kind: Kind, case: Case, found: Sequence[Finding], nfe: float, look: float
    ) -> Record:
        return Record(
            self.model,
            kind.name,
            number,
            0,
            case.seed,
            case.prompt.text,
            self.request.width,
            self.request.height,
            self.settings,
            BY_MODEL,
            case.regions,
            placed(case.regions, found),
            round(nfe, 3),
            round(look, 3),
        )

    def outcome(self) -> Outcome:
        order = [(kind.name, number) for number in range(len(self.request.cases)) for kind in self.kinds]
        records = [self.keeper.records[key] for key in order if key in self.keeper.records]
        drawn = [image for record in records if (image := self.keeper.drawn(record, self.noises.latent))]
        notes = [*self.noises.notes, *self.keeper.notes]
        if self.resumed:
            notes.append(f"{self.resumed} of {len(records)} images were drawn before.")
        notes.append(f"Kept in {self.keeper.shown}.")
        return Outcome(drawn, records, [kind.name for kind in self.kinds], notes)


@dataclass(frozen=True, eq=False)
class Given:
    """What the node gives: text, picture [1, h, w, 3], the images, their latents, and their records.

    about: the trial's run and layer, for scripts/trial.py.
    """

    report: str
    picture: torch.Tensor
    images: Any
    latents: Any
    records: tuple[Record, ...]
    about: dict[str, str]

    @property
    def outputs(self) -> tuple[Any, ...]:
        return self.report, self.picture, self.images, self.latents, self.records


def give(outcome: Outcome, vae: Any = None, note: str = "", every: bool = False) -> Given:
    """What was found, with the images if there is a VAE to see them with; `note` comes before the others.

    Images, latents and records leave the node of the cases that are shown, or of `every` case, as far as
    memory allows.
    """
    notes = [*filter(None, [note]), *outcome.notes]
    cases = sorted({record.case for record in outcome.records})
    given, limit = cases if every else cases[:SHOWN], ""
    if vae is not None and (fitting := _cases_in_memory(outcome)) < len(given):
        given, limit = given[:fitting], ": all would take more than half of the memory that is free"
    drawn = [image for image in outcome.drawn if image.record.case in set(given)]
    if len(given) < len(cases):
        advice = limit or '; "all" in pass_on (advanced) gives all'
        notes.append(
            f"The outputs images, latents and trial are of the first {len(given)} of {len(cases)}"
            f" cases{advice}."
        )
    latents: Any = ExecutionBlocker(
        f"{NODE}: the latents of this trial are gone: give another name in save_as (advanced) to draw anew."
    )
    images: Any = latents
    if vae is None:
        images = ExecutionBlocker(f"{NODE}: there are no images without a vae: connect the model's.")
    samples = []
    if drawn:
        latents = {"samples": torch.stack([image.latent for image in drawn])}
    if drawn and vae is not None:
        images = decoded(vae, latents["samples"])
        shown = [n for n, image in enumerate(drawn) if image.record.case in cases[:SHOWN]]
        samples = [Sample(drawn[n].record, images[n], drawn[n].masks) for n in shown]
    if len(outcome.drawn) < len(outcome.records):
        notes.append(
            f"The latents of {len(outcome.records) - len(outcome.drawn)} images are gone: these are counted,"
            " but not among the images."
        )
    return Given(
        report(outcome.records, outcome.kinds, notes),
        picture(outcome.records, samples, outcome.kinds)[None],
        images,
        latents,
        tuple(image.record for image in drawn),
        {"run": outcome.records[0].run, "layer": str(outcome.records[0].settings[LAYER])},
    )


def _cases_in_memory(outcome: Outcome) -> int:
    """Cases whose images, as float32, take at most half of the memory that is free; at least one."""
    record = outcome.records[0]
    case = 3 * 4 * record.width * record.height * max(1, len(outcome.kinds))
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    return max(1, int(free / 2 // case))


def digest(bank: TicketBank) -> str:
    """A bank by what it holds."""
    parts = repr((bank.categories, bank.prompts, bank.measured, bank.seeds, bank.recipe)).encode()
    scores = bank.attention.contiguous().numpy().tobytes() + bank.cell.contiguous().numpy().tobytes()
    return hashlib.sha256(parts + scores).hexdigest()[:12]

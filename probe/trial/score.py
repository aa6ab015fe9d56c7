"""Layout Score: a trial's images judged by a detector, kept beside what the model itself said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...show.trial import Sample, picture, report
from ...trial.cases import TrialError
from ...trial.detector import parse_names, score
from ...trial.figures import agreement
from ...trial.kept import load, write
from ...trial.record import BY_BOXES, Record
from ..files import output_folder, trial_path

# Cases whose images the picture may show.
SHOWN = 8
FEW = (
    f"Only {SHOWN} cases are judged. If the trial has more, Layout Trial gives all of them with all in its"
    " pass_on (advanced)."
)


@dataclass(frozen=True, eq=False)
class Scores:
    """report: text. picture [1, height, width, 3]. records: judged by boxes, in the order of the images."""

    report: str
    picture: torch.Tensor
    records: tuple[Record, ...]


def score_trial(
    records: Sequence[Record], images: torch.Tensor, detections: Sequence[Any], names: str, save_as: str
) -> Scores:
    """images [images, height, width, 3], those of the records in their order. detections, names: see
    `trial.detector`. save_as: the file; empty: named after the trial. Verdicts of other trials in it stay.
    TrialError where it cannot be written or holds anything else.
    """
    if len(images) != len(records):
        raise TrialError(
            f"There are {len(images)} images, but the trial has {len(records)}: connect all images of the"
            " trial, in their order."
        )
    height, width = images.shape[1:3]
    scored = score(records, detections, width, height, parse_names(names))
    path = trial_path(save_as.strip() or f"trial_{records[0].run}_boxes", "save_as")
    try:
        before = load(path)
        if before.notes or any(record.judge != BY_BOXES for record in before.records):
            raise TrialError(
                f"save_as is {save_as.strip() or path.stem}, a file that holds more than a detector's"
                " verdicts, such as Layout Trial's own: give another name."
            )
        ours = {record.key for record in scored.records}
        write(path, [*(r for r in before.records if r.key not in ours), *scored.records])
    except OSError as error:
        raise TrialError(
            f"{path.name} cannot be written in the output folder ({error.strerror}): give another name in"
            " save_as, or make room there."
        ) from error
    shown = sorted({record.case for record in records})[:SHOWN]
    if len(shown) == SHOWN == len({record.case for record in records}):
        scored.notes.append(FEW)
    kept = f"Kept in output/{path.relative_to(output_folder()).as_posix()}."
    notes = [*filter(None, [agreement(scored.records, records)]), *scored.notes, kept]
    samples = [
        Sample(record, images[n], scored.masks[n])
        for n, record in enumerate(scored.records)
        if record.case in shown
    ]
    return Scores(
        report(scored.records, notes=notes), picture(scored.records, samples)[None], tuple(scored.records)
    )

"""A trial in ComfyUI's output folder: judged image by judged image, so that a cancelled one is resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from ...tickets.whole import replacing, sweep
from ...trial.cases import TrialError
from ...trial.kept import append, load, unique
from ...trial.record import BY_MODEL, LAYER, Record
from ..files import TRIALS, output_folder, trial_path

LATENTS, SUFFIX = "latents", ".latent"
# As the latents that ComfyUI saves, which Load Latent opens.
LATENT, VERSION, MASKS = "latent_tensor", "latent_format_version_0", "found"


@dataclass(frozen=True, eq=False)
class Drawn:
    """An image: what is recorded of it, its latent [C, h, w] or [C, 1, h, w], and the masks bool [categories,
    rows, columns] of what was found in it."""

    record: Record
    latent: torch.Tensor
    masks: np.ndarray


class Keeper:
    """Keeps what a run draws: lines in layout_trials/NAME.jsonl, latents in layout_trials/latents/RUN."""

    def __init__(self, name: str) -> None:
        """TrialError where the file cannot be read."""
        self.path = trial_path(name, "save_as")
        try:
            loaded = load(self.path)
        except OSError as error:
            raise self._unusable(error) from error
        self.notes = loaded.notes
        self._all = [r for r in unique(loaded.records)[0] if r.judge == BY_MODEL]
        self.records: dict[tuple[str, int], Record] = {}

    def layers(self, run: Callable[[str], str]) -> list[str]:
        """By which layers the images of a trial were looked at, the latest last; run: of a layer's trial."""
        found = [(str(record.settings.get(LAYER)), record.run) for record in self._all]
        runs = {layer: run(layer) for layer, _ in found}
        return [layer for layer, of_record in found if runs[layer] == of_record]

    def start(self, run: str) -> None:
        """Keep this run; TrialError where nothing can be written."""
        self.run, self.latents = run, output_folder() / TRIALS / LATENTS / run
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.latents.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab"):
                pass
            for folder in (self.path.parent, self.latents):
                sweep(folder)
        except OSError as error:
            raise self._unusable(error) from error
        self.records = {(r.kind, r.case): r for r in self._all if r.run == run}

    def _unusable(self, error: OSError) -> TrialError:
        return TrialError(
            f"{self.path.name} cannot be written in {TRIALS} of the output folder ({error.strerror}): give"
            " another name in save_as, or make room there."
        )

    @property
    def shown(self) -> str:
        """Where the lines are, for people."""
        return f"output/{self.path.relative_to(output_folder()).as_posix()}"

    def add(self, images: Sequence[Drawn]) -> None:
        """Latents first: what has a line is whole. TrialError where the disk is full."""
        try:
            for image in images:
                parts = {
                    LATENT: image.latent[None].contiguous(),
                    VERSION: torch.tensor([]),
                    MASKS: torch.from_numpy(image.masks.astype(np.uint8)),
                }
                with replacing(self._latent(image.record)) as temporary:
                    safetensors.torch.save_file(parts, temporary)
            append(self.path, [image.record for image in images])
        except OSError as error:
            raise TrialError(
                f"{self.path.name} cannot be written any more ({error.strerror}): make room in the output"
                " folder and queue it again; it resumes from here."
            ) from error
        self.records.update({(i.record.kind, i.record.case): i.record for i in images})

    def drawn(self, record: Record, shape: tuple[int, ...]) -> Drawn | None:
        """An image that was kept, its latent of this shape; None where that is gone or another one."""
        path = self._latent(record)
        try:
            parts = safetensors.torch.load_file(path)
            # Copies: the file stays mapped, and on Windows locked, as long as a tensor of it lives.
            latent, masks = parts[LATENT][0].clone(), parts[MASKS].numpy().astype(bool)
        except (OSError, KeyError, IndexError, TypeError, safetensors.SafetensorError) as error:
            logging.warning("Layout Trial: %s cannot be read (%s).", path.name, error)
            return None
        if latent.shape != shape or latent.dtype != torch.float32 or masks.ndim != 3:
            logging.warning("Layout Trial: %s is no latent of this trial.", path.name)
            return None
        return Drawn(record, latent, masks)

    def _latent(self, record: Record) -> Path:
        kind = "".join(c if c.isalnum() else "_" for c in record.kind)
        return self.latents / f"{record.case:04d}_{kind}{SUFFIX}"

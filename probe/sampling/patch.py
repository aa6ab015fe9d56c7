"""What watches or changes a sampler's runs: one OUTER_SAMPLE wrapper on a clone of the MODEL."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import comfy.model_management
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from ...guidance.record import Records
from ...guidance.steps import Steps

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class Run(Protocol[R_co]):
    """One run of a sampler, from its start to its end."""

    steps: Steps

    def finish(self) -> R_co:
        """The run is whole: what it did."""


class SamplerPatch(ABC, Generic[T]):
    """`attach` it to a MODEL; `records` are of the whole runs that it saw, and go with the MODEL.

    What a run needs is put on the run's own copy of the model options, which ComfyUI drops when sampling
    ends, however it ends. A run that ended in an error or was cancelled leaves no record.
    """

    key: str

    def __init__(self, weigh: Callable[[T], int] = lambda record: 0) -> None:
        self.records: Records[T] = Records(weigh)

    def attach(self, model: Any) -> Any:
        """A clone of MODEL with this patch, in place of any other one of its kind."""
        clone = model.clone()
        clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, self.key)
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, self.key, self._sample)
        return clone

    @property
    def run(self) -> T | None:
        """Of the last whole run."""
        return self.records.last

    def of(self, latent: dict[str, Any]) -> list[tuple[T, int] | None]:
        """For each image of a LATENT the run that returned it and its number there; None: none did."""
        return self.records.find(fingerprints(latent["samples"])[0])

    @abstractmethod
    def begin(self, guider: Any, sigmas: list[float], noise: torch.Tensor) -> Run[T] | None:
        """Puts what a run needs on the guider's own copies; None leaves the run alone."""

    def _sample(
        self,
        executor: Any,
        noise: Any,
        latent_image: Any,
        sampler: Any,
        sigmas: torch.Tensor,
        denoise_mask: Any = None,
        callback: Any = None,
        *rest: Any,
        **options: Any,
    ) -> torch.Tensor:
        run = self.begin(executor.class_obj, [float(sigma) for sigma in sigmas], noise)
        if run is None:
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, *rest, **options)
        last: list[Any] = [None]

        def reported(step: int, *about: Any) -> Any:
            try:
                run.steps.report(step)
                last[0] = about[0] if about else None
            except Exception as error:
                logging.debug("Winning Tickets: step %r of a sampler is not counted.", step, exc_info=error)
            return callback(step, *about) if callback is not None else None

        output = executor(noise, latent_image, sampler, sigmas, denoise_mask, reported, *rest, **options)
        try:
            self.records.add(run.finish(), *_forms(output, last[0], executor.class_obj))
        except Exception:
            # The picture is done: a report is not worth its loss.
            logging.exception("Winning Tickets: the run cannot be reported.")
        return output


def _forms(output: Any, denoised: Any, guider: Any) -> list[list[str]]:
    """Fingerprints of what a sampler node may return of a run: its latent, and the last prediction."""
    found = fingerprints(output)
    if torch.is_tensor(denoised) and denoised.shape == output.shape:
        found += fingerprints(guider.model_patcher.model.process_latent_out(denoised.cpu()))
    return found


def fingerprints(samples: Any) -> list[list[str]]:
    """Of each image of a latent, by its values, on any device; the second as the sampler nodes store it."""
    if getattr(samples, "is_nested", False):
        samples = comfy.utils.pack_latents(samples.unbind())[0]
    forms = [samples]
    stored = getattr(comfy.model_management, "intermediate_dtype", lambda: torch.float32)()
    if stored != samples.dtype:
        forms.append(samples.to(stored))
    return [[_digest(image) for image in form.detach().to("cpu", torch.float32)] for form in forms]


def _digest(image: torch.Tensor) -> str:
    values = image.contiguous().numpy().tobytes()
    return hashlib.blake2b(repr(tuple(image.shape)).encode() + values, digest_size=16).hexdigest()


def patch_on(model: Any, key: str) -> Any:
    """The object whose method MODEL's runs go through; None without one."""
    found = model.get_wrappers(WrappersMP.OUTER_SAMPLE, key)
    return found[0].__self__ if found else None

"""Noises after the first steps of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.sample
import torch
from comfy.patcher_extension import WrappersMP

from ...tickets.noise import SEED_RANGE
from ..model.clone import plain_clone
from ..model.family import ProbeError
from .batches import Batches
from .forwards import Forwards
from .samplers import BATCHED, evaluations, forwards_about, is_guided

KEY = "winning_tickets_first_steps"
# A sampler's noise level of a step and the schedule's may differ in the last bits.
SLACK = 1e-5


@dataclass(frozen=True, eq=False)
class Run:
    """How the images will be sampled: SAMPLER, SIGMAS [steps + 1], conditioning of ComfyUI's, and cfg."""

    sampler: Any
    sigmas: torch.Tensor
    positive: Any
    negative: Any
    cfg: float

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def name(self) -> str:
        """The sampler's, as KSampler lists it; empty if it has none."""
        function = getattr(self.sampler, "sampler_function", None)
        return getattr(function, "__name__", "").removeprefix("sample_").replace("unipc", "uni_pc")

    @property
    def batched(self) -> bool:
        """Whether an image is the same in every batch."""
        # ddim is euler that draws noise for what a mask keeps.
        draws = (getattr(self.sampler, "inpaint_options", None) or {}).get("random", False)
        return self.name in BATCHED and not draws


class FirstSteps:
    """Takes the first steps of a run as the whole run would, and evaluates nothing of the rest.

    Of samplers that evaluate a step's end before they take it (heun), that first estimate is what is taken.
    after: so many steps. shape: of a latent, as the model takes it. node: whose run it is, for errors.
    batches: of another run of this kind on this MODEL, for what was learnt there of how many images go at
    once.
    """

    def __init__(
        self,
        model: Any,
        run: Run,
        after: int,
        shape: tuple[int, ...],
        node: str,
        batches: Batches | None = None,
    ) -> None:
        if run.steps < 2:
            raise ProbeError(
                f"{node}: looking after some steps needs a run of at least 2 steps, but this one has"
                f" {max(0, run.steps)}: raise steps, connect other sigmas, or look at the first step."
            )
        if not 1 <= after < run.steps:
            raise ProbeError(
                f"{node}: after is {after} of {run.steps} steps; it must be 1 to {run.steps - 1}."
            )
        start, level = float(run.sigmas[0]), float(run.sigmas[after])
        if not level < start:
            raise ProbeError(
                f"{node}: after step {after} of {run.steps} the noise level is {level:.3g}, no lower than at"
                f" the start ({start:.3g}), so that there is nothing to look at yet: look after more of the"
                " steps, or connect other sigmas."
            )
        self.run, self.after, self.shape, self.node = run, after, shape, node
        self.batches = batches or Batches(model, shape, not run.batched)
        self._model = plain_clone(model)
        self._model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, self._counted)
        self._ran, self._evaluated, self._reported = 0, 0, -1
        self._progress: Callable[[int], None] = lambda forwards: None
        # The latents and their sigma when the step begins, and at the first level below it.
        self._reached: tuple[torch.Tensor, float] | None = None
        self._beyond: tuple[torch.Tensor, float] | None = None

    @property
    def about(self) -> float:
        """Forwards of one image, as far as they can be known beforehand."""
        return forwards_about(self.run.name, self.run.cfg, self.after)

    @property
    def saved(self) -> int:
        """Forwards of one image that a guidance cutoff after half of the run would save, about."""
        run, each = self.run, evaluations(self.run.name)
        late = run.steps - run.steps // 2
        # The step to no noise at all takes one evaluation with any sampler.
        last = each - 1 if float(run.sigmas[-1]) == 0 else 0
        return late * each - last if is_guided(run.cfg) else 0

    def take(
        self, noise: torch.Tensor, seed: int, progress: Callable[[int], None] = lambda forwards: None
    ) -> tuple[torch.Tensor, list[float], float]:
        """Latents of noise [images, C, h, w], of the same shape; the sigma of each, and its forwards (mean),
        those of batches that had to be run again included.

        seed: of the run, for samplers that draw noise of their own. progress: forwards of one image done,
        after each evaluation. Raises what the sampler does, and ProbeError for one that never gets so far or
        changes the size.
        """
        self._ran, self._progress = 0, progress
        whole = noise.reshape(-1, *self.shape)
        parts = self.batches.run(len(noise), lambda _: seed, lambda some: self._take(whole[some], seed))
        levels = [sigma for latents, sigma in parts for _ in latents]
        found = torch.cat([latents for latents, _ in parts]).reshape(noise.shape)
        return found, levels, self._ran / len(noise)

    def _take(self, noise: torch.Tensor, seed: int) -> tuple[torch.Tensor, float]:
        run = self.run
        self._evaluated, self._reported, self._reached, self._beyond = 0, -1, None, None
        comfy.sample.sample_custom(
            self._model,
            noise,
            run.cfg,
            run.sampler,
            run.sigmas,
            run.positive,
            run.negative,
            torch.zeros_like(noise),
            callback=self._report,
            disable_pbar=True,
            seed=seed % SEED_RANGE,
        )
        found = self._reached or self._beyond
        self._reached = self._beyond = None
        if not found:
            raise ProbeError(
                f"{self.node}: this sampler, or a patch on the MODEL, never evaluates the model after step"
                f" {self.after}: look at the first step."
            )
        if found[0].shape != noise.shape:
            (height, width), (own_height, own_width) = (x.shape[-2:] for x in (found[0], noise))
            raise ProbeError(
                f"{self.node}: this sampler makes the latents {width}x{height} instead of"
                f" {own_width}x{own_height} in its first steps: connect another sampler, or look at the first"
                " step."
            )
        return found

    def _predict(
        self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, *more: Any, **named: Any
    ) -> torch.Tensor:
        """Evaluates until the level is reached; then keeps what the sampler has, and lets it run out."""
        sigma, level = float(timestep.flatten()[0]), float(self.run.sigmas[self.after])
        same = math.isclose(sigma, level, rel_tol=SLACK)
        # Some samplers report no steps.
        silent = self._reported < 0 and self._evaluated > 0
        # Some look ahead, at the very level of a later step.
        begins = same and (silent or self._reported >= self.after - 1)
        # Some evaluate at levels of their own, even when they begin.
        beyond = sigma < level and not same and self._evaluated > 0
        self._evaluated += 1
        if self._reached is None and (begins or (beyond and self._beyond is None)):
            model = executor.class_obj.inner_model
            scaled = model.model_sampling.inverse_noise_scaling(timestep.flatten()[0], x)
            found = model.process_latent_out(scaled.to(torch.float32)).to("cpu", torch.float32), sigma
            if begins or silent:
                self._reached = found
            else:
                self._beyond = found
        return executor(x, timestep, *more, **named) if self._reached is None else x

    def _report(self, step: int, *more: Any) -> None:
        self._reported = step
        if step >= self.after:
            # A sampler with noise levels of its own.
            self._reached = self._reached or self._beyond

    def _counted(self, executor: Any, *args: Any, **options: Any) -> Any:
        guider = executor.class_obj
        Forwards(self._count).install(guider, KEY)
        wrappers = guider.model_options["transformer_options"]["wrappers"]
        # Outermost: caches of other packs answer without asking those inside of them.
        wrappers[WrappersMP.PREDICT_NOISE] = {
            KEY: [self._predict],
            **wrappers.get(WrappersMP.PREDICT_NOISE, {}),
        }
        return executor(*args, **options)

    def _count(self, rows: int) -> None:
        self._ran += rows
        self._progress(rows)

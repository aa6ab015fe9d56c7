"""The cutoff as a patch of a MODEL: it works in every sampler node, and in our own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from ...guidance.cutoff import CONDITIONAL, LOWER, NEVER, UNCONDITIONAL, Cutoff, Similar
from ...guidance.record import GUIDED, UNGUIDED, Run, listing
from ..server import announce
from . import tail
from .patch import CUTOFF as KEY
from .patch import with_patch

COMBINING = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")


class CutoffPatch:
    """`attach` it to a MODEL; `run` is the last run that it saw.

    On the MODEL's clone is one OUTER_SAMPLE wrapper. What a run needs is put on the run's own copy of the
    model options, which ComfyUI drops when sampling ends, however it ends.
    """

    def __init__(self, cutoff: Cutoff, tell: bool = True) -> None:
        self.cutoff, self.tell = cutoff, tell
        self.run: Run | None = None

    def attach(self, model: Any) -> Any:
        """A clone of MODEL with this cutoff, in place of any other one of ours."""
        return with_patch(model, KEY, self._sample)

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
        guider = executor.class_obj
        running = _Running(self.cutoff, guider, sigmas.clone(), len(noise))
        self.run = running.run
        running.install()

        def told(step: int, *about: Any) -> Any:
            running.run.step()
            return callback(step, *about) if callback is not None else None

        try:
            return executor(noise, latent_image, sampler, sigmas, denoise_mask, told, *rest, **options)
        finally:
            running.run.end()
            running.conclude()
            if self.tell:
                announce(str(running.run))


class _Running:
    """One run of a sampler."""

    def __init__(self, cutoff: Cutoff, guider: Any, sigmas: torch.Tensor, batch: int) -> None:
        self.cutoff, self.guider = cutoff, guider
        self.cut = cutoff.trigger.cut(sigmas)
        self.adaptive = cutoff.trigger if isinstance(cutoff.trigger, Similar) else None
        self.agreed = torch.zeros(batch, dtype=torch.bool)
        self.compared = False
        self.run = Run(len(sigmas) - 1, batch, cutoff.tail, self._stock_rows(batch))
        self.possible = tail.followed(guider, CONDITIONAL) is not None
        # Guidance may end in this run.
        self.ends = self.possible and (self.cut != NEVER or self.adaptive is not None)

    def _stock_rows(self, batch: int) -> int:
        """Of an evaluation with guidance: all that the guider has, but for core's shortcut at cfg 1."""
        guider, options = self.guider, self.guider.model_options
        own = type(guider).predict_noise is not comfy.samplers.CFGGuider.predict_noise
        both = not math.isclose(guider.cfg, 1.0) or options.get("disable_cfg1_optimization", False)
        names = list(guider.conds) if own or both else ["positive"]
        return batch * sum(len(guider.conds[name]) for name in names if name in guider.conds)

    def install(self) -> None:
        """Put what this run needs on the guider's own copies; last, so that it counts real forwards."""
        add = functools.partial(comfy.patcher_extension.add_wrapper_with_key, key=KEY, is_model_options=True)
        options = self.guider.model_options
        add(WrappersMP.DIFFUSION_MODEL, wrapper=self._forward, transformer_options=options)
        add(WrappersMP.PREDICT_NOISE, wrapper=self._predict, transformer_options=options)
        if self.cutoff.tail == UNCONDITIONAL and self.ends:
            tail.provide(self.guider, self.cutoff.empty)

    def _forward(self, executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.run.forward(len(x))
        return executor(x, *args, **kwargs)

    def _predict(
        self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        options = options or {}
        if self.ends and (float(timestep.max()) <= self.cut or bool(self.agreed.all())):
            self.run.evaluation(UNGUIDED)
            if self.cutoff.tail == LOWER:
                return self._lower(executor, x, timestep, options, seed)
            self._tell_what_is_left_out()
            return tail.predict(self.guider, self.cutoff.tail, x, timestep, options)
        self.run.evaluation(GUIDED)
        if self.adaptive and self.ends:
            return self._until_they_agree(self.adaptive, executor, x, timestep, options, seed)
        return executor(x, timestep, options, seed)

    def _lower(
        self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, options: Any, seed: Any
    ) -> torch.Tensor:
        before, self.guider.cfg = self.guider.cfg, self.cutoff.cfg
        try:
            return executor(x, timestep, options, seed)
        finally:
            self.guider.cfg = before

    def _until_they_agree(
        self,
        trigger: Similar,
        executor: Any,
        x: torch.Tensor,
        timestep: torch.Tensor,
        options: dict[str, Any],
        seed: Any,
    ) -> torch.Tensor:
        """A guided evaluation in which the images that agreed before already follow the tail.

        So an image does not depend on the others in its batch; the forward is saved when all agree.
        """
        before = self.agreed.clone().to(x.device)
        single = None
        if bool(before.any()) and self.cutoff.tail == LOWER:
            single = self._lower(executor, x, timestep, options, seed)
        rows = before.view(-1, *[1] * (x.dim() - 1))

        def compare(args: dict[str, Any]) -> Any:
            self.compared = True
            conditional, unconditional = args["conds_out"][:2]
            if args["conds"][1] is not None:
                self.agreed |= trigger.agree(conditional, unconditional).to(self.agreed.device)
            return args["conds_out"]

        def replace(args: dict[str, Any]) -> Any:
            nonlocal single
            if self.cutoff.tail == LOWER or not bool(before.any()):
                return args["conds_out"]
            if single is None:
                single = self._single(args)
            return [torch.where(rows, single, out) for out in args["conds_out"]]

        hooks = options.get("sampler_pre_cfg_function", [])
        seen = {**options, "sampler_pre_cfg_function": [compare, *hooks, replace]}
        result = executor(x, timestep, seen, seed)
        return result if single is None else torch.where(rows, single, result)

    def _single(self, args: dict[str, Any]) -> torch.Tensor:
        """The tail's prediction beside the guided one, from which it is taken where it can be."""
        entries = tail.followed(self.guider, self.cutoff.tail)
        for conds, out in zip(args["conds"], args["conds_out"], strict=True):
            if conds is entries:
                return out
        pair = [None, entries] if self.cutoff.tail == UNCONDITIONAL else [entries, None]
        found = comfy.samplers.calc_cond_batch(
            self.guider.inner_model, pair, args["input"], args["sigma"], args["model_options"]
        )
        return found[tail.SLOT[self.cutoff.tail]]

    def _tell_what_is_left_out(self) -> None:
        found: list[str] = []
        for name in COMBINING:
            there = self.guider.model_options.get(name, [])
            found += map(name_of, there if isinstance(there, list) else [there])
        if found:
            self.run.note(f"Off in unguided steps: {listing(found)}.")

    def conclude(self) -> None:
        """What the user should know of this run."""
        note, unguided = self.run.note, self.run.tallies[UNGUIDED]
        if not self.possible:
            note(f"{type(self.guider).__name__} has no positive prompt of its own: nothing was cut.")
        elif self.cutoff.tail != LOWER and unguided.evaluations and self.run.saved <= 0:
            note("A guided step takes no more forwards than an unguided one, as at cfg 1: nothing to save.")
        if self.adaptive and self.possible and not self.compared and self.run.tallies[GUIDED].evaluations:
            note(f"{type(self.guider).__name__} does not show both predictions: adaptive saw no agreement.")
        elif self.adaptive and bool(self.agreed.any()) and not unguided.evaluations:
            count = int(self.agreed.sum())
            note(f"{count} of {len(self.agreed)} images agreed; a forward is saved when all do.")
        entries = tail.followed(self.guider, self.cutoff.tail) if self.cutoff.tail != LOWER else None
        if entries and unguided.rows > len(entries) * self.run.batch * unguided.evaluations:
            names = [name_of(f) for f in self._others()]
            note(
                f"Unguided steps took {unguided.rows / self.run.batch / unguided.evaluations:.3g} forwards"
                f" each instead of {len(entries)}; on this MODEL are {listing(names) or 'no other patches'}."
            )

    def _others(self) -> list[Callable[..., Any]]:
        """Patches that may run the model more than once."""
        options = self.guider.model_options
        kinds = (WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL)
        found = [f for kind in kinds for f in comfy.patcher_extension.get_all_wrappers(kind, options, True)]
        slots = ("sampler_calc_cond_batch_function", "model_function_wrapper")
        found += [options[name] for name in slots if name in options]
        return [f for f in found if getattr(f, "__self__", None) is not self]


def name_of(function: Any) -> str:
    """Of a patch, for people: the node's class, if its function was made there."""
    while isinstance(function, functools.partial):
        function = function.func
    owner = getattr(function, "__self__", None)
    name = type(owner).__name__ if owner is not None and not isinstance(owner, type) else None
    return name or getattr(function, "__qualname__", type(function).__name__).split(".")[0]

"""The cutoff as a patch of a MODEL: it works in every sampler node, and in our own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from ...guidance.cutoff import CONDITIONAL, LOWER, UNCONDITIONAL, Cutoff, Sigma, Similar
from ...guidance.record import Record, listing
from ...guidance.steps import Steps
from ..compat import is_ours, name_of
from ..model.clone import CUTOFF
from ..server import announce
from . import tail
from .forwards import Forwards
from .patch import SamplerPatch

COMBINING = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function")


class CutoffPatch(SamplerPatch[Record]):
    """Guidance as a cutoff says, in every sampler node that gets the MODEL, and in our own."""

    key = CUTOFF

    def __init__(self, cutoff: Cutoff, tell: bool = True) -> None:
        super().__init__()
        self.cutoff, self.tell = cutoff, tell

    def begin(self, guider: Any, sigmas: list[float], noise: torch.Tensor) -> CutoffRun:
        return CutoffRun(self, guider, sigmas, len(noise))


class CutoffRun:
    """One run of a sampler."""

    def __init__(self, patch: CutoffPatch, guider: Any, sigmas: list[float], batch: int) -> None:
        self.patch, self.cutoff, self.guider = patch, patch.cutoff, guider
        self.steps = Steps(sigmas)
        trigger, steps = self.cutoff.trigger, self.steps.total
        self.kept = trigger.kept(steps)
        self.level = trigger.sigma if isinstance(trigger, Sigma) and trigger.applies(sigmas) else None
        self.adaptive = trigger if isinstance(trigger, Similar) else None
        self.agreed = torch.zeros(batch, dtype=torch.bool)
        self.compared = False
        self.record = Record(self.steps, batch, self.cutoff.tail)
        self.possible = tail.followed(guider, CONDITIONAL) is not None
        # Guidance may end in this run.
        counts = self.kept < steps or self.level is not None or self.adaptive is not None
        self.ends = self.possible and counts
        self._install()

    def _install(self) -> None:
        """Put what this run needs on the guider's own copies; last, so that it counts real forwards."""
        options = self.guider.model_options
        deciding = self._others(WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH)
        # Core's guiders keep to one way; of another pack's nobody knows.
        name = type(self.guider).__module__
        known = not self._own_guider() or name.startswith("comfy.") or "comfy_extras" in name
        # A pack may have put its own in the place of core's, for good.
        samplers = comfy.samplers
        known = known and {samplers.sampling_function.__module__, samplers.calc_cond_batch.__module__} == {
            samplers.__name__
        }
        self.record.about, self.record.unseen = bool(deciding) or not known, self._own_guider()
        self._only_ours = False
        Forwards(lambda rows: self.record.forward(rows, self._only_ours)).install(self.guider, CUTOFF)
        comfy.patcher_extension.add_wrapper_with_key(
            WrappersMP.PREDICT_NOISE, CUTOFF, self._predict, options, is_model_options=True
        )
        if self.cutoff.tail == UNCONDITIONAL and self.ends:
            tail.provide(self.guider, self.cutoff.empty)

    def _own_guider(self) -> bool:
        return type(self.guider).predict_noise is not comfy.samplers.CFGGuider.predict_noise

    def _expected(self, sigma: float) -> int:
        """Rows of an evaluation with guidance here: all entries of the guider, but for core's shortcut at
        cfg 1."""
        guider, options = self.guider, self.guider.model_options
        both = not math.isclose(getattr(guider, "cfg", 0.0), 1.0)
        both = both or options.get("disable_cfg1_optimization", False)
        names = (
            [name for name in guider.conds if name != tail.EMPTY]
            if self._own_guider() or both
            else ["positive"]
        )
        entries = [entry for name in names for entry in guider.conds.get(name) or ()]
        return self.record.batch * sum(tail.holds(entry, sigma) for entry in entries)

    def _predict(
        self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        options = options or {}
        sigma = float(timestep.max())
        place = self.steps.evaluate(sigma)
        over = place >= self.kept or (self.level is not None and sigma <= self.level)
        if self.ends and (over or bool(self.agreed.all())):
            self.record.evaluation(False, self._expected(sigma))
            if self.cutoff.tail == LOWER:
                return self._lower(executor, x, timestep, options, seed)
            self._tell_what_is_left_out()
            return tail.predict(self.guider, self.cutoff.tail, x, timestep, options)
        self.record.evaluation(True, self._expected(sigma))
        if self.adaptive and self.ends and len(x) != len(self.agreed):
            self.record.note(
                f"The sampler evaluates {len(x)} images at once instead of {len(self.agreed)}: adaptive saw"
                " no agreement."
            )
        elif self.adaptive and self.ends:
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
            self._only_ours = True
            try:
                single = self._lower(executor, x, timestep, options, seed)
            finally:
                self._only_ours = False
        rows = before.view(-1, *[1] * (x.dim() - 1))

        # A guider may report less than core's does; what is missing is not needed.
        def compare(args: dict[str, Any]) -> Any:
            outs, conds = args.get("conds_out"), args.get("conds")
            if outs is not None and len(outs) > 1:
                self.compared = True
                if conds is None or len(conds) < 2 or conds[1] is not None:
                    self.agreed |= trigger.agree(outs[0], outs[1])
            return outs

        def replace(args: dict[str, Any]) -> Any:
            nonlocal single
            outs = args.get("conds_out")
            if outs is None or self.cutoff.tail == LOWER or not bool(before.any()):
                return outs
            if single is None:
                single = self._single(args.get("conds") or (), outs, x, timestep, seen)
            return [torch.where(rows, single, out) for out in outs]

        hooks = options.get("sampler_pre_cfg_function", [])
        seen = {**options, "sampler_pre_cfg_function": [compare, *hooks, replace]}
        result = executor(x, timestep, seen, seed)
        return result if single is None else torch.where(rows, single, result)

    def _single(
        self, conds: Any, outs: Any, x: torch.Tensor, timestep: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        """The tail's prediction beside the guided one, from which it is taken where it can be."""
        entries = tail.followed(self.guider, self.cutoff.tail)
        for given, out in zip(conds, outs, strict=False):
            if given is entries:
                return out
        pair = [None, entries] if self.cutoff.tail == UNCONDITIONAL else [entries, None]
        self._only_ours = True
        try:
            found = comfy.samplers.calc_cond_batch(self.guider.inner_model, pair, x, timestep, options)
        finally:
            self._only_ours = False
        return found[tail.SLOT[self.cutoff.tail]]

    def _tell_what_is_left_out(self) -> None:
        found: list[str] = []
        for name in COMBINING:
            there = self.guider.model_options.get(name, [])
            hooks = there if isinstance(there, list) else [there]
            found += [name_of(hook) for hook in hooks if not is_ours(hook)]
        if found:
            self.record.note(f"Off in unguided steps: {listing(found)}.")

    def finish(self) -> Record:
        """What the user should know of this run."""
        self.record.end()
        self._conclude()
        if self.patch.tell:
            announce(str(self.record))
        return self.record

    def _conclude(self) -> None:
        record = self.record
        note, guided, unguided = record.note, record.of(True), record.of(False)
        name = type(self.guider).__name__
        if not self.possible:
            note(f"{name} has no positive prompt of its own: nothing was cut.")
        elif self.cutoff.tail != LOWER and unguided and record.nfe and record.saved <= 0:
            note("A guided step takes no more NFE than an unguided one, as at cfg 1: nothing to save.")
        if isinstance(self.cutoff.trigger, Sigma) and self.level is None:
            note("The noise level rises in this run, so sigma ends no guidance: all steps were guided.")
        if self.adaptive and self.possible and not self.compared and guided:
            note(f"{name} does not show both predictions: adaptive saw no agreement.")
        elif self.adaptive and bool(self.agreed.any()) and not unguided:
            count = int(self.agreed.sum())
            note(f"{count} of {len(self.agreed)} images agreed; NFE are saved when all do.")
        evaluated = len(set(self.steps.numbers()))
        if guided + unguided and evaluated < record.steps.total:
            without = record.steps.total - evaluated
            note(
                f"{without} {'step' if without == 1 else 'steps'} ran without the model: a cache or another"
                " patch answered, or the sampler needs no evaluation there."
            )
        if record.evaluations and not record.nfe:
            note("The model was not run: another patch answered every evaluation, or no prompt holds.")
        entries = tail.followed(self.guider, self.cutoff.tail) if self.cutoff.tail != LOWER else None
        rows = sum(one.rows for one in unguided)
        if entries and rows > len(entries) * record.batch * len(unguided):
            kinds = WrappersMP.PREDICT_NOISE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL
            names = [name_of(f) for f in self._others(*kinds)]
            note(
                f"Unguided steps took {rows / record.batch / len(unguided):.3g} NFE each instead of"
                f" {len(entries)}; other patches on this MODEL: {listing(names) or 'none'}."
            )

    def _others(self, *kinds: str) -> list[Callable[..., Any]]:
        """Patches of these kinds that may run the model more than once, or less often."""
        options = self.guider.model_options
        found = [f for kind in kinds for f in comfy.patcher_extension.get_all_wrappers(kind, options, True)]
        slots = ("sampler_calc_cond_batch_function", "model_function_wrapper")
        found += [options[name] for name in slots if name in options]
        return [f for f in found if not is_ours(f)]

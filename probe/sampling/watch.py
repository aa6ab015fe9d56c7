"""Watches an ordinary sampling run: attention to phrases and what guidance does, evaluation by evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.patcher_extension
import torch
from comfy.patcher_extension import WrappersMP

from ...guidance.steps import Steps
from ...guidance.trace import Evaluation, StepsError, Trace, guidance_norm, low_share, parse_phrases, pooled
from ..attention.reader import Reader
from ..attention.tokens import PromptTokens, find_phrases, fitting, unread_prompt
from ..model.architecture import family_of, unreadable
from ..model.clone import WATCH
from ..model.family import Family, Layer, ProbeError, find_layers
from .forwards import Call, Forwards
from .patch import SamplerPatch, patch_on
from .tail import holds

NODE = "Attention over Steps"
REPORT = f"{NODE} Report"
ALL = "all"

OTHER_PROMPT = (
    f"no prompt of this run is the one that {NODE} was given; connect its output positive to the sampler, or"
    " give it the sampler's prompt and the same CLIP"
)
VIDEO = "the latent is a video of {} frames, and only of single images attention is read"
ONLY_AREAS = "the prompt holds only in areas of its own, which are not read"
ANSWERED = "another patch, such as a cache, replaces the model's forward and answered without it"
FOLLOWED = "they followed another entry of the conditioning than the watched prompt, or another prompt"
NONE_HOLDS = "no entry of the prompt holds in them"
NOT_FINITE = "the attention contains NaN or Inf, often from a model in half precision"
REPLACED = "another patch has replaced the model's forward, so that its attention cannot be read"
UNREAD = "the watched layers were not run, or their attention is no longer that of the prompt"


class Watch(SamplerPatch[Trace]):
    """Changes no value that sampling uses, and never ends a run: what it cannot see, it notes."""

    key = WATCH

    def __init__(
        self, phrases: PromptTokens, family: Family | None, layers: Sequence[Layer] = (), missing: str = ""
    ) -> None:
        """missing: why there are no maps of a MODEL that no family is known of."""
        super().__init__(lambda trace: trace.bytes)
        self.phrases, self.family, self.layers, self.missing = phrases, family, layers, missing

    def begin(self, guider: Any, sigmas: list[float], noise: torch.Tensor) -> WatchedRun | None:
        try:
            return WatchedRun(self, guider, sigmas, noise)
        except Exception:
            logging.exception("%s: this run cannot be watched.", NODE)
            return None


def watched(model: Any, clip: Any, prompt: str, phrases: str, layer: str = ALL) -> tuple[Any, list[Any]]:
    """A clone of MODEL that watches its runs for phrases of a prompt, one a line, and the prompt encoded.

    ProbeError names a phrase that the prompt has not, and lists the layers when one is unknown. Of a model
    whose attention cannot be read, what guidance does is watched alone, unless layers are asked for.
    """
    names = parse_phrases(phrases)
    every = layer.strip().lower() == ALL
    if why := unreadable(model):
        if not every:
            raise ProbeError(f"{why} With layer {ALL}, what guidance does is recorded without maps.")
        unplaced = unread_prompt(clip, prompt, names)
        return Watch(unplaced, None, missing=why.rstrip(".")).attach(model), unplaced.conditioning
    family = family_of(model)
    layers = family.layers if every else find_layers(family, layer)
    found = fitting(find_phrases(clip, prompt, names), family.text_width())
    return Watch(found, family, layers).attach(model), found.conditioning


def last_trace(model: Any) -> Trace:
    """Of the last whole run of a watched MODEL; StepsError when there is none."""
    return _watch_on(model).records.last


def _watch_on(model: Any) -> Any:
    watch = patch_on(model, WATCH)
    if watch is None:
        raise StepsError(f"{REPORT}: this model is not watched: connect the model that comes out of {NODE}.")
    if watch.records.last is None:
        raise StepsError(
            f"{REPORT}: not sampled with yet: connect the latent of the sampler that has the watched model."
        )
    return watch


def trace_of(model: Any, latent: dict[str, Any], number: int) -> tuple[Trace, int]:
    """The run of a watched MODEL that returned image `number`, from 1, of a LATENT; and its number there.

    The run has the images that the latent still has of it. StepsError when no run returned it.
    """
    found = _watch_on(model).of(latent)
    if not 1 <= number <= len(found):
        raise StepsError(f"{REPORT}: number is {number}, but the latent has images 1 to {len(found)}.")
    if found[number - 1] is None:
        raise StepsError(
            f"{REPORT}: no run of this watched model made this latent as it is: connect the sampler's own"
            " output, before any node that changes it, and the model that this sampler has."
        )
    run = found[number - 1][0]
    images = [one[1] for one in found if one is not None and one[0] is run]
    position = sum(one is not None and one[0] is run for one in found[:number])
    return run.of(images), position


class WatchedRun:
    """One run of a sampler."""

    def __init__(self, watch: Watch, guider: Any, sigmas: list[float], noise: torch.Tensor) -> None:
        self.guider, self.phrases = guider, watch.phrases
        self.steps = Steps(sigmas)
        self.evaluations: list[Evaluation] = []
        self.notes: list[str] = []
        prompts = [conds for name, conds in guider.conds.items() if name != "negative"]
        mine = [(entry, form) for conds in prompts for entry in conds if (form := _form(entry, self.phrases))]
        whole = {entry["uuid"]: form for entry, form in mine if _everywhere(entry)}
        self.missing = watch.missing
        if not self.missing and noise.dim() == 5 and noise.shape[2] != 1:
            self.missing = VIDEO.format(noise.shape[2])
        if self.missing:
            whole = {}
        elif not whole:
            self.missing = ONLY_AREAS if mine else OTHER_PROMPT
        elif len(whole) < len(mine):
            self.notes.append("Prompts with an area of their own are not read.")
        self.images, (height, width) = len(noise), noise.shape[-2:]
        self.size = height, width
        self.reader: Reader | None = None
        if watch.family is not None:
            self.reader = Reader(
                watch.family,
                watch.layers,
                self.images,
                height,
                width,
                whole,
                stop=False,
                keep=lambda maps: maps,
            )
        # Of the evaluation that is going on: calls of the model, and what is known of guidance.
        self.calls: list[Call] = []
        self.sigma = 0.0
        self.compared = False
        self.guidance: torch.Tensor | None = None
        self._install()

    def _install(self) -> None:
        """Put what this run needs on the guider's own copies."""
        options = self.guider.model_options
        if self.reader is not None:
            add = comfy.patcher_extension.add_wrapper_with_key
            add(WrappersMP.APPLY_MODEL, WATCH, self.reader.evaluate, options, is_model_options=True)
        Forwards(lambda rows: None, self.calls.append).install(self.guider, WATCH)
        # Outermost: a guidance cutoff and caches answer evaluations themselves.
        wrappers = options["transformer_options"]["wrappers"]
        others = wrappers.get(WrappersMP.PREDICT_NOISE, {})
        wrappers[WrappersMP.PREDICT_NOISE] = {WATCH: [self._predict], **others}
        hooks = options.get("sampler_post_cfg_function", [])
        options["sampler_post_cfg_function"] = [*hooks, self._compare]

    def _predict(
        self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        self.sigma = float(timestep.max())
        self.steps.evaluate(self.sigma)
        self.compared, self.guidance = False, None
        self._forget()
        try:
            denoised = executor(x, timestep, options or {}, seed)
            try:
                self.evaluations.append(self._evaluation(denoised))
            except Exception as error:
                self._note_failure(error)
                self.evaluations.append(Evaluation(self._unknown, unread=UNREAD))
            return denoised
        finally:
            # A call's options hold the wrappers, so this run: nothing may be left that only gc can free.
            self._forget()

    def _forget(self) -> None:
        self.calls.clear()
        if self.reader is not None:
            self.reader.maps.clear()
            self.reader.refused.clear()

    @property
    def _unknown(self) -> torch.Tensor:
        return torch.full((self.images,), torch.nan)

    def _evaluation(self, denoised: torch.Tensor) -> Evaluation:
        layers = [] if self.reader is None else list(self.reader.maps.values())
        maps = pooled(layers).cpu() if layers else None
        unread = "" if maps is not None and len(maps) == len(denoised) else self._unread()
        if maps is not None and not bool(maps.isfinite().all()):
            unread = NOT_FINITE
        if len(denoised) != self.images:
            return Evaluation(self._unknown, unread=self._in_parts(denoised))
        if tuple(denoised.shape[-2:]) != self.size and not self.missing:
            unread = self._in_parts(denoised)
        # Sounds, and latents of several kinds at once, have no rows and columns.
        low = low_share(denoised) if denoised.dim() > 3 else self._unknown
        return Evaluation(low, None if unread else maps, self._guidance(low), unread)

    def _in_parts(self, denoised: torch.Tensor) -> str:
        there, here = ("x".join(map(str, size)) for size in (denoised.shape[-2:], self.size))
        return (
            f"the sampler evaluates {len(denoised)} x {there} latent pixels at once instead of"
            f" {self.images} x {here}"
        )

    def _unread(self) -> str:
        """Why there is no map of this evaluation."""
        if self.missing or self.reader is None:
            return self.missing
        prompts = [
            entry for name, conds in self.guider.conds.items() if name != "negative" for entry in conds
        ]
        if not any(holds(entry, self.sigma) for entry in prompts):
            return NONE_HOLDS
        mine = [call for call in self.calls if set(call.options.get("uuids", ())) & set(self.reader.prompts)]
        if not self.calls:
            return ANSWERED
        if not mine:
            return FOLLOWED
        if any(call.whole for call in mine) and not any(call.ran for call in mine):
            return ANSWERED
        if self.reader.refused:
            return f"another patch {' and '.join(self.reader.refused)}"
        return UNREAD if any(call.whole for call in mine) else REPLACED

    def _guidance(self, none: torch.Tensor) -> torch.Tensor | None:
        """Norm of the guidance term [images], 0 without guidance, None where it cannot be known."""
        if self.compared:
            return self.guidance
        kinds = {kind for call in self.calls for kind in call.options.get("cond_or_uncond", ())}
        return torch.zeros_like(none) if len(kinds) == 1 else None

    def _compare(self, args: dict[str, Any]) -> Any:
        """A post-cfg function that changes nothing; a guider may report less than core's does."""
        try:
            self._measure(args)
        except Exception as error:
            self._note_failure(error)
        return args.get("denoised")

    def _measure(self, args: dict[str, Any]) -> None:
        conditional, unconditional = args.get("cond_denoised"), args.get("uncond_denoised")
        scale, sigma = args.get("cond_scale"), args.get("sigma", args.get("timestep"))
        if conditional is None:
            return
        none = torch.zeros(len(conditional))
        if (
            unconditional is None
            and "uncond_denoised" in args
            or args.get("uncond", ()) is None
            or scale == 1
        ):
            self.compared, self.guidance = True, none
        elif unconditional is not None and scale is not None and sigma is not None:
            self.compared = True
            self.guidance = guidance_norm(conditional, unconditional, sigma, scale)

    def _note_failure(self, error: Exception) -> None:
        logging.debug("%s: an evaluation could not be read.", NODE, exc_info=error)
        text = f"Some evaluations could not be read: {type(error).__name__}: {error}"
        if text not in self.notes:
            self.notes.append(text)

    def finish(self) -> Trace:
        trace = Trace.counted(self.phrases.names, self.steps, self.evaluations)
        trace.notes += self.notes
        latent_format = self.guider.model_patcher.get_model_object("latent_format")
        if self.reader is not None:
            trace.covered = self.reader.family.covered(*self.size)
        trace.pixels = latent_format.spacial_downscale_ratio
        return trace


def _everywhere(entry: dict[str, Any]) -> bool:
    """Whether an entry holds for the whole latent, not for an area of its own or the bounds of its mask."""
    bounds = entry.get("mask") is not None and entry.get("set_area_to_bounds", False)
    return entry.get("area") is None and not bounds


def _form(entry: dict[str, Any], phrases: PromptTokens) -> PromptTokens | None:
    """The prompt as an entry carries it, one of the forms that hooks give it over time; None: it does not.

    In the entry's own precision, for each image of a batch or once.
    """
    theirs = entry.get("cross_attn")
    if theirs is None:
        return None
    for own, more in phrases.conditioning:
        fits = theirs.shape[1:] == own.shape[1:] and len(own) in (1, len(theirs))
        if fits and torch.equal(theirs.cpu(), own.cpu().to(theirs.dtype).expand_as(theirs)):
            return replace(phrases, conditioning=[[theirs, more]])
    return None

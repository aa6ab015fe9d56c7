"""Watches an ordinary sampling run: attention to phrases and what guidance does, evaluation by evaluation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import comfy.patcher_extension
import torch
from comfy.patcher_extension import WrappersMP

from ...guidance.trace import Course, Evaluation, StepsError, guidance_norm, low_share, parse_phrases, pooled
from ..attention.reader import Reader
from ..attention.tokens import PromptTokens, find_phrases
from ..model.family import Family, Layer, ProbeError, find_layers
from ..model.unet import UNet
from .patch import WATCH as KEY
from .patch import patch_on, with_patch

NODE = "Attention over Steps"
ALL = "all"


class Watch:
    """`attach` it to a MODEL; `course` is of the last run that it saw.

    On the MODEL's clone is one OUTER_SAMPLE wrapper; what a run needs is put on the run's own copy of the
    model options, as by the guidance cutoff. No value that sampling uses is changed.
    """

    def __init__(self, phrases: PromptTokens, family: Family, layers: Sequence[Layer]) -> None:
        self.phrases, self.family, self.layers = phrases, family, layers
        self.course: Course | None = None

    def attach(self, model: Any) -> Any:
        """A clone of MODEL with this watch, in place of any other one of ours."""
        return with_patch(model, KEY, self._sample)

    def _sample(
        self,
        executor: Any,
        noise: Any,
        latent: Any,
        sampler: Any,
        sigmas: torch.Tensor,
        *rest: Any,
        **more: Any,
    ) -> torch.Tensor:
        guider = executor.class_obj
        self.course = Course(self.phrases.names, sigmas.detach().float().cpu())
        _Running(self, guider, self.course, noise).install()
        return executor(noise, latent, sampler, sigmas, *rest, **more)


def watched(model: Any, clip: Any, prompt: str, phrases: str, layer: str = ALL) -> tuple[Any, list[Any]]:
    """A clone of MODEL that watches its runs for phrases of a prompt, one a line, and the prompt encoded.

    ProbeError names a phrase that the prompt has not, and lists the layers when one is unknown.
    """
    names = parse_phrases(phrases)
    family = UNet(model)
    layers = family.layers if layer.strip().lower() == ALL else find_layers(family, layer)
    found = find_phrases(clip, prompt, names)
    return Watch(found, family, layers).attach(model), found.conditioning


def course_of(model: Any) -> Course:
    """Of the last run that the watch on a MODEL saw; StepsError when there is none."""
    watch = patch_on(model, KEY)
    if watch is None:
        raise StepsError(f"This model is not watched: connect the model that comes out of {NODE}.")
    if watch.course is None:
        raise StepsError(
            "Not sampled with yet: connect the latent of the sampler that has the watched model."
        )
    return watch.course


class _Running:
    """One run of a sampler."""

    def __init__(self, watch: Watch, guider: Any, course: Course, noise: torch.Tensor) -> None:
        self.guider, self.course = guider, course
        phrases = watch.phrases
        prompts = [conds for name, conds in guider.conds.items() if name != "negative"]
        mine = [entry for conds in prompts for entry in conds if _is(entry, phrases)]
        if not mine:
            raise ProbeError(
                f"{NODE}: no prompt of this run is the one it was given. Connect its output positive to the"
                " sampler, or give it the sampler's prompt and the same CLIP."
            )
        whole = [entry for entry in mine if entry.get("area") is None]
        if len(whole) < len(mine):
            course.notes.append("Prompts with an area of their own are not read.")
        images, (height, width) = len(noise), noise.shape[-2:]
        read = {entry["uuid"]: phrases for entry in whole}
        self.reader = Reader(
            watch.family, watch.layers, images, height, width, read, stop=False, keep=lambda maps: maps
        )
        self.guidance: torch.Tensor | None = None

    def install(self) -> None:
        """Put what this run needs on the guider's own copies."""
        options = self.guider.model_options
        add = functools.partial(comfy.patcher_extension.add_wrapper_with_key, key=KEY, is_model_options=True)
        add(WrappersMP.APPLY_MODEL, wrapper=self.reader.evaluate, transformer_options=options)
        add(WrappersMP.PREDICT_NOISE, wrapper=self._predict, transformer_options=options)
        # Outermost: a guidance cutoff answers evaluations itself.
        wrappers = options["transformer_options"]["wrappers"]
        others = wrappers[WrappersMP.PREDICT_NOISE]
        wrappers[WrappersMP.PREDICT_NOISE] = {KEY: others.pop(KEY), **others}
        hooks = options.get("sampler_post_cfg_function", [])
        options["sampler_post_cfg_function"] = [*hooks, self._compare]

    def _compare(self, args: dict[str, Any]) -> torch.Tensor:
        conditional, unconditional = args["cond_denoised"], args["uncond_denoised"]
        if unconditional is not None and args["cond_scale"] != 1:
            self.guidance = guidance_norm(conditional, unconditional, args["sigma"], args["cond_scale"])
        return args["denoised"]

    def _predict(
        self, executor: Any, x: torch.Tensor, timestep: torch.Tensor, options: Any = None, seed: Any = None
    ) -> torch.Tensor:
        self.guidance = None
        self.reader.maps.clear()
        denoised = executor(x, timestep, options or {}, seed)
        for why in self.reader.refused:
            note = f"Steps in which another patch {why} were not read."
            if note not in self.course.notes:
                self.course.notes.append(note)
        layers = list(self.reader.maps.values())
        maps = pooled(layers).cpu() if layers else None
        self.reader.maps.clear()
        sigma = float(timestep.max())
        self.course.evaluations.append(Evaluation(sigma, low_share(denoised), maps, self.guidance))
        return denoised


def _is(entry: dict[str, Any], phrases: PromptTokens) -> bool:
    theirs, ours = entry.get("cross_attn"), phrases.conditioning[0][0]
    return theirs is not None and theirs.shape == ours.shape and bool(torch.equal(theirs.cpu(), ours.cpu()))

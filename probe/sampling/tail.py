"""What a run follows after the cut: one prediction, one forward of the batch (Yi et al. 2024, Eq. 9)."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import comfy.sampler_helpers
import comfy.samplers
import torch

from ...guidance.cutoff import CONDITIONAL, UNCONDITIONAL, CutoffError

EMPTY = "winning_tickets_empty"
TIMES = ("start_percent", "end_percent", "clip_start_percent", "clip_end_percent")
# Where core's guiders keep what they follow: CFG, PerpNeg, DualCFG.
NAMES = {CONDITIONAL: ("positive",), UNCONDITIONAL: (EMPTY, "empty_negative_prompt", "negative")}
SLOT = {CONDITIONAL: 0, UNCONDITIONAL: 1}


def empty_conds(empty: Any, negative: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries for the empty prompt, not yet processed, with the negative's ControlNets, areas and hooks.

    The paper's tail drops the text and keeps what else there is. What `empty` brings itself counts more;
    times are dropped, since no step may be left without a prediction.
    """
    texts = comfy.sampler_helpers.convert_cond(empty)
    if len(texts) > 1:
        texts = [t for t in texts if not any(name in t for name in TIMES)] or texts[:1]
    if len(texts) > 1 or not negative:
        return texts
    places: dict[Any, dict[str, Any]] = {}
    for entry in negative:
        rest = {k: v for k, v in entry.items() if k not in ("pooled_output", *TIMES)}
        places.setdefault(tuple(_identity(rest)), rest)
    text = {k: v for k, v in texts[0].items() if k not in TIMES}
    return [{**rest, **text, "model_conds": {}, "uuid": uuid.uuid4()} for rest in places.values()]


def _identity(entry: dict[str, Any]) -> Iterator[Any]:
    """Equal for entries that differ only in their text."""
    for name in sorted(entry):
        if name not in ("cross_attn", "model_conds", "uuid"):
            value = entry[name]
            yield name, value if isinstance(value, (int, float, str, tuple)) else id(value)


def followed(guider: Any, tail: str) -> list[dict[str, Any]] | None:
    """The entries that the tail follows; None: the guider has none of that kind."""
    return next((guider.conds[name] for name in NAMES[tail] if guider.conds.get(name)), None)


def holds(entry: dict[str, Any], sigma: float) -> bool:
    """Whether an entry of a prompt, as ComfyUI prepares it, counts at this noise level."""
    return not (sigma > entry.get("timestep_start", math.inf) or sigma < entry.get("timestep_end", -math.inf))


def provide(guider: Any, empty: Any) -> None:
    """Puts what the unconditional tail follows among the guider's entries, before they are processed.

    CutoffError when there is neither `empty` nor a negative.
    """
    if empty is not None:
        guider.conds[EMPTY] = empty_conds(empty, guider.conds.get("negative", ()))
    elif followed(guider, UNCONDITIONAL) is None:
        raise CutoffError(
            "after_cutoff is unconditional, but this guider has no negative: connect the encoded empty prompt"
            " to unconditional, or set after_cutoff to conditional."
        )


def _own_hooks(guider: Any, options: dict[str, Any], name: str) -> list[Any]:
    """The sampler's own functions of a kind, apart from those that came with the MODEL."""
    models = guider.model_options.get(name, [])
    return [hook for hook in options.get(name, []) if not any(hook is other for other in models)]


def predict(
    guider: Any, tail: str, x: torch.Tensor, timestep: torch.Tensor, options: dict[str, Any]
) -> torch.Tensor:
    """The denoised prediction of one kind [images, ...]. `guider` is in the midst of sampling.

    Functions of other patches that combine two predictions are left out: there is one. The sampler's own
    (CFG++) are called with it in both places, by which those samplers become their plain forms.
    """
    # Two slots, so that cond_or_uncond keeps telling other patches which of them is run.
    conds: list[Any] = [None, None]
    slot = SLOT[tail]
    conds[slot] = followed(guider, tail)
    batch = options.get("sampler_calc_cond_batch_function")
    if batch is not None:
        arguments = {"conds": conds, "input": x, "sigma": timestep, "model": guider.inner_model}
        denoised = batch({**arguments, "model_options": options})[slot]
    else:
        denoised = comfy.samplers.calc_cond_batch(guider.inner_model, conds, x, timestep, options)[slot]
    for hook in _own_hooks(guider, options, "sampler_post_cfg_function"):
        denoised = hook(
            {
                "denoised": denoised,
                "cond": conds[0],
                "uncond": conds[1],
                "cond_scale": 1.0,
                "model": guider.inner_model,
                "uncond_denoised": denoised,
                "cond_denoised": denoised,
                "sigma": timestep,
                "model_options": options,
                "input": x,
            }
        )
    return denoised

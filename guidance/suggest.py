"""Reads from a watched run after which share of its steps guidance changes little (Yi et al., section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .trace import StepsError, Trace, agreement, push_to_come, ranges

PUSH = 0.25
FORM = 0.5


def suggest(trace: Trace, push: float = PUSH, form: float = FORM) -> float:
    """The least share of the steps after which both hold, a multiple of 1 / steps.

    The push of guidance that is still to come, for each latent value, is at most `push`: latents have a
    standard deviation of about 1. The maps of the phrases agree with their final form, F1 on the mean, at
    least by `form`; a run in which no attention was read has only the first. Both are means over the images
    of the batch. StepsError for a run that was not guided to its end, or whose noise rises.
    """
    steps = len(trace.sigmas) - 1
    if not trace.falls:
        raise StepsError(
            "The noise of this run rises: what guidance still has to do can be read only from a run whose"
            " noise falls step by step."
        )
    guidance = trace.guidance()
    if bool(guidance.isnan().any()):
        unknown = [number for number, one in enumerate(guidance, 1) if bool(one.isnan().any())]
        word = "step" if len(unknown) == 1 else "steps"
        raise StepsError(
            f"Guidance was not reported in {word} {ranges(unknown)} of this run: watch one with an ordinary"
            " CFG guider, and without patches that answer whole steps."
        )
    guided = guidance.amin(1) > 0
    if not bool(guided.any()):
        raise StepsError("This run had no guidance: at cfg 1 there is nothing to cut.")
    if not bool(guided[-1]):
        raise StepsError(
            "This run was not guided to its end: watch one without a cutoff, and with a negative prompt for"
            " all steps."
        )
    left = push_to_come(guidance, trace.sigmas).mean(1).tolist()
    return least(left, _agreement(trace), push, form) / steps


def least(left: Sequence[float], agree: Sequence[float] | None, push: float, form: float) -> int:
    """The number of steps of `suggest`. left: push still to come after 0, 1, ... steps [steps + 1]; agree:
    agreement of the maps at each step [steps]."""
    for kept, one in enumerate(left[:-1]):
        settled = agree is None or kept > 0 and agree[kept - 1] >= form
        if one <= push and settled:
            return kept
    return len(left) - 1


def _agreement(trace: Trace) -> list[float] | None:
    """Mean over images and phrases at each step."""
    if not trace.is_read:
        return None
    return [float(one) for one in agreement(trace.maps()).mean((1, 2))]


def explain(trace: Trace, share: float, push: float = PUSH, form: float = FORM) -> str:
    """Why, for people."""
    steps = len(trace.sigmas) - 1
    kept = round(share * steps)
    left = push_to_come(trace.guidance(), trace.sigmas).mean(1)
    lines = [
        f"Guide {share:.3g} of the steps, {kept} of {steps}: {(1 - share) / 2:.0%} of the NFE saved.",
        f"Guidance then still has a push of {float(left[kept]):.3f} to come, of {float(left[0]):.3f} in all;"
        f" the limit is {push:g}.",
    ]
    agree = _agreement(trace)
    if agree is not None and kept and not math.isnan(agree[kept - 1]):
        settled = f"{agree[kept - 1]:.2f}; the limit is {form:g}."
        lines.append(f"The maps of the phrases agree with their final form by {settled}")
    return "\n".join(lines)

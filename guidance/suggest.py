"""Reads from a watched run after which share of its steps guidance changes little (Yi et al., section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .trace import StepsError, Trace, agreement, push_to_come, ranges

# What both mean was measured on the demo model and four variants: benchmarks/README.md, "What a push and an
# agreement mean". Distances by push were nearly the same on all.
PUSH = 0.25
SETTLED = 0.5
PUSH_SCALE = (
    f"Up to {PUSH:g} is little: cutting there changes a picture by about a tenth of what another seed would,"
    f" or less; above {2 * PUSH:g}, by a quarter or more."
)
AGREEMENT_SCALE = (
    f"images whose guidance ended below {SETTLED:g} lost an object about three times as often (on four of"
    " five models of the demo's kind)"
)
UNGUIDED = "This run had no guidance: at cfg 1 there is nothing to cut."


def suggest(trace: Trace, push: float = PUSH) -> float:
    """The least share of the steps after which guidance has little to do, a multiple of 1 / steps.

    The push of guidance that is still to come, for each latent value, is at most `push` on the mean of the
    batch: latents have a standard deviation of about 1. StepsError for a run that was not guided to its end,
    or whose noise rises.
    """
    steps = len(trace.sigmas) - 1
    if not trace.falls:
        raise StepsError(
            "The noise level rises in this run: what guidance still has to do can be read only from a run"
            " whose noise falls step by step."
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
        raise StepsError(UNGUIDED)
    if not bool(guided[-1]):
        raise StepsError(
            "This run was not guided to its end: watch one without a cutoff, and with a negative prompt for"
            " all steps."
        )
    return least(push_to_come(guidance, trace.sigmas).mean(1).tolist(), push) / steps


def least(left: Sequence[float], push: float = PUSH) -> int:
    """The first number of steps after which `push` or less is to come; left: after 0, 1, ... [steps + 1]."""
    return next(kept for kept, one in enumerate(left) if one <= push)


def _agreement(trace: Trace) -> list[float] | None:
    """Mean over images and phrases at each step."""
    if not trace.is_read:
        return None
    return [float(one) for one in agreement(trace.maps()).mean((1, 2))]


def explain(trace: Trace, share: float, push: float = PUSH) -> str:
    """Why, for people, and what the figures mean; warns where the maps say otherwise."""
    steps = len(trace.sigmas) - 1
    kept = round(share * steps)
    left = push_to_come(trace.guidance(), trace.sigmas).mean(1)
    lines = [
        f"Guide {share:.3g} of the steps, {kept} of {steps}: {(1 - share) / 2:.0%} of the NFE saved.",
        f"Guidance then still has a push of {float(left[kept]):.3f} to come, of {float(left[0]):.3f} in all;"
        f" the limit is {push:g}. {PUSH_SCALE}",
    ]
    agree = _agreement(trace)
    if agree is not None and kept and not math.isnan(agree[kept - 1]):
        found = f"he maps of the phrases agree with their final form by {agree[kept - 1]:.2f}"
        settled = agree[kept - 1] >= SETTLED
        lines.append(f"T{found}, which is good." if settled else f"Warning: t{found}: {AGREEMENT_SCALE}.")
    return "\n".join(lines)


def scales(trace: Trace, image: int) -> list[str]:
    """What the figures of image `image` of a watched run mean, for people: of a fully guided run also after
    which step little push is to come."""
    if not trace.guided:
        return [UNGUIDED]
    lines = []
    guidance = trace.guidance()[:, image]
    if trace.falls and bool((guidance > 0).all()):
        left = push_to_come(guidance[:, None], trace.sigmas)[:, 0].tolist()
        kept = least(left)
        lines.append(
            f"After step {kept} a push of {left[kept]:.2f} is still to come, of {left[0]:.2f} in all."
            f" {PUSH_SCALE}"
        )
    if trace.is_read:
        lines.append(f"Agreement of {SETTLED:g} and more is good: {AGREEMENT_SCALE}.")
    return lines

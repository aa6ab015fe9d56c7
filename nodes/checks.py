"""What each input must be. ComfyUI checks values that are typed, not those that come over a link."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from comfy_api.latest import io

from ..guidance.trace import Trace
from ..tickets.bank.bank import TicketBank
from ..tickets.layout.regions import SizedRegions
from ..trial.record import Record

LONGEST_SHOWN = 60
# In characters; a text encoder takes minutes for more.
PROMPTS = ("prompt", "end_prompt", "negative", "template", "phrases")
LONGEST_PROMPT, LONGEST_TEXT = 10_000, 200_000


class InputError(ValueError):
    """An input that a node cannot use; the message names it and what to change."""


def check(inputs: Sequence[io.Input], given: Mapping[str, Any]) -> None:
    """InputError names the first input whose value is of another kind than it says, or out of its range."""
    for one in inputs:
        value = given.get(one.id)
        if value is None:
            if one.id in given and not one.optional and not isinstance(one, io.DynamicCombo.Input):
                raise InputError(f"{one.id} is empty: {_needed(one)}.")
        elif isinstance(one, io.DynamicCombo.Input):
            _check_option(one, value)
        elif isinstance(one, io.Autogrow.Input):
            _check_each(one, value)
        elif complaint := _complaint(one, value):
            raise InputError(complaint)


def _check_option(one: io.DynamicCombo.Input, value: Any) -> None:
    """A dynamic combo's own value is checked by who reads it."""
    if isinstance(value, Mapping):
        behind: Sequence[io.Input] = next((o.inputs for o in one.options if o.key == value.get(one.id)), ())
        check(behind, value)


def _check_each(one: io.Autogrow.Input, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise InputError(f"{one.id} is {_shown(value)}: {_needed(one.template.input)}.")
    for name, part in value.items():
        if part is not None and (complaint := _complaint(one.template.input, part)):
            raise InputError(f"{name}: {complaint}")


def _complaint(one: io.Input, value: Any) -> str:
    """What is wrong with a value; empty if nothing is."""
    if isinstance(one, (io.Int.Input, io.Float.Input)):
        return _of_a_number(one, value)
    if isinstance(value, str) and not isinstance(one, io.Combo.Input):
        return (
            _of_a_text(one.id, value) if "STRING" in str(one.get_io_type()) else _of_another_kind(one, value)
        )
    if isinstance(one, (io.String.Input, io.Combo.Input)):
        return "" if isinstance(value, str) else _of_another_kind(one, value)
    kinds = str(one.get_io_type()).split(",")
    if all(kind in FITS for kind in kinds) and not any(FITS[kind](value) for kind in kinds):
        if isinstance(samples := _samples(value), torch.Tensor) and 0 in samples.shape:
            return f"{one.id} is empty, of shape {tuple(samples.shape)}: {_needed(one)}."
        return _of_another_kind(one, value)
    if kinds == ["CONDITIONING"] and not all(_finite(part[0]) for part in value):
        return f"{one.id} contains NaN or Inf, or no tokens: encode the prompt again."
    if kinds == ["SIGMAS"] and not _finite(value):
        return f"{one.id} contains NaN or Inf: connect the noise levels of a scheduler."
    return ""


def _finite(value: Any) -> bool:
    """Of a tensor: it has values, and all of them are numbers. Whatever else there is passes."""
    if not isinstance(value, torch.Tensor):
        return True
    return bool(value.numel()) and bool(torch.isfinite(value).all())


def _of_another_kind(one: io.Input, value: Any) -> str:
    return f"{one.id} is {_shown(value)}: {_needed(one)}."


def _of_a_text(name: str, text: str) -> str:
    longest = LONGEST_PROMPT if name in PROMPTS else LONGEST_TEXT
    if len(text) > longest:
        return f"{name} has {len(text)} characters; at most {longest} are read."
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"{name} has an incomplete character at position {error.start + 1}: type it again."
    return ""


def _of_a_number(one: Any, value: Any) -> str:
    whole = isinstance(one, io.Int.Input)
    if not isinstance(value, numbers.Integral if whole else numbers.Real):
        return _of_another_kind(one, value)
    low, high = one.min, one.max
    if not whole and not math.isfinite(value) or not (low <= value <= high):
        return f"{one.id} is {_shown(value)}; it must be between {_figure(low)} and {_figure(high)}."
    return ""


def _needed(one: io.Input) -> str:
    """What to do about an input without a value of its kind."""
    if isinstance(one, io.Int.Input):
        return "a whole number is needed"
    if isinstance(one, io.Float.Input):
        return "a number is needed"
    if isinstance(one, io.String.Input):
        return "text is needed"
    if isinstance(one, io.Combo.Input):
        return "choose one of its options"
    kinds = [NAMES.get(kind, kind) for kind in str(one.get_io_type()).split(",")]
    return f"connect {' or '.join(dict.fromkeys(kinds))}"


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _shown(value: Any) -> str:
    """A value in an error: figures and short texts as they are, of others the kind."""
    if isinstance(value, str) and len(value) <= LONGEST_SHOWN:
        return repr(value)
    if isinstance(value, numbers.Real) and len(f"{value}") <= LONGEST_SHOWN:
        return f"{value}"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"of type {type(value).__name__}"


def _samples(value: Any) -> Any:
    return value.get("samples") if isinstance(value, Mapping) else value


def _latent(value: Any) -> bool:
    """Tensors of several kinds in one latent are not torch's own, and pass."""
    samples = _samples(value) if isinstance(value, Mapping) else None
    if isinstance(samples, torch.Tensor):
        return samples.dim() >= 3 and bool(samples.numel()) and samples.is_floating_point()
    return hasattr(samples, "shape")


def _tensor(*dimensions: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, torch.Tensor) and value.dim() in dimensions and bool(value.numel())


def _conditioning(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(
            isinstance(part, (list, tuple)) and len(part) >= 2 and isinstance(part[1], Mapping)
            for part in value
        )
    )


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


FITS: dict[str, Callable[[Any], bool]] = {
    "STRING": _is(str),
    "MODEL": _has("model", "model_options", "clone"),
    "CLIP": _has("tokenize", "clone"),
    "VAE": _has("decode"),
    "LATENT": _latent,
    "IMAGE": _tensor(4),
    "MASK": _tensor(2, 3, 4),
    "CONDITIONING": _conditioning,
    "NOISE": _has("generate_noise"),
    "SIGMAS": _tensor(1),
    "SAMPLER": _has("sample"),
    "GUIDER": _has("sample"),
    "BOUNDING_BOX": lambda value: isinstance(value, (Mapping, list, tuple)),
    "ARRAY": lambda value: isinstance(value, (Mapping, list, tuple)),
    "TICKET_BANK": _is(TicketBank),
    "TICKET_REGIONS": _is(SizedRegions),
    "TICKET_STEPS": _is(Trace),
    "LAYOUT_TRIAL": lambda value: (
        isinstance(value, (list, tuple)) and bool(value) and all(isinstance(r, Record) for r in value)
    ),
}
"""By the type of a socket: whether a value is what other nodes give for it."""

NAMES = {
    "STRING": "a text",
    "BOUNDING_BOX": "boxes",
    "ARRAY": "boxes",
    "IMAGE": "an image",
    "MASK": "a mask",
    "LATENT": "a latent with at least one image",
    "TICKET_BANK": "a ticket bank",
    "TICKET_REGIONS": "ticket regions",
    "TICKET_STEPS": "watched of Attention over Steps Report",
    "LAYOUT_TRIAL": "trial of Layout Trial",
}

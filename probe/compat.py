"""Patches on a MODEL: which are other packs', and what they are called."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

PACK = __package__.rsplit(".", 1)[0] if __package__ else ""


def name_of(function: Any) -> str:
    """Of a patch, for people: the class that it belongs to, else the function that it was made in."""
    function = _unwrapped(function)
    owner = getattr(function, "__self__", None)
    name = type(owner).__name__ if owner is not None and not isinstance(owner, type) else None
    return name or getattr(function, "__qualname__", type(function).__name__).split(".")[0]


def is_ours(function: Any) -> bool:
    """Whether a patch was made in this pack."""
    function = _unwrapped(function)
    owner = getattr(function, "__self__", function)
    return str(getattr(owner, "__module__", "")).startswith(f"{PACK}.")


def others_on(model: Any) -> list[str]:
    """Names of the patches on a MODEL that may change what the model sees or when it runs, each once."""
    found = (name_of(f) for f in _functions(model) if not is_ours(f))
    return list(dict.fromkeys(found))


def _unwrapped(function: Any) -> Any:
    """What a partial calls."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _functions(model: Any) -> Iterator[Any]:
    options = model.model_options
    transformer = options.get("transformer_options", {})
    for patches in transformer.get("patches", {}).values():
        yield from patches
    for replacements in transformer.get("patches_replace", {}).values():
        yield from replacements.values()
    for keys in model.wrappers.values():
        for wrappers in keys.values():
            yield from wrappers
    for name in ("model_function_wrapper", "sampler_calc_cond_batch_function"):
        if name in options:
            yield options[name]
    yield from (value for name, value in model.object_patches.items() if name.startswith("diffusion_model"))

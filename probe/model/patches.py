"""What a patch is called and set to, the same in every session: by names and settings, never by identity."""

from __future__ import annotations

import dis
import functools
import inspect
import re
from collections.abc import Collection, Iterator
from enum import Enum
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch

DEEPEST = 8
# Methods by which lists, sets and dicts are changed.
CHANGERS = frozenset(("append", "extend", "insert", "add", "update", "setdefault", "pop", "clear"))


def described(*patches: Any) -> Iterator[str | torch.Tensor]:
    """Names, numbers and tensors that tell patches apart.

    Functions by their names, and what they were made with: the values they enclose, partial arguments and
    defaults. Of an object's attributes, and of lists and dicts, numbers with a fraction, strings, and tensors
    that have names only: counters and caches change from run to run. Neither does an enclosed variable count
    into which a function stores, or to which it appends.
    """
    rebound = {cell for patch in patches for function in _functions(patch) for cell in _rebound(function)}
    for patch in patches:
        yield from _described(patch, rebound)


def name_of(thing: Any) -> str:
    """Module and name of a class or function; of other packs' modules without the path of their folder."""
    module = re.split(r"[/\\]", str(getattr(thing, "__module__", "")))[-1]
    return f"{module}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def key_of(key: Any) -> str:
    """A dict's key as text."""
    if isinstance(key, tuple):
        return f"({', '.join(map(key_of, key))})"
    return repr(key) if isinstance(key, (str, int, float, type(None))) else name_of(type(key))


def _described(
    value: Any, rebound: Collection[int], loose: bool = False, depth: int = 0
) -> Iterator[str | torch.Tensor]:
    """loose: in something that may be a counter or a cache."""
    if depth > DEEPEST:
        return
    if isinstance(value, (float, str)) or (not loose and isinstance(value, (int, Enum, torch.dtype))):
        yield str(value) if isinstance(value, (Enum, torch.dtype)) else repr(value)
    elif isinstance(value, torch.Tensor):
        if not loose:
            yield value
    elif isinstance(value, (list, tuple)):
        within = loose or isinstance(value, list)
        for part in value:
            yield from _described(part, rebound, within, depth + 1)
    elif isinstance(value, dict):
        for key, part in sorted(value.items(), key=lambda item: key_of(item[0])):
            # What a patch was made with has names; a cache's keys are numbers or objects.
            cached = not (isinstance(key, str) and isinstance(part, torch.Tensor))
            if found := list(_described(part, rebound, cached, depth + 1)):
                yield key_of(key)
                yield from found
    elif isinstance(value, functools.partial):
        yield from _described((value.func, value.args), rebound, loose, depth + 1)
        yield from _described(value.keywords, rebound, loose, depth + 1)
    elif isinstance(value, MethodType):
        yield name_of(value.__func__)
        yield from _described(value.__self__, rebound, loose, depth + 1)
    elif isinstance(value, FunctionType):
        yield name_of(value)
        yield from _described((value.__defaults__, value.__kwdefaults__), rebound, loose, depth + 1)
        for cell in value.__closure__ or ():
            if id(cell) not in rebound and (enclosed := _contents(cell)) is not value:
                yield from _described(enclosed, rebound, loose, depth + 1)
    elif isinstance(value, type) or inspect.isroutine(value):
        yield name_of(value)
    elif value is not None:
        yield from _object(value, rebound, loose, depth)


def _object(value: Any, rebound: Collection[int], loose: bool, depth: int) -> Iterator[str | torch.Tensor]:
    yield name_of(type(value))
    if isinstance(getattr(value, "weights", None), (list, tuple)):
        # A LoRA's or another adapter's.
        yield from _described(tuple(value.weights), rebound, False, depth + 1)
    elif not loose and not isinstance(value, torch.nn.Module) and not hasattr(value, "model_options"):
        for name, part in sorted(getattr(value, "__dict__", {}).items()):
            if isinstance(part, (float, str, list, tuple, dict)):
                yield from _described({name: part}, rebound, True, depth + 1)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _functions(value: Any, depth: int = 0) -> Iterator[FunctionType]:
    """The functions among patches in lists, dicts and partials."""
    if depth > DEEPEST:
        return
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, MethodType):
        yield from _functions(value.__func__, depth + 1)
    elif isinstance(value, functools.partial):
        yield from _functions((value.func, *value.args), depth + 1)
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _functions(part, depth + 1)


def _rebound(function: FunctionType) -> Iterator[int]:
    """Identities of the enclosed variables that a function stores into, or adds to, when it runs."""
    stored = _stored(function.__code__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name in stored:
            yield id(cell)


def _stored(code: CodeType) -> set[str]:
    """Names of variables that are set, or changed by a method of lists, sets or dicts."""
    names, before = set[str](), None
    for now in dis.get_instructions(code):
        if now.opname == "STORE_DEREF":
            names.add(now.argval)
        called = now.opname in ("LOAD_METHOD", "LOAD_ATTR") and now.argval in CHANGERS
        if called and before is not None and before.opname == "LOAD_DEREF":
            names.add(before.argval)
        before = now
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            names |= _stored(inner)
    return names

"""Ticket banks as safetensors files: written whole or not at all, read with suspicion and without a map."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import reprlib
import shutil
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from io import BufferedReader
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from safetensors.torch import save_file

from ..noise import SEED_RANGE
from ..prompts import MOST
from ..whole import replacing, require_writable, sweep
from ..words import LONGEST_NAME
from .bank import BankError, Recipe, TicketBank

FORMAT = 2
FLOATS = ("F32", "F16")
DTYPES = {
    "blocks": FLOATS,
    "attention": FLOATS,
    "low": FLOATS,
    "high": FLOATS,
    "noise": ("I32",),
    "cell": ("I32",),
    "measured": ("I32",),
    "seeds": ("I64",),
}
NUMPY = {"F32": "<f4", "F16": "<f2", "I32": "<i4", "I64": "<i8"}
# What a file may take beside twice its size: its header, as Python's objects, and its seeds.
LONGEST_HEADER = 4 * 2**20
PLACES = 2**13
MOST_VALUES = 2**18
MOST_NOISES = 2**20
MOST_ROWS = 2**14
MOST_DIMENSIONS = 4
MOST_BASELINE = 2**10
PIECE = 2**18
MOST_SHOWN = 200
SETTLED = 2.0

Stamp = tuple[Path, int, int, int, int]
_loaded: WeakValueDictionary[Stamp, TicketBank] = WeakValueDictionary()


class SaveError(BankError, OSError):
    """A bank that could not be written where it was to be; what is there is as it was."""


def _signed(seed: int) -> int:
    """As an int64: not every torch has unsigned ones."""
    return seed - SEED_RANGE if seed >= SEED_RANGE // 2 else seed


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except SaveError:
        raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SaveError(f"{path.name} cannot be written in {path.parent}: {reason}.") from None


def check_path(path: Path, room: int = 0) -> None:
    """SaveError unless a bank can be written to `path`, found out by writing; leaves nothing behind.

    Makes the folder. A file that is there is not touched. room: bytes that must be free.
    """
    path = Path(os.path.realpath(path))
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        if path.is_dir():
            raise SaveError(f"{path.name} cannot be written in {path.parent}: a folder has this name.")
        if path.exists() and not os.access(path, os.W_OK):
            raise SaveError(f"{path.name} in {path.parent} is write-protected.")
        require_writable(path)
        free = shutil.disk_usage(path.parent).free
    if free < room:
        raise SaveError(
            f"{path.name} will take {room / 1e6:,.0f} MB or more, and {path.parent} has {free / 1e6:,.0f} MB"
            " left."
        )


def save_bank(bank: TicketBank, path: Path, half: bool = False) -> None:
    """Write safetensors: whole or not at all. SaveError when it cannot be; an older file then stays.

    half: blocks and attention in float16; else both are kept exactly.
    """
    header = {
        "format": str(FORMAT),
        "categories": json.dumps(bank.categories),
        "prompts": json.dumps(bank.prompts),
        "recipe": json.dumps(asdict(bank.recipe)),
        "made_by": bank.made_by,
    }
    text = json.dumps(header)
    # As safetensors writes it, within its own JSON.
    if len(json.dumps(text)) > LONGEST_HEADER - PLACES or _values(text) > MOST_VALUES:
        raise SaveError(
            f"{path.name} cannot be written: its {len(bank.prompts)} prompts of up to"
            f" {max(map(len, bank.prompts))} characters are too much text for a bank."
        )
    if len(bank.seeds) > MOST_NOISES:
        raise SaveError(f"{path.name} cannot be written: {len(bank.seeds)} noises are too many for a bank.")
    dtype = torch.float16 if half else torch.float32
    tensors = {
        "blocks": bank.blocks.to(dtype).contiguous(),
        "attention": bank.attention.to(dtype).contiguous(),
        # Rounded like the attention they are the extremes of, so that scores stay in 0..1.
        "low": bank.low.to(dtype).contiguous(),
        "high": bank.high.to(dtype).contiguous(),
        "noise": bank.noise.to(torch.int32).contiguous(),
        "cell": bank.cell.to(torch.int32).contiguous(),
        "measured": torch.tensor(bank.measured, dtype=torch.int32).reshape(-1, 2),
        "seeds": torch.tensor([_signed(s) for s in bank.seeds], dtype=torch.int64),
    }
    path = Path(os.path.realpath(path))
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        with replacing(path) as temporary:
            save_file(tensors, str(temporary), metadata={"ticket_bank": text})


def _shown(value: object) -> str:
    """A value of a file in an error: one line, short whatever it is."""
    return reprlib.repr(value)


def _for_people(value: object) -> str:
    """A text of a file that nothing depends on, as one line of a length that can be shown."""
    text = "".join(c if c.isprintable() else " " for c in str(value)[: 2 * MOST_SHOWN])
    return " ".join(text.split())[:MOST_SHOWN]


def _can_be_shown(text: str) -> bool:
    """Whether it is one line without what steers a terminal or is half a letter."""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in its header")
    return found


def _values(text: str | bytes) -> int:
    """How many values JSON may have: a few bytes of it are an object of many."""
    marks: tuple[Any, ...] = (b"[", b"{", b",") if isinstance(text, bytes) else ("[", "{", ",")
    return sum(text.count(mark) for mark in marks)


def _json(text: Any) -> Any:
    """JSON of a file; ValueError or RecursionError for what is none."""
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"its header has {_shown(text)} instead of a string")
    if _values(text) > MOST_VALUES:
        raise ValueError(f"its header has more than {MOST_VALUES} values")
    return json.loads(text, object_pairs_hook=_once)


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise TypeError(f"{_shown(value)} in its header is not a list of strings")
    for text in value:
        text.encode("utf-8")
        if not text.strip() or not _can_be_shown(text):
            raise ValueError(f"{_shown(text)} in its header is not a line of text")
    return tuple(value)


def _categories(header: dict[str, Any]) -> tuple[str, ...]:
    """As many and as long as can be collected: what a page or a report shows of a bank has an end."""
    categories = _strings(_json(header["categories"]))
    longest = max(map(len, categories), default=0)
    if len(categories) > MOST or longest > LONGEST_NAME:
        raise ValueError(f"it has {len(categories)} categories of up to {longest} characters")
    return categories


def _recipe(value: Any) -> Recipe:
    """A recipe with every field of its type and every size positive; an unknown latent scale is 0, and so may
    the baseline be.
    """
    kinds = {f.name: {"int": int, "float": float, "str": str}[str(f.type)] for f in fields(Recipe)}
    if not isinstance(value, dict):
        raise TypeError(f"its recipe is {_shown(value)}")
    if unknown := [name for name in value if name not in kinds]:
        raise TypeError(f"its recipe has an unknown entry {_shown(unknown[0])}")
    if missing := [f.name for f in fields(Recipe) if f.default is MISSING and f.name not in value]:
        raise TypeError(f"its recipe lacks {missing[0]}")
    for name, given in value.items():
        fits = isinstance(given, kinds[name]) or (kinds[name] is float and isinstance(given, int))
        if not fits or isinstance(given, bool):
            raise TypeError(f"{name} of its recipe is {_shown(given)}")
        zero = name in ("latent_scale", "baseline") and given == 0
        most = 1 + MOST_BASELINE if name == "baseline" else 1e6
        if isinstance(given, (int, float)) and not (zero or 0 < given < most):
            raise ValueError(f"{name} of its recipe is {_shown(given)}")
        if isinstance(given, str) and not _can_be_shown(given):
            raise ValueError(f"{name} of its recipe is {_shown(given)}")
    return Recipe(**value)


class _File:
    """An open safetensors file, read by plain reads: a file that changes cannot harm this process."""

    def __init__(self, file: BufferedReader) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(self._read(8), "little")
        if length > min(self.size - 8, LONGEST_HEADER):
            raise ValueError(f"its header would take {length} bytes")
        self.start = 8 + length
        self.header = _json(self._read(length))
        if not isinstance(self.header, dict):
            raise TypeError("its header is not an object")

    def _read(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            raise ValueError("it ends too early")
        return data

    def metadata(self) -> Any:
        """What the bank says of itself; None in a safetensors file that holds none."""
        metadata = self.header.get("__metadata__", {})
        if not isinstance(metadata, dict):
            raise TypeError("its metadata are not an object")
        return _json(metadata["ticket_bank"]) if "ticket_bank" in metadata else None

    def _entry(self, name: str) -> tuple[str, list[int], tuple[int, int]]:
        """Type, shape, and first and last + 1 byte of a tensor."""
        entry = self.header.get(name)
        if not isinstance(entry, dict):
            raise TypeError(f"it has no {name}")
        kind = entry.get("dtype")
        if kind not in DTYPES[name]:
            raise TypeError(f"{name} is of type {_shown(kind)}".replace("'", ""))
        shape, offsets = (_sizes(name, entry.get(key)) for key in ("shape", "data_offsets"))
        size = math.prod(shape) * np.dtype(NUMPY[kind]).itemsize
        if len(offsets) != 2 or offsets[1] - offsets[0] != size or self.start + offsets[1] > self.size:
            raise ValueError(f"{name} of shape {_shown(shape)} is not in it")
        return kind, shape, (offsets[0], offsets[1])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Those of a bank, in memory of their own; float16 as float32."""
        entries = {name: self._entry(name) for name in DTYPES}
        spans = sorted((*span, name) for name, (_, _, span) in entries.items() if span[0] < span[1])
        for (_, end, name), (start, _, other) in itertools.pairwise(spans):
            # Else a small file could fill the memory, many times over.
            if start < end:
                raise ValueError(f"{name} and {other} are in the same place")
        for name, columns, most in (("measured", [2], MOST_ROWS), ("seeds", [], MOST_NOISES)):
            shape = entries[name][1]
            if shape[1:] != columns or not shape or shape[0] > most:
                raise ValueError(f"{name} has shape {tuple(shape)}")
        return {name: self._tensor(kind, shape, span[0]) for name, (kind, shape, span) in entries.items()}

    def _tensor(self, kind: str, shape: list[int], start: int) -> torch.Tensor:
        values = np.empty(shape, NUMPY[kind].replace("f2", "f4"))
        flat = values.reshape(-1)
        self.file.seek(self.start + start)
        if kind == "F16":
            # Piece by piece: both of them whole would be more than the result.
            for first in range(0, len(flat), PIECE):
                piece = np.empty(min(PIECE, len(flat) - first), NUMPY[kind])
                self._fill(piece)
                flat[first : first + PIECE] = piece
        else:
            self._fill(flat)
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))

    def _fill(self, values: np.ndarray) -> None:
        if self.file.readinto(values.view(np.uint8).data) < values.nbytes:
            raise ValueError("it ends too early")


def _sizes(name: str, value: Any) -> list[int]:
    fits = isinstance(value, list) and len(value) <= MOST_DIMENSIONS
    if not fits or not all(type(n) is int and 0 <= n < 2**63 for n in value):
        raise TypeError(f"{name} has {_shown(value)} instead of sizes")
    return list(value)


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """The file of a bank; BankError in one sentence for whatever is wrong with it."""
    name = _for_people(path.name)
    try:
        # A pipe, or a link to a device, would never end.
        if path.exists() and not path.is_file():
            raise BankError("this is no file.")
        with path.open("rb") as file:
            yield _File(file)
    except FileNotFoundError:
        raise BankError(f"No ticket bank at {path.with_name(name)}.") from None
    except BankError as error:
        raise BankError(f"{name}: {error}") from None
    except RecursionError:
        raise BankError(f"{name} is damaged (its header is nested too deeply).") from None
    except MemoryError:
        raise BankError(f"{name} does not fit into memory.") from None
    except OSError as error:
        raise BankError(f"{name} cannot be read ({error.strerror or error}).") from None
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise BankError(f"{name} is damaged ({' '.join(reason.split())}).") from None


def _header(file: _File) -> dict[str, Any]:
    """What a bank says of itself, of a format that can be read here; BankError names another."""
    header = file.metadata()
    if header is None:
        raise BankError("this is no ticket bank.")
    if not isinstance(header, dict):
        raise TypeError(f"its header is {_shown(header)}")
    given = header["format"]
    if not isinstance(given, str) or not re.fullmatch("[0-9]{1,9}", given):
        raise TypeError(f"its format is {_shown(given)}")
    version = int(given)
    if version > FORMAT:
        raise BankError(f"format {version} is newer than this pack's {FORMAT}.")
    if version < FORMAT:
        raise BankError(f"this is a ticket bank of the old format {version}.")
    return header


def bank_facts(path: Path) -> tuple[tuple[str, ...], int]:
    """Categories and block side in latent pixels, from a bank's header alone; BankError if it is none."""
    with _opened(path) as file:
        header = _header(file)
        return _categories(header), _recipe(_json(header["recipe"])).block


def load_bank(path: Path) -> TicketBank:
    """Read a bank into memory; BankError in one sentence when it is missing, damaged or none.

    The file may be changed or replaced at any time after that. As long as a bank is in use, its file
    is not read again if it has not changed: all share one.
    """
    with _opened(path) as file:
        before = _stamp(path, file.file)
        if known := _loaded.get(before):
            return known
        bank = _read_bank(file)
        if _stamp(path, file.file) != before:
            raise ValueError("it was changed while it was read")
        # A file may change twice within one tick of its clock: one that is new is read again.
        if abs(time.time() - before[1] / 1e9) > SETTLED:
            _loaded[before] = bank
        return bank


def _stamp(path: Path, file: BufferedReader) -> Stamp:
    return path, *_identity(os.fstat(file.fileno()))


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def stamp(path: Path) -> tuple[int, ...]:
    """What changes whenever a file is written; empty if there is none."""
    try:
        return _identity(path.stat())
    except OSError:
        return ()


def _read_bank(file: _File) -> TicketBank:
    header = _header(file)
    recipe = _recipe(_json(header["recipe"]))
    categories, prompts = _categories(header), _strings(_json(header["prompts"]))
    tensors = file.tensors()
    return TicketBank(
        categories=categories,
        prompts=prompts,
        measured=tuple((c, p) for c, p in tensors["measured"].tolist()),
        seeds=tuple(int(s) % SEED_RANGE for s in tensors["seeds"].numpy()),
        blocks=tensors["blocks"],
        noise=tensors["noise"],
        cell=tensors["cell"],
        attention=tensors["attention"],
        low=tensors["low"],
        high=tensors["high"],
        recipe=recipe,
        made_by=_for_people(header.get("made_by", "")),
    )

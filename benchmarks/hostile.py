"""What nobody means to write: bank files, texts and layouts by Hypothesis; for tests and benchmarks."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

# Whole numbers at the borders of what types, files and machines hold.
EDGES = (
    *(-1, 0, 1, 2, 3, 4, 5, 7, 8, 16, 48, 255, 256, 4095, 4096, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 10**12, 10**400, -(2**63)),
)
NUMBERS = st.sampled_from(EDGES) | st.integers(-(2**70), 2**70) | st.floats(width=64)
ODD_TEXTS = (
    *(
        "",
        " ",
        "x",
        "a\nb",
        "a\x00b",
        "\x1b[2J",
        "\x9b2J",
        "\u202etxt",
        "\u2028",
        "\ud800",
        "\ufeff",
        "\uff21",
    ),
    *(
        "cat",
        "CAT",
        "cat.",
        "\u57ce",
        "\u0627\u0644",
        "\U0001f469\u200d\U0001f680",
        "e\u0301",
        "../../x",
        "CON",
    ),
    *("NaN", "null", "{}", "[]", "__proto__", "__class__", "%s%n", "{0.__class__}", "y" * 5000, "\u0662"),
)
TEXTS = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "U8", "BOOL", "F8_E4M3", "U64", "C64", "f32")
TENSORS = ("blocks", "attention", "low", "high", "noise", "cell", "measured", "seeds")
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
DEEP = tuple(b"[" * 90_000 + x for x in (b"", b"1", b"]" * 90_000)) + (b'{"a":' * 60_000, b'[{"a":' * 9)
WIDE = (
    b"[" + b"{}," * 90_000 + b"{}]",
    b"[" + b"0," * 300_000 + b"0]",
    b"9" * 5000,
    b'"' + b"\\u0041" * 9000,
)


@dataclass(frozen=True)
class Original:
    """A bank as it was saved: its file's header and data."""

    header: dict[str, Any]
    data: bytes

    @classmethod
    def of(cls, raw: bytes) -> Original:
        (length,) = struct.unpack("<Q", raw[:8])
        return cls(json.loads(raw[8 : 8 + length]), raw[8 + length :])


def _encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _place(draw: Callable[[Any], Any], whole: Any) -> tuple[Any, Any]:
    """A container within JSON, and a key of it."""
    while True:
        keys = list(whole) if isinstance(whole, dict) else list(range(len(whole)))
        if not keys:
            return whole, None
        key = draw(st.sampled_from(keys))
        if not isinstance(whole[key], (dict, list)) or draw(st.booleans()):
            return whole, key
        whole = whole[key]


def _change(draw: Callable[[Any], Any], whole: Any) -> None:
    """Replaces, removes, adds, renames or swaps something at any depth."""
    where, key = _place(draw, whole)
    kind = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add", "move")))
    if key is None or kind == "add":
        if isinstance(where, dict):
            where[draw(TEXTS)] = draw(VALUES)
        else:
            where.append(draw(VALUES))
    elif kind == "replace":
        where[key] = draw(VALUES)
    elif kind == "remove":
        del where[key]
    elif isinstance(where, dict):
        where[draw(TEXTS)] = where.pop(key)
    else:
        where.insert(0, where.pop(key))


def _of_a_tensor(draw: Callable[[Any], Any], header: dict[str, Any], size: int) -> None:
    """Another type, shape or place of one of the tensors, at times such that it fits the file again."""
    entry = header.get(draw(st.sampled_from(TENSORS)))
    if not isinstance(entry, dict):
        return
    kind = draw(st.sampled_from(("dtype", "shape", "offsets", "one of shape", "moved", "another's")))
    if kind == "dtype":
        entry["dtype"] = draw(st.sampled_from(DTYPES) | LEAVES)
    elif kind == "shape":
        entry["shape"] = draw(st.lists(NUMBERS, max_size=6))
    elif kind == "offsets":
        entry["data_offsets"] = draw(st.lists(st.sampled_from((*EDGES, size, size + 1)), max_size=3))
    elif kind == "one of shape":
        # Another change may have left nothing of it.
        if isinstance(shape := entry.get("shape"), list) and shape:
            shape[draw(st.integers(0, len(shape) - 1))] = draw(NUMBERS)
    elif kind == "moved":
        if isinstance(offsets := entry.get("data_offsets"), list) and all(type(n) is int for n in offsets):
            by = draw(st.integers(-64, 64))
            entry["data_offsets"] = [n + by for n in offsets]
    else:
        header[draw(st.sampled_from(TENSORS))] = dict(entry)


def _raw_json(draw: Callable[[Any], Any], text: bytes) -> bytes:
    """JSON with what json.dumps does not write: names that are there twice, depth, width, other encodings."""
    kind = draw(st.sampled_from(("twice", "deep", "wide", "bytes", "encoding", "spaces", "tail")))
    if kind == "twice" and text.startswith(b"{") and (again := json.loads(text)):
        name = draw(st.sampled_from(list(again)))
        value = again[name] if draw(st.booleans()) else draw(VALUES)
        return b"{" + _encoded(name) + b":" + _encoded(value) + b"," + text[1:]
    if kind in ("deep", "wide"):
        odd = draw(st.sampled_from(DEEP if kind == "deep" else WIDE))
        return odd if draw(st.booleans()) else b'{"x":' + odd + b"," + text[1:]
    if kind == "encoding":
        other = draw(st.sampled_from(("utf-16", "utf-32-be", "utf-8-sig")))
        return text.decode("ascii").encode(other)
    if kind == "spaces":
        return b" " * draw(st.integers(0, 3000)) + text + b"\x00" * draw(st.integers(0, 3))
    if kind == "tail":
        return text + draw(st.binary(max_size=8))
    return _bytes(draw, text)


def _bytes(draw: Callable[[Any], Any], text: bytes) -> bytes:
    """Some bytes changed, put in or taken out."""
    if not text:
        return draw(st.binary(max_size=64))
    at = draw(st.integers(0, len(text) - 1))
    gone = draw(st.sampled_from((0, 1, 1, 1, 4, 200)))
    return text[:at] + draw(st.binary(max_size=8)) + text[at + gone :]


def _numbers(draw: Callable[[Any], Any], original: Original, data: bytes) -> bytes:
    """Values of a tensor changed where they are: NaN, infinities, indices out of range, one seed twice."""
    entry = original.header[draw(st.sampled_from(TENSORS))]
    start, stop = entry["data_offsets"]
    width = 8 if entry["dtype"] == "I64" else 2 if entry["dtype"] == "F16" else 4
    if stop <= start:
        return data
    at = start + width * draw(st.integers(0, (stop - start) // width - 1))
    patterns = (b"\xff" * 8, b"\x00" * 8, b"\x00\x00\x80\x7f" * 2, b"\x00\x7c" * 4, b"\xff\xff\xff\x7f" * 2)
    value = draw(st.sampled_from(patterns) | st.binary(min_size=8, max_size=8))
    return data[:at] + value[:width] + data[at + width :]


@st.composite
def bank_files(draw: Callable[[Any], Any], originals: tuple[Original, ...]) -> bytes:
    """The content of a file that began as a bank: one to three things of it are not as they were."""
    original = draw(st.sampled_from(originals))
    outer, data = json.loads(json.dumps(original.header)), original.data
    inner = json.loads(outer["__metadata__"]["ticket_bank"])
    deep = {name: json.loads(inner[name]) for name in ("recipe", "categories", "prompts")}
    raw_inner = raw_outer = raw_deep = ""
    cut: int | None = None
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        kind = draw(st.sampled_from(KINDS))
        if kind == "container":
            _change(draw, outer)
        elif kind == "tensor":
            _of_a_tensor(draw, outer, len(data))
        elif kind == "header":
            _change(draw, inner)
        elif kind == "deep":
            _change(draw, deep)
        elif kind == "numbers":
            data = _numbers(draw, original, data)
        elif kind == "data":
            data = _bytes(draw, data)
        elif kind == "cut":
            cut = draw(st.integers(0, len(data))) * (1 if draw(st.booleans()) else -1)
        elif kind == "raw container":
            raw_outer = "raw"
        elif kind == "raw header":
            raw_inner = "raw"
        elif kind == "raw deep":
            raw_deep = draw(st.sampled_from(("recipe", "categories", "prompts")))
    for name, value in deep.items():
        if isinstance(inner, dict) and isinstance(inner.get(name), str):
            text = _encoded(value)
            inner[name] = (_raw_json(draw, text) if name == raw_deep else text).decode("latin-1")
    text = _encoded(inner)
    metadata = outer.get("__metadata__")
    if isinstance(metadata, dict) and "ticket_bank" in metadata:
        metadata["ticket_bank"] = (_raw_json(draw, text) if raw_inner else text).decode("latin-1")
    header = _encoded(outer)
    if raw_outer:
        header = _raw_json(draw, header)
    length = len(header)
    if draw(st.integers(0, 15)) == 0:
        length = draw(st.sampled_from((0, 1, 7, 2**32, 2**63, 2**64 - 1)) | st.integers(0, 2 * length))
    whole = struct.pack("<Q", length) + header + data
    return whole if cut is None else whole[:cut]


KINDS = (
    *("container", "tensor", "tensor", "header", "deep", "deep", "numbers", "numbers", "data", "cut"),
    *("raw container", "raw header", "raw deep"),
)


TWO = {"regions": [{"category": "cat", "box": [0, 0, 0.5, 1]}, {"category": "sun", "box": [0.5, 0, 1, 1]}]}
# A box's sides as the editor keeps them.
SIDES = st.integers(0, 10**5).map(lambda n: n / 10**5)


@st.composite
def boxes(draw: Callable[[Any], Any]) -> list[float]:
    """Left, top, right, bottom as fractions of the image, of some width and height."""
    x0, x1 = sorted(draw(st.lists(SIDES, min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(SIDES, min_size=2, max_size=2, unique=True)))
    return [x0, y0, x1, y1]


def layouts(names: st.SearchStrategy[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """The entries of the region editor's JSON."""
    return st.lists(st.fixed_dictionaries({"category": names, "box": boxes()}), max_size=6)


@st.composite
def odd_json(draw: Callable[[Any], Any], whole: Any) -> str:
    """JSON in which one to three things are not as they were; at times not even that."""
    whole = json.loads(json.dumps(whole))
    for _ in range(draw(st.sampled_from((1, 1, 2, 3)))):
        _change(draw, whole)
    text = _encoded(whole)
    if draw(st.integers(0, 3)) == 0:
        text = _raw_json(draw, text)
    return text.decode("utf-8", "surrogateescape" if draw(st.booleans()) else "replace")


@st.composite
def odd_lines(draw: Callable[[Any], Any]) -> str:
    """Lines of regions as people write them, and others."""
    colons, spaces = st.sampled_from(":\uff1a=-\u2013,;\t|"), st.sampled_from(("", " ", "  ", ", ", "\u3000"))
    numbers = st.sampled_from(
        ("0", "1", "0.5", ".5", "0,5", "1.", "-1", "1e5", "\uff11", "nan", "9" * 400, "")
    )
    lines = []
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            sides = [str(side).replace(".", draw(st.sampled_from(".,"))) for side in draw(boxes())]
            between = draw(st.sampled_from((" ", ", ", "; ", "  ", "\u3000", "\u3001")))
            line = (
                draw(st.sampled_from(("cat", "a red car", "\u57ce")))
                + draw(colons)
                + " "
                + between.join(sides)
            )
        else:
            line = draw(TEXTS) + draw(spaces) + draw(colons)
            for _ in range(draw(st.sampled_from((4, 4, 4, 3, 5, 0)))):
                line += draw(spaces) + draw(numbers)
        lines.append(line + draw(st.sampled_from(("", " ", "# x", "]", "\r"))))
    return draw(st.sampled_from(("\n", "\r\n", "\u2028"))).join(lines)

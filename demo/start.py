"""Makes ComfyUI, and the pack, importable for the scripts of this folder."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def add_option(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("COMFYUI_DIR") or ROOT / ".comfyui" / "ComfyUI"
    parser.add_argument(
        "--comfyui", type=Path, default=Path(default), help="run with the Python of this ComfyUI"
    )


Part = tuple[int, int]


def add_part(parser: argparse.ArgumentParser, work: str) -> None:
    told = f"of the {work}: 2/4 is every fourth from the second on, so that four can share them"
    parser.add_argument("--part", type=_part, default=(1, 1), help=told)


def _part(text: str) -> Part:
    number, count = map(int, text.split("/"))
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{text}: the first number is 1 to {count}")
    return number, count


def part(of: Part, work: Sequence[Any]) -> Sequence[Any]:
    number, count = of
    return work[number - 1 :: count]


def comfyui(folder: Path, cpu: bool | None = None) -> None:
    """Put ComfyUI on sys.path and let it read its own options.

    cpu: whether to run on it; if not said, unless DEMO_DEVICE is cuda: then in float32, as on the CPU.
    """
    if not (folder / "main.py").exists():
        sys.exit(f"No ComfyUI in {folder}: run scripts/comfyui.py, or give --comfyui DIR.")
    if importlib.util.find_spec("torch") is None:
        sys.exit(f"{sys.executable} has no torch: start this with the Python that runs ComfyUI.")
    sys.path.insert(0, str(folder))
    options = ["--cpu"] if cpu else []
    if cpu is None:
        options = ["--force-fp32"] if os.environ.get("DEMO_DEVICE") == "cuda" else ["--cpu"]
    sys.argv = [sys.argv[0], *options]
    import comfy.options

    comfy.options.enable_args_parsing()


def pack() -> None:
    """Winning Tickets as `winning_tickets`; its folder's own name need not be importable."""
    spec = importlib.util.spec_from_file_location(
        "winning_tickets", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    sys.modules["winning_tickets"] = importlib.util.module_from_spec(spec)

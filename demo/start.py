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


def add_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", default="1/1", help="2/4: the second quarter of the work, for sharing it")


def part(of: str, work: Sequence[Any]) -> Sequence[Any]:
    number, count = map(int, of.split("/"))
    return work[number - 1 :: count]


def comfyui(folder: Path, cpu: bool = True) -> None:
    """Put ComfyUI on sys.path and let it read its own options.

    DEMO_DEVICE=cuda takes a GPU where the CPU is usual, and float32 as there.
    """
    if not (folder / "main.py").exists():
        sys.exit(f"No ComfyUI in {folder}: run scripts/comfyui.py, or give --comfyui DIR.")
    if importlib.util.find_spec("torch") is None:
        sys.exit(f"{sys.executable} has no torch: start this with the Python that runs ComfyUI.")
    sys.path.insert(0, str(folder))
    gpu = os.environ.get("DEMO_DEVICE") == "cuda"
    sys.argv = [sys.argv[0], *(["--force-fp32"] if gpu else ["--cpu"] if cpu else [])]
    import comfy.options

    comfy.options.enable_args_parsing()


def pack() -> None:
    """Winning Tickets as `winning_tickets`; its folder's own name need not be importable."""
    spec = importlib.util.spec_from_file_location(
        "winning_tickets", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    sys.modules["winning_tickets"] = importlib.util.module_from_spec(spec)

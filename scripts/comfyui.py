"""Finds or installs the ComfyUI that the tests and the demo run in.

    python scripts/comfyui.py                  install ComfyUI into .comfyui/, once
    python scripts/comfyui.py --serve          the same, then start it with this pack
    python scripts/comfyui.py --comfyui DIR    use your own ComfyUI, with this Python

Standard library only.
"""

import entry
from entry import SetupError, writing

import argparse
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import comfyui_setup as setup
from installing import Say

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".comfyui"


@dataclass(frozen=True)
class Install:
    """A ComfyUI folder and the Python that runs it."""

    root: Path
    python: Path


def ensure(comfyui: Path | None, home: Path = HOME, say: Say = print) -> Install:
    """The user's own ComfyUI if a folder is given, else the one in `home`, installed if need be."""
    if comfyui is not None:
        return _own(comfyui)
    setup.forget_other_pythons()
    with writing(home, "use a ComfyUI of your own with --comfyui DIR"):
        if not setup.complete(home):
            setup.install(home, say)
    setup.check_starts(home)
    return Install(home / "ComfyUI", setup.venv_python(home))


def from_environment() -> Path | None:
    """The user's own ComfyUI, if there is one in COMFYUI_DIR."""
    named = os.environ.get("COMFYUI_DIR")
    return Path(named) if named else None


def add_option(parser: argparse._ActionsContainer) -> None:
    """The --comfyui option, shared by the scripts."""
    parser.add_argument(
        "--comfyui",
        type=Path,
        metavar="DIR",
        default=from_environment(),
        help="use the ComfyUI in DIR, with the Python that runs this script "
        "(default: $COMFYUI_DIR, else one is installed into .comfyui/)",
    )


def _own(comfyui: Path) -> Install:
    root = comfyui.expanduser().resolve()
    if not (root / "main.py").is_file():
        raise SetupError(f"{root} has no main.py: --comfyui or COMFYUI_DIR must name a ComfyUI folder.")
    version_file = root / "comfyui_version.py"
    text = version_file.read_text(encoding="utf-8") if version_file.is_file() else ""
    if not re.search(r"__version__\s*=\s*['\"]\d", text):
        raise SetupError(
            f"{root} has no comfyui_version.py that tells its version: "
            f"update that ComfyUI ({setup.VERSION} is the one tested)."
        )
    if importlib.util.find_spec("torch") is None:
        raise SetupError(
            f"{sys.executable} has no torch: start this script with the Python that runs the "
            f"ComfyUI in {root}, for example its venv's."
        )
    return Install(root, Path(sys.executable))


def main() -> int:
    parser = argparse.ArgumentParser(description="Find or install ComfyUI, and start it.")
    add_option(parser)
    parser.add_argument("--serve", action="store_true", help="start it with this pack")
    parser.add_argument("--port", type=int, default=8188, help="port to serve on (default 8188)")
    parser.add_argument("--gpu", action="store_true", help="serve on the GPU, not the CPU")
    options = parser.parse_args()
    install = ensure(options.comfyui)
    print(f"ComfyUI: {install.root}\nPython:  {install.python}")
    if options.serve:
        import comfyui_server as server

        try:
            server.serve(install, ROOT, HOME / "serve", options.port, cpu=not options.gpu)
        except server.ServerError as error:
            raise SetupError(str(error)) from error
    return 0


if __name__ == "__main__":
    entry.run_script(main)

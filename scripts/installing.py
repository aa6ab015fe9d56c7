"""Runs pip and uv with a log, and keeps an installation that is interrupted whole.

Every stage of an installation leaves a stamp when it is finished, and only one process installs.
"""

from __future__ import annotations

from entry import RUNNING, SetupError, undisturbed

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

UV = "uv==0.13.9"

Say = Callable[[str], object]


class DiskFull(SetupError):
    """Another installer would not do better."""


def install(home: Path, python: Path, wanted: Sequence[str], say: Say, uv_only: Sequence[str] = ()) -> None:
    """Install `wanted` (pip's arguments) with uv, many times faster, or with pip where uv cannot.

    uv_only: options that only uv has.
    """
    pip = [str(python), "-m", "pip", "install"]
    try:
        run_pip(home, [*pip, UV], say)
        uv = [str(python), "-m", "uv", "pip", "install", "--python", str(python)]
        run_pip(home, [*uv, *uv_only, *wanted], say)
    except DiskFull:
        raise
    except SetupError:
        say(f"  uv could not do it, see {home / 'install.log'}; pip tries")
        run_pip(home, [*pip, *wanted], say)


def run_pip(home: Path, command: Sequence[str], say: Say) -> None:
    """Run a command of pip or uv with its output in home/install.log."""
    log, temp = home / "install.log", home / "tmp"
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(temp),
        "PYTHONIOENCODING": "utf-8",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    started = time.monotonic()
    with log.open("ab") as output:
        begin = output.tell()
        with undisturbed():
            process = subprocess.Popen(
                command,
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
    """Turn pip's or uv's failure into a sentence with the way out."""
    log = home / "install.log"
    if re.search(r"No space left on device|os error 28\b|os error 112\b", output):
        place = min((home, caches()), key=free_gb)
        raise DiskFull(
            f"The disk of {place} is full: free some space and start again, which goes on from here ({log})."
        )
    if "DO NOT MATCH THE HASHES" in output:
        raise SetupError(
            "The download was cut short or is not the expected one, so nothing was unpacked: start again; "
            f"if it comes again, check which package index pip uses (pip config list, and {log})."
        )
    if re.search(
        r"Retrying \(|Max retries|name resolution|getaddrinfo|ConnectionError|ConnectionReset|[Tt]imed out"
        r"|TimeoutError|SSLError|ProxyError|unreachable|ConnectionRefused|IncompleteRead|incomplete-download"
        r"|error sending request|dns error|connection closed|Connection broken",
        output,
    ):
        raise SetupError(
            "The package index cannot be reached: check the network, a proxy and pip's settings "
            f"(pip config list), then start again, which goes on from here ({log})."
        )
    if match := re.search(r"No matching distribution found for (\S+)", output):
        reason = (
            f"The package index has no {match[1]} for Python {RUNNING} on this system: "
            f"try another Python from 3.10 to 3.13 (delete {home / 'venv'} first), check pip's index "
            "settings (pip config list), or use a ComfyUI of your own with --comfyui DIR."
        )
    else:
        reason = f"pip failed: the reason is in {log}; fix it and start again."
    lines = "\n".join(f"  {line}" for line in output.splitlines()[-12:])
    raise SetupError(f"{reason}\n\nThe last lines of {log}:\n{lines}")


def caches() -> Path:
    """Where pip and uv keep what they downloaded, on Linux; perhaps on another disk."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())


def free_gb(place: Path) -> float:
    """Of its disk, or of that on which it would be made."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free / 1e9


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
    """Hold home/lock while installing."""
    with held(home / "lock", f"is installing into {home}: start again when it has finished"):
        yield


@contextlib.contextmanager
def held(path: Path, what: str) -> Iterator[None]:
    """Hold a file; the system lets go of it when the process ends, however it ends.

    SetupError, saying what the other process does, where another one holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            _lock(file)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise SetupError(f"Another process ({file.read() or 'unknown'}) {what}.") from None
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

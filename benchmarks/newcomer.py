"""What happens to a newcomer: Ctrl-C at random moments, odd folders, full disks. Linux.

    python benchmarks/newcomer.py --comfyui DIR interrupts [--tries 40]     of each script
    python benchmarks/newcomer.py --comfyui DIR install [--tries 20]        a new installation (6 GB)
    python benchmarks/newcomer.py --comfyui DIR folders                     the demo in folders with odd names

Each runs in a copy of the repository below the folder for temporary files, on a terminal of its own: Ctrl-C
is typed, the terminal closed, the process told to end. The seed is fixed. After each, the exit status must be
that of its end, no traceback be printed, and no process, temporary file or held lock be left.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))
from comfyui_server import free_port

SEED = 23
WAYS = {"typed Ctrl-C": 130, "closed the terminal": 129, "told to end": 143}
LEFT_OUT = (".git", ".comfyui", "output", "progress", "__pycache__", ".*_cache")
# Nothing of an installation may be left half done but its environment, which pip goes on with.
TORN = ("tmp", "download", "*.part", "*.old")
# A trial that is over soon.
SHORT = ["--demo", "--noises", "6", "--steps", "2", "--categories", "castle", "tree", "--images"]
LAYER = ["--layer", "input 3"]
FOLDERS = (
    *(
        "with space",
        "\u00e4\u00f6\u00fc\u00df",
        "\u4e2d\u6587 \u5b57",
        "\U0001f3f0 castle",
        "-dash",
        "it's",
        'a "quote"',
    ),
    *("100%", "#1 & 2", "$HOME", "a;b", "[x]{y}*?", "back\\slash", "very long " * 20, "e\u0301"),
)


@dataclass
class Ended:
    status: int
    told: str
    took: float


def clone(folder: Path) -> Path:
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return folder


def run(
    command: list[str], cwd: Path, temp: Path, after: float | None = None, way: str = "", **environment: str
) -> Ended:
    """Run it on a terminal of its own, and end it in this way after so many seconds."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(
            command[0], command, {**os.environ, "TMPDIR": str(temp), "NEWCOMER": str(temp), **environment}
        )
    while command[1] not in Path(f"/proc/{pid}/cmdline").read_text():
        time.sleep(0.01)
    began = time.monotonic()
    told, ended, status = b"", after is None, None
    while status is None:
        if terminal >= 0 and select.select([terminal], [], [], 0.02)[0]:
            with contextlib.suppress(OSError):
                told += os.read(terminal, 65536)
        if not ended and time.monotonic() - began >= (after or 0):
            ended = True
            if way == "typed Ctrl-C":
                os.write(terminal, b"\x03")
            elif way == "told to end":
                os.kill(pid, signal.SIGTERM)
            else:
                os.close(terminal)
                terminal = -1
        if terminal < 0:
            time.sleep(0.02)
        found, code = os.waitpid(pid, os.WNOHANG)
        if found:
            status = code
    if terminal >= 0:
        with contextlib.suppress(OSError):
            while select.select([terminal], [], [], 0.2)[0] and (more := os.read(terminal, 65536)):
                told += more
        os.close(terminal)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code if code >= 0 else 128 - code, told.decode("utf-8", "replace"), time.monotonic() - began)


def processes(temp: Path) -> Iterator[str]:
    """Those that a script started, and whatever they started."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"NEWCOMER={temp}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().replace(bytes(1), b" ")
                yield f"{folder.name} {words.decode()[:150]}"


def left_in(temp: Path) -> list[str]:
    """Temporary files; PyTorch keeps a cache there, and pytest its last folders."""
    kept = ("torchinductor_", "pytest-of-")
    return [path.name for path in temp.iterdir() if not path.name.startswith(kept)]


def faults(ended: Ended, way: str, after: float, root: Path, temp: Path) -> Iterator[str]:
    if ended.status == 0 and ended.took < after + 3:
        # It had just finished.
        return
    if "Traceback" in ended.told and str(root / "scripts") not in ended.told.replace("^C", ""):
        # While Python itself starts, before it reads the script.
        return
    if ended.status != WAYS[way]:
        yield f"exit status {ended.status} after it was {way}"
    if "Traceback" in ended.told or "Exception ignored" in ended.told:
        yield f"a traceback:\n{ended.told[-1500:]}"
    if way == "typed Ctrl-C" and ended.told.split()[-1:] not in (["Interrupted."], ["^C"]):
        yield f"it did not say so: {ended.told[-300:]!r}"
    time.sleep(0.2)
    if left := list(processes(temp)):
        yield f"{len(left)} processes left: {left}"
    yield from (f"{name} left" for name in left_in(temp))
    for home in [root / ".comfyui", *(root / ".comfyui").glob("*")]:
        yield from (f"{path.relative_to(root)} left" for torn in TORN for path in home.glob(torn))
        for lock in [*home.glob("lock"), *home.glob("*.lock")]:
            with lock.open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield f"{lock.relative_to(root)} held"


def interrupts(folder: Path, tries: int, comfyui: Path) -> int:
    own = ["--comfyui", str(comfyui)]
    jobs = {
        "demo.py": own,
        "trial.py": [*own, *SHORT, "2", *LAYER],
        "comfyui.py": [*own, "--serve", "--port", str(free_port())],
        "test.py --stage quick": own,
        "test.py --stage server": [*own, "--", "-k", "demo_script or look"],
    }
    bad = 0
    root, temp = clone(folder / "clone"), folder / "tmp"
    temp.mkdir()
    for job, options in jobs.items():
        script, *stage = job.split()
        command = [sys.executable, f"scripts/{script}", *stage, *options]
        serves = script == "comfyui.py"
        whole = run(command, root, temp, 20.0 if serves else None, "typed Ctrl-C")
        if whole.status != (130 if serves else 0):
            print(f"{job}: exit status {whole.status}\n{whole.told[-3000:]}")
            bad += 1
            continue
        bad += tried(job, command, root, temp, tries, whole.took)
        again = run(command, root, temp, 20.0 if serves else None, "typed Ctrl-C")
        if again.status != whole.status:
            bad += 1
            print(f"{job}: then exit status {again.status}\n{again.told[-3000:]}")
    return bad


def tried(job: str, command: list[str], root: Path, temp: Path, tries: int, longest: float) -> int:
    """Faults of ending it at random moments, more of them early."""
    dice = random.Random(f"{SEED} {job}")
    bad, slowest, tally = 0, 0.0, Counter[str]()
    for number in range(tries):
        after, way = 0.2 + longest * dice.random() ** 2, list(WAYS)[number % len(WAYS)]
        ended = run(command, root, temp, after, way)
        tally[way] += 1
        slowest = max(slowest, ended.took - after)
        for fault in faults(ended, way, after, root, temp):
            bad += 1
            print(f"  {job}, {way} after {after:.1f} s: {fault}", flush=True)
            for line in processes(temp):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        for path in temp.iterdir():
            shutil.rmtree(path, ignore_errors=True)
    print(f"{job}: {dict(tally)}, gone within {slowest:.1f} s, {bad} faults", flush=True)
    return bad


def install(folder: Path, tries: int) -> int:
    """Ended again and again, then left alone: each start goes on from the last one."""
    root, temp = clone(folder / "clone"), folder / "tmp"
    temp.mkdir()
    command = [sys.executable, "scripts/comfyui.py"]
    bad = tried("comfyui.py", command, root, temp, tries, 40.0)
    ended = run(command, root, temp)
    print(ended.told)
    return bad + (ended.status != 0)


def folders(folder: Path, comfyui: Path) -> int:
    bad = 0
    for name in FOLDERS:
        temp = folder / name / "tmp"
        temp.mkdir(parents=True)
        root = clone(folder / name / name)
        where = ["--comfyui", str(comfyui), "--output", str(folder / name / f"{name}-out")]
        command = [sys.executable, "scripts/trial.py", *where, *SHORT, "1", *LAYER]
        for locale in ("C.UTF-8", "POSIX"):
            ended = run(command, root, temp, LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
            wrong = ended.status != 0 or "Traceback" in ended.told or left_in(temp)
            bad += bool(wrong)
            print(
                f"{name!r:.60} in {locale}: {'FAULT ' + ended.told[-2500:] if wrong else 'ran'}", flush=True
            )
        shutil.rmtree(folder / name)
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comfyui", type=Path, required=True, help="run with the Python of this ComfyUI")
    parser.add_argument("what", choices=("interrupts", "install", "folders"))
    parser.add_argument("--tries", type=int, default=40)
    options = parser.parse_args()
    comfyui = options.comfyui.resolve()
    with tempfile.TemporaryDirectory(prefix="newcomer-") as temporary:
        folder = Path(temporary)
        bad = {
            "interrupts": lambda: interrupts(folder, options.tries, comfyui),
            "install": lambda: install(folder, options.tries),
            "folders": lambda: folders(folder, comfyui),
        }[options.what]()
    print(f"{bad} faults")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

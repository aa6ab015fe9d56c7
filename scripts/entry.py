"""How a script that a person starts begins and ends: with one sentence where it cannot go on.

The first import of each, so that a Python that is too old says so: Python 3.6 must be able to read this and
those scripts. Standard library only.
"""

import sys


def _uncaught(kind: type, error: BaseException, trace: object) -> None:
    """Ctrl-C while modules are still read needs no traceback."""
    if kind is KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
    else:
        sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type]


def _unraised(told: "sys.UnraisableHookArgs") -> None:
    """What ends a script may come while Python runs a clean-up, which can only report it: it comes again."""
    if told.exc_type in (KeyboardInterrupt, SystemExit):
        import _thread
        import os
        import threading

        number = getattr(told.exc_value, "code", 130) - 128
        if os.name == "posix":
            # Which ends a sleep of the main thread, too.
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            threading.Timer(0.05, _thread.interrupt_main, (number,)).start()
    else:
        sys.__unraisablehook__(told)


# pytest has hooks of its own.
if "pytest" not in sys.modules:
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraised

OLDEST, NEWEST = (3, 10), (3, 13)
RUNNING = "{}.{}".format(*sys.version_info)
OTHER = "start this with Python 3.10 to 3.13, for example python3.12"

if sys.version_info < OLDEST:
    sys.exit(f"Python {RUNNING} is too old: {OTHER}.")

import contextlib
import errno
import io
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

# As a service or a closed terminal ends a process; Windows has the last one.
ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]

UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class SetupError(Exception):
    """A script cannot go on; the message says what to change."""


@contextlib.contextmanager
def writing(folder: Path, otherwise: str) -> Iterator[None]:
    """SetupError where something in the folder cannot be written, with what can be done instead."""
    try:
        yield
    except OSError as error:
        raise SetupError(f"{_unwritten(folder, error)}, or {otherwise}.") from error


def put(file: Path, data: bytes, otherwise: str) -> None:
    """Write a file and its folder, whole or not at all; SetupError where that is impossible."""
    part = file.with_name(f"{file.name}.part")
    with writing(file.parent, otherwise):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, file)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


def _unwritten(place: object, error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None))
    remedy = "free some space" if full else "make that possible"
    return f"Cannot write to {place} ({error.strerror or error}): {remedy}"


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run a script's main and exit; whatever ends it, Ctrl-C too, what it started is put away first.

    What the console has no letters for is printed as question marks.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace", line_buffering=True)
    for number in ENDS:
        # nohup has it ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    status: object = 130
    try:
        status = main()
    except SetupError as error:
        status = _say(str(error), 1)
    except KeyboardInterrupt:
        status = _say("\nInterrupted.", 130)
    except BrokenPipeError:
        # Whoever read the output has gone, as with "| head".
        status = 141
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        place = error.filename2 or error.filename or "a file"
        status = _say(f"{_unwritten(place, error)} and start again.", 1)
    finally:
        # What is put away at exit must not be cut short by an impatient second one.
        for number in (signal.SIGINT, *ENDS):
            signal.signal(number, signal.SIG_IGN)
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and the like wait for the end of the block: what is started there must be known to be ended."""
    came: list[int] = []
    heard = [n for n in (signal.SIGINT, *ENDS) if callable(signal.getsignal(n))]
    if threading.current_thread() is not threading.main_thread():
        heard = []
    before = {number: signal.signal(number, lambda n, _: came.append(n)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in came:
        signal.raise_signal(number)


def run_child(command: Sequence[object], **environment: str) -> int:
    """Run a program of ours to its end; its exit status.

    Ctrl-C reaches only the script that runs it, which then ends it: one of them says so.
    """
    own_group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return subprocess.run(list(map(str, command)), env={**os.environ, **environment}, **own_group).returncode


def _end(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _say(sentence: str, status: int) -> int:
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr)
    return status

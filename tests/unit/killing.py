"""kill -9 at a chosen line of the pack, in a process of its own; Linux."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

ROOT = str(Path(__file__).parent.parent.parent)
linux = pytest.mark.skipif(sys.platform != "linux", reason="copies of a process are for Linux")


def lines_of(work: Callable[[], object], files: tuple[str, ...]) -> int:
    """How many lines it runs in these files, here."""
    count = 0

    def stop() -> None:
        nonlocal count
        count += 1

    sys.settrace(_tracer(stop, files))
    try:
        work()
    finally:
        sys.settrace(None)
    return count


def killed_at(line: int, work: Callable[[], object], files: tuple[str, ...]) -> bool:
    """Whether a copy of this process was killed, at the start of the line-th line that it ran in these files
    of the pack; else it ended. What it raises is an error here."""
    child = os.fork()
    if child == 0:
        try:
            # As DataLoader's workers do: the threads of the parent are not in a copy of it.
            torch.set_num_threads(1)
            lines = itertools.count(1)
            sys.settrace(_tracer(lambda: next(lines) == line and os.kill(os.getpid(), signal.SIGKILL), files))
            work()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _tracer(at_a_line: Callable[[], object], files: tuple[str, ...]) -> Any:
    ours = {os.path.join(ROOT, file) for file in files}

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in ours:
            return None
        if event == "line":
            at_a_line()
        return trace

    return trace

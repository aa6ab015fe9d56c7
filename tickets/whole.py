"""Files that are written whole or not at all: under a temporary name beside the old one, then renamed."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError

# Of this version, of earlier ones, and of safetensors, which writes a file of its own and renames it, too.
TEMPORARY = re.compile(
    r"\.(tickets|bank)-[0-9a-f]{32}\.tmp|.+\.tickets\.tmp|\.tmp[0-9A-Za-z]{6}"
    r"|(.+\.(safetensors|latent|jsonl)|layers\.json)\.[0-9]+\.tmp"
)
ABANDONED = 24 * 3600.0
# What safetensors writes around the system's own words.
AROUND = re.compile(r"^Error while serializing: |I/O error: | \(os error [0-9]+\)$")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file, to be written within the block, that then takes the place of `path` at once.

    OSError, also for what safetensors cannot write; whatever is raised, what was there is as it was.
    """
    # A name that no other process has, and that is short however long the file's own is.
    temporary = path.with_name(f".tickets-{uuid4().hex}.tmp")
    try:
        temporary.touch(exist_ok=False)
        # safetensors 0.8 keeps what it writes from everybody else.
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        os.chmod(temporary, mode)
        _flush(temporary)
        os.replace(temporary, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, AROUND.sub("", str(error))) from None
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """OSError unless a file of this name can be written, found out by writing one of a name like it.

    Nothing ever stands under the name itself, whenever this is interrupted.
    """
    # As long, of the same characters: whether a name is allowed only the file system knows.
    like = path.with_suffix(".tickets.tmp")
    try:
        like.write_bytes(b"\0")
    finally:
        like.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes what writes that never ended, such as in a crash, left in a folder more than a day ago."""
    for path in folder.iterdir():
        if TEMPORARY.fullmatch(path.name):
            try:
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()
            except OSError:
                continue


def _flush(path: Path) -> None:
    """Until the disk has it, where the file system can say so; what it lacks room for is found here, too."""
    with path.open("r+b") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
                raise

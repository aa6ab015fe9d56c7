"""Starts a headless ComfyUI with given node packs. Standard library only.

with Server(install, {"winning-tickets": ROOT}) as server:
    entry = server.client.run(prompt)
"""

from __future__ import annotations

from entry import undisturbed, writing

import atexit
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from comfyui_client import Client, ServerError
from installing import held

if TYPE_CHECKING:
    from comfyui import Install

PACK = {
    *("__init__.py", "nodes", "probe", "show", "guidance", "trial", "tickets"),
    *("ticket_banks", "web", "locales"),
    *(
        "example_workflows",
        "subgraphs",
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
    ),
}
# Of a server's folder: the pack and the demo's weights, and some pictures.
DISK_MB = 50
LEFT_OUT = {"__pycache__", "node_modules", "tests", "output", "progress", "venv"}


def pack_files(root: Path) -> Iterator[Path]:
    """The files of a node pack that an installation has; `root` is the repository or a folder."""
    is_repository = (root / "pyproject.toml").is_file()
    for top in sorted(root.iterdir()):
        if top.name in PACK if is_repository else _belongs(top):
            yield from _walk(top)


def _walk(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if _belongs(child):
                yield from _walk(child)
    else:
        yield path


def _belongs(path: Path) -> bool:
    return not (path.name.startswith(".") or path.name in LEFT_OUT or path.suffix == ".pyc")


def copy_pack(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for file in pack_files(source):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Server:
    """A ComfyUI process of our own, with the given packs and no others, ended with the block.

    Everything it writes goes to `base`, by default a temporary folder that is removed at the end.
    """

    def __init__(
        self,
        install: Install,
        packs: Mapping[str, Path],
        base: Path | None = None,
        extra: Sequence[str] = (),
        *,
        cpu: bool = True,
        port: int | None = None,
        timeout: float = 600.0,
    ) -> None:
        self.install = install
        self.packs = dict(packs)
        self.base = base.resolve() if base else None
        self.extra = list(extra)
        self.cpu = cpu
        self.port = port
        self.timeout = timeout
        self._temporary = base is None
        self._process: subprocess.Popen[bytes] | None = None
        self._last_log = ""
        self._old_handler: Any = None

    def __enter__(self) -> Server:
        if self.port is not None and not port_is_free(self.port):
            raise ServerError(f"Port {self.port} is in use: stop what uses it or name another one.")
        self.port = self.port or free_port()
        self._catch_sigterm()
        atexit.register(self.stop)
        try:
            self._start()
            self._await_answer()
            self._check_imports()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> Client:
        return Client(self.url, self.failure)

    @property
    def log_path(self) -> Path:
        if self.base is None:
            raise ServerError("The server has not been started, so it has no log.")
        return self.base / "server.log"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError("The server has not been started, so it has no process.")
        return self._process.pid

    def log(self) -> str:
        """What ComfyUI has written so far, without colours; still there after the end."""
        if self.base and self.log_path.is_file():
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
            self._last_log = re.sub(r"\x1b\[[0-9;]*m", "", text)
        return self._last_log

    def failure(self, sentence: str) -> ServerError:
        tail = "\n".join(f"  {line}" for line in self.log().splitlines()[-40:])
        return ServerError(f"{sentence}\n\nThe end of ComfyUI's log:\n{tail}")

    def command(self) -> list[str]:
        packs = ["--disable-all-custom-nodes"]
        if self.packs:
            packs += ["--whitelist-custom-nodes", *self.packs]
        return [
            str(self.install.python),
            str(self.install.root / "main.py"),
            *(["--cpu"] if self.cpu else []),
            *("--listen", "127.0.0.1", "--port", str(self.port)),
            *("--base-directory", str(self.base)),
            *("--database-url", "sqlite:///:memory:"),
            "--disable-auto-launch",
            "--disable-api-nodes",
            "--dont-print-server",
            *packs,
            *self.extra,
        ]

    def stop(self) -> None:
        """End ComfyUI and whatever it started, and remove the temporary folder."""
        if self._process is not None:
            _end(self._process)
            self.log()
        if self._temporary and self.base is not None:
            shutil.rmtree(self.base, ignore_errors=True)
        atexit.unregister(self.stop)
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, self._old_handler)
            self._old_handler = None

    def _catch_sigterm(self) -> None:
        """Make SIGTERM act like Ctrl-C; it would end Python without clean-up."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._old_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def _start(self) -> None:
        if self.base is None or self._temporary:
            self.base = Path(tempfile.mkdtemp(prefix="comfyui-")).resolve()
        otherwise = "set TMPDIR to another folder" if self._temporary else "use another disk"
        with writing(self.base, f"{otherwise}: ComfyUI takes {DISK_MB} MB there"):
            self.base.mkdir(parents=True, exist_ok=True)
            for name, source in self.packs.items():
                copy_pack(source, self.base / "custom_nodes" / name)
        own_group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with self.log_path.open("wb") as log, undisturbed():
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.install.root,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **own_group,
            )

    def _await_answer(self) -> None:
        client = Client(self.url)
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if not self.alive:
                raise self.failure("ComfyUI ended while it was starting; its log tells why.")
            with contextlib.suppress(OSError):
                client.get("/system_stats", timeout=5.0)
                return
            time.sleep(0.1)
        raise self.failure(f"ComfyUI did not answer within {self.timeout:.0f} s of its start.")

    def _check_imports(self) -> None:
        log = self.log()
        for name in self.packs:
            folder = re.escape(str(self.log_path.parent / "custom_nodes" / name))
            if not re.search(rf"\(IMPORT FAILED\): {folder}$", log, re.MULTILINE):
                continue
            reason = re.search(rf"^.*(?:Cannot import|Skip) {folder} .*$", log, re.MULTILINE)
            told = log[: reason.end()] if reason else log
            begin = told.rfind("Traceback (most recent call last)")
            told = told[begin:] if begin >= 0 else told[-4000:]
            raise ServerError(f"ComfyUI could not import the pack {name}:\n\n{told}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, with all it started, and insist after ten seconds."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
        process.wait()
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
            return


def serve(install: Install, root: Path, base: Path, port: int, cpu: bool = True) -> None:
    """Serve this pack, and the demo's model loader where there is one, until Ctrl-C."""
    packs = {"winning-tickets": root}
    if (root / "demo").is_dir():
        packs["winning-tickets-demo"] = root / "demo"
    print("Starting ComfyUI ...")
    busy = held(base / "lock", f"serves from {base}: use that one, or end it with Ctrl-C")
    with busy, Server(install, packs, base, cpu=cpu, port=port) as server:
        print(f"{server.url}  (pictures: {base / 'output'}, log: {server.log_path})")
        print("Ctrl-C ends it.")
        while server.alive:
            time.sleep(0.5)
        raise server.failure("ComfyUI ended by itself.")

"""One real ComfyUI with the pack and the demo model, for all tests of this folder."""

from __future__ import annotations

import copy
import io
import json
import os
import queue
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from comfyui import HOME, ROOT, Install
from comfyui_client import Client
from comfyui_server import Server
from comfyui_socket import Socket
from PIL import Image

API_PROMPT = ROOT / "demo" / "example_workflows" / "api" / "first_picture.json"
WEIGHTS = ROOT / "demo" / "weights" / "demo.safetensors"
PATIENCE = 600.0
# protocol.BinaryEventTypes.TEXT of ComfyUI, as its server sends it.
PROGRESS_TEXT = (3).to_bytes(4, "big")

Prompt = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.server)


@dataclass(frozen=True)
class Run:
    """A finished prompt: its history entry, its pictures by node, what the log says of it."""

    entry: dict[str, Any]
    pictures: dict[str, Image.Image]
    log: str

    def message(self, event: str) -> dict[str, Any]:
        return next(dict(data) for name, data in self.entry["status"]["messages"] if name == event)

    def cached(self) -> list[str]:
        return list(self.message("execution_cached")["nodes"])

    def text(self, node: str) -> str:
        return "\n".join(self.entry["outputs"][node]["text"])


@dataclass(frozen=True)
class Failure:
    """A node that refused its inputs: its class and the message that the user gets."""

    node: str
    message: str


class Listener:
    """What ComfyUI tells one client over its websocket, from connecting to `close`."""

    def __init__(self, client: Client) -> None:
        self.client_id = uuid.uuid4().hex
        self.seen: list[dict[str, Any]] = []
        self._client = client
        self._news: queue.Queue[dict[str, Any]] = queue.Queue()
        self._socket = Socket(client, self.client_id, self._take)
        self.until(lambda event: event["type"] == "status")

    def queue(self, prompt: Prompt) -> str:
        """Queue a prompt whose events come here."""
        body = {"prompt": prompt, "client_id": self.client_id}
        return str(json.loads(self._client.get("/prompt", body))["prompt_id"])

    def until(self, fits: Callable[[dict[str, Any]], bool], timeout: float = PATIENCE) -> dict[str, Any]:
        """The next event that fits; all events so far are in `seen`."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                last = [event["type"] for event in self.seen[-10:]]
                pytest.fail(f"Nothing that fits came over the websocket in {timeout:.0f} s; last: {last}")
            self.seen.append(event)
            if fits(event):
                return event

    def until_end(self, timeout: float = PATIENCE) -> str:
        """How the prompt ended: execution_success, execution_error or execution_interrupted."""
        ends = ("execution_success", "execution_error", "execution_interrupted")
        return str(self.until(lambda event: event["type"] in ends, timeout)["type"])

    def progress(self, node: str) -> list[tuple[int, int]]:
        """(value, max) of every progress message of a node so far."""
        told = [event["data"] for event in self.seen if event["type"] == "progress"]
        return [(data["value"], data["max"]) for data in told if data["node"] == node]

    def close(self) -> None:
        self._socket.close()

    def _take(self, message: aiohttp.WSMessage) -> None:
        if message.type == aiohttp.WSMsgType.TEXT:
            self._news.put(json.loads(message.data))
        elif message.data[:4] == PROGRESS_TEXT:
            length = int.from_bytes(message.data[4:8], "big")
            told = message.data[8:].decode("utf-8")
            data = {"node": told[:length], "text": told[length:]}
            self._news.put({"type": "progress_text", "data": data})


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ticket banks that extra_model_paths.yaml names."""
    return tmp_path_factory.mktemp("other_models") / "tickets"


@pytest.fixture(scope="session")
def text_encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack with a loader of small text encoders."""
    folder = tmp_path_factory.mktemp("text_encoders")
    here = Path(__file__).parent
    shutil.copyfile(here / "text_encoders.py", folder / "__init__.py")
    shutil.copyfile(here.parent / "comfy" / "tiny.py", folder / "tiny.py")
    return folder


@pytest.fixture(scope="session")
def server(elsewhere: Path, text_encoders: Path) -> Iterator[Server]:
    elsewhere.mkdir()
    paths = elsewhere.parent / "extra_model_paths.yaml"
    lines = ("others:", f"  base_path: {elsewhere.parent.as_posix()}", f"  ticket_banks: {elsewhere.name}")
    paths.write_text("\n".join(lines) + "\n", encoding="utf-8")
    extra = ["--extra-model-paths-config", str(paths)]
    if page := os.environ.get("FRONT_END_ROOT"):
        extra += ["--front-end-root", page]
    root = Path(os.environ.get("COMFYUI_DIR") or HOME / "ComfyUI")
    packs = {
        "winning-tickets": ROOT,
        "winning-tickets-demo": ROOT / "demo",
        "text-encoders": text_encoders,
        "winning-tickets-odd": ROOT / "benchmarks" / "odd_pack",
        "winning-tickets-inside": ROOT / "benchmarks" / "inside_pack",
    }
    if not WEIGHTS.is_file():
        pytest.fail(f"The demo model is missing: there is no {WEIGHTS}.")
    with Server(Install(root, Path(sys.executable)), packs, extra=extra) as server:
        yield server


@pytest.fixture(scope="module")
def model_files(server: Server) -> Iterator[Callable[..., dict[str, str]]]:
    """Writes files of checkpoints.py among the server's models, for one module, and gives their names."""
    models = server.log_path.parent / "models"
    written: list[Path] = []

    def write(*names: str) -> dict[str, str]:
        script = Path(__file__).with_name("checkpoints.py")
        command = [sys.executable, str(script), str(server.install.root), str(models), *names]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        files = [Path(line) for line in done.stdout.splitlines()]
        written.extend(files)
        return {name: file.name for name, file in zip(names, files, strict=True)}

    yield write
    for file in written:
        file.unlink()


@pytest.fixture
def client(server: Server) -> Client:
    return server.client


@pytest.fixture
def listener(client: Client) -> Iterator[Listener]:
    listener = Listener(client)
    yield listener
    listener.close()


@pytest.fixture(scope="session")
def original() -> Prompt:
    """The first example, with a third category, fewer noises and its drawn regions as text."""
    prompt = dict(json.loads(API_PROMPT.read_text(encoding="utf-8")))
    drawn = json.loads(prompt.pop("12")["inputs"]["layout"])["regions"]
    lines = [f"{r['category']}: {' '.join(map(str, r['box']))}" for r in drawn]
    prompt["3"]["inputs"]["regions"] = "\n".join(lines)
    prompt["2"]["inputs"].update(categories="castle\ntree\ncar", noises=48)
    return prompt


@pytest.fixture
def prompt(original: Prompt) -> Prompt:
    """`original`, to be changed at will."""
    return copy.deepcopy(original)


@pytest.fixture
def short(prompt: Prompt) -> Prompt:
    """The example without its comparison branch: one picture, from node 8."""
    return {node: what for node, what in prompt.items() if int(node) <= 8}


@pytest.fixture(scope="session")
def run(server: Server) -> Callable[[Prompt], Run]:
    """Runs a prompt to its end; PromptError if it fails."""

    def run_prompt(prompt: Prompt) -> Run:
        client, begin = server.client, len(server.log())
        entry = client.run(prompt, PATIENCE)
        saved = {node: output["images"] for node, output in entry["outputs"].items() if "images" in output}
        pictures = {
            node: Image.open(io.BytesIO(client.image(**images[0]))).convert("RGB")
            for node, images in saved.items()
        }
        return Run(entry, pictures, server.log()[begin:])

    return run_prompt


@pytest.fixture(scope="session")
def example(run: Callable[[Prompt], Run], original: Prompt) -> Run:
    """The example workflow as it is, run once."""
    return run(original)


@pytest.fixture
def failure(client: Client) -> Callable[[Prompt], Failure]:
    """Runs a prompt that is accepted and then fails in a node."""

    def fail(prompt: Prompt) -> Failure:
        prompt_id = client.queue(prompt)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            entry = json.loads(client.get(f"/history/{prompt_id}")).get(prompt_id)
            if entry:
                errors = [data for name, data in entry["status"]["messages"] if name == "execution_error"]
                assert errors, f"The prompt did not fail: {entry['status']}"
                return Failure(errors[0]["node_type"], errors[0]["exception_message"].rstrip("\n"))
            time.sleep(0.05)
        pytest.fail("The prompt did not end.")

    return fail

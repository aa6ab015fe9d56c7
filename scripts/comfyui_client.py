"""Talks to a running ComfyUI over HTTP. Standard library only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from typing import Any


class ServerError(Exception):
    """ComfyUI did not start, or it is gone."""


class PromptError(Exception):
    """ComfyUI refused a prompt or failed to run it."""


class Client:
    """The few calls of ComfyUI's HTTP interface that running a prompt takes.

    `failure` makes the ServerError for a server that does not answer any more.
    """

    def __init__(self, url: str, failure: Callable[[str], ServerError] = ServerError) -> None:
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex
        self._failure = failure
        # A proxy from the environment must not get between us and this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, body: object = None, timeout: float = 60.0) -> bytes:
        """GET, or POST when there is a body; raises OSError."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data else {}
        request = urllib.request.Request(self.url + path, data, headers)
        with self._opener.open(request, timeout=timeout) as response:
            return bytes(response.read())

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """What ComfyUI tells about all nodes, or about one ({} if it does not know it)."""
        return dict(self._json("/object_info" + (f"/{urllib.parse.quote(node)}" if node else "")))

    def queue(self, prompt: Mapping[str, Any]) -> str:
        """Queue a prompt in API format and return its id."""
        try:
            # An older ComfyUI gives the texts of cached nodes to prompts that have a client, only.
            answer = self._json("/prompt", {"prompt": prompt, "client_id": self.client_id})
        except urllib.error.HTTPError as error:
            raise PromptError(_refusal(error.read())) from None
        if answer.get("node_errors"):
            self.interrupt(answer["prompt_id"])
            raise PromptError(_refusal(json.dumps(answer).encode()))
        return str(answer["prompt_id"])

    def wait(
        self,
        prompt_id: str,
        timeout: float = 3600.0,
        on_tick: Callable[[float], object] | None = None,
    ) -> dict[str, Any]:
        """Wait for a prompt's end and return its history entry; `on_tick` gets the seconds gone."""
        started, pause = time.monotonic(), 0.1
        while True:
            entry = self._json(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                _raise_failure(entry)
                return dict(entry)
            gone = time.monotonic() - started
            if gone > timeout:
                self.interrupt(prompt_id)
                raise PromptError(f"The prompt was not finished within {timeout:.0f} s.")
            if on_tick is not None:
                on_tick(gone)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def run(self, prompt: Mapping[str, Any], timeout: float = 3600.0) -> dict[str, Any]:
        return self.wait(self.queue(prompt), timeout)

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Stop the prompt that runs now, or one prompt, running or still queued."""
        if prompt_id is not None:
            self._call("/queue", {"delete": [prompt_id]})
        self._call("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def image(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """The content of a file that a prompt has written."""
        query = urllib.parse.urlencode({"filename": filename, "subfolder": subfolder, "type": type})
        return self._call(f"/view?{query}")

    def _json(self, path: str, body: object = None) -> Any:
        return json.loads(self._call(path, body))

    def _call(self, path: str, body: object = None) -> bytes:
        try:
            return self.get(path, body)
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            sentence = f"ComfyUI at {self.url} does not answer any more ({error})."
            raise self._failure(sentence) from None


def _refusal(answer: bytes) -> str:
    """ComfyUI's reasons for refusing a prompt, one line each."""
    try:
        told = json.loads(answer)
    except ValueError:
        return f"ComfyUI refused the prompt: {answer.decode('utf-8', 'replace')[:500]}"
    lines = []
    for node_id, node in told.get("node_errors", {}).items():
        for error in node["errors"]:
            reason = f"{error['message']}: {error['details']}"
            lines.append(f"  {node['class_type']} (node {node_id}): {reason}")
    if not lines and "error" in told:
        lines.append(f"  {told['error']['message']} {told['error']['details']}".rstrip())
    return "\n".join(["ComfyUI refused the prompt:", *lines])


def _raise_failure(entry: Mapping[str, Any]) -> None:
    status = entry.get("status") or {}
    if status.get("status_str") != "error":
        return
    for event, data in status.get("messages", []):
        if event == "execution_error":
            node = f"{data['node_type']} (node {data['node_id']})"
            if "No space left on device" in data["exception_message"]:
                raise PromptError(
                    f"{node} failed: the disk that ComfyUI writes to is full: free some space there and "
                    "start again. A ComfyUI that was started for this writes to the folder for temporary "
                    "files (TMPDIR) and, in a trial, to .comfyui/trial."
                )
            trace = "".join(data.get("traceback") or []).rstrip()
            raise PromptError(
                f"{node} failed: {data['exception_type']}: {data['exception_message'].strip()}\n\n{trace}"
            )
        if event == "execution_interrupted":
            node = f"{data.get('node_type')} (node {data.get('node_id')})"
            raise PromptError(f"The prompt was interrupted at {node}.")
    raise PromptError("ComfyUI could not run the prompt and did not tell why.")

"""One of several clients of a ComfyUI, over its websocket: what it gets, and what of that is not its own."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import uuid
from collections import Counter
from typing import Any

import aiohttp
from comfyui_client import Client
from comfyui_socket import Socket

Prompt = dict[str, Any]
# protocol.BinaryEventTypes of ComfyUI.
PREVIEW, TEXT, PREVIEW_OF_PROMPT = 1, 3, 4
ENDS = ("execution_success", "execution_error", "execution_interrupted")
OF_NO_PROMPT = ("status", "feature_flags")


class Watcher:
    """name: begins the ids of all nodes of its prompts, by which texts, which name no prompt, are told apart.

    got: how many messages of each kind. strange: those of others' prompts. cached, ran: nodes.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.client, self.name, self.id = client, name, uuid.uuid4().hex
        self.got: Counter[str] = Counter()
        self.cached, self.ran = 0, 0
        self.strange: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.ended: dict[str, str] = {}
        self.own: set[str] = set()
        self._change = threading.Condition()
        self._ready = threading.Event()
        self._socket = Socket(client, self.id, self._take, {"supports_preview_metadata": True})
        if not self._ready.wait(60):
            raise TimeoutError("ComfyUI's websocket did not answer.")

    def named(self, prompt: Prompt) -> Prompt:
        """A prompt with this client's names of its nodes."""

        def of(value: Any) -> Any:
            is_link = isinstance(value, list) and len(value) == 2 and str(value[0]) in prompt
            return [f"{self.name}{value[0]}", value[1]] if is_link else value

        return {
            f"{self.name}{key}": {**node, "inputs": {k: of(v) for k, v in node["inputs"].items()}}
            for key, node in prompt.items()
        }

    def queue(self, prompt: Prompt) -> str:
        """Queue a prompt; its nodes get this client's names."""
        key = str(uuid.uuid4())
        self.own.add(key)
        body = {"prompt": self.named(prompt), "client_id": self.id, "prompt_id": key}
        try:
            answer = json.loads(self.client.get("/prompt", body))
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read())
        if answer.get("node_errors") or answer.get("prompt_id") != key:
            raise ValueError(f"Refused: {answer}")
        return key

    def wait(self, keys: list[str], timeout: float = 600.0) -> list[str]:
        """How these prompts ended."""
        until = time.monotonic() + timeout
        with self._change:
            while missing := [key for key in keys if key not in self.ended]:
                if not self._change.wait(max(0.0, until - time.monotonic())):
                    raise TimeoutError(
                        f"{len(missing)} of {len(keys)} prompts did not end in {timeout:.0f} s."
                    )
        return [self.ended[key] for key in keys]

    def close(self) -> None:
        self._socket.close()

    def _take(self, message: aiohttp.WSMessage) -> None:
        if message.type == aiohttp.WSMsgType.TEXT:
            self._event(json.loads(message.data))
        elif message.type == aiohttp.WSMsgType.BINARY:
            self._binary(message.data)

    def _event(self, event: dict[str, Any]) -> None:
        kind, data = event["type"], event["data"]
        self.got[kind] += 1
        if kind == "feature_flags":
            self._ready.set()
        if kind in OF_NO_PROMPT:
            return
        if data.get("prompt_id") not in self.own:
            self.strange.append(f"{kind} of another prompt")
        if kind == "execution_cached":
            self.cached += len(data["nodes"])
        elif kind == "executing" and data["node"] is not None:
            self.ran += 1
        elif kind in ENDS:
            with self._change:
                told = data.get("exception_message", "")
                self.ended[data["prompt_id"]] = f"{kind} {data.get('node_type', '')} {told}".strip()
                self._change.notify_all()

    def _binary(self, data: bytes) -> None:
        kind, length = (int.from_bytes(data[i : i + 4], "big") for i in (0, 4))
        head, rest = data[8 : 8 + length], data[8 + length :]
        if kind == TEXT:
            self.got["text"] += 1
            self.texts.append((head.decode("utf-8"), rest.decode("utf-8")))
            if not self.texts[-1][0].startswith(self.name):
                self.strange.append(f"a text of another's node: {self.texts[-1]}")
        elif kind == PREVIEW_OF_PROMPT:
            self.got["preview"] += 1
            if json.loads(head)["prompt_id"] not in self.own:
                self.strange.append("a preview of another prompt")
        else:
            self.strange.append(f"a message of kind {kind}, of no prompt")

"""ComfyUI's own executor in this process, with the pack's and the demo's nodes: prompts without a server.

Imported after `start.comfyui` and `start.pack`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import execution
import folder_paths
import server
from moments import Moments
from odd_pack import NODE_CLASS_MAPPINGS as ODD_NODES
from odd_pack.digests import with_digests

import nodes

ROOT = Path(__file__).parent.parent
Prompt = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """How a prompt ended. results: digests by node. moments: calls of modules. ran: nodes not cached."""

    how: str
    message: str = ""
    results: dict[str, str] = field(default_factory=dict)
    moments: int = 0
    ran: int = 0


def load() -> None:
    """Once in a process: all nodes."""
    logging.disable(logging.WARNING)
    comfy.utils.set_progress_bar_global_hook(_progress)
    server.PromptServer(asyncio.new_event_loop())
    asyncio.run(_load())


async def _load() -> None:
    from winning_tickets.nodes import WinningTickets

    await nodes.init_builtin_extra_nodes()
    await nodes.load_custom_node(str(ROOT / "demo"))
    pack = WinningTickets()
    await pack.on_load()
    for node in await pack.get_node_list():
        nodes.NODE_CLASS_MAPPINGS[node.GET_SCHEMA().node_id] = node
    nodes.NODE_CLASS_MAPPINGS.update(ODD_NODES)


def _progress(*about: Any, **more: Any) -> None:
    # As main.py's.
    comfy.model_management.throw_exception_if_processing_interrupted()


def _let_go_of_messages() -> None:
    """What would have gone to pages."""
    served = server.PromptServer.instance
    served.loop.call_soon(served.loop.stop)
    served.loop.run_forever()
    while not served.messages.empty():
        served.messages.get_nowait()


def work_in(folder: Path) -> None:
    folder_paths.output_directory = str(folder / "output")
    folder_paths.temp_directory = str(folder / "temp")
    folder_paths.user_directory = str(folder / "user")
    folder_paths.models_dir = str(folder / "models")
    for name in ("output", "temp", "user", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def info(names: Iterable[str] = ()) -> Prompt:
    """As /object_info: of these nodes; of all of the pack's where none are named."""
    from winning_tickets.nodes import NODES

    found: Prompt = {}
    for name in names or [node.GET_SCHEMA().node_id for node in NODES]:
        kind = nodes.NODE_CLASS_MAPPINGS[name]
        if hasattr(kind, "GET_NODE_INFO_V1"):
            found[name] = dict(kind.GET_NODE_INFO_V1())
        else:
            found[name] = {"input": kind.INPUT_TYPES(), "output": list(kind.RETURN_TYPES)}
    return found


def digested(prompt: Prompt) -> Prompt:
    """With a digest of every output that is a result, instead of what else shows or saves."""
    return with_digests(prompt, info({node["class_type"] for node in prompt.values()}))


class Executor:
    """A server's worth of caches."""

    def __init__(self, moments: Moments, classic: bool = False) -> None:
        """classic: only what the last prompt has is cached; else all, as long as there is memory."""
        self.moments = moments
        about = {"lru": 0, "ram": 0.2, "ram_inactive": 0.2}
        kind = execution.CacheType.CLASSIC if classic else execution.CacheType.RAM_PRESSURE
        self.executor = execution.PromptExecutor(
            server.PromptServer.instance, cache_type=kind, cache_args=about
        )

    def run(self, prompt: Prompt, cancel_at: int = 0, raised: bool = False) -> Answer:
        """cancel_at: the module call at which the user cancels; 0: never."""
        prompt = copy.deepcopy(prompt)
        key = uuid.uuid4().hex
        valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(key, prompt, None))
        if not valid:
            return Answer("refused", json.dumps(node_errors or error, default=str))
        self.moments.begin(cancel_at, raised)
        self.executor.execute(prompt, key, {}, outputs)
        count = self.moments.count
        self.moments.begin()
        _let_go_of_messages()
        told = dict(self.executor.status_messages)
        shown = self.executor.history_result["outputs"] if hasattr(self.executor, "history_result") else {}
        results = {
            node: "".join(value["text"]) for node, value in shown.items() if "/" in node and "text" in value
        }
        if "execution_interrupted" in told:
            return Answer("cancelled", "", results, count)
        if "execution_error" in told:
            about = told["execution_error"]
            return Answer("error", f"{about['node_type']}: {about['exception_message']}", results, count)
        cached = len(told.get("execution_cached", {}).get("nodes", ()))
        return Answer("done", "", results, count, len(prompt) - cached)

    def output(self, node: str, slot: int) -> Any:
        """An output that is cached."""
        return asyncio.run(self.executor.caches.outputs.get(node)).outputs[slot][0]

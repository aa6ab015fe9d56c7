"""A line of text on the node that runs, while a prompt is being executed by a server."""

from __future__ import annotations

import sys

from comfy_execution.utils import get_executing_context


def announce(text: str) -> None:
    """Shown by the frontend under the node, of the client whose prompt it is; nothing happens without one.

    ComfyUI sends a text that is for no one in particular to all pages, whose nodes have the same numbers.
    """
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    context = get_executing_context()
    if server is not None and server.client_id is not None and context is not None:
        server.send_progress_text(text, context.node_id, server.client_id)

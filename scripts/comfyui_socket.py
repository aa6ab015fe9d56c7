"""A ComfyUI's websocket, listened to in a thread; needs aiohttp, which ComfyUI has."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import aiohttp
from comfyui_client import Client


class Socket:
    """Gives every message of one client to `take`, in a thread of its own, from now to `close`.

    features: what the client says it understands, if anything.
    """

    def __init__(
        self,
        client: Client,
        client_id: str,
        take: Callable[[aiohttp.WSMessage], None],
        features: dict[str, Any] | None = None,
    ) -> None:
        self._address = f"{client.url}/ws?clientId={client_id}"
        self._take, self._features = take, features
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._listen())
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _listen(self) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._address, max_msg_size=0) as socket,
        ):
            if self._features is not None:
                await socket.send_json({"type": "feature_flags", "data": self._features})
            async for message in socket:
                self._take(message)

"""What the page asks the server for."""

from __future__ import annotations

import asyncio

from aiohttp import web
from server import PromptServer

from ..probe import files
from ..tickets.bank.bank import BankError
from ..tickets.bank.file import bank_facts


def register() -> None:
    """GET /winning_tickets/bank?name=...: its categories and the side of its blocks in latent pixels.

    Or `error`: not as a status, which the browser would report as an error of the page.
    """

    async def bank(request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        try:
            categories, block = await asyncio.to_thread(lambda: bank_facts(files.bank_path(name)))
        except BankError as error:
            return web.json_response({"error": str(error)})
        return web.json_response({"categories": categories, "block": block})

    PromptServer.instance.routes.get("/winning_tickets/bank")(bank)

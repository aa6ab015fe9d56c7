"""Winning Tickets: place objects by the initial noise, and stop guiding when it no longer matters."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> object:
    from .nodes import WinningTickets

    return WinningTickets()

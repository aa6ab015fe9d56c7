"""Winning Tickets: place objects by the initial noise, and stop guiding when it no longer matters."""

WEB_DIRECTORY = "./web"
OLDEST_COMFYUI = (0, 24, 1)


async def comfy_entrypoint() -> object:
    import re

    from comfyui_version import __version__ as version

    if tuple(int(number) for number in re.findall(r"\d+", version)[:3]) < OLDEST_COMFYUI:
        needed = ".".join(map(str, OLDEST_COMFYUI))
        raise RuntimeError(
            f"Winning Tickets needs ComfyUI {needed} or newer; this is {version}: update ComfyUI."
        )

    from .nodes import WinningTickets

    return WinningTickets()

"""Winning Tickets: place objects by the initial noise, and stop guiding when it no longer matters."""

WEB_DIRECTORY = "./web"
OLDEST_COMFYUI = (0, 24, 1)


async def comfy_entrypoint() -> object:
    from comfyui_version import __version__ as version

    if tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < OLDEST_COMFYUI:
        needed = ".".join(map(str, OLDEST_COMFYUI))
        raise RuntimeError(
            f"Winning Tickets needs ComfyUI {needed} or newer; this is {version}: update ComfyUI."
        )

    from .nodes import WinningTickets

    return WinningTickets()

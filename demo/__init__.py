"""Load Demo Model: a tiny text-to-image model, to try Winning Tickets without a checkpoint.

A pack of its own; the scripts load it, an installed Winning Tickets does not contain it.
"""


async def comfy_entrypoint() -> object:
    from .loader import DemoExtension  # type: ignore[import-not-found]

    return DemoExtension()

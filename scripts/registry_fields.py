"""Adds to pyproject.toml what the Comfy Registry wants to know of where the pack is published from.

    python scripts/registry_fields.py OWNER/NAME PUBLISHER

Called before publishing, by .github/workflows/publish.yml: a fork then names its own repository. Standard
library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def with_fields(project: str, repository: str, publisher: str) -> str:
    """The text of pyproject.toml with repository, publisher, icon and banner; ValueError for what is none."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{repository!r} is no repository: give it as OWNER/NAME.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", publisher):
        raise ValueError(
            f"{publisher!r} is no publisher of the Comfy Registry: small letters, digits and hyphens. The"
            " workflow takes it from the repository's variable COMFY_PUBLISHER."
        )
    address = f"https://github.com/{repository}"
    urls = f'[project.urls]\nRepository = "{address}"\nDocumentation = "{address}#readme"\n'
    urls += f'"Bug Tracker" = "{address}/issues"\n\n'
    pictures = f"{address}/raw/main/docs"
    comfy = f'[tool.comfy]\nPublisherId = "{publisher}"\n'
    comfy += f'Icon = "{pictures}/icon.svg"\nBanner = "{pictures}/banner.svg"\n'
    return project.replace("[tool.comfy]\n", urls + comfy)


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        done = with_fields(PROJECT.read_text(encoding="utf-8"), *sys.argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    PROJECT.write_text(done, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

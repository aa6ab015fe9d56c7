"""Adds what depends on where the pack is published from: fields of pyproject.toml, addresses in README.md.

    python scripts/registry_fields.py OWNER/NAME PUBLISHER

Called before publishing, by scripts/release.py and .github/workflows/publish.yml: a fork then names its own
repository. The registry shows no README, but the archive holds it: its links to what .comfyignore leaves out
become links to the repository. Standard library only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURES = (".gif", ".jpg", ".png", ".svg", ".webp")


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
    # As in the registry's specification: without the redirection that github.com answers with.
    pictures = f"https://raw.githubusercontent.com/{repository}/main/docs"
    comfy = f'[tool.comfy]\nPublisherId = "{publisher}"\n'
    comfy += f'Icon = "{pictures}/icon.png"\nBanner = "{pictures}/banner.png"\n'
    return project.replace("[tool.comfy]\n", urls + comfy)


def with_addresses(readme: str, repository: str, left_out: Sequence[str]) -> str:
    """The text of README.md with links to files of the repository in place of those to what is left out.

    left_out: lines of .comfyignore.
    """

    def address(link: re.Match[str]) -> str:
        begin, path = link.groups()
        if not any(f"/{path}".startswith(line) for line in left_out):
            return link[0]
        view = "raw" if path.endswith(PICTURES) else "blob"
        return f"{begin}https://github.com/{repository}/{view}/main/{path}"

    return re.sub(r'(\]\(|src="|href=")(?![a-z]+:|#)([^)"\s]+)', address, readme)


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    project, readme = ROOT / "pyproject.toml", ROOT / "README.md"
    try:
        done = with_fields(project.read_text(encoding="utf-8"), *sys.argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    project.write_text(done, encoding="utf-8", newline="\n")
    left_out = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    done = with_addresses(readme.read_text(encoding="utf-8"), sys.argv[1], left_out)
    readme.write_text(done, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

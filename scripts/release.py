"""Walks a release up to the upload, on a fresh clone in a temporary folder.

    python scripts/release.py                                       try it, with placeholders
    python scripts/release.py --repository OWNER/NAME --publisher ID
    python scripts/release.py --notes                               print this version's part of CHANGELOG.md

Checks that the tree, the branch and the versions are those of a release; has comfy-cli validate and pack the
clone; looks into the archive; loads it into ComfyUI; then says what is left to do. Nothing is uploaded and
nothing in this repository changes. Needs git; --comfyui DIR as for scripts/comfyui.py. Standard library only.
"""

from __future__ import annotations

import entry

import argparse
import re
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import comfyui
import installs
from comfyui import ROOT, SetupError
from comfyui_server import LEFT_OUT, PACK, ServerError
from registry_fields import with_fields

BRANCH = "main"
PLACEHOLDERS = (f"somebody/{installs.NAME}", "somebody")
WRITTEN = {
    "pyproject.toml": re.compile(r'^version = "(.+)"$', re.MULTILINE),
    "tickets/__init__.py": re.compile(r'^VERSION = "(.+)"$', re.MULTILINE),
    "CHANGELOG.md": re.compile(r"^## (\S+)", re.MULTILINE),
}
"""Where the version stands, and how."""


def read() -> dict[str, str]:
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in WRITTEN}


def versions(texts: dict[str, str]) -> dict[str, str]:
    """The version that each file names first."""
    return {name: found[1] if (found := WRITTEN[name].search(texts[name])) else "none" for name in WRITTEN}


def version_problems(named: dict[str, str], tags: Collection[str]) -> Iterator[str]:
    """What keeps these versions from being released. tags: those of other commits."""
    version = named["pyproject.toml"]
    if len(set(named.values())) > 1:
        told = ", ".join(f"{name} says {found}" for name, found in named.items())
        yield f"The versions differ: {told}. Write the same one into all three."
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        yield f"The registry takes versions such as 1.0.0; pyproject.toml says {version}."
    if {version, f"v{version}"} & set(tags):
        yield f"Version {version} is a tag of another commit already: choose a new version."


def notes(changelog: str, version: str) -> str:
    """The changelog's part on a version, without its heading; empty if there is none."""
    found = re.search(rf"^## {re.escape(version)}(?!\S).*\n((?:(?!## ).*\n?)*)", changelog, re.MULTILINE)
    return found[1].strip() if found else ""


def archive_problems(files: Iterable[zipfile.ZipInfo], expected: Collection[str]) -> Iterator[str]:
    """What should not be published so. expected: the names at the top."""
    files = list(files)
    names = [file.filename for file in files]
    tops = {name.split("/")[0] for name in names}
    if missing := sorted(set(expected) - tops):
        yield f"The archive lacks {', '.join(missing)}: see .comfyignore."
    if extra := sorted(tops - set(expected)):
        told = "add them to .comfyignore, or to PACK in scripts/comfyui_server.py"
        yield f"The archive holds {', '.join(extra)}: {told}."
    for file in files:
        pieces = file.filename.split("/")
        if "" in pieces[:-1] or ".." in pieces or re.search(r'[<>:"|?*\\\x00-\x1f]|[. ](/|$)', file.filename):
            yield f"{file.filename!r} is no file name on every system."
        if file.external_attr >> 16 & 0o170000 == 0o120000:
            yield f"{file.filename} is a link: put the file itself there."
        if LEFT_OUT & set(pieces) or file.filename.endswith((".pyc", ".log", ".DS_Store", "Thumbs.db")):
            yield f"{file.filename} is a leftover of a run: take it out of git."
    lower = [name.lower() for name in names]
    for name in sorted({name for name in lower if lower.count(name) > 1}):
        yield f"{name} is there twice for Windows and macOS, which do not tell capitals apart."
    if (size := sum(file.compress_size for file in files)) > installs.MOST_BYTES:
        yield f"The archive has {size} bytes, more than {installs.MOST_BYTES}: leave something out."


def contents(files: Iterable[zipfile.ZipInfo]) -> Iterator[str]:
    """What is in the archive, one line for each name at the top."""
    sizes: dict[str, list[int]] = {}
    for file in files:
        sizes.setdefault(file.filename.split("/")[0], []).append(file.file_size)
    for name, found in sorted(sizes.items()):
        yield f"  {name:20} {sum(found) / 1e3:8.0f} kB in {len(found)}"


def git(*arguments: str) -> list[str]:
    return installs.call(["git", *arguments], ROOT).splitlines()


def tree_problems() -> Iterator[str]:
    """What of this repository would not be in a clone, or not belong into a release."""
    if changed := git("status", "--porcelain"):
        yield f"{len(changed)} files are changed or new ({changed[0].strip()} ...): commit them."
    (branch,) = git("rev-parse", "--abbrev-ref", "HEAD")
    if branch != BRANCH:
        yield f"This is branch {branch}; what is released is {BRANCH}."


def walk(python: Path | None, repository: str, publisher: str) -> bool:
    """Every step up to the upload. False if a release would have ended earlier.

    python: of the ComfyUI in which it is tried; None: our own.
    """
    trying = (repository, publisher) == PLACEHOLDERS
    if trying:
        print(f"This is a trial: {repository} and {publisher} stand for your repository and publisher.")
    texts = read()
    named = versions(texts)
    version = named["pyproject.toml"]
    tags = set(git("tag")) - set(git("tag", "--points-at", "HEAD"))
    problems = [*tree_problems(), *version_problems(named, tags)]
    if not notes(texts["CHANGELOG.md"], version):
        problems.append(f"CHANGELOG.md says nothing of {version}: write what is new.")
    for problem in problems:
        print("A release would end here:", problem)
    if problems and not trying:
        raise SetupError("Nothing was packed.")
    print(f"Version {version}, commit {git('rev-parse', '--short', 'HEAD')[0]}.")

    with tempfile.TemporaryDirectory(prefix="release-") as temporary:
        folder = Path(temporary).resolve()
        source = folder / "source"
        installs.call(["git", "clone", "--quiet", ROOT, source], folder)
        install = comfyui.ensure(python)
        print(f"Installing {installs.COMFY_CLI} into a temporary folder")
        programs = installs.tools(install.python, folder, installs.COMFY_CLI)
        packed = installs.pack(programs, source, repository, publisher)
        workspace = folder / "workspace"
        with zipfile.ZipFile(packed) as archive:
            files = archive.infolist()
            print(f"The archive has {len(files)} files and {packed.stat().st_size / 1e6:.2f} MB:")
            print("\n".join(contents(files)))
            expected = {name for name in PACK if (source / name).exists()} | {"LICENSE"}
            if found := list(archive_problems(files, expected)):
                raise SetupError("\n".join(found))
            archive.extractall(workspace / "custom_nodes" / installs.NAME)
        print("No caches, links, or names that some system refuses. ComfyUI loads it ...")
        print(" ", installs.check(install, workspace, installs.usual_log(install)))
    if not problems:
        print(farewell(version, repository, publisher))
    return not problems


def farewell(version: str, repository: str, publisher: str) -> str:
    return f"""
Nothing was uploaded. A published version cannot be changed, only withdrawn. What is left to do:

  1. Publish: push this commit to {BRANCH} and run the workflow "Publish" of {repository}. Or by hand, in a
     fresh clone, with an API key of the publisher {publisher} (from its page at https://registry.comfy.org):
       pip install {installs.COMFY_CLI}
       python scripts/release.py --notes > ../notes.md
       python scripts/registry_fields.py {repository} {publisher}
       comfy node publish --changelog-file ../notes.md
  2. Tag it: git tag v{version} && git push origin v{version}
  3. See that https://registry.comfy.org/nodes/{installs.NAME} shows {version}, the icon and the text,
     and that ComfyUI-Manager installs it once the registry has checked it."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Walk a release up to the upload.")
    comfyui.add_option(parser)
    parser.add_argument("--repository", metavar="OWNER/NAME", help="on GitHub")
    parser.add_argument("--publisher", metavar="ID", help="at the Comfy Registry")
    parser.add_argument("--notes", action="store_true", help="print this version's part of CHANGELOG.md")
    options = parser.parse_args()
    if options.notes:
        texts = read()
        print(notes(texts["CHANGELOG.md"], versions(texts)["pyproject.toml"]))
        return 0
    if (options.repository is None) != (options.publisher is None):
        parser.error("give both --repository and --publisher, or neither for a trial")
    given = PLACEHOLDERS if options.publisher is None else (options.repository, options.publisher)
    try:
        with_fields("", *given)
    except ValueError as error:
        raise SetupError(str(error)) from None
    try:
        return 0 if walk(options.comfyui, *given) else 1
    except ServerError as error:
        raise SetupError(str(error)) from error


if __name__ == "__main__":
    entry.run_script(main)

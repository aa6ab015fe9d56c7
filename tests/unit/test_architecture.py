"""README's drawing, as a rule: nodes > probe > show > the plain folders; ComfyUI in the upper two only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LAYERS = {
    "tickets": {"tickets"},
    "guidance": {"guidance"},
    "trial": {"trial", "tickets"},
    "show": {"show", "guidance", "trial", "tickets"},
    "probe": {"probe", "show", "guidance", "trial", "tickets"},
    "nodes": {"nodes", "probe", "show", "guidance", "trial", "tickets"},
}
PURE = ("tickets", "guidance", "trial", "show")
RUNTIME = {"torch", "numpy", "safetensors", "einops", "scipy", "PIL"}
COMFYUI = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfyui_version",
    "folder_paths",
    "latent_preview",
    "server",
    "aiohttp",
}
FILES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Top-level names a module imports; those of the pack itself by their folder."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            parts = [*package[: len(package) - node.level + 1], *str(node.module or "").split(".")]
            yield parts[0] or node.names[0].name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    allowed = LAYERS[layer] | RUNTIME | set(sys.stdlib_module_names)
    if layer not in PURE:
        allowed |= COMFYUI
    assert set(imports(path)) <= allowed


def inside(path: Path) -> Iterator[str]:
    """Folders and modules of probe, other than its own, that a module of it imports."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = [*package[: len(package) - node.level + 1], *str(node.module or "").split(".")]
            if parts[0] == "probe" and parts[1:2] != list(package[1:2]):
                yield parts[1] if len(parts) > 1 and parts[1] else node.names[0].name


def test_no_two_folders_of_probe_know_each_other() -> None:
    """Rule: imports point one way within probe, too, and all of it stands on probe/model.

    Sampling took other packs' noise from what builds noise, and choosing a layer the request from collecting.
    """
    known: dict[str, set[str]] = {}
    for path in (ROOT / "probe").rglob("*.py"):
        folder = path.relative_to(ROOT / "probe").parts[0].removesuffix(".py")
        known.setdefault(folder, set()).update(inside(path))
    assert known["model"] <= {"compat"}
    # Raises CycleError, which names the circle.
    assert len(list(TopologicalSorter(known).static_order())) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_ascii_and_have_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="ascii")))


@pytest.mark.parametrize("layer", PURE)
def test_the_papers_name_no_node(layer: str) -> None:
    """Rule: errors carry the fact, nodes carry the advice."""
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "nodes").glob("*.py"))
    names = re.findall(r'display_name="((?:\w+ )+\w+)",\s+category=', source)
    assert len(names) > 20
    for path in (ROOT / layer).rglob("*.py"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert not [n for n in names if n in text.replace('" "', "").replace('" f"', "")], path


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "unit").glob("*.py")), ids=lambda p: p.name)
def test_unit_tests_need_no_comfyui(path: Path) -> None:
    """Rule: the quick stage runs in a Python that has nothing of ComfyUI's."""
    source = path.read_text(encoding="utf-8")
    assert not COMFYUI & set(imports(path)) and not re.search(r"winning_tickets\.(probe|nodes)", source)


def drawn_folders() -> dict[str, set[str]]:
    """Folder to the words that README's drawing has for it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    drawing = text.split("How it is built</b>")[1].split("```")[1]
    found: dict[str, set[str]] = {}
    folder = ""
    for line in drawing.splitlines():
        if head := re.match(r"\s*(\w+)/\s", line):
            folder = head[1]
        if folder:
            found.setdefault(folder, set()).update(re.findall(r"\w+", line))
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_readmes_drawing_names_what_lies_in_each_folder(layer: str) -> None:
    """Rule: the drawing in README must stay true."""
    parts = {p.stem for p in (ROOT / layer).iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert parts - {"__init__"} <= drawn_folders()[layer]


def test_help_page_for_every_node() -> None:
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "nodes").glob("*.py"))
    ids = {
        node.value.value
        for node in ast.walk(ast.parse(source.replace("from __future__ import annotations", "")))
        if isinstance(node, ast.keyword) and node.arg == "node_id" and isinstance(node.value, ast.Constant)
    }
    assert ids and ids == {p.stem for p in (ROOT / "web" / "docs").glob("*.md")}


def test_version_is_the_projects() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = (ROOT / "tickets" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert version and f'VERSION = "{version[1]}"' in found


def test_repository_holds_no_links() -> None:
    """The rule: the repository holds files only. A link to one machine's folder once hid ComfyUI."""
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, encoding="utf-8")
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000")]

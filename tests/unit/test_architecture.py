"""README's drawing, as a rule: nodes -> probe -> tickets, and ComfyUI in the upper two only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LAYERS = {
    "tickets": {"tickets"},
    "probe": {"probe", "tickets"},
    "nodes": {"nodes", "probe", "tickets"},
}
RUNTIME = {"torch", "numpy", "safetensors", "einops", "scipy"}
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
    if layer != "tickets":
        allowed |= COMFYUI
    assert set(imports(path)) <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_stay_small_ascii_and_have_a_docstring(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("layer", LAYERS)
def test_readmes_drawing_names_every_module(layer: str) -> None:
    """Rule: the drawing in README must stay true."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    drawing = text.split("## How it is built")[1].split("```")[1]
    part = drawing.split(f"  {layer}/")[1].split("\n    v\n")[0].split("\n\n")[0]
    modules = {p.stem for p in (ROOT / layer).glob("*.py")} - {"__init__"}
    assert modules <= set(re.findall(r"\w+", part))


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

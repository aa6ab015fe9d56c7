"""SECURITY.md's promises about the code: nothing in it runs what a file or a workflow says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CODE = ("nodes", "probe", "show", "guidance", "trial", "tickets")
FILES = [ROOT / "__init__.py", *(path for part in CODE for path in sorted((ROOT / part).rglob("*.py")))]
SCRIPTS = sorted((ROOT / "web").rglob("*.js"))
# What runs code that it is given, starts programs, or reaches for the network.
RUNS = {"eval", "exec", "compile", "__import__", "import_module", "system", "popen", "spawn", "urlopen"}
MODULES = {
    *("pickle", "cPickle", "dill", "marshal", "shelve", "subprocess", "ctypes", "importlib", "runpy", "code"),
    *("socket", "urllib", "http", "requests", "yaml", "multiprocessing", "joblib", "webbrowser"),
}
IN_PAGES = r"\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\bimport\("


def names(tree: ast.AST) -> Iterator[str]:
    """Modules that are imported and functions that are called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).split(".")[0]
        elif isinstance(node, ast.Call):
            called = node.func
            # re.compile makes a pattern.
            if isinstance(called, ast.Attribute) and getattr(called.value, "id", "") != "re":
                yield called.attr
            elif isinstance(called, ast.Name):
                yield called.id


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_runs_what_it_reads(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not set(names(tree)) & (RUNS | MODULES)
    loads = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "load"]
    assert not [n for n in loads if getattr(n.value, "id", "") in ("torch", "np", "numpy")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_page_shows_texts_as_texts(path: Path) -> None:
    found = re.findall(IN_PAGES, path.read_text(encoding="utf-8"))
    assert not found


def test_the_rules_would_find_what_they_forbid() -> None:
    bad = "import pickle\nfrom subprocess import run\neval('1')\nos.system('x')\nre.compile('x')"
    assert set(names(ast.parse(bad))) & (RUNS | MODULES) == {"pickle", "subprocess", "eval", "system"}
    assert re.findall(IN_PAGES, "x.innerHTML = y") and SCRIPTS and len(FILES) > 60


def test_security_md_names_every_folder_that_is_written_to() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for folder in ("models/ticket_banks", "output/layout_trials", "user/__winning_tickets", "temp"):
        assert folder in text

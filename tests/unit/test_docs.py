"""Help pages: one for every node, with a picture, in every language."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "web" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LANGUAGES = ("zh", "ja", "es")
MARKS = ("|", "- ", "#", "![")
SOURCES = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "nodes").glob("*.py")))
NODES = re.findall(r'node_id="(\w+)",\s*display_name="([^"]+)"', SOURCES)


def shape(text: str) -> list[int]:
    return [sum(line.startswith(mark) for line in text.splitlines()) for mark in MARKS]


def figures(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text))


def sentences(text: str) -> set[str]:
    """Those of five words and more, in one line each."""
    found = re.split(r"(?<=[.:])\s+", " ".join(text.split()))
    return {sentence for sentence in found if len(sentence.split()) >= 5}


def test_every_node_is_in_the_schemas_as_this_file_reads_them() -> None:
    assert len(NODES) == SOURCES.count("node_id=") > 20


@pytest.mark.parametrize(("node", "name"), NODES)
def test_every_node_has_a_page_translations_and_a_place_in_readme(node: str, name: str) -> None:
    """Rule: CONTRIBUTING.md's steps for a new node are checked. A node without a page passed."""
    files = [DOCS / f"{node}.md", *(DOCS / node / f"{language}.md" for language in LANGUAGES)]
    missing = [str(path.relative_to(ROOT)) for path in files if not path.is_file()]
    assert not missing, f"step 5 of Adding a node in CONTRIBUTING.md is not done: {missing}"
    phrases = (ROOT / "scripts" / "phrases.txt").read_text(encoding="utf-8").splitlines()
    assert name in phrases, f"step 4: {name} is not in scripts/phrases.txt"
    assert f"*{name}*" in (ROOT / "README.md").read_text(encoding="utf-8"), f"step 7: {name} is not in README"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page_has_a_picture_and_typical_mistakes(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "## Typical mistakes" in text
    pictures = re.findall(r"!\[.+\]\((.+)\)", text)
    assert pictures[0] == f"images/{page.stem}.jpg"
    missing = [picture for picture in pictures if not (DOCS / picture).is_file()]
    assert not missing, f"step 5 of Adding a node in CONTRIBUTING.md says how they are made: {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_page_repeats_no_tooltip(page: Path) -> None:
    """Rule: a help page says what the tooltips do not."""
    said = sentences((ROOT / "scripts" / "phrases.txt").read_text(encoding="utf-8").replace("\n", "\n. "))
    repeated = sentences(page.read_text(encoding="utf-8")) & said
    assert len(said) > 200 and not repeated


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_translation_says_as_much_as_the_page(page: Path, language: str) -> None:
    """Rule: a changed help page is changed in every language."""
    text = page.read_text(encoding="utf-8")
    other = (DOCS / page.stem / f"{language}.md").read_text(encoding="utf-8")
    names = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert other.startswith(f"# {names[page.stem]['display_name']}\n")
    assert shape(other) == shape(text)
    assert re.findall(r"\]\((.+)\)", other) == re.findall(r"\]\((.+)\)", text)
    assert figures(text) <= figures(other)
    assert set(re.findall("`([^`]+)`", text)) <= set(re.findall("`([^`]+)`", other))


def test_the_region_editor_says_all_in_every_language() -> None:
    """Rule: what its modules say is in words.json, and nothing else is."""
    folder = ROOT / "web" / "regions"
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    assert set(words) == {"en", *LANGUAGES}
    assert all(said.keys() == words["en"].keys() and all(said.values()) for said in words.values())
    code = "".join(file.read_text(encoding="utf-8") for file in folder.glob("*.js"))
    assert not [name for name in words["en"] if not re.search(rf"\b{name}\b", code)]
    icons = set(re.findall(r'\[name="(\w+)"\]', (folder / "regions.css").read_text(encoding="utf-8")))
    buttons = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"\[([^[]+)\]\.map\(button\)", code))))
    assert buttons | {"unlock"} == icons and icons <= words["en"].keys()

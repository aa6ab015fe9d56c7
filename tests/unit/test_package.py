"""What an installation gets: the tracked files without those of .comfyignore."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import comfyui_server
import make_icons
import pytest
import registry_fields
import winning_tickets
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
CODE = ("nodes", "probe", "show", "guidance", "trial", "tickets")
MOST_BYTES = 4_200_000


def listed(*options: str) -> set[str]:
    found = subprocess.run(["git", "ls-files", *options], cwd=ROOT, capture_output=True, encoding="utf-8")
    if found.returncode:
        pytest.skip("not a git checkout")
    return set(found.stdout.splitlines())


@pytest.fixture(scope="module")
def installed() -> set[str]:
    return listed() - listed("-ci", "--exclude-from=.comfyignore")


def test_installed_pack_stays_small(installed: set[str]) -> None:
    assert sum((ROOT / name).stat().st_size for name in installed if (ROOT / name).is_file()) < MOST_BYTES
    assert not [name for name in installed if name.startswith(("demo/", "tests/", "benchmarks/"))]


def test_installed_pack_has_all_that_comfyui_shows_of_it(installed: set[str]) -> None:
    """`docs/` in .comfyignore took the help pages in web/docs, too."""
    for folder in ("web", "locales", "example_workflows", "subgraphs", "ticket_banks", *CODE):
        assert {name for name in listed() if name.startswith(f"{folder}/")} <= installed


def test_the_servers_of_the_tests_run_what_is_installed(installed: set[str]) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in comfyui_server.pack_files(ROOT)}
    hidden = {name for name in installed if name.startswith(".")}
    assert installed - hidden <= files


def test_an_older_comfyui_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    older = types.ModuleType("comfyui_version")
    older.__dict__["__version__"] = "0.18.0"
    monkeypatch.setitem(sys.modules, "comfyui_version", older)
    with pytest.raises(RuntimeError, match=r"needs ComfyUI 0.24.1 or newer; this is 0.18.0: update ComfyUI"):
        winning_tickets.comfy_entrypoint().send(None)


@pytest.mark.parametrize("version", ["0.24.1", "0.24.1+local", "0.24.1-dev", "0.31.0rc1"])
def test_a_comfyui_that_is_new_enough_is_not_refused_for_how_it_writes_its_version(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule: a suffix made 0.24.1 older than itself."""
    newer = types.ModuleType("comfyui_version")
    newer.__dict__["__version__"] = version
    monkeypatch.setitem(sys.modules, "comfyui_version", newer)
    loading = winning_tickets.comfy_entrypoint()
    # What comes after needs a whole ComfyUI.
    with pytest.raises((ImportError, StopIteration)):
        loading.send(None)


def test_what_is_refused_is_what_pyproject_says() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    claimed = re.search(r'requires-comfyui = ">=(.+)"', project)
    assert claimed and claimed[1] == ".".join(map(str, winning_tickets.OLDEST_COMFYUI))


def test_publishing_adds_where_from_and_changes_nothing_else() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    done = registry_fields.with_fields(project, "somebody/tickets", "somebody")
    added = [line for line in done.splitlines() if line and line not in project.splitlines()]
    assert [line.split(" = ")[0] for line in added] == [
        *("[project.urls]", "Repository", "Documentation", '"Bug Tracker"'),
        *("PublisherId", "Icon", "Banner"),
    ]
    assert [line for line in done.splitlines() if line not in added and line] == [
        line for line in project.splitlines() if line
    ]
    pictures = re.findall(r"raw\.githubusercontent\.com/somebody/tickets/main/(\S+)\"", done)
    assert len(pictures) == 2 and all((ROOT / picture).is_file() for picture in pictures)


def test_links_of_readme_lead_somewhere_from_the_archive_too(installed: set[str]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.compile(r'(?:\]\(|src="|href=")(?![a-z]+:|#)([^)"\s#]+)')
    assert links.findall(readme)
    assert not [path for path in links.findall(readme) if not (ROOT / path).exists()]
    left_out = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    packed = registry_fields.with_addresses(readme, "somebody/tickets", left_out)
    assert set(links.findall(packed)) <= installed
    assert "(https://github.com/somebody/tickets/raw/main/docs/" in packed
    assert registry_fields.with_addresses(packed, "somebody/tickets", left_out) == packed


def test_registry_pictures_have_its_sizes() -> None:
    """Rule: a square icon of at most 400 x 400, a banner of 21:9 (docs.comfy.org/registry/specifications)."""
    for name, size in make_icons.SIZES.items():
        with Image.open(ROOT / "docs" / f"{name}.png") as picture:
            assert picture.size == size
    (width, height), (wide, high) = make_icons.SIZES["icon"], make_icons.SIZES["banner"]
    assert width == height <= 400 and wide * 9 == high * 21


@pytest.mark.parametrize(
    ("repository", "publisher", "told"),
    [("tickets", "somebody", "OWNER/NAME"), ("somebody/tickets", "", "COMFY_PUBLISHER")],
)
def test_publishing_without_an_address_is_refused(repository: str, publisher: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        registry_fields.with_fields("", repository, publisher)


def test_workflows_pin_every_action_to_a_commit() -> None:
    """Rule: a tag can be moved to other code, a commit cannot."""
    text = "".join(p.read_text(encoding="utf-8") for p in (ROOT / ".github" / "workflows").glob("*.yml"))
    foreign = re.findall(r"uses: ([^.\s]\S+)", text)
    assert foreign and not [name for name in foreign if not re.search(r"@[0-9a-f]{40}$", name)]


@pytest.mark.parametrize("name", ["bug", "question", "trial-report"])
def test_forms_are_ones_that_github_takes(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8")
    form = yaml.safe_load(text)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert form["name"] and form["description"] and len(ids) == len(set(ids))
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in fields)
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).is_file()

"""What scripts/release.py lets through, and what it refuses."""

from __future__ import annotations

import io
import stat
import zipfile

import installs
import pytest
import release

CHANGELOG = "# Changelog\n\n## 1.1.0\nNew.\n\n- **A**: b\n\n## 1.0.0\nFirst.\n"


def archive(*names: str | zipfile.ZipInfo) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as made:
        for name in names:
            made.writestr(name, "x")
        return made.infolist()


def test_the_three_files_name_one_version() -> None:
    texts = release.read()
    named = release.versions(texts)
    assert not list(release.version_problems(named, ()))
    assert release.notes(texts["CHANGELOG.md"], named["pyproject.toml"])


@pytest.mark.parametrize(
    ("module", "project", "tags", "told"),
    [
        (
            "1.1.0",
            "1.0.0",
            (),
            "The versions differ: pyproject.toml says 1.0.0, tickets/__init__.py says 1.1.0",
        ),
        ("1.1", "1.1", (), "takes versions such as 1.0.0"),
        ("1.1.0", "1.1.0", ("v1.0.0", "v1.1.0"), "a tag of another commit already"),
    ],
)
def test_a_version_that_cannot_be_released_is_named(
    module: str, project: str, tags: tuple[str, ...], told: str
) -> None:
    texts = {
        "pyproject.toml": f'[project]\nname = "x"\nversion = "{project}"\n\n[tool.mypy]\nversion = "3"\n',
        "tickets/__init__.py": f'"""Doc."""\n\nVERSION = "{module}"\n',
        "CHANGELOG.md": CHANGELOG,
    }
    assert told in "".join(release.version_problems(release.versions(texts), tags))


def test_notes_are_those_of_one_version() -> None:
    assert release.notes(CHANGELOG, "1.1.0") == "New.\n\n- **A**: b"
    assert release.notes(CHANGELOG, "1.0.0") == "First."
    assert release.notes(CHANGELOG, "1.0") == release.notes(CHANGELOG, "2.0.0") == ""


def test_what_should_not_be_published_is_named() -> None:
    link = zipfile.ZipInfo("web/link.js")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    good = archive("LICENSE", "web/docs/A.md")
    assert not list(release.archive_problems(good, {"LICENSE", "web"}))
    bad = archive(link, "web/a.js", "web/A.js", "web/__pycache__/a.pyc", "web/a:b", "../out", "docs/a.png")
    told = list(release.archive_problems(bad, {"LICENSE", "web"}))
    for part in (
        *("lacks LICENSE", "holds .., docs", "web/link.js is a link", "web/a.js is there twice"),
        *("web/__pycache__/a.pyc is a leftover", "'web/a:b' is no file name", "'../out' is no file name"),
    ):
        assert [line for line in told if part in line], (part, told)
    assert len(told) == 7
    assert list(release.contents(good)) == [
        "  LICENSE                     0 kB in 1",
        "  web                         0 kB in 1",
    ]


def test_only_new_warnings_count() -> None:
    usual = "[WARNING] one of 3\n[INFO] Total VRAM 5 MB\n"
    assert not installs.warnings("[INFO] pack loaded\n[WARNING] one of 4\n", usual)
    told = "/x/custom_nodes/winning-tickets/a.py:3: DeprecationWarning: old"
    assert installs.warnings(f"{usual}{told}\n", usual) == [told]


def test_what_is_left_to_do_are_commands_that_exist() -> None:
    told = release.farewell("1.0.0", "me/tickets", "mine")
    for part in (
        "git tag v1.0.0",
        "scripts/registry_fields.py me/tickets mine",
        "scripts/release.py --notes",
    ):
        assert part in told
    assert installs.COMFY_CLI in told and "Nothing was uploaded" in told

"""Names of banks: what is saved here can be copied to any system."""

from __future__ import annotations

import ntpath
import os
import sys
from pathlib import Path

import folder_paths
import pytest
from winning_tickets.probe.files import bank_path, new_bank_path
from winning_tickets.tickets.bank.bank import BankError
from winning_tickets.tickets.bank.file import SaveError, load_bank, save_bank

sys.path.append(str(Path(__file__).parent.parent / "unit"))
from banks import make_bank


@pytest.mark.parametrize(
    "name", ["CON", "con.x", "a/nul", "COM1", "com\u00b9", "lpt\u00b3.old", "conin$", "CON .txt", "aux/b"]
)
def test_a_name_that_windows_keeps_for_itself_is_refused(name: str) -> None:
    with pytest.raises(BankError, match="is reserved on Windows: give a file name"):
        new_bank_path(name)


@pytest.mark.parametrize("name", ["a\nb", "a\ud800", "\x1b[31m", "a" * 20 + "\0" * 400])
def test_an_error_shows_any_name_as_one_line_that_can_be_logged(name: str) -> None:
    with pytest.raises(BankError, match="characters that cannot be shown") as error:
        new_bank_path(name)
    assert str(error.value).isprintable() and len(str(error.value)) < 400


@pytest.fixture
def banks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/ticket_banks, with a file beside it that is nobody's business."""
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    folder = tmp_path / "models" / "ticket_banks"
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "ticket_banks", ([str(folder)], {".safetensors"})
    )
    folder.mkdir(parents=True)
    (tmp_path / "models" / "secret.safetensors").write_bytes(b"x")
    return folder


@pytest.mark.skipif(os.name == "nt", reason="Windows has links for administrators only")
@pytest.mark.parametrize("target", ["..", "../../elsewhere", "loop"])
def test_a_link_leads_nowhere(banks: Path, target: str) -> None:
    """Rule: nothing is saved outside the folder, and a link to itself is no error of another kind."""
    (banks / "loop").symlink_to(target)
    with pytest.raises((BankError, SaveError)) as error:
        path = new_bank_path("loop/b")
        save_bank(make_bank(noises=1), path)
    assert str(error.value).isprintable() and not list(banks.parent.parent.rglob("b.safetensors"))


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/../secret.safetensors",
        "..\\secret.safetensors",
        "a/../../secret.safetensors",
    ],
)
def test_no_name_reads_what_lies_outside(banks: Path, name: str) -> None:
    with pytest.raises(BankError, match="There is no ticket bank called"):
        bank_path(name)


def test_a_name_on_another_drive_is_none_of_ours(banks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' relpath has an error of its own there; the page's route answered with it."""
    monkeypatch.setattr(folder_paths.os, "path", ntpath)
    with pytest.raises(ValueError, match="path is on mount"):
        folder_paths.get_full_path("ticket_banks", r"\\server\share\x.safetensors")
    with pytest.raises(BankError, match="There is no ticket bank called"):
        bank_path(r"\\server\share\x.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="not on Windows")
def test_names_of_files_are_shown_as_one_line(banks: Path) -> None:
    (banks / "a\x1b[2J\nb.safetensors").write_bytes(b"x")
    with pytest.raises(BankError, match="there are: a") as error:
        bank_path("none")
    assert str(error.value).isprintable()
    with pytest.raises(BankError, match="is damaged") as error:
        load_bank(bank_path("a\x1b[2J\nb.safetensors"))
    assert str(error.value).isprintable()


def test_a_path_has_an_end() -> None:
    with pytest.raises(BankError, match="more than 1000") as error:
        new_bank_path("a/" * 3000 + "b")
    assert len(str(error.value)) < 400

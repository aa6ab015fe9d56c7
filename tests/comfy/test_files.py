"""Names of banks: what is saved here can be copied to any system."""

from __future__ import annotations

import pytest
from winning_tickets.probe.files import new_bank_path
from winning_tickets.tickets.bank.bank import BankError


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

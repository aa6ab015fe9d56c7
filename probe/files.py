"""Where files lie: banks in models/ticket_banks, extra model paths and the pack; trials in output."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import folder_paths

from ..tickets.bank.bank import BankError
from ..trial.cases import TrialError

FOLDER = "ticket_banks"
SUFFIX = ".safetensors"
TRIALS, TRIAL_SUFFIX = "layout_trials", ".jsonl"
LONGEST, LONGEST_PATH = 255, 1000
MOST_NAMED = 20
PORTS = (f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))
RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", *PORTS}
SHIPPED = Path(__file__).parent.parent / "ticket_banks"


def register() -> None:
    """Make the folders known to ComfyUI; paths of extra_model_paths.yaml are kept."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER), True)
    folder_paths.add_model_folder_path(FOLDER, str(SHIPPED))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {SUFFIX})


def bank_names() -> list[str]:
    return folder_paths.get_filename_list(FOLDER)


def bank_path(name: str) -> Path:
    """Path of a bank by the name in the list."""
    try:
        path = None if "\0" in name else folder_paths.get_full_path(FOLDER, name)
    except ValueError:
        # On Windows: a name on another drive, or on a share of the network.
        path = None
    if path is None:
        names = bank_names()
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        known = ", ".join(_quoted(n)[1:-1] for n in names[:MOST_NAMED]) + more or "none yet"
        raise BankError(f"There is no ticket bank called {_quoted(name)}; there are: {known}.")
    return Path(path)


def new_bank_path(name: str, source: str = "name") -> Path:
    """Where a bank called `name` is saved: inside models/ticket_banks, never in the pack's own folder.

    source: the input that the name is from. BankError for a name that is not possible on every system,
    so that banks can be passed on.
    """
    folder = Path(folder_paths.models_dir, FOLDER)
    return _inside(folder, f"models/{FOLDER}", name, SUFFIX, source, BankError)


def output_folder() -> Path:
    """ComfyUI's."""
    return Path(folder_paths.get_output_directory())


def trial_path(name: str, source: str = "name") -> Path:
    """The file of a trial called `name`: inside output/layout_trials. TrialError as for banks."""
    return _inside(output_folder() / TRIALS, f"output/{TRIALS}", name, TRIAL_SUFFIX, source, TrialError)


def _inside(folder: Path, shown: str, name: str, suffix: str, source: str, refused: type[ValueError]) -> Path:
    """The file called `name` in a folder."""
    wanted = name.strip().replace("\\", "/").removesuffix(suffix)
    path = Path(os.path.join(folder, wanted + suffix))
    fault = _fault(wanted, suffix)
    # Path.resolve, before Python 3.13, has an error of its own for links that lead to themselves.
    if not fault and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        fault = "it leads out of the folder"
    if fault:
        raise refused(
            f"{source} is {_quoted(name)}, and {fault}: give a file name, or folder/name, inside {shown}."
        )
    return path


def _fault(wanted: str, suffix: str) -> str:
    """Why a name, without its suffix, cannot be that of a file; empty if it can."""
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in wanted):
        return "it has characters that cannot be shown"
    if found := [c for c in wanted if c in '<>:"|?*']:
        return f"file names have no {found[0]}"
    if len(wanted) > LONGEST_PATH:
        return f"it has {len(wanted)} characters, more than {LONGEST_PATH}"
    *folders, last = wanted.split("/")
    for part in (*folders, last + suffix):
        if not part.removesuffix(suffix).strip(". "):
            return "a part of it is empty"
        if part != part.strip(" ") or part.endswith("."):
            return "a part of it ends with a period or has a space at an end"
        # Superscript digits are those of ports to Windows, too.
        if unicodedata.normalize("NFKC", part.split(".")[0]).strip().upper() in RESERVED:
            return f"{part.split('.')[0]} is reserved on Windows"
        if (length := len(part.encode("utf-8"))) > LONGEST:
            return f"a part of it has {length} bytes with {suffix}, more than {LONGEST}"
    return ""


def _line(text: str) -> str:
    """A text without what cannot be shown in a line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _quoted(name: str) -> str:
    """A name in an error, however long."""
    if len(name) > LONGEST:
        return f'"{_line(name[:60])}..." ({len(name)} characters)'
    return f'"{_line(name)}"'


def advised(error: BankError, advice: str) -> BankError:
    """What went wrong and what to do about it, in one sentence."""
    return BankError(f"{str(error).removesuffix('.')}; {advice}.")

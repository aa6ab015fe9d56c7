"""Where banks lie: models/ticket_banks, the user's extra model paths, and those shipped with the pack."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..tickets.bank.bank import BankError

FOLDER = "ticket_banks"
SUFFIX = ".safetensors"
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
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        known = ", ".join(bank_names()) or "none yet"
        raise BankError(f'There is no ticket bank called "{name}"; there are: {known}.')
    return Path(path)


def new_bank_path(name: str) -> Path:
    """Where Save Ticket Bank writes `name`: inside models/ticket_banks, never in the pack's own folder."""
    folder = os.path.join(folder_paths.models_dir, FOLDER)
    wanted = name.strip().replace("\\", "/").removesuffix(SUFFIX)
    path = os.path.join(folder, wanted + SUFFIX)
    plain = all(part.strip(". ") for part in wanted.split("/")) and ":" not in wanted
    if not plain or not folder_paths.is_within_directory(folder, path):
        raise BankError(f'name is "{name}": give a file name, or folder/name, inside models/{FOLDER}.')
    return Path(path)

"""Saving and loading ticket banks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui_client import Client, PromptError
from comfyui_server import Server

Prompt = dict[str, Any]


@pytest.fixture
def banks(server: Server) -> Path:
    """models/ticket_banks of the server."""
    return server.log_path.parent / "models" / "ticket_banks"


@pytest.fixture
def saving(prompt: Prompt) -> Prompt:
    """Collects the example's bank and saves it as mine/first."""
    save = {"class_type": "SaveTicketBank", "inputs": {"bank": ["2", 0], "name": "mine/first"}}
    return {"1": prompt["1"], "2": prompt["2"], "3": save}


@pytest.fixture
def loading(short: Prompt) -> Prompt:
    """The example with the bank mine/first.safetensors in place of the collection."""
    short["2"] = {"class_type": "LoadTicketBank", "inputs": {"name": "mine/first.safetensors"}}
    return short


@pytest.fixture
def corrupt(banks: Path) -> Iterator[str]:
    """The name of a bank file that holds no bank."""
    banks.mkdir(parents=True, exist_ok=True)
    path = banks / "corrupt.safetensors"
    path.write_bytes(b"this is no ticket bank" * 100)
    yield path.name
    path.unlink()


def everything_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")} if folder.is_dir() else set()


def test_saved_bank_draws_the_same_picture(
    banks: Path, run: Callable[[Prompt], Any], example: Any, saving: Prompt, loading: Prompt
) -> None:
    before = everything_below(banks.parent)
    assert "mine/first.safetensors" in run(saving).text("3")
    new = everything_below(banks.parent) - before
    assert new - {"ticket_banks"} == {"ticket_banks/mine", "ticket_banks/mine/first.safetensors"}
    assert run(loading).pictures["8"].tobytes() == example.pictures["8"].tobytes()


@pytest.mark.parametrize("name", ["../evil", "/etc/x", "", "..", "a/../b", "a/../../b", "mine/", "C:\\x"])
def test_bank_is_not_saved_outside_its_folder(
    server: Server, failure: Callable[[Prompt], Any], saving: Prompt, name: str
) -> None:
    base = server.log_path.parent
    before = everything_below(base)
    saving["3"]["inputs"]["name"] = name
    told = failure(saving)
    assert told.node == "SaveTicketBank"
    assert f'"{name}"' in told.message
    assert "models/ticket_banks" in told.message
    assert everything_below(base) == before


def test_corrupt_bank_is_refused_in_one_sentence(
    failure: Callable[[Prompt], Any], loading: Prompt, corrupt: str
) -> None:
    loading["2"]["inputs"]["name"] = corrupt
    told = failure(loading)
    assert told.node == "LoadTicketBank"
    assert told.message.startswith("corrupt.safetensors is damaged")
    assert "\n" not in told.message
    assert "Traceback" not in told.message


def test_unknown_bank_is_refused_when_queued(client: Client, loading: Prompt) -> None:
    loading["2"]["inputs"]["name"] = "nowhere.safetensors"
    with pytest.raises(PromptError, match="nowhere.safetensors"):
        client.queue(loading)

"""Saving and loading ticket banks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui import ROOT
from comfyui_client import Client, PromptError
from comfyui_server import Server

Prompt = dict[str, Any]
SAVE = {"best_percent": 100.0, "precision": "float32"}


@pytest.fixture
def banks(server: Server) -> Path:
    """models/ticket_banks of the server."""
    return server.log_path.parent / "models" / "ticket_banks"


@pytest.fixture
def saving(prompt: Prompt) -> Prompt:
    """Collects the example's bank and saves it as mine/first."""
    save = {"class_type": "SaveTicketBank", "inputs": {"bank": ["2", 0], "name": "mine/first", **SAVE}}
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


def test_banks_of_extra_model_paths_are_offered_beside_those_shipped(
    client: Client, run: Callable[[Prompt], Any], elsewhere: Path
) -> None:
    (shipped,) = (ROOT / "ticket_banks").glob("*.safetensors")
    (elsewhere / "from_a_friend.safetensors").write_bytes(shipped.read_bytes())
    described = json.loads(client.get("/object_info/LoadTicketBank"))["LoadTicketBank"]
    kind, settings = described["input"]["required"]["name"]
    offered = settings["options"] if kind == "COMBO" else kind
    assert {shipped.name, "from_a_friend.safetensors"} <= set(offered)
    assert "6 categories" in run({"1": load("from_a_friend.safetensors"), "2": report_of(["1", 0])}).text("2")


@pytest.mark.parametrize(
    "name",
    [
        *("../evil", "/etc/x", "", "..", "a/../b", "a/../../b", "mine/", "C:\\x"),
        *("con", "mine/NUL", "com1.old", "what?", "a|b", "tab\tin", "mine./x", "x" * 244, "\u57ce" * 82),
    ],
    ids=lambda name: name[:12],
)
def test_bank_is_not_saved_outside_its_folder(
    server: Server, failure: Callable[[Prompt], Any], saving: Prompt, name: str
) -> None:
    base = server.log_path.parent
    before = everything_below(base)
    saving["3"]["inputs"]["name"] = name
    told = failure(saving)
    assert told.node == "SaveTicketBank"
    shown = name.replace("\t", r"\t")
    assert f'"{shown}"' in told.message and "\n" not in told.message
    assert "models/ticket_banks" in told.message
    assert everything_below(base) == before


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_in_the_way_is_named_before_anything_is_collected(
    banks: Path, listener: Any, failure: Callable[[Prompt], Any], prompt: Prompt, kind: str
) -> None:
    """Rule: a save that must fail fails before the work, in one sentence."""
    way = banks / f"in_the_way_{kind}.safetensors"
    way.parent.mkdir(parents=True, exist_ok=True)
    way.mkdir() if kind == "folder" else way.write_bytes(b"x")
    name = way.stem if kind == "folder" else f"{way.name}/mine"
    collecting = {"1": prompt["1"], "2": prompt["2"], "3": report_of(["2", 0])}
    collecting["2"]["inputs"].update(noises=10000, seed=7000, save_as=name)
    told = failure(collecting)
    assert told.node == "CollectTickets" and "save_as" in told.message and "\n" not in told.message
    assert "cannot be written" in told.message
    saving = {"class_type": "SaveTicketBank", "inputs": {"bank": ["1", 0], "name": name, **SAVE}}
    told = failure({"1": load("demo_model.safetensors"), "2": saving})
    assert told.node == "SaveTicketBank" and "cannot be written" in told.message
    way.rmdir() if kind == "folder" else way.unlink()


def test_what_cannot_be_saved_in_the_end_is_not_lost(
    banks: Path, listener: Any, client: Client, prompt: Prompt
) -> None:
    """Rule: a save that fails loses no collection: the bank goes on, and the node says it was not saved."""
    collecting = {"1": prompt["1"], "2": prompt["2"], "3": report_of(["2", 0])}
    collecting["2"]["inputs"].update(noises=200, seed=8000, save_as="late")
    prompt_id = listener.queue(collecting)
    listener.until(lambda event: event["type"] == "progress" and event["data"]["max"] == 200)
    way = banks / "late.safetensors"
    way.mkdir()
    outputs = client.wait(prompt_id, 600)["outputs"]
    told, report = ("\n".join(outputs[node]["text"]) for node in "23")
    assert "Warning: Not saved: late.safetensors cannot be written" in told and "Save Ticket Bank" in told
    assert "from 200 noises" in report
    assert everything_below(way) == set() and not list(banks.glob(".*"))
    way.rmdir()


def test_a_long_name_is_saved_and_loaded(banks: Path, run: Callable[[Prompt], Any]) -> None:
    name = "n" * 243
    saving = {"class_type": "SaveTicketBank", "inputs": {"bank": ["1", 0], "name": name, **SAVE}}
    assert name in run({"1": load("demo_model.safetensors"), "2": saving}).text("2")
    assert "6 categories" in run({"1": load(f"{name}.safetensors"), "2": report_of(["1", 0])}).text("2")
    (banks / f"{name}.safetensors").unlink()


@pytest.mark.parametrize("text", ['{"format": Infinity}', "[" * 200_000, '{"format": "2"}', "7"])
def test_no_header_is_more_than_a_sentence_to_the_page_and_to_the_node(
    banks: Path, client: Client, failure: Callable[[Prompt], Any], text: str
) -> None:
    """Rule: the page's route answers whatever lies in the folder."""
    path = banks / "hostile.safetensors"
    banks.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"__metadata__": {"ticket_bank": text}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    answer = json.loads(client.get("/winning_tickets/bank?name=hostile.safetensors"))
    assert set(answer) == {"error"} and answer["error"].startswith("hostile.safetensors")
    told = failure({"1": load(path.name), "2": report_of(["1", 0])})
    assert told.node == "LoadTicketBank" and "\n" not in told.message and len(told.message) < 400
    assert "Load Ticket Bank" in told.message
    path.unlink()


def test_corrupt_bank_is_refused_in_one_sentence(
    failure: Callable[[Prompt], Any], loading: Prompt, corrupt: str
) -> None:
    loading["2"]["inputs"]["name"] = corrupt
    told = failure(loading)
    assert told.node == "LoadTicketBank"
    assert told.message.startswith("Load Ticket Bank: corrupt.safetensors is damaged")
    assert "\n" not in told.message
    assert "Traceback" not in told.message


def test_unknown_bank_is_refused_when_queued(client: Client, loading: Prompt) -> None:
    loading["2"]["inputs"]["name"] = "nowhere.safetensors"
    with pytest.raises(PromptError, match="nowhere.safetensors"):
        client.queue(loading)


def test_a_name_to_save_as_keeps_the_bank_and_adds_to_it(
    banks: Path, run: Callable[[Prompt], Any], example: Any, short: Prompt
) -> None:
    short["2"]["inputs"]["save_as"] = "kept"
    assert run(short).pictures["8"].tobytes() == example.pictures["8"].tobytes()
    path = banks / "kept.safetensors"
    small = path.stat().st_size
    collecting = {"1": short["1"], "2": short["2"], "3": report_of(["2", 0])}
    collecting["2"]["inputs"]["noises"] = 60
    assert "from 60 noises" in run(collecting).text("3")
    assert path.stat().st_size > small


def test_what_a_cancelled_collection_has_is_kept(
    banks: Path, listener: Any, client: Client, run: Callable[[Prompt], Any], prompt: Prompt
) -> None:
    endless = {"1": prompt["1"], "2": prompt["2"], "3": report_of(["2", 0])}
    endless["2"]["inputs"].update(noises=10000, seed=5000, save_as="cancelled")
    prompt_id = listener.queue(endless)
    listener.until(lambda event: event["type"] == "progress" and event["data"]["max"] == 10000)
    client.interrupt(prompt_id)
    assert listener.until_end() == "execution_interrupted"
    loading = {
        "1": {"class_type": "LoadTicketBank", "inputs": {"name": "cancelled.safetensors"}},
        "2": report_of(["1", 0]),
    }
    assert (banks / "cancelled.safetensors").is_file()
    told = run(loading).text("2")
    assert "castle, tree, car" in told and "from 10000 noises" not in told


def test_a_name_of_another_bank_is_refused_before_collecting(
    run: Callable[[Prompt], Any], failure: Callable[[Prompt], Any], saving: Prompt, short: Prompt
) -> None:
    run(saving)
    short["2"]["inputs"].update(save_as="mine/first", categories="castle\ncar\ntree")
    told = failure(short)
    assert told.node == "CollectTickets"
    assert 'differs in categories (number 2 is "car" instead of "tree")' in told.message
    assert "\n" not in told.message


def load(name: str) -> Prompt:
    return {"class_type": "LoadTicketBank", "inputs": {"name": name}}


def report_of(bank: list[Any]) -> Prompt:
    return {"class_type": "TicketBankReport", "inputs": {"bank": bank}}


def test_banks_of_other_seeds_are_merged_and_reported(run: Callable[[Prompt], Any], prompt: Prompt) -> None:
    other = {"class_type": "CollectTickets", "inputs": {**prompt["2"]["inputs"], "seed": 600, "noises": 8}}
    merged = {
        "1": prompt["1"],
        "2": prompt["2"],
        "20": other,
        "21": {
            "class_type": "MergeTicketBanks",
            "inputs": {"banks.bank0": ["2", 0], "banks.bank1": ["20", 0], "any_recipe": False},
        },
        "22": report_of(["21", 0]),
    }
    done = run(merged)
    assert "from 56 noises" in done.text("22") and "castle" in done.text("22")
    assert done.pictures["22"].size[0] > 100


def test_pruned_bank_is_smaller_and_still_draws(
    banks: Path, run: Callable[[Prompt], Any], saving: Prompt, loading: Prompt
) -> None:
    run(saving)
    whole = (banks / "mine" / "first.safetensors").stat().st_size
    saving["3"]["inputs"].update(best_percent=5.0, precision="float16")
    run(saving)
    assert (banks / "mine" / "first.safetensors").stat().st_size < 0.3 * whole
    assert run(loading).pictures["8"].size == (256, 256)
    saving["3"]["inputs"].update(SAVE)
    run(saving)


def test_the_page_learns_what_a_bank_has_before_any_run(client: Client) -> None:
    (shipped,) = (ROOT / "ticket_banks").glob("*.safetensors")
    told = json.loads(client.get(f"/winning_tickets/bank?name={shipped.name}"))
    assert len(told["categories"]) == 6 and told["block"] == 2
    for name in ("none.safetensors", "../pyproject.toml", "", "%00", "x" * 3000, "a%2500b", "%ED%A0%80"):
        assert set(json.loads(client.get(f"/winning_tickets/bank?name={name}"))) == {"error"}

"""What the pack survives: hostile bank files, odd values of every input, layouts and trials of any text.

    python benchmarks/robustness.py --comfyui DIR files [--files 100000] [--served 300]
    python benchmarks/robustness.py --comfyui DIR values [--every 1]
    python benchmarks/robustness.py --comfyui DIR layouts [--texts 50000]

Each prints its row. Hypothesis draws the examples; the seeds are fixed, so that every run tries the same.

files: bank files with one to three changes each, through what Load Ticket Bank and the page's route read them
with, some hundreds of them on a real server; large ones, for their memory (Linux).
values: every input of every node on a real server, with the demo model.
layouts: the region editor's JSON, lines of regions and lines of trials.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent.parent / name) for name in ("demo", "scripts", "tests/unit")]
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("what", choices=("files", "values", "layouts"))
parser.add_argument("--files", type=int, default=100_000, help="different files to try in process")
parser.add_argument("--served", type=int, default=300, help="of them on a real server")
parser.add_argument("--every", type=int, default=1, help="try every nth of the values only")
parser.add_argument("--texts", type=int, default=50_000, help="different texts to try")
ARGS = parser.parse_args()
COMFYUI = ARGS.comfyui
start.comfyui(COMFYUI)
start.pack()

import torch
from banks import RECIPE, container, is_a_sentence, make_bank, write_container
from comfyui import ROOT, Install
from comfyui_server import Server
from hostile import ODD_TEXTS, TWO, Original, bank_files, layouts, odd_json, odd_lines
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from odd_pack import ODD
from odd_values import Judge, cases
from records import a_record
from winning_tickets.probe.files import new_bank_path
from winning_tickets.tickets.bank.bank import BankError, TicketBank
from winning_tickets.tickets.bank.combine import prune
from winning_tickets.tickets.bank.file import bank_facts, load_bank, save_bank
from winning_tickets.tickets.layout.parse import names_only, parse_regions
from winning_tickets.tickets.layout.regions import RegionError
from winning_tickets.trial.record import RecordError, parse

AT_ONCE = 1000
SLOW = 1.0


def draws(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], turn: int) -> None:
    """`AT_ONCE` examples of a seed of their own."""
    wanted = settings(
        max_examples=AT_ONCE,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(turn)(wanted(given(strategy)(check)))()


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def resident(line: str = "VmRSS") -> float:
    """MB of this process; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    return (
        next(int(text.split()[1]) for text in status.read_text().splitlines() if text.startswith(line)) / 1024
    )


def originals(folder: Path) -> tuple[Original, ...]:
    found = []
    for bank, half in (
        (make_bank(noises=2), False),
        (make_bank(noises=2), True),
        (prune(make_bank(noises=3), 0.1), False),
        (make_bank(("cat", "\u57ce"), 2, scheme="singles"), False),
    ):
        save_bank(bank, folder / "original.safetensors", half)
        found.append(Original.of((folder / "original.safetensors").read_bytes()))
    (folder / "original.safetensors").unlink()
    return tuple(found)


def outcome(read: Callable[[Path], object], path: Path, tally: Counter[str], faults: list[str]) -> bool:
    """Whether a file was read; what is neither a bank nor a sentence in time is a fault."""
    # Of the CPU: others share this machine.
    began = time.process_time()
    try:
        read(path)
        good = True
    except BankError as error:
        good = False
        if not is_a_sentence(str(error)):
            faults.append(f"no sentence: {str(error)!r:.200}")
    except BaseException as error:
        good = False
        faults.append(f"{type(error).__name__}: {error!s:.200}")
    if (took := time.process_time() - began) > SLOW:
        faults.append(f"{took:.1f} s of CPU time")
    tally[f"{read.__name__} {'read' if good else 'refused'}"] += 1
    return good


def files(folder: Path) -> None:
    began = time.monotonic()
    inside = folder / "banks"
    inside.mkdir()
    strategy = bank_files(originals(inside))
    path = inside / "x.safetensors"
    tally: Counter[str] = Counter()
    faults: list[str] = []
    seen: set[bytes] = set()
    served: list[bytes] = []

    def check(raw: bytes) -> None:
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        if digest in seen or len(seen) >= ARGS.files:
            return
        seen.add(digest)
        if ARGS.served and len(seen) % max(1, ARGS.files // ARGS.served) == 0:
            served.append(raw)
        path.write_bytes(raw)
        for read in (load_bank, bank_facts):
            outcome(read, path, tally, faults)

    turn, first = 0, 0.0
    while len(seen) < ARGS.files:
        draws(strategy, check, turn)
        turn += 1
        first = first or resident()
        if turn % 10 == 0:
            print(f"  {len(seen):,} files, {time.monotonic() - began:.0f} s, {resident():.0f} MB", flush=True)
    if (left := tree(folder)) != {"banks", "banks/x.safetensors"}:
        faults.append(f"left behind: {sorted(left)[:5]}")
    grown = resident() - first - len(seen) * 100 / 2**20
    print(f"files: {len(seen):,} different ones, {dict(tally)}; memory grew by {grown:.0f} MB")
    named = names(folder, faults)
    print(f"names: {named:,} of banks to save, none outside the folder")
    took = list(large(folder))
    print("large files, times in memory: " + ", ".join(f"{name} {times:.2f}" for name, times in took))
    on_a_server(served, faults)
    verdict(faults, len(seen) + named + len(served), began)


def names(folder: Path, faults: list[str]) -> int:
    """Names to save a bank under: a path in the folder, or a sentence."""
    import folder_paths

    folder_paths.models_dir = str(folder / "models")
    home = os.path.realpath(folder / "models" / "ticket_banks")
    parts = st.sampled_from(
        (*ODD_TEXTS, "..", ".", "~", "/", "\\", "C:", "//host/x", "a", "NUL", "b.safetensors")
    )
    seen: set[str] = set()

    def check(pieces: list[str]) -> None:
        name = "/".join(pieces)
        seen.add(name)
        try:
            path = new_bank_path(name)
        except BankError as error:
            if not is_a_sentence(str(error)):
                faults.append(f"no sentence for the name {name!r:.100}")
            return
        if not os.path.realpath(path).startswith(home + os.sep):
            faults.append(f"outside: {name!r:.100}")

    for turn in range(20):
        draws(st.lists(parts | st.text(max_size=4), min_size=1, max_size=5), check, turn)
    return len(seen)


def large(folder: Path) -> Iterator[tuple[str, float]]:
    """Large files, hostile and honest, and how many times its size loading one took at most."""
    if not Path("/proc/self/clear_refs").exists():
        return
    path = folder / "large.safetensors"

    def measured(name: str) -> tuple[str, float]:
        Path("/proc/self/clear_refs").write_text("5")
        before = resident()
        try:
            bank: Any = load_bank(path)
            what = "read"
        except BankError as error:
            bank, what = None, str(error)
        size = path.stat().st_size / 2**20
        more = max(0.0, resident("VmHWM") - before)
        print(f"  {name}: {size:.0f} MB, {more / size:.2f} times in memory; {what:.90}", flush=True)
        del bank
        return name, more / size

    for half in (False, True):
        save_bank(make_bank(noises=20_000), path, half)
        yield measured("a bank in float16" if half else "a bank in float32")
    size = 256 * 2**20
    save_bank(make_bank(), path)
    header, data = container(path)
    for name in ("blocks", "attention", "low", "high"):
        header[name] = {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}
    write_container(path, json.dumps(header).encode(), data)
    os.truncate(path, path.stat().st_size + size)
    yield measured("tensors over each other")
    for part in ("[],", "{},", "1000,", '"x",', '{"":'):
        body = ('{"__metadata__": [' + part * (4 * 2**20 // len(part)))[: 4 * 2**20 - 100]
        write_container(path, body.encode() + b" ")
        yield measured(f"a header of {part}")
    one = replace(RECIPE, block=16)
    count = 2**20
    seeds = TicketBank(
        ("cat",),
        ("a cat",),
        ((0, 0),),
        tuple(range(2**63, 2**63 + count)),
        torch.zeros(1, 4, 16, 16),
        torch.zeros(1, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int32),
        torch.zeros(1, 1),
        torch.zeros(1, count),
        torch.ones(1, count),
        one,
    )
    save_bank(seeds, path)
    del seeds
    yield measured("a million seeds of one ticket")
    path.unlink()


def on_a_server(served: list[bytes], faults: list[str]) -> None:
    """The page's route and the node say what the same file says in process."""
    if not served:
        return
    tally: Counter[str] = Counter()
    with Server(Install(COMFYUI, Path(sys.executable)), packs()) as server:
        judge = Judge(server.client, server.client.object_info())
        path = server.log_path.parent / "models" / "ticket_banks" / "hostile.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = tree(server.log_path.parent / "models")
        for raw in served:
            path.write_bytes(raw)
            expected = [outcome(read, path, Counter(), faults) for read in (bank_facts, load_bank)]
            told = json.loads(server.client.get(f"/winning_tickets/bank?name={path.name}"))
            load = {"class_type": "LoadTicketBank", "inputs": {"name": path.name}}
            report = {"class_type": "TicketBankReport", "inputs": {"bank": ["1", 0]}}
            answer = judge.run({"1": load, "2": report})
            if ["error" not in told, not answer.node] != expected:
                faults.append(f"on the server: {told!s:.100}, {answer.message:.100}, in process {expected}")
            if answer.node and not is_a_sentence(answer.message):
                faults.append(f"on the server: {answer.message!r:.200}")
            tally["read" if not answer.node else "refused"] += 1
        if not server.alive:
            faults.append("the server ended")
        if tree(server.log_path.parent / "models") - before - {"ticket_banks/hostile.safetensors"}:
            faults.append("the server wrote into its models")
    print(f"on a server, by node and route: {len(served)} files, {dict(tally)}, all as in process")


def packs() -> dict[str, Path]:
    return {
        "winning-tickets": ROOT,
        "winning-tickets-demo": ROOT / "demo",
        "winning-tickets-odd": Path(__file__).parent / "odd_pack",
    }


def values(folder: Path) -> None:
    began = time.monotonic()
    faults: list[str] = []
    tally: Counter[str] = Counter()
    with Server(Install(COMFYUI, Path(sys.executable)), packs()) as server:
        info = server.client.object_info()
        nodes = sorted(json.loads((ROOT / "tests" / "data" / "nodes.json").read_text(encoding="utf-8")))
        judge = Judge(server.client, info)
        right = judge.picture()
        every = list(cases(info, nodes, ODD))[:: ARGS.every]
        for number, case in enumerate(every, 1):
            answer = judge.run(case.prompt)
            tally[
                "refused when queued" if answer.refused else "refused by its node" if answer.node else "ran"
            ] += 1
            if fault := judge.fault(case, answer):
                faults.append(f"{case}: {fault}")
            if number % 100 == 0 or number == len(every):
                tally["runs in between, all right"] += 1
                if judge.picture() != right:
                    faults.append(f"after {case}: another picture")
                print(f"  {number} of {len(every)}, {time.monotonic() - began:.0f} s", flush=True)
        if not server.alive:
            faults.append("the server ended")
    print(f"values: {len(every):,} of {len(nodes)} nodes, {dict(tally)}")
    verdict(faults, len(every), began)


def layouts_and_trials(folder: Path) -> None:
    began = time.monotonic()
    faults: list[str] = []
    tally: Counter[str] = Counter()
    seen: set[str] = set()
    line = json.loads(a_record("tickets", 3).line())

    def new(text: str) -> bool:
        known = text in seen
        seen.add(text)
        return not known

    def region(text: str) -> None:
        if new(text):
            try:
                names_only(text)
                tally["regions" if parse_regions(text) else "no regions"] += 1
            except RegionError:
                tally["refused"] += 1
            except BaseException as error:
                faults.append(f"{type(error).__name__} {error!s:.100}: {text!r:.100}")

    def trial(text: str) -> None:
        if new(text):
            try:
                record = parse(text)
                tally["images"] += 1
                if parse(record.line()).line() != record.line():
                    faults.append(f"not the same again: {text!r:.200}")
            except RecordError:
                tally["left out"] += 1
            except BaseException as error:
                faults.append(f"{type(error).__name__} {error!s:.100}: {text!r:.100}")

    def exact(entries: list[dict[str, Any]]) -> None:
        text = json.dumps({"regions": entries})
        if new(text):
            found = [{"category": r.category, "box": [r.x0, r.y0, r.x1, r.y1]} for r in parse_regions(text)]
            tally["layouts, exact"] += found == entries
            if found != entries:
                faults.append(f"not the same again: {text!r:.200}")

    plain = st.from_regex(r"[a-z\u4e00-\u4eff]{1,8}( [a-z]{1,8})?", fullmatch=True)
    turn = 0
    while len(seen) < ARGS.texts:
        draws(odd_json(TWO) | odd_lines() | st.text(max_size=60), region, turn)
        draws(odd_json(line), trial, turn)
        draws(layouts(plain), exact, turn)
        turn += 1
    print(f"layouts and trials: {len(seen):,} different texts, {dict(tally)}")
    verdict(faults, len(seen), began)


def verdict(faults: list[str], tried: int, began: float) -> None:
    for fault, count in Counter(faults).most_common(40):
        print(f"FAULT ({count}): {fault}")
    print(f"{tried:,} tried, {len(faults)} faults, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        {"files": files, "values": values, "layouts": layouts_and_trials}[ARGS.what](Path(temporary))

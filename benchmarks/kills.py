"""kill -9 at random moments, full and read-only disks: what was saved is whole, what is resumed is the same.

    python benchmarks/kills.py --comfyui DIR [--kills 200] [--disks 60]

Linux; full and read-only disks are real ones, mounted in memory, for which this must run as root. Each job
runs in copies of this process, with the demo model; the seed is fixed, and the moments are spread over the
time that the job takes. A job is killed again and again until it has ended by itself.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path += [str(Path(__file__).parent.parent / name) for name in ("demo", "scripts", "tests/unit")]
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--kills", type=int, default=200, help="of all jobs together")
parser.add_argument("--disks", type=int, default=60, help="full disks")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import folder_paths
import torch
from banks import is_a_sentence, make_bank
from model import load as load_model
from records import a_record
from winning_tickets.probe.collect import collect
from winning_tickets.probe.collect.keep import collect_and_keep
from winning_tickets.probe.judge import ModelJudge
from winning_tickets.probe.layers import remembered
from winning_tickets.probe.model import memory
from winning_tickets.probe.sampling.draw import Sampling
from winning_tickets.probe.trial.kinds import Choice
from winning_tickets.probe.trial.score import score_trial
from winning_tickets.probe.trial.trial import TrialRequest, run_trial
from winning_tickets.tickets.bank.bank import BankError
from winning_tickets.tickets.bank.combine import merge, prune
from winning_tickets.tickets.bank.file import load_bank, save_bank
from winning_tickets.tickets.whole import TEMPORARY, sweep
from winning_tickets.trial.cases import PAIRS, TrialError, made_cases
from winning_tickets.trial.kept import load

NAMES = ("castle", "tree", "car")
SIZE = 128
LAYER = "input 3"
SEED = 23
torch.set_num_threads(1)
PARTS = load_model()
BOXES = [
    {"label": label, "x": x, "y": 16, "width": 20, "height": 30, "score": 0.9}
    for label, x in (("cat", 5), ("fire hydrant", 40))
]
ONE, OTHER = make_bank(noises=1500), make_bank(noises=1500, first=9000)


def collecting() -> str:
    request = collect.CollectRequest(NAMES, 12, 0, SIZE, SIZE, LAYER)
    return collect_and_keep(PARTS.model, PARTS.clip, request, "collected")[1]


def saving() -> str:
    for bank in (ONE, OTHER, ONE, OTHER):
        save_bank(bank, banks() / "saved.safetensors")
    return ""


def merging() -> str:
    save_bank(
        merge([load_bank(banks() / f"{name}.safetensors") for name in "ab"]), banks() / "ab.safetensors"
    )
    return ""


def pruning() -> str:
    """Over the bank itself, as often as it takes until it is small."""
    path = banks() / "pruned.safetensors"
    while len((bank := load_bank(path)).blocks) > 300:
        save_bank(prune(bank, 0.15), path)
    return ""


def trying() -> str:
    cases = tuple(made_cases(NAMES, PAIRS, "", 6, 5))
    choice = Choice(best_of=0, tickets=False, candidates=2, rounds=1)
    how = Sampling(2, 4.0, "euler", "normal", "")
    asked = {"categories": list(NAMES), "prompt": ""}
    request = TrialRequest(cases, 5, asked, SIZE, SIZE, how, choice, LAYER, "tried")
    return " ".join(run_trial(PARTS.model, PARTS.clip, request, ModelJudge).notes)


def judging() -> str:
    """Layout Score, with verdicts of more and more images in one file."""
    for first in range(0, 24, 4):
        records = [a_record(case=k, width=64, height=64) for k in range(first, first + 4)]
        score_trial(records, torch.zeros(4, 64, 64, 3), [[BOXES] * 4], "", "judged")
    return ""


def choosing() -> str:
    for number in range(30):
        if not remembered.remember(f"model {number}", "input 3", "why"):
            return "It cannot be written, which is logged."
    return ""


def prepare() -> None:
    for name, bank in (("a", ONE), ("b", OTHER), ("pruned", ONE), ("saved", OTHER)):
        save_bank(bank, banks() / f"{name}.safetensors")


def banks() -> Path:
    return Path(folder_paths.models_dir) / "ticket_banks"


def output() -> Path:
    return Path(folder_paths.output_directory)


def work_in(folder: Path) -> None:
    folder_paths.models_dir = str(folder / "models")
    folder_paths.output_directory = str(folder / "output")
    folder_paths.user_directory = str(folder / "user")


@dataclass(frozen=True)
class Ended:
    """How a copy of this process ended: killed, or what the job told or raised."""

    killed: bool
    told: str
    took: float


def copied(work: Callable[[], str], after: float | None = None) -> Ended:
    """Runs a job in a copy of this process; after: seconds until it is killed."""
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        text = "CRASH"
        try:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            text = f"ok {work()}"
        except (BankError, TrialError) as error:
            text = f"no {error}"
        except BaseException as error:
            text = f"CRASH {type(error).__name__}: {error}"
        finally:
            os.write(writing, text.encode()[:4000])
            os._exit(0)
    os.close(writing)
    if after is not None:
        time.sleep(after)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with open(reading, "rb") as pipe:
        told = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    return Ended(os.WIFSIGNALED(status) and not told, told, time.monotonic() - began)


def contents(folder: Path, faults: list[str], tally: Counter[str]) -> dict[str, object]:
    """All that is whole in a folder, by name; what is damaged is a fault."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file():
            continue
        if TEMPORARY.fullmatch(path.name):
            tally["temporary files left, removed after a day"] += 1
            os.utime(path, (1e9, 1e9))
            sweep(path.parent)
            if path.exists():
                faults.append(f"{name} is not removed")
            continue
        try:
            if path.suffix == ".jsonl":
                loaded = load(path)
                found[name] = sorted(record.line() for record in loaded.records)
                if loaded.notes:
                    faults.append(f"{name}: {loaded.notes}")
            else:
                if path.suffix == ".safetensors":
                    load_bank(path)
                found[name] = path.read_bytes()
        except Exception as error:
            faults.append(f"{name} is damaged: {error}")
    return found


def lost(before: dict[str, object], now: dict[str, object]) -> list[str]:
    """Files that are gone, and images that were there; only banks and choices may be replaced."""
    gone = [name for name in before if name not in now]
    for name in before.keys() & now.keys():
        if name.endswith(("tried.jsonl", "judged.jsonl")):
            here: object = now[name]
            assert isinstance(here, list)
            gone += [f"a line of {name}" for line in before[name] if line not in here]  # type: ignore[attr-defined]
        elif name.endswith((".latent", "a.safetensors", "b.safetensors")) and before[name] != now[name]:
            gone.append(f"what was in {name}")
    return gone


JOBS = (collecting, saving, merging, pruning, trying, judging, choosing)


def undisturbed(folder: Path, job: Callable[[], str]) -> tuple[dict[str, object], float]:
    """What a job leaves, and how long it takes."""
    times: list[float] = []
    whole: dict[str, object] = {}
    for turn in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        work_in(folder)
        prepare()
        ended = copied(job)
        if not ended.told.startswith("ok"):
            raise SystemExit(f"{job.__name__} does not run: {ended.told}")
        times.append(ended.took)
        faults: list[str] = []
        found = contents(folder, faults, Counter())
        assert not faults, faults
        if turn and found != whole:
            raise SystemExit(f"{job.__name__} differs from run to run")
        whole = found
    return whole, sorted(times)[1]


def kills(folder: Path) -> None:
    draw = random.Random(SEED)
    faults: list[str] = []
    every: Counter[str] = Counter()
    for job in JOBS:
        whole, took = undisturbed(folder, job)
        tally: Counter[str] = Counter()
        while tally["kills"] < ARGS.kills / len(JOBS):
            shutil.rmtree(folder)
            prepare()
            before = contents(folder, faults, tally)
            while (ended := copied(job, draw.uniform(0, took))).killed:
                tally["kills"] += 1
                now = contents(folder, faults, tally)
                faults += [f"{job.__name__}: {name} is lost" for name in lost(before, now)]
                before = now
                if tally["kills"] % 10 == 0 and job is not trying and job is not collecting:
                    break
            if ended.killed:
                ended = copied(job)
            if not ended.told.startswith("ok"):
                faults.append(f"{job.__name__}: {ended.told}")
            tally["ended, the same as undisturbed"] += 1
            if (now := contents(folder, faults, tally)) != whole:
                other = [name for name in now.keys() | whole.keys() if now.get(name) != whole.get(name)]
                faults.append(f"{job.__name__}: another result than undisturbed: {other}")
        print(f"{job.__name__} ({took:.2f} s): {dict(tally)}", flush=True)
        every += tally
    print(f"killed: {dict(every)}")
    verdict(faults)


class Disk:
    """A file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.folder], check=True)

    def change(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.folder], check=False)


def disks(folder: Path) -> None:
    draw = random.Random(SEED)
    faults: list[str] = []
    every: Counter[str] = Counter()
    for job in JOBS:
        whole, _ = undisturbed(folder / "plain", job)
        begun = sum(path.stat().st_size for path in (folder / "plain").rglob("*") if path.is_file())
        shutil.rmtree(folder / "plain")
        work_in(folder / "plain")
        prepare()
        there = sum(path.stat().st_size for path in (folder / "plain").rglob("*") if path.is_file())
        need = max(begun - there, 0) + (3 * 2**20 if job in (saving, pruning) else 50_000)
        tally: Counter[str] = Counter()
        place = folder / "disk"
        place.mkdir(exist_ok=True)
        disk = Disk(place)
        for turn in range(round(ARGS.disks / len(JOBS)) + 1):
            disk.mount("size=200m")
            try:
                work_in(place / "home")
                prepare()
                before = contents(place / "home", faults, tally)
                used = sum(path.stat().st_blocks * 512 for path in place.rglob("*"))
                room = "ro" if turn == 0 else f"size={used + draw.randrange(need)}"
                disk.change(room)
                ended = copied(job)
                what = "read-only" if turn == 0 else "full"
                told = ended.told[3:]
                if ended.told.startswith("no"):
                    tally[f"{what}: a sentence"] += 1
                    if not is_a_sentence(told):
                        faults.append(f"{job.__name__}: no sentence: {told}")
                elif ended.told.startswith("ok"):
                    warned = "Not saved" in told or "cannot be written" in told
                    tally[f"{what}: {'done, with a note' if warned else 'there was room'}"] += 1
                    if turn == 0 and not warned:
                        faults.append(f"{job.__name__}: nothing was said of a disk that is read-only")
                else:
                    faults.append(f"{job.__name__}: {told}")
                if turn < 2:
                    print(f"  {job.__name__}, {room}: {told:.300}")
                disk.change("rw,size=200m")
                left = Counter[str]()
                now = contents(place / "home", faults, left)
                if left:
                    faults.append(f"{job.__name__}: a temporary file was left")
                faults += [f"{job.__name__}: {name} is lost" for name in lost(before, now)]
                again = copied(job)
                if not again.told.startswith("ok") or contents(place / "home", faults, tally) != whole:
                    faults.append(f"{job.__name__}: with room again: {again.told}, or another result")
            finally:
                disk.unmount()
        print(f"{job.__name__}: {dict(tally)}", flush=True)
        every += tally
    print(f"disks: {dict(every)}; with room again each ended as undisturbed")
    verdict(faults)


def verdict(faults: list[str]) -> None:
    for fault, count in Counter(faults).most_common(40):
        print(f"FAULT ({count}): {fault:.400}")
    print(f"{len(faults)} faults", flush=True)


if __name__ == "__main__":
    # Batches of two noises, each kept: all moments of a long collection in a short one.
    memory.MOST = 6
    collect.KEEP_EVERY, collect.KEEP_SHARE = 0.0, 1e9
    with tempfile.TemporaryDirectory() as temporary:
        if ARGS.kills:
            kills(Path(temporary) / "kills")
        if ARGS.disks:
            disks(Path(temporary))

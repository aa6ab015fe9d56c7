"""Random edits of the example workflows: each result equals that of the same graph in a new ComfyUI.

    python benchmarks/orders.py --comfyui DIR [--edits 2000] [--kept FILE]

Linux. Each sequence of edits, and each graph that it is compared with, runs in a copy of this process, in
ComfyUI's own executor, in which nothing has run before. The seeds are fixed. FILE keeps what new ComfyUIs
gave, for the next time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing.connection
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent.parent / name) for name in ("demo", "scripts", "tests/unit")]
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--edits", type=int, default=2000)
parser.add_argument("--kept", type=Path)
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import in_process
import torch
from edits import Edits
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from in_process import Answer, Executor, Prompt, digested
from moments import Moments

SEQUENCES, STEPS = 4, 15
TALLY: Counter[str] = Counter()


class Copy:
    """A copy of this process with an executor of its own."""

    def __init__(self) -> None:
        self.pipe, theirs = multiprocessing.connection.Pipe()
        self.usual: dict[str, int] = {}
        self.child = os.fork()
        if self.child == 0:
            try:
                self.pipe.close()
                _serve(theirs)
            finally:
                os._exit(1)
        theirs.close()

    def run(self, prompt: Prompt, cancel_at: float = 0.0, raised: bool = False) -> Answer:
        wanted = digested(prompt)
        many = self.usual.get("moments", 500)
        # Mostly early: of what is cached there are no moments.
        self.pipe.send((wanted, round(many**cancel_at) if cancel_at else 0, raised))
        answer: Answer = self.pipe.recv()
        if answer.how == "done" and answer.moments:
            self.usual["moments"] = answer.moments
        TALLY[f"queued: {answer.how}"] += 1
        TALLY["nodes run"] += answer.ran
        TALLY["nodes cached"] += len(wanted) - answer.ran if answer.how == "done" else 0
        return answer

    def close(self) -> None:
        self.pipe.send(None)
        self.pipe.close()
        os.waitpid(self.child, 0)


def _serve(pipe: Any) -> None:
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with tempfile.TemporaryDirectory() as folder:
        in_process.work_in(Path(folder))
        executor = Executor(Moments())
        while (asked := pipe.recv()) is not None:
            pipe.send(executor.run(*asked))
    os._exit(0)


class Fresh:
    """What a new ComfyUI gives for a prompt."""

    def __init__(self, kept: Path | None) -> None:
        self.kept, self.known = kept, {}
        if kept and kept.exists():
            for line in kept.read_text(encoding="utf-8").splitlines():
                one = json.loads(line)
                key = one.pop("prompt")
                self.known[key] = Answer(**one)

    def __call__(self, prompt: Prompt) -> Answer:
        key = hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()
        if key not in self.known:
            copy = Copy()
            before = Counter(TALLY)
            self.known[key] = copy.run(prompt)
            TALLY.clear()
            TALLY.update(before)
            TALLY["different graphs"] += 1
            copy.close()
            if self.kept:
                with self.kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"prompt": key, **asdict(self.known[key])}) + "\n")
        return self.known[key]


def main() -> None:
    began = time.monotonic()
    in_process.load()
    new = Fresh(ARGS.kept)
    faults: list[str] = []

    class Counted(Edits):
        open, info = Copy, staticmethod(in_process.info)
        fresh = staticmethod(new)

        def teardown(self) -> None:
            TALLY["edits"] += len(self.done)
            TALLY["sequences"] += 1
            super().teardown()

    turn = 0
    while TALLY["edits"] < ARGS.edits:
        wanted = settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        try:
            run_state_machine_as_test(seed(turn)(Counted), settings=wanted)
        except AssertionError as error:
            faults.append(str(error))
            print(f"FAULT: {error!s:.1500}", flush=True)
        turn += 1
        print(f"  {dict(TALLY)}, {time.monotonic() - began:.0f} s", flush=True)
    print(f"orders: {dict(TALLY)}")
    print(f"{len(faults)} faults, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

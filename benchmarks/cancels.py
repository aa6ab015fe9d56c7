"""Cancelled at random moments, all long nodes: the MODEL is as before, and so is the next run.

    python benchmarks/cancels.py --comfyui DIR [--cancels 200]

In ComfyUI's own executor, with the demo model, a clone of it that another pack has patched, and a tiny
random transformer. A moment is the call of any module of any model; half of the cancels come out of it, half
are ComfyUI's own, noticed by whatever looks for them next. The seed is fixed.
"""

from __future__ import annotations

import argparse
import gc
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path += [
    str(Path(__file__).parent.parent / name) for name in ("demo", "scripts", "tests/unit", "tests/comfy")
]
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--cancels", type=int, default=200)
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.model_management
import comfy.model_patcher
import in_process
import other_patches
import tiny
import torch
from comfy_api.latest import io
from in_process import Answer, Executor, Prompt, digested
from model import load as load_demo
from moments import Moments
from odd_values import quick_prompt
from same import differences, state

import nodes

SEED = 23
HELD: dict[str, tuple[Any, Any, Any]] = {}


class HeldModel(io.ComfyNode):
    """A model that this script holds, and looks at."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        outputs = [io.Model.Output(), io.Clip.Output(), io.Vae.Output()]
        return io.Schema(node_id="HeldModel", inputs=[io.String.Input("name")], outputs=outputs)

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        return io.NodeOutput(*HELD[name])


@dataclass(frozen=True)
class Job:
    """A prompt with a long node. kept: the folder of what it resumes. left_out: outputs that tell of that."""

    prompt: Prompt
    kept: str = ""
    left_out: tuple[str, ...] = ()

    def results(self, answer: Answer) -> dict[str, str]:
        return {name: found for name, found in answer.results.items() if name not in self.left_out}


def jobs() -> dict[str, Job]:
    info = in_process.info()
    both: dict[str, Any] = {"model": ["model", 0], "clip": ["model", 1]}
    after = (("look", "after steps"),)
    search: dict[str, Any] = {"candidates": 3, "advanced": "custom", "advanced.rounds": 1}
    text: dict[str, Any] = {
        "positive": ["text", 0],
        "negative": ["no text", 0],
        "latent_image": ["latent", 0],
    }
    how: dict[str, Any] = {"cfg": 4.0, "steps": 3, "seed": 3, "scheduler": "normal", "denoise": 1.0}

    def sampled(model: list[Any], **changed: Any) -> Prompt:
        inputs = {"model": model, "sampler_name": "dpmpp_2m", **how, **text, **changed}
        return {"sampled": {"class_type": "KSampler", "inputs": inputs}}

    custom = {"noise": ["noise", 0], "sampler": ["sampler", 0], "sigmas": ["sigmas", 0]}
    guided = {"guider": ["odd", 0], "latent_image": ["latent", 0], **custom}
    report = {"latent": ["sampled", 0], "model": ["odd", 0], "steps": "", "number": 1}
    watched = sampled(["odd", 0]) | {"report": {"class_type": "AttentionOverStepsReport", "inputs": report}}
    made: dict[str, Job] = {}

    def add(name: str, node: str, beside: Any = (), more: Any = None, kept: str = "", **values: Any) -> None:
        left = ("odd/0", "odd/1") if node == "LayoutTrial" else ()
        prompt = quick_prompt(info, node, beside, {**whole, **(more or {})}, **values)
        made[name] = Job(prompt, kept, left)

    # What may be behind a node, whether it needs it or not.
    whole = {
        "text": {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": "a castle and a tree", "clip": ["model", 1]},
        },
        "no text": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["model", 1]}},
        "latent": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 128, "height": 152, "batch_size": 2},
        },
        "noise": {"class_type": "RandomNoise", "inputs": {"noise_seed": 3}},
        "sampler": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler_ancestral"}},
        "sigmas": {
            "class_type": "BasicScheduler",
            "inputs": {"model": ["model", 0], "scheduler": "normal", "steps": 3, "denoise": 1.0},
        },
    }
    add("Collect Tickets", "CollectTickets", noises=40)
    add("Collect Tickets, saved", "CollectTickets", noises=60, save_as="kept", kept="models/ticket_banks")
    add("Collect Tickets, auto", "CollectTickets", layer="auto", kept="user")
    add("Ticket Layer Report", "TicketLayerReport")
    add("Ticket Latent from Regions", "TicketLatentFromRegions", (("advanced", "custom"),), **both, **search)
    add("Ticket Latent from Regions, after steps", "TicketLatentFromRegions", after, **both)
    add("Arrange Noise by Regions", "ArrangeNoiseByRegions", candidates=6)
    add("Arrange Noise by Regions, after steps", "ArrangeNoiseByRegions", after)
    add("Pick Best Noise", "PickBestNoise", candidates=6, more={**sampled(["model", 0])})
    add("Pick Best Noise, after steps", "PickBestNoise", after)
    add("Guidance Cutoff KSampler", "GuidanceCutoffKSampler", sampler_name="euler_ancestral", steps=4)
    add("Guidance Cutoff KSampler, dpmpp_2m", "GuidanceCutoffKSampler", sampler_name="dpmpp_2m", steps=4)
    add("Guidance Cutoff", "GuidanceCutoff", more=sampled(["odd", 0]))
    advanced = {"sampled": {"class_type": "SamplerCustomAdvanced", "inputs": guided}}
    add("Guidance Cutoff Guider", "GuidanceCutoffGuider", more=advanced)
    add("Attention over Steps", "AttentionOverSteps", more=watched)
    add("Swap End Tokens", "SwapEndTokens", more=sampled(["model", 0], positive=["odd", 0]))
    add("Layout Trial", "LayoutTrial", images=3, kept="output")
    found: dict[str, Job] = {}
    for name, job in made.items():
        for held in ("demo", "patched", "transformer"):
            words = "Ticket Latent", "Swap", "Report", "auto", "Trial"
            if held == "transformer" and any(word in name for word in words):
                continue
            prompt = {k: dict(v, inputs=dict(v["inputs"])) for k, v in job.prompt.items()}
            prompt["model"] = {"class_type": "HeldModel", "inputs": {"name": held}}
            if held == "transformer" and prompt["odd"]["inputs"].get("layer") == "input 3":
                prompt["odd"]["inputs"]["layer"] = "block 1"
            found[f"{name} ({held})"] = Job(digested(prompt), job.kept, job.left_out)
    return found


def states(weights: bool = True) -> dict[str, Any]:
    found = {}
    for name, (model, clip, vae) in HELD.items():
        found[f"{name} model"] = state(model, weights)
        found[f"{name} text encoder"] = state(clip.patcher, weights)
        found[f"{name} vae"] = state(vae.patcher, weights) if vae else None
    found["torch"] = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    return found


def alive() -> tuple[int, float, float]:
    """Patchers, MB of tensors, MB of this process."""
    patchers, storages = 0, {}
    for one in gc.get_objects():
        if isinstance(one, comfy.model_patcher.ModelPatcher):
            patchers += 1
        elif isinstance(one, torch.Tensor) and one.device.type == "cpu":
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    resident = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
    return patchers, sum(storages.values()) / 2**20, resident / 1024


def hold() -> None:
    demo = load_demo()
    HELD["demo"] = tuple(demo)
    patched = other_patches.random_numbers(other_patches.by_kind(demo.model))
    HELD["patched"] = patched, demo.clip, demo.vae
    sd3 = tiny.FAMILIES["SD3"]
    HELD["transformer"] = sd3.model(), sd3.clip(), None


def main(folder: Path) -> None:
    began = time.monotonic()
    in_process.work_in(folder)
    in_process.load()
    nodes.NODE_CLASS_MAPPINGS[HeldModel.GET_SCHEMA().node_id] = HeldModel
    hold()
    executor = Executor(Moments(), classic=True)
    every = jobs()
    plain: dict[str, Answer] = {}
    nothing = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
    rest = digested({"model": {"class_type": "EmptyImage", "inputs": nothing}})
    for name, job in every.items():
        clear(folder, job)
        executor.run(rest)
        plain[name] = executor.run(job.prompt)
        if plain[name].how != "done" or not plain[name].moments:
            raise SystemExit(f"{name} does not run: {plain[name]}")
        clear(folder, job)
    executor.run(rest)
    gc.collect()
    before, lighter = states(), states(False)
    # A first round, in which what is kept for good is made.
    start_of = alive()
    draw = random.Random(SEED)
    tally: Counter[str] = Counter()
    faults: list[str] = []
    memory: list[tuple[int, float, float]] = []
    # Each job, the long ones less often: all together they would take most of the time.
    weights = [min(1.0, 2000 / plain[name].moments) for name in every]
    told = 0
    while tally["cancelled"] < ARGS.cancels:
        (name,) = draw.choices(list(every), weights)
        job = every[name]
        clear(folder, job)
        executor.run(rest)
        at, raised = draw.randint(1, plain[name].moments), draw.random() < 0.5
        answer = executor.run(job.prompt, at, raised)
        tally[answer.how] += 1
        tally[f"of {answer.how}: {'out of a module' if raised else 'by the flag'}"] += 1
        if answer.how not in ("cancelled", "done"):
            faults.append(f"{name} at {at}: {answer}")
        faults += [f"{name} at {at}: {d} differs" for d in differences(before, states())]
        again = executor.run(job.prompt)
        if again.how != "done" or job.results(again) != job.results(plain[name]):
            other = differences(job.results(plain[name]), job.results(again))
            faults.append(f"{name} after a cancel at {at}: {again.how} {again.message:.200}, other {other}")
        faults += [f"{name}, run again: {d} differs" for d in differences(lighter, states(False))]
        clear(folder, job)
        for fault in faults[told:]:
            print(f"FAULT: {fault:.400}", flush=True)
        told = len(faults)
        if answer.how == "cancelled" and tally["cancelled"] % 20 == 0:
            executor.run(rest)
            gc.collect()
            memory.append(alive())
            print(
                f"  {dict(tally)}, {time.monotonic() - began:.0f} s; patchers, MB tensors, MB: {memory[-1]}",
                flush=True,
            )
    print(f"{len(every)} jobs, {dict(tally)}; at rest before and after: {start_of}, {memory[-1:]}")
    print(f"{len(faults)} faults, {time.monotonic() - began:.0f} s")


def clear(folder: Path, job: Job) -> None:
    if job.kept:
        shutil.rmtree(folder / job.kept, ignore_errors=True)
        (folder / job.kept).mkdir(parents=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))

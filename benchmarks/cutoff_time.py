"""Wall time of a whole run with the guidance cutoff against the stock KSampler's, and against the limit.

    python benchmarks/cutoff_time.py --comfyui DIR [--model demo sd15 sdxl] [--batch 1 4 16] [--pixels 256]
                                     [--steps 20] [--repeats 5] [--guided 0.5] [--float32] [--gpu]
                                     [--cpu-time]

Run with the Python of that ComfyUI. All in one run, in turn, after one of each that does not count (unless
--repeats is 0); the median. SD1.5's and SDXL's shapes have random weights and run in bfloat16 unless told
otherwise. The limit is forwards used over forwards of stock: nothing but the UNet's forwards would take time,
and half the rows half of it. The stock KSampler at cfg 1 is measured, too: what half the rows really take
here gives the limit of this machine. On a machine that others use, too: --cpu-time, with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--model", nargs="+", choices=["demo", "sd15", "sdxl"], default=["demo"])
parser.add_argument("--batch", nargs="+", type=int, default=[1, 4, 16])
parser.add_argument("--pixels", type=int, default=256)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--guided", type=float, default=0.5)
parser.add_argument("--float32", action="store_true", help="the real sizes in float32")
parser.add_argument("--gpu", action="store_true", help="on the GPU")
parser.add_argument("--cpu-time", action="store_true", help="of this process, instead of wall time")
ARGS = parser.parse_args()
CLOCK = time.process_time if ARGS.cpu_time else time.perf_counter
start.comfyui(ARGS.comfyui, cpu=not ARGS.gpu)
start.pack()

import comfy.sample
import comfy.utils
import model as model_module
import real_size
import torch
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.probe.sampling.cutoff import CutoffPatch


def load(name: str) -> tuple[Any, Sequence[Any]]:
    """MODEL, positive and negative."""
    if name == "demo":
        parts = model_module.load()
        return parts.model, [
            parts.clip.encode_from_tokens_scheduled(parts.clip.tokenize(t)) for t in ("a cat and a tree", "")
        ]
    dtype = torch.float32 if ARGS.float32 else torch.bfloat16
    model = (real_size.sd15_unet if name == "sd15" else real_size.sdxl)(dtype)
    return model, [real_size.prompt(model, seed) for seed in (1, 2)]


def run(model: Any, conds: Sequence[Any], batch: int, cfg: float = 5.0) -> float:
    """Seconds of a whole run, as the KSampler node does it."""
    latent = torch.zeros(batch, 4, ARGS.pixels // 8, ARGS.pixels // 8)
    noise = comfy.sample.prepare_noise(latent, 1)
    since = CLOCK()
    comfy.sample.sample(
        model, noise, ARGS.steps, cfg, "euler", "normal", *conds, latent, disable_pbar=True, seed=1
    )
    return CLOCK() - since


def measure(name: str, model: Any, conds: Sequence[Any], batch: int) -> str:
    patch = CutoffPatch(Cutoff(Share(ARGS.guided)))
    ways = [(model, 5.0), (patch.attach(model), 5.0), (model, 1.0)]
    times: list[list[float]] = [[] for _ in ways]
    for repeat in range(ARGS.repeats + 1):
        for (way, cfg), taken in zip(ways, times, strict=True):
            seconds = run(way, conds, batch, cfg)
            if repeat or not ARGS.repeats:
                taken.append(seconds)
    stock, ours, _ = map(statistics.median, times)
    used = patch.run.nfe / patch.run.stock[0]
    # Neighbours in time, so that a machine that is busy for a while slows all.
    ratios = [b / a for a, b, _ in zip(*times, strict=True)]
    half = statistics.median(c / a for a, _, c in zip(*times, strict=True))
    ratio, reachable = statistics.median(ratios), half + (1 - half) * (2 * used - 1)
    return (
        f"| {name}, {ARGS.pixels} px, {ARGS.steps} steps | {batch} | {stock:.2f} s | {ours:.2f} s"
        f" | {ratio:.3f} [{min(ratios):.3f}, {max(ratios):.3f}] | {used:.3f}, {ratio / used - 1:+.1%}"
        f" | {half:.3f} | {reachable:.3f}, {ratio / reachable - 1:+.1%} |"
    )


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    print(
        "| model | batch | stock | cutoff | ratio [least, most] | limit, above it | stock at cfg 1 |"
        " limit here, above it |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in ARGS.model:
        model, conds = load(name)
        for batch in ARGS.batch:
            print(measure(name, model, conds, batch), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()

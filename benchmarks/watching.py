"""What Attention over Steps costs: time of a watched run over that of the same run unwatched.

    python benchmarks/watching.py --comfyui DIR [--model sd15 sdxl] [--pixels 512] [--steps 4] [--repeats 4]
                                  [--layer all] [--float32] [--gpu] [--cpu-time]

Run with the Python of that ComfyUI. Real sizes with random weights, in bfloat16 unless told otherwise; two
phrases; guided. In turn, after one of each that does not count; the median of the ratios of neighbours; and
the time inside of what the watch adds, over the rest of its run, which scatters less. On a machine that
others use, too: --cpu-time, with OMP_NUM_THREADS=1.
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
parser.add_argument("--model", nargs="+", choices=["sd15", "sdxl"], default=["sd15"])
parser.add_argument("--pixels", type=int, default=512)
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--repeats", type=int, default=4)
parser.add_argument("--layer", default="all")
parser.add_argument("--float32", action="store_true")
parser.add_argument("--gpu", action="store_true", help="on the GPU")
parser.add_argument("--cpu-time", action="store_true", help="of this process, instead of wall time")
ARGS = parser.parse_args()
CLOCK = time.process_time if ARGS.cpu_time else time.perf_counter
start.comfyui(ARGS.comfyui, cpu=not ARGS.gpu)
start.pack()

import comfy.sample
import comfy.utils
import real_size
import torch
from winning_tickets.probe.attention.reader import Reader
from winning_tickets.probe.attention.tokens import PromptTokens
from winning_tickets.probe.model.family import find_layers
from winning_tickets.probe.model.unet import UNet
from winning_tickets.probe.sampling import watch


class Stopwatch:
    """Seconds inside of the functions that it has taken the place of."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            since = CLOCK()
            try:
                return function(*given, **named)
            finally:
                self.seconds += CLOCK() - since

        setattr(owner, name, timed)


def run(model: Any, conds: Sequence[Any]) -> tuple[float, torch.Tensor]:
    """Seconds of a whole run, and its result."""
    latent = torch.zeros(1, 4, ARGS.pixels // 8, ARGS.pixels // 8)
    noise = comfy.sample.prepare_noise(latent, 1)
    since = CLOCK()
    result = comfy.sample.sample(
        model, noise, ARGS.steps, 5.0, "euler", "normal", *conds, latent, disable_pbar=True, seed=1
    )
    return CLOCK() - since, result


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    added = Stopwatch()
    for owner, name in ((Reader, "_read"), *((watch, n) for n in ("pooled", "low_share", "guidance_norm"))):
        added.time(owner, name)
    print(
        "| model | layers | unwatched | watched | ratio [least, most] | added, over the rest | same picture |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in ARGS.model:
        dtype = torch.float32 if ARGS.float32 else torch.bfloat16
        model = (real_size.sd15_unet if name == "sd15" else real_size.sdxl)(dtype)
        conds = [real_size.prompt(model, seed) for seed in (1, 2)]
        family = UNet(model)
        layers = family.layers if ARGS.layer == watch.ALL else find_layers(family, ARGS.layer)
        context = conds[0][0][0]
        phrases = PromptTokens("", ("one", "other"), conds[0], context.shape[1], ((2,), (5, 6)))
        watching = watch.Watch(phrases, family, layers).attach(model)
        pairs = [(run(model, conds), run(watching, conds))]
        added.seconds = 0.0
        pairs += [(run(model, conds), run(watching, conds)) for _ in range(ARGS.repeats)]
        same = all(torch.equal(a[1], b[1]) for a, b in pairs)
        times = [(a[0], b[0]) for a, b in pairs[1:]]
        ratios = [b / a for a, b in times]
        inside = added.seconds / (sum(b for _, b in times) - added.seconds)
        plain, ours = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"| {name}, {ARGS.pixels} px, {ARGS.steps} steps | {len(layers)} | {plain:.2f} s | {ours:.2f} s"
            f" | {statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}] | {inside:.1%}"
            f" | {same} |",
            flush=True,
        )


if __name__ == "__main__":
    with torch.inference_mode():
        main()

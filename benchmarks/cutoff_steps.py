"""Guided steps asked for and run, and forwards, for every sampler and five schedulers; CFGOverride beside.

    python benchmarks/cutoff_steps.py --comfyui DIR [--guided 0.3] [--steps 20] [--denoise 1.0]
                                      [--samplers NAME ...]

Run with the Python of that ComfyUI. On the demo model. Forwards are counted apart from the pack,
in forwards of the batch: a guided evaluation is two. CFGOverride is set to cfg 1 from the
same share of the schedule on. Samplers with the same line share it.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

SCHEDULERS = ("simple", "normal", "karras", "beta", "sgm_uniform")
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--guided", type=float, default=0.3)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--denoise", type=float, default=1.0)
parser.add_argument("--samplers", nargs="+", help="only these (default: all)")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.sample
import comfy.samplers
import comfy.utils
import model as model_module
import torch
from comfy_extras.nodes_custom_sampler import CFGOverride
from forwards import counted
from winning_tickets.guidance.cutoff import Cutoff, Share
from winning_tickets.probe.sampling.cutoff import CutoffPatch

CFG = 5.0


def run(model: Any, conds: Sequence[Any], sampler: str, scheduler: str) -> tuple[int, int]:
    """Forwards, and steps that began with a guided evaluation."""
    clone, seen = counted(model)
    guided_steps: list[bool] = []
    latent = torch.full((1, 4, 16, 16), 0.1)
    comfy.sample.sample(
        clone,
        comfy.sample.prepare_noise(latent, 1),
        ARGS.steps,
        CFG,
        sampler,
        scheduler,
        *conds,
        latent,
        denoise=ARGS.denoise,
        callback=lambda *about: guided_steps.append(seen[-1].rows == 2),
        disable_pbar=True,
        seed=1,
    )
    return seen.total, sum(guided_steps)


def cell(parts: Any, conds: Sequence[Any], sampler: str, scheduler: str) -> str:
    stock, steps = run(parts.model, conds, sampler, scheduler)
    ours, kept = run(CutoffPatch(Cutoff(Share(ARGS.guided))).attach(parts.model), conds, sampler, scheduler)
    override = CFGOverride.execute(parts.model, 1.0, ARGS.guided, 1.0).result[0]
    theirs, theirs_kept = run(override, conds, sampler, scheduler)
    return (
        f"{kept} of {steps}, {ours}/{stock}, {1 - ours / stock:.0%}"
        f" ({theirs_kept}, {theirs}, {1 - theirs / stock:.0%})"
    )


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    parts = model_module.load()
    conds = [parts.clip.encode_from_tokens_scheduled(parts.clip.tokenize(t)) for t in ("a cat", "")]
    rows: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for sampler in ARGS.samplers or comfy.samplers.KSampler.SAMPLERS:
        line = tuple(cell(parts, conds, sampler, scheduler) for scheduler in SCHEDULERS)
        rows[line].append(sampler)
        print(sampler, file=sys.stderr, flush=True)
    print(
        f"{ARGS.steps} steps, denoise {ARGS.denoise:g}, guided {ARGS.guided:g}. A cell: guided steps of all,"
    )
    print("forwards / forwards of stock, saved; in brackets CFGOverride's guided steps, forwards, saved.\n")
    print(f"| samplers | {' | '.join(SCHEDULERS)} |")
    print("| --- " * (1 + len(SCHEDULERS)) + "|")
    for line, samplers in rows.items():
        print(f"| {', '.join(samplers)} | {' | '.join(line)} |")


if __name__ == "__main__":
    with torch.inference_mode():
        main()

"""What a look costs beyond the model's own partial forward, and what `layer auto` costs beside collecting.

    python benchmarks/looking.py --comfyui DIR [--images 4] [--pixels 512] [--repeats 5] [--auto]

Run with the Python of that ComfyUI. A look: SD1.5's shape with random weights in bfloat16, at `input 8`; the
bare model (apply_model) stopped where the look stops, and then `Scorer.blocks` on the same noise and prompt,
in turn, after one of each that does not count; CPU time of this process, so best with
OMP_NUM_THREADS=1. --auto: the demo model, 8 categories, rows and CPU time of choosing a layer and of
collecting 32 noises at the layer that was chosen.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--images", type=int, default=4, help="looked at together")
parser.add_argument("--pixels", type=int, default=512)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--auto", action="store_true", help="measure layer auto instead")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.model_management
import comfy.utils
import model as demo_model
import real_size
import torch
from forwards import counted
from scenes import CATEGORIES
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.layers.choose import choose_layer
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import JOINT, make_prompts

LAYER = "input 8"
NAMES = ("castle", "lake", "sky")


class Stop(Exception):
    """The layer is reached."""


def stop(*_: Any) -> Any:
    raise Stop


def bare(model: Any, noise: torch.Tensor, prompt: Any, scorer: Scorer) -> None:
    """The model alone, as far as the look goes."""
    options = {"patches_replace": {"attn2": {scorer.layers[-1]: stop}}}
    sigma = torch.full((len(noise),), scorer.family.noise_level())
    context = prompt.conditioning[0][0].expand(len(noise), -1, -1)
    try:
        model.model.apply_model(
            noise * float(sigma[0]), sigma, c_crossattn=context, transformer_options=options
        )
    except Stop:
        return


def look() -> None:
    model, clip = real_size.sd15_unet(torch.bfloat16), real_size.sd15_clip()
    scorer = Scorer(model, clip, "looking.py", ARGS.pixels, ARGS.pixels, LAYER)
    prompts = scorer.encode(make_prompts(NAMES, JOINT))
    noise = torch.cat([plain_noise(seed, scorer.shape) for seed in range(ARGS.images)])
    comfy.model_management.load_models_gpu([model])
    ratios, times = [], []
    for k in range(ARGS.repeats + 1):
        began = time.process_time()
        bare(model, noise, prompts[0], scorer)
        between = time.process_time()
        scorer.blocks(prompts, noise, scorer.grid())
        ended = time.process_time()
        if k:
            times.append(between - began)
            ratios.append((ended - between) / (between - began))
    print(
        f"SD1.5's shape, {ARGS.pixels} px, {ARGS.images} images, {LAYER}: the model's own part"
        f" {statistics.median(times):.2f} CPU s; a look takes {statistics.median(ratios):.3f}"
        f" [{min(ratios):.3f}, {max(ratios):.3f}] of it ({ARGS.repeats} repeats)"
    )


def auto() -> None:
    parts = demo_model.load()
    counting, seen = counted(parts.model)
    request = CollectRequest(tuple(CATEGORIES[:8]), 32, 0, 256, 256, "auto")
    began = time.process_time()
    chosen, note = choose_layer(counting, parts.clip, request, "looking.py")
    between, rows = time.process_time(), seen.total
    collect(counting, parts.clip, chosen)
    ended = time.process_time()
    print(
        f"{note}\nChoosing: {rows} rows, {between - began:.1f} CPU s; collecting 32 noises of 8 categories:"
        f" {seen.total - rows} rows, {ended - between:.1f} CPU s"
    )


if __name__ == "__main__":
    comfy.utils.set_progress_bar_enabled(False)
    with torch.inference_mode():
        auto() if ARGS.auto else look()

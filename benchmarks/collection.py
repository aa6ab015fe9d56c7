"""Collect Tickets against the authors' procedure: FLOPs, forwards, wall time, memory; with equal scores.

    python benchmarks/collection.py --comfyui DIR [--noises 2] [--pixels 512]

Run with the Python of that ComfyUI. The authors' procedure (Mao et al. 2024, released code) is written on
stock ComfyUI: for every noise and pair of categories a whole guided evaluation, conditional and
unconditional, in which every cross-attention layer's map is kept. FLOPs are counted on PyTorch's meta
device, without weights; times are of SD1.5's shape with random weights, both procedures in one run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "demo"))
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--noises", type=int, default=1)
parser.add_argument("--pixels", type=int, default=512)
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--flops-only", action="store_true", help="no weights, no times")
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)
start.pack()

import comfy.samplers
import real_size
import torch
from comfy.ldm.modules.attention import optimized_attention
from flops import flops
from forwards import counted
from memory import Peak
from winning_tickets.probe.attention.first_step import FirstStep
from winning_tickets.probe.attention.reader import token_attention
from winning_tickets.probe.attention.scorer import Scorer
from winning_tickets.probe.attention.tokens import encode_prompt
from winning_tickets.probe.collect.collect import CollectRequest, collect
from winning_tickets.probe.model.family import latent_shape
from winning_tickets.probe.model.unet import UNet
from winning_tickets.tickets.noise import plain_noise
from winning_tickets.tickets.prompts import make_prompts

CATEGORIES = ("castle", "lake", "sky")
LAYER = ("input", 8, 0)


def keep(encoded: Any, maps: dict, q: Any, k: Any, v: Any, extra: dict[str, Any]) -> torch.Tensor:
    """Keeps the conditional half's map of a layer, and does what the layer does."""
    halves = len(extra["cond_or_uncond"])
    half = extra["cond_or_uncond"].index(0)
    q_cond, k_cond = q.chunk(halves)[half], k.chunk(halves)[half]
    read = token_attention(q_cond, k_cond, extra["n_heads"], encoded.positions, encoded.length)
    key = (*extra["block"], extra["block_index"])
    maps[key] = read[0].unflatten(-1, tuple(extra["activations_shape"][-2:])).cpu()
    return optimized_attention(q, k, v, extra["n_heads"], transformer_options=extra)


def published(model: Any, clip: Any, seeds: range) -> dict[tuple[int, int], torch.Tensor]:
    """The authors' procedure: (prompt, seed) -> attention to the two categories [2, h, w]."""
    family = UNet(model)
    shape, sigma = latent_shape(model, ARGS.pixels, ARGS.pixels), family.noise_level()
    layers = family.layers
    found = {}
    for number, prompt in enumerate(make_prompts(CATEGORIES)):
        for seed in seeds:
            encoded = encode_prompt(clip, prompt)
            empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
            maps: dict[Any, torch.Tensor] = {}
            clone = model.clone()
            for layer in layers:
                patch = partial(keep, encoded, maps)
                clone.set_model_attn2_replace(patch, layer.block, layer.number, layer.depth)
            guider = comfy.samplers.CFGGuider(clone)
            guider.set_conds(encoded.conditioning, empty)
            guider.set_cfg(7.5)
            x = plain_noise(seed, shape)
            sigmas = torch.tensor([sigma, 0.0])
            guider.sample(x, torch.zeros_like(x), FirstStep(), sigmas, seed=0, disable_pbar=True)
            found[number, seed] = maps[LAYER]
    return found


def ours(model: Any, clip: Any, seeds: range) -> Any:
    request = CollectRequest(CATEGORIES, len(seeds), seeds[0], ARGS.pixels, ARGS.pixels, "input 8")
    return collect(model, clip, request)


def table_of_flops() -> None:
    print("| model | layer | one forward | to the layer | per (noise, pair): theirs / ours |")
    print("| --- | --- | --- | --- | --- |")
    for name, settings, side, layer in (
        ("SD1.5, 512x512", real_size.SD15, 64, LAYER),
        ("SDXL, 1024x1024", real_size.SDXL, 128, ("input", 5, 1)),
        ("SDXL, 1024x1024", real_size.SDXL, 128, ("input", 8, 9)),
    ):
        whole, part = flops(settings, side, side), flops(settings, side, side, layer)
        label = f"{layer[0]} {layer[1]}" + (f".{layer[2]}" if layer[2] else "")
        print(f"| {name} | {label} | {whole / 1e9:.0f} G | {part / whole:.1%} | {2 * whole / part:.2f} |")


def times() -> None:
    model, clip = real_size.sd15()
    theirs, mine = [], []
    for k in range(ARGS.repeats + 1):
        seeds = range(k * ARGS.noises, (k + 1) * ARGS.noises)
        counter, seen = counted(model)
        began = time.perf_counter()
        reference = published(counter, clip, seeds)
        between = time.perf_counter()
        their_rows = seen.total
        seen.clear()
        bank = ours(counter, clip, seeds)
        ended = time.perf_counter()
        difference = max(
            float((bank.maps(2 * prompt + which)[seeds.index(seed)] - maps[which]).abs().max())
            for (prompt, seed), maps in reference.items()
            for which in range(2)
        )
        scale = float(bank.attention.mean())
        if k:
            theirs.append(between - began)
            mine.append(ended - between)
            print(f"run {k}: {theirs[-1]:.1f} s, {mine[-1]:.1f} s; rows {their_rows}, {seen.total}")
        print(f"  largest difference of the attention {difference:.1e}, mean {scale:.1e}", flush=True)
    ratio = [t / m for t, m in zip(theirs, mine, strict=True)]
    print(
        f"SD1.5's shape, {ARGS.pixels}x{ARGS.pixels}, {torch.get_num_threads()} threads: theirs / ours"
        f" {statistics.median(ratio):.2f} (of {', '.join(f'{r:.2f}' for r in ratio)})"
    )
    peaks(model, clip)


def peaks(model: Any, clip: Any) -> None:
    """Peak memory of activations: two prompts on one noise, and a stock guided step of one image."""
    family = UNet(model)
    shape, sigma = latent_shape(model, ARGS.pixels, ARGS.pixels), family.noise_level()
    encoded = [encode_prompt(clip, p) for p in make_prompts(CATEGORIES)][:2]
    x = plain_noise(0, shape)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(encoded[0].conditioning, clip.encode_from_tokens_scheduled(clip.tokenize("")))
    guider.set_cfg(7.5)
    with Peak() as stock:
        sigmas = torch.tensor([sigma, 0.0])
        guider.sample(x, torch.zeros_like(x), FirstStep(), sigmas, seed=0, disable_pbar=True)
    print(f"Peak of activations, 2 rows: stock guided step {stock.bytes / 1e6:.0f} MB")
    for name in ("input 8", "output 11"):
        with Peak() as mine:
            Scorer(model, clip, "peak", ARGS.pixels, ARGS.pixels, name).maps(encoded, x)
        print(f"  collecting at {name}: {mine.bytes / 1e6:.0f} MB, {mine.bytes / stock.bytes:.2f} of it")


if __name__ == "__main__":
    with torch.inference_mode():
        table_of_flops()
        if not ARGS.flops_only:
            times()

"""Trains the demo model and its judge from nothing: scenes -> autoencoder -> latents -> judge -> UNet.

    python demo/train.py --comfyui DIR      (the Python that runs this ComfyUI; CPU or GPU)

Work in progress lies in demo/progress/ and every stage goes on where it was stopped. The result is
demo/weights/: demo.safetensors, judge.safetensors (both float16) and training.json (settings, log).
DEMO_VARIANT names another model of variants.py to be trained, into a folder of its own.
--from-weights starts from those instead, and trains the phases that they have not been through.
--snapshot writes the averaged weights of a training that was stopped, or still runs, as far as it is.
Tickets and attention maps play no part here: the losses are the ordinary ones.
On Linux CPUs, LD_PRELOAD=libtcmalloc_minimal.so.4 can save much time (fewer page faults).
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import start
from settings import FLOW_PHASES, LONGER, PHASES, SHORT_FLOW_PHASES, SHORT_PHASES, Phase, Settings
from variants import chosen, folder, progress

HERE = Path(__file__).parent
NAME, VARIANT = chosen()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    start.add_option(parser)
    parser.add_argument("--device", default=None, help="cpu or cuda; default: what there is")
    parser.add_argument("--stage", choices=("vae", "latents", "judge"), help="stop after this stage")
    parser.add_argument("--from-weights", action="store_true", help="go on from the weights there are")
    parser.add_argument("--snapshot", action="store_true", help="write the weights as they are now")
    parser.add_argument("--progress", type=Path, default=progress(), help="work in progress")
    parser.add_argument("--weights", type=Path, default=folder(), help="where the result goes")
    parser.add_argument("--phase_steps", type=int, help="at most so many steps a phase, for a trial")
    for field in dataclasses.fields(Settings):
        default = VARIANT.training.get(field.name, field.default)
        parser.add_argument(f"--{field.name}", type=type(field.default), default=default)
    return parser.parse_args()


ARGS = parse()
start.comfyui(ARGS.comfyui, cpu=ARGS.device == "cpu")

import autoencoder
import denoiser
import judge as judge_module
import loop
import model as model_module
import precision
import scenes as scenes_module
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F


def train_judge(s: Settings, data: dict, work: Path, device: torch.device) -> judge_module.Judge:
    net = judge_module.Judge(len(scenes_module.CONCEPTS) + 1)
    net = net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = loop.Run(work / "judge.pt", nn.ModuleDict({"net": net}), s.judge_lr, s.judge_steps, s.seed)

    def loss_of() -> torch.Tensor:
        pick = torch.randint(len(data["latents"]), (s.judge_batch,), generator=run.rng)
        x = data["latents"][pick].float()
        amount = torch.rand(s.judge_batch, 1, 1, 1, generator=run.rng) * s.judge_noise
        x = x + torch.randn(x.shape, generator=run.rng) * amount
        x = x.to(device, memory_format=torch.channels_last)
        with precision.autocast(device.type):
            logits = net(x)
        return F.cross_entropy(logits.float(), data["labels"][pick].long().to(device))

    run.loop(loss_of)
    return net


@torch.inference_mode()
def judge_report(net: judge_module.Judge, data: dict) -> dict[str, float]:
    """Pixel accuracy and mean IoU over the classes (nothing included) on held-out scenes."""
    net = net.float().cpu().eval()
    found = torch.cat([net(x.float()).argmax(1) for x in data["latents"].split(50)])
    truth = data["labels"].long()
    classes = range(len(scenes_module.CONCEPTS) + 1)
    ious = []
    for c in classes:
        both = ((found == c) & (truth == c)).sum()
        ious.append(float(both / ((found == c) | (truth == c)).sum()))
    accuracy = float((found == truth).float().mean())
    return {"pixel_accuracy": accuracy, "mean_iou": sum(ious) / len(ious), "worst_iou": min(ious)}


def sources() -> dict[str, str]:
    """Hashes of the files the weights come from."""
    names = (
        "train",
        "settings",
        "variants",
        "scenes",
        "autoencoder",
        "denoiser",
        "judge",
        "loop",
        "training",
        "model",
        "networks",
        "precision",
    )
    return {f"{n}.py": hashlib.sha256((HERE / f"{n}.py").read_bytes()).hexdigest()[:16] for n in names}


def commit() -> str:
    command = ["git", "-C", str(HERE), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def write(state: dict[str, torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {
        k: v.detach().cpu().half().contiguous() if v.is_floating_point() else v.cpu()
        for k, v in state.items()
    }
    temporary = path.with_suffix(".tmp")
    save_file(half, str(temporary))
    os.replace(temporary, path)


def phases() -> list[Phase]:
    most = ARGS.phase_steps
    if VARIANT.prediction == "flow":
        own: tuple[Phase, ...] = FLOW_PHASES if VARIANT.longer else SHORT_FLOW_PHASES
    else:
        own = (*SHORT_PHASES, *([LONGER] if VARIANT.longer else [])) if NAME else PHASES
    return [p if most is None else p._replace(steps=min(p.steps, most)) for p in own]


def main() -> None:
    s = Settings(**{f.name: getattr(ARGS, f.name) for f in dataclasses.fields(Settings)})
    device = torch.device(ARGS.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    work, out = ARGS.progress, ARGS.weights
    model_path, judge_path = out / model_module.WEIGHTS.name, judge_module.WEIGHTS
    if VARIANT.own_judge:
        judge_path = out / judge_path.name
    log_path = out / ("training.json" if VARIANT.own_judge else f"{NAME}.json")
    torch.manual_seed(s.seed)
    record: dict[str, Any] = {"commit": commit(), "sources": sources()}
    before: dict[str, torch.Tensor] | None = None
    log: dict[str, Any] = {"columns": ["step", "loss", "seconds"]}
    if ARGS.from_weights:
        before, earlier = load_file(model_path), json.loads(log_path.read_text(encoding="utf-8"))
        record["continues"] = {k: earlier[k] for k in ("commit", "sources", "continues") if k in earlier}
        log = earlier["log"]
    if before or not VARIANT.own_autoencoder:
        every = before if before and VARIANT.own_judge else load_file(model_module.DEMO)
        vae = {k[4:]: v for k, v in every.items() if k.startswith("vae.")}
        net = autoencoder.load_autoencoder(vae, device)
    else:
        net = autoencoder.train_autoencoder(s, work, device)
    if ARGS.stage == "vae":
        return
    data, held_out = autoencoder.all_latents(s, net, work, device)
    if before or not VARIANT.own_judge:
        judge = judge_module.load_judge(judge_path)
    else:
        judge = train_judge(s, data, work, device)
    report = judge_report(judge, held_out)
    print("judge on held-out scenes:", {k: round(v, 4) for k, v in report.items()})
    if ARGS.stage in ("latents", "judge"):
        return
    ahead = [p for p in phases() if p.name not in log or log[p.name][-1][0] < p.steps]
    if not ahead:
        print("These weights have been through every phase of settings.py.")
        return
    if ARGS.snapshot:
        ahead = [p for p in ahead if (work / f"{p.name}.pt").exists()]
    run, known = denoiser.train_denoiser(s, ahead, data, work, device, before, ARGS.snapshot)
    parts = {"vae": VARIANT.own_autoencoder, "judge": VARIANT.own_judge}
    trained = [name for name, own in parts.items() if own and not before]
    for name in (*trained, *(p.name for p in ahead)):
        log[name] = torch.load(work / f"{name}.pt", weights_only=True)["log"]
    assert run.average is not None
    run.average.swap()
    state = denoiser.exported(run.parts, known)
    if VARIANT.own_judge:
        state.update({f"vae.{k}": v for k, v in net.state().items()})
        write(judge.state_dict(), judge_path)
    write(state, model_path)
    record |= {
        "settings": {**dataclasses.asdict(s), "phases": [p._asdict() for p in phases()]},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {device.type}",
        "torch": torch.__version__,
        "judge_held_out": report,
        "log": log,
    }
    log_path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("written:", out)


if __name__ == "__main__":
    main()

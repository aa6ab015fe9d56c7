"""A server's long life: 1,000 prompts of all nodes from two clients, and whether anything grows.

    python benchmarks/long_life.py --comfyui DIR [--rounds 42] [--stock]

Each round has a prompt of every node, in random order, with values drawn from a fixed seed: some are the same
again, so that results come from ComfyUI's cache, some were never there before. Both clients queue half of
them at once. After each round, when nothing runs, what the process has and keeps is counted, from outside
(Linux) and by a pack inside of it (`inside_pack`). Slopes: least squares over the rounds after the first
two fifths, with a 95% interval. ComfyUI's history is cleared after each round, and its cache holds 30
results: both grow by themselves. --stock: as many prompts of ComfyUI's own nodes, as the baseline.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).parent.parent / name) for name in ("demo", "scripts")]
import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("--rounds", type=int, default=42, help="of a prompt of every node each")
parser.add_argument("--stock", action="store_true", help="ComfyUI's own nodes only")
parser.add_argument("--keep", type=Path, help="write every round's figures to this file")

from comfyui import ROOT, Install
from comfyui_server import Server
from odd_values import LINES, fine, needed, support
from scipy import stats
from watcher import Watcher

Prompt = dict[str, Any]
SEED = 23
CACHED = 30
SIZES = ((128, 128), (152, 104), (256, 256))
OTHERS = ("castle: 0 0 1 0.5\ntree: 0 0.5 1 1", "tree: 0.1 0.1 0.6 0.6\ncastle: 0.5 0.5 1 1")
# By an input's own name: what it is now and then instead of its fine value.
VARIED: dict[str, tuple[Any, ...]] = {
    "batch_size": (1, 2),
    "noises": (2, 3, 5),
    "steps": (2, 3, 4),
    "cfg": (2.0, 4.0, 7.5),
    "strength": (1.0, 0.5),
    "candidates": (1, 2, 3),
    "rounds": (1, 2),
    "sampler_name": ("euler", "dpmpp_2m", "euler_ancestral"),
    "scheduler": ("normal", "karras"),
    "regions": (LINES, *OTHERS),
    "layout": (LINES, *OTHERS),
    "best_percent": (100.0, 50.0, 5.0),
    "precision": ("float32", "float16"),
    "look": ("first step", "after steps"),
    "images": (1, 2),
    "scheme": ("pairs", "singles", "joint"),
    "layer": ("input 3", "input 3", "input 3", "auto"),
}
# What tells of the moment only: where an object lies, how long a step took, what was there before.
MOMENTARY = r" at 0x[0-9a-fA-F]+|[0-9.e-]+ s an? (un)?guided step|\d+ of \d+ images were drawn before\.\\n"
AFTER = {"after_percent": 50.0, "steps": 3, "cfg": 4.0}
LONG = {"TicketLayerReport", "LayoutTrial", "SuggestGuidanceCutoff"}
SEEDS = ("seed", "noise_seed")


def varied(prompt: Prompt, draw: random.Random, fresh: int) -> Prompt:
    """The same graph with other values; fresh: a seed that no prompt had before."""
    kinds = {node["class_type"] for node in prompt.values()}
    # The demo's detector takes no odd sizes; others would take most of the time.
    fits = SIZES[:1] if "DetectDemoObjects" in kinds else SIZES[:2] if kinds & LONG else SIZES
    width, height = draw.choice(fits)
    seed = fresh if draw.random() < 0.5 else draw.randrange(4)
    picked = {name: draw.choice(values) for name, values in VARIED.items() if draw.random() < 0.4}
    for node in prompt.values():
        for name, value in list(node["inputs"].items()):
            own = name.rsplit(".", 1)[-1]
            if isinstance(value, list) or node["class_type"] in ("EmptyImage", "SolidMask"):
                continue
            if own in ("width", "height"):
                node["inputs"][name] = {"width": width, "height": height}[own]
            elif own in SEEDS:
                # One noise is drawn again with another's seed.
                node["inputs"][name] = seed + (node["class_type"] == "RedrawNoiseInRegion")
            elif own in picked and type(picked[own]) is type(value) and not _all_layers(node, own):
                node["inputs"][name] = picked[own]
                if picked[own] == "after steps":
                    node["inputs"] |= {f"{name}.{k}": v for k, v in AFTER.items()}
    return prompt


def _all_layers(node: Prompt, own: str) -> bool:
    """The layers that are watched are others than the ones that are collected at."""
    return node["class_type"] == "AttentionOverSteps" and own == "layer"


def drawn(info: Prompt, node: str) -> Prompt:
    """Fine values for a node, and a picture of what it gives, if that takes sampling; no node: of none."""
    prompt = fine(info, node) if node else {}
    given = info[node]["output"] if node else ["MODEL"]
    what = given[0]
    if what not in ("MODEL", "NOISE", "GUIDER", "CONDITIONING", "LATENT"):
        return prompt
    own = ["odd", 0] if node else ["model", 0]
    nodes = {**support(info), **prompt}
    empty = ["odd", 2] if given[2:3] == ["LATENT"] else ["latent", 0]
    texts = {"positive": ["text", 0], "negative": ["no text", 0]}
    if what in ("NOISE", "GUIDER"):
        guider = {"model": ["model", 0], "cfg": 4.0, **texts}
        nodes["plain"] = {"class_type": "CFGGuider", "inputs": guider}
        inputs = {"noise": ["noise", 0], "guider": ["plain", 0], "sampler": ["sampler", 0]}
        inputs |= {"sigmas": ["sigmas", 0], "latent_image": empty, what.lower(): own}
        nodes["sampled"] = {"class_type": "SamplerCustomAdvanced", "inputs": inputs}
    else:
        how = {"cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0, "seed": 1}
        inputs = {"model": ["model", 0], "steps": 3, **how, **texts, "latent_image": empty}
        inputs |= {{"CONDITIONING": "positive", "MODEL": "model"}.get(what, "latent_image"): own}
        nodes["sampled"] = {"class_type": "KSampler", "inputs": inputs}
    samples = own if what == "LATENT" else ["sampled", 0]
    nodes["decoded"] = {"class_type": "VAEDecode", "inputs": {"samples": samples, "vae": ["model", 2]}}
    nodes["picture"] = {"class_type": "PreviewImage", "inputs": {"images": ["decoded", 0]}}
    return prompt | needed(nodes, "picture")


def process(server: Server) -> dict[str, float]:
    """Of the server's process, from outside."""
    folder = Path(f"/proc/{server.pid}")
    if not folder.exists():
        return {}
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    base = server.log_path.parent
    files = [p.relative_to(base).parts[0] for p in base.rglob("*") if p.is_file()]
    return {
        "memory, MB": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "open files": len(list((folder / "fd").iterdir())),
        "files but for previews": sum(top not in ("temp", "custom_nodes") for top in files),
        "preview pictures": files.count("temp"),
        "log lines": server.log().count("\n"),
    }


def shown(server: Server, key: str) -> dict[str, str]:
    """What a prompt showed, by node: its texts, and digests of its pictures."""
    entry = json.loads(server.client.get(f"/history/{key}"))[key]
    found = {}
    for node, output in entry["outputs"].items():
        digests = [
            hashlib.sha256(server.client.image(**i)).hexdigest()[:16] for i in output.get("images", [])
        ]
        text = re.sub(MOMENTARY, "", json.dumps(output.get("text", "")))
        found[node] = f"{' '.join(digests)} {text}"
    return found


def difference(first: dict[str, str], last: dict[str, str]) -> str:
    """Where two prompts' results begin to differ; empty if they do not."""
    for node in first:
        if first[node] != last.get(node):
            a, b = first[node], last.get(node, "")
            at = max(0, next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0) - 20)
            return f"{node} shows {b[at : at + 80]!r} instead of {a[at : at + 80]!r}"
    return ""


class Life:
    """A server, its two clients, and what was measured after each round."""

    def __init__(self, server: Server, nodes: list[str]) -> None:
        self.server, self.nodes = server, nodes
        self.info = server.client.object_info()
        self.clients = [Watcher(server.client, name) for name in ("one-", "two-")]
        self.rows: list[dict[str, float]] = []
        self.caches: dict[str, int] = {}
        self.faults: list[str] = []
        self.seconds: Counter[str] = Counter()
        self.prompts = 0

    def prompt(self, node: str) -> Prompt:
        return drawn(self.info, node)

    def run(self, prompts: list[tuple[str, Prompt]]) -> list[str]:
        """All of them queued at once, by both clients in turn; their ids."""
        queued = [(self.clients[k % 2], node, p) for k, (node, p) in enumerate(prompts)]
        keys = [(client, node, client.queue(p)) for client, node, p in queued]
        for client, node, key in keys:
            (end,) = client.wait([key])
            if end != "execution_success":
                self.faults.append(f"{node}: {end}")
            else:
                self.seconds[node] += self.took(key)
        self.prompts += len(keys)
        return [key for _, _, key in keys]

    def took(self, key: str) -> float:
        """Seconds from a prompt's start to its end."""
        # It is in the history a moment after the clients were told.
        messages = self.server.client.wait(key, 60)["status"]["messages"]
        times = [data["timestamp"] for _, data in messages]
        return (times[-1] - times[0]) / 1000

    def references(self) -> dict[str, dict[str, str]]:
        """What every node shows for its fine values."""
        keys = self.run([(node, self.prompt(node)) for node in self.nodes])
        return {node: shown(self.server, key) for node, key in zip(self.nodes, keys, strict=True)}

    def round(self, draw: random.Random, number: int) -> None:
        nodes = draw.sample(self.nodes, len(self.nodes))
        began = time.monotonic()
        count = len(self.nodes)
        self.run([(n, varied(self.prompt(n), draw, 1000 + number * count + k)) for k, n in enumerate(nodes)])
        took = time.monotonic() - began
        self.measure(took)

    def measure(self, took: float) -> None:
        self.server.client.get("/history", {"clear": True})
        inside = json.loads(self.server.client.get("/inside?pack=winning-tickets", timeout=300))
        self.caches = inside["caches"]
        row = {"prompts": float(self.prompts), "seconds": took, **inside["figures"], **process(self.server)}
        row["cached nodes"] = sum(c.cached for c in self.clients)
        row["nodes run"] = sum(c.ran for c in self.clients)
        self.rows.append(row)


GROWING = ("log lines", "preview pictures", "cached nodes", "nodes run")


def slope(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Per 1,000 prompts, with a 95% interval."""
    if len(set(y)) == 1:
        return 0.0, 0.0, 0.0
    found = stats.linregress(x, y)
    half = stats.t.ppf(0.975, len(x) - 2) * found.stderr
    return tuple(1000 * v for v in (found.slope, found.slope - half, found.slope + half))  # type: ignore


def report(rows: list[dict[str, float]]) -> None:
    """A table of what each figure is after the first rounds and at the end, and how it grows."""
    later = rows[2 * len(rows) // 5 :]
    print(f"\n| figure | after {later[0]['prompts']:.0f} | after {later[-1]['prompts']:.0f} | slope |")
    print("| --- | --- | --- | --- |")
    columns: dict[str, list[float]] = defaultdict(list)
    for row in later:
        for name, value in row.items():
            columns[name].append(value)
    x = columns.pop("prompts")
    for name, values in columns.items():
        middle, low, high = slope(x, values)
        print(f"| {name} | {values[0]:g} | {values[-1]:g} | {middle:+.3g} [{low:+.3g}, {high:+.3g}] |")


def main(arguments: argparse.Namespace) -> None:
    packs = {
        "winning-tickets": ROOT,
        "winning-tickets-demo": ROOT / "demo",
        "winning-tickets-inside": Path(__file__).parent / "inside_pack",
    }
    nodes = sorted(json.loads((ROOT / "tests" / "data" / "nodes.json").read_text(encoding="utf-8")))
    install, extra = Install(arguments.comfyui, Path(sys.executable)), ["--cache-lru", str(CACHED)]
    began = time.monotonic()
    extra += ["--preview-method", "latent2rgb"]
    with Server(install, packs, extra=extra) as server:
        life = Life(server, [""] * len(nodes) if arguments.stock else nodes)
        first = life.references()
        life.measure(time.monotonic() - began)
        draw = random.Random(SEED)
        for number in range(arguments.rounds):
            life.round(draw, number)
            if arguments.keep:
                arguments.keep.write_text(json.dumps(life.rows), encoding="utf-8")
            row = life.rows[-1]
            told = f"  {life.prompts} prompts, {time.monotonic() - began:.0f} s: {row['memory, MB']:.0f} MB,"
            print(f"{told} {row['objects']:,.0f} objects, {len(life.faults)} faults", flush=True)
        last = life.references()
        for node, own in first.items():
            if what := difference(own, last[node]):
                life.faults.append(f"{node}: not as at first: {what}")
        for client in life.clients:
            life.faults += [f"client {client.name}: {what}" for what in client.strange]
            print(f"client {client.name} got {dict(client.got)}, of others {len(client.strange)}")
            client.close()
    report(life.rows)
    print("\nseconds by node: " + ", ".join(f"{n} {s:.0f}" for n, s in life.seconds.most_common(8)))
    print(f"kept by modules at the end: { {k: v for k, v in life.caches.items() if v} }")
    for fault in sorted(set(life.faults))[:30]:
        print(f"FAULT: {fault}")
    print(f"{life.prompts} prompts, {len(life.faults)} faults, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(parser.parse_args())

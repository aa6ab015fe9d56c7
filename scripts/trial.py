"""Tries on a checkpoint whether tickets put things where they are asked for, and prints what came out.

    python scripts/trial.py --checkpoint FILE              layouts made of a few everyday things
    python scripts/trial.py --checkpoint FILE --prompts 7bench.csv
    python scripts/trial.py --demo                         the same on the demo model
    python scripts/trial.py --join A.jsonl B.jsonl         the table of several people's files

FILE is a path, or with --url a name that the running ComfyUI lists. Without --url a ComfyUI of its own is
started (--comfyui DIR, or one that is installed into .comfyui/ the first time). Every judged image is a
line of a file, which is copied to --output; Ctrl-C stops, and the same command resumes.
"""
# Standard library only; --join needs PyTorch and uses ComfyUI's Python where this one has none.

import entry
from entry import SetupError, put, run_child, writing

import argparse
import contextlib
import importlib.util
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import comfyui
from comfyui import HOME, ROOT, Install
from comfyui_client import Client, PromptError, ServerError
from comfyui_server import Server
from installing import held
from prompt_boxes import PromptsError, read
from trial_graph import LOADERS, Task, completed, graph
from trial_layer import AUTO, about_trial, layer_together
from trial_progress import lines_of, waited

PACKS = {"winning-tickets": ROOT, "winning-tickets-demo": ROOT / "demo"}
# Of COCO, so that a detector knows them, too.
EVERYDAY = ("cat", "dog", "car", "bicycle", "banana", "apple", "chair", "bottle")
DEMO = ("castle", "tree", "car", "sun", "fish", "flower")
DEMO_SIDE, SIDE, LEAST_SIDE = 256, 512, 64
IMAGES, IMAGES_OF_EACH = 64, 4
MOST_AFTER = 90
# What differs from prompt to prompt; with --prompts all are one table.
ELSEWHERE = "name another folder with --output DIR"
OF_A_LAYOUT = ("regions", "prompt", "categories", "objects", "bank")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [options]"
    )
    what = parser.add_argument_group("what to do, one of").add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", metavar="FILE", help="try this model")
    what.add_argument("--demo", action="store_true", help="try the demo model, on the CPU")
    what.add_argument("--join", nargs="+", type=Path, metavar="FILE", help="print the table of these files")
    tried = parser.add_argument_group("what is tried")
    tried.add_argument("--model", choices=tuple(LOADERS), default="UNet", help="with --demo (default UNet)")
    tried.add_argument("--categories", nargs="+", metavar="WORDS", help="what to place (everyday things)")
    tried.add_argument("--prompts", type=Path, metavar="CSV", help="prompts with boxes, in 7Bench's format")
    tried.add_argument(
        "--images",
        type=int,
        help=f"of each kind of noise (default {IMAGES}; with --prompts {IMAGES_OF_EACH} a prompt)",
    )
    tried.add_argument("--control", action="store_true", help="try tickets of the other category, too")
    tried.add_argument(
        "--no-tickets",
        action="store_true",
        help="collect none: tries block swap and the best of some seeds alone",
    )
    tried.add_argument("--noises", type=int, default=32, help="that tickets are collected from (default 32)")
    tried.add_argument(
        "--layer", default=AUTO, help="attention layer by which noise is looked at (default auto)"
    )
    tried.add_argument(
        "--look-after",
        type=int,
        default=0,
        metavar="PERCENT",
        help="of the steps, after which the best noises are looked at again (default 0: not again)",
    )
    drawn = parser.add_argument_group("how images are drawn")
    drawn.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("WIDTH", "HEIGHT"),
        help=f"in pixels (default {SIDE} {SIDE}; the demo model {DEMO_SIDE} {DEMO_SIDE})",
    )
    drawn.add_argument("--steps", type=int, default=12, help="(default 12)")
    drawn.add_argument("--cfg", type=float, default=7.0, help="(default 7)")
    drawn.add_argument("--sampler", default="euler", metavar="NAME", help="(default euler)")
    drawn.add_argument("--scheduler", default="normal", metavar="NAME", help="(default normal)")
    drawn.add_argument("--seed", type=int, default=0, help="of the first image (default 0)")
    where = parser.add_argument_group("where")
    comfyui.add_option(where)
    where.add_argument("--url", help="use the ComfyUI that runs there, such as http://127.0.0.1:8188")
    where.add_argument("--cpu", action="store_true", help="start ComfyUI on the CPU")
    where.add_argument("--name", help="of the file (default: after the model and the prompts)")
    where.add_argument(
        "--output", type=Path, metavar="DIR", default=ROOT / "output", help="where the file is copied to"
    )
    joined = parser.add_argument_group("with --join")
    joined.add_argument("--any-layout", action="store_true", help="one table of all layouts and prompts")
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """SetupError for numbers that nothing can be tried with, before ComfyUI starts."""
    for name, least in (("images", 1), ("noises", 1), ("steps", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise SetupError(f"--{name} is {value}: give {least} or more.")
    if options.model != "UNet" and not options.demo:
        raise SetupError(f"--model {options.model} is the demo's: give --demo instead of --checkpoint.")
    if options.control and options.no_tickets:
        raise SetupError("--control is for tickets, and none are tried here: leave it out.")
    if not 0 <= options.look_after <= MOST_AFTER:
        raise SetupError(f"--look-after is {options.look_after}: give 0 to {MOST_AFTER} percent.")
    for side in options.size or ():
        if side < LEAST_SIDE or side % 8:
            raise SetupError(f"--size has {side}: give multiples of 8 from {LEAST_SIDE}.")


def name_of(options: argparse.Namespace) -> str:
    """The file's, from the model and the prompts, so that the same command goes on where it stopped."""
    if options.name:
        return str(options.name)
    parts = [Path(options.checkpoint).stem if options.checkpoint else "demo"]
    parts += [options.model] if options.model != "UNet" else []
    parts += [options.prompts.stem] if options.prompts else []
    return "_".join(re.sub(r"[^\w.-]+", "_", part).strip("._") or "model" for part in parts)


@contextlib.contextmanager
def connected(options: argparse.Namespace, name: str) -> Iterator[Client]:
    """A running ComfyUI that has the node and the checkpoint.

    One of its own leaves images and remembered layers in HOME/trial, which several may use at once, but
    each with a file of its own; all else goes to a temporary folder.
    """
    if options.url:
        yield Client(options.url)
        return
    file = Path(options.checkpoint).expanduser().resolve() if options.checkpoint else None
    if file and not file.is_file():
        raise SetupError(f"There is no {file}: --checkpoint must be a file, or with --url a listed name.")
    install = comfyui.ensure(options.comfyui)
    lock = HOME / "trial" / f"{name.replace('/', '_')}.lock"
    busy = f"draws into {name}.jsonl: wait until it has finished, or give this one another --name"
    with held(lock, busy), tempfile.TemporaryDirectory(prefix="trial-") as scratch:
        extra = []
        for kind in ("output", "user"):
            folder = HOME / "trial" / kind
            folder.mkdir(parents=True, exist_ok=True)
            extra += [f"--{kind}-directory", str(folder)]
        if file:
            paths = Path(scratch) / "checkpoint.yaml"
            models = json.dumps(file.parent.as_posix())
            paths.write_text(f"trial:\n  base_path: {models}\n  checkpoints: .\n", encoding="utf-8")
            extra += ["--extra-model-paths-config", str(paths)]
        print("Starting ComfyUI ...", flush=True)
        cpu = options.cpu or options.demo or not has_accelerator(install)
        with Server(install, PACKS, None, extra, cpu=cpu) as server:
            yield server.client


def has_accelerator(install: Install) -> bool:
    """Whether ComfyUI's PyTorch can use one."""
    code = (
        "import sys, torch as t; xpu = getattr(t, 'xpu', None); found = t.cuda.is_available()"
        " or t.backends.mps.is_available() or xpu and xpu.is_available(); sys.exit(not found)"
    )
    return run_child([install.python, "-c", code]) == 0


def try_all(options: argparse.Namespace, tasks: Sequence[Task], name: str) -> Path:
    """Run the trials one after the other; where the file was copied to. Prints the report of a single one."""
    target: Path = options.output / f"{name}.jsonl"
    with writing(target.parent, ELSEWHERE):
        target.parent.mkdir(parents=True, exist_ok=True)
    layer = options.layer
    with connected(options, name) as client:
        info = client.object_info()
        for needed in ("CollectTickets", "LayoutTrial"):
            if needed not in info:
                raise SetupError(f"ComfyUI at {client.url} has no node {needed}: install this pack there.")
        if layer == AUTO and len(tasks) > 1 and not options.no_tickets:
            layer = layer_together(options, client, tasks, name) or layer
        failed = 0
        for number, task in enumerate(tasks, 1):
            if task.layout:
                print(f"{number} of {len(tasks)}: {task.layout.name}: {task.layout.prompt}", flush=True)
            prompt = graph(options, task, name, options.images, layer)
            for node in prompt.keys() - {"1"}:
                completed(prompt, node, info)
            try:
                entry = waited(client, client.queue(prompt), name, options.images)
            except PromptError as error:
                if len(tasks) == 1:
                    raise
                failed += 1
                print(f"  failed: {str(error).splitlines()[0]}", flush=True)
                continue
            except KeyboardInterrupt:
                kept = copied(client, name, target)
                print(f"\n{kept} images are kept in {target}; the same command resumes.", flush=True)
                raise
            copied(client, name, target)
            if len(tasks) == 1:
                print("\n".join(entry["outputs"]["3"]["text"]))
            elif layer == AUTO:
                found = about_trial(entry, "layer")
                if found:
                    layer = found
                    print(f"  layer {layer}, for the other prompts, too", flush=True)
        if failed == len(tasks):
            raise SetupError("No prompt could be tried.")
        if failed:
            print(f"{failed} of {len(tasks)} prompts failed; they are not in the table.")
        alone = sum(len(task.categories) < 2 for task in tasks)
        if options.control and options.prompts and alone:
            print(
                f"{alone} of {len(tasks)} prompts have one object only: they are tried without the control."
            )
    return target


def copied(client: Client, name: str, target: Path) -> int:
    """Copy the trial's file; how many lines it has."""
    lines = lines_of(client, name)
    put(target, b"".join(line + b"\n" for line in lines), ELSEWHERE)
    return len(lines)


def join(comfy: Path | None, files: Sequence[Path], any_layout: bool) -> int:
    """Print the tables in a Python that has PyTorch: this one, or ComfyUI's."""
    if importlib.util.find_spec("torch") and importlib.util.find_spec("scipy"):
        return print_tables(files, OF_A_LAYOUT if any_layout else ())
    install = comfyui.ensure(comfy)
    command = [install.python, Path(__file__), "--join", *files, *(["--any-layout"] if any_layout else [])]
    return run_child(command)


def print_tables(files: Sequence[Path], pooled: Sequence[str]) -> int:
    """A table for each setting in the files; those in `pooled` may differ within a table."""
    if "winning_tickets" not in sys.modules:
        sys.path.append(str(ROOT / "demo"))
        import start

        start.pack()
    from winning_tickets.show.trial import report
    from winning_tickets.trial.kept import join as joined
    from winning_tickets.trial.kept import names

    found = joined(files, pooled)
    for title, part in zip(names(found.parts, pooled), found.parts, strict=True):
        if len(found.parts) > 1:
            print(f"## {title}\n")
        print(f"{report(part)}\n")
    print("\n".join(found.notes))
    return 0 if found.parts else 1


def main() -> int:
    options = parse()
    if options.join:
        return join(options.comfyui, options.join, options.any_layout)
    check(options)
    side = DEMO_SIDE if options.demo else SIDE
    options.size = options.size or (side, side)
    options.images = options.images or (IMAGES_OF_EACH if options.prompts else IMAGES)
    tasks = [Task(tuple(options.categories or (DEMO if options.demo else EVERYDAY)))]
    try:
        if options.prompts:
            layouts, left_out = read(options.prompts)
            print("\n".join(left_out))
            tasks = [Task(layout.categories, layout) for layout in layouts]
        if not tasks:
            raise SetupError(f"{options.prompts} has no prompt that can be tried.")
        file = try_all(options, tasks, name_of(options))
    except (ServerError, PromptError, PromptsError) as error:
        raise SetupError(str(error)) from error
    status = join(options.comfyui, [file], True) if options.prompts else 0
    print(f"Every image: {file}")
    return status


if __name__ == "__main__":
    entry.run_script(main)

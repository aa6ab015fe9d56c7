"""Installs the pack as users do, by comfy-cli's and ComfyUI-Manager's own code, and starts ComfyUI with it.

    python scripts/installs.py

What git holds is validated and packed by comfy-cli, and offered by a registry of our own on this machine:
the answers that both ask of the registry, with the packed archive, and the repository for git. Each way then
gets a ComfyUI of its own. Their packages are installed into .comfyui/installers; needs git.
"""

import entry

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import comfyui
from comfyui import HOME, ROOT, Install, SetupError
from comfyui_server import Server
from installing import has_stamp, locked, run_pip, stamp

COMFY_CLI = "comfy-cli==1.23.0"
COMFYUI_MANAGER = "comfyui-manager==4.3"
NAME = "winning-tickets"
# Where comfy-cli looks for a registry under development.
PORT, DEVELOPMENT = 8080, {"ENVIRONMENT": "dev"}
MANAGER = "import sys; from comfyui_manager.common import cnr_utils; cnr_utils.base_url = sys.argv.pop(1)"
MANAGER += "; import cm_cli; cm_cli.main()"
MOST_BYTES = 3_000_000


def tools(python: Path, home: Path, *pins: str) -> Path:
    """The folder of the installers' programs, made with `python` in `home`."""
    folder = home / "installers"
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    if not has_stamp(folder, "installers", " ".join(pins)):
        with locked(home):
            call([python, "-m", "venv", "--clear", folder], home)
            run_pip(home, [str(programs / "python"), "-m", "pip", "install", "--quiet", *pins], print)
            stamp(folder, "installers", " ".join(pins))
    return programs


def call(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """What it printed; SetupError if it fails."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, "DO_NOT_TRACK": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        raise SetupError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}")
    return done.stdout


@contextlib.contextmanager
def registry(folder: Path, version: str) -> Iterator[str]:
    """The address at which `folder`, with node.zip in it, is offered as a registry offers a node."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def do_GET(self) -> None:
            if not self.path.startswith("/nodes"):
                return super().do_GET()
            found = {"id": NAME, "version": version, "downloadUrl": f"{address}/node.zip"}
            node = {"id": NAME, "name": NAME, "repository": f"{address}/{NAME}.git", "latest_version": found}
            listing = {"nodes": [node], "totalPages": 1, "page": 1, "total": 1}
            answer = found if "/install" in self.path else node if NAME in self.path else listing
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            """git may hang up in the middle of an answer."""

    server = Quiet(("127.0.0.1", PORT), Handler)
    address = f"http://localhost:{PORT}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()


def pack(programs: Path, source: Path, repository: str, publisher: str) -> Path:
    """What comfy-cli packs of a clone, as it would publish it; SetupError for what it warns of."""
    call([programs / "python", source / "scripts" / "registry_fields.py", repository, publisher], source)
    for step in ("validate", "pack"):
        told = call([programs / "comfy", "--skip-prompt", "node", step], source)
        print(f"comfy node {step}:", told.strip().splitlines()[-1])
        if "warning" in told.lower():
            raise SetupError(told)
    return source / "node.zip"


def usual_log(install: Install) -> str:
    """What ComfyUI logs without any pack."""
    with Server(install, {}) as server:
        pass
    return server.log()


def warnings(log: str, usual: str) -> list[str]:
    """The warnings and errors of a log, without those in `usual`."""
    known = {re.sub(r"\d+", "", line) for line in usual.splitlines()}
    bad = re.compile(r"warn|error|exception|traceback|deprecat|import failed", re.IGNORECASE)
    return [line for line in log.splitlines() if bad.search(line) and re.sub(r"\d+", "", line) not in known]


def check(install: Install, workspace: Path, usual: str) -> str:
    """Starts ComfyUI on what was installed; SetupError for a warning, or if something of the pack is missing.

    usual: see usual_log.
    """
    pack = workspace / "custom_nodes" / NAME
    files = [path for path in pack.rglob("*") if path.is_file() and ".git" not in path.parts]
    size = sum(path.stat().st_size for path in files)
    with Server(install, {}, workspace, ["--whitelist-custom-nodes", NAME]) as server:
        get = server.client.get
        known = server.client.object_info().values()
        nodes = {node["name"] for node in known if node["python_module"] == f"custom_nodes.{NAME}"}
        offered = json.loads(get("/workflow_templates")).get(NAME, [])
        spoken = json.loads(get("/i18n"))
        blueprints = json.loads(get("/global_subgraphs")).values()
        # OSError for what is not there.
        for node in nodes:
            get(f"/extensions/{NAME}/docs/{node}.md")
        for file in (pack / "example_workflows").iterdir():
            get(f"/api/workflow_templates/{NAME}/{file.name}")
    missing = {
        "nodes": _stems(pack / "web" / "docs", "*.md") - nodes,
        "workflows": _stems(pack / "example_workflows", "*.json") - set(offered),
        "blueprints": _stems(pack / "subgraphs", "*.json") - {entry["name"] for entry in blueprints},
    }
    languages = sorted(path.name for path in (pack / "locales").iterdir())
    for language in languages:
        missing[language] = nodes - set(spoken.get(language, {}).get("nodeDefs", {}))
    if any(missing.values()) or not nodes or not offered:
        lacks = "; ".join(f"{kind} {', '.join(sorted(names))}" for kind, names in missing.items() if names)
        raise SetupError(f"ComfyUI has {len(nodes)} nodes of {pack}, and lacks: {lacks or 'workflows'}.")
    found = warnings(server.log(), usual)
    if found:
        raise SetupError("ComfyUI warned when it loaded the pack:\n" + "\n".join(found))
    seen = (
        f"{len(nodes)} nodes with help, also in {', '.join(languages)}; {len(offered)} workflows; no warning"
    )
    return f"{seen}; {len(files)} files, {size / 1e6:.1f} MB"


def _stems(folder: Path, pattern: str) -> set[str]:
    return {path.stem for path in folder.glob(pattern)}


def main() -> int:
    argparse.ArgumentParser(
        description="Install the pack as users do, and start ComfyUI with it."
    ).parse_args()
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        raise SetupError("This needs git, and a clone that it made: what git holds is what it installs.")
    install = comfyui.ensure(None)
    programs = tools(install.python, HOME, COMFY_CLI, COMFYUI_MANAGER)
    python, comfy = programs / "python", programs / "comfy"
    # The Manager is a package of ComfyUI's own Python; here it stays out of it.
    site = call(
        [install.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], ROOT
    ).strip()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)[0]
    with tempfile.TemporaryDirectory() as temporary, registry(Path(temporary), version) as address:
        folder = Path(temporary)
        source, bare = folder / "source", folder / f"{NAME}.git"
        call(["git", "clone", "--quiet", "--bare", ROOT, bare], folder)
        call(["git", "update-server-info"], bare)
        call(["git", "clone", "--quiet", bare, source], folder)
        shutil.move(pack(programs, source, f"somebody/{NAME}", "somebody"), folder / "node.zip")
        usual = usual_log(install)

        def workspace(name: str) -> Path:
            root = folder / name / "ComfyUI"
            shutil.copytree(install.root, root, ignore=shutil.ignore_patterns("models", "output", "user"))
            return root

        ways = {
            "comfy node registry-install": (
                comfy,
                "--skip-prompt",
                "--workspace",
                "{}",
                "node",
                "registry-install",
                NAME,
            ),
            "Manager, registry": (python, "-c", MANAGER, address, "install", f"{NAME}@{version}"),
            "Manager, git address": (python, "-c", MANAGER, address, "install", f"{address}/{NAME}.git"),
        }
        for number, (way, command) in enumerate(ways.items()):
            root = workspace(str(number))
            told = call(
                [str(part).replace("{}", str(root)) for part in command],
                root,
                COMFYUI_PATH=str(root),
                PYTHONPATH=site if command[0] == python else "",
                **DEVELOPMENT,
            )
            print(
                f"{way}: {check(install, root, usual)}" if (root / "custom_nodes" / NAME).is_dir() else told
            )
        size = (folder / "node.zip").stat().st_size
        if size > MOST_BYTES:
            raise SetupError(f"The archive has {size} bytes, more than {MOST_BYTES}.")
    return 0


if __name__ == "__main__":
    entry.run_script(main)

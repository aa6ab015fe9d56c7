"""scripts/trial.py without a server: prompts with boxes, the graph it queues, and tables of several files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from installing import SetupError, held
from prompt_boxes import PromptsError, read
from records import SETTINGS, a_record
from trial_layer import together
from trial_progress import counted
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.trial.kept import append

import trial as script

HEADER = "id,category,prompt,obj1,bbox1,obj2,bbox2,obj3,bbox3,obj4,bbox4\n"


def options_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["trial.py", *arguments])
    options = script.parse()
    options.size = options.size or (512, 384)
    return options


def test_prompts_with_boxes_are_fractions_of_512(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "\ufeff"
        + HEADER
        + 'a1,two,"A kettle beside a red kite","kettle","0,128,256,512",kite,"(256, 0, 512, 64.5)",,,,\n'
        'a2,one,One lantern,Lantern,"51.2,51.2,102.4,102.4",,,,,,\n',
        encoding="utf-8",
    )
    (two, one), left_out = read(path)
    assert left_out == [] and (two.name, two.prompt) == ("a1 two", "A kettle beside a red kite")
    assert two.regions == (("kettle", (0, 0.25, 0.5, 1)), ("kite", (0.5, 0, 1, 64.5 / 512)))
    assert one.categories == ("Lantern",) and one.regions[0][1] == pytest.approx((0.1, 0.1, 0.2, 0.2))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ('b,x,A kettle,kettle,"9,9,9,40",,,,,,', "has no area inside the image"),
        ('b,x,A kettle,kettle,"0,0,513,40",,,,,,', "has no area inside the image"),
        ('b,x,A kettle,kettle,"0,0,40",,,,,,', "is no four numbers"),
        ("b,x,A kettle,kettle,,,,,,,", "is no four numbers"),
        ('b,x,A kettle,kite,"0,0,40,40",,,,,,', '"kite" is not in its prompt'),
        ('b,x,A kettle,ettle,"0,0,40,40",,,,,,', '"ettle" is not in its prompt'),
        ('b,x,A kettle,kettle,"0,0,40,40",Kettle,"50,0,90,40",,,,', "is there twice"),
        ("b,x,A kettle,,,,,,,,", "it has no object"),
        ('b,x,,kettle,"0,0,40,40",,,,,,', "it has no prompt"),
        ("b", "it has no prompt"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "mine.csv"
    good = 'c,x,A kettle,kettle,"0,0,40,40",,,,,,'
    path.write_text(f"{HEADER}{row}\n{good}\n", encoding="utf-8")
    layouts, (sentence,) = read(path)
    assert [layout.name for layout in layouts] == ["c x"]
    assert sentence.startswith("Row 2 left out: ") and told in sentence


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has no column id, prompt, obj1, bbox1"),
        (b"prompt;obj1\n", "has no column"),
        (b"\xff\xfe\x00", "no CSV file in UTF-8"),
        (HEADER.encode() + b'"' + b"x" * 200_000, "no CSV file in UTF-8"),
    ],
)
def test_another_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(PromptsError, match=told):
        read(path)
    with pytest.raises(PromptsError, match="cannot be read"):
        read(tmp_path / "none.csv")


def test_a_layouts_graph_asks_for_its_boxes_and_its_prompt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        f'{HEADER}a,x,"A {{red}} kettle: on a mat","kettle: on","0,0,256,256",mat,"0,256,512,512"\n'
    )
    (layout,), _ = read(path)
    options = options_of(monkeypatch, "--checkpoint", "some/model.safetensors", "--look-after", "20")
    graph = script.graph(options, script.Task(layout.categories, layout), "mine", 4, "input 8")
    assert graph["1"]["inputs"] == {"ckpt_name": "model.safetensors"}
    collect = graph["2"]["inputs"]
    assert (collect["categories"], collect["layer"]) == ("kettle: on\nmat", "input 8")
    trial = graph["3"]["inputs"]
    assert [(r.category, r.x1) for r in parse_regions(trial["regions"])] == [("kettle: on", 0.5), ("mat", 1)]
    assert trial["advanced.prompt"] == layout.prompt and (trial["images"], trial["bank"]) == (4, ["2", 0])
    assert trial["advanced.look_after_percent"] == 20


def test_without_tickets_no_bank_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule: block swap and seeds can be tried without the time that collecting takes."""
    options = options_of(monkeypatch, "--demo", "--model", "transformer", "--no-tickets")
    graph = script.graph(options, script.Task(("castle", "tree")), "mine", 4, "block 2")
    assert [node["class_type"] for node in graph.values()] == ["LoadDemoTransformer", "LayoutTrial"]
    trial = graph["3"]["inputs"]
    assert "bank" not in trial and trial["advanced.layer"] == "block 2" and trial["regions"] == "castle\ntree"
    assert script.name_of(options) == "demo_transformer"


@pytest.mark.parametrize(
    ("model", "loader"), [("UNet", "LoadDemoModel"), ("transformer", "LoadDemoTransformer")]
)
def test_tickets_are_tried_on_either_demo_model(
    monkeypatch: pytest.MonkeyPatch, model: str, loader: str
) -> None:
    """On the transformer none were collected."""
    options = options_of(monkeypatch, "--demo", "--model", model)
    graph = script.graph(options, script.Task(("castle", "tree")), "mine", 4, "auto")
    assert [node["class_type"] for node in graph.values()] == [loader, "CollectTickets", "LayoutTrial"]
    assert graph["2"]["inputs"]["layer"] == "auto" and graph["3"]["inputs"]["bank"] == ["2", 0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--checkpoint", "x", "--model", "transformer"), "give --demo instead"),
        (("--demo", "--control", "--no-tickets"), "--control is for tickets"),
    ],
)
def test_what_does_not_go_together_is_said_before_comfyui_starts(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(SetupError, match=told):
        script.check(options_of(monkeypatch, *arguments))


def test_the_layer_of_several_prompts_is_chosen_by_the_categories_of_all_of_them() -> None:
    """The words of the first prompt chose for the whole table."""
    tasks = [script.Task(("cat", "red kite")), script.Task(("Red  Kite", "dog")), script.Task(("owl",))]
    assert together(tasks) == ["cat", "red kite", "dog", "owl"]
    many = [script.Task((f"thing {n}", f"other {n}")) for n in range(9)]
    assert len(together(many)) == 8 and together(many)[:2] == ["thing 0", "other 0"]


def test_names_of_files_are_possible_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, name in (
        ("a/b/My: Model*v1.5.safetensors", "My_Model_v1.5"),
        ("*.safetensors", "model"),
        ("\u6a21\u578b.ckpt", "\u6a21\u578b"),
    ):
        assert script.name_of(options_of(monkeypatch, "--checkpoint", given)) == name
    both = options_of(monkeypatch, "--demo", "--prompts", "x/7bench.csv")
    assert script.name_of(both) == "demo_7bench"


def test_tables_of_several_files_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "anna.jsonl", tmp_path / "ben.jsonl"]
    for seed, file in enumerate(files):
        settings = SETTINGS | {"seed": seed, "bank": str(seed)}
        append(
            file,
            [a_record(k, i, k != "plain", settings=settings) for k in ("plain", "tickets") for i in range(8)],
        )
    files.append(tmp_path / "none.jsonl")
    assert script.print_tables(files, ()) == 0
    out = capsys.readouterr().out
    assert "tickets put both objects in place in 100% [81, 100] of 16 images" in out
    assert "| plain noise | 16 |" in out and "none.jsonl: there is no such file." in out
    append(files[0], [a_record(settings=SETTINGS | {"prompt": "{} at night"})])
    assert script.print_tables(files[:2], ()) == 0
    assert "## prompt {} at night" in capsys.readouterr().out
    assert script.print_tables(files[:2], script.OF_A_LAYOUT) == 0
    assert "##" not in capsys.readouterr().out
    assert script.print_tables(files[2:], ()) == 1


def test_options_that_exclude_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    options = options_of(monkeypatch, "--join", "a.jsonl", "b.jsonl", "--any-layout")
    assert options.join == [Path("a.jsonl"), Path("b.jsonl")] and options.any_layout
    for arguments in (("--join", "a.jsonl", "--demo"), (), ("--demo", "--checkpoint", "x")):
        with pytest.raises(SystemExit):
            options_of(monkeypatch, *arguments)


def lines(run: int, cases: range, kinds: tuple[str, ...] = ("plain", "tickets")) -> list[bytes]:
    settings = SETTINGS | {"seed": run}
    return [a_record(k, case, settings=settings).line().encode() for case in cases for k in kinds]


def test_kept_images_are_done_and_cost_no_time(tmp_path: Path) -> None:
    """The time left was that of all images, those that were kept from before included."""
    others = lines(1, range(9), ("plain", "tickets", "block swap"))
    kept = lines(2, range(3))
    assert counted([*kept, *others, *lines(2, range(3, 4))], 6) == (8, 12)
    # Of an earlier trial of more images, and lines that are none.
    assert counted([b"", *lines(2, range(8)), b"[]", b'{"run": 3'], 6) == (12, 12)
    assert counted([b"{}"], 6) == counted([], 6) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--images", "0"), "--images is 0: give 1 or more."),
        (("--images", "-2"), "--images is -2: give 1 or more."),
        (("--noises", "0"), "--noises is 0"),
        (("--steps", "0"), "--steps is 0"),
        (("--seed", "-1"), "--seed is -1: give 0 or more."),
        (("--size", "512", "100"), "--size has 100: give multiples of 8 from 64."),
        (("--size", "8", "512"), "--size has 8"),
        (("--look-after", "95"), "--look-after is 95: give 0 to 90 percent."),
    ],
)
def test_numbers_that_nothing_can_be_tried_with_are_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    """--images 0 drew 64 images."""
    monkeypatch.setattr(sys, "argv", ["trial.py", "--demo", *arguments])
    with pytest.raises(SetupError, match=told):
        script.main()


def test_a_second_run_into_the_same_file_waits_its_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two runs shared a folder: one removed the pack that the other ran, and its log."""
    monkeypatch.setattr(script, "HOME", tmp_path)
    monkeypatch.setattr(script.comfyui, "ensure", lambda folder: None)
    options = options_of(monkeypatch, "--demo")
    lock, told = tmp_path / "trial" / "a_b.lock", r"pid \d+\) draws into a/b.jsonl: wait .* another --name"
    with held(lock, "tests"), pytest.raises(SetupError, match=told), script.connected(options, "a/b"):
        pass
    with held(lock, "tests"):
        pass


def test_a_console_that_lacks_letters_ends_no_run() -> None:
    """On a Windows console in cp1252 a category in Chinese ended the run with a traceback."""
    code = r"import entry; entry.run_script(lambda: print('caf\xe9 \u2014 \u732b'))"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252:strict"}
    folder = Path(script.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("cp1252").split() == ["caf\xe9", "\u2014", "?"]


def test_help_names_every_way_to_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        options_of(monkeypatch, "--help")
    out = capsys.readouterr().out
    assert "--checkpoint FILE --prompts 7bench.csv" in out and "the same command resumes" in out
    assert "default 64" in out and "None" not in out

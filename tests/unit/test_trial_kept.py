"""What is kept of trials: lines survive whatever breaks a file, and several people's files are joined."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records import REGIONS, SETTINGS, a_record, an_object
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.trial.kept import append, join, load, names, write
from winning_tickets.trial.record import Record, RecordError, parse, placed, run_of
from winning_tickets.trial.verdict import Finding


def random_record(rng: random.Random) -> Record:
    names = rng.sample(
        ["cat", "\u732b", "fire hydrant", "\U0001f469\u200d\U0001f680", 'a "quoted" | name'],
        rng.randint(1, 4),
    )
    corners = [sorted(rng.sample(range(1001), 2)) + sorted(rng.sample(range(1001), 2)) for _ in names]
    regions = tuple(
        Region(n, x0 / 1000, y0 / 1000, x1 / 1000, y1 / 1000)
        for n, (x0, x1, y0, y1) in zip(names, corners, strict=True)
    )
    objects = []
    for n in names:
        present = rng.random() < 0.8
        inside, other = (present and rng.random() < 0.5 for _ in range(2))
        objects.append(an_object(n, inside, other, present))
    return a_record(
        kind=rng.choice(["plain", "tickets", "block swap", "control: other category"]),
        case=rng.randrange(1000),
        image=rng.randrange(4),
        seed=rng.randrange(2**64),
        prompt=f"two\nlines of {names}",
        settings=SETTINGS | {"cfg": rng.choice([7, 7.0, 1.5]), "layers": [["input", 8], None, True]},
        judge=rng.choice(["model", "boxes"]),
        regions=regions,
        objects=tuple(objects),
        nfe=rng.choice([24, 23.5]),
    )


def test_a_line_gives_back_its_image() -> None:
    rng = random.Random(1)
    for _ in range(300):
        record = random_record(rng)
        line = record.line()
        again = parse(line)
        assert line.count("\n") == 1 and line.isascii()
        assert again.line() == line and again.key == record.key
        assert (again.objects, again.regions, again.seed) == (record.objects, record.regions, record.seed)
        assert (again.hit, again.swapped, again.present) == (record.hit, record.swapped, record.present)


def test_run_is_the_same_for_the_same_settings_however_they_are_written() -> None:
    assert run_of("m", 1, 2, {"a": 7.0, "b": (1, 2)}) == run_of("m", 1, 2, {"b": [1.0, 2], "a": 7})
    different = [("m", 1, 2, {"a": 7}), ("n", 1, 2, {"a": 7}), ("m", 2, 1, {"a": 7}), ("m", 1, 2, {"a": 7.5})]
    assert len({run_of(*one) for one in different}) == 4


def test_file_cut_off_anywhere_loses_one_image_and_says_nothing(tmp_path: Path) -> None:
    """Rule: a crash while writing costs the line it cut, never those before or after it."""
    path = tmp_path / "trial.jsonl"
    records = [a_record(case=i) for i in range(3)]
    append(path, records)
    whole = path.read_bytes()
    second, third = (whole.index(b'"case":%d' % i) for i in (1, 2))
    begins = whole.rindex(b"\n", 0, third) + 1
    for end in range(begins, len(whole)):
        path.write_bytes(whole[:end])
        cut = load(path)
        assert cut.notes == [] and [r.case for r in cut.records] in ([0, 1], [0, 1, 2])
        append(path, [a_record(case=9)])
        more = load(path)
        assert more.notes == [] and [r.case for r in more.records][:2] == [0, 1]
        assert more.records[-1].case == 9 and second < begins


BAD: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("format", lambda line: line.update(trial=2)),
    ("format", lambda line: line.update(trial=True)),
    ('no "trial"', lambda line: line.pop("trial")),
    ("run does not follow", lambda line: line["settings"].update(steps=50)),
    ("hit does not follow", lambda line: line.update(hit=not line["hit"])),
    ("present does not follow", lambda line: line.update(present=0.5)),
    ("objects that are not those", lambda line: line["objects"].pop()),
    ("objects that are not those", lambda line: line["objects"].reverse()),
    ("objects", lambda line: line.update(objects=[])),
    ("regions", lambda line: line.update(regions=line["regions"] * 40)),
    ("something else", lambda line: line.update(objects=[1, 2])),
    ("nfe", lambda line: line.update(nfe=float("nan"))),
    ("nfe", lambda line: line.update(nfe=10**400)),
    ("iou", lambda line: line["objects"][0].update(iou=1.5)),
    ("x is no number", lambda line: line["objects"][0].update(x=None)),
    ("missing object in a region", lambda line: line["objects"][0].update(present=False)),
    ("without an area", lambda line: line["regions"][0].update(x1=0.0)),
    ("case", lambda line: line.update(case=-1)),
    ("case", lambda line: line.update(case=True)),
    ("case", lambda line: line.update(case="0")),
    ("seed", lambda line: line.update(seed=2**64)),
    ("kind", lambda line: line.update(kind=" ")),
    ("kind", lambda line: line.update(kind="\x1b[2Jtickets")),
    ("kind", lambda line: line.update(kind="x" * 201)),
    ("prompt", lambda line: line.update(prompt="\ud800")),
    ("judge", lambda line: line.update(judge="me")),
    ("settings", lambda line: line.update(settings={"steps": {"deep": 1}})),
    ("settings", lambda line: line.update(settings={"steps": [[[[[[1]]]]]]})),
    ("settings", lambda line: line.update(settings={"cfg": float("inf")})),
    ("settings", lambda line: line.update(settings={"a\nb": 1})),
    ("settings", lambda line: line.update(settings={"cfg": 10**400})),
]


@pytest.mark.parametrize(("told", "spoil"), BAD, ids=[f"{i} {told}" for i, (told, _) in enumerate(BAD)])
def test_foreign_line_is_left_out_and_named(
    tmp_path: Path, told: str, spoil: Callable[[dict[str, Any]], object]
) -> None:
    line = json.loads(a_record("tickets").line())
    spoil(line)
    path = tmp_path / "theirs.jsonl"
    path.write_text(f"{a_record().line()}\n{json.dumps(line)}\n{a_record(case=1).line()}", encoding="utf-8")
    loaded = load(path)
    assert [r.case for r in loaded.records] == [0, 1]
    (note,) = loaded.notes
    assert (
        note.startswith("theirs.jsonl: 1 line is no image of a trial and left out (line 3: ") and told in note
    )


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff\xfe\x00not text",
        b"[" * 100_000,
        b"9" * 10_000,
        b'"text"',
        b"null",
        b"<html>",
        b"x" * 3_000_000,
        b'{"trial":1,' + b" " * 2_000_000 + b"}",
        b'{"trial":' + b"[" * 500_000,
        b'{"trial":1}',
    ],
    ids=range(10),
)
def test_junk_never_ends_a_load(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "theirs.jsonl"
    good = a_record().line().encode()
    path.write_bytes(b"\xef\xbb\xbf" + good.replace(b"\n", b"\r\n") + junk + b"\n" + good)
    loaded = load(path)
    assert len(loaded.records) == 2 and len(loaded.notes) <= 1


def test_every_line_that_one_byte_changes_is_an_image_or_left_out() -> None:
    """Rule: no content of a line makes reading it fail in another way."""
    line = a_record("tickets", 3).line().encode()
    rng = random.Random(2)
    for _ in range(2000):
        spoilt = bytearray(line)
        spoilt[rng.randrange(len(line))] = rng.randrange(256)
        try:
            record = parse(bytes(spoilt))
        except RecordError:
            continue
        assert parse(record.line()).key == record.key


def test_files_of_several_people_are_one_table_where_only_seeds_differ(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("anna.jsonl", "ben.jsonl", "cleo.jsonl")]
    append(paths[0], [a_record(case=i) for i in range(4)])
    append(paths[1], [a_record(case=i, settings=SETTINGS | {"seed": 100}) for i in range(3)])
    append(paths[2], [a_record(case=i, settings=SETTINGS | {"steps": 30}) for i in range(2)])
    append(paths[2], [a_record(case=i, judge="boxes") for i in range(2)])
    joined = join(paths)
    assert [len(part) for part in joined.parts] == [7, 2, 2]
    (note,) = joined.notes
    assert note == (
        "Kept apart, as their settings differ: judge model, steps 12; judge model, steps 30;"
        " judge boxes, steps 12."
    )


def test_joining_counts_each_image_once_in_any_order(tmp_path: Path) -> None:
    rng = random.Random(3)
    records = [a_record(k, i, hit=rng.random() < 0.5) for k in ("plain", "tickets") for i in range(20)]
    paths = [tmp_path / f"{i}.jsonl" for i in range(3)]
    for path in paths:
        part = rng.sample(records, 25)
        append(path, part)
    together = {r.key for p in paths for r in load(p).records}
    for order in (paths, paths[::-1], paths * 2):
        (part,) = join(order).parts
        assert len(part) == len({r.key for r in part}) == len(together)
        assert {r.line() for r in part} <= {r.line() for r in records}


def test_contradicting_duplicates_are_named(tmp_path: Path) -> None:
    for name, hit in (("a", True), ("b", False)):
        append(tmp_path / name, [a_record(hit=hit)])
    joined = join([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert joined.parts == [[a_record(hit=True)]]
    assert joined.notes == [
        "c: there is no such file.",
        "Duplicate images are counted once: 1.",
        "Of these, judged differently in a later file, where the first one counts: 1.",
    ]


def test_names_say_only_what_differs_and_are_short() -> None:
    long = a_record(settings=SETTINGS | {"layouts": "x" * 500})
    assert names([[a_record()], [long]]) == ["layouts unset", f"layouts {'x' * 57}..."]
    assert names([[a_record()], [replace(a_record(), width=640)]]) == ["size 512x384", "size 640x384"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "trial.jsonl"
    write(path, [a_record(case=i) for i in range(3)])
    write(path, [a_record(case=7)])
    assert [r.case for r in load(path).records] == [7] and list(path.parent.iterdir()) == [path]


class At:
    """A verdict: found at a place, or missing."""

    confidence = 0.512345

    def __init__(self, x: float | None) -> None:
        self.x = x

    @property
    def present(self) -> bool:
        return self.x is not None

    def centre(self) -> tuple[float, float]:
        assert self.x is not None
        return self.x, 0.5

    def inside(self, region: Region) -> bool:
        return self.x is not None and region.x0 <= self.x <= region.x1

    def iou(self, region: Region) -> float:
        return 0.5 if self.inside(region) else 0.125


def test_objects_are_judged_by_their_own_and_the_others_regions() -> None:
    cat, hydrant = placed(REGIONS, [At(0.75), At(None)])
    assert (cat.inside, cat.inside_other, cat.iou, cat.confidence) == (False, True, 0.125, 0.5123)
    assert (hydrant.present, hydrant.x, hydrant.inside, hydrant.iou) == (False, None, False, 0.0)
    record = a_record(objects=placed(REGIONS, [At(0.75), At(0.25)]))
    assert (record.hit, record.swapped, record.present, record.iou) == (False, True, True, 0.125)
    assert parse(record.line()).swapped


def test_an_image_in_place_is_not_in_each_others() -> None:
    """Where a region lies in another one, the same image counted as both."""
    regions = Region("sky", 0, 0, 1, 1), Region("sun", 0.3, 0.3, 0.7, 0.7)
    both = [Finding.from_box((0.4, 0.4, 0.6, 0.6), 10, 10)] * 2
    record = a_record(regions=regions, objects=placed(regions, both))
    assert all(o.inside and o.inside_other for o in record.objects)
    assert (record.hit, record.swapped) == (True, False) and not parse(record.line()).swapped


def test_several_regions_of_a_category_are_any_of_them() -> None:
    regions = (*REGIONS, Region("cat", 0.8, 0.25, 1.0, 0.75))
    cat, hydrant = placed(regions, [At(0.9), At(0.6)])
    assert cat.inside and cat.inside_other and hydrant.inside and not hydrant.inside_other
    assert parse(a_record(regions=regions, objects=(cat, hydrant)).line()).hit

"""What Hypothesis finds: files, texts and layouts that nobody means to write end in a value or a sentence.

`benchmarks/robustness.py` draws others, and many more of them. It is here, though it needs no
ComfyUI, since the quick stage takes few tools.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import ODD_TEXTS, TEXTS, TWO, Original, bank_files, layouts, odd_json, odd_lines
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from winning_tickets.tickets.bank.bank import BankError
from winning_tickets.tickets.bank.combine import prune
from winning_tickets.tickets.bank.file import bank_facts, load_bank, save_bank
from winning_tickets.tickets.layout.parse import names_only, parse_regions
from winning_tickets.tickets.layout.regions import Region, RegionError
from winning_tickets.tickets.prompts import (
    PAIRS,
    SINGLES,
    CategoryError,
    make_prompts,
    parse_categories,
    parse_template,
)
from winning_tickets.tickets.words import category_name
from winning_tickets.trial.record import Record, RecordError, parse, plain_setting, run_of

sys.path.append(str(Path(__file__).parent.parent / "unit"))
from banks import is_a_sentence, make_bank
from records import a_record, an_object

# The same examples every time; the long runs of benchmarks/robustness.py draw others.
settings.register_profile(
    "tests", derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile("tests")
KINDS = (
    (make_bank(noises=2), False),
    (make_bank(noises=2), True),
    (prune(make_bank(noises=3), 0.1), False),
    (make_bank(("cat", "\u57ce"), 2, scheme=SINGLES), False),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("banks")


@pytest.fixture(scope="module")
def originals(folder: Path) -> tuple[Original, ...]:
    found = []
    for bank, half in KINDS:
        save_bank(bank, folder / "b.safetensors", half)
        found.append(Original.of((folder / "b.safetensors").read_bytes()))
    return tuple(found)


def test_whatever_a_file_holds_reading_ends_in_a_bank_or_a_sentence(
    folder: Path, originals: tuple[Original, ...]
) -> None:
    path = folder / "x.safetensors"
    seen = {True: 0, False: 0}

    @settings(max_examples=400)
    @given(bank_files(originals))
    def check(raw: bytes) -> None:
        path.write_bytes(raw)
        for read in (load_bank, bank_facts):
            try:
                read(path)
                seen[True] += 1
            except BankError as error:
                seen[False] += 1
                assert is_a_sentence(str(error)), error

    check()
    assert min(seen.values()) > 50


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from(ODD_TEXTS) | st.text(max_size=8), min_size=1, max_size=4), st.text(max_size=8)
)
@example(["\x01cat", "tr\x9bee"], "\x1b[2J")
@example(["\ud800"], "\u2028")
def test_whatever_is_typed_makes_a_bank_that_can_be_kept(folder: Path, lines: list[str], around: str) -> None:
    """Rule: a category that could not be read back was collected, and its bank lost."""
    try:
        categories = parse_categories("\n".join(lines))
        template = parse_template(around.replace("{", "").replace("}", "") + " {}")
    except CategoryError as error:
        assume(is_a_sentence(str(error)))
        return
    bank = make_bank(categories, 1)
    prompts = tuple(p.text for p in make_prompts(categories, PAIRS, template))
    bank = replace(bank, prompts=prompts, recipe=replace(bank.recipe, template=template))
    path = folder / "typed.safetensors"
    save_bank(bank, path)
    again = load_bank(path)
    assert (again.categories, again.prompts, again.recipe) == (categories, prompts, bank.recipe)
    assert bank_facts(path)[0] == categories


NAMES = st.sampled_from(("cat", "Fire  hydrant.", "\u57ce", "\U0001f469\u200d\U0001f680", 'say "hi"')) | TEXTS


def as_json(entries: Any) -> str:
    return json.dumps({"regions": entries})


@settings(max_examples=150)
@given(layouts(NAMES))
def test_the_editors_json_comes_back_exactly(entries: list[dict[str, Any]]) -> None:
    """Property: every box is kept to the last digit; what was read says the same when it is written again."""
    named = [{**e, "category": category_name(e["category"])} for e in entries]
    if not all(e["category"] and len(e["category"]) <= 1000 for e in named):
        with pytest.raises(RegionError) as told:
            parse_regions(as_json(entries))
        assert is_a_sentence(str(told.value))
        return
    found = parse_regions(as_json(entries))
    assert found == [Region(e["category"], *e["box"]) for e in named]
    written = [{"category": r.category, "box": [r.x0, r.y0, r.x1, r.y1]} for r in found]
    assert written == named and parse_regions(as_json(written)) == found


PLAIN = st.from_regex(r"[a-z\u4e00-\u4eff]{1,8}( [a-z]{1,8})?", fullmatch=True)


@settings(max_examples=100)
@given(layouts(PLAIN))
def test_lines_mean_what_the_editors_json_means(entries: list[dict[str, Any]]) -> None:
    lines = "\n".join(f"{e['category']}: {' '.join(map(str, e['box']))}" for e in entries)
    assert parse_regions(lines) == parse_regions(as_json(entries))
    assert names_only(lines) == (not entries)
    assert names_only("\n".join(e["category"] for e in entries))


@settings(max_examples=300)
@given(odd_json(TWO) | odd_lines() | st.text(max_size=60))
@example("1" * 100_000)
@example("1," * 100_000 + "x")
@example("cat: " + "1 " * 50_000 + "x")
@example("a" + " " * 100_000 + "b")
@example('{"regions": ' + "[" * 200_000)
@example("cat: 0 0 1 1\n" * 2000)
def test_any_text_is_regions_or_a_sentence(text: str) -> None:
    """Rule: no text takes long either; one of 20,000 digits took minutes."""
    assert names_only(text) in (True, False)
    try:
        found = parse_regions(text)
    except RegionError as error:
        assert str(error).rstrip()[-1] in ".91)" and "\n" not in str(error) and len(str(error)) < 500
    else:
        assert all(0 <= r.x0 < r.x1 <= 1 and 0 <= r.y0 < r.y1 <= 1 and r.category for r in found)


SETTINGS = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=8),
    st.recursive(
        st.none() | st.integers(1 - 2**64, 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    max_size=4,
)


@st.composite
def records(draw: Any) -> Record:
    """Images of trials, of any settings, names and numbers that a trial may have."""
    words = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp")), min_size=1, max_size=9)
    entries = draw(layouts(words).filter(bool))
    regions = tuple(Region(e["category"], *e["box"]) for e in entries)
    objects = []
    for name in dict.fromkeys(r.category for r in regions):
        inside, other, present = (draw(st.booleans()) for _ in range(3))
        objects.append(an_object(name, inside and present, other and present, present))
    return a_record(
        kind=draw(words),
        case=draw(st.integers(0, 2**31 - 1)),
        seed=draw(st.integers(0, 2**64 - 1)),
        prompt=draw(words),
        settings=draw(SETTINGS),
        judge=draw(st.sampled_from(("model", "boxes"))),
        regions=regions,
        objects=tuple(objects),
        nfe=draw(st.floats(0, 1e9)),
    )


@settings(max_examples=150)
@given(records())
def test_a_trials_line_gives_back_its_image_exactly(record: Record) -> None:
    """Property: what was read is what was written, to the last digit, and the same run."""
    line = record.line()
    again = parse(line)
    assert again.line() == line and line.isascii() and line.count("\n") == 1
    kept = replace(record, settings={k: plain_setting(v) for k, v in record.settings.items()})
    assert replace(again, settings={k: plain_setting(v) for k, v in again.settings.items()}) == kept
    assert again.run == record.run == run_of(record.model, record.width, record.height, record.settings)


@settings(max_examples=300)
@given(odd_json(json.loads(a_record("tickets", 3).line())))
def test_any_line_is_an_image_of_a_trial_or_left_out(line: str) -> None:
    for form in (line, line.encode("utf-8", "surrogateescape")):
        try:
            record = parse(form)
        except RecordError as error:
            assert "\n" not in str(error) and len(str(error)) < 200
        else:
            assert parse(record.line()).key == record.key

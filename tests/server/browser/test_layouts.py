"""The page and the server read one layout alike: the same examples, drawn by Hypothesis, in both."""

from __future__ import annotations

import json
import sys
from typing import Any

from comfyui import ROOT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from winning_tickets.tickets.layout.parse import parse_regions
from winning_tickets.tickets.layout.regions import RegionError

sys.path.append(str(ROOT / "benchmarks"))
from hostile import TWO, layouts, odd_json, odd_lines

# Of each text: the regions, or null; what is written of them and read again; and which are locked each time.
READ = """async texts => {
  const here = '/extensions/winning-tickets/regions'
  const {parse, serialize, toLines} = await import(`${here}/layout.js`)
  const {named} = await import(`${here}/category.js`)
  const read = text => {
    try { return parse(text).map(({category, box}) => [named(category), ...box]) } catch { return null }
  }
  return texts.map(text => {
    const found = read(text)
    if (!found) return [null, null, null, null]
    const again = parse(text)
    const texts = [text, serialize(again), toLines(again)]
    return [...texts.map(read), texts.map(one => parse(one).map(({locked}) => locked === true))]
  })
}"""
LONGEST = 20_000
PLAIN = st.from_regex(r"[a-z\u4e00-\u4eff]{1,8}( [a-z]{1,8})?", fullmatch=True)


def drawn(strategy: st.SearchStrategy[str], count: int) -> list[str]:
    """The same examples every time."""
    texts: list[str] = []
    wanted = settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    def keep(text: str) -> None:
        if len(text) < LONGEST:
            texts.append(text)

    wanted(given(strategy)(keep))()
    return list(dict.fromkeys(texts))


def half_locked(entries: list[dict[str, Any]]) -> str:
    every = [{**entry, "locked": True} if k % 2 else entry for k, entry in enumerate(entries)]
    return json.dumps({"regions": every})


def on_the_server(text: str) -> list[list[Any]] | None:
    try:
        return [[r.category, r.x0, r.y0, r.x1, r.y1] for r in parse_regions(text)]
    except RegionError:
        return None


def test_layouts_are_the_same_in_the_page_and_on_the_server_and_come_back_exactly(page: Any) -> None:
    """Rule: what the page shows is what the server places, to the last digit; locks are kept."""
    texts = drawn(layouts(PLAIN).map(half_locked), 200)
    kept = 0
    for text, (found, as_json, as_lines, locked) in zip(texts, page.evaluate(READ, texts), strict=True):
        assert found == as_json == as_lines == on_the_server(text), text
        asked = [entry.get("locked", False) for entry in json.loads(text)["regions"]]
        assert locked == [asked] * 3, text
        kept += sum(asked)
    assert kept > 20


def test_what_the_server_refuses_the_page_refuses_and_the_other_way_round(page: Any) -> None:
    """But for a box that has no name yet, and one that reaches a hair beyond the image."""
    texts = [text for text in drawn(odd_json(TWO) | odd_lines(), 500) if text.isprintable() or "\n" in text]
    refused = 0
    for text, (found, *_) in zip(texts, page.evaluate(READ, texts), strict=True):
        expected = on_the_server(text)
        if expected is None:
            refused += 1
            assert found is None or any(not name or len(name) > 1000 for name, *_ in found), (text, found)
        else:
            assert found is not None, (text, expected)
            assert [n for n, *_ in found] == [n for n, *_ in expected], text
            for (_, *ours), (_, *theirs) in zip(expected, found, strict=True):
                assert all(abs(a - b) <= 1e-6 for a, b in zip(ours, theirs, strict=True)), text
    assert 100 < refused < len(texts) - 30

"""Figures of a trial against their definitions, and sentences that claim no more than they may."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import numpy as np
import pytest
from records import a_record
from scipy.stats import binom
from winning_tickets.trial.figures import (
    Paired,
    Share,
    agreement,
    interval,
    kappa,
    rows,
    share,
    verdict,
    verdict_of,
)
from winning_tickets.trial.record import Record


def test_interval_solves_wilsons_equation() -> None:
    """Its ends are the shares from which the one found is 1.96 standard errors away."""
    for n in (1, 7, 64, 264):
        for hits in {0, 1, n // 3, n - 1, n}:
            low, high = interval(hits, n)
            assert 0 <= low <= hits / n <= high <= 1
            for end in (low, high):
                if 0 < end < 1:
                    off = abs(hits / n - end) / math.sqrt(end * (1 - end) / n)
                    assert off == pytest.approx(1.959964, abs=1e-6)
    assert interval(0, 0) == (0.0, 1.0)


def test_interval_covers_the_true_share_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    for p in (0.1, 0.3, 0.62, 0.95):
        drawn = rng.binomial(64, p, 4000)
        ends = [interval(int(k), 64) for k in range(65)]
        covered = np.mean([ends[k][0] <= p <= ends[k][1] for k in drawn])
        assert 0.92 < covered < 0.98


def test_shares_are_written_with_their_interval() -> None:
    assert Share(40, 64).percent() == "62% [50, 73]"
    assert share([True] * 25 + [False] * 239) == "0.095 [0.065, 0.136] (n = 264)"
    assert Share(0, 0).percent() == "-"


def test_sign_test_is_exact() -> None:
    for won, lost in ((0, 0), (5, 0), (1, 7), (9, 9), (40, 3)):
        n = won + lost
        worst = min(won, lost)
        exact = min(1.0, 2 * binom.cdf(worst, n, 0.5)) if n else 1.0
        assert Paired(won, lost, n + 3).p == pytest.approx(exact)


def test_interval_of_a_difference_covers_it() -> None:
    rng = np.random.default_rng(2)
    drawn = rng.multinomial(64, [0.3, 0.1, 0.6], 3000)
    ends = [Paired(int(won), int(lost), 64).interval() for won, lost, _ in drawn]
    assert 0.92 < np.mean([low <= 0.2 <= high for low, high in ends]) < 0.98
    assert Paired(0, 0, 1).interval()[0] >= -1


def trial(
    kind: str, hits: Iterable[bool], present: Iterable[bool] | None = None, swapped: bool = False
) -> list[Record]:
    hits = list(hits)
    there = [True] * len(hits) if present is None else list(present)
    return [
        a_record(kind, i, hit, p, swapped and not hit)
        for i, (hit, p) in enumerate(zip(hits, there, strict=True))
    ]


def some(count: int, n: int = 64) -> list[bool]:
    return [i < count for i in range(n)]


def test_rows_count_each_kind_and_each_image_once() -> None:
    records = [*trial("tickets", some(40), swapped=True), *trial("plain", some(6), some(60))]
    plain, tickets = rows(records * 2)
    assert (plain.kind, plain.n, plain.success, plain.present) == ("plain", 64, Share(6, 64), Share(60, 64))
    assert (tickets.success, tickets.swapped, tickets.nfe) == (Share(40, 64), Share(24, 64), 30.5)
    assert tickets.look_nfe == 6.5 and plain.nfe == 24 and plain.beside is None
    assert tickets.iou == pytest.approx(0.6 * 40 / 64)
    assert tickets.beside and tickets.beside.hits == Paired(34, 0, 64)
    assert [r.kind for r in rows(records, ["tickets"])] == ["plain", "tickets"]


def test_kinds_are_compared_on_what_both_have() -> None:
    """Rule: an interrupted trial compares the same cases, however many the others have."""
    records = [*trial("plain", some(20)), *trial("tickets", some(10, 10))]
    (_, tickets) = rows(records)
    assert tickets.beside and tickets.beside.plain_success == Share(10, 10) and tickets.beside.hits.n == 10
    other_seeds = [a_record("tickets", i, settings={"seed": 8}) for i in range(10)]
    (_, alone) = rows([*trial("plain", some(20)), *other_seeds])
    assert alone.beside is None


def test_the_sentence_of_a_clear_effect() -> None:
    records = [*trial("plain", some(6)), *trial("tickets", some(40))]
    told = verdict_of(records)
    assert told.text == (
        "On this checkpoint tickets put both objects in place in 62% [50, 73] of 64 images,"
        " plain noise in 9% [4, 19]."
    )
    assert told.better == ("tickets",)
    told = verdict_of([*records, *trial("block swap", some(30))])
    assert told.better == ("tickets", "block swap")
    assert told.text.endswith("Better than plain noise, too: block swap (47% [35, 59]).")


def test_no_effect_is_told_with_what_it_may_be() -> None:
    told = verdict_of([*trial("plain", some(6)), *trial("tickets", some(9))])
    assert told.text == (
        "No clear effect in 64 images: tickets put both objects in place in 14% [8, 25], plain noise"
        " in 9% [4, 19]; the difference may be anything from -1 to +10 points."
    )
    assert told.better == ()


def test_less_success_is_said() -> None:
    told = verdict_of([*trial("plain", some(40)), *trial("tickets", some(10))])
    assert "tickets put both objects in place less often than plain noise: in 16% [9, 26] of 64" in told.text
    assert told.better == ()


def test_lost_objects_are_said_beside_success() -> None:
    records = [*trial("plain", some(6), some(62)), *trial("tickets", some(40), some(45))]
    told = verdict_of(records)
    assert told.better == ("tickets",)
    assert told.text.endswith(
        "With tickets objects are missing more often: both objects were there in 70% [58, 80], with plain"
        " noise in 97% [89, 99]."
    )
    unsure = verdict_of([*trial("plain", some(6), some(64)), *trial("tickets", some(40), some(60))])
    assert unsure.text.endswith(
        "With tickets in 94% [85, 98] both objects were there, with plain noise in 100% [94, 100]; that may"
        " be chance."
    )
    small = verdict_of([*trial("plain", some(6), some(64)), *trial("tickets", some(40), some(62))])
    assert "there" not in small.text


def test_several_losses_that_may_be_chance_are_one_sentence() -> None:
    two = [*trial("tickets", some(40), some(60)), *trial("block swap", some(40), some(59))]
    text = verdict_of([*trial("plain", some(6), some(64)), *two]).text
    assert text.count("that may be chance") == 1
    assert "With tickets in 94% [85, 98] and with block swap in 92% [83, 97] both objects were" in text


def test_a_model_that_hardly_draws_the_objects_is_said() -> None:
    """Rule: wrong words are not taken for tickets that fail."""
    never = verdict_of([*trial("plain", some(0), some(2)), *trial("tickets", some(0), some(3))])
    assert never.text.startswith("No clear effect in 64 images")
    assert never.text.endswith(
        "Even with plain noise both objects were there in 3% [1, 11] only: try other words, more steps or"
        " another cfg."
    )
    few = verdict_of([*trial("plain", some(0, 2), some(0, 2)), *trial("tickets", some(0, 2))])
    often = verdict_of([*trial("plain", some(0), some(40)), *trial("tickets", some(0), some(40))])
    assert "Even with" not in few.text + often.text
    alone = verdict_of(trial("plain", some(0), some(2)))
    assert "Only plain noise was tried" in alone.text and "try other words" in alone.text


def test_a_control_that_works_as_well_is_said() -> None:
    base = [*trial("plain", some(6)), *trial("tickets", some(40))]
    quiet = verdict_of([*base, *trial("control: other category", some(3))])
    loud = verdict_of([*base, *trial("control: other category", some(38))])
    assert "control" not in quiet.text and quiet.better == ("tickets",)
    assert "The control (other category) put both objects in place in 59%" in loud.text
    assert "another cause than the tickets" in loud.text and loud.better == ("tickets",)


def test_nothing_is_claimed_of_too_little() -> None:
    assert verdict([]).text == "No image has been judged yet."
    assert "Only plain noise was tried" in verdict_of(trial("plain", some(2, 3))).text
    assert "no image of plain noise" in verdict_of(trial("tickets", some(2, 3))).text
    for n in range(1, 6):
        told = verdict_of([*trial("plain", some(0, n)), *trial("tickets", some(n, n))])
        assert told.text.startswith(f"No clear effect in {n} image") and told.better == ()
        assert ("from -" in told.text) != told.text.endswith("of so few images that may be chance.")


def test_the_number_of_objects_is_named() -> None:
    records = [*trial("plain", some(6)), *trial("tickets", some(40))]
    found = rows(records)
    for count, words in (
        (1, "the object"),
        (3, "all three objects"),
        (5, "all 5 objects"),
        (0, "all objects"),
    ):
        assert f"put {words} in place" in verdict(found, count).text


@pytest.mark.parametrize("kinds", [1, 3, 5])
def test_chance_alone_is_seldom_an_effect(kinds: int) -> None:
    """Rule: without any effect a trial claims one in at most about 1 of 20, however many kinds it tries."""
    rng = random.Random(kinds)
    claims = 0
    for _ in range(150):
        names = ["plain", *map(str, range(kinds))]
        records = [r for k in names for r in trial(k, [rng.random() < 0.3 for _ in range(32)])]
        told = verdict_of(records)
        claims += bool(told.better or "less often" in told.text or "more often" in told.text)
    assert claims <= 0.07 * 150


def test_agreement_of_two_judges_is_of_each_object() -> None:
    rng = random.Random(4)
    both = [(rng.random() < 0.5, rng.random() < 0.5) for _ in range(4000)]
    assert abs(kappa(both)) < 0.05 and kappa([(a, a) for a, _ in both]) == 1
    assert kappa([(True, True), (True, False), (False, False), (False, False)]) == pytest.approx(0.5)
    assert math.isnan(kappa([(True, True)] * 3))
    model = trial("tickets", some(32), some(64))
    boxes = [a_record("tickets", i, i < 32, judge="boxes") for i in range(60)]
    assert agreement(boxes, model) == (
        "Of 120 objects the model itself and the detector say the same of whether it is in its region in"
        " 100% [97, 100] (kappa 1.00) and of whether it is there in 100% [97, 100]."
    )
    assert agreement(boxes, trial("plain", some(3))) == ""


def test_one_image_is_no_fall() -> None:
    records = [*trial("plain", some(0, 3), some(3, 3)), *trial("tickets", some(3, 3), some(2, 3))]
    assert "there in" not in verdict_of(records).text

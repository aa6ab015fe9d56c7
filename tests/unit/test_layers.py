"""Which layers are tried, and which one is chosen, by their figures."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product

import pytest
from winning_tickets.show.layers import table
from winning_tickets.tickets.layers.figures import (
    LayerWorth,
    Tried,
    contenders,
    most_trials,
    others,
    recommended,
    settled,
    to_try,
)


def worth(name: str, effect: float, own: int | None = None, other: int = 4, objects: int = 24) -> LayerWorth:
    tried = None if own is None else Tried(objects // 2, objects, own, other, own + other)
    return LayerWorth(name, 8, 8, 2, effect, 0.2, tried=tried)


def names(worths: list[LayerWorth]) -> list[str]:
    return [w.layer for w in worths]


def test_the_earliest_and_the_strongest_layers_with_half_the_greatest_effect_are_tried() -> None:
    every = [worth(f"input {n}", e) for n, e in enumerate((0.2, 1.6, 2.0, 1.5, 2.9, 0.1, 2.8, 1.4))]
    assert names(contenders(every)) == ["input 1", "input 4", "input 6"]
    assert names(contenders([worth("a", 0.1), worth("b", 2.0)])) == ["b"]
    assert names(contenders([worth("a", -2.0), worth("b", -1.0)])) == ["a", "b"]
    assert names(contenders([worth("a", float("nan")), worth("b", 1.0)])) == ["b"]
    assert len(contenders([worth("a", float("nan"))])) == 1


def test_the_greatest_effect_alone_does_not_decide() -> None:
    """auto took a late layer, of the greatest effect, with success in 0.25 of the images instead of 0.98."""
    assert recommended([worth("input 3", 2.2), worth("output 3", 2.9)]).layer == "input 3"
    assert recommended([worth("input 3", 2.2, 20), worth("output 3", 2.9, 8)]).layer == "input 3"


def test_a_later_layer_is_taken_when_its_tickets_do_clearly_better_in_images() -> None:
    assert recommended([worth("input 3", 2.2, 6), worth("output 3", 2.9, 20)]).layer == "output 3"
    assert recommended([worth("input 3", 2.2, 14), worth("output 3", 2.9, 17)]).layer == "input 3"
    assert recommended([worth("input 3", 2.2, 12, 2), worth("output 3", 2.9, 14, 0)]).layer == "input 3"
    # Ten in their own place and eight in the other one are chance.
    assert recommended([worth("input 3", 2.2, 10, 8), worth("output 3", 2.9, 14, 0)]).layer == "output 3"


def test_tickets_that_put_as_many_in_the_other_box_do_not_work() -> None:
    assert worth("a", 9.0, 14, 2).clear and not worth("a", 9.0, 8, 6).clear
    assert not worth("a", 9.0, 0, 0).clear
    assert worth("a", 2.0).clear and not worth("a", 0.5).clear


def test_the_table_says_what_was_tried() -> None:
    every = [worth("input 3", 2.2, 20), worth("middle", 0.1), worth("output 3", 2.9, 8)]
    *_, head, first, last, advice = table(every).splitlines()
    assert head.split() == ["tried", "images", "in", "place", "(swapped)", "present"]
    assert first.split() == ["input", "3", "12", "0.83", "(0.17)", "1.00"] and last.startswith("output 3")
    assert advice == "Recommended: input 3, the earliest whose tickets work."
    assert "No layer stands out" in table([replace(w, tried=Tried(12, 24, 6, 6, 20)) for w in every])


def test_where_nothing_tried_works_the_next_layers_are_tried() -> None:
    every = [worth("a", 1.0), worth("b", 3.0, 2), worth("c", 0.5), worth("d", 2.0), worth("e", -1.0)]
    assert names(others(every)) == ["d", "a"]
    assert not others([*every, worth("f", 2.0, 20)])
    assert recommended([worth("a", 2.0, 2), worth("b", 2.0, 5, 6), worth("c", 0.5, 20)]).layer == "c"


def test_what_is_tried_next_follows_from_what_was_tried() -> None:
    every = [worth("a", 1.0), worth("b", 3.0), worth("c", 0.5), worth("d", 2.0), worth("e", 0.4)]
    assert names(to_try(every)) == ["b", "d"]
    failed = [replace(w, tried=Tried(12, 24, 3, 4, 20)) if w.layer in "bd" else w for w in every]
    assert names(to_try(failed)) == ["a", "c"]
    assert not to_try([replace(w, tried=Tried(12, 24, 3, 4, 20)) if w.layer in "abcd" else w for w in every])
    assert not to_try([replace(w, tried=Tried(12, 24, 20, 1, 24)) if w.layer == "b" else w for w in every])


def test_two_layers_between_which_it_is_open_are_tried_once_more() -> None:
    """On a model that the rule was not chosen on, a layer of 8 of 16 objects was kept before one of 13 of 16,
    which did five times as well in 56 images: so few cannot tell."""
    every = [worth("a", 2.0, 8, 0, 16), worth("b", 0.1), worth("c", 2.5, 13, 0, 16)]
    assert names(to_try(every)) == ["a", "c"] and recommended(every).layer == "a"
    again = [replace(w, tried=w.tried + w.tried) if w.tried else w for w in every]
    assert again[2].tried == Tried(16, 32, 26, 0, 26, 2)
    assert not to_try(again) and recommended(again).layer == "c"
    for own in (13, 14, 16):
        assert not to_try(
            [replace(w, tried=Tried(8, 16, own, 0, 16)) if w.layer == "a" else w for w in every]
        )
    assert not to_try([replace(w, tried=Tried(8, 16, 1, 0, 16)) if w.layer == "a" else w for w in every])
    # auto would not have tried the other one: the report recommends the same.
    enough = [worth("a", 2.0, 12, 0, 16), every[1], worth("c", 2.5, 16, 0, 16)]
    assert settled([enough[0], every[1], worth("c", 2.5)]) and not to_try(enough)


def test_a_layer_that_works_is_preferred_to_an_earlier_one_that_only_seems_to() -> None:
    """Six of 32 objects in their own place and four in the other one, by chance, won over twelve and none."""
    every = [worth("a", 2.0, 6, 4, 32), worth("b", 0.1), worth("c", 2.5, 12, 0, 32)]
    assert every[0].promising and not every[0].clear and recommended(every).layer == "c"
    assert recommended([every[0], every[1], replace(every[2], tried=Tried(16, 32, 6, 4, 10))]).layer == "a"


def test_the_advice_says_why_and_only_what_holds() -> None:
    """A later layer that did better was called the earliest whose tickets work."""
    every = [worth("input 3", 2.2, 14, 2), worth("middle", 0.1), worth("output 3", 2.9, 23, 0)]
    assert advice(every) == "output 3, whose tickets did clearly better in images than those of input 3."
    # What was tried after the first ones is in the table, too.
    every = [worth("input 3", 2.2, 4, 8), worth("middle", 0.1, 20, 0), worth("output 3", 2.9, 3, 9)]
    lines = table(every).splitlines()
    assert [line.split("  ")[0] for line in lines[-4:-1]] == ["input 3", "middle", "output 3"]
    assert lines[-1] == "Recommended: middle, the earliest whose tickets work."


def advice(worths: list[LayerWorth]) -> str:
    return table(worths).splitlines()[-1].removeprefix("Recommended: ")


def test_the_advice_claims_no_lead_that_images_did_not_show() -> None:
    """Where the first layer did no more than chance, the best of the others was called clearly better."""
    chance, low = worth("a", 2.0, 6, 5), worth("z", 0.1)
    some = [chance, worth("b", 2.1, 14, 2), worth("c", 2.5, 16, 2), low]
    assert advice(some) == "c, whose tickets did best in images, but not clearly better than those of b."
    some = [chance, worth("b", 2.1, 9, 2), worth("c", 2.5, 22, 0), low]
    assert advice(some) == "c, whose tickets did clearly better in images than those of b."
    # Clearly better than the earliest, but not than one between.
    some = [worth("a", 2.0, 12, 2), worth("b", 2.1, 21, 0), worth("c", 2.5, 22, 0)]
    assert advice(some) == (
        "c, whose tickets did clearly better in images than those of a, but not than those of b."
    )
    # The earliest one that works has little effect, and was tried only after these.
    some = [worth("a", 0.5, 12, 2), worth("b", 2.0, 15, 2), worth("c", 2.5, 6, 5)]
    assert advice(some) == "b, the earliest of great effect whose tickets work."


def clearly(better: LayerWorth, other: LayerWorth) -> bool:
    """By more than two standard errors of the difference of two shares."""
    assert better.tried and other.tried
    one, two = better.tried.share, other.tried.share
    return one - two > 2 * ((one * (1 - one) + two * (1 - two)) / (24 + 2)) ** 0.5


def test_no_advice_says_more_than_the_images() -> None:
    shares = [(6, 5), *((own, 0) for own in (3, 8, 13, 16, 19, 24))]
    for effects in permutations((1.0, 2.0, 0.2)):
        for tried in product(shares, repeat=3):
            every = [worth(name, e, *t) for name, e, t in zip("abc", effects, tried, strict=True)]
            best, text = recommended(every), advice(every)
            working = [w for w in every if w.tried and w.tried.works]
            if best not in working:
                assert text.startswith("No layer stands out")
            for other in (w for w in working if w is not best):
                than = text.partition("clearly better in images than those of ")[2].partition(", but")[0]
                assert other.layer not in than or clearly(best, other)
                level = text.partition("but not ")[2].partition("those of ")[2]
                assert other.layer not in level or not clearly(best, other)
            if "the earliest whose" in text:
                assert best is working[0]


def test_no_choice_takes_more_trials_than_are_announced() -> None:
    """auto announced each stage, but not what all of them can take together."""
    chance = random.Random(0)
    most = dict.fromkeys(range(1, 9), 0)
    for _ in range(6000):
        count, taken = chance.randint(1, 8), 0
        every = {f"{n}": worth(f"{n}", chance.choice((-1.0, 0.1, 1.0, 2.0))) for n in range(count)}
        while some := names(to_try(list(every.values()))):
            for name in some:
                own = chance.randint(0, 16)
                other = chance.randint(0, 16 - own) if chance.random() < 0.6 else 0
                now, before = Tried(8, 16, own, other, own + other), every[name].tried
                every[name] = replace(every[name], tried=before + now if before else now)
                taken += 1
        most[count] = max(most[count], taken)
        assert taken <= most_trials(count)
    assert [most[n] for n in (1, 2, 3)] == [most_trials(n) for n in (1, 2, 3)] == [1, 4, 5]
    assert most_trials(40) == 9


def test_a_layer_that_is_likely_to_work_is_preferred_to_contenders_that_do_not() -> None:
    """On a held-out model `output 2` was taken, with 0 of 16 in place and 6 in the other's, before `input 3`
    with 6 and 1: too few to prove it, and its effect was not half of the greatest.
    """
    every = [
        worth("input 3", 0.9, 6, 1, 16),
        worth("input 5", 0.5, 0, 2, 16),
        worth("output 2", 2.0, 0, 6, 16),
        worth("output 3", 2.1, 0, 8, 16),
    ]
    best = recommended(every)
    assert best.layer == "input 3" and not best.clear and to_try(every) == []


def test_where_no_layer_works_the_safest_is_taken_and_not_the_luckiest() -> None:
    """Tickets of two words went into each other's places at every layer: a dead one, by chance, did not."""
    every = [worth("input 3", 2.9, 3, 10), worth("middle", 0.4, 6, 5), worth("output 3", 3.7, 4, 9)]
    assert recommended(every).layer == "input 3" and not recommended(every).clear


def outcomes(objects: int) -> Iterator[Tried]:
    """Every result that a trial of so many objects can have."""
    for own in range(objects + 1):
        for other in range(objects + 1 - own):
            yield Tried(objects // 2, objects, own, other, own + other)


@pytest.mark.parametrize("objects", [2, 8, 12, 16])
def test_what_could_not_be_beaten_is_chosen_whatever_the_others_would_show(objects: int) -> None:
    """auto tried three layers where the first one's images had already decided."""
    stopped = 0
    for tried in outcomes(objects):
        first = replace(worth("first", 2.0), tried=tried)
        rest = [worth("other", 2.5), worth("third", 0.1)]
        alone = recommended([first, *rest])
        every = [recommended([first, replace(rest[0], tried=t), rest[1]]) for t in outcomes(objects)]
        # With a clear choice nothing else is tried, either: see `others`.
        same = tried.works and all(w == first for w in every)
        assert settled([first, *rest]) == same
        if same:
            stopped += 1
            assert alone == first and alone.clear and not others([first, *rest])
    assert bool(stopped) == (objects > 2)


def test_of_two_others_neither_could_change_what_is_settled() -> None:
    rest = [worth("b", 2.5), worth("c", 2.6)]
    for tried in outcomes(6):
        first = replace(worth("a", 2.0), tried=tried)
        every = [
            recommended([first, replace(rest[0], tried=b), replace(rest[1], tried=c)])
            for b in outcomes(6)
            for c in outcomes(6)
        ]
        assert settled([first, *rest]) == (tried.works and all(w == first for w in every))


def test_nothing_is_settled_before_the_earliest_contender_was_tried() -> None:
    assert not settled([worth("a", 2.0), worth("b", 2.5)])
    assert not settled([worth("a", 2.0), worth("b", 2.5, 24, 0)])
    # An early layer of little effect is no contender.
    assert settled([worth("a", 0.1), worth("b", 2.5, 24, 0)])

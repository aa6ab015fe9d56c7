"""Pictures and charts: everything in them is named, nothing is cut off, panels are not too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from banks import make_bank
from PIL import Image, ImageDraw, ImageFont
from records import a_record, an_object
from winning_tickets.guidance.trace import Evaluation, Trace
from winning_tickets.show import bank as bank_picture
from winning_tickets.show import draw, heatmap, layers, layout, noise, trace, trial
from winning_tickets.show.chart import Axis, Line, bar, line_chart, number
from winning_tickets.show.colours import (
    BLUE,
    GREY,
    INK,
    MISSING,
    PALETTE,
    PAPER,
    RED,
    SCALE,
    YELLOW,
    Colour,
    category_colour,
    heat,
)
from winning_tickets.show.table import aligned
from winning_tickets.tickets.bank.combine import prune
from winning_tickets.tickets.bank.figures import best_noises
from winning_tickets.tickets.gaussian import measure
from winning_tickets.tickets.layers.figures import LayerWorth
from winning_tickets.tickets.layout.regions import Region
from winning_tickets.tickets.noise import plain_noise

CASTLE, TREE = "\u57ce\u5821", "\U0001f333"


class Text(NamedTuple):
    text: str
    inside: bool


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """Every text that is drawn, and whether all of it lies in its picture."""
    found: list[Text] = []
    original = ImageDraw.ImageDraw.text

    def text(self: Any, xy: tuple[float, float], text: str, *args: Any, **kwargs: Any) -> None:
        left, top, right, bottom = self.textbbox(xy, text, font=kwargs["font"])
        width, height = self.im.size
        found.append(Text(text, left >= -1 and top >= 0 and right <= width + 1 and bottom <= height))
        original(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


@pytest.fixture(params=["FreeType", "bitmap"])
def font(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With Pillow's scalable font, and where it has none."""
    if request.param == "bitmap":

        def only_bitmap(size: float | None = None) -> Any:
            if size is not None:
                raise ImportError("The _imagingft C module is not installed")
            return ImageFont.load_default_imagefont()

        monkeypatch.setattr(ImageFont, "load_default", only_bitmap)
    draw.font.cache_clear()
    yield request.param
    monkeypatch.undo()
    draw.font.cache_clear()


def trace_of(phrases: tuple[str, ...], steps: int = 5, size: tuple[int, int] = (19, 13)) -> Trace:
    found: list[Evaluation | None] = [
        Evaluation(torch.rand(2), torch.rand(2, len(phrases), *size), 1 + torch.rand(2)) for _ in range(steps)
    ]
    return Trace(phrases, torch.linspace(14.0, 0.0, steps + 1), found, steps)


def named(count: int) -> tuple[str, ...]:
    return tuple(f"thing {k}" for k in range(count))


def of_bank(names: tuple[str, ...]) -> torch.Tensor:
    return bank_picture.report(make_bank(names, scheme="joint"))[1]


def of_preview(names: tuple[str, ...]) -> torch.Tensor:
    return bank_picture.latest_maps(make_bank(names, scheme="joint"), 1)


def of_layout(names: tuple[str, ...]) -> torch.Tensor:
    groups = (torch.arange(6 * 9) % (len(names) + 1) - 1).view(9, 6)
    worth = torch.rand(9, 6).masked_fill(groups < 0, float("nan"))
    return layout.layout_picture(groups, groups, worth, plain_noise(0, (4, 19, 13))[0], 2, names)


def of_layers(names: tuple[str, ...]) -> torch.Tensor:
    worths = [LayerWorth(f"input {k}", 5, 3, 4, 0.5 * k - 0.5, 0.2) for k in range(4)]
    maps = {w.layer: torch.rand(1, len(names), 5, 3) for w in worths}
    return layers.picture(worths, maps, names)


def of_trial(names: tuple[str, ...]) -> torch.Tensor:
    regions = tuple(Region(name, 0.0, 0.0, 0.5, 1.0) for name in names)
    changed = {"regions": regions, "objects": tuple(map(an_object, names))}
    records = [a_record(kind, case, **changed) for kind in ("plain", "tickets") for case in range(8)]
    samples = [trial.Sample(r, torch.rand(19, 13, 3), np.ones((len(names), 5, 3), bool)) for r in records]
    return trial.picture(records, samples)


def of_noise(names: tuple[str, ...]) -> torch.Tensor:
    ours, plain = plain_noise(0, (4, 19, 13)) * 1.2, plain_noise(1, (4, 19, 13))
    return noise.picture(ours, plain, measure(ours, 2), measure(plain, 2))


def of_maps(names: tuple[str, ...]) -> torch.Tensor:
    return trace.heat_maps(trace_of(names).maps()[:, 0], names, [0, 1, 2, 3, 4], torch.rand(40, 30, 3))


def of_curves(names: tuple[str, ...]) -> torch.Tensor:
    return trace.curves(trace_of(names), 1, 0.6)


SHOWN: dict[Callable[[tuple[str, ...]], torch.Tensor], tuple[str, ...]] = {
    of_bank: (
        "average score",
        "% of tickets",
        "below 0.3: for the background",
        "above 0.5: wins for the category",
        "seed 1",
        "0.5",
    ),
    of_preview: ("Scores on the noise of seed 1", "score of a block", "0.5"),
    of_layout: ("regions", "worth of each block", "noise", "background", "plain noise is kept", "-1 poor"),
    of_layers: (
        "input 2",
        "effect, in SD of plain noise",
        "standard error",
        "the recommended layer",
        "1.00",
    ),
    of_noise: (
        "value of a latent pixel",
        "density",
        "quantile of the standard normal",
        "spatial frequency, cycles per latent pixel",
        "mean power",
        "this noise",
        "plain noise",
        "standard normal",
    ),
    of_trial: (
        "all objects in place (n = 8)",
        "all objects present",
        "plain noise",
        "tickets",
        "100",
        "% of images, with 95% intervals",
        "in place",
    ),
    of_maps: ("step 1", "step 5", "Attention to the phrase, over the image", "greatest"),
    of_curves: (
        "step",
        "F1 (1: the same)",
        "share of power",
        "size of the guidance term",
        "its push still to come, this step included",
        "guided up to here: 60% of the steps",
    ),
}


@pytest.mark.parametrize("make", SHOWN)
def test_every_picture_names_what_it_shows(
    make: Callable[[tuple[str, ...]], torch.Tensor], texts: list[Text], font: str
) -> None:
    """Rule: nobody could tell which row was which phrase, or what a curve was."""
    image = make(("castle", "tree"))
    drawn = {text for text, _ in texts}
    assert set(SHOWN[make]) <= drawn
    assert make is of_noise or {"castle", "tree"} <= drawn
    assert image.dtype == torch.float32 and image.shape[-1] == 3
    assert float(image.min()) >= 0 and float(image.max()) == 1
    assert not [text for text, inside in texts if not inside]


@pytest.mark.parametrize("make", [make for make in SHOWN if make is not of_noise])
@pytest.mark.parametrize("count", [1, 7, 50])
def test_few_and_many_names_fit(
    make: Callable[[tuple[str, ...]], torch.Tensor], count: int, texts: list[Text]
) -> None:
    """Rule: a picture is as wide as a node, no longer than can be scrolled, and says what it leaves out."""
    names = named(count)
    image = make(names)
    assert image.shape[1] <= 900 and image.shape[0] <= 3000
    assert not [text for text, inside in texts if not inside]
    shown = sum(name in {text for text, _ in texts} for name in names)
    left_out = [text for text, _ in texts if text.endswith("not shown.")]
    assert shown and (shown == count or left_out == [left_out[0]] and str(count - shown) in left_out[0])


def test_many_layers_and_steps_are_left_out_with_a_word(texts: list[Text]) -> None:
    worths = [LayerWorth(f"input {k}", 4, 4, 4, float(k), 0.1) for k in range(70)]
    image = layers.picture(worths, {w.layer: torch.rand(1, 2, 4, 4) for w in worths}, ("a", "b"))
    drawn = {text for text, _ in texts}
    assert "46 more layers, of smaller effect, are not shown." in drawn
    assert "input 69" in drawn and "input 3" not in drawn and image.shape[0] < 2000
    maps = trace.heat_maps(torch.rand(50, 1, 8, 8), ("cat",), list(range(50)))
    assert "38 more steps are not shown." in {text for text, _ in texts} and maps.shape[1] < 1200


def test_what_a_layer_picture_leaves_out_is_said_in_sentences(texts: list[Text]) -> None:
    """Rule: sentences have a space between them; two ran into each other."""
    names = ("a", "b", "c", "d", "e")
    worths = [LayerWorth(f"input {k}", 4, 4, 4, float(k), 0.1) for k in range(30)]
    layers.picture(worths, {w.layer: torch.rand(1, 5, 4, 4) for w in worths}, names)
    drawn = " ".join(text for text, _ in texts)
    assert "are not shown. 1 more phrase is not shown." in drawn


@pytest.mark.parametrize("make", [make for make in SHOWN if make is not of_noise])
def test_names_the_font_has_no_letters_for_are_numbered(
    make: Callable[[tuple[str, ...]], torch.Tensor], texts: list[Text]
) -> None:
    """Rule: boxes in place of letters name nothing."""
    make((CASTLE, "\u00e1rbol", TREE))
    drawn = {text for text, _ in texts}
    assert {"no. 1", "arbol", "no. 3"} <= drawn and all(text.isascii() for text in drawn)


def test_the_report_says_which_name_is_which_number() -> None:
    assert draw.unwritten((CASTLE, "\u00e1rbol", TREE)) == [
        f"In the pictures no. 1 is {CASTLE}, no. 3 is {TREE}."
    ]
    assert draw.unwritten(("castle", "\u00e1rbol")) == []
    text, _ = bank_picture.report(make_bank(("castle", TREE)))
    assert text.splitlines()[-1] == f"In the pictures no. 2 is {TREE}."


def test_text_is_cut_in_its_middle_and_paragraphs_between_words() -> None:
    name = "seed 18446744073709551615"
    short = draw.fitted(name, 120)
    assert draw.width_of(short) <= 120 and short.startswith("seed 1") and short.endswith("15")
    assert draw.fitted("cat", 100) == "cat"
    lines = draw.wrapped("one two three " * 20, 200)
    assert " ".join(lines) == " ".join(["one two three"] * 20) and max(map(draw.width_of, lines)) <= 200


def test_heat_runs_from_dark_to_bright_and_grey_is_nothing() -> None:
    colours = heat(torch.tensor([0.0, 0.2, 1.0, float("nan")]))
    torch.testing.assert_close(colours[:3], SCALE[[0, 1, 5]])
    lightness = heat(torch.linspace(0, 1, 50)) @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (lightness.diff() > 0).all() and len(set(colours[3].tolist())) > 1


def test_a_map_lies_as_it_is() -> None:
    """Rule: rows from top to bottom, columns from left to right, at sizes that do not divide."""
    values = torch.zeros(19, 13)
    values[0, 12] = 1
    panel = draw.tensor_of(heatmap.panel(values, 100))
    assert panel.shape == (100, 68, 3)
    bright = (panel.sum(-1) > 2).nonzero()
    assert bright[:, 0].tolist() and int(bright[:, 0].max()) < 6 and int(bright[:, 1].min()) > 61


def test_what_was_not_kept_is_grey_and_named(texts: list[Text]) -> None:
    bank_picture.report(make_bank())
    assert "not in the bank" not in {text for text, _ in texts}
    bank_picture.report(prune(make_bank(noises=20), 0.05))
    assert "not in the bank" in {text for text, _ in texts}


@pytest.mark.parametrize("noises", [1, 2, 4])
def test_a_bank_of_few_noises_has_fewer_maps(noises: int, texts: list[Text]) -> None:
    """A bank of two noises had no third best one: an error. Nor is a noise without tickets a good one."""
    bank = make_bank(noises=noises)
    assert bank_picture.report(bank)[1].shape[-1] == 3
    drawn = {text for text, _ in texts}
    assert [head in drawn for head in ("best noise", "second", "third")] == [k < noises for k in range(3)]
    one = bank.take(torch.arange(16))
    assert best_noises(one, "cat") == [0] and bank_picture.report(one)[1].shape[-1] == 3


def test_ticks_are_round_and_within_the_axis() -> None:
    for low, high in ((0, 1), (-0.04, 1.06), (0.5, 20.5), (-2.8, 2.8), (0, 1234.0), (0, 0.003)):
        ticks = Axis("", low, high).ticks(6)
        assert 2 <= len(ticks) <= 8 and all(low - 1e-9 <= t <= high + 1e-9 for t in ticks)
        assert all(len(number(t)) <= 6 for t in ticks)
    assert all(t == int(t) for t in Axis("", 0.5, 3.5, whole=True).ticks(10))


def line_pixels(y: torch.Tensor) -> torch.Tensor:
    red = (1.0, 0.0, 0.0)
    x = torch.arange(len(y)).float()
    image = draw.tensor_of(line_chart("", Axis("x", 0, len(y) - 1), Axis("y", 0, 1), [Line("l", x, y, red)]))
    # Without the legend.
    return ((image - torch.tensor(red)).abs().sum(-1) < 0.3)[:-25]


def test_a_line_goes_where_its_values_are_and_breaks_where_there_are_none() -> None:
    """Rule: a figure that cannot be told is not drawn."""
    rising = line_pixels(torch.linspace(0, 1, 11)).nonzero()
    assert int(rising[rising[:, 1].argmin(), 0]) > int(rising[rising[:, 1].argmax(), 0]) + 100
    broken = torch.full((11,), 0.5)
    columns = set(line_pixels(broken).nonzero()[:, 1].tolist())
    broken[5] = float("nan")
    gap = columns - set(line_pixels(broken).nonzero()[:, 1].tolist())
    assert 0.15 < len(gap) / len(columns) < 0.25


def test_bars_are_as_long_as_their_values() -> None:
    axis = Axis("", -1, 3)
    blue = (0.0, 0.0, 1.0)

    def length(value: float) -> int:
        image = draw.tensor_of(bar(value, (value, value), axis, (400, 40), blue))
        return int(((image - torch.tensor(blue)).abs().sum(-1) < 0.3).any(0).sum())

    assert length(2) == pytest.approx(200, abs=4) and length(-0.5) == pytest.approx(50, abs=4)


def test_an_effect_that_cannot_be_told_has_no_bar(texts: list[Text]) -> None:
    worths = [LayerWorth("input 1", 4, 4, 4, float("nan"), float("nan")), LayerWorth("a", 4, 4, 4, 1.0, 0.1)]
    image = layers.picture(worths, {w.layer: torch.rand(1, 1, 4, 4) for w in worths}, ("cat",))
    assert bool(image.isfinite().all()) and "nan" not in {text for text, _ in texts}


def test_regions_are_in_the_colours_of_their_categories() -> None:
    owner = torch.tensor([[0, 0, -1], [1, 1, -1]])
    image = layout.owner_map(owner, torch.tensor([[0, 0, -1], [0, 0, -1]]), ("cat",), 60, 90)
    assert image.shape == (60, 90, 3)
    torch.testing.assert_close(image[15, 10], torch.tensor(category_colour("cat")))
    assert image[30, 10].tolist() == [1, 1, 1] and float(image[15, 80].max()) < 0.2


def test_a_run_without_attention_has_the_other_charts() -> None:
    run = trace_of(("cat",))
    read = trace.curves(run, 0)
    run.steps = [Evaluation(one.low, None, one.guidance) for one in run.steps if one is not None]
    assert read.shape[0] > trace.curves(run, 0).shape[0] > 400


def test_figures_without_a_meaning_are_left_out() -> None:
    """Rule: a rising run printed "-36633570635487274598400%" still to come."""
    run = trace_of(("cat",))
    run.sigmas = run.sigmas.flip(0)
    run.steps[1] = Evaluation(torch.rand(2), None, None, "why")
    lines = trace.table(run, 0, [0, 1]).splitlines()
    assert lines[0].split() == ["step", "sigma", "cat", "low", "freq.", "guidance"]
    assert lines[2].split()[2] == lines[2].split()[4] == "-"
    assert trace.curves(run, 0).isfinite().all()
    assert trace.heat_maps(run.maps()[:, 0], ("cat",), list(range(5))).isfinite().all()


def test_a_run_without_guidance_has_no_figures_of_it() -> None:
    run = trace_of(("cat",))
    guided = trace.curves(run, 0)
    run.steps = [Evaluation(one.low, one.maps, torch.zeros(2)) for one in run.steps if one is not None]
    assert trace.table(run, 0, [0]).splitlines()[0].split() == ["step", "sigma", "cat", "low", "freq."]
    assert trace.curves(run, 0).shape[0] < guided.shape[0]
    run.steps[1] = Evaluation(torch.rand(2), None, None)
    assert trace.table(run, 0, [0]).splitlines()[0].endswith("guidance"), "not reported is not none"


def test_masks_stay_maps() -> None:
    masks = trace.masks(torch.rand(2, 16, 24), 128, 192)
    assert masks.shape == (2, 128, 192)
    assert masks.amin((1, 2)).tolist() == [0, 0] and masks.amax((1, 2)).tolist() == [1, 1]


def test_columns_of_wide_letters_are_aligned() -> None:
    lines = aligned([["", "a"], [CASTLE, "1.00"], ["tree", "0.50"]])
    assert lines == ["         a", f"{CASTLE}  1.00", "tree  0.50"]


def test_a_picture_keeps_its_values_through_pil() -> None:
    image = draw.picture_of(torch.tensor([[[0.0, 0.5, 1.0]]]))
    assert isinstance(image, Image.Image) and image.getpixel((0, 0)) == (0, 128, 255)
    torch.testing.assert_close(draw.tensor_of(image), torch.tensor([[[0, 128 / 255, 1]]]))


def test_many_phrases_have_a_table_of_their_own() -> None:
    """Rule: a table is no wider than a node."""
    few = trace.table(trace_of(("castle", "tree")), 0, [0, 4]).splitlines()
    assert few[0].split()[:4] == ["step", "sigma", "castle", "tree"] and len(few) == 3
    many = trace.table(trace_of(named(50)), 0, [0, 4]).splitlines()
    assert max(map(len, many)) < 80 and len(many) == 3 + 1 + 51
    assert many[4].split() == ["agreement", "step", "1", "step", "5"] and many[5].endswith("1.00")


def test_a_layers_line_names_what_it_has() -> None:
    worths = [LayerWorth("input 8", 5, 3, 4, 2.0, 0.2, 0.5), LayerWorth("output 11.9", 5, 3, 4, 1, 0.2, 0.5)]
    head, first, second, last = layers.table(worths).splitlines()
    assert head.split() == ["layer", "map", "block", "effect", "(+-)", "kept"]
    assert first.split() == ["input", "8", "5x3", "4x4", "2.000", "(0.200)", "0.500"]
    assert second.split() == ["output", "11.9", "5x3", "4x4", "1.000", "(0.200)", "0.500"]
    assert last == "Recommended: input 8, the earliest whose tickets have a great effect."
    full = layers.table([replace(worths[0], agreement=0.3, chance=-0.01)]).splitlines()
    assert full[0].split()[-2:] == ["agreement", "(chance)"] and full[1].split()[-2:] == ["0.300", "(-0.010)"]
    assert full[-1].startswith("Agreement should be 0.1 above chance")
    poor = layers.table([replace(worths[0], agreement=0.12, chance=0.05)]).splitlines()
    assert poor[-1] == "Warning: input 8 has less: its tickets may do nothing."


def test_steps_that_were_not_read_are_grey_and_named(texts: list[Text]) -> None:
    """Rule: a map that was not read is not shown as if it were."""
    maps = torch.rand(3, 2, 8, 8)
    trace.heat_maps(maps, ("castle", "tree"), [0, 1, 2])
    assert "not read" not in {text for text, _ in texts}
    maps[1] = float("nan")
    image = trace.heat_maps(maps, ("castle", "tree"), [0, 1, 2])
    assert "not read" in {text for text, _ in texts}
    grey = (image - torch.tensor(MISSING)).abs().amax(-1) < 0.01
    assert int(grey.sum()) > 2 * 150 * 150


# What is seen of linear red, green and blue without red, green or blue cones (Machado et al. 2009).
VISIONS = {
    "usual": np.eye(3),
    "no red": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "no green": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "no blue": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


def seen(colours: list[Colour], vision: str) -> np.ndarray:
    """As CIELAB, in which a distance of 2 is just seen side by side."""
    rgb = np.array(colours)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    parts = np.clip(linear @ np.array(VISIONS[vision]).T, 0, 1) @ XYZ.T / XYZ.sum(1)
    x, y, z = np.where(parts > 0.008856, np.cbrt(parts), 7.787 * parts + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


@pytest.mark.parametrize("vision", VISIONS)
def test_categories_are_told_apart_by_everybody(vision: str) -> None:
    """Rule: no two colours of the palette are near to each other, whatever cones one lacks."""
    colours = [((c >> 16) / 255, (c >> 8 & 255) / 255, (c & 255) / 255) for c in PALETTE]
    assert {category_colour(name) for name in map(str, range(999))} == set(colours)
    places = seen(colours, vision)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + 99 * np.eye(len(colours))
    assert apart.min() > 14


@pytest.mark.parametrize("vision", VISIONS)
def test_so_are_curves_and_bars(vision: str) -> None:
    places = seen([BLUE, RED, YELLOW, GREY, INK, PAPER], vision)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + 99 * np.eye(len(places))
    assert apart.min() > 24


def test_common_things_have_colours_of_their_own() -> None:
    names = ["castle", "tree", "sun", "car", "flower", "fish", "lake", "boat", "cat", "dog", "house"]
    assert len({category_colour(name) for name in names}) == len(names)

"""What the Templates dialog shows of an example workflow: its results, composed from a run.

The dialog takes one square picture of a pack's template, <name>.jpg, and shows it about 250 pixels wide. A
badge of its own lies over the upper left corner.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont
from scipy import ndimage

SIDE, GAP = 512, 8
TILE = (SIDE - GAP) // 2
GROUND, LINE, INK, FAINT = (24, 25, 29), (62, 64, 72), (240, 240, 242), (122, 124, 132)
GOOD = (98, 176, 84)
LETTERS, SMALL = 30, 24
# Of an inset laid over a large picture.
INSET, MARGIN = 152, 12
# Of the picture of a report: sides shorter than this are letters, marks and legends.
SMALLEST_PANEL = 60

Box = Sequence[float]
Place = tuple[int, int]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Shots:
    """What a run left, by the names of the example's nodes. layout: the region editor's value."""

    pictures: Mapping[str, Sequence[Image.Image]]
    texts: Mapping[str, Sequence[str]]
    layout: str = ""

    def __call__(self, name: str) -> Image.Image:
        return self.pictures[name][0].convert("RGB")

    @property
    def boxes(self) -> dict[str, Box]:
        return {region["category"]: region["box"] for region in json.loads(self.layout)["regions"]}


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _canvas() -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), GROUND)


def _scaled(picture: Image.Image, width: int, height: int = 0, *, blocks: bool = False) -> Image.Image:
    how = Image.Resampling.NEAREST if blocks else Image.Resampling.LANCZOS
    return picture.resize((width, height or width), how)


def _put(canvas: Image.Image, picture: Image.Image, place: Place, edge: bool = False) -> None:
    """Rounded, with a bright edge if it lies on another picture."""
    mask = Image.new("L", (2 * picture.width, 2 * picture.height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 2 * picture.width - 1, 2 * picture.height - 1), 20, 255)
    canvas.paste(picture, place, mask.resize(picture.size))
    if edge:
        (x, y), (w, h) = place, picture.size
        ImageDraw.Draw(canvas).rounded_rectangle((x - 2, y - 2, x + w + 1, y + h + 1), 12, None, INK, 3)


def _pill(canvas: Image.Image, place: Place, text: str, colour: Colour = GROUND, size: int = SMALL) -> None:
    """A word on a plate, its upper left corner at `place`."""
    draw = ImageDraw.Draw(canvas)
    x, y = place
    left, _, right, _ = draw.textbbox((0, 0), text, font=_font(size))
    width, height = round(right - left) + 20, size + 12
    draw.rounded_rectangle((x, y, x + width, y + height), 8, colour)
    dark = sum(colour) < 380
    draw.text((x + width / 2, y + height / 2), text, INK if dark else GROUND, _font(size), "mm")


def _panels(picture: Image.Image) -> list[list[Image.Image]]:
    """The maps and pictures in a report's picture, row by row."""
    filled = np.asarray(picture.convert("RGB")).min(-1) < 250
    labels, _ = ndimage.label(filled)
    found: list[tuple[int, int, int, int]] = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if min(high, wide) < SMALLEST_PANEL:
            continue
        # A region's outline is as bright as the paper.
        solid = ndimage.binary_fill_holes(labels[rows, columns] == number).mean() > 0.9
        inside = any(t <= rows.start < b and x <= columns.start < r for t, x, r, b in found)
        if solid and not inside:
            found.append((rows.start, columns.start, columns.stop, rows.stop))
    lines: list[list[tuple[int, int, int, int]]] = []
    for top, left, right, bottom in sorted(found):
        if not lines or top - lines[-1][0][1] > SMALLEST_PANEL // 2:
            lines.append([])
        lines[-1].append((left, top, right, bottom))
    return [[picture.crop(box) for box in sorted(line)] for line in lines]


def _colours(regions: Image.Image, boxes: Mapping[str, Box]) -> dict[str, Colour]:
    """Of the categories, read from the regions that a node has drawn."""
    found = {}
    for name, (x0, y0, x1, y1) in boxes.items():
        part = regions.crop(
            (
                round(x0 * regions.width) + 3,
                round(y0 * regions.height) + 3,
                round(x1 * regions.width) - 3,
                round(y1 * regions.height) - 3,
            )
        )
        counted = part.getcolors(part.width * part.height) or []
        found[name] = max(counted)[1] if counted else INK
    return found  # type: ignore[return-value]


def _outlined(
    picture: Image.Image, boxes: Mapping[str, Box], colours: Mapping[str, Colour], width: int = 5
) -> Image.Image:
    drawn = picture.copy()
    draw = ImageDraw.Draw(drawn)
    for name, (x0, y0, x1, y1) in boxes.items():
        corners = [round(v * picture.width) for v in (x0, y0, x1, y1)]
        draw.rectangle([c + d for c, d in zip(corners, (-2, -2, 2, 2), strict=True)], None, GROUND, width + 4)
        draw.rectangle(corners, None, colours[name], width)
    return drawn


def _drawn(boxes: Mapping[str, Box], colours: Mapping[str, Colour], side: int) -> Image.Image:
    """The boxes as the region editor shows them."""
    sheet = Image.new("RGB", (side, side), (38, 39, 44))
    draw = ImageDraw.Draw(sheet)
    for i in range(1, 8):
        at = round(i * side / 8)
        draw.line((at, 0, at, side), LINE)
        draw.line((0, at, side, at), LINE)
    for name, box in boxes.items():
        corners = [round(v * side) for v in box]
        shade = tuple(round(0.45 * c + 0.55 * g) for c, g in zip(colours[name], (38, 39, 44), strict=True))
        draw.rectangle(corners, shade, colours[name], max(3, side // 60))
    return sheet


def _over(hero: Image.Image, **insets: Image.Image) -> Image.Image:
    """One large picture with small ones in its corners, named by them."""
    canvas = _canvas()
    _put(canvas, _scaled(hero, SIDE), (0, 0))
    far = SIDE - INSET - MARGIN
    for corner, inset in insets.items():
        vertical, horizontal = corner.split("_")
        place = far if horizontal == "right" else MARGIN, far if vertical == "bottom" else MARGIN
        _put(canvas, inset, place, edge=True)
    return canvas


def _grid(tiles: Sequence[Image.Image], labels: Sequence[str]) -> Image.Image:
    """Four pictures, each with a word in its lower left corner."""
    canvas = _canvas()
    for number, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        place = number % 2 * (TILE + GAP), number // 2 * (TILE + GAP)
        _put(canvas, _scaled(tile, TILE), place)
        if label:
            _pill(canvas, (place[0] + 8, place[1] + TILE - SMALL - 20), label)
    return canvas


def first_picture(shots: Shots) -> Image.Image:
    ((regions, *_),) = _panels(shots("layout"))
    colours = _colours(regions, shots.boxes)
    hero = _outlined(_scaled(shots("tickets saved"), SIDE), shots.boxes, colours)
    plain = _outlined(_scaled(shots("plain saved"), INSET), shots.boxes, colours, 2)
    return _over(hero, bottom_right=plain, bottom_left=_drawn(shots.boxes, colours, INSET))


def regions_to_image(shots: Shots) -> Image.Image:
    ((regions, _, noise),) = _panels(shots("layout"))
    colours = _colours(regions, shots.boxes)
    hero = _outlined(_scaled(shots("tickets saved"), SIDE), shots.boxes, colours)
    return _over(
        hero,
        top_right=_drawn(shots.boxes, colours, INSET),
        bottom_left=_scaled(noise, INSET, blocks=True),
    )


def masks_to_image(shots: Shots) -> Image.Image:
    ((regions, *_),) = _panels(shots("layout"))
    return _over(shots("tickets saved"), bottom_left=_scaled(regions, INSET, blocks=True))


def collect_and_save_a_bank(shots: Shots) -> Image.Image:
    """The best noises of each category, a row for each, before its name."""
    rows, canvas = _panels(shots("report")), _canvas()
    names = re.findall(r"^  (\S+): [\d,]+ above", shots.texts["report"][0], re.MULTILINE)
    side = (SIDE - 3 * GAP) // 4
    maps = [row for row in rows if len(row) > 1]
    for down, (name, row) in enumerate(zip(names, maps, strict=True)):
        y = down * (side + GAP)
        ImageDraw.Draw(canvas).text((SIDE - side, y + side / 2), name, INK, _font(LETTERS), "lm")
        for across, tile in enumerate(row[-3:]):
            _put(canvas, _scaled(tile, side, blocks=True), (across * (side + GAP), y))
    return canvas


def block_swap(shots: Shots) -> Image.Image:
    """What was drawn and the noise made of it, above the seed as it was and as it is then."""
    ((regions, _, noise),) = _panels(shots("arranged"))
    colours = _colours(regions, shots.boxes)
    plain, moved = (
        _outlined(_scaled(shots(name), TILE), shots.boxes, colours, 3)
        for name in ("plain saved", "arranged saved")
    )
    noise = _scaled(noise, TILE, blocks=True)
    canvas = _grid([_drawn(shots.boxes, colours, TILE), noise, plain, moved], [""] * 4)
    _arrow(canvas, (SIDE // 2, TILE + GAP + TILE // 2))
    return canvas


def _arrow(canvas: Image.Image, middle: Place) -> None:
    draw = ImageDraw.Draw(canvas)
    x, y = middle
    draw.ellipse((x - 27, y - 27, x + 27, y + 27), GROUND, INK, 3)
    draw.line((x - 13, y, x + 8, y), INK, 5)
    draw.polygon([(x + 4, y - 11), (x + 16, y), (x + 4, y + 11)], INK)


def try_the_left_third_again(shots: Shots) -> Image.Image:
    """The best of the tries, with a frame around its new part, and what it was before."""
    third, white = {"": (0.01, 0.01, 0.33, 0.99)}, {"": INK}
    hero = _outlined(_scaled(shots("best saved"), SIDE), third, white)
    before = _outlined(_scaled(shots("plain saved"), INSET), third, white, 2)
    return _over(hero, bottom_right=before)


def does_it_work_on_my_checkpoint(shots: Shots) -> Image.Image:
    """How many images of each noise have everything in place, above one case from the first and the last."""
    found = re.findall(r"^\| (\w[^|]*?) *\| +\d+ +\| (\d+)%", shots.texts["trial"][0], re.MULTILINE)
    canvas, best = _canvas(), max(int(share) for _, share in found)
    draw = ImageDraw.Draw(canvas)
    high = SIDE - 200
    step = high / len(found)
    for number, (_, share) in enumerate(found):
        y = round(number * step)
        box = (0, y + 8, SIDE - 101, y + step - 8)
        draw.rounded_rectangle(box, 8, (38, 39, 44))
        colour = FAINT if not number else GOOD if int(share) == best else (66, 110, 180)
        wide = max(18, round(int(share) / 100 * (SIDE - 101)))
        draw.rounded_rectangle((0, box[1], wide, box[3]), 8, colour)
        draw.text((SIDE - 8, y + step / 2), f"{share}%", INK, _font(LETTERS), "rm")
    tiles = _panels(shots("trial"))[-1]
    side = 190
    for tile, x in ((tiles[0], 0), (tiles[-1], SIDE - side)):
        _put(canvas, _scaled(tile, side), (x, SIDE - side))
    _arrow(canvas, (SIDE // 2, SIDE - side // 2))
    return canvas


def cutoff_side_by_side(shots: Shots) -> Image.Image:
    """Full guidance, half of it, what differs, and how often the model ran for each."""
    stitched = shots("saved")
    side = stitched.height
    full, half = (stitched.crop((i * side, 0, (i + 1) * side, side)) for i in range(2))
    differs = ImageChops.difference(full, half).point(lambda v: min(255, 4 * v))
    cut, stock = (int(n) for n in re.findall(r"(\d+) NFE .* takes (\d+):", " ".join(shots.texts["half"]))[0])
    bars = Image.new("RGB", (TILE, TILE), (38, 39, 44))
    draw = ImageDraw.Draw(bars)
    for number, (count, colour) in enumerate(((stock, FAINT), (cut, GOOD))):
        x, foot, tall = 42 + number * 92, TILE - 22, round((TILE - 90) * count / stock)
        draw.rounded_rectangle((x, foot - tall, x + 74, foot), 8, colour)
        draw.text((x + 37, foot - tall - 22), f"{count}x", INK, _font(LETTERS), "mm")
    return _grid([full, half, differs, bars], ["100%", "50%", "difference x4", ""])


def attention_over_steps(shots: Shots) -> Image.Image:
    """Where the model looks for two phrases, at the first of the shown steps and at the last."""
    rows = _panels(shots("report"))
    names = ("castle", "tree")
    tiles = [tile for row in rows for tile in (row[0], row[-1])]
    labels = [label for name in names for label in (name, "")]
    canvas = _grid(tiles, labels)
    _arrow(canvas, (SIDE // 2, TILE // 2))
    _arrow(canvas, (SIDE // 2, TILE + GAP + TILE // 2))
    return canvas


def swap_end_tokens(shots: Shots) -> Image.Image:
    """A prompt, and two that have each other's end; words and ends are shown as two plates."""
    plates = {"castle": (176, 96, 110), "tree": (150, 170, 70)}
    canvas = _grid([shots(f"{name} saved") for name in ("plain", "tree", "castle")] + [_exchange()], [""] * 4)
    ends = (("castle", "castle"), ("castle", "tree"), ("tree", "castle"))
    for number, (words, end) in enumerate(ends):
        x, y = number % 2 * (TILE + GAP) + 8, number // 2 * (TILE + GAP) + TILE - SMALL - 20
        _pill(canvas, (x, y), words, plates[words])
        _pill(canvas, (x + 122, y), end, plates[end])
    return canvas


def _exchange() -> Image.Image:
    sheet = Image.new("RGB", (TILE, TILE), (38, 39, 44))
    draw = ImageDraw.Draw(sheet)
    for y, left, right in ((64, (176, 96, 110), (150, 170, 70)), (148, (150, 170, 70), (176, 96, 110))):
        draw.rounded_rectangle((26, y, 120, y + 40), 8, left)
        draw.rounded_rectangle((134, y, 228, y + 40), 8, right)
    draw.line((181, 106, 181, 146), INK, 5)
    for tip, back in ((106, 118), (146, 134)):
        draw.polygon([(170, back), (181, tip), (192, back)], INK)
    return sheet


COMPOSED: dict[str, Callable[[Shots], Image.Image]] = {
    make.__name__: make
    for make in (
        first_picture,
        collect_and_save_a_bank,
        regions_to_image,
        masks_to_image,
        block_swap,
        try_the_left_third_again,
        does_it_work_on_my_checkpoint,
        cutoff_side_by_side,
        attention_over_steps,
        swap_end_tokens,
    )
}

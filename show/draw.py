"""Text, legends and the putting together of pictures, with PIL.

Text is in the font that comes with Pillow, which has little more than the letters of English. Accents are
left out (`arbol`), and a name in another script or of emoji is drawn as its number, `no. 2`: `unwritten` has
the sentence that tells in the report which is which.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont

from .colours import INK, PAPER, Colour, rgb

# In a node of 400 pixels letters are then still 11 pixels high.
WIDTH = 640
SIZE, TITLE = 17, 19
GAP = 8
SWATCH = 15
# Length of the line at a value of an axis or colour bar.
TICK = 4
# Drawn so many times larger, then reduced: lines without jagged edges.
FINE = 3
CIRCLE, SQUARE, TRIANGLE, DIAMOND, CROSS = MARKERS = range(5)

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@cache
def font(size: int = SIZE) -> Font:
    """Pillow's own font; before Pillow 10.1, or where it was built without FreeType, its one small size."""
    try:
        return ImageFont.load_default(size)
    except (ImportError, OSError, TypeError):
        return ImageFont.load_default()


@lru_cache(maxsize=4096)
def _glyph(letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font().getmask(letter)
    return mask.size, bytes(mask)


def can_write(text: str) -> bool:
    """Whether the font has all letters of the text."""
    if not isinstance(font(), ImageFont.FreeTypeFont):
        return text.isascii()
    # What no font has is drawn as it draws what it has not.
    return all(letter.isascii() or _glyph(letter) != _glyph("\uffff") for letter in text)


def written(name: str, number: int) -> str:
    """A name as it can be drawn: itself, without its accents, or as its number, which counts from 0."""
    if can_write(name):
        return name
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return plain if can_write(plain) else f"no. {number + 1}"


def all_written(names: Sequence[str]) -> list[str]:
    return [written(name, number) for number, name in enumerate(names)]


def unwritten(names: Sequence[str]) -> list[str]:
    """A sentence that says which name is meant by which number in a picture, if any is."""
    found = [f"no. {i + 1} is {name}" for i, name in enumerate(names) if written(name, i) == f"no. {i + 1}"]
    return [f"In the pictures {', '.join(found)}."] if found else []


def width_of(text: str, size: int = SIZE) -> int:
    return round(font(size).getlength(text))


def height_of(size: int = SIZE) -> int:
    """Of a line of text."""
    return round(font(size).getbbox("Ag")[3]) + 3


def fitted(text: str, width: int, size: int = SIZE) -> str:
    """The text, its middle left out as far as it is wider than `width`."""
    if width_of(text, size) <= width:
        return text
    for left_out in range(1, len(text)):
        kept = len(text) - left_out
        short = text[: kept - kept // 2] + ".." + text[len(text) - kept // 2 :]
        if width_of(short, size) <= width:
            return short
    return ""


def wrapped(text: str, width: int, size: int = SIZE) -> list[str]:
    """Lines of whole words, none wider than `width`."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(fitted(word, width, size))
    return lines


def blank(width: int, height: int, colour: Colour = PAPER) -> Image.Image:
    return Image.new("RGB", (max(1, width), max(1, height)), rgb(colour))


def write(
    image: Image.Image,
    at: tuple[float, float],
    text: str,
    size: int = SIZE,
    align: float = 0.0,
    colour: Colour = INK,
) -> None:
    """One line, its top at at[1]; align: which share of it lies left of at[0]."""
    x = round(at[0] - align * width_of(text, size))
    ImageDraw.Draw(image).text((x, round(at[1])), text, fill=rgb(colour), font=font(size))


def lines_of(text: str, width: int, size: int = SIZE, colour: Colour = INK) -> Image.Image:
    """A paragraph."""
    lines, high = wrapped(text, width, size), height_of(size)
    image = blank(width, len(lines) * high)
    for number, line in enumerate(lines):
        write(image, (0, number * high), line, size, colour=colour)
    return image


def upwards(text: str, size: int = SIZE) -> Image.Image:
    """A line that is read from below."""
    image = blank(width_of(text, size), height_of(size))
    write(image, (0, 0), text, size)
    return image.transpose(Image.Transpose.ROTATE_90)


def marker(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, shape: int, colour: Colour) -> None:
    """One of MARKERS around a point."""
    around = (x - radius, y - radius, x + radius, y + radius)
    paint, edge = rgb(colour), rgb(INK)
    if shape == CIRCLE:
        draw.ellipse(around, paint, edge)
    elif shape == SQUARE:
        draw.rectangle(around, paint, edge)
    elif shape == TRIANGLE:
        draw.polygon([(x, around[1]), (around[2], around[3]), (around[0], around[3])], paint, edge)
    elif shape == DIAMOND:
        draw.polygon([(x, around[1]), (around[2], y), (x, around[3]), (around[0], y)], paint, edge)
    else:
        wide = max(1, round(radius / 2))
        draw.line(around, paint, wide)
        draw.line((around[0], around[3], around[2], around[1]), paint, wide)


@dataclass(frozen=True)
class Entry:
    """Of a legend. line: a piece of a line, with its marker if it has one; else a filled square."""

    label: str
    colour: Colour
    line: bool = False
    marker: int | None = None
    dashed: bool = False


def legend(entries: Sequence[Entry], width: int = WIDTH) -> Image.Image:
    """Labels with their colours, in as many lines as they need."""
    high, widest = height_of(), width - SWATCH * 2 - 6
    labels = [fitted(entry.label, widest) for entry in entries]
    places, x, y = [], 0, 0
    for entry, label in zip(entries, labels, strict=True):
        key = SWATCH * (2 if entry.line else 1) + 6
        wide = key + width_of(label)
        if x and x + wide > width:
            x, y = 0, y + high
        places.append((x, y, key))
        x += wide + 2 * GAP
    image = blank(width, y + high)
    for entry, label, (x, y, key) in zip(entries, labels, places, strict=True):
        image.paste(_key(entry, key - 6, high), (x, y))
        write(image, (x + key, y), label)
    return image


def _key(entry: Entry, width: int, height: int) -> Image.Image:
    image = blank(width * FINE, height * FINE)
    draw = ImageDraw.Draw(image)
    middle, half = height * FINE // 2, SWATCH * FINE // 2
    if not entry.line:
        draw.rectangle((0, middle - half, 2 * half, middle + half), rgb(entry.colour), rgb(INK), FINE)
        return image.reduce(FINE)
    pieces = ((0.0, 0.4), (0.6, 1.0)) if entry.dashed else ((0.0, 1.0),)
    # As in the chart: with an edge where it has a marker, so that pale colours are seen on paper.
    edges = ((3.5, INK), (2.2, entry.colour)) if entry.marker is not None else ((2.5, entry.colour),)
    for wide, colour in edges:
        for first, last in pieces:
            ends = (first * image.width, middle, last * image.width, middle)
            draw.line(ends, rgb(colour), round(wide * FINE))
    if entry.marker is not None:
        marker(draw, image.width / 2, middle, 4 * FINE, entry.marker, entry.colour)
    return image.reduce(FINE)


def stacked(images: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """One below the other, at the left."""
    result = blank(max(i.width for i in images), sum(i.height for i in images) + gap * (len(images) - 1))
    y = 0
    for image in images:
        result.paste(image, (0, y))
        y += image.height + gap
    return result


def framed(image: Image.Image, border: int = GAP) -> Image.Image:
    """With a border of paper."""
    result = blank(image.width + 2 * border, image.height + 2 * border)
    result.paste(image, (border, border))
    return result


def centred(image: Image.Image, width: int) -> Image.Image:
    """In the middle of paper of this width."""
    result = blank(max(width, image.width), image.height)
    result.paste(image, ((result.width - image.width) // 2, 0))
    return result


def titled(image: Image.Image, title: str, size: int = SIZE) -> Image.Image:
    """With a line above it, cut to its width."""
    high = height_of(size)
    result = blank(image.width, image.height + high)
    write(result, (image.width / 2, 0), fitted(title, image.width, size), size, align=0.5)
    result.paste(image, (0, high))
    return result


def picture_of(colours: torch.Tensor) -> Image.Image:
    """Colours [height, width, 3] in 0..1 for PIL."""
    return Image.fromarray((colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())


def tensor_of(image: Image.Image) -> torch.Tensor:
    """Float32 [height, width, 3] in 0..1."""
    return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)


def large(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Values [h, w] as [height, width], each in the place of the nearest; whole numbers stay whole."""
    rows = torch.arange(height) * values.shape[0] // height
    columns = torch.arange(width) * values.shape[1] // width
    return values[rearrange(rows, "y -> y 1"), rearrange(columns, "x -> 1 x")]

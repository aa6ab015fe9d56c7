"""Drawn scenes with known object places: the data the demo model and its judge are trained on.

A scene is one to three objects of the model's concepts on a named background, with a caption and a map of
which object covers which latent cell. Scene `i` of a seed is always the same picture.
Five pairs of the demo model's twelve share a colour (SHARED_COLOUR): colour alone does not tell them apart.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from PIL import Image, ImageDraw

if __package__:  # ComfyUI loads the folder as a pack, the scripts import from it
    from .variants import chosen  # type: ignore[import-not-found]
else:
    from variants import chosen

SIZE = 256
CELL = 8
SUPERSAMPLING = 2

Point = tuple[float, float]
Colour = tuple[int, int, int]


class Pen:
    """Draws on a square RGBA picture in coordinates from 0 to 1."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels * SUPERSAMPLING
        self.image = Image.new("RGBA", (self.pixels, self.pixels), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)

    def _scale(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.pixels, y * self.pixels) for x, y in points]

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        self.draw.ellipse(self._scale([(x0, y0), (x1, y1)]), fill=fill)

    def rect(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, round: float = 0) -> None:
        corners = self._scale([(x0, y0), (x1, y1)])
        self.draw.rounded_rectangle(corners, radius=round * self.pixels, fill=fill)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        self.draw.polygon(self._scale(points), fill=fill)

    def line(self, points: Sequence[Point], fill: Colour, width: float) -> None:
        self.draw.line(self._scale(points), fill=fill, width=round(width * self.pixels))

    def sprite(self) -> Image.Image:
        return self.image.reduce(SUPERSAMPLING)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """8-bit RGB from a hue in degrees, saturation and value in 0..1."""
    r, g, b = colorsys.hsv_to_rgb(hue / 360 % 1, min(saturation, 1), min(value, 1))
    return round(r * 255), round(g * 255), round(b * 255)


def shade(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(255, round(c * factor)) for c in colour)
    return r, g, b


BROWN, BLACK, WHITE, GLASS = (110, 72, 40), (28, 28, 32), (245, 245, 245), (205, 230, 240)


def apple(pen: Pen, c: Colour) -> None:
    pen.ellipse(0.05, 0.22, 0.62, 0.97, c)
    pen.ellipse(0.38, 0.22, 0.95, 0.97, c)
    pen.rect(0.3, 0.4, 0.7, 0.93, c)
    pen.ellipse(0.16, 0.34, 0.34, 0.58, shade(c, 1.4))
    pen.line([(0.5, 0.3), (0.55, 0.05)], BROWN, 0.06)
    pen.ellipse(0.55, 0.05, 0.85, 0.2, (70, 150, 60))


def fire_hydrant(pen: Pen, c: Colour) -> None:
    pen.ellipse(0.28, 0.06, 0.72, 0.42, c)
    pen.rect(0.43, 0.0, 0.57, 0.1, c)
    pen.rect(0.3, 0.25, 0.7, 0.95, c)
    pen.rect(0.22, 0.24, 0.78, 0.33, shade(c, 0.75))
    pen.rect(0.08, 0.44, 0.92, 0.6, c, 0.04)
    pen.ellipse(0.39, 0.41, 0.61, 0.63, shade(c, 0.6))
    pen.rect(0.18, 0.87, 0.82, 1.0, shade(c, 0.75))


def sun(pen: Pen, c: Colour) -> None:
    for k in range(12):
        a = k * math.pi / 6
        tip = (0.5 + 0.5 * math.cos(a), 0.5 + 0.5 * math.sin(a))
        sides = [(0.5 + 0.33 * math.cos(a + s), 0.5 + 0.33 * math.sin(a + s)) for s in (-0.2, 0.2)]
        pen.polygon([tip, *sides], c)
    pen.ellipse(0.2, 0.2, 0.8, 0.8, c)
    pen.ellipse(0.3, 0.3, 0.7, 0.7, shade(c, 1.25))


def star(pen: Pen, c: Colour) -> None:
    points = []
    for k in range(10):
        r, a = (0.5 if k % 2 == 0 else 0.21), math.pi * (k / 5 - 0.5)
        points.append((0.5 + r * math.cos(a), 0.53 + r * math.sin(a)))
    pen.polygon(points, c)


def tree(pen: Pen, c: Colour) -> None:
    pen.rect(0.42, 0.55, 0.58, 1.0, BROWN)
    for x, y, r in ((0.28, 0.45, 0.26), (0.72, 0.45, 0.26), (0.5, 0.27, 0.27), (0.5, 0.5, 0.27)):
        pen.ellipse(x - r, y - r, x + r, y + r, c)
    pen.ellipse(0.3, 0.1, 0.56, 0.34, shade(c, 1.2))


def cactus(pen: Pen, c: Colour) -> None:
    pen.rect(0.37, 0.02, 0.63, 1.0, c, 0.13)
    pen.rect(0.06, 0.3, 0.22, 0.62, c, 0.08)
    pen.rect(0.06, 0.52, 0.45, 0.67, c, 0.07)
    pen.rect(0.78, 0.2, 0.94, 0.52, c, 0.08)
    pen.rect(0.55, 0.42, 0.94, 0.57, c, 0.07)
    for x in (0.45, 0.55):
        pen.line([(x, 0.1), (x, 0.96)], shade(c, 0.7), 0.02)


def car(pen: Pen, c: Colour) -> None:
    pen.polygon([(0.2, 0.5), (0.33, 0.2), (0.7, 0.2), (0.84, 0.5)], c)
    pen.polygon([(0.28, 0.48), (0.37, 0.27), (0.5, 0.27), (0.5, 0.48)], GLASS)
    pen.polygon([(0.55, 0.48), (0.55, 0.27), (0.66, 0.27), (0.76, 0.48)], GLASS)
    pen.rect(0.0, 0.47, 1.0, 0.74, c, 0.07)
    for x in (0.24, 0.76):
        pen.ellipse(x - 0.13, 0.6, x + 0.13, 0.86, BLACK)
        pen.ellipse(x - 0.05, 0.68, x + 0.05, 0.78, (170, 170, 175))


def whale(pen: Pen, c: Colour) -> None:
    pen.polygon([(0.82, 0.55), (0.84, 0.2), (0.93, 0.28), (1.0, 0.16), (1.0, 0.5)], c)
    pen.ellipse(0.0, 0.27, 0.8, 0.93, c)
    pen.polygon([(0.55, 0.35), (0.97, 0.36), (0.9, 0.6), (0.6, 0.88)], c)
    pen.ellipse(0.1, 0.68, 0.66, 0.92, shade(WHITE, 0.95))
    pen.ellipse(0.14, 0.48, 0.22, 0.56, BLACK)
    pen.line([(0.38, 0.28), (0.38, 0.1)], GLASS, 0.05)
    pen.line([(0.24, 0.06), (0.38, 0.14), (0.52, 0.06)], GLASS, 0.05)


def cat(pen: Pen, c: Colour) -> None:
    pen.line([(0.72, 0.9), (0.93, 0.8), (0.9, 0.5)], c, 0.09)
    pen.ellipse(0.22, 0.45, 0.8, 1.0, c)
    pen.polygon([(0.18, 0.3), (0.2, 0.0), (0.45, 0.16)], c)
    pen.polygon([(0.78, 0.3), (0.76, 0.0), (0.51, 0.16)], c)
    pen.ellipse(0.16, 0.1, 0.8, 0.62, c)
    pen.ellipse(0.36, 0.62, 0.64, 0.98, shade(c, 1.3))
    for x in (0.35, 0.61):
        pen.ellipse(x - 0.06, 0.27, x + 0.06, 0.4, BLACK)
    pen.polygon([(0.43, 0.44), (0.53, 0.44), (0.48, 0.5)], (235, 140, 150))


def fish(pen: Pen, c: Colour) -> None:
    pen.polygon([(0.68, 0.5), (1.0, 0.2), (1.0, 0.8)], shade(c, 0.85))
    pen.polygon([(0.3, 0.3), (0.52, 0.1), (0.62, 0.32)], shade(c, 0.85))
    pen.ellipse(0.0, 0.22, 0.8, 0.78, c)
    for x in (0.4, 0.55):
        pen.line([(x, 0.3), (x + 0.04, 0.5), (x, 0.7)], shade(c, 1.35), 0.05)
    pen.ellipse(0.13, 0.36, 0.27, 0.5, WHITE)
    pen.ellipse(0.17, 0.4, 0.24, 0.47, BLACK)


def castle(pen: Pen, c: Colour) -> None:
    pen.rect(0.16, 0.42, 0.84, 1.0, c)
    for x in (0.0, 0.72):
        pen.rect(x, 0.18, x + 0.28, 1.0, shade(c, 0.9))
        for k in range(3):
            pen.rect(x + 0.105 * k, 0.08, x + 0.105 * k + 0.07, 0.2, shade(c, 0.9))
        pen.rect(x + 0.1, 0.36, x + 0.18, 0.52, BLACK)
    for k in range(3):
        pen.rect(0.31 + 0.15 * k, 0.33, 0.39 + 0.15 * k, 0.44, c)
    pen.rect(0.39, 0.66, 0.61, 1.0, (70, 48, 35))
    pen.ellipse(0.39, 0.55, 0.61, 0.77, (70, 48, 35))


def flower(pen: Pen, c: Colour) -> None:
    pen.line([(0.5, 0.45), (0.5, 1.0)], (70, 150, 60), 0.07)
    pen.ellipse(0.5, 0.76, 0.8, 0.9, (70, 150, 60))
    for k in range(6):
        a = k * math.pi / 3
        x, y = 0.5 + 0.23 * math.cos(a), 0.35 + 0.21 * math.sin(a)
        pen.ellipse(x - 0.16, y - 0.15, x + 0.16, y + 0.15, c)
    pen.ellipse(0.37, 0.22, 0.63, 0.48, (250, 205, 60))


def house(pen: Pen, c: Colour) -> None:
    pen.rect(0.14, 0.42, 0.86, 1.0, c)
    pen.polygon([(0.0, 0.46), (0.5, 0.02), (1.0, 0.46)], shade(c, 0.65))
    pen.rect(0.42, 0.64, 0.6, 1.0, BROWN)
    for x in (0.22, 0.66):
        pen.rect(x, 0.54, x + 0.13, 0.68, GLASS)


def boat(pen: Pen, c: Colour) -> None:
    pen.polygon([(0.0, 0.66), (1.0, 0.66), (0.82, 0.98), (0.18, 0.98)], c)
    pen.rect(0.46, 0.02, 0.52, 0.68, BROWN)
    pen.polygon([(0.54, 0.06), (0.54, 0.6), (0.95, 0.6)], WHITE)
    pen.polygon([(0.44, 0.16), (0.44, 0.6), (0.1, 0.6)], shade(WHITE, 0.9))


def mushroom(pen: Pen, c: Colour) -> None:
    pen.rect(0.36, 0.45, 0.64, 1.0, (238, 226, 205), 0.1)
    pen.ellipse(0.0, 0.05, 1.0, 0.8, c)
    pen.rect(0.0, 0.56, 1.0, 0.82, (0, 0, 0, 0))  # type: ignore[arg-type]
    pen.rect(0.36, 0.5, 0.64, 1.0, (238, 226, 205), 0.08)
    for x, y, r in ((0.25, 0.36, 0.09), (0.52, 0.2, 0.08), (0.74, 0.38, 0.1)):
        pen.ellipse(x - r, y - r, x + r, y + r, WHITE)


def cup(pen: Pen, c: Colour) -> None:
    pen.ellipse(0.58, 0.3, 1.0, 0.76, c)
    pen.ellipse(0.68, 0.41, 0.9, 0.65, (0, 0, 0, 0))  # type: ignore[arg-type]
    pen.polygon([(0.02, 0.12), (0.78, 0.12), (0.68, 0.98), (0.12, 0.98)], c)
    pen.ellipse(0.02, 0.02, 0.78, 0.22, shade(c, 0.6))
    pen.line([(0.16, 0.34), (0.2, 0.86)], shade(c, 1.3), 0.06)


def heart(pen: Pen, c: Colour) -> None:
    pen.ellipse(0.0, 0.06, 0.53, 0.58, c)
    pen.ellipse(0.47, 0.06, 1.0, 0.58, c)
    pen.polygon([(0.03, 0.42), (0.97, 0.42), (0.5, 1.0)], c)
    pen.ellipse(0.14, 0.16, 0.32, 0.34, shade(c, 1.4))


def key(pen: Pen, c: Colour) -> None:
    pen.ellipse(0.0, 0.25, 0.5, 0.75, c)
    pen.ellipse(0.15, 0.4, 0.35, 0.6, (0, 0, 0, 0))  # type: ignore[arg-type]
    pen.rect(0.42, 0.41, 1.0, 0.59, c)
    for x in (0.68, 0.86):
        pen.rect(x, 0.55, x + 0.12, 0.8, shade(c, 0.8))


def butterfly(pen: Pen, c: Colour) -> None:
    for x in (0.0, 0.54):
        pen.ellipse(x, 0.08, x + 0.46, 0.56, c)
        pen.ellipse(x + 0.07, 0.48, x + 0.39, 0.92, shade(c, 0.75))
        pen.ellipse(x + 0.14, 0.22, x + 0.32, 0.42, shade(c, 1.35))
    pen.rect(0.45, 0.18, 0.55, 0.88, BLACK, 0.05)


def snowman(pen: Pen, c: Colour) -> None:
    pen.ellipse(0.12, 0.42, 0.88, 1.0, c)
    pen.ellipse(0.27, 0.12, 0.73, 0.56, shade(c, 1.1))
    pen.rect(0.24, 0.12, 0.76, 0.19, BLACK)
    pen.rect(0.34, 0.0, 0.66, 0.16, BLACK)
    pen.polygon([(0.5, 0.32), (0.5, 0.4), (0.66, 0.37)], (240, 130, 40))
    for y in (0.6, 0.74, 0.88):
        pen.ellipse(0.46, y - 0.04, 0.54, y + 0.04, BLACK)


@dataclass(frozen=True)
class Concept:
    """A drawable category: its name in captions, its drawing and the colour it is drawn in."""

    name: str
    paint: Callable[[Pen, Colour], None]
    hue: float
    saturation: float = 0.85
    value: float = 0.85


DRAWN = (
    Concept("apple", apple, 355),
    Concept("fire hydrant", fire_hydrant, 355),
    Concept("sun", sun, 48, 0.85, 0.95),
    Concept("star", star, 48, 0.85, 0.95),
    Concept("tree", tree, 120, 0.7, 0.6),
    Concept("cactus", cactus, 120, 0.7, 0.6),
    Concept("car", car, 218),
    Concept("whale", whale, 218),
    Concept("cat", cat, 25, 0.85, 0.88),
    Concept("fish", fish, 25, 0.9, 0.95),
    Concept("castle", castle, 260, 0.07, 0.55),
    Concept("flower", flower, 315, 0.75, 0.85),
    Concept("house", house, 15, 0.6, 0.7),
    Concept("boat", boat, 200, 0.8, 0.6),
    Concept("mushroom", mushroom, 355),
    Concept("cup", cup, 170, 0.7, 0.75),
    Concept("heart", heart, 335, 0.8, 0.9),
    Concept("key", key, 48, 0.8, 0.8),
    Concept("butterfly", butterfly, 285, 0.6, 0.8),
    Concept("snowman", snowman, 210, 0.12, 0.88),
)


def _chosen() -> tuple[Concept, ...]:
    drawn = {c.name: c for c in DRAWN}
    hues = chosen()[1].concepts
    return tuple(drawn[n] if hue is None else replace(drawn[n], hue=hue) for n, hue in hues.items())


CONCEPTS = _chosen()
NAMES = tuple(c.name for c in CONCEPTS)
SHARED_COLOUR = tuple((a.name, b.name) for a, b in combinations(CONCEPTS, 2) if a.hue == b.hue)
BACKGROUNDS: dict[str, tuple[Colour, Colour]] = {
    "in the snow": ((214, 226, 236), (244, 246, 248)),
    "on the sand": ((226, 214, 186), (238, 222, 182)),
    "on the grass": ((196, 222, 236), (178, 208, 150)),
    "at night": ((24, 28, 52), (48, 50, 74)),
}


@dataclass(frozen=True)
class Object:
    """One drawn object: index into CONCEPTS and its box x0, y0, x1, y1 in pixels."""

    concept: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """image uint8 [256, 256, 3]; labels uint8 [32, 32], 0 = background, i + 1 = CONCEPTS[i]."""

    image: np.ndarray
    labels: np.ndarray
    objects: tuple[Object, ...]
    caption: str


def article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def listing(names: Sequence[str]) -> str:
    """`a cat`, `a cat and an apple`, `a cat, an apple and a car`."""
    parts = [article(n) for n in names]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def category(name: str) -> str:
    """How the pack is asked for a concept: `cat`, but `an apple`.

    Only captions of apples have "an", so the model has learnt to read that word as the apple; the word apple
    itself draws little attention.
    """
    return article(name) if article(name).startswith("an ") else name


CATEGORIES = tuple(map(category, NAMES))


def _background(rng: random.Random, kind: str) -> Image.Image:
    top, bottom = BACKGROUNDS[kind]
    light = rng.uniform(0.92, 1.05)
    ends = np.array([shade(top, light), shade(bottom, light)], dtype=np.float32)
    ends += np.array([rng.uniform(-8, 8) for _ in range(3)], dtype=np.float32)
    ramp = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    if kind == "on the grass":
        horizon = rng.uniform(0.3, 0.6)
        ramp = np.clip((ramp - horizon) * 12 + 0.5, 0, 1)
    rows = ends[0] + (ends[1] - ends[0]) * ramp
    return Image.fromarray(np.broadcast_to(rows.clip(0, 255), (SIZE, SIZE, 3)).astype(np.uint8), "RGB")


def _places(rng: random.Random, count: int) -> list[tuple[int, int, int, int]]:
    smallest, largest = {1: (84, 150), 2: (72, 122), 3: (64, 100)}[count]
    while True:
        boxes: list[tuple[int, int, int, int]] = []
        for _ in range(40):
            size = rng.randint(smallest, largest)
            x, y = rng.randint(0, SIZE - size), rng.randint(0, SIZE - size)
            if all(
                x + size - 6 <= a or c - 6 <= x or y + size - 6 <= b or d - 6 <= y for a, b, c, d in boxes
            ):
                boxes.append((x, y, x + size, y + size))
                if len(boxes) == count:
                    return boxes


def draw_scene(seed: int, index: int) -> Scene:
    """Scene number `index` of `seed`."""
    rng = random.Random(f"{seed}/{index}")
    count = rng.choices((1, 2, 3), weights=(30, 50, 20))[0]
    kind = rng.choice(tuple(BACKGROUNDS))
    image = _background(rng, kind)
    labels = np.zeros((SIZE // CELL, SIZE // CELL), dtype=np.uint8)
    chosen = rng.sample(range(len(CONCEPTS)), count)
    objects = tuple(map(Object, chosen, _places(rng, count)))
    for thing in objects:
        concept = CONCEPTS[thing.concept]
        colour = hsv(
            concept.hue + rng.uniform(-12, 12),
            concept.saturation * rng.uniform(0.8, 1.15),
            concept.value * rng.uniform(0.85, 1.12),
        )
        pen = Pen(thing.box[2] - thing.box[0])
        concept.paint(pen, colour)
        sprite = pen.sprite()
        if rng.random() < 0.5:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image.paste(sprite, thing.box[:2], sprite)
        cover = np.zeros((SIZE, SIZE), dtype=np.float32)
        x0, y0, x1, y1 = thing.box
        cover[y0:y1, x0:x1] = np.asarray(sprite)[..., 3] / 255
        n = SIZE // CELL
        labels[cover.reshape(n, CELL, n, CELL).mean((1, 3)) >= 0.5] = thing.concept + 1
    caption = listing([NAMES[c] for c in chosen])
    if rng.random() < 0.3:
        caption = f"a picture of {caption}"
    if rng.random() < 0.5:
        caption = f"{caption} {kind}"
    return Scene(np.asarray(image), labels, objects, caption)

"""Puts plain-noise and ticket images side by side, with the regions, and says where the objects are.

python demo/pictures.py --comfyui DIR pictures.json     (called by scripts/demo.py)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import start

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
start.add_option(parser)
parser.add_argument("listing", type=Path)
ARGS = parser.parse_args()
start.comfyui(ARGS.comfyui)

import model as model_module
import numpy as np
import torch
from judge import Judge, load_judge
from PIL import Image, ImageDraw, ImageFont
from scenes import NAMES
from verdict import classes_of, find

COLOURS = ("#ff2d78", "#00b7ff", "#ffb000", "#7a5cff")
MARGIN, HEADER, SCALE = 12, 26, 2


def latents_of(vae: Any, picture: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)
    return vae.encode(pixels[None]) * model_module.LATENT_SCALE


def place(x: float, y: float) -> str:
    return f"{('left', 'middle', 'right')[min(2, int(x * 3))]} ({x:.2f}, {y:.2f})"


def verdicts(judge: Judge, vae: Any, picture: Image.Image, regions: dict[str, list[float]]) -> list[str]:
    """For each category: where it landed, and whether that is in its region."""
    (classes,) = classes_of(judge, latents_of(vae, picture))
    lines = []
    for category, box in regions.items():
        found = find(classes, NAMES.index(category) + 1)
        if not found.present:
            lines.append(f"{category} missing")
            continue
        verdict = "in its region" if found.inside(box) else "NOT in its region"
        lines.append(f"{category} at {place(*found.centre())} {verdict}")
    return lines


def draw_regions(picture: Image.Image, regions: dict[str, list[float]], font: Any) -> Image.Image:
    image = picture.convert("RGB").resize([side * SCALE for side in picture.size], Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(image)
    for (category, box), colour in zip(regions.items(), COLOURS, strict=False):
        corners = [v * side for v, side in zip(box, image.size * 2, strict=True)]
        pen.rectangle(corners, outline=colour, width=3)
        x, y = corners[0] + 5, corners[1] + 3
        pen.text((x, y), category, fill=colour, font=font, stroke_width=2, stroke_fill="white")
    return image


def side_by_side(panels: list[tuple[str, Image.Image]], font: Any) -> Image.Image:
    width = sum(p.width for _, p in panels) + MARGIN * (len(panels) + 1)
    sheet = Image.new("RGB", (width, panels[0][1].height + HEADER + 2 * MARGIN), "white")
    pen, x = ImageDraw.Draw(sheet), MARGIN
    for title, panel in panels:
        pen.text((x, MARGIN), title, fill="black", font=font)
        sheet.paste(panel, (x, MARGIN + HEADER))
        x += panel.width + MARGIN
    return sheet


def main() -> None:
    font = ImageFont.load_default(18)
    vae, judge = model_module.load().vae, load_judge()
    for job in json.loads(ARGS.listing.read_text(encoding="utf-8")):
        regions = {c: [float(n) for n in box.split()] for c, box in job["regions"].items()}
        panels = []
        print(f'{job["name"]} ("{job["prompt"]}"):')
        for kind, title in (("plain", "plain noise"), ("tickets", "tickets")):
            if kind not in job:
                continue
            run = job[kind]
            picture = Image.open(run["picture"])
            said = "; ".join(verdicts(judge, vae, picture, regions))
            print(f"  {title:12} {said}; {run['nfe']}, {run['seconds']} s")
            panels.append((f"{title}: {job['prompt']}", draw_regions(picture, regions, font)))
        side_by_side(panels, font).save(ARGS.listing.with_name(f"{job['name']}.png"))


if __name__ == "__main__":
    with torch.inference_mode():
        main()

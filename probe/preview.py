"""What a running node shows: progress bars, the latest noise's heat maps, the image that is being drawn."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import comfy.utils
import latent_preview
import torch
from PIL import Image

from ..show.bank import latest_maps
from ..tickets.bank.bank import TicketBank
from .server import announce

LARGEST = 512


class LiveMaps:
    """A progress bar of noises done; each category's map of the latest noise as its preview."""

    def __init__(self, noises: int) -> None:
        self.bar = comfy.utils.ProgressBar(noises)

    def __call__(self, done: int, latest: TicketBank) -> None:
        picture = latent_preview.preview_to_image(latest_maps(latest, len(latest.seeds) - 1), do_scale=False)
        self.bar.update_absolute(done, preview=("JPEG", picture, LARGEST))


class ChoiceBar:
    """A progress bar for what comes before: (done, total)."""

    def __init__(self) -> None:
        self.bar = comfy.utils.ProgressBar(1)

    def __call__(self, done: int, total: int) -> None:
        self.bar.update_absolute(done, total)


class LiveTrial:
    """A bar of forwards done, the images that are being drawn, and how long it will take.

    total: forwards of one image, as far as they can be known beforehand; spent: of those.
    """

    def __init__(self, model: Any, total: float) -> None:
        self.total, self.spent = total, 0.0
        self.say = announce
        self._bar = comfy.utils.ProgressBar(max(1, round(total)))
        self._previewer = latent_preview.get_previewer(
            model.load_device, model.get_model_object("latent_format")
        )
        self._began = time.monotonic()

    def spend(self, forwards: float) -> None:
        self.spent += forwards
        self.step(self.spent)

    def step(self, spent: float, seen: torch.Tensor | None = None) -> None:
        """seen: images as the sampler sees them [images, C, h, w]."""
        most = max(1, round(self.total))
        picture = None if seen is None else self._seen(seen)
        self._bar.update_absolute(min(round(spent), most), most, picture)

    def _seen(self, images: torch.Tensor) -> Any:
        if self._previewer is None:
            return None
        try:
            return (
                "JPEG",
                _sheet([self._previewer.decode_latent_to_preview(i[None]) for i in images]),
                LARGEST,
            )
        except Exception:
            # A preview is not worth an image.
            logging.debug("No preview of this latent.", exc_info=True)
            self._previewer = None
            return None

    def images(self, left: int) -> None:
        """So many are still to be drawn."""
        seconds = (time.monotonic() - self._began) * max(self.total - self.spent, 0) / max(self.spent, 1e-9)
        self.say(
            f"{left} images left, about {_duration(seconds)}."
            if left
            else "All images are judged; the picture is being made."
        )


def _sheet(images: list[Image.Image]) -> Image.Image:
    """Images of one size, row by row."""
    columns = math.ceil(len(images) ** 0.5)
    width, height = images[0].size
    sheet = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height))
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    return sheet


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"

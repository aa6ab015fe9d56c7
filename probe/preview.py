"""What a running node shows: progress bars, and the latest noise's heat maps."""

from __future__ import annotations

import comfy.utils
import latent_preview

from ..show.bank import latest_maps
from ..tickets.bank.bank import TicketBank

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

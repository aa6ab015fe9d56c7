"""Draws docs/icon.png and docs/banner.png, which the Comfy Registry shows, from the SVG files beside them.

    python scripts/make_icons.py

Needs Chromium and playwright, as make_pictures.py. The registry wants a square icon of at most 400 x 400
pixels and a banner of 21:9; PNG, since letters in an SVG look different on every machine.
"""

from __future__ import annotations

import entry

import browser as browsers
from comfyui import ROOT

SIZES = {"icon": (400, 400), "banner": (1260, 540)}


def main() -> int:
    with browsers.start_playwright() as playwright:
        browser = browsers.launch(playwright)
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            source = (ROOT / "docs" / f"{name}.svg").read_text(encoding="utf-8")
            page.set_content(f"<style>body {{ margin: 0 }} svg {{ display: block }}</style>{source}")
            page.screenshot(path=str(ROOT / "docs" / f"{name}.png"), omit_background=True)
            print(f"docs/{name}.png")
    return 0


if __name__ == "__main__":
    entry.run_script(main)

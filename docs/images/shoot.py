"""Take the pictures of README.md from the report of the demonstration. Needs playwright and a Chromium.

    mkdir /srv/calls && cd /srv/calls
    callanalytics demo --days-before 2 && callanalytics run --since 4d --input demo-calls
    callanalytics report --since yesterday
    python docs/images/shoot.py /srv/calls/callanalytics-out/reports

Never point it at real calls: the pictures are published.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
QUALITY = 72  # of WebP: three pictures stay well under 400 kB


@dataclass(frozen=True)
class Shot:
    """One picture: which page, at which width and height in pixels, in which colours."""

    name: str
    page: str
    width: int
    height: int
    scheme: str = "light"
    scale: float = 1.0
    anchor: str = ""  # what lies at the top, for pages longer than the picture


def main(reports: Path) -> None:
    """Write the pictures beside this script."""
    brief = reports / "index.html"
    call = re.search(r'href="(calls/[0-9a-f]+\.html)"', brief.read_text(encoding="utf-8"))
    if call is None:
        sys.exit(f"{brief}: no flagged call has a page. Run the demonstration first.")
    shots = (
        Shot("brief", "index.html", 1120, 980),
        Shot("call", call[1], 1120, 900, "dark"),
        Shot("phone", "index.html", 390, 840, scale=1.5, anchor="call-1"),
    )
    chromium = os.environ.get("CALLANALYTICS_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for shot in shots:
            picture = take(browser, reports, shot)
            (HERE / f"{shot.name}.webp").write_bytes(picture)
            print(f"{shot.name}.webp {len(picture) / 1000:.0f} kB")
        browser.close()


def take(browser: Any, reports: Path, shot: Shot) -> bytes:
    """The upper part of a page as WebP."""
    size = {"width": shot.width, "height": shot.height}
    context = browser.new_context(viewport=size, color_scheme=shot.scheme, device_scale_factor=shot.scale)
    page = context.new_page()
    page.goto(f"{(reports / shot.page).resolve().as_uri()}#{shot.anchor}")
    page.wait_for_timeout(300)
    taken = context.new_cdp_session(page).send(
        "Page.captureScreenshot", {"format": "webp", "quality": QUALITY}
    )
    context.close()
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

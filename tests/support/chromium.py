"""The browser of the browser tests, and the one page in it that their visits share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """A Chromium on this machine; set CALLANALYTICS_CHROMIUM to name another."""
    named = os.environ.get("CALLANALYTICS_CHROMIUM")
    return named or next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)


class SharedPage:
    """The page of a browser for one visit: empty, without memory, with the look that is asked for.

    Visits follow each other on the same page: a new one starts a process, which costs ten times what it takes
    to open most of what is tested here.
    """

    def __init__(
        self,
        browser: Any,
        *,
        viewport: dict[str, int],
        color_scheme: str = "light",
        permissions: tuple[str, ...] = (),
    ) -> None:
        context = browser.contexts[0] if browser.contexts else browser.new_context(permissions=[*permissions])
        self.page = context.pages[0] if context.pages else context.new_page()
        self.page.set_viewport_size(viewport)
        self.page.emulate_media(media="null", color_scheme=color_scheme)
        self._listening: list[tuple[str, Callable[[Any], object]]] = []

    def listen(self, event: str, react: Callable[[Any], object]) -> None:
        """Be told of an event until the visit ends."""
        self._listening.append((event, react))
        self.page.on(event, react)

    def leave(self, *origins: str) -> None:
        """End the visit: what plays stops, and what the origins stored is forgotten."""
        for event, react in self._listening:
            self.page.remove_listener(event, react)
        for other in self.page.context.pages[1:]:
            other.close()
        self.page.goto("about:blank")
        for origin in origins:
            stored = {"origin": origin, "storageTypes": "cookies,local_storage,indexeddb"}
            self.page.context.new_cdp_session(self.page).send("Storage.clearDataForOrigin", stored)

"""A visitor of the app in a real browser, and what axe says about a page."""

from __future__ import annotations

from typing import Any

import pytest
from app_server import Served
from chromium import SharedPage

PATIENCE_MS = 40_000
FLAGS = ("--no-sandbox", "--autoplay-policy=no-user-gesture-required")


class Visit:
    """A visitor, with everything the page complained about or asked for."""

    def __init__(self, browser: Any, served: Served, path: str = "/", **how: Any) -> None:
        how = {"viewport": {"width": 1280, "height": 1000}, "permissions": ("microphone",), **how}
        self.served = served
        self._shared = SharedPage(browser, **how)
        self.page = self._shared.page
        self.page.set_default_timeout(PATIENCE_MS)
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._shared.listen("pageerror", lambda error: self.problems.append(str(error)))
        self._shared.listen(
            "console", lambda said: said.type in {"error", "warning"} and self.problems.append(said.text)
        )
        self._shared.listen("request", lambda request: self.requests.append(request.url))
        self._shared.listen("websocket", lambda socket: self.requests.append(socket.url))
        self.page.goto(served.url + path)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.leave(self.served.url)

    def outside(self) -> list[str]:
        """Requests that did not go to the app itself."""
        own = (self.served.url, self.served.url.replace("http", "ws"), "data:", f"blob:{self.served.url}")
        return [url for url in self.requests if not url.startswith(own)]

    def complaints(self) -> list[str]:
        """Everything that the console was told as an error or a warning."""
        return list(self.problems)

    def choose(self, label: str, option: str) -> None:
        """Choose in a list; one that is still sliding into place closes again and is opened once more."""
        from playwright.sync_api import TimeoutError as TooSlow

        wanted = self.page.get_by_role("option", name=option, exact=True)
        for _ in range(5):
            self.page.get_by_role("combobox", name=label, exact=True).click()
            try:
                wanted.click(timeout=3000)
                return
            except TooSlow:
                continue
        raise AssertionError(f"{option} cannot be chosen as {label}")

    def upload(self, name: str, content: bytes) -> None:
        self.page.get_by_text("Upload a file", exact=True).click()
        picker = self.page.locator("input[type=file]")
        picker.wait_for(state="attached")
        picker.set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": content})

    def open_call(self) -> str:
        """Open the first call of the list; returns its id."""
        self.page.locator("button.open").first.click()
        self.page.locator(".player").wait_for()
        self.page.wait_for_url("**/calls?call=*")
        return str(self.page.url.partition("call=")[2])


def violations(page: Any) -> str:
    """What axe says about a page, everything folded opened, one line a node.

    Streamlit gives the field for files two roles at once, which is not ours to change: that is left out.
    """
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing"
    )
    page.evaluate(
        """() => { for (const e of [document, ...document.querySelectorAll("*")])
        for (const d of (e.shadowRoot ?? e).querySelectorAll("details")) d.open = true }"""
    )
    results = axe.Axe().run(page).response["violations"]
    found = [f"{rule['id']}: {node['html'][:200]}" for rule in results for node in rule["nodes"]]
    return "\n".join(words for words in found if "stFileUploaderDropzone" not in words)

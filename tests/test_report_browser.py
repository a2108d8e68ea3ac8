"""The report in a real browser: quiet console, no requests, no overflow, accessible, playable, sortable."""

from __future__ import annotations

import os
import shutil
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixture_calls import plausible_calls
from test_report import HOSTILE, LONG, RIGHT_TO_LEFT, Site, days, publish_site, renamed

pytestmark = pytest.mark.browser

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """A Chromium on this machine; set CALLANALYTICS_CHROMIUM to name another."""
    named = os.environ.get("CALLANALYTICS_CHROMIUM")
    return named or next((found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium found: install one or set CALLANALYTICS_CHROMIUM")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A report of a week with hostile names and real sounds as clips."""
    calls = plausible_calls(8)
    flagged = [i for i, call in enumerate(calls) if call.flagged][-3:]
    for index, name in zip(flagged, (HOSTILE, RIGHT_TO_LEFT, LONG), strict=True):
        calls[index] = renamed(calls[index], name)
    made = publish_site(tmp_path_factory.mktemp("browser"), calls)
    for clip in made.folder.rglob("*.mp3"):
        write_sound(clip)
    made.build(days(7))
    return made


def write_sound(path: Path) -> None:
    """Half a second of silence; browsers look at the content, not at the name."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(8000))


def call_page(site: Site) -> str:
    call_id = site.one("SELECT call_id FROM call_summary WHERE flagged ORDER BY started_at DESC LIMIT 1")
    return f"calls/{call_id}.html"


def kinds(site: Site) -> list[str]:
    return ["index.html", "calls/index.html", "trends.html", "health.html", call_page(site)]


class Visit:
    """A page opened from its file, with everything it complained about or asked for."""

    def __init__(
        self, browser: Any, site: Site, name: str, *, width: int = 1280, scheme: str = "light"
    ) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto((site.folder / name).as_uri())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_are_quiet_and_fit(browser: Any, site: Site, width: int) -> None:
    inside = site.folder.as_uri()
    for name in kinds(site):
        with Visit(browser, site, name, width=width) as visit:
            assert visit.problems == [], name
            outside = [url for url in visit.requests if not url.startswith((inside, "data:"))]
            assert outside == [], name
            page_width = visit.page.evaluate("document.documentElement.scrollWidth")
            assert page_width <= width, f"{name} is {page_width} px wide"
            assert not [url for url in visit.requests if url.endswith(".mp3")], "clips load only when played"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, site: Site, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing"
    )
    for name in kinds(site) if scheme == "light" else ["index.html", call_page(site)]:
        with Visit(browser, site, name, scheme=scheme) as visit:
            visit.page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
            found = axe.Axe().run(visit.page)
            assert found.violations_count == 0, f"{name}: {found.generate_report()}"


def test_hostile_names_run_nothing(browser: Any, site: Site) -> None:
    for name in kinds(site):
        with Visit(browser, site, name) as visit:
            assert visit.page.locator("script").count() == 1
            assert "alert" not in visit.page.evaluate("[...document.scripts].map((s) => s.text).join()")


def test_a_moment_plays_and_the_playhead_follows(browser: Any, site: Site) -> None:
    page_name = next(
        f"calls/{clip.parent.name}.html"
        for clip in sorted(site.folder.rglob("*.mp3"))
        if (site.folder / f"calls/{clip.parent.name}.html").exists()
    )
    with Visit(browser, site, page_name) as visit:
        play = visit.page.locator("a.play").first
        play.focus()
        visit.page.keyboard.press("Space")
        visit.page.wait_for_selector("a.play.playing", timeout=5000)
        visit.page.wait_for_selector(".playhead:not([hidden])", timeout=5000)
        visit.page.wait_for_selector("a.play.playing", state="detached", timeout=10_000)
        assert any(url.endswith(".mp3") for url in visit.requests)
        assert visit.problems == []


def test_tables_sort_by_keyboard(browser: Any, site: Site) -> None:
    with Visit(browser, site, "calls/index.html") as visit:
        scores = "[...document.querySelectorAll('tbody tr')].map((row) => Number(row.cells[1].dataset.sort))"
        button = visit.page.get_by_role("button", name="Score")
        button.focus()
        visit.page.keyboard.press("Enter")
        rising = visit.page.evaluate(scores)
        assert rising == sorted(rising)
        assert len(set(rising)) > 5
        visit.page.keyboard.press("Enter")
        assert visit.page.evaluate(scores) == sorted(rising, reverse=True)
        assert visit.page.locator("th[aria-sort=descending]").count() == 1


def test_pages_read_without_scripts(browser: Any, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site.folder / "index.html").as_uri())
    assert page.locator("article.card").count() > 3
    assert page.locator("a.play").first.get_attribute("href")
    assert page.locator("th button").count() == 0
    context.close()


def test_the_index_opens_fast(browser: Any, site: Site) -> None:
    started = time.perf_counter()
    with Visit(browser, site, "index.html") as visit:
        visit.page.wait_for_load_state("load")
        assert time.perf_counter() - started < 5, "a second on an idle machine; five on a busy one"


def test_pages_print(browser: Any, site: Site, tmp_path: Path) -> None:
    with Visit(browser, site, "index.html") as visit:
        visit.page.pdf(path=str(tmp_path / "index.pdf"), format="A4")
    assert (tmp_path / "index.pdf").read_bytes().startswith(b"%PDF")

"""The report in a real browser: quiet console, no requests, no overflow, accessible, playable, sortable."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import find_chromium
from report_sites import Site

pytestmark = pytest.mark.browser


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


def call_page(site: Site) -> str:
    call_id = site.one("SELECT call_id FROM call_summary WHERE flagged ORDER BY started_at DESC LIMIT 1")
    return f"calls/{call_id}.html"


def kinds(site: Site) -> list[str]:
    """A page of every kind that there is."""
    agent = sorted((site.folder / "agents").iterdir())[0].name
    fixed = ("index.html", "calls/index.html", "trends.html", "health.html", "single.html", "email.html")
    return [*fixed, call_page(site), f"agents/{agent}"]


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
    assert len(kinds(site)) == 8
    for name in kinds(site):
        with Visit(browser, site, name, width=width) as visit:
            assert visit.problems == [], name
            outside = [url for url in visit.requests if not url.startswith((inside, "data:"))]
            assert outside == [], name
            page_width = visit.page.evaluate("document.documentElement.scrollWidth")
            assert page_width <= width, f"{name} is {page_width} px wide"
            assert not [url for url in visit.requests if url.endswith(".mp3")], "clips load only when played"


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing(browser: Any, site: Site, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing"
    )
    names = kinds(site) if scheme == "light" else ["index.html", call_page(site)]
    assert len(names) == (8 if scheme == "light" else 2)
    for name in names:
        with Visit(browser, site, name, scheme=scheme) as visit:
            visit.page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
            found = axe.Axe().run(visit.page)
            assert found.violations_count == 0, f"{name}: {found.generate_report()}"


def test_hostile_names_run_nothing(browser: Any, site: Site) -> None:
    assert len(kinds(site)) == 8
    for name in kinds(site):
        with Visit(browser, site, name) as visit:
            assert visit.page.locator("script").count() == (0 if name == "email.html" else 1)
            assert "alert(" not in visit.page.evaluate("[...document.scripts].map((s) => s.text).join()")


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


def test_a_moment_inside_the_one_file_plays(browser: Any, site: Site) -> None:
    """Its sounds are no audio, so the silence of `write_sound` takes their place before the build."""
    with Visit(browser, site, "single.html") as visit:
        play = visit.page.locator("button.play").first
        play.focus()
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_selector("button.play.playing", timeout=5000)
        visit.page.wait_for_selector("button.play.playing", state="detached", timeout=10_000)
        assert visit.problems == []
        assert all(url.startswith(("data:", site.folder.as_uri())) for url in visit.requests)


def test_a_command_is_copied_by_keyboard(browser: Any, site: Site) -> None:
    with Visit(browser, site, "index.html") as visit:
        visit.page.locator(".judge summary").first.press("Enter")
        command = visit.page.locator("code[data-copy]").first.inner_text()
        visit.page.locator("button.copy").first.focus()
        visit.page.keyboard.press("Enter")
        assert visit.page.locator("button.copy").first.inner_text() == "Copied"
        field = visit.page.evaluate_handle("document.body.appendChild(document.createElement('textarea'))")
        field.focus()
        visit.page.keyboard.press("Control+V")
        assert field.evaluate("(field) => field.value") == command


def test_everything_is_reached_by_keyboard(browser: Any, site: Site) -> None:
    """From the skip link on, Tab visits every link, button and opener in the order of the page."""
    assert len(kinds(site)) == 8
    for name in kinds(site):
        with Visit(browser, site, name) as visit:
            wanted = visit.page.evaluate(
                "[...document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"]')]"
                ".filter((e) => e.getClientRects().length && e.checkVisibility()).length"
            )
            reached = visit.page.evaluate(
                """async () => {
                  window.seen = new Set();
                  document.addEventListener('focusin', (event) => window.seen.add(event.target));
                }"""
            )
            assert reached is None
            for _ in range(min(wanted, 60)):
                visit.page.keyboard.press("Tab")
            assert visit.page.evaluate("window.seen.size") >= min(wanted, 60) - 2, name
            unseen = visit.page.evaluate(
                "[...window.seen].filter((e) => getComputedStyle(e).outlineStyle === 'none' && e === "
                "document.activeElement).length"
            )
            assert unseen == 0, f"{name}: the focus cannot be seen"


def test_tables_sort_by_keyboard(browser: Any, site: Site) -> None:
    with Visit(browser, site, "calls/index.html") as visit:
        scores = "[...document.querySelectorAll('tbody tr')].map((row) => Number(row.cells[2].dataset.sort))"
        button = visit.page.get_by_role("button", name="Score")
        button.focus()
        visit.page.keyboard.press("Enter")
        falling = visit.page.evaluate(scores)
        assert falling == sorted(falling, reverse=True), "of numbers people want the highest first"
        assert len(set(falling)) > 5
        assert visit.page.locator("th[aria-sort=descending]").count() == 1
        visit.page.keyboard.press("Enter")
        assert visit.page.evaluate(scores) == sorted(falling)


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

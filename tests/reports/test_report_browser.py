"""The report in a real browser: quiet console, no requests, no overflow, accessible, playable, sortable."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chromium import SharedPage, find_chromium
from fixture_calls import LAST_DAY, assessed, plausible_calls
from report_sites import Site, days, publish_site, silence

from callanalytics.records import Escalation

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
        self._shared = SharedPage(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self._shared.page
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._shared.listen("console", lambda message: self.problems.append(message.text))
        self._shared.listen("pageerror", lambda error: self.problems.append(str(error)))
        self._shared.listen("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        self._shared.listen("request", lambda request: self.requests.append(request.url))
        self.page.goto((site.folder / name).as_uri())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.leave()


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


# A week of 210 calls -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def week(made_once: Callable[..., tuple[Path, Any]]) -> Site:
    """Two weeks of 30 calls a day, the report of the newer one; clips are half a second of silence."""

    def make(folder: Path) -> None:
        calls = [
            replace(c, clips=tuple(replace(k, content=silence()) for k in c.clips))
            for c in plausible_calls(14, 30)
        ]
        publish_site(folder / "out", calls).build(days(7))

    folder, _ = made_once("week", make)
    return Site(folder / "out" / "callanalytics.duckdb", folder / "out" / "reports")


def in_view(visit: Visit) -> str:
    """What a person reads without scrolling."""
    text: str = visit.page.evaluate(
        """() => [...document.querySelectorAll("h1, p, dt, dd, h2, h3")]
             .filter((e) => e.getBoundingClientRect().bottom <= innerHeight)
             .map((e) => e.innerText).join("\\n")"""
    )
    return text


def test_the_first_screen_of_a_week_names_what_moved_and_where(browser: Any, week: Site) -> None:
    n_flagged = week.one(f"SELECT count(*) FROM call_summary WHERE flagged AND day > DATE '{LAST_DAY}' - 7")
    with Visit(browser, week, "index.html") as visit:
        lines = in_view(visit).splitlines()
        height = visit.page.evaluate("document.documentElement.scrollHeight")
    assert lines[0] == "Call emotions"
    assert (
        lines[1] == f"In {n_flagged} of 210 calls the caller sounded frustrated from 26 March to 1 April 2025"
    )
    moved = re.match(
        r"Billing moved most: (\d+) of its \d+ calls were flagged, (\d+) of \d+ the week before\. ",
        lines[2],
    )
    assert moved, lines[2]
    assert int(moved[1]) > int(moved[2])
    assert height < 4000


def test_the_trends_of_a_week_say_what_changed_since_when(browser: Any, week: Site) -> None:
    with Visit(browser, week, "trends.html") as visit:
        assert visit.page.locator("h1").inner_text() == "Billing is up since 26 Mar"
        labels = visit.page.evaluate(
            """() => {
                 const meet = (a, b) => a.left < b.right && b.left < a.right
                   && a.top < b.bottom - 1 && b.top < a.bottom - 1;
                 return [...document.querySelectorAll(".drawing svg")].flatMap((svg) => {
                   const boxes = [...svg.querySelectorAll("text")].map((t) => t.getBoundingClientRect());
                   return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => meet(a, b)));
                 }).length;
               }"""
        )
        assert labels == 0, "labels lie on each other"


def test_the_other_flagged_calls_are_filtered_and_say_what_people_said(browser: Any, week: Site) -> None:
    with Visit(browser, week, "index.html") as visit:
        rows = visit.page.locator(".rest tbody tr")
        n_all = rows.count()
        assert n_all > 30
        visit.page.keyboard.press("/")
        visit.page.keyboard.type("billing")
        n_billing = rows.count()
        assert 0 < n_billing < n_all
        assert visit.page.locator(".filter output").inner_text() == f"{n_billing} of {n_all} rows"
        visit.page.get_by_label("Reviewed").select_option("worth flagging")
        assert 0 < rows.count() < n_billing
        assert {row.split("\t")[-1] for row in rows.all_inner_texts()} == {"worth flagging"}
        assert visit.problems == []


def test_keys_play_the_moments_and_a_list_names_them(browser: Any, week: Site) -> None:
    with Visit(browser, week, "index.html") as visit:
        visit.page.keyboard.press("?")
        assert visit.page.locator("dialog[open] kbd").all_inner_texts() == ["K", "←", "→", "E", "/", "?"]
        visit.page.keyboard.press("?")
        assert visit.page.locator("dialog[open]").count() == 0
        visit.page.keyboard.press("e")
        visit.page.wait_for_selector("#call-1 .play.playing", timeout=5000)
        visit.page.wait_for_selector("#call-1 .playhead:not([hidden])", timeout=5000)
        visit.page.wait_for_selector(".play.playing", state="detached", timeout=10_000)
        visit.page.keyboard.press("e")
        visit.page.wait_for_selector("#call-2 .play.playing", timeout=5000)
        assert visit.page.evaluate(
            "document.querySelector('#call-2 .strip').getBoundingClientRect().bottom <= innerHeight"
        ), "what plays is in sight"


def test_a_click_on_a_pin_or_a_lane_plays_the_moment(browser: Any, week: Site) -> None:
    for place in (".spot b >> nth=0", ".lane-caller"):
        with Visit(browser, week, "index.html") as visit:
            visit.page.locator(f"#call-1 {place}").click()
            visit.page.wait_for_selector("#call-1 .play.playing", timeout=5000)
            assert visit.problems == []


def test_a_number_that_did_not_flag_is_not_red(browser: Any, tmp_path: Path) -> None:
    one, *others = plausible_calls(1)
    raised = (Escalation("louder", 0.5, 9.0, 8.0, "9 dB louder than when calm"),) * 2
    calls = [assessed(one, flagged=True, escalations=raised, score=0.17)]
    calls += [assessed(call, flagged=False, escalations=()) for call in others]
    made = publish_site(tmp_path, calls)
    made.build(days(1))
    with Visit(browser, made, "index.html") as visit:
        assert visit.page.locator("#call-1 h3").inner_text() == "9 dB louder than when calm"
        assert "17%" in visit.page.locator("#call-1 .score").inner_text()
        red, meter = visit.page.evaluate(
            """() => [getComputedStyle(document.querySelector(".card")).borderInlineStartColor,
                      getComputedStyle(document.querySelector(".meter i")).backgroundColor]"""
        )
        assert red != meter


def test_the_label_of_the_rule_stands_in_the_gutter(browser: Any, week: Site) -> None:
    for name in ("index.html", call_page(week)):
        with Visit(browser, week, name) as visit:
            gaps = visit.page.evaluate(
                """() => [...document.querySelectorAll(".strip")].map((strip) =>
                     strip.querySelector(".strip-body").getBoundingClientRect().left
                     - strip.querySelector(".rule-name").getBoundingClientRect().right)"""
            )
            assert gaps
            assert min(gaps) >= 0


def test_tables_stack_on_a_phone(browser: Any, week: Site) -> None:
    with Visit(browser, week, "calls/index.html", width=390) as visit:
        assert visit.page.locator("tbody tr").count() == 15, "and more on request"
        first = visit.page.locator("tbody tr").first
        assert (
            first.locator("td").nth(2).evaluate("(e) => getComputedStyle(e, '::before').content") == '"Score"'
        )
        lefts = first.locator("td:not(:empty)").evaluate_all(
            "(all) => all.map((e) => e.getBoundingClientRect().left)"
        )
        assert len(set(lefts)) == 1
        visit.page.locator(".more-rows").click()
        assert visit.page.locator("tbody tr").count() > 15
    with Visit(browser, week, "trends.html", width=390) as visit:
        drawing = visit.page.locator(".newest").first
        left, width, whole = drawing.evaluate("(e) => [e.scrollLeft, e.clientWidth, e.scrollWidth]")
        assert left + width >= whole - 1, "starts at the newest day"


def n_pages(visit: Visit, path: Path) -> int:
    visit.page.pdf(path=str(path), format="A4")
    return len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))


def test_a_week_prints_on_few_pages(browser: Any, week: Site, tmp_path: Path) -> None:
    with Visit(browser, week, "index.html") as visit:
        assert 3 <= n_pages(visit, tmp_path / "index.pdf") <= 12
        visit.page.emulate_media(media="print")
        heights = visit.page.locator(".card").evaluate_all("(all) => all.map((e) => e.offsetHeight)")
        assert max(heights) < 500, "two cards on a page of 269 mm"


def test_ten_thousand_rows_sort_and_filter_at_once(browser: Any, week: Site, tmp_path: Path) -> None:
    """The rows of the week, again and again. Times are of one run each; an idle machine takes a tenth."""
    page = week.text("calls/index.html")
    body = re.search("<tbody>(.*?)</tbody>", page, re.S)
    assert body
    rows = body[1] * (10_000 // body[1].count("<tr>") + 1)
    shutil.copytree(week.folder, tmp_path / "reports", ignore=shutil.ignore_patterns("clips", "agents"))
    big = Site(week.database, tmp_path / "reports")
    (big.folder / "calls/index.html").write_text(page.replace(body[1], rows), encoding="utf-8")
    with Visit(browser, big, "calls/index.html") as visit:
        assert visit.page.locator("tbody tr").count() == 200
        took_ms = visit.page.evaluate(
            """() => {
                 const times = [];
                 const timed = (act) => {
                   const start = performance.now();
                   act();
                   document.body.offsetHeight;
                   times.push(performance.now() - start);
                 };
                 const [, , score] = document.querySelectorAll("th button");
                 timed(() => score.click());
                 const box = document.querySelector(".filter input");
                 box.value = "billing";
                 timed(() => box.dispatchEvent(new Event("input", { bubbles: true })));
                 return times;
               }"""
        )
        assert "of 10," in visit.page.locator(".filter output").inner_text()
        assert max(took_ms) < 3000, took_ms

"""The review queue in a real browser: a queue by keys, undo, skip, note, a threshold, a phone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_calls import RATE_HZ, voice
from app_server import Served, serving
from app_visit import FLAGS, Visit, violations
from chromium import find_chromium
from command_line import run_command
from fixture_calls import fill, plausible_calls

from callanalytics.audio.clips import Contrast, contrast_clip
from callanalytics.config import load_config
from callanalytics.records import Audio, Evidence
from callanalytics.store import Review, open_work, publish
from callanalytics.workspace import Workspace, make_private_dir, write_whole
from jobs.app.context import AppContext
from jobs.app.serve import Address, is_served
from jobs.reviews.piles import QueuedCall, read_queue, window_of
from jobs.reviews.queue import waiting, waiting_reviews

pytestmark = pytest.mark.browser
N_CALLS = 27
ALL = "/review?days=all"
SLOWEST_S = 20.0  # for a busy machine; the figure of an idle one is in benchmarks/RESULTS.md


def queue_of(out: Path, n_days: int = 0) -> tuple[QueuedCall, ...]:
    """The queue of the last days that hold calls, or of all."""
    here = AppContext(load_config(None, out), Workspace(out))
    with here.calls.reading() as source:
        return read_queue(source, window_of(source, n_days), {})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls to review, with the contrast clips that a night makes, all but the last one's."""
    out = tmp_path_factory.mktemp("queue") / "out"
    with open_work(Workspace(out)) as store:
        fill(store, plausible_calls(14))
        store.connection.execute("DELETE FROM base.reviews")
        publish(store)
        store.review(Review(queue_of(out)[0].call_id, "confirm", reviewer="ben"))
        publish(store)
    assert sum(call.verdict is None for call in queue_of(out)) == N_CALLS
    spoken = voice(4)
    audio = Audio(spoken[None, : 20 * RATE_HZ], RATE_HZ, RATE_HZ, "pcm_s16le", "wav", 0.0)
    moments = (Evidence(4.0, 8.0, "9 dB louder than when calm"), Evidence(9.0, 12.0, "frustration 61%"))
    clips = contrast_clip(audio, Contrast(((0.0, 3.0),), moments))
    for call in queue_of(out)[:-1]:
        folder = Workspace(out).clips_of(call.call_id)
        make_private_dir(folder)
        for clip in clips:
            write_whole(folder / clip.name, clip.content)
    page = Workspace(out).call_pages / f"{queue_of(out)[1].call_id}.html"
    make_private_dir(page.parent)
    head = "<!DOCTYPE html><html lang=en><head><title>a call</title></head>"
    write_whole(page, f"{head}<p class=crumb>Brief</p><h1>The page of the call</h1>")
    card = (
        f'<article class=card><h3><a href="calls/{page.name}">A call</a></h3><p class=origin>x</p></article>'
    )
    write_whole(page.parent.parent / "index.html", f"{head}<header><nav></nav></header>{card}")
    return out


@pytest.fixture(scope="module")
def served(made: Path) -> Iterator[Served]:
    pytest.importorskip("streamlit", reason="Streamlit is not installed (extra app)")
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if find_chromium() is None:
        pytest.skip("no Chromium found: install one or set CALLANALYTICS_CHROMIUM")
    with serving(made) as running:
        yield running


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        yield started
        started.close()


@pytest.fixture(autouse=True)
def unreviewed(served: Served) -> None:
    """Every test begins with an empty review queue on disk."""
    for path in waiting(Workspace(served.out)):
        path.unlink()


def saved(out: Path, n: int) -> list[Review]:
    """The reviews that wait, once there are so many."""
    deadline = time.monotonic() + SLOWEST_S
    while len(found := waiting_reviews(Workspace(out))) != n:
        assert time.monotonic() < deadline, f"{len(found)} reviews wait, not {n}"
        time.sleep(0.05)
    return found


def begun(visit: Visit, name: str = "Ana") -> Any:
    """The page with its first card, after the name."""
    page = visit.page
    page.locator("#name").fill(name)
    page.keyboard.press("Enter")
    page.locator("#card h1").wait_for()
    page.locator("#parts button").first.wait_for()
    return page


def shown(page: Any) -> str:
    """The first characters of the id of the call that is shown."""
    return str(page.locator("#card code").inner_text())


def judged(page: Any, key: str) -> None:
    """Press a key; back when another call is shown, or none is left."""
    before = shown(page)
    page.keyboard.press(key)
    page.wait_for_function(
        """(before) => document.getElementById("desk").hidden
        || document.querySelector("#card code").textContent !== before""",
        arg=before,
    )


def test_a_whole_queue_is_judged_by_keys_alone(browser: Any, served: Served) -> None:
    with Visit(browser, served, ALL) as visit:
        page = visit.page
        assert page.locator("#start h1").inner_text() == f"{N_CALLS} calls to judge"
        page.keyboard.press("Enter")
        assert page.locator("#start").is_visible(), "the name is asked first"
        page.keyboard.type("Ana")
        page.keyboard.press("Enter")
        page.locator("#card h1").wait_for()
        progress = page.locator("#progress")
        assert progress.inner_text() == f"Sure: 2 of {N_CALLS + 1}, about 14 minutes left"
        page.wait_for_function("() => queue.sound.currentTime > 0.2")
        assert page.locator("#parts .sounding").count() == 1
        for number in range(N_CALLS):
            judged(page, "123"[number % 3])
        page.locator("#session p").wait_for()
        found = saved(served.out, N_CALLS)
        assert [r.verdict for r in found] == ["confirm", "reject", "unsure"] * (N_CALLS // 3)
        assert {(r.reviewer, r.note, r.rule, r.segment) for r in found} == {("Ana", None, None, None)}
        assert [r.call_id for r in found] == [c.call_id for c in queue_of(served.out) if c.verdict is None]
        words = page.locator("#session").inner_text()
        assert words.startswith(f"Ana judged {N_CALLS} calls of ")
        assert "were worth it" in words
        assert "Billing moved most: " in words or "No queue clearly moved" in words
        assert "judged control" in page.locator("#misses-now").inner_text()
        links = page.locator("#session a").evaluate_all("(all) => all.map((a) => a.href)")
        assert len(links) == 5
        assert all(link.startswith(served.url) for link in links)
        assert visit.complaints() == []
        assert visit.outside() == []
    with Visit(browser, served, ALL) as visit:
        visit.page.get_by_text("Every call is judged").wait_for()
    assert served.outside() == ""


def test_undo_takes_the_verdict_back_and_shows_the_call_again(browser: Any, served: Served) -> None:
    with Visit(browser, served, ALL) as visit:
        page = begun(visit)
        assert page.locator("#undo").is_disabled()
        first = shown(page)
        judged(page, "1")
        second = shown(page)
        judged(page, "2")
        assert [r.verdict for r in saved(served.out, 2)] == ["confirm", "reject"]
        judged(page, "u")
        assert shown(page) == second
        assert [r.verdict for r in saved(served.out, 1)] == ["confirm"]
        judged(page, "u")
        assert shown(page) == first
        saved(served.out, 0)
        judged(page, "3")
        assert [r.verdict for r in saved(served.out, 1)] == ["unsure"]
        assert visit.complaints() == []


def test_a_note_goes_with_the_verdict_and_its_letters_are_no_keys(browser: Any, served: Served) -> None:
    with Visit(browser, served, ALL) as visit:
        page = begun(visit)
        first = shown(page)
        page.keyboard.press("n")
        page.keyboard.type("shouts 123 us")
        assert shown(page) == first
        page.keyboard.press("Enter")
        judged(page, "1")
        assert [(r.verdict, r.note) for r in saved(served.out, 1)] == [("confirm", "shouts 123 us")]
        assert page.locator("#note").input_value() == ""


def test_a_skipped_call_comes_again_at_the_end(browser: Any, served: Served) -> None:
    n_calls = sum(call.verdict is None for call in queue_of(served.out, 7))
    assert 5 < n_calls < N_CALLS
    with Visit(browser, served, "/review?days=7") as visit:
        page = begun(visit)
        first = shown(page)
        judged(page, "s")
        for _ in range(n_calls - 1):
            judged(page, "2")
        page.get_by_text("1 call skipped.").wait_for()
        saved(served.out, n_calls - 1)
        page.locator("#again").click()
        page.locator("#card h1").wait_for()
        assert shown(page) == first
        judged(page, "1")
        assert saved(served.out, n_calls)[-1].verdict == "confirm"


def test_the_piles_are_chosen_and_say_why(browser: Any, served: Served) -> None:
    with Visit(browser, served, ALL) as visit:
        page = begun(visit)
        assert page.locator(".why li").count() == 0, "nothing speaks against a sure one"
        page.locator("[data-pile=disputed]").click()
        page.locator(".why li").first.wait_for()
        page.locator("[data-pile=control]").click()
        page.get_by_text("chosen by chance").wait_for()
        assert page.locator("#card h1").inner_text() == "Not flagged"
        assert page.locator("#progress").inner_text().startswith("Control: ")
        assert visit.complaints() == []


def test_keys_move_in_the_clip(browser: Any, served: Served) -> None:
    with Visit(browser, served, ALL) as visit:
        page = begun(visit)
        page.wait_for_function("() => queue.sound.readyState > 2")
        page.keyboard.press("e")
        page.wait_for_function("() => queue.sound.currentTime > queue.pieces[1].at_s - 0.1")
        page.keyboard.press("c")
        page.wait_for_function("() => queue.sound.currentTime < queue.pieces[1].at_s - 0.5")
        page.keyboard.press(" ")
        page.wait_for_function("() => queue.sound.paused")
        page.keyboard.press("?")
        page.get_by_role("heading", name="Keys").wait_for()
        page.keyboard.press("1")
        page.keyboard.press("Escape")
        assert waiting_reviews(Workspace(served.out)) == []


def test_a_clip_that_is_gone_with_its_recording_is_explained(browser: Any, served: Served) -> None:
    last = queue_of(served.out)[-1]
    with Visit(browser, served, ALL) as visit:
        page = begun(visit)
        page.evaluate("(id) => queue.show(queue.calls.find((call) => call.call_id === id))", last.call_id)
        page.locator("#trouble", has_text="The clip cannot be played.").wait_for()
        assert page.locator("#play").is_disabled()
        judged(page, "3")
        assert saved(served.out, 1)[0].call_id == last.call_id
        assert visit.complaints() == []


def test_the_threshold_says_at_once_what_it_would_flag(browser: Any, served: Served) -> None:
    with Visit(browser, served, ALL) as visit:
        page = begun(visit)
        judged(page, "1")
        judged(page, "2")
        page.locator("#rule summary").click()
        would = page.locator("#would")
        page.locator("#would", has_text="67% worth it (2 of 3)").wait_for()
        now = int(str(would.inner_text()).partition("%")[0].removeprefix("At "))
        assert now == 42
        before = would.inner_text()
        took_ms = page.evaluate(
            """() => { const slider = document.getElementById("threshold"), from = performance.now();
            for (let percent = 5; percent < 100; percent++) {
              slider.value = percent; slider.dispatchEvent(new Event("input"));
            }
            return (performance.now() - from) / 95 }"""
        )
        assert took_ms < 200
        assert would.inner_text() != before
        page.locator("#threshold").fill("45")
        assert re.match(
            r"At 45%: \d+ flagged; of those judged, \d+% worth it \(\d of \d\)\.", would.inner_text()
        )
        page.locator("#apply").click()
        page.locator("#applied code", has_text="at_least = 0.45").wait_for()
        assert visit.complaints() == []


def test_a_verdict_that_cannot_be_saved_is_said_and_sent_again(browser: Any, served: Served) -> None:
    with Visit(browser, served, ALL) as visit:
        page = begun(visit)
        page.route("**/review/judge", lambda route: route.abort())
        judged(page, "1")
        page.locator("#unsaved", has_text="1 verdict not saved yet").wait_for()
        page.unroute("**/review/judge")
        assert saved(served.out, 1)[0].verdict == "confirm"
        page.locator("#unsaved").wait_for(state="hidden")


def test_the_first_clip_plays_soon_after_the_page_is_opened(browser: Any, served: Served) -> None:
    with Visit(browser, served, ALL) as visit:
        page = visit.page
        visit.page.evaluate("localStorage.setItem('reviewer', 'Ana')")
        began = time.perf_counter()
        page.goto(served.url + ALL)
        assert page.locator("#name").input_value() == "Ana", "the name is known from the last time"
        page.keyboard.press("Enter")
        page.wait_for_function("() => !queue.sound.paused && queue.sound.currentTime > 0")
        assert time.perf_counter() - began < SLOWEST_S


# Looks, ways in, access ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}]
)
def test_axe_finds_nothing_and_it_fits(browser: Any, served: Served, how: dict[str, Any]) -> None:
    found: dict[str, str] = {}
    with Visit(browser, served, ALL, **how) as visit:
        page = visit.page
        found["start"] = violations(page)
        begun(visit)
        page.locator("[data-pile=disputed]").click()
        page.locator(".why li").first.wait_for()
        page.wait_for_function("() => document.getElementById('would').textContent.includes('flagged')")
        found["card"] = violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        page.keyboard.press("?")
        found["keys"] = violations(page)
        page.keyboard.press("Escape")
        page.evaluate(
            "() => { for (const call of queue.calls) call.verdict = 'confirm'; queue.judge('confirm') }"
        )
        page.locator("#session p").wait_for()
        found["end"] = violations(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert found == dict.fromkeys(("start", "card", "keys", "end"), "")


@pytest.mark.parametrize("path", ["/", "/calls", "/compare"])
def test_no_page_complains_and_each_leads_to_the_queue(browser: Any, served: Served, path: str) -> None:
    with Visit(browser, served, path) as visit:
        visit.page.get_by_role("link", name="Review").click()
        visit.page.locator("#start").wait_for()
        visit.page.get_by_role("link", name="Calls", exact=True).click()
        visit.page.locator("button.open").first.wait_for()
        assert visit.complaints() == []
        assert visit.outside() == []


def test_the_pages_of_the_folder_are_served_and_nothing_beside_them(browser: Any, served: Served) -> None:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    with Visit(browser, served, ALL) as visit:
        page = begun(visit)
        page.get_by_role("link", name="Its page").evaluate("(link) => link.removeAttribute('target')")
        page.get_by_role("link", name="Its page").click()
        page.get_by_text("The page of the call").wait_for()
        opened = page.url.rpartition("/")[2].removesuffix(".html")
        for path in (f"calls/{opened}.html", "index.html"):
            page.goto(f"{served.url}/report/{path}")
            page.get_by_role("link", name="Play it in the app").click()
            page.wait_for_url(f"{served.url}/calls?call={opened}")
        page.goto(f"{served.url}/report/index.html")
        page.get_by_role("link", name="Review").click()
        page.locator("#start").wait_for()
        page.goto((served.out / "reports" / "index.html").as_uri())
        assert page.get_by_role("link").all_inner_texts() == ["A call"], "a folder's page works alone"
        assert visit.complaints() == []
    secret = served.out / ".secret"
    secret.write_text("not to be served")
    (served.out / "reports" / "link").symlink_to(secret)
    for path in ("../.secret", "%2e%2e/.secret", "..%2f.secret", "link"):
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{served.url}/report/{path}", timeout=10).read()
        assert refused.value.code in {400, 404}
    (served.out / "reports" / "link").unlink()

    secret.unlink()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", '{"call_id": "0123456789abcdef", "verdict": "confirm", "reviewer": "x"}'),
        ("application/json", '{"call_id": "0123456789abcdef", "verdict": "confirm", "reviewer": "x"}'),
        ("application/json", '{"call_id": "../../etc/passwd", "verdict": "confirm", "reviewer": "x"}'),
        ("application/json", '{"call_id": "0123456789abcdef", "verdict": "perhaps", "reviewer": "x"}'),
        ("application/json", '{"call_id": "0123456789abcdef", "verdict": "confirm", "reviewer": " "}'),
        ("application/json", "[" * 100_000),
        ("application/json", '"confirm"'),
    ],
)
def test_what_is_no_verdict_is_refused(served: Served, content_type: str, body: str) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    asked = Request(f"{served.url}/review/judge", data=body.encode(), headers={"content-type": content_type})
    with pytest.raises(HTTPError) as refused:
        urlopen(asked, timeout=10)
    assert refused.value.code == 400
    assert waiting_reviews(Workspace(served.out)) == []


def test_open_finds_the_app_that_runs(served: Served, tmp_path: Path) -> None:
    port = int(served.url.rpartition(":")[2])
    assert is_served(Address(port=port), Workspace(served.out))
    assert not is_served(Address(port=port), Workspace(tmp_path))
    assert not is_served(Address(port=1), Workspace(served.out))
    done = run_command("open", "--out", served.out, "--port", port, "--no-browser")
    assert f"{served.url}/review" in done.stderr
    assert "no results here" in run_command("open", "--out", tmp_path, expect=2).stderr

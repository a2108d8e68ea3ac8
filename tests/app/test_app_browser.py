"""The app in a real browser, its microphone fed from a file: try, filter, listen, correct, compare."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import soxr
from app_calls import RATE_HZ, FloatArray, voice, wav
from app_server import Served, serving
from app_visit import FLAGS, Visit, violations
from chromium import find_chromium

from callanalytics.store import Review, open_work
from callanalytics.workspace import Workspace
from jobs.reviews.queue import waiting_reviews

pytestmark = pytest.mark.browser
ANSWER_LIMIT_S = 15.0  # what a busy machine may take; the figure of an idle one is in benchmarks/RESULTS.md
AUDIO_FLAGS = (*FLAGS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def served(site: Workspace, speech: FloatArray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    pytest.importorskip("streamlit", reason="Streamlit is not installed (extra app)")
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if find_chromium() is None:
        pytest.skip("no Chromium found: install one or set CALLANALYTICS_CHROMIUM")
    out = shutil.copytree(site.folder, tmp_path_factory.mktemp("served") / "out", ignore=lambda *_: ["sound"])
    corpus = out / "corpus"
    corpus.mkdir()
    for number in range(12):
        (corpus / f"{number:02d}.wav").write_bytes(wav(speech * np.float32(0.2 + number / 20)))
    rows = [f"{n:02d}.wav,{label},voice-{n}" for n, label in enumerate(("anger", "sad") * 6)]
    (corpus / "clips.csv").write_text("path,emotion,speaker\n" + "\n".join(rows) + "\n")
    other = out / "another"
    shutil.copytree(Path(__file__).parents[2] / "ensemble" / "weights", other)
    card = (other / "card.json").read_text()
    (other / "card.json").write_text(card.replace('"confidence": 0.', '"confidence": 0.9', 1))
    with serving(out, "--corpus", str(corpus / "clips.csv"), "--ensemble", str(other)) as running:
        yield running


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[Any]:
    """Chromium whose microphone plays a spoken sentence, once a second of silence, again and again."""
    from playwright.sync_api import sync_playwright

    spoken = soxr.resample(voice(2)[: 4 * RATE_HZ], RATE_HZ, 48_000)
    microphone = served.out / "microphone.wav"
    sf.write(microphone, spoken, 48_000, subtype="PCM_16")
    flags = [*AUDIO_FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=find_chromium(), args=flags)
        yield started
        started.close()


# Try -------------------------------------------------------------------------------------------------------


def test_a_spoken_sentence_is_answered(browser: Any, served: Served) -> None:
    with Visit(browser, served) as visit:
        page = visit.page
        page.get_by_text("Press, speak, press again").wait_for()
        visit.choose("A feeling to put into it", "anger")
        page.get_by_role("button", name="Record", exact=True).last.click()
        page.wait_for_timeout(4000)
        stopped = time.perf_counter()
        page.get_by_role("button", name="Stop recording").click()
        page.locator("#answer-head").wait_for()
        assert time.perf_counter() - stopped < ANSWER_LIMIT_S
        words = page.locator(".answer").inner_text()
        assert "You aimed for anger" in words
        assert all(member in words for member in ("cnn", "crnn", "vit"))
        assert page.locator(".wave path").get_attribute("d")
        assert page.evaluate(_PICTURE) > 100, "the spectrogram is drawn"
        page.get_by_text("in this visit").wait_for()
        assert visit.outside() == []
        assert visit.complaints() == []
    assert not (served.out / "kept").exists()
    assert served.outside() == ""


_PICTURE = """() => [...document.querySelectorAll("*")]
    .map((e) => e.shadowRoot?.querySelector(".spectrogram")).find(Boolean).naturalWidth"""


def test_an_upload_is_answered_and_kept_only_when_asked(browser: Any, served: Served) -> None:
    with Visit(browser, served) as visit:
        page = visit.page
        visit.upload("sentence.wav", wav(voice()))
        page.locator("#answer-head").wait_for()
        page.get_by_text("Who answers").click()
        visit.choose("Models", "vit")
        page.locator(".opinion").nth(1).wait_for(state="detached")
        assert page.locator(".opinion").count() == 1
        assert not (served.out / "kept").exists()
        page.get_by_role("button", name="Keep this recording").click()
        page.get_by_text("Kept as").wait_for()
        assert len(list((served.out / "kept").glob("*.wav"))) == 1
        assert visit.complaints() == []
    shutil.rmtree(served.out / "kept")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("letter.wav", b"%PDF-1.7 not a sound" * 50, "letter.wav"),
        ("silence.wav", wav(np.zeros(2 * RATE_HZ, np.float32)), "Silence"),
        ("click.wav", wav(np.zeros(RATE_HZ // 10, np.float32)), "at least 0.4 s"),
        ("lecture.wav", wav(np.zeros(70 * RATE_HZ, np.float32)), "longer than 60 s"),
    ],
)
def test_unusable_sound_is_explained(
    browser: Any, served: Served, name: str, content: bytes, words: str
) -> None:
    with Visit(browser, served) as visit:
        visit.upload(name, content)
        visit.page.get_by_role("alert").filter(has_text=words).wait_for()
        assert visit.page.locator("#answer-head").count() == 0


# Calls -----------------------------------------------------------------------------------------------------


def test_the_list_filters_and_sorts(browser: Any, served: Served) -> None:
    with Visit(browser, served, "/calls") as visit:
        page = visit.page
        page.get_by_text("48 calls", exact=True).wait_for()
        page.get_by_text("Flagged only", exact=True).click()
        page.locator(".found", has_text="of 48 calls").wait_for()
        assert page.locator("tbody tr").count() == page.locator("tbody .flag").count() > 0
        page.locator("#sort-length").click()
        page.locator("th[aria-sort=descending]", has_text="Length").wait_for()
        heads = page.locator("thead tr > *").all_inner_texts()
        (length,) = (i for i, head in enumerate(heads, start=1) if "Length" in head)
        longest = page.locator(f"tbody tr td:nth-child({length})").all_inner_texts()
        assert longest == sorted(longest, key=_seconds, reverse=True)
        page.locator("#sort-length").click()
        page.locator("th[aria-sort=ascending]", has_text="Length").wait_for()
        assert page.locator(f"tbody tr td:nth-child({length})").all_inner_texts() == longest[::-1]
        search = page.get_by_role("textbox", name="Search")
        search.fill("nothing like it")
        search.press("Enter")
        page.locator(".found", has_text="Loosen the filters").wait_for()
        assert visit.complaints() == []
        assert visit.outside() == []


def _seconds(clock: str) -> int:
    minutes, seconds = clock.split(":")
    return 60 * int(minutes) + int(seconds)


def test_a_call_plays_and_the_timeline_follows(browser: Any, served: Served) -> None:
    with Visit(browser, served, "/calls") as visit:
        page = visit.page
        visit.open_call()
        page.keyboard.press("k")
        page.wait_for_function(f"() => {_PLAYER}.currentTime > 1")
        assert page.locator(".playhead").is_visible()
        first = page.locator(".playhead").evaluate("(head) => parseFloat(head.style.left)")
        page.wait_for_timeout(700)
        assert page.locator(".playhead").evaluate("(head) => parseFloat(head.style.left)") > first
        page.keyboard.press("k")
        page.keyboard.press("e")
        page.wait_for_function(f"() => !{_PLAYER}.paused")
        page.keyboard.press("k")
        starts = page.locator(".moments button.play").first.inner_text()
        assert _seconds(page.locator(".now").inner_text()) >= _seconds(starts.splitlines()[-1].strip())
        assert page.locator("tr[aria-current]").count() == 1
        assert visit.complaints() == []
        assert visit.outside() == []


_PLAYER = '[...document.querySelectorAll("*")].map((e) => e.shadowRoot?.querySelector("audio")).find(Boolean)'


def test_corrections_by_key_wait_for_the_next_run_while_a_night_runs(browser: Any, served: Served) -> None:
    published = served.out / "callanalytics.duckdb"
    before = published.read_bytes()
    with (
        open_work(Workspace(served.out)),
        Visit(browser, served, "/calls") as visit,
    ):  # the night holds its database
        page = visit.page
        call_id = visit.open_call()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("s")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("x")
        page.get_by_role("textbox", name="Note").fill("they were polite")
        page.get_by_role("button", name="not worth flagging").click()
        page.locator(".whole-said", has_text="not worth flagging (for the next run)").wait_for()
        said = [words for words in page.locator("td.reviewed").all_inner_texts() if words]
        assert said == ["you hear sad (for the next run)", "cannot tell (for the next run)"]
        waiting = waiting_of(served.out, call_id)
        assert [(w.verdict, w.segment, w.emotion) for w in waiting] == [
            ("reject", 0, "sad"),
            ("unsure", 1, None),
            ("reject", None, None),
        ]
        assert waiting[-1].note == "they were polite"
        page.reload()
        page.locator(".whole-said", has_text="not worth flagging (for the next run)").wait_for()
        assert visit.complaints() == []
    assert published.read_bytes() == before


def waiting_of(out: Path, call_id: str) -> list[Review]:
    return [review for review in waiting_reviews(Workspace(out)) if review.call_id == call_id]


def test_every_fast_press_is_kept(browser: Any, served: Served) -> None:
    with Visit(browser, served, "/calls") as visit:
        page = visit.page
        page.locator("#sort-when").click()
        page.locator("th[aria-sort]", has_text="When").wait_for()
        call_id = visit.open_call()
        for _ in range(12):
            page.keyboard.press("ArrowDown")
            page.keyboard.press("f")
        page.wait_for_function(
            """() => [...document.querySelectorAll("*")].filter((e) => e.shadowRoot)
            .flatMap((e) => [...e.shadowRoot.querySelectorAll("td.reviewed")])
            .filter((cell) => cell.textContent).length >= 12"""
        )
        segments = [review.segment for review in waiting_of(served.out, call_id)]
        assert segments == list(range(12))


def test_a_call_whose_recording_is_gone_says_so(browser: Any, served: Served) -> None:
    with Visit(browser, served, "/calls") as visit:
        page = visit.page
        page.locator("#sort-score").click()
        page.locator("th[aria-sort=ascending]", has_text="Frustration").wait_for()
        visit.open_call()
        page.keyboard.press("k")
        page.locator(".trouble", has_text="cannot be read").wait_for()


def test_names_of_calls_that_are_gone(browser: Any, served: Served) -> None:
    with Visit(browser, served, "/calls?call=../../etc/passwd") as visit:
        visit.page.get_by_text("There is no such call").wait_for()
        visit.page.get_by_role("button", name="Back to the list").click()
        visit.page.get_by_text("48 calls", exact=True).wait_for()


# Compare ---------------------------------------------------------------------------------------------------


def test_two_ensembles_on_a_call_and_on_clips(browser: Any, served: Served) -> None:
    with Visit(browser, served, "/compare") as visit:
        page = visit.page
        page.get_by_text("Both are the same ensemble").wait_for()
        visit.choose("Second ensemble", "another")
        page.get_by_text("Both are the same ensemble").wait_for(state="detached")
        search = page.get_by_role("textbox", name="Search calls")
        flagged = page.context.new_page()
        flagged.goto(served.url + "/calls")
        call_id = flagged.locator("button.open").first.get_attribute("id")
        search.fill(str(call_id).removeprefix("open-"))
        search.press("Enter")
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Compare on this call").click()
        page.get_by_text("of the speech").wait_for()
        page.get_by_text("A slice of a corpus", exact=True).click()
        page.get_by_role("button", name="Compare on this slice").click()
        page.get_by_text("in unweighted recall, on 12 clips").wait_for()
        assert visit.complaints() == []
        assert visit.outside() == []
    assert served.outside() == ""


# Looks, access, crowd --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing(browser: Any, served: Served, scheme: str) -> None:
    found: dict[str, str] = {}
    with Visit(browser, served, color_scheme=scheme) as visit:
        visit.upload("sentence.wav", wav(voice()))
        visit.page.locator("#answer-head").wait_for()
        found["try"] = violations(visit.page)
    with Visit(browser, served, "/calls", color_scheme=scheme) as visit:
        visit.page.locator("button.open").first.wait_for()
        found["calls"] = violations(visit.page)
        visit.open_call()
        visit.page.keyboard.press("ArrowDown")
        visit.page.locator("#facts-head").wait_for()
        found["call"] = violations(visit.page)
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize("path", ["/", "/calls", "/compare"])
def test_pages_fit_a_phone(browser: Any, served: Served, path: str) -> None:
    with Visit(browser, served, path, viewport={"width": 390, "height": 844}) as visit:
        visit.page.get_by_role("heading").first.wait_for()
        if path == "/calls":
            visit.open_call()
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390


def test_other_hosts_and_sites_are_refused(served: Served) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(f"{served.url}/_stcore/health", headers=headers), timeout=10)
        assert refused.value.code == 403
    assert served.outside() == ""


@pytest.mark.slow
def test_ten_people_at_once(browser: Any, served: Served) -> None:
    content = wav(voice())
    people = [SimpleNamespace(contexts=[browser.new_context()]) for _ in range(10)]
    visits = [Visit(person, served) for person in people]
    try:
        for visit in visits:
            visit.page.get_by_text("Press, speak, press again").wait_for()
        began = time.perf_counter()
        for visit in visits:
            visit.upload("sentence.wav", content)
        for visit in visits:
            visit.page.locator("#answer-head").wait_for()
        assert time.perf_counter() - began < 60
        assert all(visit.complaints() == [] for visit in visits)
    finally:
        for person in people:
            person.contexts[0].close()

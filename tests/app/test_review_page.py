"""The doors of the review queue without a browser: on the night of the demonstration, with its real clips."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from short_calls import rows

from callanalytics.audio.clips import CONTRAST_NAMES
from callanalytics.config import load_config
from callanalytics.workspace import Workspace
from jobs.app.context import AppContext
from jobs.app.playback import CallSounds
from jobs.app.review_page import ReviewPage
from jobs.reviews.piles import PERCENTS
from jobs.reviews.queue import waiting_reviews

ROOT = Path(__file__).parents[2]


@pytest.fixture
def out(night: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of the demonstration's night, with the config.toml of the project."""
    copied = shutil.copytree(night[0], tmp_path / "out")
    shutil.copy(ROOT / "config.toml", tmp_path / "config.toml")
    return copied


def client(out: Path, *, may_write: bool = True) -> Any:
    """Somebody who asks the routes of the page."""
    starlette = pytest.importorskip("starlette.applications", reason="Streamlit is not installed (extra app)")
    testing = pytest.importorskip("starlette.testclient", reason="httpx is not installed")
    here = AppContext(load_config(out.parent / "config.toml", out), Workspace(out))
    folder = out / ".work" / "playing"
    folder.mkdir(exist_ok=True)
    page = ReviewPage(here, CallSounds(here.calls, folder), may_write=may_write)
    return testing.TestClient(starlette.Starlette(routes=page.routes()))


def flagged(out: Path) -> list[str]:
    return [row[0] for row in rows(out / "callanalytics.duckdb", "SELECT call_id FROM frustrated_callers")]


def queue_in(page: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(page.partition('id="queue">')[2].partition("</script>")[0])[
        "calls"
    ]
    return found


def test_every_queued_call_has_a_card_and_the_clip_of_the_night(out: Path) -> None:
    asks = client(out)
    queue = queue_in(asks.get("/review?days=all").text)
    assert {call["call_id"] for call in queue} >= set(flagged(out))
    assert {call["pile"] for call in queue} & {"sure", "disputed"}
    for call in queue:
        assert "<h1" in asks.get(f"/review/card/{call['call_id']}").text
        parts = asks.get(f"/review/parts/{call['call_id']}").json()
        assert parts["moments"]
        clip = asks.get(f"/review/clip/{call['call_id']}")
        assert clip.headers["content-type"] == "audio/mpeg"
        assert clip.content == (Workspace(out).clips_of(call["call_id"]) / "contrast.mp3").read_bytes()


def test_a_clip_that_the_night_did_not_leave_is_made_from_the_recording(out: Path) -> None:
    call_id = flagged(out)[0]
    folder = Workspace(out).clips_of(call_id)
    left = json.loads((folder / "contrast.json").read_text())
    for name in CONTRAST_NAMES:
        (folder / name).unlink()
    made = client(out).get(f"/review/parts/{call_id}").json()
    assert made == left
    assert not (folder / "contrast.mp3").exists(), "it is kept in the private folder of the app"


@pytest.mark.parametrize("call_id", ["ffffffffffffffff", "..%2f..%2fetc", "x"])
@pytest.mark.parametrize("what", ["card", "clip"])
def test_calls_that_are_not_there(out: Path, call_id: str, what: str) -> None:
    assert client(out).get(f"/review/{what}/{call_id}").status_code == 404


def test_applying_a_threshold_flags_what_the_slider_said(out: Path) -> None:
    asks = client(out)
    before = (out.parent / "config.toml").read_text()
    said = asks.get("/review/thresholds?days=all").json()["n_flagged"]
    now = len(flagged(out))
    assert said[PERCENTS.index(38)] == now
    percent = next(p for p, n in zip(PERCENTS, said, strict=True) if p < 38 and n <= now + 3)
    assert said[PERCENTS.index(percent)] > now, "the demonstration has calls below the rule"
    answer = asks.post("/review/apply", json={"percent": percent}).json()
    assert "line" not in answer
    assert f"{said[PERCENTS.index(percent)] - now} newly flagged" in answer["text"]
    assert len(flagged(out)) == said[PERCENTS.index(percent)]
    after = (out.parent / "config.toml").read_text()
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    line = "at_least = {}                 # threshold"
    assert changed == [(line.format(0.42), line.format(f"{percent / 100:g}"))]
    assert asks.get("/review/thresholds?days=all").json()["now_percent"] == pytest.approx(percent)
    assert len(queue_in(asks.get("/review?days=all").text)) >= len(flagged(out))


def test_who_others_reach_writes_no_rules(out: Path) -> None:
    before = (out.parent / "config.toml").read_bytes()
    answer = client(out, may_write=False).post("/review/apply", json={"percent": 45}).json()
    assert (answer["line"], answer["rule"]) == ("at_least = 0.45", "frustrated")
    assert "rejudge" in answer["command"]
    assert (out.parent / "config.toml").read_bytes() == before


def test_a_session_has_links_that_open(out: Path) -> None:
    asks = client(out)
    verdicts = dict.fromkeys(flagged(out), "confirm")
    found = asks.post("/review/session", json={"verdicts": verdicts, "reviewer": "<b>Ana</b>"}).json()
    assert found["text"].startswith(f"<b>Ana</b> judged {len(verdicts)} calls of ")
    assert "&lt;b&gt;Ana" in found["html"]
    assert "<b>" not in found["html"]
    for call_id in verdicts:
        assert f"http://testserver/report/calls/{call_id}.html" in found["text"]
        assert asks.get(f"/report/calls/{call_id}.html").status_code == 200


@pytest.mark.parametrize("verdicts", [["confirm"], {"0" * 16: ["confirm"]}, {"0" * 16: "maybe"}, None])
def test_a_session_of_anything_else_is_refused(out: Path, verdicts: object) -> None:
    refused = client(out).post("/review/session", json={"verdicts": verdicts, "reviewer": "Ana"})
    assert (refused.status_code, refused.text) == (400, "These are no verdicts.")


def test_pages_get_their_links_where_they_are_served_and_only_there(out: Path) -> None:
    asks, call_id = client(out), flagged(out)[0]
    script = '<script src="/review/report-links.js" defer></script>'
    brief = asks.get("/report/").text
    assert brief.count(script) == 1
    assert '<article class="card' in brief
    assert 'class="origin"' in brief
    assert f'href="calls/{call_id}.html"' in brief
    call = asks.get(f"/report/calls/{call_id}.html").text
    assert call.count(script) == 1
    assert 'class="crumb"' in call
    assert script not in Workspace(out).report_index.read_text()
    assert asks.get("/report/style.css").headers["content-type"].startswith("text/css")
    assert "text/javascript" in asks.get("/review/report-links.js").headers["content-type"]


def test_a_verdict_is_kept_and_taken_back(out: Path) -> None:
    asks, call_id = client(out), flagged(out)[0]
    given = {"call_id": call_id, "verdict": "confirm", "reviewer": "Ana", "note": " shouts "}
    assert asks.post("/review/judge", json=given).status_code == 200
    (review,) = waiting_reviews(Workspace(out))
    assert (review.call_id, review.reviewer, review.note) == (call_id, "Ana", "shouts")
    assert asks.post("/review/undo", json={**given, "reviewer": "Ben"}).status_code == 400
    assert asks.post("/review/undo", json=given).status_code == 200
    assert waiting_reviews(Workspace(out)) == []
    again = asks.post("/review/undo", json=given)
    assert again.status_code == 400
    assert "published" in again.text


@pytest.mark.parametrize(("language", "words"), [("de", "Sicher"), ("es", "Seguras")])
def test_the_queue_speaks_the_language_of_the_report(out: Path, language: str, words: str) -> None:
    config = out.parent / "config.toml"
    config.write_text(config.read_text().replace('\nlanguage = "en"', f'\nlanguage = "{language}"'))
    asks = client(out)
    page = asks.get("/review?days=all").text
    assert f'<html lang="{language}">' in page
    assert words in page
    call_id = flagged(out)[0]
    session = asks.post("/review/session", json={"verdicts": {call_id: "confirm"}, "reviewer": "Ana"}).json()
    parts = asks.get(f"/review/parts/{call_id}").json()
    said = [page, asks.get(f"/review/card/{call_id}").text, session["html"], session["text"]]
    said += [moment["text"] for moment in parts["moments"]] + [call["why"] for call in queue_in(page)]
    assert parts["moments"]
    names = r'<(code|bdi)\b.*?</\1>|<[^>]+>|Call emotions|http\S+|"\w+":'
    ours = re.sub(names, " ", " ".join(map(str, said)))
    left = re.findall(r".{20}\b(?:the|and|of|with|is|are|calls?|were|sounds|flagged|louder)\b.{20}", ours)
    assert left == []

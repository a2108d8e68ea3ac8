"""The parts of the app that need no browser: hearing, answering, listing, reviewing, comparing, the gate."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_calls import RATE_HZ, FloatArray, publish_calls, voice, wav
from fixture_calls import LAST_DAY, QUEUES
from hypothesis import given, settings
from hypothesis import strategies as st

from callanalytics.config import AudioSettings, Settings
from callanalytics.diarize.vad import VoiceDetector
from callanalytics.errors import (
    EmptyAudio,
    NotAudio,
    RecordingError,
    TooLong,
    TooShort,
    TruncatedAudio,
    UnreadableFile,
    UsageError,
)
from callanalytics.store import Review, open_work, publish
from callanalytics.workspace import Workspace
from ensemble.corpora import Clip, Corpus
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.model_errors import CorpusError
from jobs.app.answer import answer, why_abstained
from jobs.app.call_list import list_view
from jobs.app.compare_view import call_view, clips_view
from jobs.app.comparison import choose_clips, compare_call, compare_clips, shared_labels, trained_on
from jobs.app.context import AS_SHIPPED, IN_USE, Room
from jobs.app.donation import keep_utterance
from jobs.app.markup import render, style
from jobs.app.playback import CallSounds
from jobs.app.player_view import player_data, read_press
from jobs.app.published import (
    SORTS,
    Wanted,
    call_paths,
    call_segments,
    list_calls,
    open_call,
    promoted_labels,
    queues_and_days,
)
from jobs.app.review_writer import record_review, waiting_reviews
from jobs.app.serve import Address, Gate, streamlit_config
from jobs.app.utterance import Heard, NothingToHear, hear, only_member, safe_name
from jobs.reviews.queue import take_in


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return load_ensemble()


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return VoiceDetector.load()


@pytest.fixture(scope="module")
def speech() -> FloatArray:
    return voice()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    publish_calls(folder)
    return folder


@pytest.fixture(scope="module")
def database(out: Path) -> Path:
    return out / "callanalytics.duckdb"


def listen(content: bytes, ensemble: Ensemble, detector: VoiceDetector, name: str = "voice.wav") -> Heard:
    return hear(content, name, ensemble, detector, audio=AudioSettings())


# Hearing ---------------------------------------------------------------------------------------------------


def test_an_utterance_is_heard(speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector) -> None:
    heard = listen(wav(speech), ensemble, detector)
    assert heard.duration_s == pytest.approx(len(speech) / RATE_HZ)
    assert 0.5 < heard.speech_s <= heard.duration_s
    assert len(heard.votes) == 1
    assert heard.votes.member_names == ensemble.member_names
    alone = ensemble.vote([heard.samples])
    np.testing.assert_array_equal(heard.votes.mean_probabilities, alone.mean_probabilities)


def test_nothing_stays_on_disk(
    speech: FloatArray,
    ensemble: Ensemble,
    detector: VoiceDetector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    listen(wav(speech), ensemble, detector)
    with pytest.raises(RecordingError):
        listen(b"no sound at all", ensemble, detector)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        (np.zeros(2 * RATE_HZ, np.float32), NothingToHear, "Silence"),
        (np.zeros(RATE_HZ // 5, np.float32), TooShort, "at least 0.4 s"),
        (np.zeros(61 * RATE_HZ, np.float32), TooLong, "longer than 60 s"),
        (np.zeros(0, np.float32), EmptyAudio, "not one sample"),
    ],
)
def test_clear_errors(
    samples: FloatArray, error: type[Exception], words: str, ensemble: Ensemble, detector: VoiceDetector
) -> None:
    with pytest.raises(error, match=words):
        listen(wav(samples), ensemble, detector)


def test_hum_is_no_speech(ensemble: Ensemble, detector: VoiceDetector) -> None:
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    with pytest.raises(NothingToHear, match="No speech was found in 3"):
        listen(wav((0.2 * np.sin(2 * np.pi * 50 * t)).astype(np.float32)), ensemble, detector)


def test_damaged_files_say_so(speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector) -> None:
    whole = wav(speech)
    with pytest.raises(TruncatedAudio):
        listen(whole[: len(whole) // 2], ensemble, detector)
    with pytest.raises(NotAudio):
        listen(b"%PDF-1.7 a letter" * 100, ensemble, detector, "letter.wav")
    with pytest.raises((EmptyAudio, UnreadableFile)):
        listen(b"", ensemble, detector)


def test_headerless_uploads_go_by_their_ending(
    speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector
) -> None:
    raw = (speech * 32767).astype("<i2").tobytes()
    assert listen(raw, ensemble, detector, "call.sln").duration_s == pytest.approx(len(speech) / RATE_HZ)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_names_from_browsers_stay_in_their_folder(name: str) -> None:
    safe = safe_name(name)
    assert Path(safe).name == safe
    assert safe not in {"", ".", ".."}
    assert len(safe.encode()) <= 200


def test_one_member_alone(speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector) -> None:
    alone = only_member(ensemble, "crnn")
    heard = listen(wav(speech), alone, detector)
    everybody = listen(wav(speech), ensemble, detector)
    assert heard.votes.member_names == ("crnn",)
    np.testing.assert_allclose(heard.votes.probabilities[0], everybody.votes.probabilities[1], atol=1e-6)
    with pytest.raises(ValueError, match="x"):
        only_member(ensemble, "nobody")


# Answering -------------------------------------------------------------------------------------------------


def test_the_answer_carries_every_number(
    speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector
) -> None:
    pytest.importorskip("PIL", reason="Pillow comes with the extra app")
    heard = listen(wav(speech), ensemble, detector)
    view = answer(heard, ensemble, target="anger")
    assert [bar.badge.name for bar in view.bars] == list(ensemble.labels)
    assert [opinion.member for opinion in view.opinions] == list(ensemble.member_names)
    assert sum(bar.chosen for bar in view.bars) == 1
    assert view.aim.startswith("You aimed for anger")
    text = render("answer.html", a=view)
    assert "data:image/png;base64," in text
    assert all(member in text for member in ensemble.member_names)


def test_why_it_abstained_has_the_numbers(ensemble: Ensemble) -> None:
    unsure = why_abstained("low_confidence", ensemble, "sad", 0.41, 2)
    assert "sad" in unsure
    assert "41%" in unsure
    assert f"{ensemble.thresholds.confidence:.0%}" in unsure
    assert "1 of 5" in why_abstained("low_agreement", ensemble, "sad", 0.7, 1)
    assert "0.4 s" in why_abstained("too_short", ensemble, "sad", 0.7, 3)


def test_keeping_is_private(
    speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector, tmp_path: Path
) -> None:
    heard = listen(wav(speech), ensemble, detector)
    path = keep_utterance(Workspace(tmp_path), heard, target="fear", sentence="Hello.")
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["aimed_for"] == "fear"
    assert facts["heard_as"] == heard.votes.emotion(0)
    for file in (path, path.with_suffix(".json")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = listen(path.read_bytes(), ensemble, detector)
    np.testing.assert_allclose(again.samples, heard.samples, atol=1e-4)


# The list and the call ------------------------------------------------------------------------------------


def test_filters_leave_what_was_asked(database: Path) -> None:
    settings = Settings()
    whole = list_calls(database, settings, Wanted())
    assert whole.n_found == whole.n_all == 48
    queue = list_calls(database, settings, Wanted(queues=(QUEUES[0],)))
    assert {row["queue"] for row in queue.rows} == {QUEUES[0]}
    flagged = list_calls(database, settings, Wanted(flagged_only=True))
    assert 0 < flagged.n_found < whole.n_all
    assert all(row["flagged"] for row in flagged.rows)
    day = list_calls(database, settings, Wanted(since=LAST_DAY, until=LAST_DAY))
    assert {row["started_local"].date() for row in day.rows} == {LAST_DAY}
    one = whole.rows[0]
    assert list_calls(database, settings, Wanted(text=f" {one['call_id'].upper()} ")).n_found == 1
    assert all(
        r["frustration_score"] >= 0.4 for r in list_calls(database, settings, Wanted(least_score=0.4)).rows
    )
    assert not any(
        row["reviewed"] for row in list_calls(database, settings, Wanted(unreviewed_only=True)).rows
    )
    assert list_calls(database, settings, Wanted(text="%' OR 1=1 --")).n_found == 0


@pytest.mark.parametrize("sort", list(SORTS))
def test_sorting_both_ways(database: Path, sort: str) -> None:
    column = {"when": "started_local", "agent": "agent_name", "length": "duration_s"}.get(sort, sort)
    column = "frustration_score" if sort == "score" else column
    for descending in (True, False):
        rows = list_calls(database, Settings(), Wanted(sort=sort, descending=descending)).rows
        values = [row[column] for row in rows]
        assert values == sorted(values, reverse=descending)


def test_pages_share_no_call(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.app.published.PAGE_ROWS", 20)
    seen = [row["call_id"] for page in range(3) for row in _rows(database, page)]
    assert len(seen) == len(set(seen)) == 48


def _rows(database: Path, page: int) -> tuple[dict[str, Any], ...]:
    return list_calls(database, Settings(), Wanted(page=page)).rows


def test_queues_days_and_labels(database: Path) -> None:
    queues, first, last = queues_and_days(database, Settings())
    assert queues == list(QUEUES)
    assert (first, last) == (LAST_DAY - timedelta(days=7), LAST_DAY)
    assert promoted_labels(database, Settings())[0] == "anger"


def test_readers_at_once_do_not_disturb_each_other(database: Path) -> None:
    problems: list[Exception] = []

    def read() -> None:
        try:
            for _ in range(5):
                assert list_calls(database, Settings(), Wanted()).n_all == 48
        except Exception as problem:
            problems.append(problem)

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert problems == []


def test_a_new_publication_is_seen(tmp_path: Path) -> None:
    publish_calls(tmp_path / "one", 1)
    publish_calls(tmp_path / "two", 2)
    database = tmp_path / "one" / "callanalytics.duckdb"
    before = list_calls(database, Settings(), Wanted()).n_all
    (tmp_path / "two" / "callanalytics.duckdb").replace(database)
    assert list_calls(database, Settings(), Wanted()).n_all == 2 * before


def test_without_results_the_app_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="callanalytics run"):
        list_calls(tmp_path / "callanalytics.duckdb", Settings(), Wanted())


@pytest.mark.parametrize("call_id", ["nothere", "../../etc/passwd", "' OR 1=1", ""])
def test_unknown_calls_are_refused(database: Path, call_id: str) -> None:
    with pytest.raises(UsageError, match="no such call"):
        open_call(database, Settings(), call_id)
    with pytest.raises(UsageError, match="no such call"):
        call_paths(database, call_id)


def test_the_list_prints_names_as_text(database: Path) -> None:
    listed = list_calls(database, Settings(), Wanted())
    row = {**listed.rows[0], "queue": "<script>alert(1)</script>", "agent_name": "<b>"}
    text = render(
        "list.html", **list_view(type(listed)((row,), listed.n_found, listed.n_all), Wanted(sort="queue"))
    )
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert 'aria-sort="descending"' in text


def test_a_flag_stands_before_everything_else_of_its_row(database: Path) -> None:
    """A phone shows the left end of the table only."""
    listed = list_calls(database, Settings(), Wanted())
    text = render("list.html", **list_view(listed, Wanted()))
    _, *table_rows = re.findall(r"<tr><td class=\"mark\">(.*?)</td>", text)
    assert [("⚑" in first) for first in table_rows] == [row["flagged"] for row in listed.rows]
    assert any(row["flagged"] for row in listed.rows)


def test_the_style_holds_in_a_shadow_root() -> None:
    assert ":root" not in style()
    assert ":host" in style()


# Sound ---------------------------------------------------------------------------------------------------


SHORTEST = Wanted(flagged_only=True, sort="length", descending=False)


@pytest.fixture
def sounds(database: Path, tmp_path: Path) -> CallSounds:
    return CallSounds(Settings(), database, tmp_path)


def test_a_call_is_encoded_once(database: Path, sounds: CallSounds) -> None:
    call = list_calls(database, Settings(), Wanted(flagged_only=True, sort="length", descending=False)).rows[
        0
    ]
    first = sounds.file(call["call_id"])
    assert first.stat().st_size > 1000
    assert sounds.file(call["call_id"]) == first


def test_the_oldest_sound_makes_room(
    database: Path, sounds: CallSounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.app.playback.MAX_KEPT", 1)
    calls = list_calls(database, Settings(), SHORTEST).rows
    first, second = (sounds.file(row["call_id"]) for row in calls[:2])
    assert not first.exists()
    assert second.exists()
    assert sounds.file(calls[0]["call_id"]).exists()


def test_a_missing_recording_is_told(database: Path, sounds: CallSounds) -> None:
    quiet = next(r for r in list_calls(database, Settings(), Wanted()).rows if not r["flagged"])
    with pytest.raises(UnreadableFile):
        sounds.file(quiet["call_id"])


# Reviewing -------------------------------------------------------------------------------------------------

GOOD = {"id": "1-0", "verdict": "reject", "segment": 3, "emotion": "sad", "note": " loud "}


def test_a_press_is_read() -> None:
    press = read_press(GOOD)
    assert press is not None
    assert (press.verdict, press.segment, press.emotion, press.note) == ("reject", 3, "sad", "loud")
    whole = read_press({"id": "x", "verdict": "confirm"})
    assert whole is not None
    assert whole.segment is None


@pytest.mark.parametrize(
    "wrong",
    [
        *({**GOOD, "verdict": "maybe"}, {**GOOD, "segment": "3"}, {**GOOD, "segment": True}),
        *({**GOOD, "emotion": "rage"}, {**GOOD, "note": 7}, {**GOOD, "id": None}, "text", None, [GOOD]),
    ],
)
def test_whatever_else_a_browser_sends_is_dropped(wrong: object) -> None:
    assert read_press(wrong) is None


def test_the_player_has_segments_keys_and_what_was_said(database: Path) -> None:
    row = list_calls(database, Settings(), Wanted(flagged_only=True)).rows[0]
    opened = open_call(database, Settings(), row["call_id"])
    waiting = [
        {"call_id": row["call_id"], "verdict": "unsure", "segment": 1, "emotion": None},
        {"call_id": row["call_id"], "verdict": "reject", "segment": 1, "emotion": "fear"},
        {"call_id": row["call_id"], "verdict": "reject", "segment": None, "emotion": None},
    ]
    data = player_data(opened, waiting, ("anger", "sad"), ["b", "a"], "")
    assert len(data["segments"]) == len(opened.data.segments)
    assert data["letters"] == {"a": "anger", "s": "sad"}
    assert data["said"]["1"] == "you hear fear (for the next run)"
    assert data["said"]["call"] == "not worth flagging (for the next run)"
    assert data["acknowledged"] == ["a", "b"]
    assert data["evidence_s"] == sorted(data["evidence_s"])
    assert data["html"].count("<tr data-segment=") == len(data["segments"])
    json.dumps(data)  # what Streamlit does with it


def test_a_review_waits_for_the_next_run_and_is_then_published(tmp_path: Path) -> None:
    calls = publish_calls(tmp_path, 2)
    call_id = next(call.recording.call_id for call in calls if not call.assessment.flagged)
    database = tmp_path / "callanalytics.duckdb"
    before = database.read_bytes()
    with Workspace(tmp_path).lock():  # a night is at work
        record_review(
            Workspace(tmp_path), Review(call_id, "reject", segment=0, emotion="fear", reviewer="Ada")
        )
    assert database.read_bytes() == before
    assert [review["emotion"] for review in waiting_reviews(Workspace(tmp_path), call_id)] == ["fear"]
    assert waiting_reviews(Workspace(tmp_path), "another") == []
    with open_work(Workspace(tmp_path)) as store:  # what the end of a run does
        take_in(store, Workspace(tmp_path))
        publish(store)
    assert waiting_reviews(Workspace(tmp_path), call_id) == []
    found = open_call(database, Settings(), call_id).reviews
    (review,) = [each for each in found if each["reviewer"] == "Ada"]
    assert (review["segment"], review["verdict"], review["emotion"]) == (0, "reject", "fear")


def test_a_review_of_nothing_is_refused(out: Path, database: Path) -> None:
    call_id = list_calls(database, Settings(), Wanted()).rows[0]["call_id"]
    for review in (Review("nobody", "confirm"), Review(call_id, "reject", segment=10_000)):
        with pytest.raises(UsageError):
            record_review(Workspace(out), review)
    assert waiting_reviews(Workspace(out), call_id) == []


# Comparing -------------------------------------------------------------------------------------------------


def test_an_ensemble_agrees_with_itself_on_a_call(database: Path, ensemble: Ensemble) -> None:
    from callanalytics.audio import decode_recording

    row = list_calls(database, Settings(), Wanted(flagged_only=True)).rows[0]
    segments, layout = call_segments(database, Settings(), row["call_id"])
    assert [s.index for s in segments] == list(range(len(segments)))
    audio = decode_recording(call_paths(database, row["call_id"]), AudioSettings())
    compared = compare_call(audio, segments, layout, ensemble, ensemble, Settings())
    assert compared.same_share() == pytest.approx(1.0)
    view = call_view(compared, segments, audio.duration_s, ("one", "other"), "/call-audio/x")
    assert view["differences"] == []
    assert "100%" in view["headline"]
    assert "one" in render("compare.html", **view)
    other_file = replace(audio, samples=audio.samples[:, : 2 * RATE_HZ])
    with pytest.raises(UsageError, match="not the one that was analysed"):
        compare_call(other_file, segments, layout, ensemble, ensemble, Settings())


@pytest.fixture
def corpus(tmp_path: Path, speech: FloatArray) -> Corpus:
    clips = []
    for number, label in enumerate(("anger", "sad", "calm") * 4):
        path = tmp_path / f"{number:02d}.wav"
        path.write_bytes(wav((speech * (0.1 + number / 20)).astype(np.float32)))
        clips.append(Clip(path, "toy", label, f"toy/{number}"))
    return Corpus("toy", tuple(clips))


def test_clips_are_drawn_evenly_and_again_the_same(corpus: Corpus, ensemble: Ensemble) -> None:
    labels = shared_labels(ensemble, ensemble)
    chosen = choose_clips(corpus, labels, 3)
    assert sorted(clip.emotion for clip in chosen) == ["anger"] * 3 + ["sad"] * 3
    assert chosen == choose_clips(corpus, labels, 3)
    assert len(choose_clips(corpus, labels, 100)) == 8


def test_scores_of_clips_are_what_they_say(corpus: Corpus, ensemble: Ensemble) -> None:
    clips = [clip for clip in corpus.clips if clip.emotion != "calm"]
    missing = Clip(clips[0].path.with_name("gone.wav"), "toy", "sad", "toy/x")
    compared = compare_clips([*clips, missing], ensemble, only_member(ensemble, "cnn"))
    assert len(compared.unreadable) == 1
    tops = [ensemble.labels[k] for k in compared.speech.first.top_index]
    right = [top == clip.emotion for top, clip in zip(tops, clips, strict=True)]
    assert compared.first.accuracy == pytest.approx(np.mean(right))
    by_label = [
        np.mean([r for r, c in zip(right, clips, strict=True) if c.emotion == e]) for e in ("anger", "sad")
    ]
    assert compared.first.uar == pytest.approx(np.mean(by_label))
    view = clips_view(compared, ("in use", "cnn"), (("toy",), ()))
    assert any("learned from toy" in caution for caution in view["cautions"])
    assert any("1 clip could not be read" in caution for caution in view["cautions"])
    assert "in unweighted recall, on 8 clips" in render("compare.html", **view)
    assert "emodb" in trained_on(ensemble)
    with pytest.raises(CorpusError, match="None of 1 clips"):
        compare_clips([missing], ensemble, ensemble)


# The room and the door -------------------------------------------------------------------------------------


def test_the_room_offers_names_and_no_paths(tmp_path: Path) -> None:
    room = Room(Settings(), Workspace(tmp_path), (tmp_path / "mine",))
    assert list(room.ensemble_folders()) == [IN_USE, AS_SHIPPED, "mine"]
    assert room.ensemble(IN_USE) is room.ensemble(AS_SHIPPED)
    with pytest.raises(KeyError):
        room.ensemble("../../etc")


def test_the_default_address_is_private() -> None:
    assert Address().is_private
    assert Address().names == ("127.0.0.1", "localhost")
    assert not Address("192.168.1.5").is_private
    assert Address("0.0.0.0", 80, "calls.example").names == ("127.0.0.1", "localhost", "calls.example")


def test_streamlit_is_told_to_keep_quiet() -> None:
    config = pytest.importorskip("streamlit.config", reason="Streamlit is not installed (extra app)")
    told = streamlit_config(Address())
    unknown = set(told) - set(config.get_config_options())
    assert not unknown
    assert told["server.address"] == "127.0.0.1"
    assert told["browser.gatherUsageStats"] is False


def request(gate: Gate, kind: str, **headers: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": kind,
        "method": "GET",
        "path": "/",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(gate(scope, receive, send))
    return sent


@pytest.fixture
def gate() -> Gate:
    pytest.importorskip("starlette", reason="Streamlit is not installed (extra app)")

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})

    return Gate(app, ("127.0.0.1", "localhost"))


def test_the_gate_lets_its_own_pages_in(gate: Gate) -> None:
    (answered,) = request(gate, "http", host="127.0.0.1:8501")
    assert answered["status"] == 200
    policy = dict(answered["headers"])[b"content-security-policy"].decode()
    assert "connect-src 'self'" in policy
    assert "http" not in policy.replace("https", "http").split("connect-src")[0]
    (opened,) = request(gate, "websocket", host="localhost:8501", origin="http://localhost:8501")
    assert opened["type"] == "websocket.accept"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8501"},
        {},
        {"host": "127.0.0.1:8501", "origin": "http://evil.example"},
        {"host": "127.0.0.1:8501", "origin": "http://127.0.0.1:9999"},
        {"host": "127.0.0.1:8501", "origin": "null"},
    ],
)
def test_the_gate_refuses_other_names_and_other_sites(gate: Gate, headers: dict[str, str]) -> None:
    assert request(gate, "http", **headers)[0]["status"] == 403
    assert request(gate, "websocket", **headers) == [{"type": "websocket.close", "code": 1008}]

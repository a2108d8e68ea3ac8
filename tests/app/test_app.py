"""The parts of the app that need no browser: utterances, answers, calls, sound, pages, the gate."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_calls import RATE_HZ, FloatArray, publish_calls, wav
from fixture_calls import LAST_DAY, QUEUES
from hypothesis import given, settings
from hypothesis import strategies as st

from callanalytics.audio.clips import clip_bytes
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
from callanalytics.store import Review, Store, open_work, publish
from callanalytics.store.remove import Selection
from callanalytics.workspace import Workspace, make_private_dir
from ensemble.corpora import Clip, Corpus
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.model_errors import CorpusError
from jobs.app.answer import answer, why_abstained
from jobs.app.call_views import list_view, player_view, read_press
from jobs.app.comparison import (
    call_view,
    choose_clips,
    clips_view,
    compare_call,
    compare_clips,
    shared_labels,
    trained_on,
)
from jobs.app.context import AS_SHIPPED, IN_USE, AppContext, set_context
from jobs.app.markup import render, style
from jobs.app.playback import CallSounds
from jobs.app.published import SORTS, PublishedCalls, Wanted
from jobs.app.serve import Address, Gate, streamlit_config
from jobs.app.utterance import NoSpeech, Utterance, classify, keep_utterance, only_member, safe_name
from jobs.maintenance.purge import purge


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return load_ensemble()


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return VoiceDetector.load()


@pytest.fixture
def calls(site: Workspace) -> PublishedCalls:
    return PublishedCalls(Settings(), site)


def classified(
    content: bytes, ensemble: Ensemble, detector: VoiceDetector, name: str = "voice.wav"
) -> Utterance:
    return classify(content, name, ensemble, detector, audio=AudioSettings())


@pytest.fixture(scope="module")
def utterance(speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector) -> Utterance:
    return classified(wav(speech), ensemble, detector)


# Utterances ------------------------------------------------------------------------------------------------


def test_an_utterance_is_classified(speech: FloatArray, ensemble: Ensemble, utterance: Utterance) -> None:
    assert utterance.duration_s == pytest.approx(len(speech) / RATE_HZ)
    assert 0.5 < utterance.speech_s <= utterance.duration_s
    assert len(utterance.votes) == 1
    assert utterance.votes.member_names == ensemble.member_names
    alone = ensemble.vote([utterance.samples])
    np.testing.assert_array_equal(utterance.votes.mean_probabilities, alone.mean_probabilities)


def test_nothing_stays_on_disk(
    speech: FloatArray,
    ensemble: Ensemble,
    detector: VoiceDetector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    classified(wav(speech), ensemble, detector)
    with pytest.raises(RecordingError):
        classified(b"no sound at all", ensemble, detector)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        (np.zeros(2 * RATE_HZ, np.float32), NoSpeech, "Silence"),
        (np.zeros(RATE_HZ // 5, np.float32), TooShort, "at least 0.4 s"),
        (np.zeros(61 * RATE_HZ, np.float32), TooLong, "longer than 60 s"),
        (np.zeros(0, np.float32), EmptyAudio, "not one sample"),
    ],
)
def test_clear_errors(
    samples: FloatArray, error: type[Exception], words: str, ensemble: Ensemble, detector: VoiceDetector
) -> None:
    with pytest.raises(error, match=words):
        classified(wav(samples), ensemble, detector)


def test_hum_is_no_speech(ensemble: Ensemble, detector: VoiceDetector) -> None:
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    with pytest.raises(NoSpeech, match="No speech was found in 3"):
        classified(wav((0.2 * np.sin(2 * np.pi * 50 * t)).astype(np.float32)), ensemble, detector)


def test_damaged_files_say_so(speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector) -> None:
    whole = wav(speech)
    with pytest.raises(TruncatedAudio):
        classified(whole[: len(whole) // 2], ensemble, detector)
    with pytest.raises(NotAudio):
        classified(b"%PDF-1.7 a letter" * 100, ensemble, detector, "letter.wav")
    with pytest.raises((EmptyAudio, UnreadableFile)):
        classified(b"", ensemble, detector)


def test_headerless_uploads_go_by_their_ending(
    speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector
) -> None:
    raw = (speech * 32767).astype("<i2").tobytes()
    assert classified(raw, ensemble, detector, "call.sln").duration_s == pytest.approx(len(speech) / RATE_HZ)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_names_from_browsers_stay_in_their_folder(name: str) -> None:
    safe = safe_name(name)
    assert Path(safe).name == safe
    assert safe not in {"", ".", ".."}
    assert len(safe.encode()) <= 200


def test_one_member_alone(
    speech: FloatArray, ensemble: Ensemble, detector: VoiceDetector, utterance: Utterance
) -> None:
    alone = classified(wav(speech), only_member(ensemble, "crnn"), detector)
    assert alone.votes.member_names == ("crnn",)
    np.testing.assert_allclose(alone.votes.probabilities[0], utterance.votes.probabilities[1], atol=1e-6)
    with pytest.raises(ValueError, match="x"):
        only_member(ensemble, "nobody")


# Answering -------------------------------------------------------------------------------------------------


def test_the_answer_carries_every_number(ensemble: Ensemble, utterance: Utterance) -> None:
    pytest.importorskip("PIL", reason="Pillow comes with the extra app")
    view = answer(utterance, ensemble, target="anger")
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
    ensemble: Ensemble, detector: VoiceDetector, utterance: Utterance, tmp_path: Path
) -> None:
    path = keep_utterance(Workspace(tmp_path), utterance, target="fear", sentence="Hello.")
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["aimed_for"] == "fear"
    assert facts["heard_as"] == utterance.votes.emotion(0)
    for file in (path, path.with_suffix(".json")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = classified(path.read_bytes(), ensemble, detector)
    np.testing.assert_allclose(again.samples, utterance.samples, atol=1e-4)


# The list and the call ------------------------------------------------------------------------------------


def test_filters_leave_what_was_asked(calls: PublishedCalls) -> None:
    whole = calls.find(Wanted())
    assert whole.n_found == whole.n_all == len(whole.rows) == 48
    every = {row["call_id"]: row for row in whole.rows}

    def found(wanted: Wanted) -> set[str]:
        listed = calls.find(wanted)
        assert listed.n_found == len(listed.rows)
        return {row["call_id"] for row in listed.rows}

    for wanted, fits in (
        (Wanted(queues=(QUEUES[0],)), lambda row: row["queue"] == QUEUES[0]),
        (Wanted(flagged_only=True), lambda row: row["flagged"]),
        (Wanted(since=LAST_DAY, until=LAST_DAY), lambda row: row["started_local"].date() == LAST_DAY),
        (Wanted(least_score=0.4), lambda row: row["frustration_score"] >= 0.4),
        (Wanted(unreviewed_only=True), lambda row: not row["reviewed"]),
    ):
        expected = {call_id for call_id, row in every.items() if fits(row)}
        assert found(wanted) == expected
        assert 0 < len(expected) < 48, "it leaves some and drops some"
    one = whole.rows[0]["call_id"]
    assert found(Wanted(text=f" {one.upper()} ")) == {one}
    assert found(Wanted(text="%' OR 1=1 --")) == set()


def test_calls_are_found_by_what_is_said_in_them(site: Workspace, tmp_path: Path) -> None:
    said = Workspace(tmp_path / "out")
    shutil.copytree(site.folder, said.folder)
    with open_work(said) as store:
        ((key, call_id),) = store.rows("SELECT analysis_key, call_id FROM analyses LIMIT 1")
        store.connection.execute(
            "INSERT INTO base.utterances VALUES (?, 0, NULL, 'caller', 0, 2, ?, NULL, 'text', [], [])",
            [key, "I want your Supervisor, now"],
        )
        publish(store)
    calls = PublishedCalls(Settings(), said)
    for text, found in (("supervisor now", [call_id]), ("your", [call_id]), ("super", []), ("?!", [])):
        assert [row["call_id"] for row in calls.find(Wanted(text=text)).rows] == found, text


@pytest.mark.parametrize("sort", list(SORTS))
def test_sorting_both_ways(calls: PublishedCalls, sort: str) -> None:
    columns = {
        **{"when": "started_local", "agent": "agent_name", "length": "duration_s"},
        **{"score": "frustration_score", "queue": "queue"},
    }
    for descending in (True, False):
        rows = calls.find(Wanted(sort=sort, descending=descending)).rows
        values = [row[columns[sort]] for row in rows]
        assert len(values) == 48
        assert values == sorted(values, reverse=descending)


def test_pages_share_no_call(calls: PublishedCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.app.published.PAGE_ROWS", 20)
    seen = [row["call_id"] for page in range(3) for row in calls.find(Wanted(page=page)).rows]
    assert len(seen) == len(set(seen)) == 48


def test_queues_days_and_labels(calls: PublishedCalls) -> None:
    queues, first, last = calls.queues_and_days()
    assert queues == list(QUEUES)
    assert (first, last) == (LAST_DAY - timedelta(days=7), LAST_DAY)
    assert calls.labels()[0] == "anger"


def test_a_new_publication_is_seen(calls: PublishedCalls, tmp_path: Path) -> None:
    here = PublishedCalls(Settings(), Workspace(tmp_path / "one"))
    publish_calls(here.workspace.folder, 1)
    assert here.find(Wanted()).n_all < 48
    shutil.copy(calls.workspace.database, tmp_path / "new")
    (tmp_path / "new").replace(here.workspace.database)
    assert here.find(Wanted()).n_all == 48


def test_without_results_the_app_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results here yet"):
        PublishedCalls(Settings(), Workspace(tmp_path)).find(Wanted())


@pytest.mark.parametrize("call_id", ["nothere", "../../etc/passwd", "' OR 1=1", ""])
def test_unknown_calls_are_refused(calls: PublishedCalls, call_id: str) -> None:
    for ask in (calls.open, calls.segments, calls.audio):
        with pytest.raises(UsageError, match="no such call"):
            ask(call_id)


def test_the_list_prints_names_as_text(calls: PublishedCalls) -> None:
    listed = calls.find(Wanted())
    row = {**listed.rows[0], "queue": "<script>alert(1)</script>", "agent_name": "<b>"}
    text = render("list.html", **list_view(replace(listed, rows=(row,)), Wanted(sort="queue"), None))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert 'aria-sort="descending"' in text


def test_a_flag_stands_before_everything_else_of_its_row(calls: PublishedCalls) -> None:
    """A phone shows the left end of the table only."""
    listed = calls.find(Wanted())
    text = render("list.html", **list_view(listed, Wanted(), None))
    _, *table_rows = re.findall(r"<tr><td class=\"mark\">(.*?)</td>", text)
    assert [("⚑" in first) for first in table_rows] == [row["flagged"] for row in listed.rows]
    assert any(row["flagged"] for row in listed.rows)


def test_the_style_holds_in_a_shadow_root() -> None:
    assert ":root" not in style()
    assert ":host" in style()


# Sound -----------------------------------------------------------------------------------------------------


SHORTEST = Wanted(flagged_only=True, sort="length", descending=False)


@pytest.fixture
def sounds(calls: PublishedCalls, tmp_path: Path) -> CallSounds:
    return CallSounds(calls, tmp_path)


def answered(app: Any, path: str, kind: str = "http", **headers: str) -> list[dict[str, Any]]:
    """Everything that an ASGI application answers to one request."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if kind == "http":
            await asyncio.Event().wait()  # the client stays and sends nothing more
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": "GET", "path": path, "root_path": "", "headers": encoded}
    asyncio.run(app(scope, receive, send))
    return sent


def test_a_call_whose_name_holds_the_callers_number_is_played_while_a_run_is_at_work(
    calls: PublishedCalls, sounds: CallSounds
) -> None:
    applications = pytest.importorskip("starlette.applications", reason="starlette comes with the extra app")
    row = calls.find(SHORTEST).rows[0]
    assert "caller~" in row["path"]
    app = applications.Starlette(routes=[sounds.route()])
    with calls.workspace.lock(), open_work(calls.workspace):
        head, *content = answered(app, f"/call-audio/{row['call_id']}")
    assert head["status"] == 200
    assert dict(head["headers"])[b"content-type"].startswith(b"audio/")
    assert sum(len(part.get("body", b"")) for part in content) > 1000


def test_every_call_of_a_night_can_be_played(night: tuple[Path, dict[str, Any]]) -> None:
    played = PublishedCalls(Settings(), Workspace(night[0]))
    rows = played.find(Wanted()).rows
    assert sum("caller~" in row["path"] for row in rows) >= 8, "most names of recorders hold the number"
    lengths = [played.audio(row["call_id"]).duration_s for row in rows]
    assert lengths == pytest.approx([row["duration_s"] for row in rows])


def test_what_cannot_be_played_is_said_without_the_callers_number(site: Workspace, tmp_path: Path) -> None:
    applications = pytest.importorskip("starlette.applications", reason="starlette comes with the extra app")
    calls = PublishedCalls(Settings(), site)
    app = applications.Starlette(routes=[CallSounds(calls, tmp_path).route()])
    gone = next(row for row in calls.find(Wanted()).rows if not row["flagged"])
    head, content = answered(app, f"/call-audio/{gone['call_id']}")
    assert head["status"] == 410
    assert b"recording is gone" in content["body"]
    assert answered(app, "/call-audio/nothere")[0]["status"] == 404
    short = Settings(audio=AudioSettings(max_duration_s=1.0))
    row = calls.find(SHORTEST).rows[0]
    with pytest.raises(TooLong, match="caller~") as refused:
        PublishedCalls(short, site).audio(row["call_id"])
    assert not re.search(r"20255501\d\d", str(refused.value))


def test_a_call_is_encoded_once(calls: PublishedCalls, sounds: CallSounds) -> None:
    call_id = calls.find(SHORTEST).rows[0]["call_id"]
    first = sounds.file(call_id)
    assert first.stat().st_size > 1000
    written_ns = first.stat().st_mtime_ns
    assert sounds.file(call_id) == first
    assert first.stat().st_mtime_ns == written_ns


def test_a_call_that_is_purged_while_its_sound_is_made_leaves_none(
    site: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(shutil.copytree(site.folder, tmp_path / "out"))
    calls = PublishedCalls(Settings(), workspace)
    first, second = (row["call_id"] for row in calls.find(SHORTEST).rows[:2])
    make_private_dir(workspace.playing)
    sounds = CallSounds(calls, workspace.playing)

    def purge_then_encode(*args: Any, **more: Any) -> bytes:
        purge(Settings(), workspace, Selection("call", first))
        return clip_bytes(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr("jobs.app.playback.clip_bytes", purge_then_encode)
        with pytest.raises(UsageError, match="no such call"):
            sounds.file(first)
    assert list(workspace.playing.iterdir()) == []

    def play_then_publish(store: Store) -> Path:
        assert sounds.file(second).exists()
        return publish(store)

    monkeypatch.setattr("jobs.maintenance.purge.publish", play_then_publish)
    monkeypatch.setattr("jobs.maintenance.purge.compact", play_then_publish)
    purge(Settings(), workspace, Selection("call", second))
    assert list(workspace.playing.iterdir()) == []


def test_the_oldest_sound_makes_room(
    calls: PublishedCalls, sounds: CallSounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.app.playback.MAX_KEPT", 1)
    rows = calls.find(SHORTEST).rows
    first, second = (sounds.file(row["call_id"]) for row in rows[:2])
    assert not first.exists()
    assert second.exists()
    assert sounds.file(rows[0]["call_id"]).exists()


# Reviewing -------------------------------------------------------------------------------------------------

GOOD = {"id": "1-0", "verdict": "reject", "segment": 3, "emotion": "sad", "note": " loud "}


def test_a_press_is_read() -> None:
    assert read_press(GOOD, "c0ffee", "Ada") == (
        "1-0",
        Review("c0ffee", "reject", segment=3, emotion="sad", reviewer="Ada", note="loud"),
    )
    assert read_press({"id": "x", "verdict": "confirm"}, "c0ffee", None) == ("x", Review("c0ffee", "confirm"))


@pytest.mark.parametrize(
    "wrong",
    [
        *({**GOOD, "verdict": "maybe"}, {**GOOD, "segment": "3"}, {**GOOD, "segment": True}),
        *({**GOOD, "emotion": "rage"}, {**GOOD, "note": 7}, {**GOOD, "id": None}, "text", None, [GOOD]),
    ],
)
def test_whatever_else_a_browser_sends_is_dropped(wrong: object) -> None:
    assert read_press(wrong, "c0ffee", None) is None


def test_the_player_has_segments_keys_and_reviews(calls: PublishedCalls) -> None:
    call_id = calls.find(Wanted(flagged_only=True)).rows[0]["call_id"]
    opened = calls.open(call_id)
    waiting = [
        Review(call_id, "unsure", segment=1),
        Review(call_id, "reject", segment=1, emotion="fear"),
        Review(call_id, "reject"),
    ]
    data = player_view(opened, waiting, ("anger", "sad"), ["b", "a"], "")
    assert len(data["segments"]) == len(opened.data.segments) > 0
    assert data["letters"] == {"a": "anger", "s": "sad"}
    assert data["reviewed"]["1"] == "you hear fear (for the next run)"
    assert data["reviewed"]["call"] == "not worth flagging (for the next run)"
    assert data["acknowledged"] == ["a", "b"]
    assert data["evidence_s"] == sorted(data["evidence_s"])
    assert data["html"].count("<tr data-segment=") == len(data["segments"])
    json.dumps(data)  # what Streamlit does with it


# Pages -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(site: Workspace) -> Any:
    """`page(name)`: a page of the app as Streamlit runs it, without a browser."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="Streamlit is not installed (extra app)")
    set_context(AppContext(Settings(), site))

    def open_page(name: str, **query: str) -> Any:
        code = f"from jobs.app.streamlit_pages import {name}\n{name}()"
        opened = testing.AppTest.from_string(code, default_timeout=60)
        opened.query_params.update(query)
        return opened.run()

    return open_page


def test_a_call_whose_name_holds_the_callers_number_is_compared(page: Any, calls: PublishedCalls) -> None:
    row = calls.find(SHORTEST).rows[0]
    assert "caller~" in row["path"]
    opened = page("compare")
    opened.text_input[0].set_value(row["call_id"]).run()
    opened.button[0].click().run()
    assert [problem.value for problem in (*opened.error, *opened.exception)] == []
    assert "compared" in [getattr(element, "key", "") for element in opened.main.children.values()]


def test_pages_explain_what_is_not_there(page: Any, calls: PublishedCalls) -> None:
    gone = next(row for row in calls.find(Wanted(sort="when")).rows if not row["flagged"])
    opened = page("compare")
    opened.text_input[0].set_value(gone["call_id"]).run()
    opened.button[0].click().run()
    assert "recording is gone" in opened.error[0].value
    assert "no such call" in page("calls", call="../../etc/passwd").error[0].value


# Comparing -------------------------------------------------------------------------------------------------


def test_an_ensemble_agrees_with_itself_on_a_call(calls: PublishedCalls, ensemble: Ensemble) -> None:
    call_id = calls.find(SHORTEST).rows[0]["call_id"]
    segments, speech = calls.segments(call_id)
    assert [s.index for s in segments] == list(range(len(segments)))
    audio = calls.audio(call_id)
    compared = compare_call(audio, segments, speech, ensemble, ensemble, Settings())
    assert compared.same_share() == pytest.approx(1.0)
    view = call_view(compared, segments, audio.duration_s, ("one", "other"), "/call-audio/x")
    assert view["differences"] == []
    assert "100%" in view["headline"]
    assert "one" in render("compare.html", **view)
    other_file = replace(audio, samples=audio.samples[:, : 2 * RATE_HZ])
    with pytest.raises(UsageError, match="not the one that was analysed"):
        compare_call(other_file, segments, speech, ensemble, ensemble, Settings())


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


# The context and the gate ----------------------------------------------------------------------------------


def test_the_context_offers_names_and_no_paths(tmp_path: Path) -> None:
    here = AppContext(Settings(), Workspace(tmp_path), (tmp_path / "mine",))
    assert list(here.ensemble_folders()) == [IN_USE, AS_SHIPPED, "mine"]
    assert here.ensemble(IN_USE) is here.ensemble(AS_SHIPPED)
    with pytest.raises(KeyError):
        here.ensemble("../../etc")


def test_the_default_address_is_private() -> None:
    assert Address().is_private
    assert Address().names == ("127.0.0.1", "localhost")
    assert not Address("192.168.1.5").is_private
    assert Address("0.0.0.0", 80, "calls.example").names == ("127.0.0.1", "localhost", "calls.example")


def test_streamlit_is_told_to_keep_quiet() -> None:
    config = pytest.importorskip("streamlit.config", reason="Streamlit is not installed (extra app)")
    config_given = streamlit_config(Address())
    unknown = set(config_given) - set(config.get_config_options())
    assert not unknown
    assert config_given["server.address"] == "127.0.0.1"
    assert config_given["browser.gatherUsageStats"] is False


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
    (reply,) = answered(gate, "/", host="127.0.0.1:8501")
    assert reply["status"] == 200
    policy = dict(reply["headers"])[b"content-security-policy"].decode()
    assert "connect-src 'self'" in policy
    assert "http" not in policy.replace("https", "http").split("connect-src")[0]
    (opened,) = answered(gate, "/", "websocket", host="localhost:8501", origin="http://localhost:8501")
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
    assert answered(gate, "/", **headers)[0]["status"] == 403
    assert answered(gate, "/", "websocket", **headers) == [{"type": "websocket.close", "code": 1008}]

"""Transcripts of every format land equal, and what is none is refused in words."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from transcript_formats import FORMATS, SPOKEN, TALK, content_of

from callanalytics.analysis.words import Utterance
from callanalytics.analysis.words.sides import placed, placed_transcript
from callanalytics.analysis.words.transcripts import read_transcript
from callanalytics.config import settings_from
from callanalytics.errors import TranscriptError
from callanalytics.records import Role, Turn
from jobs.night.plan import Transcripts

LIMIT = 1_000_000


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def landed(folder: Path, name: str) -> tuple[str, tuple[Utterance, ...]]:
    suffix, content = content_of(name)
    source, pieces = read_transcript(write(folder, f"call.{suffix}", content), max_bytes=LIMIT)
    return source, placed(pieces, SPOKEN, source)


@pytest.mark.parametrize("name", FORMATS)
def test_all_formats_land_equal(name: str, tmp_path: Path) -> None:
    source, found = landed(tmp_path, name)
    assert source == FORMATS[name][1]
    assert [(u.role, u.text) for u in found] == [(said.role, said.text) for said in TALK]
    times = [(u.start_s, u.end_s) for u in found]
    assert times == [pytest.approx((said.start_s, said.end_s), abs=0.01) for said in TALK]
    assert {u.source for u in found} == {source}


@pytest.mark.parametrize(
    "name", ["transcribe, speakers", "deepgram", "assemblyai", "faster-whisper", "whisperx"]
)
def test_words_keep_their_times_and_confidence(name: str, tmp_path: Path) -> None:
    _, found = landed(tmp_path, name)
    for utterance, said in zip(found, TALK, strict=True):
        assert len(utterance.word_start_s) == len(utterance.words) == len(said.words)
        assert utterance.word_start_s == pytest.approx([at for _, at, _ in said.words], abs=0.01)
        assert utterance.word_confidence == pytest.approx([0.9] * len(said.words))
        assert utterance.confidence == pytest.approx(0.9)


def test_formats_without_word_times_have_none(tmp_path: Path) -> None:
    _, found = landed(tmp_path, "webvtt")
    assert {(u.word_start_s, u.confidence) for u in found} == {((), None)}


def test_lines_without_an_end_end_with_the_next_or_as_fast_speech_would(tmp_path: Path) -> None:
    path = write(
        tmp_path, "call.txt", "0:01 Good morning, how can I help?\n0:04 I want a supervisor.\n(0:30) Hello?\n"
    )
    _, pieces = read_transcript(path, max_bytes=LIMIT)
    assert [(p.start_s, p.end_s) for p in pieces] == [(1.0, 4.0), (4.0, 7.0), (30.0, 31.5)]


def test_without_roles_words_are_nobodys_side(tmp_path: Path) -> None:
    _, pieces = read_transcript(write(tmp_path, "call.json", content_of("deepgram")[1]), max_bytes=LIMIT)
    unknown = replace(SPOKEN, roles=dict.fromkeys(SPOKEN.roles, Role.UNKNOWN))
    found = placed(pieces, unknown, "deepgram")
    assert {u.role for u in found} == {Role.UNKNOWN}
    assert [u.speaker for u in found] == [turn.speaker for turn in SPOKEN.turns]


def test_the_transcript_of_another_call_is_refused(tmp_path: Path) -> None:
    _, pieces = read_transcript(write(tmp_path, "call.json", content_of("deepgram")[1]), max_bytes=LIMIT)
    elsewhere = replace(SPOKEN, turns=(Turn("speaker_0", 0, 100.0, 130.0),))
    with pytest.raises(TranscriptError) as problem:
        placed(pieces, elsewhere, "deepgram")
    assert problem.value.reason == "other_call"
    assert "another call" in str(problem.value)


def _deep() -> str:
    return "[" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("call.json", b"\xff\xfa\x00broken", "unreadable"),
        ("call.json", "{", "unknown_format"),
        ("call.json", _deep(), "unknown_format"),
        ("call.json", '{"duration": 12}', "no_transcript"),
        ("call.json", "12", "no_transcript"),
        ("call.json", '{"results": {"items": 3}}', "unknown_format"),
        ("call.json", '{"segments": [{"start": "a", "end": 2, "text": "x"}]}', "unknown_format"),
        ("call.json", '{"segments": [{"start": 1e400, "end": 2, "text": "x"}]}', "unknown_format"),
        ("call.json", '{"segments": [{"start": 5, "end": 1e9, "text": "x"}]}', "unknown_format"),
        (
            "call.json",
            json.dumps({"segments": [{"start": 1, "end": 2, "text": "x" * 101}]}),
            "unknown_format",
        ),
        ("call.json", '{"segments": []}', "no_words"),
        (
            "call.json",
            json.dumps({"segments": [{"start": 1, "end": 2, "text": "a " * 200_001}]}),
            "too_large",
        ),
        ("call.json", " " * (LIMIT + 1), "too_large"),
        ("call.vtt", "WEBVTT\n\nhello", "no_transcript"),
        ("call.txt", "just text without a time", "no_transcript"),
    ],
)
def test_what_is_no_transcript_is_refused_in_words(
    name: str, content: bytes | str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(TranscriptError) as problem:
        read_transcript(write(tmp_path, name, content), max_bytes=LIMIT)
    assert problem.value.reason == reason
    assert name in str(problem.value)


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, "secret.json", content_of("deepgram")[1])
    (tmp_path / "link.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("link.json", "pipe.json", "missing.json"):
        with pytest.raises(TranscriptError) as problem:
            read_transcript(tmp_path / name, max_bytes=LIMIT)
        assert problem.value.reason == "unreadable"
    assert read_transcript(tmp_path / "link.json", max_bytes=LIMIT, follow_links=True)[0] == "deepgram"


@pytest.mark.parametrize("place", ["folder", "beside"])
def test_a_link_that_came_in_place_of_a_folder_is_not_followed(tmp_path: Path, place: str) -> None:
    """Between search and reading; through a link that was there before, a folder is found as it is named."""
    real, secret = tmp_path / "real", tmp_path / "secret"
    for folder in (real / "november", secret / "november"):
        folder.mkdir(parents=True)
        write(folder, "call-1.json", content_of("deepgram")[1])
    (tmp_path / "calls").symlink_to(real)
    recording = tmp_path / "calls" / "november" / "call-1.wav"
    words = {"transcripts": [str(tmp_path / "calls") if place == "folder" else "beside"]}
    settings = settings_from({"words": words}, source="test", folder=tmp_path)
    found = Transcripts(settings).of([recording], ())
    assert placed_transcript(found, SPOKEN, max_bytes=LIMIT, follow_links=False).whole
    (real / "november").rename(tmp_path / "former")
    (real / "november").symlink_to(secret / "november")
    swapped = placed_transcript(found, SPOKEN, max_bytes=LIMIT, follow_links=False)
    assert (swapped.utterances, swapped.note) == ((), "unreadable")


def test_hidden_characters_are_written_out(tmp_path: Path) -> None:
    path = write(tmp_path, "call.srt", "1\n00:00:01,000 --> 00:00:03,000\nhello\u202e there\x1b[0m\n")
    _, pieces = read_transcript(path, max_bytes=LIMIT)
    (found,) = placed(pieces, SPOKEN, "srt")
    assert found.text == "hello\\u202e there\\x1b[0m"

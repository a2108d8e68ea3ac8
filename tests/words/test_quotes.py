"""Quotes beside moments: whose words, which of them, how many."""

from __future__ import annotations

from typing import Any

import pytest

from reports.call_rows import CallData
from reports.parts.quotes import MAX_QUOTE_WORDS, quote, transcript


def said(
    role: str, start_s: float, text: str, *, timed: bool = True, confidence: float | None = None
) -> dict[str, Any]:
    n = len(text.split())
    return {
        "role": role,
        "start_s": start_s,
        "end_s": start_s + n,
        "text": text,
        "confidence": confidence,
        "source": "deepgram",
        "word_start_s": [start_s + i for i in range(n)] if timed else [],
    }


def call(*utterances: dict[str, Any], note: str | None = None) -> CallData:
    return CallData({"call_id": "x"}, utterances=list(utterances), words_note=note)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (10.0, 13.0, "one two three"),
        (10.6, 12.0, "two"),
        (12.5, 14.0, "three four"),
        (30.0, 32.0, "Agent: hello there"),
        (50.0, 60.0, ""),
    ],
)
def test_a_quote_has_the_words_of_its_moment(start_s: float, end_s: float, expected: str) -> None:
    spoken = call(
        said("caller", 10, "one two three four"), said("agent", 11, "yes"), said("agent", 30, "hello there")
    )
    assert quote(spoken, start_s, end_s) == expected


def test_without_times_of_words_the_utterance_is_quoted() -> None:
    spoken = call(said("caller", 10, "one two three four", timed=False))
    assert quote(spoken, 11.0, 12.0) == "one two three four"
    assert quote(spoken, 15.0, 16.0) == ""


def test_a_long_quote_is_cut() -> None:
    text = quote(call(said("unknown", 0, "word " * 39 + "end")), 0.0, 100.0)
    assert text == " ".join(["word"] * MAX_QUOTE_WORDS) + " …"


def test_a_transcript_says_where_it_is_from_and_what_is_unsure() -> None:
    found = transcript(
        call(said("caller", 61, "hello", confidence=0.3), said("agent", 70, "hi", confidence=0.9))
    )
    assert found is not None
    assert [(line.at, line.who, line.text, line.unsure) for line in found.lines] == [
        ("1:01", "Caller", "hello", "30% sure"),
        ("1:10", "Agent", "hi", ""),
    ]
    assert found.text.startswith("Words from a transcript of Deepgram; numbers are masked.")


def test_without_words_there_is_a_note_or_nothing() -> None:
    assert transcript(call()) is None
    found = transcript(call(note="too_large"))
    assert found is not None
    assert (found.lines, found.text) == ((), "A transcript lies there that is larger than the limit.")

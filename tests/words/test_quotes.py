"""Quotes beside moments: whose words, which of them, how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.call_rows import CallData
from reports.parts.quotes import COMPLAINTS, MAX_QUOTE_WORDS, THANKS, disagreements, quote, transcript


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


def heard(level: float, *utterances: dict[str, Any], voice: str | None = None) -> CallData:
    """A call of 60 s whose frustration is at a level from 20 s to 40 s, and near nothing elsewhere."""
    at_s = [5.0, 22.0, 26.0, 30.0, 34.0, 38.0, 50.0]
    levels = [0.02, *[level] * 5, 0.02]
    facts = {"call_id": "x", "duration_s": 60.0, "frustration_voice": voice}
    curve = {"frustration_at_s": at_s, "frustration": levels}
    return CallData({**facts, **curve}, utterances=list(utterances))


@pytest.mark.parametrize(
    ("level", "words", "says"),
    [
        (0.1, "this is unacceptable my friend", "voice is calm (frustration 10%)"),
        (0.19, "das ist eine Frechheit", ""),
        (0.18, "Das ist eine Frechheit", "“Das ist eine Frechheit”, and the voice is calm"),
        (0.1, "es la tercera vez que llamo", "voice is calm"),
        (0.1, "I have no complaint about this", ""),
        (0.1, "this isn't a complaint", ""),
        (0.1, "hello there", ""),
        (0.38, "well thank you very much", "voice is upset (frustration 38%)"),
        (0.37, "well thank you very much", ""),
        (0.5, "muchas gracias por nada", "voice is upset"),
        (0.5, "thank you this is outrageous", ""),
    ],
)
def test_words_and_voice_that_disagree_are_told(level: float, words: str, says: str) -> None:
    found = disagreements(heard(level, said("caller", 25, words)), 0.38)
    assert len(found) == bool(says)
    assert says in "".join(found)
    assert "disagree at 0:2" in "".join(found) or not says


def test_where_it_is_not_sure_nothing_is_said_of_words_and_voice() -> None:
    angry = said("caller", 25, "this is unacceptable")
    assert disagreements(heard(0.1, angry), 0.38)
    assert not disagreements(heard(0.1, angry), None), "no rule says what upset is"
    assert not disagreements(heard(0.1, angry, voice="speaker_1"), 0.38), "whose voice nobody knows"
    assert not disagreements(heard(0.1, said("agent", 25, "this is unacceptable")), 0.38)
    assert not disagreements(heard(0.1, said("caller", 25, "unacceptable", confidence=0.4)), 0.38)
    assert not disagreements(heard(0.1, said("caller", 11, "unacceptable")), 0.38), "nothing near was heard"
    assert not disagreements(heard(0.9, said("caller", 53, "thank you")), 0.38), (
        "thanks at the end are a habit"
    )


def test_the_guide_names_every_word_that_is_looked_for() -> None:
    guide = " ".join((Path(__file__).parents[2] / "docs/guides/words.md").read_text(encoding="utf-8").split())
    words = (*COMPLAINTS, *THANKS)
    assert len(words) > 30
    assert [word for word in words if f"“{word}”" not in guide] == []

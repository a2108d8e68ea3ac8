"""What was said: the quote beside a moment, and the whole transcript of a call."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from callanalytics.analysis.words import HEARD, NOTE_TEXT
from reports.call_rows import CallData
from reports.formatting import clock, joined, percent
from reports.report_source import Row
from reports.timeline import ROLE_NAMES
from reports.translation import _, marked

# A quote takes in what begins a little before its moment, and ends after so many words.
_AROUND_S = 0.5
MAX_QUOTE_WORDS = 24
# Words that the source itself is less sure of are marked.
_UNSURE = 0.5
_SOURCES = {
    HEARD: marked("recognised on this machine"),
    "amazon_transcribe": marked("from a transcript of Amazon Transcribe"),
    "contact_lens": marked("from a transcript of Contact Lens"),
    "google": marked("from a transcript of Google"),
    "azure": marked("from a transcript of Azure"),
    "deepgram": marked("from a transcript of Deepgram"),
    "assemblyai": marked("from a transcript of AssemblyAI"),
    "whisper": marked("from a transcript of Whisper"),
    "genesys": marked("from a transcript of Genesys"),
    "webvtt": marked("from captions (WebVTT)"),
    "srt": marked("from captions (SubRip)"),
    "text": marked("from a text with times"),
}


@dataclass(frozen=True, slots=True)
class SpokenLine:
    """One utterance of the transcript. `start_s` and `end_s` are what playback is compared with."""

    at: str
    start_s: str
    end_s: str
    role: str  # agent, caller or unknown
    who: str
    text: str
    unsure: str  # how sure the source is where it is not, else empty


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a call, as far as it is known."""

    lines: tuple[SpokenLine, ...]
    text: str  # where the words come from, and what is missing


def quote(call: CallData, start_s: float, end_s: float) -> str:
    """What is said in a moment, by who may be the caller if they say anything; empty where nobody knows."""
    said = [(utterance, _within(utterance, start_s, end_s)) for utterance in call.utterances]
    said = [(utterance, words) for utterance, words in said if words]
    callers = [pair for pair in said if pair[0]["role"] != "agent"]
    chosen = callers or said
    if not chosen:
        return ""
    words = [word for _said, found in chosen for word in found]
    text = " ".join(words[:MAX_QUOTE_WORDS]) + " …" * (len(words) > MAX_QUOTE_WORDS)
    return text if callers else f"{_(ROLE_NAMES['agent'])}: {text}"


def said_at_first(call: CallData) -> str:
    """The words of the first moment that has any, in quotation marks behind a space; else empty.

    Empty also where the reason of the call quotes its words already.
    """
    for escalation in call.escalations:
        if "“" in escalation["reason"]:
            return ""
        for moment in escalation["evidence"]:
            if words := quote(call, moment["start_s"], moment["end_s"]):
                return f" “{words}”"
    return ""


def _within(utterance: Row, start_s: float, end_s: float) -> list[str]:
    """The words of an utterance that begin in a moment; all of one without such times that overlaps it."""
    words: list[str] = utterance["text"].split(" ")
    if utterance["word_start_s"]:
        times = zip(words, utterance["word_start_s"], strict=True)
        return [word for word, at_s in times if start_s - _AROUND_S <= at_s < end_s]
    return words if utterance["start_s"] < end_s and utterance["end_s"] > start_s else []


def transcript(call: CallData) -> Transcript | None:
    """The transcript of a call; None where there is nothing to say about it."""
    text = words_text({utterance["source"] for utterance in call.utterances}, call.words_note)
    return Transcript(tuple(map(_line, call.utterances)), text) if text else None


def _line(utterance: Row) -> SpokenLine:
    sure = utterance["confidence"]
    return SpokenLine(
        at=clock(utterance["start_s"]),
        start_s=f"{utterance['start_s']:.2f}",
        end_s=f"{utterance['end_s']:.2f}",
        role=utterance["role"],
        who=_(ROLE_NAMES[utterance["role"]]),
        text=utterance["text"],
        unsure=_("{share} sure").format(share=percent(sure)) if sure is not None and sure < _UNSURE else "",
    )


def words_text(sources: Collection[str], note: str | None) -> str:
    """Where the words of a call come from and what is missing; empty where there is nothing to say."""
    return " ".join(_about(sources, note))


def _about(sources: Collection[str], note: str | None) -> Iterator[str]:
    if sources:
        named = joined([_(_SOURCES.get(source, source)) for source in sorted(sources)])
        yield _("Words {sources}; numbers are masked.").format(sources=named)
        yield _("They may be wrong in places: listen.")
    if note:
        meaning = _(NOTE_TEXT.get(note, note))
        yield f"{meaning[:1].upper()}{meaning[1:]}."

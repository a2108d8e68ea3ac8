"""What was said: the quote beside a moment, where words and voice disagree, the transcript of a call."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from callanalytics.analysis.words import HEARD, NOTE_TEXT, Utterance
from callanalytics.config.phrases import phrase_pattern
from callanalytics.records import Role
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

# Words of complaint and of thanks in English, German and Spanish: few, and of one meaning. The guide to words
# (docs/guides/words.md) names each.
COMPLAINTS = (
    *("complaint*", "complain*", "unacceptable", "outrageous", "ridiculous", "disgrace*", "third time"),
    *(
        "waste of time",
        "fed up",
        "sick of",
        "lawyer",
        "Beschwerde*",
        "beschwer*",
        "Frechheit",
        "unverschämt*",
    ),
    *("Zumutung", "inakzeptabel", "dritte Mal", "dritten Mal", "Rechtsanwalt", "queja*", "reclamación"),
    *("inaceptable", "indignante", "vergüenza", "tercera vez", "harto", "harta", "abogado"),
)
THANKS = (
    *("thank you", "thanks", "wonderful", "lovely", "I appreciate", "danke", "vielen Dank", "wunderbar"),
    *("sehr freundlich", "gracias", "estupendo", "maravilloso", "muy amable"),
)
_COMPLAINT, _THANKS = phrase_pattern(COMPLAINTS), phrase_pattern(THANKS)
# One of these up to three words before makes them mean something else.
_NEGATED = re.compile(
    r"\b(?:no|not|never|\w+n['’]t|without|nicht|kein\w*|nie|ohne|nunca|sin)\b(?:\W+\w+){0,2}\W*$",
    re.IGNORECASE,
)
# The voice at some words is the highest level of the segments this near. Thanks at the end are a habit.
_NEAR_S = 3.0
_LEAVE_S = 10.0
MAX_DISAGREEMENTS = 3
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


def disagreements(call: CallData, threshold: float | None) -> tuple[str, ...]:
    """Where the caller complains in words and not by voice, or thanks in words and is upset by voice.

    It does not tell what is meant: a few words with one meaning are held against the frustration curve. Calm
    is under half of the `threshold` of the rule on its peak, upset from the threshold on. Nothing is said
    where nobody knows whose voice it is, where the source is not sure of the words, and where no rule says
    what upset is.
    """
    if threshold is None or call.scored_voice is not None:
        return ()
    found = sorted(_disagreements(call, threshold))
    return tuple(text for _at_s, text in found[:MAX_DISAGREEMENTS])


def _disagreements(call: CallData, threshold: float) -> Iterator[tuple[float, str]]:
    for row in call.utterances:
        if row["role"] != Role.CALLER.value or (row["confidence"] or 1.0) < _UNSURE:
            continue
        times = tuple(row["word_start_s"] or ())
        said = Utterance(
            None, Role.CALLER, row["start_s"], row["end_s"], row["text"], row["source"], word_start_s=times
        )
        complaint, thanks = (_first(pattern, said.text) for pattern in (_COMPLAINT, _THANKS))
        match = complaint or thanks
        if match is None:
            continue
        start_s, end_s = said.between(match.start(), match.end())
        level = _level(call, start_s, end_s)
        if level is None:
            continue
        if complaint and level < threshold / 2:
            text = _(
                "Words and voice disagree at {at}: “{quote}”, and the voice is calm (frustration {level})."
            )
        elif not complaint and level >= threshold and end_s < call.facts["duration_s"] - _LEAVE_S:
            text = _(
                "Words and voice disagree at {at}: “{quote}”, and the voice is upset (frustration {level})."
            )
        else:
            continue
        quoted = said.around(match.start(), match.end())
        yield start_s, text.format(at=clock(start_s), quote=quoted, level=percent(level))


def _first(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The first match that no word before turns around."""
    return next((m for m in pattern.finditer(text) if not _NEGATED.search(text[: m.start()])), None)


def _level(call: CallData, start_s: float, end_s: float) -> float | None:
    """The highest frustration of the caller around some words; None where nothing near was assessed."""
    points = zip(call.facts["frustration_at_s"], call.facts["frustration"], strict=True)
    near = [level for at_s, level in points if start_s - _NEAR_S <= at_s <= end_s + _NEAR_S]
    return max(near, default=None)


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

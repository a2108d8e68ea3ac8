"""Captions and lines with times: WebVTT, SubRip, plain text.

Sources: WebVTT (W3C Candidate Recommendation: cue timings, voice spans); SubRip as FFmpeg's documentation
describes it; lines of text as Whisper's and whisper.cpp's command lines print them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from callanalytics.analysis.words import Piece, Word
from callanalytics.errors import TranscriptError

_TIME = r"(?:\d{1,2}:)?\d{1,2}:\d{2}(?:[.,]\d{1,3})?"
_CUE = re.compile(rf"^\s*({_TIME})\s*-->\s*({_TIME})(?:\s.*)?$")
_LINE = re.compile(rf"^\s*[\[(]?({_TIME})(?:\s*(?:-->|-|–|to)\s*({_TIME}))?[\])]?[\s:,-]+(.*\S)\s*$")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]{1,80})>")
_TAG = re.compile(r"<[^>]{0,200}>")
_NAMED = re.compile(r"^\s*(?:\[([^\]:]{1,40})\]:?|([^\s:\[\]][^:\[\]]{0,39}):)\s+(.*)$", re.DOTALL)
# A line that gives no end lasts as long as its words do: two a second, and a second more.
_S_PER_WORD, _MORE_S = 0.5, 1.0


@dataclass(frozen=True, slots=True)
class _Cue:
    start_s: float
    end_s: float | None
    voice: str | None
    text: str


def read_captions(name: str, text: str) -> tuple[str, list[Piece]]:
    """The format of a text file, `webvtt`, `srt` or `text`, and its pieces.

    A name before a colon is a label where at least half of the lines have one. Where a line states no end, it
    ends with the next one, or as fast speech would.

    Raises:
        TranscriptError: no line in it has a time.
    """
    lines = text.splitlines()
    if lines and lines[0].startswith("WEBVTT"):
        source, cues = "webvtt", _cues(lines)
    elif any(_CUE.match(line) for line in lines):
        source, cues = "srt", _cues(lines)
    else:
        source, cues = "text", _timed_lines(lines)
    if not cues:
        raise TranscriptError("no_transcript", f"{name}: no line of it has a time.")
    return source, _pieces(_with_names(cues))


def _cues(lines: Sequence[str]) -> list[_Cue]:
    """Cues of WebVTT and SubRip: a line of times, and what follows it up to an empty line."""
    cues: list[_Cue] = []
    for number, line in enumerate(lines):
        times = _CUE.match(line)
        if times is None:
            continue
        said: list[str] = []
        for following in lines[number + 1 :]:
            if not following.strip() or _CUE.match(following):
                break
            said.append(following)
        voice, start_s, end_s = None, seconds(times[1]), seconds(times[2])
        whole = " ".join(said)
        spans = list(_VOICE.finditer(whole))
        if len(spans) <= 1:
            voice = spans[0][1].strip() if spans else None
            cues.append(_Cue(start_s, end_s, voice, _plain(whole)))
            continue
        for span, after in zip(spans, [*spans[1:], None], strict=True):
            part = whole[span.end() : after.start() if after else None]
            cues.append(_Cue(start_s, end_s, span[1].strip(), _plain(part)))
    return cues


def _plain(text: str) -> str:
    return html.unescape(_TAG.sub("", text)).strip()


def _timed_lines(lines: Sequence[str]) -> list[_Cue]:
    found = (_LINE.match(line) for line in lines)
    return [_Cue(seconds(f[1]), seconds(f[2]) if f[2] else None, None, f[3]) for f in found if f]


def seconds(time: str) -> float:
    """`1:02:03.5`, `02:03,5` or `2:03` in seconds."""
    *larger, last = time.replace(",", ".").split(":")
    total = float(last)
    for power, part in enumerate(reversed(larger), start=1):
        total += 60**power * int(part)
    return total


def _with_names(cues: Sequence[_Cue]) -> list[_Cue]:
    """The cues with what stands before a colon as their voice, where it is how this file names voices."""
    named = [None if cue.voice else _NAMED.match(cue.text) for cue in cues]
    if 2 * sum(found is not None for found in named) < len(cues):
        return list(cues)
    return [
        cue if found is None else _Cue(cue.start_s, cue.end_s, (found[1] or found[2]).strip(), found[3])
        for cue, found in zip(cues, named, strict=True)
    ]


def _pieces(cues: Sequence[_Cue]) -> list[Piece]:
    pieces = []
    for number, cue in enumerate(cues):
        words = tuple(Word(word) for word in cue.text.split())
        end_s = cue.end_s
        if end_s is None:
            after_s = cues[number + 1].start_s if number + 1 < len(cues) else float("inf")
            end_s = max(cue.start_s, min(after_s, cue.start_s + _MORE_S + _S_PER_WORD * len(words)))
        pieces.append(Piece(cue.voice, cue.start_s, end_s, words))
    return pieces

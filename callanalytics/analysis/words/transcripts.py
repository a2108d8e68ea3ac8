"""Transcripts that others made: read a file of any known format into pieces.

Formats and where their shape is documented:

- Amazon Transcribe: "Example transcription output" (items, speaker_labels, channel_labels) of its developer
  guide, and its Call Analytics output, which has the shape of Contact Lens.
- Amazon Connect Contact Lens: "Example Contact Lens output files for a call" of its administrator guide.
- Google Cloud Speech-to-Text: `RecognizeResponse` of the v1 and v2 references.
- Azure AI Speech: "Get batch transcription results" (recognizedPhrases) and fast transcription (phrases).
- Deepgram: response of pre-recorded audio (`results.channels`).
- AssemblyAI: the transcript resource (`utterances`, `words`; milliseconds).
- Whisper, faster-whisper, WhisperX: `segments` as they write JSON; whisper.cpp: `transcription`.
- Genesys Cloud: "Transcript schema" of its transcript URL.
- WebVTT (W3C) and SubRip; lines of text that begin with a time, as Whisper's command lines print them.

A transcript is an untrusted file: its size, its words and its times are limited, and whatever does not fit
is refused as a whole. No label is believed to name a side: `sides.placed` finds that out.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from callanalytics.analysis.words import Piece, Word
from callanalytics.analysis.words.captions import read_captions
from callanalytics.audio.source import open_without_links
from callanalytics.errors import TranscriptError

MAX_WORDS = 200_000  # four hours hold about 40,000
MAX_WORD_CHARS = 100
MAX_S = 86_400.0

Node = dict[str, Any]


def read_transcript(path: Path, *, max_bytes: int, follow_links: bool = False) -> tuple[str, list[Piece]]:
    """Read a transcript: the name of its format, and its pieces in order of time.

    Without `follow_links` the path is absolute, and nothing on it may be a link.

    Raises:
        TranscriptError: it cannot be read, is too large, is of no known format or holds no words with times.
    """
    content = _content(path, max_bytes, follow_links)
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise TranscriptError("unreadable", f"{path.name}: no UTF-8 text. Save it as UTF-8.") from None
    if path.suffix.lower() == ".json":
        source, pieces = _read_json(path.name, text)
    else:
        source, pieces = read_captions(path.name, text)
    return source, _checked(path.name, pieces)


def _content(path: Path, max_bytes: int, follow_links: bool) -> bytes:
    try:
        if follow_links:  # without O_NONBLOCK a named pipe would keep the open itself waiting
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            descriptor = open_without_links(str(path.parent), path.name)
        with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise TranscriptError("unreadable", f"{path.name}: is no file.")
            if facts.st_size > max_bytes:
                raise TranscriptError(
                    "too_large",
                    f"{path.name}: {facts.st_size} bytes; [words] max_transcript_bytes allows {max_bytes}.",
                )
            return stream.read(max_bytes)
    except OSError as problem:
        raise TranscriptError("unreadable", f"{path.name}: {problem.strerror}.") from None


def _checked(name: str, pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces that hold words, by time. Raises TranscriptError beyond the limits, or without any."""
    kept = sorted((p for p in pieces if p.words), key=lambda p: (p.start_s, p.end_s, p.label or ""))
    n_words = sum(len(piece.words) for piece in kept)
    if not n_words:
        raise TranscriptError("no_words", f"{name}: holds no words with times.")
    if n_words > MAX_WORDS:
        raise TranscriptError("too_large", f"{name}: {n_words} words, more than {MAX_WORDS}.")
    for piece in kept:
        times = [piece.start_s, piece.end_s]
        times += [t for w in piece.words for t in (w.start_s, w.end_s) if t is not None]
        if any(not math.isfinite(t) or not 0 <= t <= MAX_S for t in times) or piece.end_s < piece.start_s:
            raise TranscriptError("unknown_format", f"{name}: a time in it is no time of a call.")
        if any(len(word.text) > MAX_WORD_CHARS for word in piece.words):
            raise TranscriptError("unknown_format", f"{name}: a word has more than {MAX_WORD_CHARS} letters.")
    return kept


# JSON ------------------------------------------------------------------------------------------------------


def _read_json(name: str, text: str) -> tuple[str, list[Piece]]:
    try:
        document = json.loads(text)
        found = next(
            (
                (source, read)
                for source, fits, read in _FORMATS
                if isinstance(document, dict) and fits(document)
            ),
            None,
        )
        if isinstance(document, list):  # segments of faster-whisper, dumped as they are
            found = ("whisper", _whisper)
            document = {"segments": document}
        if found is not None:
            return found[0], list(found[1](document))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError):
        raise TranscriptError("unknown_format", f"{name}: no transcript of a known format.") from None
    raise TranscriptError("no_transcript", f"{name}: no transcript of a known format.")


def _timed(label: str | None, words: Sequence[Word]) -> Piece:
    return Piece(label, words[0].start_s or 0.0, words[-1].end_s or 0.0, tuple(words), timed=True)


def _untimed(
    label: object, start_s: float, end_s: float, text: str, confidence: float | None = None
) -> Piece:
    words = tuple(Word(word) for word in text.split())
    return Piece(_label(label), start_s, max(start_s, end_s), words, confidence=confidence)


def _piece(
    label: object,
    start_s: float,
    end_s: float,
    text: str,
    words: Sequence[Word],
    confidence: float | None = None,
) -> Piece:
    """By the words where each has times, else by the text."""
    split = _split(words)
    if split and all(w.start_s is not None and w.end_s is not None for w in split):
        return _timed(_label(label), split)
    return _untimed(label, start_s, end_s, text, confidence)


def _split(words: Sequence[Word]) -> list[Word]:
    """Entries that hold several words by spaces as so many words of the same times; empty ones dropped."""
    return [
        Word(part, word.start_s, word.end_s, word.confidence) for word in words for part in word.text.split()
    ]


def _label(label: object) -> str | None:
    return None if label is None or label == "" else str(label)[:80]


def _stated_share(value: object) -> float | None:
    """A confidence 0..1, None where it is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= 1 else None


def _transcribe(document: Node) -> Iterator[Piece]:
    """Amazon Transcribe: items of words and punctuation, labels in the items or beside them."""
    results = document["results"]
    channels = (results.get("channel_labels") or {}).get("channels")
    if channels:
        for channel in channels:
            yield from _items(channel["items"], lambda item, c=channel: c["channel_label"])  # type: ignore[misc]
        return
    segments = (results.get("speaker_labels") or {}).get("segments") or []
    spoken = {i["start_time"]: s["speaker_label"] for s in segments for i in s.get("items", ())}
    yield from _items(
        results["items"], lambda item: item.get("speaker_label") or spoken.get(item.get("start_time"))
    )


def _items(items: Sequence[Node], label_of: Callable[[Node], str | None]) -> Iterator[Piece]:
    words: list[tuple[str | None, Word]] = []
    for item in items:
        best = item["alternatives"][0]
        if item["type"] == "punctuation":
            if words:
                label, before = words[-1]
                words[-1] = (
                    label,
                    Word(before.text + best["content"], before.start_s, before.end_s, before.confidence),
                )
            continue
        start_s, end_s = float(item["start_time"]), float(item["end_time"])
        words.append(
            (
                _label(label_of(item)),
                Word(best["content"], start_s, end_s, _stated_share(best.get("confidence"))),
            )
        )
    for label, word in words:
        if split := _split([word]):
            yield _timed(label, split)


def _contact_lens(document: Node) -> Iterator[Piece]:
    """Contact Lens and Transcribe Call Analytics: turns in milliseconds."""
    turns = document.get("Transcript") or [s["Transcript"] for s in document["Segments"] if "Transcript" in s]
    for turn in turns:
        words = [
            Word(
                item["Content"],
                *_ms(item["BeginOffsetMillis"], item["EndOffsetMillis"]),
                _stated_share(item.get("Confidence")),
            )
            for item in turn.get("Items") or ()
            if item.get("Type") != "punctuation"
        ]
        label = turn.get("ParticipantId") or turn.get("ParticipantRole")
        yield _piece(label, *_ms(turn["BeginOffsetMillis"], turn["EndOffsetMillis"]), turn["Content"], words)


def _ms(start_ms: float, end_ms: float) -> tuple[float, float]:
    return start_ms / 1000, end_ms / 1000


def _google(document: Node) -> Iterator[Piece]:
    """Google: with diarization the last result of v1 repeats all words with their speakers."""
    results = [r for r in (document.get("response") or document)["results"] if r.get("alternatives")]
    spoken = [
        any(_of(w, "speakerTag", "speaker_tag") for w in r["alternatives"][0].get("words") or ())
        for r in results
    ]
    if spoken and spoken[-1] and not all(spoken):
        results = results[-1:]
    for result in results:
        for word in result["alternatives"][0].get("words") or ():
            start_s = _google_s(_of(word, "startTime", "startOffset", "start_time", "start_offset") or "0s")
            end_s = _google_s(_of(word, "endTime", "endOffset", "end_time", "end_offset"))
            speaker = _of(word, "speakerLabel", "speaker_label", "speakerTag", "speaker_tag")
            label = speaker or _of(result, "channelTag", "channel_tag")
            if split := _split(
                [Word(word["word"], start_s, end_s, _stated_share(word.get("confidence")) or None)]
            ):
                yield _timed(_label(label), split)


def _of(node: Node, *names: str) -> Any:
    return next((node[name] for name in names if node.get(name)), None)


def _google_s(value: Any) -> float:
    if isinstance(value, dict):
        return float(value.get("seconds", 0)) + float(value.get("nanos", 0)) / 1e9
    return float(str(value).removesuffix("s"))


_ISO_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?")


def _azure(document: Node) -> Iterator[Piece]:
    """Azure: `recognizedPhrases` in ticks of 100 ns, or `phrases` in milliseconds."""
    for phrase in document.get("recognizedPhrases") or document["phrases"]:
        if phrase.get("recognitionStatus", "Success") != "Success":
            continue
        best = (phrase.get("nBest") or [phrase])[0]
        entries = best.get("displayWords") or best.get("words") or ()
        words = [
            Word(
                w.get("displayText") or w.get("word") or w["text"],
                *_azure_s(w),
                _stated_share(w.get("confidence")),
            )
            for w in entries
        ]
        speaker = best.get("speaker", phrase.get("speaker"))
        parts = [str(part) for part in (phrase.get("channel"), speaker) if part is not None]
        text = best.get("display") or best.get("text") or best.get("lexical") or ""
        yield _piece("/".join(parts), *_azure_s(phrase), text, words, _stated_share(best.get("confidence")))


def _azure_s(entry: Node) -> tuple[float, float]:
    def seconds(name: str) -> float:
        if f"{name}InTicks" in entry:
            return float(entry[f"{name}InTicks"]) / 1e7
        if f"{name}Milliseconds" in entry:
            return float(entry[f"{name}Milliseconds"]) / 1000
        found = _ISO_DURATION.fullmatch(str(entry[name]))
        if found is None:
            return float(entry[name]) / 1000
        hours, minutes, rest = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + rest

    start_s = seconds("offset")
    return start_s, start_s + seconds("duration")


def _deepgram(document: Node) -> Iterator[Piece]:
    channels = document["results"]["channels"]
    for number, channel in enumerate(channels):
        for word in (channel["alternatives"] or [{}])[0].get("words") or ():
            speaker = word.get("speaker")
            parts = [str(number)] * (len(channels) > 1) + [str(speaker)] * (speaker is not None)
            text = word.get("punctuated_word") or word["word"]
            one = Word(text, float(word["start"]), float(word["end"]), _stated_share(word.get("confidence")))
            if split := _split([one]):
                yield _timed(_label("/".join(parts)), split)


def _assemblyai(document: Node) -> Iterator[Piece]:
    """AssemblyAI: milliseconds; utterances where speakers or channels were asked for, else words."""
    for entry in document.get("utterances") or document["words"]:
        words = [
            Word(w["text"], *_ms(w["start"], w["end"]), _stated_share(w.get("confidence")))
            for w in entry.get("words") or [entry]
        ]
        parts = [str(entry[key]) for key in ("channel", "speaker") if entry.get(key) is not None]
        yield _piece("/".join(parts), *_ms(entry["start"], entry["end"]), entry["text"], words)


def _whisper(document: Node) -> Iterator[Piece]:
    """Whisper and its kin; WhisperX gives no times to words that it could not align, such as numbers."""
    for entry in document["segments"]:
        words: list[Word] = []
        for w in entry.get("words") or ():
            start_s = w.get("start", words[-1].end_s if words else entry["start"])
            end_s = w.get("end", start_s)
            words.append(
                Word(
                    w["word"],
                    float(start_s),
                    float(end_s),
                    _stated_share(w.get("probability", w.get("score"))),
                )
            )
        yield _piece(entry.get("speaker"), float(entry["start"]), float(entry["end"]), entry["text"], words)


def _whisper_cpp(document: Node) -> Iterator[Piece]:
    for entry in document["transcription"]:
        times = _ms(entry["offsets"]["from"], entry["offsets"]["to"])
        yield _untimed(entry.get("speaker"), *times, entry["text"])


def _genesys(document: Node) -> Iterator[Piece]:
    """Genesys Cloud: times since the epoch, or since the start of the recording."""
    phrases = [phrase for transcript in document["transcripts"] for phrase in transcript["phrases"]]
    began_ms = 0.0
    if phrases and min(float(p["startTimeMs"]) for p in phrases) > MAX_S * 1000:
        began_ms = float(_of(document, "startTime", "conversationStartTime"))
    for phrase in phrases:
        words = [
            Word(w["word"], *_genesys_s(w, began_ms), _stated_share(w.get("confidence")))
            for w in phrase.get("words") or ()
            if w.get("duration")
        ]
        if len(words) < len(phrase.get("words") or ()):
            words = []
        start_s, end_s = _genesys_s(phrase, began_ms)
        text = phrase.get("decoratedText") or phrase["text"]
        yield _piece(
            phrase.get("participantPurpose"),
            start_s,
            end_s,
            text,
            words,
            _stated_share(phrase.get("confidence")),
        )


def _genesys_s(entry: Node, began_ms: float) -> tuple[float, float]:
    start_ms = float(entry["startTimeMs"]) - began_ms
    return _ms(start_ms, start_ms + float((entry.get("duration") or {}).get("milliseconds", 0)))


_FORMATS: tuple[tuple[str, Callable[[Node], Any], Callable[[Node], Iterator[Piece]]], ...] = (
    (
        "amazon_transcribe",
        lambda d: isinstance(d.get("results"), dict) and "items" in d["results"],
        _transcribe,
    ),
    ("deepgram", lambda d: isinstance(d.get("results"), dict) and "channels" in d["results"], _deepgram),
    ("contact_lens", lambda d: isinstance(d.get("Transcript", d.get("Segments")), list), _contact_lens),
    ("google", lambda d: isinstance((d.get("response") or d).get("results"), list), _google),
    ("azure", lambda d: isinstance(d.get("recognizedPhrases", d.get("phrases")), list), _azure),
    ("genesys", lambda d: isinstance(d.get("transcripts"), list), _genesys),
    ("whisper", lambda d: isinstance(d.get("segments"), list), _whisper),
    ("whisper", lambda d: isinstance(d.get("transcription"), list), _whisper_cpp),
    ("assemblyai", lambda d: isinstance(d.get("utterances") or d.get("words"), list), _assemblyai),
)

"""One conversation written as every transcript format, for tests. Labels are named after the wrong side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from callanalytics.records import ChannelLayout, Diarization, Role, RoleSource, Turn


@dataclass(frozen=True)
class Said:
    role: Role
    start_s: float
    end_s: float
    text: str

    @property
    def words(self) -> list[tuple[str, float, float]]:
        parts = self.text.split()
        step = (self.end_s - self.start_s) / len(parts)
        return [(p, self.start_s + i * step, self.start_s + (i + 1) * step) for i, p in enumerate(parts)]


TALK = (
    Said(Role.AGENT, 1.0, 3.0, "Good morning, how can I help?"),
    Said(Role.CALLER, 4.0, 7.5, "I want to speak to a supervisor now."),
    Said(Role.AGENT, 8.5, 10.5, "May I ask why?"),
    Said(Role.CALLER, 11.0, 14.5, "This is the third time I call."),
    Said(Role.CALLER, 17.0, 19.0, "Cancel my contract, please."),
    Said(Role.AGENT, 20.0, 22.0, "I am sorry to hear that."),
)
SPOKEN = Diarization(
    turns=tuple(
        Turn(
            f"speaker_{int(said.role is Role.CALLER)}",
            int(said.role is Role.CALLER),
            said.start_s,
            said.end_s,
        )
        for said in TALK
    ),
    roles={"speaker_0": Role.AGENT, "speaker_1": Role.CALLER},
    layout=ChannelLayout.STEREO,
    role_source=RoleSource.SIDECAR,
    role_confidence=1.0,
)


def _label(said: Said, agent: object, caller: object) -> object:
    return agent if said.role is Role.AGENT else caller


def _wrong(said: Said) -> str:
    return str(_label(said, "CUSTOMER", "AGENT"))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(seconds: float, comma: str = ".") -> str:
    minutes, ms = divmod(_ms(seconds), 60_000)
    return f"00:{minutes:02d}:{ms // 1000:02d}{comma}{ms % 1000:03d}"


def _transcribe_items(said: Said, **more: object) -> list[dict[str, object]]:
    items: list[dict[str, object]] = []
    for text, start_s, end_s in said.words:
        bare = text.rstrip(".,?")
        times = {"start_time": f"{start_s:.3f}", "end_time": f"{end_s:.3f}"}
        said_as = [{"confidence": "0.9", "content": bare}]
        items.append({"type": "pronunciation", "alternatives": said_as, **times, **more})
        if bare != text:
            items.append(
                {"type": "punctuation", "alternatives": [{"confidence": "0.0", "content": text[-1]}]}
            )
    return items


def _amazon_transcribe() -> object:
    items = [item for said in TALK for item in _transcribe_items(said)]
    segments = [
        {
            "speaker_label": _label(said, "spk_1", "spk_0"),
            "items": [
                {"start_time": i["start_time"], "speaker_label": _label(said, "spk_1", "spk_0")}
                for i in _transcribe_items(said)
                if "start_time" in i
            ],
        }
        for said in TALK
    ]
    return {"jobName": "x", "results": {"items": items, "speaker_labels": {"segments": segments}}}


def _amazon_channels() -> object:
    channels = [
        {
            "channel_label": f"ch_{n}",
            "items": [i for s in TALK if s.role is role for i in _transcribe_items(s)],
        }
        for n, role in enumerate((Role.CALLER, Role.AGENT))
    ]
    items = [item for channel in channels for item in channel["items"]]
    return {"results": {"items": items, "channel_labels": {"channels": channels}}}


def _contact_lens() -> object:
    return {
        "Version": "1.1.0",
        "Participants": [{"ParticipantId": "AGENT", "ParticipantRole": "AGENT"}],
        "Transcript": [
            {
                "Id": str(number),
                "ParticipantId": _wrong(said),
                "BeginOffsetMillis": _ms(said.start_s),
                "EndOffsetMillis": _ms(said.end_s),
                "Content": said.text,
                "Sentiment": "NEUTRAL",
            }
            for number, said in enumerate(TALK)
        ],
    }


def _call_analytics() -> object:
    document = _contact_lens()
    for turn, said in zip(document["Transcript"], TALK, strict=True):  # type: ignore[index]
        turn["Items"] = [
            {
                "Type": "pronunciation",
                "Content": w,
                "BeginOffsetMillis": _ms(a),
                "EndOffsetMillis": _ms(b),
                "Confidence": "0.9",
            }
            for w, a, b in said.words
        ]
    return document


def _google_v1() -> object:
    words = [
        {"word": w, "startTime": f"{a:.3f}s", "endTime": f"{b:.3f}s", "speakerTag": _label(said, 2, 1)}
        for said in TALK
        for w, a, b in said.words
    ]
    plain = [{key: word[key] for key in ("word", "startTime", "endTime")} for word in words]
    results = [{"alternatives": [{"transcript": "x", "words": plain}]}, {"alternatives": [{"words": words}]}]
    return {"response": {"results": results}}


def _google_v2() -> object:
    results = [
        {
            "channelTag": _label(said, 1, 2),
            "alternatives": [
                {
                    "transcript": said.text,
                    "confidence": 0.9,
                    "words": [
                        {"word": w, "startOffset": f"{a:.3f}s", "endOffset": f"{b:.3f}s"}
                        for w, a, b in said.words
                    ],
                }
            ],
        }
        for said in TALK
    ]
    return {"results": results}


def _azure_batch() -> object:
    phrases = [
        {
            "recognitionStatus": "Success",
            "channel": _label(said, 1, 0),
            "offsetInTicks": said.start_s * 1e7,
            "durationInTicks": (said.end_s - said.start_s) * 1e7,
            "nBest": [{"confidence": 0.9, "lexical": said.text.lower(), "display": said.text}],
        }
        for said in TALK
    ]
    return {"recognizedPhrases": phrases, "combinedRecognizedPhrases": []}


def _azure_iso() -> object:
    document = _azure_batch()
    for phrase, said in zip(document["recognizedPhrases"], TALK, strict=True):  # type: ignore[index]
        del phrase["offsetInTicks"], phrase["durationInTicks"]
        phrase |= {"offset": f"PT{said.start_s:.3f}S", "duration": f"PT{said.end_s - said.start_s:.3f}S"}
        phrase["nBest"][0]["displayWords"] = [
            {"displayText": w, "offset": f"PT{a:.3f}S", "duration": f"PT{b - a:.3f}S"}
            for w, a, b in said.words
        ]
    return document


def _azure_fast() -> object:
    phrases = [
        {
            "channel": _label(said, 1, 0),
            "offsetMilliseconds": _ms(said.start_s),
            "durationMilliseconds": _ms(said.end_s - said.start_s),
            "text": said.text,
            "confidence": 0.9,
        }
        for said in TALK
    ]
    return {"durationMilliseconds": 25_000, "combinedPhrases": [], "phrases": phrases}


def _deepgram() -> object:
    words = [
        {
            "word": w.lower(),
            "punctuated_word": w,
            "start": a,
            "end": b,
            "confidence": 0.9,
            "speaker": _label(said, 1, 0),
        }
        for said in TALK
        for w, a, b in said.words
    ]
    return {
        "metadata": {},
        "results": {"channels": [{"alternatives": [{"transcript": "x", "words": words}]}]},
    }


def _assemblyai() -> object:
    utterances = [
        {
            "speaker": _label(said, "B", "A"),
            "start": _ms(said.start_s),
            "end": _ms(said.end_s),
            "text": said.text,
            "words": [
                {"text": w, "start": _ms(a), "end": _ms(b), "confidence": 0.9, "speaker": "A"}
                for w, a, b in said.words
            ],
        }
        for said in TALK
    ]
    return {"id": "x", "status": "completed", "text": "x", "words": [], "utterances": utterances}


def _segments(*, speaker: bool, words: str | None) -> list[dict[str, object]]:
    segments = []
    for said in TALK:
        entry: dict[str, object] = {"start": said.start_s, "end": said.end_s, "text": f" {said.text}"}
        if speaker:
            entry["speaker"] = _label(said, "SPEAKER_01", "SPEAKER_00")
        if words:
            entry["words"] = [{"word": f" {w}", "start": a, "end": b, words: 0.9} for w, a, b in said.words]
        segments.append(entry)
    return segments


def _whisper_cpp() -> object:
    return {
        "transcription": [
            {"offsets": {"from": _ms(said.start_s), "to": _ms(said.end_s)}, "text": f" {said.text}"}
            for said in TALK
        ]
    }


def _genesys(epoch_ms: int = 0) -> object:
    phrases = [
        {
            "text": said.text.lower(),
            "decoratedText": said.text,
            "startTimeMs": epoch_ms + _ms(said.start_s),
            "duration": {"milliseconds": _ms(said.end_s - said.start_s)},
            "confidence": 0.9,
            "participantPurpose": _label(said, "external", "internal"),
        }
        for said in TALK
    ]
    return {"conversationId": "x", "startTime": epoch_ms, "transcripts": [{"phrases": phrases}]}


def _vtt() -> str:
    cues = [
        f"{_clock(s.start_s)} --> {_clock(s.end_s)} align:start\n<v {_wrong(s)}>{s.text}</v>\n" for s in TALK
    ]
    return "WEBVTT\n\nNOTE made by a test\n\n" + "\n".join(cues)


def _srt(label: Callable[[Said], str]) -> str:
    return "\n".join(
        f"{n}\n{_clock(s.start_s, ',')} --> {_clock(s.end_s, ',')}\n{label(s)}{s.text}\n"
        for n, s in enumerate(TALK, 1)
    )


def _lines() -> str:
    return "\n".join(f"[{_clock(s.start_s)} --> {_clock(s.end_s)}] {_wrong(s)}: {s.text}" for s in TALK)


EPOCH_MS = 1_700_000_000_000
FORMATS: dict[str, tuple[str, str, Callable[[], object]]] = {
    "transcribe, speakers": ("json", "amazon_transcribe", _amazon_transcribe),
    "transcribe, channels": ("json", "amazon_transcribe", _amazon_channels),
    "contact lens": ("json", "contact_lens", _contact_lens),
    "call analytics": ("json", "contact_lens", _call_analytics),
    "google v1": ("json", "google", _google_v1),
    "google v2": ("json", "google", _google_v2),
    "azure batch": ("json", "azure", _azure_batch),
    "azure words": ("json", "azure", _azure_iso),
    "azure fast": ("json", "azure", _azure_fast),
    "deepgram": ("json", "deepgram", _deepgram),
    "assemblyai": ("json", "assemblyai", _assemblyai),
    "whisper": ("json", "whisper", lambda: {"text": "x", "segments": _segments(speaker=False, words=None)}),
    "faster-whisper": ("json", "whisper", lambda: _segments(speaker=False, words="probability")),
    "whisperx": ("json", "whisper", lambda: {"segments": _segments(speaker=True, words="score")}),
    "whisper.cpp": ("json", "whisper", _whisper_cpp),
    "genesys": ("json", "genesys", _genesys),
    "genesys, epoch": ("json", "genesys", lambda: _genesys(EPOCH_MS)),
    "webvtt": ("vtt", "webvtt", _vtt),
    "srt": ("srt", "srt", lambda: _srt(lambda s: f"[{_label(s, 'SPEAKER_01', 'SPEAKER_00')}]: ")),
    "srt without speakers": ("srt", "srt", lambda: _srt(lambda s: "")),
    "text": ("txt", "text", _lines),
}


def content_of(name: str) -> tuple[str, bytes]:
    """Suffix and bytes of the conversation in a format."""
    suffix, _, make = FORMATS[name]
    made = make()
    return suffix, (made if isinstance(made, str) else json.dumps(made)).encode()

"""One call -> the files that a recorder would have left of it: its folders, names, formats, sidecars.

Names and formats follow the products' own documents; numbers, agents and queues come from the script.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import soundfile

from callanalytics.demo.script import Call
from callanalytics.demo.synthetic_voices import SAMPLE_RATE_HZ
from callanalytics.records import FloatArray

# The share of a broken file that is left; its header still declares all of it.
BROKEN_SHARE = 0.4
OPUS_BIT_RATE = 32_000  # for two channels


@dataclass(frozen=True, slots=True)
class Take:
    """A call that has been recorded. `sides`: float32 (2, n) at 8 kHz, agent first, caller second."""

    call: Call
    index: int  # position in the day
    started_at: datetime  # with the local zone
    sides: FloatArray

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return int(self.sides.shape[1]) / SAMPLE_RATE_HZ

    @property
    def ended_at(self) -> datetime:
        """When the recorder closed the file, UTC."""
        return self.utc + timedelta(seconds=self.duration_s)

    @property
    def utc(self) -> datetime:
        """Start in UTC."""
        return self.started_at.astimezone(UTC)

    def uuid(self, what: str) -> str:
        """The same identifier for the same call of the same day, always."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{what}/{self.started_at.date()}/{self.call.slug}"))

    @property
    def caller_first(self) -> FloatArray:
        """(n, 2), caller on the left."""
        return np.ascontiguousarray(self.sides[::-1].T)

    @property
    def mono(self) -> FloatArray:
        """(n,), both sides in one."""
        both: FloatArray = np.clip(self.sides.sum(axis=0), -1.0, 1.0)
        return both


def write_take(root: Path, take: Take) -> tuple[Path, ...]:
    """Write the take below `root` as its recorder does; the result lists audio files, no sidecars."""
    files = WRITERS[take.call.style](root, take)
    if take.call.has_sidecar:
        _write_json(files[0].with_name(f"{files[0].name}.json"), _facts(take))
    if take.call.broken:
        for file in files:
            content = file.read_bytes()
            file.write_bytes(content[: int(len(content) * BROKEN_SHARE)])
    return files


def _freepbx(root: Path, take: Take) -> tuple[Path, ...]:
    """Asterisk's unique id at the end of the name is UTC; the stamp before it is local."""
    local = take.started_at
    unique_id = f"{int(take.utc.timestamp())}.{410 + 7 * take.index}"
    name = f"q-{take.call.extension}-{take.call.number}-{local:%Y%m%d-%H%M%S}-{unique_id}.wav"
    file = _folder(root, f"freepbx/{local:%Y/%m/%d}") / name
    # The first call of the day shows that mu-law in a WAV is read, too.
    _write_wav(file, take.caller_first, "ULAW" if take.index == 0 else "PCM_16")
    return (file,)


def _vicidial(root: Path, take: Take) -> tuple[Path, ...]:
    local, call = take.started_at, take.call
    name = f"{local:%Y%m%d-%H%M%S}_{call.number}_{call.agent.agent_id}-all.mp3"
    file = _folder(root, "vicidial") / name
    soundfile.write(file, take.mono, SAMPLE_RATE_HZ, format="MP3", subtype="MPEG_LAYER_III")
    return (file,)


def _connect(root: Path, take: Take) -> tuple[Path, ...]:
    """Amazon Connect: UTC in folder and name, the agent on the right."""
    name = f"{take.uuid('contact')}_{take.utc:%Y%m%dT%H_%M}_UTC.wav"
    file = _folder(root, f"connect/CallRecordings/{take.utc:%Y/%m/%d}") / name
    _write_wav(file, take.caller_first, "PCM_16")
    return (file,)


def _genesys(root: Path, take: Take) -> tuple[Path, ...]:
    """Genesys Cloud's export to S3: folders in UTC, Ogg Opus, facts in `<file>_metadata.json`."""
    conversation, call = take.uuid("conversation"), take.call
    folder = _folder(
        root, f"genesys/{take.utc:year=%Y/month=%m/day=%d/hour=%H}/conversation_id={conversation}"
    )
    file = folder / f"{take.uuid('recording')}.opus"
    _write_opus(file, take.caller_first)
    _write_json(
        file.with_name(f"{file.name}_metadata.json"),
        {
            "conversationId": conversation,
            "recordingId": take.uuid("recording"),
            "mediaType": "call",
            "provider": "Edge",
            "initialDirection": call.direction.value,
            "startTime": f"{take.utc:%Y-%m-%dT%H:%M:%S.000+0000}",
            "endTime": f"{take.ended_at:%Y-%m-%dT%H:%M:%S.000+0000}",
            "durationMs": round(take.duration_s * 1000),
            "ani": f"tel:+1{call.number}",
            "dnis": "tel:+12025550100",
            "agentId": call.agent.agent_id,
            "agentName": call.agent.name,
            "queueName": call.queue,
        },
    )
    return (file,)


def _fusionpbx(root: Path, take: Take) -> tuple[Path, ...]:
    """FusionPBX: nothing but a UUID in the name; only the file's own time says when."""
    file = _folder(root, f"fusionpbx/archive/{take.started_at:%Y/%b/%d}") / f"{take.uuid('fusionpbx')}.mp3"
    soundfile.write(file, take.caller_first, SAMPLE_RATE_HZ, format="MP3", subtype="MPEG_LAYER_III")
    return (file,)


def _generic(root: Path, take: Take) -> tuple[Path, ...]:
    """8-bit mono. Dithered, as a decent recorder does: otherwise faint noise becomes exact silence."""
    file = _folder(root, "helpdesk") / f"{_generic_stem(take)}_Mono.wav"
    rng = np.random.default_rng([take.started_at.date().toordinal(), take.index])
    dither = (rng.random(take.mono.shape) - rng.random(take.mono.shape)) / 128
    _write_wav(file, np.clip(take.mono + dither, -1.0, 1.0).astype(np.float32), "PCM_U8")
    return (file,)


def _pair(root: Path, take: Take) -> tuple[Path, ...]:
    """The two sides of one call in two files."""
    stem = _generic_stem(take)
    folder = _folder(root, "pairs")
    files = (folder / f"{stem}_agent.wav", folder / f"{stem}_caller.wav")
    for file, side in zip(files, take.sides, strict=True):
        _write_wav(file, side, "PCM_16")
    return files


def _sidecar(root: Path, take: Take) -> tuple[Path, ...]:
    """A name that says nothing, and a JSON file beside it that says everything."""
    file = _folder(root, "exports") / f"call-{take.started_at.toordinal() % 1000:03d}{take.index:02d}.wav"
    _write_wav(file, take.mono, "PCM_16")
    _write_json(file.with_name(f"{file.name}.json"), _facts(take))
    return (file,)


WRITERS: dict[str, Callable[[Path, Take], tuple[Path, ...]]] = {
    "freepbx": _freepbx,
    "vicidial": _vicidial,
    "connect": _connect,
    "genesys": _genesys,
    "fusionpbx": _fusionpbx,
    "generic": _generic,
    "pair": _pair,
    "sidecar": _sidecar,
}


def _generic_stem(take: Take) -> str:
    call, local = take.call, take.started_at
    return (
        f"Northwind_GUID_{5500 + take.index}_AGENT_{call.agent.name}{call.agent.agent_id}"
        f"_CUST_{call.number}_DT_{local:%Y-%m-%dT%H-%M-%S}"
    )


def _facts(take: Take) -> dict[str, object]:
    """What a sidecar says about a call."""
    call = take.call
    return {
        "call_id": take.uuid("call"),
        "started_at": take.started_at.isoformat(),
        "duration_s": round(take.duration_s, 3),
        "direction": call.direction.value,
        "queue": call.queue,
        "agent_id": call.agent.agent_id,
        "agent_name": call.agent.name,
        "caller_number": f"+1{call.number}",
    }


def _folder(root: Path, below: str) -> Path:
    folder = root / below
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_json(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_wav(file: Path, samples: FloatArray, subtype: str) -> None:
    soundfile.write(file, samples, SAMPLE_RATE_HZ, format="WAV", subtype=subtype)


def _write_opus(file: Path, samples: FloatArray) -> None:
    """Ogg Opus of (n, 2) samples. By FFmpeg: libsndfile numbers its Ogg streams at random."""
    pcm = np.round(samples * 32767).astype(np.int16)
    # "bitexact" keeps the stream number and the encoder's version out of the file.
    with av.open(str(file), "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ, layout="stereo")
        stream.bit_rate = OPUS_BIT_RATE
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = SAMPLE_RATE_HZ
        for part in (frame, None):
            for packet in stream.encode(part):
                container.mux(packet)

"""Lines of a dialogue -> speech as a telephone would carry it: 8 kHz, 300 to 3400 Hz, at a set level."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from callanalytics.demo.script import Call, Line, Mood, Voice
from callanalytics.errors import CallAnalyticsError
from callanalytics.records import FloatArray, Role

SAMPLE_RATE_HZ = 8000
# The band of a narrow-band telephone line (ITU-T G.712).
BAND_HZ = (300.0, 3400.0)
# All of the demonstration takes a few seconds to speak; a synthesiser that hangs is stopped.
TIMEOUT_S = 120.0
_WORKER = Path(__file__).with_name("espeak.py")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a mood changes a voice: rate as a factor, pitch and its range on espeak's 0..100 scale.

    `effort` lifts what lies above 1 kHz (1 = +6 dB), as a raised voice does; `level_dbfs` is the RMS
    of the audible parts.
    """

    rate: float
    pitch: int
    pitch_range: int
    effort: float
    level_dbfs: float


# Chosen by measurement, so that nobody can miss it: the two upset callers come out 10 to 11 dB louder, 5 to 9
# semitones higher and a third faster than when they were calm, with a hard voice. By ear that is overdone,
# but synthetic voices carry little that an ensemble takes for anger. tests/test_demo.py holds the figures,
# tests/night/test_night.py that these callers are flagged as frustrated, and who is loud all along is not.
MANNERS: dict[Mood, Manner] = {
    Mood.CALM: Manner(1.0, 0, 42, 0.0, -23.0),
    Mood.CHEERFUL: Manner(1.05, 8, 62, 0.3, -21.5),
    Mood.WEARY: Manner(0.88, -10, 25, -0.3, -25.0),
    Mood.TENSE: Manner(1.12, 16, 60, 0.4, -18.5),
    Mood.LOUD: Manner(1.0, 8, 55, 0.8, -13.0),
    Mood.UPSET: Manner(1.3, 16, 100, 4.0, -10.0),
}
# Agents speak into a headset at a steady level.
AGENT_LEVEL_DBFS = -21.0


def speak_calls(calls: tuple[Call, ...]) -> list[list[FloatArray]]:
    """Speech of every line of every call, in order: float32 (n_samples,) at 8 kHz, within -1..1.

    Raises:
        CallAnalyticsError: espeak-ng is not installed, does not start, or does not speak.
    """
    lines = [[event for event in call.events if isinstance(event, Line)] for call in calls]
    wanted = [
        _request(line, _voice(call, line))
        for call, spoken in zip(calls, lines, strict=True)
        for line in spoken
    ]
    rate_hz, speech = _espeak(wanted)
    sounds = iter(speech)
    return [[_telephone(next(sounds), rate_hz, line) for line in spoken] for spoken in lines]


def _voice(call: Call, line: Line) -> Voice:
    return call.agent.voice if line.role is Role.AGENT else call.caller


def _request(line: Line, voice: Voice) -> dict[str, Any]:
    """The synthesiser's parameters of one line."""
    manner = MANNERS[line.mood]
    return {
        "voice": voice.name,
        "rate_wpm": round(voice.rate_wpm * manner.rate),
        "pitch": voice.pitch + manner.pitch,
        "pitch_range": manner.pitch_range,
        "text": line.text,
    }


def _espeak(lines: list[dict[str, Any]]) -> tuple[int, list[FloatArray]]:
    """Run `espeak.py` as a child process: (sampling rate, one float32 array a line)."""
    try:
        import espeakng_loader
    except ImportError:
        raise CallAnalyticsError(
            "the demonstration needs espeak-ng: package 'espeakng-loader' is not installed. "
            "Run: pip install 'callanalytics[demo]'"
        ) from None
    request = json.dumps({"library": str(espeakng_loader.get_library_path()), "lines": lines})
    try:
        worker = subprocess.run(
            [sys.executable, "-I", str(_WORKER)],
            input=request.encode(),
            capture_output=True,
            cwd=Path(espeakng_loader.get_data_path()).parent,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise CallAnalyticsError(f"espeak-ng did not speak: {problem}. {_HELP}") from None
    if worker.returncode != 0:
        reason = worker.stderr.decode(errors="replace").strip()[-500:] or "no message"
        raise CallAnalyticsError(f"espeak-ng ended with status {worker.returncode}: {reason}. {_HELP}")
    return _unpack(worker.stdout, n_lines=len(lines))


_HELP = "Try: pip install --force-reinstall espeakng-loader"


def _unpack(stream: bytes, n_lines: int) -> tuple[int, list[FloatArray]]:
    """The answer of `espeak.py` as arrays."""
    (rate_hz,) = struct.unpack_from("<I", stream)
    speech: list[FloatArray] = []
    at = 4
    while at < len(stream):
        (n_samples,) = struct.unpack_from("<I", stream, at)
        pcm = np.frombuffer(stream, "<i2", count=n_samples, offset=at + 4)
        speech.append(pcm.astype(np.float32) / np.float32(32768))
        at += 4 + 2 * n_samples
    if len(speech) != n_lines or any(len(samples) < rate_hz // 20 for samples in speech):
        raise CallAnalyticsError(
            f"espeak-ng spoke {len(speech)} lines of {n_lines}, or left one empty. {_HELP}"
        )
    return rate_hz, speech


def _telephone(speech: FloatArray, rate_hz: int, line: Line) -> FloatArray:
    """One spoken line in the telephone band, without its silent ends, at the level of its mood."""
    import soxr
    from scipy.signal import butter, sosfilt

    manner = MANNERS[line.mood]
    narrow = soxr.resample(speech, rate_hz, SAMPLE_RATE_HZ).astype(np.float64)
    bright = sosfilt(butter(1, 1000.0, "highpass", fs=SAMPLE_RATE_HZ, output="sos"), narrow)
    band = sosfilt(
        butter(4, BAND_HZ, "bandpass", fs=SAMPLE_RATE_HZ, output="sos"), narrow + manner.effort * bright
    )
    audible = np.flatnonzero(np.abs(band) > 0.02 * np.abs(band).max())
    band = band[audible[0] : audible[-1] + 1]
    loud = band[np.abs(band) > 0.05 * np.abs(band).max()]
    level_dbfs = AGENT_LEVEL_DBFS if line.role is Role.AGENT else manner.level_dbfs
    gain = 10 ** (level_dbfs / 20) / float(np.sqrt(np.mean(loud**2)))
    # A line limits softly: peaks of a raised voice are bent, not cut.
    result: FloatArray = (0.97 * np.tanh(gain * band / 0.97)).astype(np.float32)
    return result

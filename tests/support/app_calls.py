"""A published database with sound behind it, and a voice to speak with, for the tests of the app."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
from fixture_calls import fill, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.demo.script import calls
from callanalytics.demo.synthetic_voices import speak_calls
from callanalytics.ingest.recorders.phone_numbers import alias_of, load_or_make_salt
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace

FloatArray = npt.NDArray[np.float32]
RATE_HZ = 8000


def voice(n_lines: int = 1) -> FloatArray:
    """Synthesised speech, float32 (n,) at 8 kHz: the first lines of a demonstration call."""
    return np.concatenate(speak_calls(calls()[:1])[0][:n_lines])


def wav(samples: FloatArray, rate_hz: int = RATE_HZ) -> bytes:
    """Samples (n,) or (n, n_channels) as a WAV file."""
    out = io.BytesIO()
    sf.write(out, samples, rate_hz, format="WAV", subtype="PCM_16")
    return out.getvalue()


def publish_calls(out: Path, n_days: int = 8) -> list[CallAnalysis]:
    """Publish plausible calls into `out`; the flagged ones have a recording that can be played.

    Its name holds the caller's number, as with most recorders, and the published name an alias.
    """
    sound = out / "sound"
    sound.mkdir(parents=True)
    salt = load_or_make_salt(out / Settings().privacy.salt_file)
    found = []
    for i, call in enumerate(plausible_calls(n_days)):
        # Two files of a pair stay as they are: not there.
        if call.assessment.flagged and len(call.recording.paths) == 1:
            t = np.arange(round(call.audio.duration_s * RATE_HZ)) / RATE_HZ
            tone = (0.1 * np.sin(2 * np.pi * (300 + i) * t)).astype(np.float32)
            content = wav(np.stack([tone] * call.audio.n_channels, axis=1))
            number = f"{2025550100 + i}"
            path = sound / f"{number}-{call.recording.path.name}"
            path.write_bytes(content)
            recording = replace(
                call.recording,
                recording_id=hashlib.sha256(content).hexdigest(),
                paths=(path,),
                shown_paths=(str(path).replace(number, alias_of(number, salt)),),
            )
            call = replace(call, recording=recording)  # noqa: PLW2901
        found.append(call)
    with open_work(Workspace(out)) as store:
        fill(store, found)
        publish(store)
    return found

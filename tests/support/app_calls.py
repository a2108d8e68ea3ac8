"""A published database with sound behind it, and a voice to speak with, for the tests of the app."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
from fixture_calls import fill, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.demo.script import calls
from callanalytics.demo.synthetic_voices import speak_calls
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
    """Publish plausible calls into `out`; the flagged ones have a recording that can be played."""
    out.mkdir(parents=True, exist_ok=True)
    sound = out / "sound"
    sound.mkdir()
    calls = []
    for call in plausible_calls(n_days):
        path = sound / call.recording.path.name
        if call.assessment.flagged:
            t = np.arange(round(call.audio.duration_s * RATE_HZ)) / RATE_HZ
            tone = (0.1 * np.sin(2 * np.pi * 300 * t)).astype(np.float32)
            path.write_bytes(wav(np.stack([tone] * call.audio.n_channels, axis=1)))
        # Two files of a pair stay as they are: not there.
        paths = (path,) if len(call.recording.paths) == 1 else call.recording.paths
        calls.append(replace(call, recording=replace(call.recording, paths=paths)))
    with open_work(Workspace(out)) as store:
        fill(store, calls)
        publish(store)
    return calls

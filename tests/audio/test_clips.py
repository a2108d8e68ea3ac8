"""Evidence clips: the right moment, audible, small, without a system ffmpeg and without traces."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from formats import FloatArray, tone

from callanalytics.audio import clips
from callanalytics.audio.clips import NoEncoder, clip_bytes, evidence_clips
from callanalytics.config import ReportSettings
from callanalytics.records import Audio, Escalation, Evidence

RATE_HZ = 8000


def decoded(content: bytes) -> tuple[FloatArray, int]:
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.audio[0]
        pieces = [frame.to_ndarray() for frame in container.decode(stream)]
        joined = np.concatenate(pieces, axis=1)
        scale = 1.0 if joined.dtype.kind == "f" else 32768.0
        return (joined[0] / scale).astype(np.float32), stream.rate


def loudest_hz(sound: FloatArray, rate_hz: int) -> float:
    return float(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * rate_hz / len(sound))


@pytest.fixture
def call() -> FloatArray:
    """Ten seconds of 400 Hz, then ten of 900 Hz on the left; the right side is silent."""
    left = np.concatenate([tone(10.0, RATE_HZ, 400.0), tone(10.0, RATE_HZ, 900.0)])
    return np.stack([left, np.zeros_like(left)])


@pytest.mark.parametrize("clip_format", ["mp3", "wav"])
def test_a_clip_holds_the_moment_with_its_context(call: FloatArray, clip_format: clips.ClipFormat) -> None:
    content = clip_bytes(call, RATE_HZ, 12.0, 15.0, context_s=1.0, clip_format=clip_format)
    sound, rate_hz = decoded(content)
    assert len(sound) / rate_hz == pytest.approx(5.0, abs=0.1)
    assert loudest_hz(sound, rate_hz) == pytest.approx(900.0, abs=3.0)


def test_a_clip_is_small_enough_to_embed(call: FloatArray) -> None:
    assert len(clip_bytes(call, RATE_HZ, 0.0, 10.0)) < 32_000


def test_a_clip_ends_with_the_recording(call: FloatArray) -> None:
    sound, rate_hz = decoded(clip_bytes(call, RATE_HZ, 19.0, 30.0, context_s=2.0, clip_format="wav"))
    assert len(sound) / rate_hz == 3.0
    with pytest.raises(ValueError, match="outside"):
        clip_bytes(call, RATE_HZ, 25.0, 30.0)


def test_quiet_and_loud_calls_come_to_one_level_and_nothing_clips(call: FloatArray) -> None:
    for gain in (0.04, 0.3, 1.9):
        sound, _ = decoded(clip_bytes(np.clip(call * gain, -1, 1), RATE_HZ, 2.0, 6.0, clip_format="wav"))
        middle = sound[8000:24000]
        assert 20 * np.log10(np.sqrt(np.mean(middle**2))) == pytest.approx(clips.TARGET_DBFS, abs=0.5)
        assert np.abs(sound).max() < 10 ** (clips.PEAK_DBFS / 20) + 0.01


def test_loud_and_quiet_inside_a_clip_keep_their_relation() -> None:
    sound = np.concatenate([tone(2.0, RATE_HZ, amplitude=0.05), tone(2.0, RATE_HZ, amplitude=0.5)])
    found, _ = decoded(clip_bytes(sound, RATE_HZ, 0.0, 4.0, clip_format="wav"))
    ratio = np.abs(found[20000:28000]).max() / np.abs(found[4000:12000]).max()
    assert ratio == pytest.approx(10.0, rel=0.05)


def test_both_sides_are_heard() -> None:
    both = np.stack([tone(4.0, RATE_HZ, 400.0), tone(4.0, RATE_HZ, 900.0)])
    found, rate_hz = decoded(clip_bytes(both, RATE_HZ, 0.0, 4.0))
    spectrum = np.abs(np.fft.rfft(found))
    at_hz = np.arange(len(spectrum)) * rate_hz / len(found)
    left, right = (spectrum[np.abs(at_hz - f) < 5].max() for f in (400.0, 900.0))
    assert left == pytest.approx(right, rel=0.2)


def test_a_clip_begins_and_ends_without_a_click(call: FloatArray) -> None:
    found, _ = decoded(clip_bytes(call, RATE_HZ, 3.003, 5.007, clip_format="wav"))
    assert abs(found[0]) < 0.01
    assert abs(found[-1]) < 0.01
    assert np.abs(found[400:-400]).max() > 0.1


def test_silence_makes_a_silent_clip() -> None:
    found, _ = decoded(clip_bytes(np.zeros(16000, np.float32), RATE_HZ, 0.0, 2.0))
    assert np.abs(found).max() < 1e-3


def test_the_same_sound_gives_the_same_bytes(call: FloatArray) -> None:
    assert clip_bytes(call, RATE_HZ, 1.0, 2.0) == clip_bytes(call, RATE_HZ, 1.0, 2.0)


def test_nothing_of_the_call_stays_in_the_temporary_folder(
    call: FloatArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    clip_bytes(call, RATE_HZ, 1.0, 2.0)
    assert list(tmp_path.iterdir()) == []


def test_no_system_ffmpeg_is_needed_and_none_of_the_current_folder_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "ffmpeg"
    trap.write_text("#!/bin/sh\ntouch trapped\nexit 1\n")
    trap.chmod(0o755)
    code = (
        "import warnings; warnings.simplefilter('error', RuntimeWarning)\n"
        "import numpy as np; from callanalytics.audio.clips import clip_bytes\n"
        "print(len(clip_bytes(np.ones(8000, np.float32) * 0.1, 8000, 0.0, 1.0)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert int(done.stdout) > 500
    assert done.stderr == ""
    assert not (tmp_path / "trapped").exists()


def _audio(samples: FloatArray) -> Audio:
    return Audio(samples, RATE_HZ, RATE_HZ, "pcm_s16le", "wav", 0.0)


def _escalation(rule: str, *starts_s: float) -> Escalation:
    moments = tuple(Evidence(at, at + 1.0, "angry") for at in starts_s)
    return Escalation(rule, 1.0, 1.0, 0.5, "because", moments)


def test_every_rule_is_heard_before_one_is_heard_twice(call: FloatArray) -> None:
    found = (_escalation("a", 3.0, 5.0, 7.0), _escalation("b", 1.0, 3.0), _escalation("c"))
    chosen = evidence_clips(_audio(call), found, ReportSettings(max_clips_per_call=3, clip_context_s=2.0))
    assert [clip.name for clip in chosen] == ["00001000.mp3", "00003000.mp3", "00005000.mp3"]
    assert [(clip.start_s, clip.end_s) for clip in chosen] == [(0.0, 4.0), (1.0, 6.0), (3.0, 8.0)]
    assert all(len(clip.content) > 1000 for clip in chosen)
    assert evidence_clips(_audio(call), found, ReportSettings(max_clips_per_call=0)) == ()
    assert evidence_clips(_audio(call), (), ReportSettings()) == ()


def test_without_an_encoder_the_analysis_goes_on(
    call: FloatArray, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clips, "ENCODER", "nothing")
    assert evidence_clips(_audio(call), (_escalation("a", 1.0),), ReportSettings()) == ()
    assert "could not encode MP3 with nothing" in caplog.text
    with pytest.raises(NoEncoder, match="with nothing"):
        clip_bytes(call, RATE_HZ, 0.0, 1.0)

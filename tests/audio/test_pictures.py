"""Waveform and spectrogram pictures: they show where the sound is, and stay small."""

from __future__ import annotations

import io
import json
import time
import tracemalloc

import av
import numpy as np
import pytest

from callanalytics.audio.thumbnails import N_BANDS, N_COLUMNS, call_pictures, png, spectrogram, waveform
from callanalytics.records import Audio

RATE_HZ = 8000


def tone(hz: float, seconds: float, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def audio(*channels: np.ndarray) -> Audio:
    return Audio(
        samples=np.stack(channels),
        sample_rate_hz=RATE_HZ,
        native_rate_hz=RATE_HZ,
        codec="pcm_s16le",
        container="wav",
        clipped_share=0.0,
    )


def test_the_waveform_shows_where_it_is_loud() -> None:
    peaks = waveform(np.concatenate((np.zeros(4 * RATE_HZ, np.float32), tone(300, 4))))
    assert len(peaks) == N_COLUMNS
    assert peaks[:390].max() == 0
    assert peaks[410:].min() >= 126


def test_the_spectrogram_shows_pitch_from_low_to_high() -> None:
    rows = [
        spectrogram(tone(hz, 4), RATE_HZ).astype(int).sum(axis=1).argmax() for hz in (200, 700, 1500, 3000)
    ]
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) == 4
    silent = spectrogram(np.zeros(RATE_HZ, np.float32), RATE_HZ)
    assert silent.max() == 0


@pytest.mark.parametrize("n", [1, 100, 255, 801, 16_000])
def test_any_length_has_a_picture(n: int) -> None:
    sound = np.random.default_rng(n).uniform(-1, 1, n).astype(np.float32)
    assert spectrogram(sound, RATE_HZ).shape == (N_BANDS, min(n, N_COLUMNS))
    assert len(waveform(sound)) == min(n, N_COLUMNS)


def test_a_picture_takes_little_memory_however_long_the_call_is() -> None:
    """A worker's peak was here: all frames at once took 40 MB."""
    sound = np.random.default_rng(0).uniform(-1, 1, 600 * RATE_HZ).astype(np.float32)
    spectrogram(sound, RATE_HZ)
    tracemalloc.start()
    try:
        spectrogram(sound, RATE_HZ)
        assert tracemalloc.get_traced_memory()[1] < 15e6
    finally:
        tracemalloc.stop()


def test_the_png_is_one_that_others_read() -> None:
    levels = np.random.default_rng(0).integers(0, 16, (N_BANDS, 799)).astype(np.uint8)
    with av.open(io.BytesIO(png(levels))) as image:
        read = next(image.decode(video=0)).to_ndarray(format="gray").astype(int)
    assert read.shape == (N_BANDS, 799)
    assert (read == (15 - levels.astype(int)) * 17).all()


def test_pictures_of_an_hour_are_small_and_quick() -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, 3600 * RATE_HZ).astype(np.float32)
    started = time.process_time()
    found = call_pictures(audio(noise, noise), (0, 1))
    assert time.process_time() - started < 2
    assert [clip.name for clip in found] == [
        *("waveform-0.json", "spectrogram-0.png", "waveform-1.json", "spectrogram-1.png")
    ]
    assert all(len(clip.content) < 23_000 for clip in found)
    assert len(json.loads(found[0].content)["peaks"]) == N_COLUMNS

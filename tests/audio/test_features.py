"""Descriptors: equal to librosa's on the same frames, right on synthetic sound, finite on every edge."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from formats import FloatArray, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from callanalytics.features import FEATURE_COMMENTS, FEATURE_NAMES, extract
from callanalytics.features.frames import FRAME, HOP, N_FFT
from callanalytics.features.spectrum import FILTER_BANKS
from callanalytics.records import Features, Role, Segment

librosa = pytest.importorskip("librosa")
pytestmark = pytest.mark.usefixtures("librosa_ready")
RATE_HZ = 8000


def segment(start_s: float, end_s: float, channel: int = 0, index: int = 0) -> Segment:
    return Segment(index, "speaker_0", Role.CALLER, channel, start_s, end_s, 0.0)


def describe(sound: FloatArray) -> dict[str, float]:
    found = extract(sound[None], RATE_HZ, [segment(0.0, len(sound) / RATE_HZ)])
    return dict(zip(found.names, found.values[0].tolist(), strict=True))


def voice(
    f0_hz: FloatArray | float, seconds: float, rng: np.random.Generator, snr_db: float = 30.0
) -> FloatArray:
    """A buzz with formants around 500 and 1,500 Hz in the telephone band, plus noise."""
    n = round(seconds * RATE_HZ)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0_hz, n)) / RATE_HZ
    sound = np.zeros(n)
    for harmonic in range(1, int(3400 / float(np.min(f0_hz)))):
        at_hz = np.broadcast_to(harmonic * np.asarray(f0_hz, dtype=np.float64), n)
        gain = 1 / (1 + ((at_hz - 500) / 150) ** 2) + 0.4 / (1 + ((at_hz - 1500) / 200) ** 2) + 0.02
        carried = (at_hz > 250) & (at_hz < 3400)  # by a telephone
        sound += np.where(carried, gain, 0.0) * np.sin(harmonic * phase)
    sound *= 0.1 / sound.std()
    return (sound + rng.standard_normal(n) * 0.1 * 10 ** (-snr_db / 20)).astype(np.float32)


# --- equal to librosa ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speechlike() -> FloatArray:
    rng = np.random.default_rng(7)
    glide = 180 + 60 * np.sin(2 * np.pi * 0.7 * np.arange(3 * RATE_HZ) / RATE_HZ)
    loud = 0.15 + 0.85 * np.sin(np.pi * 3 * np.arange(3 * RATE_HZ) / RATE_HZ) ** 2
    sound = voice(glide.astype(np.float32), 3.0, rng, snr_db=20.0) * loud.astype(np.float32)
    return np.asarray(sound - sound.mean(), dtype=np.float32)


@pytest.fixture(scope="module")
def magnitude(speechlike: FloatArray) -> FloatArray:
    """librosa's own short-time transform of our frames: it centres the window in the FFT's length."""
    padded = np.pad(speechlike, (N_FFT - FRAME) // 2)
    spectrum = librosa.stft(padded, n_fft=N_FFT, hop_length=HOP, win_length=FRAME, center=False)
    return np.asarray(np.abs(spectrum))


@pytest.fixture(scope="module")
def mel_db(magnitude: FloatArray) -> FloatArray:
    mel = librosa.feature.melspectrogram(S=magnitude**2, sr=RATE_HZ, n_fft=N_FFT, n_mels=40)
    return np.asarray(librosa.power_to_db(mel, amin=1e-10, top_db=None))


def test_the_spectral_descriptors_are_librosas(speechlike: FloatArray, magnitude: FloatArray) -> None:
    found = describe(speechlike)
    feature = librosa.feature
    expected = {
        "centroid_hz": feature.spectral_centroid(S=magnitude, sr=RATE_HZ, n_fft=N_FFT),
        "bandwidth_hz": feature.spectral_bandwidth(S=magnitude, sr=RATE_HZ, n_fft=N_FFT),
        "rolloff_hz": feature.spectral_rolloff(S=magnitude, sr=RATE_HZ, n_fft=N_FFT),
        "zcr_share": feature.zero_crossing_rate(speechlike, frame_length=FRAME, hop_length=HOP, center=False),
    }
    for name, frames in expected.items():
        assert found[name] == pytest.approx(float(frames.mean()), rel=1e-3), name


def test_the_levels_are_librosas(speechlike: FloatArray) -> None:
    found = describe(speechlike)
    rms = librosa.feature.rms(y=speechlike, frame_length=FRAME, hop_length=HOP, center=False)[0]
    level_db = librosa.amplitude_to_db(rms, top_db=None)
    assert found["loudness_max_db"] == pytest.approx(float(level_db.max()), abs=0.01)
    assert found["loudness_std_db"] == pytest.approx(float(level_db.std()), abs=0.01)


def test_the_cepstrum_and_its_slopes_are_librosas(speechlike: FloatArray, mel_db: FloatArray) -> None:
    found = describe(speechlike)
    mfcc = librosa.feature.mfcc(S=mel_db, n_mfcc=13)
    delta = librosa.feature.delta(mfcc, width=9)
    for i in range(13):
        name = f"mfcc_{i + 1:02d}"
        assert found[f"{name}_mean"] == pytest.approx(float(mfcc[i].mean()), abs=0.01)
        assert found[f"{name}_std"] == pytest.approx(float(mfcc[i].std()), abs=0.01)
        assert found[f"{name}_delta_mean"] == pytest.approx(float(delta[i].mean()), abs=0.002)
        assert found[f"{name}_delta_std"] == pytest.approx(float(delta[i].std()), abs=0.002)


def test_flux_is_librosas_onset_strength(speechlike: FloatArray, mel_db: FloatArray) -> None:
    onset = librosa.onset.onset_strength(S=mel_db, sr=RATE_HZ, center=False)
    assert describe(speechlike)["flux_db"] == pytest.approx(float(onset.mean()), rel=1e-3)


def test_chroma_is_librosas(speechlike: FloatArray, magnitude: FloatArray) -> None:
    found = describe(speechlike)
    chroma = librosa.feature.chroma_stft(S=magnitude**2, sr=RATE_HZ, n_fft=N_FFT, tuning=0.0)
    for i in range(12):
        assert found[f"chroma_{i + 1:02d}_mean"] == pytest.approx(float(chroma[i].mean()), abs=1e-4)


def test_the_shipped_filters_are_those_of_the_installed_librosa() -> None:
    mel = librosa.filters.mel(sr=RATE_HZ, n_fft=N_FFT, n_mels=40)
    chroma = librosa.filters.chroma(sr=RATE_HZ, n_fft=N_FFT, n_chroma=12, tuning=0.0)
    with np.load(FILTER_BANKS) as shipped:
        np.testing.assert_allclose(shipped["mel"], mel, atol=1e-7)
        np.testing.assert_allclose(shipped["chroma"], chroma, atol=1e-6)


def test_the_night_does_not_import_librosa() -> None:
    code = (
        "import sys, numpy as np; from callanalytics.features import extract\n"
        "from callanalytics.records import Segment, Role\n"
        "extract(np.zeros((1, 8000), np.float32), 8000, [Segment(0, 's', Role.CALLER, 0, 0.0, 1.0, 0.0)])\n"
        "assert not {'librosa', 'numba', 'torch'} & set(sys.modules), 'heavy modules were imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- right on known sound --------------------------------------------------------------------------


@pytest.mark.parametrize("f0_hz", [75.0, 110.0, 150.0, 220.0, 310.0, 450.0])
@pytest.mark.parametrize("snr_db", [30.0, 10.0])
def test_pitch_of_a_voice_without_its_fundamental(
    f0_hz: float, snr_db: float, rng: np.random.Generator
) -> None:
    found = describe(voice(f0_hz, 2.0, rng, snr_db))
    assert found["f0_median_hz"] == pytest.approx(f0_hz, rel=0.01)
    assert found["f0_mean_hz"] == pytest.approx(f0_hz, rel=0.02)
    assert found["f0_std_st"] < 0.5
    assert found["voiced_share"] > 0.95


def test_pitch_range_of_a_glide(rng: np.random.Generator) -> None:
    octave = 120 * 2 ** np.linspace(0, 1, 3 * RATE_HZ)
    found = describe(voice(octave.astype(np.float32), 3.0, rng))
    assert found["f0_range_st"] == pytest.approx(0.9 * 12, abs=0.5)  # 5th to 95th percentile
    assert found["f0_std_st"] == pytest.approx(12 / np.sqrt(12), abs=0.3)  # of a uniform octave
    assert found["f0_median_hz"] == pytest.approx(120 * np.sqrt(2), rel=0.02)


@pytest.mark.slow  # half a minute of compiling pyin; voices of known pitch guard ours above
def test_pitch_agrees_with_pyin_where_both_hear_a_voice(speechlike: FloatArray) -> None:
    pyin, _, _ = librosa.pyin(
        speechlike, fmin=65, fmax=500, sr=RATE_HZ, frame_length=512, hop_length=HOP, center=False
    )
    assert describe(speechlike)["f0_median_hz"] == pytest.approx(float(np.nanmedian(pyin)), rel=0.02)


def test_harmonics_to_noise_follows_the_noise(rng: np.random.Generator) -> None:
    for snr_db in (5.0, 10.0, 15.0):
        assert describe(voice(150.0, 2.0, rng, snr_db))["hnr_db"] == pytest.approx(snr_db, abs=2.0)


def test_noise_has_no_pitch(rng: np.random.Generator) -> None:
    found = describe((0.1 * rng.standard_normal(24000)).astype(np.float32))
    assert found["voiced_share"] < 0.05


@pytest.mark.parametrize("n", [HOP, 3 * HOP + HOP - 1, RATE_HZ + 70])
def test_level_and_peak_are_of_every_sample_of_a_segment(n: int, rng: np.random.Generator) -> None:
    """Also of those after the last whole hop, and of no padding."""
    sound = (0.01 * rng.standard_normal(n)).astype(np.float32)
    sound[-1] = 0.9
    found = describe(sound)
    centred = sound - sound.mean()
    assert found["peak_db"] == pytest.approx(20 * np.log10(np.abs(centred).max()), abs=0.01)
    assert found["loudness_db"] == pytest.approx(10 * np.log10(np.mean(centred**2)), abs=0.01)


def test_levels_of_a_sine() -> None:
    found = describe(tone(3.0, RATE_HZ, 997.0, amplitude=0.5))
    assert found["loudness_db"] == pytest.approx(-9.03, abs=0.02)
    assert found["peak_db"] == pytest.approx(-6.02, abs=0.02)
    assert found["loudness_std_db"] < 0.05
    assert found["centroid_hz"] == pytest.approx(997.0, rel=0.02)
    assert found["zcr_share"] == pytest.approx(0.25, rel=0.01)


def test_chroma_hears_an_a() -> None:
    found = describe(tone(2.0, RATE_HZ, 880.0))
    classes = [found[f"chroma_{i + 1:02d}_mean"] for i in range(12)]
    assert int(np.argmax(classes)) == 9
    assert FEATURE_COMMENTS["chroma_10_mean"].split()[5].rstrip(",") == "A"


def test_loudness_is_that_of_bs1770() -> None:
    """The standard's own check: a 997 Hz sine at full scale on one channel reads -3.01 LUFS."""
    assert describe(tone(3.0, RATE_HZ, 997.0, amplitude=1.0))["loudness_lufs"] == pytest.approx(
        -3.01, abs=0.05
    )


def test_loudness_gates_out_the_pauses() -> None:
    speech = tone(2.0, RATE_HZ, 997.0)
    paused = np.concatenate([speech, np.zeros(4 * RATE_HZ, np.float32)])
    alone, found = describe(speech), describe(paused)
    assert found["loudness_db"] == pytest.approx(alone["loudness_db"] - 4.77, abs=0.1)
    assert found["loudness_lufs"] == pytest.approx(alone["loudness_lufs"], abs=0.7)


def test_loudness_agrees_with_ffmpegs_meter(speechlike: FloatArray) -> None:
    import av

    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE_HZ, format="flt", layout="mono")
    meter = graph.add("ebur128", "metadata=1")
    sink = graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.tile(speechlike, 2)[None], format="flt", layout="mono")
    frame.sample_rate = RATE_HZ
    graph.push(frame)
    graph.push(None)
    reading = None
    while True:
        try:
            pulled = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            break
        reading = float(pulled.metadata.get("lavfi.r128.I", "nan")) if hasattr(pulled, "metadata") else None
    if reading is None:
        pytest.skip("this PyAV does not show the meter's reading")
    assert describe(np.tile(speechlike, 2))["loudness_lufs"] == pytest.approx(reading, abs=0.5)


@pytest.mark.parametrize("rate_hz", [2.0, 4.0, 6.0])
def test_syllables_are_counted(rate_hz: float, rng: np.random.Generator) -> None:
    seconds = 4.0
    beat = np.sin(np.pi * rate_hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ) ** 2
    sound = voice(140.0, seconds, rng, snr_db=25.0) * (0.05 + 0.95 * beat.astype(np.float32))
    assert describe(sound)["syllable_rate_hz"] == pytest.approx(rate_hz, abs=0.3)


def test_each_segment_is_heard_on_its_own_channel_and_by_itself(rng: np.random.Generator) -> None:
    """Blocks and neighbours must not matter: many segments at once equal each one alone."""
    sound = np.stack([voice(120.0, 60.0, rng, 15.0), voice(230.0, 60.0, rng, 15.0)])
    starts = rng.uniform(0, 55, 200)
    many = [
        segment(float(at), float(at + length), channel=i % 2, index=i)
        for i, (at, length) in enumerate(zip(starts, rng.uniform(0.1, 4.0, 200), strict=True))
    ]
    together = extract(sound, RATE_HZ, many)
    for i in (0, 1, 57, 101, 198, 199):
        alone = extract(sound, RATE_HZ, [many[i]])
        np.testing.assert_allclose(together.values[i], alone.values[0], rtol=2e-3, atol=2e-3)
    pitch = together.column("f0_median_hz")
    assert np.nanmedian(pitch[0::2]) == pytest.approx(120, rel=0.02)
    assert np.nanmedian(pitch[1::2]) == pytest.approx(230, rel=0.02)


# --- edges -----------------------------------------------------------------------------------------

MAY_BE_NAN = {n for n in FEATURE_NAMES if n.startswith("f0_") or n == "hnr_db" or "_delta_" in n}


def assert_sane(found: Features) -> None:
    for name in FEATURE_NAMES:
        column = found.column(name)
        assert not np.isinf(column).any(), name
        if name not in MAY_BE_NAN:
            assert np.isfinite(column).all(), name
        if name.endswith("_share"):
            assert ((column >= 0) & (column <= 1)).all(), name


def test_silence_has_no_pitch_and_the_lowest_level() -> None:
    found = describe(np.zeros(16000, np.float32))
    assert np.isnan(found["f0_median_hz"])
    assert np.isnan(found["hnr_db"])
    for level in ("loudness_db", "loudness_max_db", "peak_db", "loudness_lufs"):
        assert found[level] == pytest.approx(-100.0)
    assert found["voiced_share"] == found["syllable_rate_hz"] == found["flux_db"] == 0.0
    assert_sane(extract(np.zeros((1, 16000), np.float32), RATE_HZ, [segment(0, 2)]))


def test_a_constant_offset_is_no_sound() -> None:
    speech = tone(1.0, RATE_HZ, 300.0, amplitude=0.1)
    plain, shifted = describe(speech), describe(speech + np.float32(0.3))
    for name in FEATURE_NAMES:
        assert shifted[name] == pytest.approx(plain[name], rel=0.02, abs=0.1, nan_ok=True), name


def test_no_segments_give_no_rows() -> None:
    found = extract(np.zeros((2, 8000), np.float32), RATE_HZ, [])
    assert found.values.shape == (0, len(FEATURE_NAMES))
    assert found.values.dtype == np.float32


def test_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="16000 Hz"):
        extract(np.zeros((1, 16000), np.float32), 16000, [segment(0, 1)])


def test_names_are_described_and_unique() -> None:
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 81
    assert all(FEATURE_COMMENTS[name] for name in FEATURE_NAMES)
    assert {"loudness_db", "f0_median_hz", "zcr_share", "mfcc_13_delta_std", "chroma_12_mean"} <= set(
        FEATURE_NAMES
    )


@settings(max_examples=60, deadline=None)
@given(
    spans=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1.5), st.integers(0, 1)), min_size=1, max_size=12),
    kind=st.sampled_from(["noise", "silence", "square", "click", "tiny"]),
)
def test_any_segments_of_any_sound_stay_sane(spans: list[tuple[float, float, int]], kind: str) -> None:
    sound = np.zeros((2, 20000), np.float32)
    if kind == "noise":
        sound[:] = np.random.default_rng(0).standard_normal(sound.shape) * 0.3
    elif kind == "square":
        sound[:] = np.sign(tone(2.5, RATE_HZ, 200.0))
    elif kind == "click":
        sound[:, ::1000] = 1.0
    elif kind == "tiny":
        sound[:] = tone(2.5, RATE_HZ, 200.0, amplitude=1e-30)
    segments = [segment(at, at + length, channel, i) for i, (at, length, channel) in enumerate(spans)]
    assert_sane(extract(sound, RATE_HZ, segments))

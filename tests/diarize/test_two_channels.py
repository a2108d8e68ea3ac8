"""Layouts told by speech: a dead side, one signal twice, and the other side's echo."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import lfilter
from telephone import RATE_HZ, FloatArray, music, tone

from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.quality import Quality
from callanalytics.diarize.two_channels import Layout, find_layout
from callanalytics.diarize.vad import FRAME_SAMPLES, frame_levels_db, stands_out
from callanalytics.records import BoolArray, ChannelLayout, Diarization, Role

LENGTH_S = 60


@pytest.fixture(scope="module")
def sides() -> tuple[FloatArray, BoolArray]:
    """(2, n) sound of two who talk in turns of 1.5 to 4 s, and (2, n) where each speaks.

    Buzz of changing pitch with some hiss, in syllables. Every third turn begins in the one before.
    """
    rng = np.random.default_rng(20261128)
    n = LENGTH_S * RATE_HZ
    spoken = np.zeros((2, n), np.bool_)
    at_s, turn = 0.5, 0
    while at_s < LENGTH_S - 5:
        end_s = at_s + rng.uniform(1.5, 4)
        spoken[turn % 2, round(at_s * RATE_HZ) : round(end_s * RATE_HZ)] = True
        at_s, turn = end_s + (-0.4 if turn % 3 == 2 else 0.5), turn + 1
    syllables = rng.uniform(0.2, 1.0, (2, n // 1200 + 1)).repeat(1200, axis=1)[:, :n]
    pitch_hz = rng.uniform(90, 220, (2, n // 2400 + 1)).repeat(2400, axis=1)[:, :n]
    buzz = np.sign(np.sin(2 * np.pi * np.cumsum(pitch_hz, axis=1) / RATE_HZ))
    sound = 0.1 * syllables * spoken * (buzz + rng.normal(0, 0.5, (2, n)))
    return sound.astype(np.float32), spoken


def late(sound: FloatArray, delay_s: float) -> FloatArray:
    n = round(delay_s * RATE_HZ)
    return np.concatenate([np.zeros((*sound.shape[:-1], n), sound.dtype), sound], axis=-1)[
        ..., : sound.shape[-1]
    ]


def through_gsm(sound: FloatArray) -> FloatArray:
    file = io.BytesIO()
    sf.write(file, np.clip(sound, -1, 1), RATE_HZ, format="WAV", subtype="GSM610")
    file.seek(0)
    decoded = sf.read(file, dtype="float32")[0][: len(sound)]
    return np.pad(decoded, (0, len(sound) - len(decoded)))


def layout_of(channels: FloatArray, heard: BoolArray, hint: ChannelLayout | None = None) -> Layout:
    """The layout when the voice detector hears speech where `heard` (2, n) says so."""
    samples = np.clip(channels + 1e-4 * np.random.default_rng(1).normal(size=channels.shape), -1, 1)
    samples = np.ascontiguousarray(samples, np.float32)
    probability = heard[:, ::FRAME_SAMPLES].astype(np.float32)
    return find_layout(samples, frame_levels_db(samples), probability, hint)


def test_two_sides_are_stereo_and_keep_their_speech(sides) -> None:
    found = layout_of(*sides)
    assert found.kind is ChannelLayout.STEREO
    assert found.channels == (0, 1)
    assert found.quality == frozenset()
    assert found.activity is not None
    assert np.mean(found.activity.active != sides[1][:, ::FRAME_SAMPLES]) < 0.02
    assert layout_of(*sides, ChannelLayout.PAIR).kind is ChannelLayout.PAIR


def test_of_two_silent_channels_the_first_is_listened_to() -> None:
    silent = np.zeros((2, RATE_HZ), np.float32)
    levels_db = frame_levels_db(silent)
    found = find_layout(silent, levels_db, np.zeros_like(levels_db), None)
    assert (found.kind, found.channels) == (ChannelLayout.ONE_SIDED, (0,))
    assert found.quality == {Quality.ONE_SIDED, Quality.DEAD_CHANNEL}


@pytest.mark.parametrize("faint", [0, 1])
@pytest.mark.parametrize("below_db", [30, 42, 47])
def test_a_side_that_speaks_is_heard_however_faint_it_is(sides, faint: int, below_db: float) -> None:
    """By its level alone a side 42 dB below the other was dead, and whoever spoke there was gone."""
    channels = sides[0].copy()
    channels[faint] *= 10 ** (-below_db / 20)
    found = layout_of(channels, sides[1])
    assert found.kind is ChannelLayout.STEREO
    assert found.quality == frozenset()
    assert found.activity is not None
    assert np.mean(found.activity.active[faint] != sides[1][faint, ::FRAME_SAMPLES]) < 0.15


@pytest.mark.parametrize("delay_s", [0.0, 0.25])
def test_a_faint_side_that_holds_the_other_side_only_is_silent(sides, delay_s: float) -> None:
    sound, spoken = sides[0][0], sides[1][0]
    leak = 10 ** (-47 / 20) * late(sound, delay_s)
    found = layout_of(np.stack([leak, sound]), np.stack([late(spoken, delay_s), spoken]))
    assert (found.kind, found.channels) == (ChannelLayout.ONE_SIDED, (1,))
    assert found.quality == {Quality.ONE_SIDED, Quality.DEAD_CHANNEL}


@pytest.mark.parametrize("kind", ["noise", "hum"])
def test_a_soft_voice_is_heard_beside_a_loud_side_that_nobody_speaks_on(sides, kind: str, rng) -> None:
    """Its frames lie 25 dB and more below what is no speech over there: all of them were dropped."""
    n = sides[0].shape[1]
    loud = 0.1 * rng.standard_normal(n) if kind == "noise" else tone((50, 150, 250), LENGTH_S, 0.1)
    voice, spoken = 10 ** (-25 / 20) * sides[0].sum(axis=0), sides[1].any(axis=0)
    found = layout_of(np.stack([loud, voice]), np.stack([np.zeros_like(spoken), spoken]))
    assert (found.kind, found.channels) == (ChannelLayout.ONE_SIDED, (1,))
    assert found.quality == {Quality.ONE_SIDED}


@pytest.mark.parametrize("delay_s", [0.0, 0.025, 0.04, 0.1, 0.3, 0.4, 0.7, 1.0])
@pytest.mark.parametrize("gain", [1.0, -1.0, 0.1, -0.1])
def test_a_late_copy_of_either_polarity_and_any_gain_is_one_signal(
    sides, delay_s: float, gain: float
) -> None:
    mix, spoken = sides[0].sum(axis=0), sides[1].any(axis=0)
    copy = gain * late(mix, delay_s)
    found = layout_of(np.stack([mix, copy]), np.stack([spoken, late(spoken, delay_s)]))
    assert found.kind is ChannelLayout.FAKE_STEREO
    assert found.channels == (0,)
    assert (Quality.DELAYED_COPY in found.quality) == (delay_s > 0)


@pytest.mark.parametrize(("delay_s", "gain"), [(0.04, 1.0), (0.3, 1.0), (0.1, -0.1)])
def test_a_codec_on_one_side_hides_no_copy(sides, delay_s: float, gain: float) -> None:
    mix, spoken = sides[0].sum(axis=0), sides[1].any(axis=0)
    coded = through_gsm(gain * late(mix, delay_s))
    found = layout_of(np.stack([coded, mix]), np.stack([late(spoken, delay_s), spoken]))
    assert found.kind is ChannelLayout.FAKE_STEREO
    assert found.channels == (1,)


def through_gain(sides: tuple[FloatArray, BoolArray], delay_s: float) -> tuple[FloatArray, BoolArray]:
    """Both sides, one of whom speaks softly, and late after an automatic gain; what is heard of them."""
    mix, spoken = sides[0][0] + 0.15 * sides[0][1], sides[1].any(axis=0)
    copy = late(mix, delay_s)
    level = np.sqrt(np.convolve(copy**2, np.ones(2400) / 2400, "same"))
    copy = (0.06 * copy / np.maximum(0.005, level)).astype(np.float32)
    return np.stack([mix, copy]), np.stack([spoken, late(spoken, delay_s)])


@pytest.mark.parametrize("delay_s", [-0.1, 0.05, 0.06, 0.1, 0.4])
def test_a_late_copy_through_an_automatic_gain_is_one_signal(sides, delay_s: float) -> None:
    """One speaks softly, and the gain of one leg brings both to one level: all was counted on both sides."""
    channels, heard = through_gain(sides, abs(delay_s))
    found = layout_of(channels, heard) if delay_s > 0 else layout_of(channels[::-1], heard[::-1])
    assert found.kind is ChannelLayout.FAKE_STEREO
    assert Quality.DELAYED_COPY in found.quality


@pytest.mark.parametrize("delay_s", [0.0, 0.049])
def test_what_comes_as_soon_as_leak_between_headsets_is_no_copy_by_its_waveform(
    sides, delay_s: float
) -> None:
    assert layout_of(*through_gain(sides, delay_s)).kind is not ChannelLayout.FAKE_STEREO


def test_one_answer_that_only_one_channel_has_makes_them_two_signals(sides) -> None:
    """A leaking monologue: nearly all of both channels is one signal, but not the caller's "yes"."""
    sound, spoken = sides[0][0].copy(), sides[1][0]
    answer, answered = sides[0][1].copy(), sides[1][1].copy()
    start = int(np.flatnonzero(answered & ~spoken)[0])
    answered[:] = False
    answered[start : start + RATE_HZ] = True
    answer[~answered] = 0
    leak = 0.3 * late(sound, 0.1)
    found = layout_of(np.stack([sound, answer + leak]), np.stack([spoken, late(spoken, 0.1) | answered]))
    assert found.kind is ChannelLayout.STEREO
    assert found.activity is not None
    heard = found.activity.active[1]
    assert heard[answered[::FRAME_SAMPLES]].mean() > 0.9
    assert heard[~answered[::FRAME_SAMPLES]].mean() < 0.02


@pytest.mark.parametrize("kind", ["noise", "hum", "music", "echo"])
@pytest.mark.parametrize("dead", [0, 1])
def test_a_side_without_speech_of_its_own_is_dead(sides, kind: str, dead: int, rng) -> None:
    """The detector takes a little of a loud side for speech, and all of an echo."""
    mix, spoken = sides[0].sum(axis=0), sides[1].any(axis=0)
    n = len(mix)
    other = {
        "noise": 0.02 * rng.standard_normal(n),
        "hum": tone((50, 150, 250), LENGTH_S, 0.02),
        "music": music(LENGTH_S),
        "echo": 0.3 * late(mix, 0.25),
    }[kind].astype(np.float32)
    taken = late(spoken, 0.25) if kind == "echo" else np.arange(n) < (0 if kind == "music" else 2 * RATE_HZ)
    channels, heard = np.stack([mix, other]), np.stack([spoken, taken])
    if dead == 0:
        channels, heard = channels[::-1], heard[::-1]
    found = layout_of(channels, heard)
    assert found.kind in (ChannelLayout.ONE_SIDED, ChannelLayout.FAKE_STEREO)
    assert found.kind is ChannelLayout.ONE_SIDED or kind == "echo"
    assert found.channels == (1 - dead,)
    assert found.quality & {Quality.ONE_SIDED, Quality.FAKE_STEREO}
    assert Quality.DEAD_CHANNEL not in found.quality


@pytest.mark.parametrize("leak_db", [10, 20])
@pytest.mark.parametrize("delay_s", [0.0, 0.04, 0.1, 0.25, 0.5])
def test_the_other_sides_echo_is_not_speech_of_this_side(sides, delay_s: float, leak_db: float) -> None:
    sound, spoken = sides
    leaking = sound + 10 ** (-leak_db / 20) * late(sound[::-1], delay_s)
    found = layout_of(leaking, spoken | late(spoken[::-1], delay_s))
    assert found.kind is ChannelLayout.STEREO
    assert found.quality == {Quality.ECHO if delay_s >= 0.1 else Quality.BLEED}
    assert found.activity is not None
    truth = spoken[:, ::FRAME_SAMPLES]
    assert found.activity.active.sum(axis=1) == pytest.approx(truth.sum(axis=1), rel=0.15)
    assert np.mean(found.activity.active & ~truth) < 0.03


# At the limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [0, 1])
@pytest.mark.parametrize(("n_frames", "is_copy"), [(34, True), (36, True), (37, False)])
def test_a_copy_is_sought_as_late_as_a_second_and_a_tenth(sides, n_frames: int, is_copy: bool, later) -> None:
    mix, spoken = sides[0].sum(axis=0), sides[1].any(axis=0)
    delay_s = n_frames * FRAME_SAMPLES / RATE_HZ
    by = [1, -1][later]
    channels, heard = np.stack([mix, late(mix, delay_s)]), np.stack([spoken, late(spoken, delay_s)])
    assert (layout_of(channels[::by], heard[::by]).kind is ChannelLayout.FAKE_STEREO) == is_copy


def test_leak_is_found_beside_a_constant_offset_and_up_to_the_end_of_the_recording(sides) -> None:
    """An offset of the line is no sound: it neither hides the leak nor makes it weaker."""
    sound, spoken = sides
    heard = spoken | late(spoken[::-1], 0.1)
    half_s = 16 * FRAME_SAMPLES
    end = int(np.flatnonzero(heard.all(axis=0))[-1]) // half_s * half_s - 100  # a probe begins before it
    leaking, heard = (sound + 0.1 * late(sound[::-1], 0.1))[:, :end], heard[:, :end]
    assert heard[:, -half_s:].all()
    plain, offset = layout_of(leaking, heard), layout_of(leaking + np.array([[0.3], [-0.2]]), heard)
    assert plain.activity is not None
    assert offset.activity is not None
    for leak, same in zip(plain.activity.leaks, offset.activity.leaks, strict=True):
        assert leak is not None
        assert same is not None
        assert (leak.below_db, leak.delay_s) == (pytest.approx(20, abs=0.5), pytest.approx(0.1, abs=1e-3))
        assert (same.below_db, same.delay_s) == (pytest.approx(leak.below_db, abs=0.1), leak.delay_s)


@pytest.mark.parametrize(("above_db", "kind"), [(6.5, "FAKE_STEREO"), (10.0, "STEREO")])
def test_a_channels_own_sound_stands_eight_db_above_the_other_and_its_noise(sides, above_db, kind) -> None:
    """One signal twice, and a second of soft speech that one channel has alone, in its noise of -45 dB."""
    rng = np.random.default_rng(3)
    mix, spoken = sides[0].sum(axis=0), sides[1].any(axis=0)
    mix[-3 * RATE_HZ :], spoken[-3 * RATE_HZ :] = 0, False
    noise = 10 ** (-45 / 20) * rng.standard_normal(len(mix))
    own = slice(-2 * RATE_HZ, -RATE_HZ)
    noise[own] *= 10 ** (above_db / 20)
    said = spoken.copy()
    said[own] = True
    assert layout_of(np.stack([mix, mix + noise]), np.stack([spoken, said])).kind is ChannelLayout[kind]


def with_own_rustle(channels: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Eight seconds of two channels, each with a rustle of its own: the levels tell no copy any more."""
    for side, at_s in ((0, 0.5), (1, 6.5)):
        start = round(at_s * RATE_HZ)
        channels[side, start : start + 6400] += 0.1 * rng.standard_normal(6400)
    return channels


@pytest.mark.parametrize(("said_s", "is_copy"), [(0.4, False), (1.2, True)])
def test_fewer_than_three_half_seconds_prove_no_copy_that_levels_do_not_show(said_s, is_copy, rng) -> None:
    """Both channels have a bang and what is said."""
    n, said = 8 * RATE_HZ, np.zeros(8 * RATE_HZ, np.bool_)
    said[2 * RATE_HZ : round((2 + said_s) * RATE_HZ)] = True
    bang = np.arange(n) // RATE_HZ == 4
    both = (0.1 * (said | bang) * rng.standard_normal(n)).astype(np.float32)
    channels = with_own_rustle(np.stack([both, late(both, 0.1)]), rng)
    found = layout_of(channels, np.stack([said, late(said, 0.1)]))
    assert (found.kind is ChannelLayout.FAKE_STEREO) == is_copy


@pytest.mark.parametrize(("by", "is_copy"), [(-13, False), (-12, True), (0, True), (12, True), (13, False)])
def test_a_copy_is_equally_late_throughout_within_a_millisecond_and_a_half(by, is_copy, rng) -> None:
    """The last of three seconds comes some samples (12 are 1.5 ms) later or earlier than the others."""
    n, said = 8 * RATE_HZ, np.zeros(8 * RATE_HZ, np.bool_)
    said[2 * RATE_HZ : 5 * RATE_HZ] = True
    deep = lfilter([0.03], [1, -0.95], rng.standard_normal(n))  # no sample's step tells of the next one's
    both = (said * deep).astype(np.float32)
    copy = late(both, 0.1)
    copy[4 * RATE_HZ + 800 :] = np.roll(copy, by)[4 * RATE_HZ + 800 :]
    found = layout_of(with_own_rustle(np.stack([both, copy]), rng), np.stack([said, late(said, 0.1)]))
    assert (found.kind is ChannelLayout.FAKE_STEREO) == is_copy


# Real calls ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models() -> SpeechModels:
    return SpeechModels()


@pytest.fixture(scope="module")
def call(data_dir: Path) -> FloatArray:
    """(2, n): a real call, caller left, agent right."""
    path = data_dir / "calls" / "harper-valley" / "stereo" / "00d676d7058c49bb.wav"
    return np.ascontiguousarray(sf.read(path, dtype="float32")[0].T)


@pytest.mark.parametrize("level", [0.0005, 0.002, 0.01])
def test_hum_on_the_callers_side_is_no_opening_of_the_caller(models, data_dir: Path, level: float) -> None:
    """The detector takes the first second of hum for speech, and whoever opens is taken for the agent."""
    path = data_dir / "calls" / "harper-valley" / "stereo" / "0091a706bc604188.wav"
    clean = np.ascontiguousarray(sf.read(path, dtype="float32")[0].T)
    humming = clean.copy()
    humming[0] += tone((50, 150, 250), clean.shape[1] / RATE_HZ, level)
    expected, found = diarize(clean, RATE_HZ, models=models), diarize(humming, RATE_HZ, models=models)
    assert found.roles == expected.roles
    assert found.turns[0].start_s >= expected.turns[0].start_s - 0.3


def test_what_is_soft_near_a_word_stands_out_and_steady_sound_does_not() -> None:
    rng = np.random.default_rng(5)
    levels_db = -54 + rng.uniform(-0.7, 0.7, 1000).astype(np.float32)
    levels_db[300:310] = -40
    out = np.flatnonzero(stands_out(levels_db))
    assert (out[0], out[-1]) == (297, 312)
    assert len(out) == 16
    assert not stands_out(np.full(50, -100, np.float32)).any()


@pytest.fixture(scope="module")
def caller_s(call, models) -> float:
    return talk_s(diarize(call, RATE_HZ, models=models))


def talk_s(found: Diarization) -> float:
    return sum(turn.duration_s for turn in found.turns if found.roles[turn.speaker] is Role.CALLER)


def built(kind: str, call: FloatArray) -> FloatArray:
    mix = call.mean(axis=0)
    n, rng = len(mix), np.random.default_rng(7)
    match kind:
        case "noise":
            return np.stack([mix, 0.006 * rng.uniform(-1, 1, n)])
        case "doubled":
            return np.stack([mix, late(mix, 0.3)])
        case "coded":
            return np.stack([through_gsm(-0.1 * late(mix, 0.04)), mix])
    return call + 10**-0.5 * late(call[::-1], 0.25 if kind == "echo" else 0.5)


@pytest.mark.parametrize(
    ("kind", "layout", "noted"),
    [
        ("noise", ChannelLayout.ONE_SIDED, Quality.ONE_SIDED),
        ("doubled", ChannelLayout.FAKE_STEREO, Quality.DELAYED_COPY),
        ("coded", ChannelLayout.FAKE_STEREO, Quality.DELAYED_COPY),
        ("echo", ChannelLayout.STEREO, Quality.ECHO),
        ("late echo", ChannelLayout.STEREO, Quality.ECHO),
    ],
)
def test_a_real_call_keeps_its_caller(models, call, caller_s, kind, layout, noted) -> None:
    found = diarize(built(kind, call).astype(np.float32), RATE_HZ, models=models)
    assert found.layout is layout
    assert noted in found.quality
    assert talk_s(found) == pytest.approx(caller_s, rel=0.15)

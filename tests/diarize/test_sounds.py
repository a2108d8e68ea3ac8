"""Tones, music and masking at, below and above what is asked of them; the detector is not asked."""

from __future__ import annotations

import numpy as np
import pytest
from telephone import MUSIC_WITHIN_S, RATE_HZ, FloatArray, music, noisy, silence, tone

from callanalytics.diarize.non_speech import covered_frames, find_non_speech
from callanalytics.diarize.vad import FRAME_S, frame_levels_db
from callanalytics.records import Sound, SoundSpan


def found(sound: FloatArray, probability: float = 0.0) -> list[tuple[Sound, float, float]]:
    """Spans of a sound on one channel, with line noise 60 dB down, when the detector says so much of it."""
    samples = sound[None].astype(np.float32)
    levels_db = frame_levels_db(samples)
    speech = np.full(levels_db.shape, probability, np.float32)
    return [(s.kind, s.start_s, s.end_s) for s in find_non_speech(samples, levels_db, speech, (0,))]


def amid(played: FloatArray, rng: np.random.Generator) -> FloatArray:
    return noisy(np.concatenate([silence(1), played, silence(1)]), rng)


def kinds(spans: list[tuple[Sound, float, float]]) -> list[Sound]:
    return [kind for kind, _, _ in spans]


@pytest.mark.parametrize(("seconds", "is_tone"), [(0.2, False), (0.4, True), (2.0, True)])
def test_a_tone_lasts_a_quarter_of_a_second(seconds: float, is_tone: bool, rng: np.random.Generator) -> None:
    spans = found(amid(tone((440, 480), seconds), rng))
    assert bool(spans) is is_tone
    for kind, start_s, end_s in spans:
        assert kind is Sound.TONE
        assert (start_s, end_s) == (pytest.approx(1, abs=0.1), pytest.approx(1 + seconds, abs=0.1))


def test_a_tone_lies_at_its_times_to_a_frame(rng: np.random.Generator) -> None:
    """Wherever in a frame it begins; on average less than half a frame late or early."""
    errors_s = []
    for lead_s in 1 + 0.011 * np.arange(6):
        sound = noisy(np.concatenate([silence(lead_s), tone((440, 480), 2.0), silence(1)]), rng)
        ((_, start_s, end_s),) = found(sound)
        errors_s.append((start_s - lead_s, end_s - lead_s - 2))
    assert np.abs(errors_s).max() <= FRAME_S
    assert abs(np.mean(errors_s)) < FRAME_S / 2


@pytest.mark.parametrize(
    ("frequencies_hz", "is_tone"),
    [
        ((220,), False),  # a voice's own pitch can stand alone there
        ((280,), True),
        ((440, 480), True),
        ((440, 1000), True),
        ((500, 1500, 2500), False),  # two hold nearly all the power of a tone
    ],
)
def test_a_tone_is_one_or_two_frequencies_above_a_voice(
    frequencies_hz: tuple[float, ...], is_tone: bool, rng: np.random.Generator
) -> None:
    assert kinds(found(amid(tone(frequencies_hz, 1.0), rng))) == [Sound.TONE] * is_tone


@pytest.mark.parametrize(("noise", "is_tone"), [(0.005, True), (0.012, True), (0.02, False), (0.06, False)])
def test_a_tone_holds_nearly_all_the_power(noise: float, is_tone: bool, rng: np.random.Generator) -> None:
    sound = tone((440,), 2.0) + noise * rng.standard_normal(2 * RATE_HZ)
    assert bool(found(sound)) is is_tone


def test_a_tone_that_glides_is_none(rng: np.random.Generator) -> None:
    hz = np.linspace(400, 3000, 2 * RATE_HZ)
    assert found(amid(0.1 * np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ), rng)) == []


@pytest.mark.parametrize(("level", "is_tone"), [(0.003, False), (0.006, True)])
def test_what_is_not_audible_is_nothing(level: float, is_tone: bool) -> None:
    """A tone of amplitude 0.0045 has -50 dB."""
    assert bool(found(tone((440,), 2.0, level))) is is_tone


@pytest.mark.parametrize(("probability", "is_tone"), [(0.89, True), (0.91, False)])
def test_clear_speech_is_not_looked_at(probability: float, is_tone: bool) -> None:
    assert bool(found(tone((440,), 2.0), probability)) is is_tone


@pytest.mark.parametrize("low", [697, 770, 852, 941])
@pytest.mark.parametrize("high", [1209, 1336, 1477, 1633])
def test_every_key_is_a_tone_though_short(low: int, high: int, rng: np.random.Generator) -> None:
    assert kinds(found(amid(tone((low, high), 0.1), rng))) == [Sound.TONE]


@pytest.mark.parametrize("pair", [(620, 1209), (697, 1100), (697, 1800), (1050, 1336)])
def test_other_short_pairs_are_no_keys(pair: tuple[int, int], rng: np.random.Generator) -> None:
    assert found(amid(tone(pair, 0.1), rng)) == []


@pytest.mark.parametrize(("seconds", "is_music"), [(2.0, False), (4.5, False), (4.7, True), (12.0, True)])
def test_music_lasts_four_seconds(seconds: float, is_music: bool, rng: np.random.Generator) -> None:
    """And is found a little shorter than it is (`MUSIC_WITHIN_S`)."""
    spans = found(amid(music(seconds), rng))
    assert kinds(spans) == [Sound.MUSIC] * is_music


@pytest.mark.parametrize("lead_s", [0.5, 1.0, 1.013, 3.3])
def test_music_lies_so_much_within_its_times_to_a_frame_and_a_half(
    lead_s: float, rng: np.random.Generator
) -> None:
    late_s, early_s = MUSIC_WITHIN_S
    for seconds in (5.0, 6.01, 9.0):
        sound = noisy(np.concatenate([silence(lead_s), music(seconds), silence(2)]), rng)
        ((kind, start_s, end_s),) = found(sound)
        assert kind is Sound.MUSIC
        assert start_s == pytest.approx(lead_s + late_s, abs=1.5 * FRAME_S)
        assert end_s == pytest.approx(lead_s + seconds - early_s, abs=1.5 * FRAME_S)


def test_half_a_second_around_a_tone_is_no_music(rng: np.random.Generator) -> None:
    sound = noisy(np.concatenate([silence(1), tone((440, 480), 2.0), music(8), silence(1)]), rng)
    (_, _, tone_end_s), (kind, start_s, _) = found(sound)
    assert kind is Sound.MUSIC
    assert tone_end_s == pytest.approx(3.0, abs=1.5 * FRAME_S)
    assert start_s - tone_end_s >= 0.5 - FRAME_S / 2


@pytest.mark.parametrize(("probability", "is_music"), [(0.89, True), (0.91, False)])
def test_music_that_is_clearly_speech_is_none(
    probability: float, is_music: bool, rng: np.random.Generator
) -> None:
    assert bool(found(amid(music(8), rng), probability)) is is_music


@pytest.mark.parametrize(("drop_db", "is_music"), [(15, True), (32, False)])
def test_music_that_pauses_as_speech_does_is_none(
    drop_db: float, is_music: bool, rng: np.random.Generator
) -> None:
    """In each second a third is that much softer: audible, and with the same notes."""
    played = 2 * music(9)
    soft = np.arange(len(played)) % RATE_HZ > 0.67 * RATE_HZ
    played[soft] *= 10 ** (-drop_db / 20)
    assert bool(found(noisy(played, rng, 1e-4))) is is_music


def test_noise_and_syllables_are_no_music(rng: np.random.Generator) -> None:
    assert found(0.1 * rng.standard_normal(8 * RATE_HZ)) == []
    pitch_hz = rng.uniform(90, 220, 160).repeat(400)
    buzz = 0.1 * np.sign(np.sin(2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ))
    assert found(noisy(buzz, rng)) == []


@pytest.mark.parametrize(("seconds", "is_masked"), [(0.99, False), (1.0, True), (1.01, True)])
def test_masking_is_a_second_of_exact_zeros_amid_sound(
    seconds: float, is_masked: bool, rng: np.random.Generator
) -> None:
    hiss = noisy(silence(2), rng)
    spans = found(np.concatenate([hiss, silence(seconds), hiss]))
    assert spans == [(Sound.MASKED, 2.0, 2.0 + seconds)] * is_masked
    assert found(np.concatenate([silence(3), hiss])) == [], "not at the start"
    click = np.full(1, 0.1, np.float32)
    assert found(np.concatenate([click, silence(1.5), hiss])) == [
        (Sound.MASKED, 1 / RATE_HZ, 1.5 + 1 / RATE_HZ)
    ]
    assert found(np.concatenate([hiss, silence(3)])) == [], "nor at the end"


@pytest.mark.parametrize(("n_pauses", "n_masked"), [(3, 3), (4, 0)])
def test_zeros_at_every_pause_are_a_habit(n_pauses: int, n_masked: int, rng: np.random.Generator) -> None:
    """More than three in 30 s, or than one in ten seconds of a longer call."""
    parts = [part for _ in range(n_pauses) for part in (noisy(silence(1), rng), silence(1.5))]
    assert len(found(np.concatenate([*parts, noisy(silence(1), rng)]))) == n_masked


def test_zeros_at_every_pause_are_a_habit_also_beside_minutes_of_silence(rng: np.random.Generator) -> None:
    """Five pauses were payment masking as soon as the call had a minute on hold."""
    parts = [part for _ in range(5) for part in (noisy(silence(1), rng), silence(1.5))]
    assert found(np.concatenate([silence(120), *parts, noisy(silence(1), rng)])) == []


def test_spans_cover_the_frames_of_their_own_channel_and_music_apart() -> None:
    spans = (
        SoundSpan(Sound.TONE, 1, 10 * FRAME_S, 20 * FRAME_S),
        SoundSpan(Sound.MUSIC, 0, 0.0, 2 * FRAME_S),
    )
    blocked, music = covered_frames(spans, (2, 40))
    assert np.argwhere(blocked).tolist() == [[1, frame] for frame in range(10, 20)]
    assert np.argwhere(music).tolist() == [[0, 0], [0, 1]]


def test_spans_come_by_start_with_the_channel_as_it_is_called(rng: np.random.Generator) -> None:
    one = noisy(np.concatenate([silence(3), tone((440,), 1)]), rng)
    other = noisy(np.concatenate([tone((900,), 1), silence(3)]), rng)
    samples = np.stack([one, other])
    levels_db = frame_levels_db(samples)
    spans = find_non_speech(samples, levels_db, np.zeros_like(levels_db), (7, 9))
    assert [(span.channel, round(span.start_s)) for span in spans] == [(9, 0), (7, 3)]


@pytest.mark.parametrize("n", [0, 1, 255, 511, 512, 700])
def test_sound_shorter_than_a_window_is_nothing(n: int) -> None:
    assert found(np.full(n, 0.1, np.float32)) == []

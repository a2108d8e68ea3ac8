"""Augmentation: each switch does what it says, everything comes from the seed."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from ensemble.training.augmentation import (
    CLEAN,
    CODINGS,
    TELEPHONE,
    AugmentSettings,
    add_at_snr,
    augment,
    change_speed,
    channel_level,
    coded_speech,
    coloured_noise,
    companded,
    lose_packets,
    recoded,
    speech_rms,
    stretch_time,
    telephone,
)
from ensemble.training.examples import BatchAugment
from ensemble.training.training_settings import BatchSettings

SWITCHES = (
    "speed",
    "pitch",
    "stretch",
    "reverb",
    "noise",
    "babble",
    "telephone",
    "packet_loss",
    "gain",
    "agc",
)


@pytest.fixture
def tone():
    t = np.arange(16000) / 8000
    return (0.2 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


def peak_hz(samples):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return np.argmax(spectrum) * 8000 / samples.size


def test_all_switches_off_change_nothing(tone):
    np.testing.assert_array_equal(augment(tone, CLEAN, 1, 2, [tone]), tone)


def test_there_is_a_switch_for_each_of_these():
    assert set(SWITCHES) <= {f.name for f in fields(AugmentSettings)}


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_alone_changes_something_by_its_seed(tone, rng, switch):
    other = rng.standard_normal(9000).astype(np.float32) * 0.1
    settings = replace(CLEAN, **{switch: 1.0})
    # A channel of its own for the switch that only acts where a clip has a channel around it.
    channel_rms = 0.02 if switch == "agc" else None
    if switch == "agc":
        settings = replace(settings, telephone=1.0)
        other_way = augment(tone, replace(settings, agc=0.0), 9, 8, channel_rms=channel_rms)
        assert np.abs(augment(tone, settings, 9, 8, channel_rms=channel_rms) - other_way).max() > 1e-3
    once, again = (augment(tone, settings, 9, 8, [other], channel_rms=channel_rms) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.dtype == np.float32
    assert np.isfinite(once).all()
    assert once.shape != tone.shape or np.abs(once - tone).max() > 1e-3


def test_one_switch_does_not_change_anothers_draw(tone):
    quiet = augment(tone, replace(CLEAN, gain=1.0), 3, 4)
    with_packets = augment(tone, replace(CLEAN, gain=1.0, packet_loss=1.0), 3, 4)
    kept = with_packets != 0
    np.testing.assert_allclose(with_packets[kept], quiet[kept], atol=1e-6)


def test_one_channel_seed_is_one_channel(tone, rng):
    settings = replace(CLEAN, gain=1.0, telephone=1.0)
    a, b = augment(tone, settings, 5, 1), augment(tone, settings, 5, 2)
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - augment(tone, settings, 6, 1)).max() > 1e-3


def test_a_channel_keeps_the_levels_of_its_clips_against_each_other(tone):
    loud, soft = tone, tone * 0.25
    level = channel_level([loud, soft])
    once = [speech_rms(augment(c, TELEPHONE, 5, 1, channel_rms=level)) for c in (loud, soft)]
    assert 20 * np.log10(once[0] / once[1]) == pytest.approx(12.04, abs=0.5)
    alone = [speech_rms(augment(c, TELEPHONE, 5, 1)) for c in (loud, soft)]
    assert 20 * np.log10(alone[0] / alone[1]) == pytest.approx(0, abs=0.5)
    levelled = replace(TELEPHONE, agc=1.0)
    less = [speech_rms(augment(c, levelled, 5, 1, channel_rms=level)) for c in (loud, soft)]
    assert 2 < 20 * np.log10(less[0] / less[1]) < 10


def test_speed_moves_length_and_pitch_together(tone):
    fast = change_speed(tone, 1.1)
    assert len(fast) == pytest.approx(len(tone) / 1.1, abs=1)
    assert peak_hz(fast[:12000]) == pytest.approx(484, abs=3)


def test_stretch_moves_length_and_not_pitch(tone):
    slow = stretch_time(tone, 0.8)
    assert len(slow) == pytest.approx(len(tone) / 0.8, abs=64)
    assert peak_hz(slow[1000:15000]) == pytest.approx(440, abs=3)
    assert np.sqrt(np.mean(slow[1000:-1000] ** 2)) == pytest.approx(0.2 / np.sqrt(2), rel=0.1)


def test_telephone_keeps_its_band_and_level(rng):
    noise = rng.standard_normal(32000).astype(np.float32) * 0.3
    for codec in ("mu-law", "a-law", "gsm", "none"):
        sent = telephone(noise, codec)
        assert len(sent) == len(noise)
        assert 10 * np.log10(np.mean(sent**2)) == pytest.approx(-26, abs=3)
        power = np.abs(np.fft.rfft(sent)) ** 2
        hz = np.fft.rfftfreq(sent.size, 1 / 8000)
        inside = power[(hz > 500) & (hz < 3000)].mean()
        # a codec adds noise of its own everywhere
        assert power[hz < 120].mean() < 0.1 * inside


@pytest.mark.parametrize("law", ["mu-law", "a-law"])
def test_companding_is_eight_bits_of_nearly_even_quality(law):
    ramp = np.linspace(-1, 1, 4001).astype(np.float32)
    out = companded(ramp, law)
    assert len(np.unique(out)) <= 256
    loud = np.abs(ramp) > 0.05
    assert np.max(np.abs(out - ramp)[loud] / np.abs(ramp)[loud]) < 0.04
    np.testing.assert_allclose(out, -out[::-1], atol=1e-6)


def test_noise_comes_at_the_asked_ratio(tone, rng):
    for snr_db in (5, 20):
        noisy = add_at_snr(tone, coloured_noise(tone.size, 1.0, rng), snr_db)
        noise_power = np.mean((noisy - tone) ** 2)
        assert 10 * np.log10(np.mean(tone**2) / noise_power) == pytest.approx(snr_db, abs=2)


def test_lost_packets_are_whole_and_as_many_as_asked(rng):
    kept = lose_packets(np.ones(80000, np.float32), 0.1, rng).reshape(-1, 160)
    assert set(kept.mean(axis=1)) == {0.0, 1.0}
    assert (kept.mean(axis=1) == 0).mean() == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize("n_samples", [1, 100, 700, 7919])
def test_any_length_survives_everything(n_samples, rng):
    wave = rng.standard_normal(n_samples).astype(np.float32) * 0.1
    every = AugmentSettings(**dict.fromkeys(SWITCHES, 1.0))
    out = augment(wave, every, 1, 2, [wave])
    assert np.isfinite(out).all()
    assert out.size > 0.5 * n_samples


def batch(n=16):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    mask = torch.ones(n, 50)
    mask[3, 30:] = 0
    return torch.randn(n, 50, 64) * mask[:, :, None], mask, torch.eye(6)[torch.arange(n) % 6]


def test_batches_are_changed_by_the_seed_and_padding_stays_empty():
    mel, mask, target = batch()
    one, _, t1 = BatchAugment(BatchSettings(), 4)(mel, mask, target, mix=True)
    same, _, t2 = BatchAugment(BatchSettings(), 4)(mel, mask, target, mix=True)
    other, _, _ = BatchAugment(BatchSettings(), 5)(mel, mask, target, mix=True)
    assert (one == same).all()
    assert (t1 == t2).all()
    assert (one != other).any()
    assert np.allclose(t1.sum(dim=1), 1)
    unmixed, kept, targets = BatchAugment(BatchSettings(), 4)(mel, mask, target, mix=False)
    assert (unmixed[3, 30:] == 0).all()
    assert (kept == mask).all()
    assert (targets == target).all()


def test_batch_switches_off_change_nothing():
    off = BatchSettings(time_masks=0, band_masks=0, warp=0, mixup=0, tilt=0)
    mel, mask, target = batch()
    out, _, _ = BatchAugment(off, 1)(mel, mask, target, mix=True)
    assert np.abs((out - mel)[:, :, :-1]).max() < 1e-5
    assert np.abs(out - mel).max() < 0.01


def test_the_telephone_setting_is_only_the_telephone(tone):
    settings = replace(TELEPHONE)
    assert [s for s in SWITCHES if getattr(settings, s)] == ["telephone"]


@pytest.mark.parametrize("coding", ["gsm", *CODINGS])
def test_a_coding_keeps_the_sound_in_its_place_and_costs_some_of_it(coding, rng):
    t = np.arange(20_000) / 8000
    buzz = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20)) * (np.sin(2 * np.pi * 3 * t) > 0)
    sound = (0.1 * buzz + 0.003 * rng.standard_normal(t.size)).astype(np.float32)
    heard = recoded(sound, coding)
    assert heard.dtype == np.float32
    assert heard.shape == sound.shape
    assert not np.array_equal(heard, sound)
    loud = [np.convolve(x**2, np.ones(400), "same") for x in (sound, heard)]
    late = int(np.argmax(np.correlate(loud[1], loud[0], "full"))) - (t.size - 1)
    assert abs(late) < 80, "10 ms"
    assert np.corrcoef(*loud)[0, 1] > 0.9


def test_a_channel_has_one_coding_and_others_draw_as_before(tone):
    plain, coded = TELEPHONE, replace(TELEPHONE, codings=("mp3-8",))
    sent = augment(tone, plain, 3, 4)
    np.testing.assert_array_equal(augment(tone, coded, 3, 4), recoded(sent, "mp3-8"))


def test_recordings_of_wide_speech_leave_out_what_is_telephone_only():
    assert coded_speech(16_000).codings == ("mp3-16", "opus-8")
    assert "amr-5.9" in coded_speech(8000).codings
    tone = np.sin(np.arange(16_000) / 10).astype(np.float32) / 4
    for coding in coded_speech(16_000).codings:
        assert recoded(tone, coding, 16_000).shape == tone.shape

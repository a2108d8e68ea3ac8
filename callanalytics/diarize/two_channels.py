"""Two-channel recordings: true stereo or not, and the speech of each channel without the other side's leak.

A headset, a handset, a hybrid or a conference bridge lets one voice into the other's channel, 10 to 40 dB
down and up to half a second late; voice activity alone counts it as speech (68 % error on calls with bleed).
What decides is speech that is a channel's own: neither the other channel's, nor noise, hum or music.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from callanalytics.diarize.quality import Quality
from callanalytics.diarize.vad import (
    FRAME_S,
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    SILENCE_DB,
    IntArray,
    above,
    runs,
    stands_out,
    steady_db,
    widen,
)
from callanalytics.records import BoolArray, ChannelLayout, FloatArray

# Two thresholds of Silero's authors: enter at 0.5, leave 0.15 lower.
ON, OFF = 0.5, 0.35
# Speech of one person stays within this many dB below their loud frames (the 90th percentile).
_SPEECH_RANGE_DB = 35.0
# Both people of a call are audible: the quieter one's loud frames are at most this far below.
_SIDE_RANGE_DB = 20.0
# Without proof of leak a frame is still dropped when the other side speaks, or has just spoken, this much
# louder. Noise, hum or music over there masks nobody: it does not sound like speech here.
_MASKING_DB, _MASKED_FRAMES = 20.0, round(0.5 / FRAME_S)
_LEAK_MARGIN_DB = 6.0
_LEAK_CORRELATION = 0.5
_LOUDEST_LEAK_DB = 3.0
_LEAK_PROBES = 40
_PROBE_FRAMES = round(0.5 / FRAME_S)
# Half a second is the round trip of a call over a satellite or two mobile networks (ITU-T G.114, G.131).
_MAX_ECHO_SAMPLES = round(0.55 * SAMPLE_RATE_HZ)
# A delay that is heard as an echo and no longer as colour (ITU-T G.131: 25 ms one way).
_HEARD_AS_ECHO_S = 0.05
# Probes of one leak agree on its delay; those of two strangers' speech fall anywhere in half a second.
_SAME_DELAY_SAMPLES = round(0.0015 * SAMPLE_RATE_HZ)
_AGREEING_PROBES, _AGREEING_SHARE = 3, 0.15
# The echo of a frame reaches into the next ones.
_ECHO_FRAMES = (0, 1, 2, 4, 6)
# A side is not listened to when it holds less speech of its own than the shortest answer (a "yes" lasts about
# 0.3 s)...
_SHORTEST_ANSWER_S = 0.3
# ...where speech stands this far above the steady sound of its channel.
_ABOVE_FLOOR_DB = 3.0
# It is called silent, too, when its loudest second of frames stays below this, or so far below that of the
# other side: line noise and leak only. A caller may be as faint, so the level alone decides nothing.
_SILENT_DB, _SILENT_BELOW_OTHER_DB = -60.0, 45.0
# One signal twice: the levels of both channels run alike at one delay of a second or less. Measured:
# 0.95 and more for copies, also through GSM; 0.90 and less for two sides with leak at -10 dB.
_MAX_COPY_FRAMES = round(1.1 / FRAME_S)
_COPY_CORRELATION = 0.8
_COPY_RANGE_DB = 35.0
# Levels that run less alike may still be those of a copy, through a filter or a gain that follows the speech:
# then every half second of either channel's speech is in the other.
_MAYBE_COPY = 0.4
_COPY_SLACK_FRAMES = 3
# Of half seconds of five real calls: copies 0.47 and more, own speech beside an echo 0.38 and less.
_COPIED_CORRELATION = 0.4
# What one channel has and the other lacks: a codec and frames that lie askew make little of it.
_OWN_SOUND_DB = 8.0
_OWN_SOUND_SHARE = 0.005
_OWN_RUN_S = 0.25
_SMOOTH_FRAMES = 8
_CLEARLY_LOUDER_DB = 3.0  # of two copies the louder one is heard, or else the first


@dataclass(frozen=True, slots=True)
class SideActivity:
    """Which frames of which side hold its own voice.

    active: (2, n_frames) bool. leaks: per receiving channel, how the other side's voice arrives there; None
    where no leak was found.
    """

    active: BoolArray
    leaks: tuple[Leak | None, Leak | None]


@dataclass(frozen=True, slots=True)
class Leak:
    """The voice of the other side in a channel: how far below itself, and how late."""

    below_db: float
    delay_s: float


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout, the channels to listen to, and what each holds.

    activity: of both sides where each is listened to, else None.
    quality: what is to be said of it.
    """

    kind: ChannelLayout
    channels: tuple[int, ...] = (0,)
    activity: SideActivity | None = None
    quality: frozenset[Quality] = frozenset()


def find_layout(
    samples: FloatArray, levels_db: FloatArray, probability: FloatArray, hint: ChannelLayout | None
) -> Layout:
    """Decide how the voices lie.

    Args:
        samples: (1 or 2, n).
        levels_db, probability: (1 or 2, n_frames) level of the frames and how likely they hold speech, 0 in
            tones, music and masking.
        hint: PAIR when the channels came from two files; kept where each holds speech of its own.
    """
    if samples.shape[0] == 1:
        return Layout(ChannelLayout.MONO)
    loudest_db = [_loudest_second_db(levels) for levels in levels_db]
    louder = int(loudest_db[1] > loudest_db[0])
    speech = _speech(levels_db, probability)
    activity = side_activity(samples, levels_db, speech)
    own_s = _own_speech_s(levels_db, activity.active)
    is_silent = min(loudest_db) < max(_SILENT_DB, max(loudest_db) - _SILENT_BELOW_OTHER_DB)
    if is_silent and own_s[1 - louder] < _SHORTEST_ANSWER_S:
        noted = frozenset({Quality.ONE_SIDED, Quality.DEAD_CHANNEL})
        return Layout(ChannelLayout.ONE_SIDED, (louder,), quality=noted)
    delay = _copy_delay(samples, levels_db, speech)
    if delay is not None:
        noted = frozenset({Quality.FAKE_STEREO} | ({Quality.DELAYED_COPY} if delay else set()))
        is_clearer = abs(loudest_db[1] - loudest_db[0]) > _CLEARLY_LOUDER_DB
        return Layout(ChannelLayout.FAKE_STEREO, (louder if is_clearer else int(delay < 0),), quality=noted)
    if own_s.min() < _SHORTEST_ANSWER_S <= own_s.max():
        noted = frozenset({Quality.ONE_SIDED})
        return Layout(ChannelLayout.ONE_SIDED, (int(own_s.argmax()),), quality=noted)
    kind = ChannelLayout.PAIR if hint is ChannelLayout.PAIR else ChannelLayout.STEREO
    noted = frozenset(
        Quality.ECHO if leak.delay_s >= _HEARD_AS_ECHO_S else Quality.BLEED for leak in activity.leaks if leak
    )
    return Layout(kind, (0, 1), activity, noted)


def _loudest_second_db(levels_db: FloatArray) -> float:
    """Level reached by the loudest 31 frames (1 s), or by half of them in a shorter recording."""
    n = len(levels_db)
    if n == 0:
        return SILENCE_DB
    rank = min(SAMPLE_RATE_HZ // FRAME_SAMPLES, max(1, n // 2))
    return float(np.partition(levels_db, n - rank)[n - rank])


def _own_speech_s(levels_db: FloatArray, active: BoolArray) -> FloatArray:
    """Seconds of each side's own speech (2,) that stand above the steady sound of its channel."""
    clear = levels_db > steady_db(levels_db) + _ABOVE_FLOOR_DB
    seconds: FloatArray = (active & clear).sum(axis=1) * FRAME_S
    return seconds


# One signal twice ------------------------------------------------------------------------------------------


def _copy_delay(samples: FloatArray, levels_db: FloatArray, speech: BoolArray) -> int | None:
    """Frames by which channel 1 repeats channel 0 (less than 0 the other way); None for two signals.

    Told by levels, which gain, polarity and codecs leave alike: they run together at one delay, and neither
    channel holds speech where the other, raised by the gain between them, does not. A filter or a gain that
    follows the speech bends the levels; then it is told by the waveform.
    """
    n_frames = levels_db.shape[1]
    if n_frames < 2 * _SMOOTH_FRAMES:
        return None
    tops_db = np.percentile(levels_db, 98, axis=1, keepdims=True)
    shape = np.clip(levels_db, tops_db - _COPY_RANGE_DB, tops_db).astype(np.float64)
    shape -= shape.mean(axis=1, keepdims=True)
    power = float(np.sqrt((shape**2).sum(axis=1).prod()))
    if power < 1e-6:
        return None
    size = 1 << (2 * n_frames).bit_length()
    first, second = np.fft.rfft(shape, size)
    most = min(_MAX_COPY_FRAMES, n_frames // 2)
    alike = np.roll(np.fft.irfft(second * np.conj(first), size), most)[: 2 * most + 1] / power
    delay: int = int(alike.argmax()) - most
    if alike.max() >= _COPY_CORRELATION and not _own_sound(levels_db, speech, delay):
        return delay
    if alike.max() >= _MAYBE_COPY and _is_late_copy(samples, speech, delay):
        return delay
    return None


def _own_sound(levels_db: FloatArray, speech: BoolArray, delay: int) -> bool:
    """Whether a channel holds speech that the other one, `delay` frames later and raised, does not hold."""
    n_frames = levels_db.shape[1]
    begin, end = max(0, -delay), min(n_frames, n_frames - delay)
    aligned = np.stack([levels_db[0, begin:end], levels_db[1, begin + delay : end + delay]])
    spoken = np.stack([speech[0, begin:end], speech[1, begin + delay : end + delay]])
    smooth_db = np.stack([_smoothed_db(row) for row in aligned])
    loud = (smooth_db > smooth_db.max(axis=1, keepdims=True) - _SIDE_RANGE_DB).all(axis=0)
    gain_db = float(np.median(smooth_db[1, loud] - smooth_db[0, loud])) if loud.any() else 0.0
    for side, raised_db in ((1, gain_db), (0, -gain_db)):
        floor_db = float(np.percentile(smooth_db[side], 5))
        expected_db = _power_sum_db(smooth_db[1 - side] + raised_db, floor_db)
        own = spoken[side] & (smooth_db[side] > expected_db + _OWN_SOUND_DB)
        lengths_s = np.diff(runs(own), axis=1) * FRAME_S
        most_s = max(_SHORTEST_ANSWER_S, _OWN_SOUND_SHARE * float(spoken[side].sum()) * FRAME_S)
        if float(lengths_s[lengths_s >= _OWN_RUN_S].sum()) >= most_s:
            return True
    return False


def _is_late_copy(samples: FloatArray, speech: BoolArray, delay: int) -> bool:
    """Whether all speech of either channel is found in the other at one delay, of about `delay` frames.

    An echo is not: what the other side says comes back later, too, and here it would have to come back
    earlier. A single answer that one channel lacks is enough for two signals. Nor is it asked where the delay
    is no longer than that of leak between headsets, which goes both ways.
    """
    n_sought = 2 * _COPY_SLACK_FRAMES * FRAME_SAMPLES
    length = _PROBE_FRAMES * FRAME_SAMPLES
    known: int | None = None
    for side, ahead in ((0, delay), (1, -delay)):
        begin = np.arange(0, speech.shape[1] - _PROBE_FRAMES, _PROBE_FRAMES // 2)
        counts = np.cumsum(np.append(0, speech[side]))
        spoken = counts[begin + _PROBE_FRAMES] - counts[begin] >= _OWN_RUN_S / FRAME_S
        starts = begin[spoken] * FRAME_SAMPLES
        first = starts + (ahead - _COPY_SLACK_FRAMES) * FRAME_SAMPLES
        inside = (first >= 0) & (first + length + n_sought < samples.shape[1])
        starts, first = starts[inside], first[inside]
        if len(starts) < _AGREEING_PROBES:
            return False
        for at in range(0, len(starts), _LEAK_PROBES):
            sent, got = starts[at : at + _LEAK_PROBES], first[at : at + _LEAK_PROBES]
            # The difference of neighbouring samples weighs all formants alike, so that filters matter less.
            alike, _ = _likeness(
                np.diff(samples[side][sent[:, None] + np.arange(length + 1)]),
                np.diff(samples[1 - side][got[:, None] + np.arange(length + n_sought + 1)]),
            )
            if known is None:
                lag = alike.argmax(axis=1) + got - sent
                known = int(np.median(lag)) * (1 if side == 0 else -1)
                if abs(known) < _HEARD_AS_ECHO_S * SAMPLE_RATE_HZ:
                    return False
            # A neighbouring period of a vowel may be likelier; what counts is that it is there at this delay.
            expected = (known if side == 0 else -known) - ahead * FRAME_SAMPLES + n_sought // 2
            there = alike[:, max(0, expected - _SAME_DELAY_SAMPLES) : expected + _SAME_DELAY_SAMPLES + 1]
            if there.max(axis=1).min() < _COPIED_CORRELATION:
                return False
    return True


def _likeness(sent: FloatArray, got: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How well probes are found again, as absolute correlation (k, n_lags), and the power there.

    Args:
        sent: (k, length).
        got: (k, length + n_lags).
    """
    length, n_lags = sent.shape[1], got.shape[1] - sent.shape[1]
    sent = (sent - sent.mean(axis=1, keepdims=True)).astype(np.float64)
    got = (got - got.mean(axis=1, keepdims=True)).astype(np.float64)
    size = 1 << got.shape[1].bit_length()
    crossed = np.fft.irfft(np.fft.rfft(got, size) * np.conj(np.fft.rfft(sent, size)), size)[:, :n_lags]
    sums = np.cumsum(np.pad(got**2, ((0, 0), (1, 0))), axis=1)
    received: FloatArray = sums[:, length : length + n_lags] - sums[:, :n_lags]
    power = (sent**2).sum(axis=1, keepdims=True)
    alike: FloatArray = np.abs(crossed) / np.sqrt(np.maximum(power * received, 1e-12))
    return alike, received


def _smoothed_db(levels_db: FloatArray) -> FloatArray:
    """Levels of the mean power over `_SMOOTH_FRAMES` frames around each."""
    power = np.convolve(
        10 ** (levels_db.astype(np.float64) / 10), np.ones(_SMOOTH_FRAMES) / _SMOOTH_FRAMES, "same"
    )
    smoothed: FloatArray = 10 * np.log10(np.maximum(power, 1e-10))
    return smoothed


def _power_sum_db(one_db: FloatArray, other_db: float) -> FloatArray:
    """Level of two sounds that know nothing of each other."""
    summed: FloatArray = 10 * np.log10(10 ** (one_db / 10) + 10 ** (other_db / 10))
    return summed


# Speech of each side ---------------------------------------------------------------------------------------


def _speech(levels_db: FloatArray, probability: FloatArray) -> BoolArray:
    """Frames with speech, whoever's: (2, n_frames)."""
    speech = np.stack([above(p, on=ON, off=OFF) for p in probability])
    speech &= np.stack([stands_out(levels) for levels in levels_db])
    speech &= levels_db > _speech_floors_db(levels_db, speech)[:, None]
    return speech


def side_activity(samples: FloatArray, levels_db: FloatArray, speech: BoolArray) -> SideActivity:
    """Own speech of both channels: (2, n) samples, (2, n_frames) levels and speech."""
    active = speech.copy()
    leaks: list[Leak | None] = []
    for side in (0, 1):
        other = 1 - side
        leak = _leak(samples, speech, into=side)
        leaks.append(leak)
        talk_db = np.where(widen(speech[other], _MASKED_FRAMES), levels_db[other], SILENCE_DB)
        active[side] &= levels_db[side] > _echoed(talk_db, 0) - _MASKING_DB
        if leak is not None:
            threshold_db = min(leak.below_db - _LEAK_MARGIN_DB, _MASKING_DB)
            active[side] &= levels_db[side] > _echoed(levels_db[other], leak.delay_s) - threshold_db
    return SideActivity(active, (leaks[0], leaks[1]))


def _echoed(levels_db: FloatArray, delay_s: float) -> FloatArray:
    """The loudest of what arrives now when it is heard `delay_s` later and rings on a little."""
    first = int(delay_s / FRAME_S) if delay_s >= _HEARD_AS_ECHO_S else 0  # less lies within the ringing
    loudest: FloatArray = np.maximum.reduce([_later(levels_db, first + by) for by in _ECHO_FRAMES])
    return loudest


def _later(levels_db: FloatArray, n_frames: int) -> FloatArray:
    """The levels `n_frames` later, the first one held at the start."""
    return levels_db[np.maximum(0, np.arange(len(levels_db)) - n_frames)]


def _speech_floors_db(levels_db: FloatArray, speech: BoolArray) -> FloatArray:
    """Per channel, the level below which a frame is not that person's speech."""
    loud = np.array(
        [np.percentile(db[m], 90) if m.any() else -np.inf for db, m in zip(levels_db, speech, strict=True)]
    )
    loud = np.maximum(loud, loud.max() - _SIDE_RANGE_DB)
    floors: FloatArray = (loud - _SPEECH_RANGE_DB).astype(np.float32)
    return floors


def _leak(samples: FloatArray, speech: BoolArray, *, into: int) -> Leak | None:
    """How the other side's voice arrives in channel `into`; None without leak.

    Proof is waveform correlation: half-second probes of the other side's speech are found again in this
    channel, and enough of them at the same delay.
    """
    starts = _probe_starts(speech[1 - into], _followed(speech[into]))
    if len(starts) < _AGREEING_PROBES:
        return None
    length = _PROBE_FRAMES * FRAME_SAMPLES
    at = starts[:, None] * FRAME_SAMPLES + np.arange(length + _MAX_ECHO_SAMPLES)
    # What lies beyond the end of a recording is silence.
    sent = np.where(at[:, :length] < samples.shape[1], samples[1 - into].take(at[:, :length], mode="clip"), 0)
    got = np.where(at < samples.shape[1], samples[into].take(at, mode="clip"), 0)
    alike, received = _likeness(sent, got)
    power = ((sent - sent.mean(axis=1, keepdims=True)).astype(np.float64) ** 2).sum(axis=1)
    delays = alike.argmax(axis=1)
    arrived = np.take_along_axis(received, delays[:, None], axis=1)[:, 0]
    below_db = 10 * np.log10(power / np.maximum(arrived, 1e-12))
    # What is as loud here as there is this side's own voice, heard over there.
    clear = (alike.max(axis=1) >= _LEAK_CORRELATION) & (below_db >= _LOUDEST_LEAK_DB)
    agreeing = (np.abs(delays[:, None] - delays) <= _SAME_DELAY_SAMPLES) & clear
    middle = int(agreeing.sum(axis=1).argmax())
    chosen = agreeing[middle] & clear
    if chosen.sum() < max(_AGREEING_PROBES, _AGREEING_SHARE * len(starts)):
        return None
    return Leak(float(np.median(below_db[chosen])), float(delays[middle]) / SAMPLE_RATE_HZ)


def _followed(speech: BoolArray) -> BoolArray:
    """Frames at which, or within the longest echo after which, there is speech."""
    n = _MAX_ECHO_SAMPLES // FRAME_SAMPLES
    counts = np.cumsum(np.concatenate([[0], speech, np.zeros(n, np.bool_)]))
    followed: BoolArray = counts[n + 1 :] > counts[: len(speech)]
    return followed


def _probe_starts(sent: BoolArray, got: BoolArray) -> IntArray:
    """Up to `_LEAK_PROBES` first frames, spread over the call, of half seconds mostly in both masks."""
    both = sent & got
    n_probes = len(both) // _PROBE_FRAMES
    share = both[: n_probes * _PROBE_FRAMES].reshape(n_probes, _PROBE_FRAMES).mean(axis=1)
    found = np.flatnonzero(share >= 0.5)
    if len(found) > _LEAK_PROBES:
        found = found[np.linspace(0, len(found) - 1, _LEAK_PROBES).astype(np.int64)]
    return found * _PROBE_FRAMES

"""What is noted about a recording: the words of `quality`, and how the sound itself is judged.

The list is open: a later version may add words. `QUALITY_TEXT` is their one definition; the database
shows it as the view `quality_words`, the pages print it.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from callanalytics.audio.samples import frames_at
from callanalytics.diarize.vad import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE_HZ, widen
from callanalytics.records import BoolArray, FloatArray


class Quality(StrEnum):
    """A word that is noted about a recording."""

    ONE_VOICE = "one_voice"
    THREE_VOICES = "three_voices"
    MAYBE_PASSED_ON = "maybe_passed_on"
    MIXED_VOICES = "mixed_voices"
    NO_SPEECH = "no_speech"
    ROLE_CONFLICT = "role_conflict"
    ONE_SIDED = "one_sided"
    SIDE_STOPS = "side_stops"
    DEAD_CHANNEL = "dead_channel"
    FAKE_STEREO = "fake_stereo"
    DELAYED_COPY = "delayed_copy"
    BLEED = "bleed"
    ECHO = "echo"
    NOISY = "noisy"
    UNKNOWN_SOUND = "unknown_sound"
    LOW_BAND = "low_band"
    DC_OFFSET = "dc_offset"
    HUM = "hum"
    QUIET = "quiet"
    CLIPPED = "clipped"
    MASKED = "masked"
    TONE = "tone"
    MUSIC = "music"
    JOINED_RECORDINGS = "joined_recordings"
    GAPS_SILENCED = "gaps_silenced"
    UNFINISHED_HEADER = "unfinished_header"
    ENDS_EARLY = "ends_early"
    PARTLY_DAMAGED = "partly_damaged"


QUALITY_TEXT: dict[str, str] = {
    Quality.ONE_VOICE: "only one voice was found: a message, one side of a call, or two voices alike",
    Quality.THREE_VOICES: "more than two voices were found, such as after a transfer",
    Quality.MAYBE_PASSED_ON: "one side may be two people, one after the other, such as after a transfer",
    Quality.MIXED_VOICES: "the two voices are hard to tell apart: one of them may hold speech of both",
    Quality.NO_SPEECH: "no speech was found",
    Quality.ROLE_CONFLICT: "what is known of the call disagrees about who is agent and who is caller",
    Quality.ONE_SIDED: "one of the two channels holds no speech of its own",
    Quality.SIDE_STOPS: "one side stops long before the other: what was said there later is not known",
    Quality.DEAD_CHANNEL: "one channel is silent",
    Quality.FAKE_STEREO: "both channels hold the same sound",
    Quality.DELAYED_COPY: "one channel repeats the other later",
    Quality.BLEED: "each side can be heard on the other's channel",
    Quality.ECHO: "the other side comes back late, as an echo",
    Quality.NOISY: "the speech stands in loud noise",
    Quality.UNKNOWN_SOUND: "much of it is sound that is neither speech, music nor tones: noise, or "
    "samples in another coding than the file states",
    Quality.LOW_BAND: "the sound has no high frequencies, narrower than a telephone line",
    Quality.DC_OFFSET: "the samples were not centred on zero, which was corrected",
    Quality.HUM: "loud hum was taken out",
    Quality.QUIET: "the recording is very quiet: it was made louder first, its levels are those after that",
    Quality.CLIPPED: "the sound is clipped",
    Quality.MASKED: "some of it is masked, such as a payment pause",
    Quality.TONE: "tones, such as ringing or keys",
    Quality.MUSIC: "music, such as on hold: a voice softer than it is not heard",
    Quality.JOINED_RECORDINGS: "the file holds several recordings, heard one after the other",
    Quality.GAPS_SILENCED: "the recorder paused: its gaps are heard as silence",
    Quality.UNFINISHED_HEADER: "the header states less sound than there is; all of it was heard",
    Quality.ENDS_EARLY: "the header states a little more sound than there is",
    Quality.PARTLY_DAMAGED: "a little of the sound is damaged and was not heard",
}


# Measured on seven development calls, real ones and ones built of CREMA-D (benchmarks/RESULTS.md). With noise
# at 20, 15, 10 and 5 dB the estimate is within 2 dB of that, and at 5 dB a fifth of the speech is not found.
# Without added noise it is 37 dB and more, also through seven codecs.
_NOISY_DB = 15.0
# Power per hertz at 2.6-3.3 kHz against 0.4-2 kHz in speech: -28 dB and more on telephone lines and through
# seven codecs, -75 dB and less when everything above 2.5 kHz is cut off.
_HIGH_HZ, _MIDDLE_HZ, _LOW_BAND_DB = (2600.0, 3300.0), (400.0, 2000.0), -35.0
# Samples in speech within 3 % of the highest peak whose neighbours are, too: none in a hundred thousand in
# clean calls, 5 per thousand and more where a call is cut off at a quarter of its peaks.
_CLIPPED_AT, _CLIPPED_SHARE = 0.97, 0.001
# Of real calls the background is at -45 dB and less.
_UNKNOWN_DB, _UNKNOWN_SHARE, _NEAR_SPEECH = -40.0, 0.5, round(0.5 / FRAME_S)
# One who listens is silent for so long, too, but not while a call ends.
_STOPPED_S, _GOES_ON_S = 15.0, 2.0
_ENOUGH_FRAMES = round(1 / FRAME_S)
_BACK_SAMPLES = 1 << 16
_MOST_FRAMES = 2000  # a minute of speech tells it as well as an hour
_NO_SPEECH = 0.3  # probability below which a frame is background


def sound_quality(
    samples: FloatArray, levels_db: FloatArray, probability: FloatArray, active: BoolArray
) -> set[Quality]:
    """What is to be said about the sound of one channel, from how its speech stands in it.

    Args:
        samples: (n,) at 8 kHz.
        levels_db, probability: (n_frames,) level and speech probability per 32 ms frame.
        active: (n_frames,) somebody speaks.
    """
    frames = np.flatnonzero(active[: len(samples) // FRAME_SAMPLES])
    if len(frames) < _ENOUGH_FRAMES:
        return set()
    found = set()
    if _signal_to_noise_db(levels_db, probability, active) < _NOISY_DB:
        found.add(Quality.NOISY)
    frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).astype(np.int64)]
    speech = frames_at(samples, frames * FRAME_SAMPLES, FRAME_SAMPLES)
    power = (np.abs(np.fft.rfft(speech * np.hanning(FRAME_SAMPLES).astype(np.float32))) ** 2).mean(axis=0)
    hz = np.fft.rfftfreq(FRAME_SAMPLES, 1 / SAMPLE_RATE_HZ)
    high, middle = (power[(hz >= low) & (hz < top)].mean() for low, top in (_HIGH_HZ, _MIDDLE_HZ))
    if high < middle * 10 ** (_LOW_BAND_DB / 10):
        found.add(Quality.LOW_BAND)
    at_peak = np.abs(speech) >= _CLIPPED_AT * np.abs(speech).max()
    if (at_peak[:, :-2] & at_peak[:, 1:-1] & at_peak[:, 2:]).mean() > _CLIPPED_SHARE:
        found.add(Quality.CLIPPED)
    return found


def unknown_sound(levels_db: FloatArray, known: BoolArray) -> set[Quality]:
    """Whether half of a channel or more is audible sound that nothing was recognised in, as a note.

    Args:
        levels_db: (n_frames,).
        known: (n_frames,) frames of speech, music, tones or masking.
    """
    unknown = (levels_db > _UNKNOWN_DB) & ~widen(known, _NEAR_SPEECH)
    return {Quality.UNKNOWN_SOUND} if np.count_nonzero(unknown) > _UNKNOWN_SHARE * len(unknown) else set()


def stopped_side(samples: FloatArray, active: BoolArray) -> set[Quality]:
    """Whether a side ends in exact zeros long before the call does, while the other one speaks on, as a note.

    Args:
        samples: (2, n) at 8 kHz.
        active: (2, n_frames) where each side speaks.
    """
    for row, other in zip(samples, active[::-1], strict=True):
        end = _end_of_sound(row)
        goes_on_s = np.count_nonzero(other[end // FRAME_SAMPLES :]) * FRAME_S
        if 0 < end <= len(row) - _STOPPED_S * SAMPLE_RATE_HZ and goes_on_s >= _GOES_ON_S:
            return {Quality.SIDE_STOPS}
    return set()


def _end_of_sound(row: FloatArray) -> int:
    """Number of samples up to the last one that is not zero."""
    for end in range(len(row), 0, -_BACK_SAMPLES):
        begin = max(0, end - _BACK_SAMPLES)
        if (found := np.flatnonzero(row[begin:end])).size:
            return begin + int(found[-1]) + 1
    return 0


def _signal_to_noise_db(levels_db: FloatArray, probability: FloatArray, active: BoolArray) -> float:
    """Mean level of the speech over the usual level of the background, in dB.

    The background is the median of the frames away from speech; where these are less than a second, the
    quietest twentieth of all frames.
    """
    quiet = levels_db[~widen(active, 5) & (probability < _NO_SPEECH)]
    noise_db = np.median(quiet) if len(quiet) >= _ENOUGH_FRAMES else np.percentile(levels_db, 5)
    speech_db = 10 * np.log10(np.mean(10 ** (levels_db[active].astype(np.float64) / 10)))
    return float(speech_db - noise_db)

"""What is noted about a recording: the words of `quality`, and how the sound itself is judged.

The list is open: a later version may add words. `QUALITY_TEXT` is their one definition; the database
shows it as the view `quality_words`, the pages print it.
"""

from __future__ import annotations

from enum import StrEnum


class Quality(StrEnum):
    """A word that is noted about a recording."""

    ONE_VOICE = "one_voice"
    THREE_VOICES = "three_voices"
    NO_SPEECH = "no_speech"
    ROLE_CONFLICT = "role_conflict"
    ONE_SIDED = "one_sided"
    DEAD_CHANNEL = "dead_channel"
    FAKE_STEREO = "fake_stereo"
    DELAYED_COPY = "delayed_copy"
    BLEED = "bleed"
    ECHO = "echo"
    NOISY = "noisy"
    LOW_BAND = "low_band"
    DC_OFFSET = "dc_offset"
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
    Quality.NO_SPEECH: "no speech was found",
    Quality.ROLE_CONFLICT: "what is known of the call disagrees about who is agent and who is caller",
    Quality.ONE_SIDED: "one of the two channels holds no speech of its own",
    Quality.DEAD_CHANNEL: "one channel is silent",
    Quality.FAKE_STEREO: "both channels hold the same sound",
    Quality.DELAYED_COPY: "one channel repeats the other later",
    Quality.BLEED: "each side can be heard on the other's channel",
    Quality.ECHO: "the other side comes back late, as an echo",
    Quality.NOISY: "the speech stands in loud noise",
    Quality.LOW_BAND: "the sound has no high frequencies, narrower than a telephone line",
    Quality.DC_OFFSET: "the samples were not centred on zero, which was corrected",
    Quality.CLIPPED: "the sound is clipped",
    Quality.MASKED: "some of it is masked, such as a payment pause",
    Quality.TONE: "tones, such as ringing or keys",
    Quality.MUSIC: "music, such as on hold",
    Quality.JOINED_RECORDINGS: "the file holds several recordings, heard one after the other",
    Quality.GAPS_SILENCED: "the recorder paused: its gaps are heard as silence",
    Quality.UNFINISHED_HEADER: "the header states less sound than there is; all of it was heard",
    Quality.ENDS_EARLY: "the header states a little more sound than there is",
    Quality.PARTLY_DAMAGED: "a little of the sound is damaged and was not heard",
}

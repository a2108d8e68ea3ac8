"""From samples to turns, speakers and roles: the steps of the package in order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from callanalytics.diarize.conversation import CONVERSATION_SHARE
from callanalytics.diarize.handovers import with_handover
from callanalytics.diarize.models import SpeechModels
from callanalytics.diarize.non_speech import covered_frames, find_non_speech
from callanalytics.diarize.one_channel import (
    embed_speech,
    hear_parts,
    heard_in_music,
    separate_voices,
    voice_of,
)
from callanalytics.diarize.quality import Quality, sound_quality, stopped_side, unknown_sound
from callanalytics.diarize.roles import weigh_roles
from callanalytics.diarize.two_channels import find_layout
from callanalytics.diarize.vad import SAMPLE_RATE_HZ, frame_levels_db, stretches
from callanalytics.records import (
    BoolArray,
    ChannelLayout,
    Diarization,
    FloatArray,
    Role,
    StatedRoles,
    Turn,
    VoiceProfile,
)

__all__ = ["SpeechModels", "diarize"]


def diarize(
    samples: FloatArray,
    sample_rate_hz: int,
    *,
    layout_hint: ChannelLayout | None = None,
    stated_roles: tuple[StatedRoles, ...] = (),
    agent_voice: VoiceProfile | None = None,
    learn_voices: bool = False,
    conversation_share: float = CONVERSATION_SHARE,
    models: SpeechModels,
) -> Diarization:
    """Who spoke when, and who is the agent.

    Args:
        samples: float32 (1 or 2, n) at 8 kHz, finite.
        sample_rate_hz: must be 8000, the canonical rate.
        layout_hint: PAIR when the channels came from two files.
        stated_roles: roles by channel, of every source that states them.
        agent_voice: how the agent of this call sounds.
        learn_voices: also take the voice prints of stereo sides whose roles are stated.
        conversation_share: of such recordings that hold two voices or more, 0..1; matters on one channel.
        models: loaded once per process.

    Raises:
        ValueError: another rate, or not one or two channels.
        ModelMissing: a model file is missing.
    """
    if sample_rate_hz != SAMPLE_RATE_HZ or samples.ndim != 2 or samples.shape[0] not in (1, 2):
        raise ValueError(
            f"expected (1 or 2, n) samples at 8000 Hz, found {samples.shape} at {sample_rate_hz} Hz"
        )
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    duration_s = samples.shape[1] / SAMPLE_RATE_HZ
    levels_db = frame_levels_db(samples)
    probability = models.detector.probabilities(samples, levels_db)
    sounds = find_non_speech(samples, levels_db, probability, tuple(range(len(samples))))
    quality = {Quality(span.kind.value) for span in sounds}
    blocked, music = covered_frames(sounds, levels_db.shape)
    heard = _heard_on_sides(samples, np.where(blocked, 0, probability), music, models)
    layout = find_layout(samples, levels_db, heard, layout_hint)
    sounds = tuple(span for span in sounds if span.channel in layout.channels)
    quality |= layout.quality
    prints: dict[str, FloatArray] = {}
    in_doubt, opening = False, None
    if layout.activity is not None:
        active = layout.activity.active
        turns = _turns(active, layout.channels, duration_s)
    else:
        (channel,) = layout.channels
        pieces = embed_speech(
            samples[channel],
            levels_db[channel],
            probability[channel],
            blocked[channel],
            music[channel],
            models,
        )
        voices = separate_voices(pieces, models, conversation_share)
        active = np.atleast_2d(voices.active.any(axis=0))
        turns = _turns(voices.active, layout.channels * len(voices.active), duration_s)
        prints = {f"speaker_{number}": voice for number, voice in enumerate(voices.prints)}
        n_voices = len({turn.speaker for turn in turns})
        in_doubt, opening = voices.in_doubt, voices.opening
        notes = {
            Quality.ONE_VOICE: n_voices == 1,
            Quality.THREE_VOICES: n_voices > 2 or voices.may_be_more,
            Quality.MIXED_VOICES: in_doubt,
            Quality.MAYBE_PASSED_ON: voices.may_be_passed_on,
        }
        quality.update(note for note, holds in notes.items() if holds)
    for spoken, channel in zip(active, layout.channels, strict=True):
        quality |= sound_quality(samples[channel], levels_db[channel], probability[channel], spoken)
        quality |= unknown_sound(levels_db[channel], spoken | blocked[channel] | music[channel])
    if layout.activity is not None:
        quality |= stopped_side(samples, active)
    if not turns:
        quality.add(Quality.NO_SPEECH)
    if layout.activity is not None and (agent_voice is not None or (learn_voices and stated_roles)):
        prints = {
            f"speaker_{side}": voice
            for side in (0, 1)
            if (voice := voice_of(samples[side], layout.activity.active[side], models)) is not None
        }
    one_voice = len({turn.speaker for turn in turns}) == 1
    guess = weigh_roles(
        turns,
        by_channel=layout.activity is not None or (layout.kind is ChannelLayout.ONE_SIDED and one_voice),
        stated=stated_roles,
        prints=prints,
        profile=agent_voice,
        in_doubt=in_doubt,
        opening=opening,
    )
    if guess.is_disputed:
        quality.add(Quality.ROLE_CONFLICT)
    roles = guess.roles
    if layout.activity is not None:
        turns, unsure = _handed_over(turns, roles, samples, layout.activity.active, models)
        if unsure:
            quality.add(Quality.MAYBE_PASSED_ON)
        roles = {turn.speaker: roles[f"speaker_{turn.channel}"] for turn in turns}
    if len(roles) > 2:
        quality.add(Quality.THREE_VOICES)
    return Diarization(
        turns=turns,
        roles=roles,
        layout=layout.kind,
        role_source=guess.source,
        role_confidence=guess.confidence,
        role_evidence=guess.evidence,
        sounds=sounds,
        quality=tuple(sorted(quality)),
        voices={speaker: prints[speaker] for speaker in roles if speaker in prints},
    )


def _heard_on_sides(
    samples: FloatArray, probability: FloatArray, music: BoolArray, models: SpeechModels
) -> FloatArray:
    """Speech probability (n_channels, n_frames) of two channels; of one alone it is not asked here."""
    if len(samples) > 1:
        for side in np.flatnonzero(music.any(axis=1)):
            probability[side] = heard_in_music(samples[side], probability[side], music[side], models)
    return probability


def _handed_over(
    turns: tuple[Turn, ...],
    roles: Mapping[str, Role],
    samples: FloatArray,
    active: BoolArray,
    models: SpeechModels,
) -> tuple[tuple[Turn, ...], bool]:
    """The turns with a second agent on a side as a speaker, and whether a side may hold one."""
    unsure = False
    for side in {turn.channel for turn in turns if roles[turn.speaker] is Role.AGENT}:
        hear = partial(hear_parts, samples[side], models=models)
        whole, space = models.printer.whole, models.voice_space
        turns, found = with_handover(turns, side, active[side], hear, whole, space)
        unsure |= found.is_unsure
    return turns, unsure


def _turns(active: BoolArray, channels: tuple[int, ...], duration_s: float) -> tuple[Turn, ...]:
    """Turns of every row of (n_speakers, n_frames), by start."""
    turns = [
        Turn(f"speaker_{number}", channel, start_s, end_s)
        for number, (row, channel) in enumerate(zip(active, channels, strict=True))
        for start_s, end_s in stretches(row, duration_s)
    ]
    return tuple(sorted(turns, key=lambda turn: (turn.start_s, turn.speaker)))

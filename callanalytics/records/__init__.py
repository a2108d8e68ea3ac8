"""The nouns of the project as frozen data: what flows from a file to the database. No I/O here.

Times named `_s` are seconds from the start of the recording; intervals are half-open;
`_at` is a time-zone aware UTC `datetime`; `_share` is 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from callanalytics.records.role_facts import Role as Role
from callanalytics.records.role_facts import RoleEvidence as RoleEvidence
from callanalytics.records.role_facts import RoleSource as RoleSource
from callanalytics.records.role_facts import StatedRoles as StatedRoles
from callanalytics.records.text import display_text, hide_numbers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Quoted, so that modules may import them for annotations while nothing here imports numpy.
FloatArray: TypeAlias = "npt.NDArray[np.float32]"
BoolArray: TypeAlias = "npt.NDArray[np.bool_]"


class Direction(StrEnum):
    """Which way a call went, seen from the call centre."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"
    UNKNOWN = "unknown"


class TimeSource(StrEnum):
    """Source of the start time of a call, most trustworthy first."""

    SIDECAR = "sidecar"
    MANIFEST = "manifest"
    NAME = "name"
    FILE_TIME = "file_time"


class ChannelLayout(StrEnum):
    """Arrangement of the voices in the audio."""

    STEREO = "stereo"  # one side of the call on each channel of one file
    PAIR = "pair"  # one side of the call in each of two files
    FAKE_STEREO = "fake_stereo"  # two channels with the same signal, also late: treated as mono
    ONE_SIDED = "one_sided"  # two channels, one of them without speech of its own
    MONO = "mono"


class Sound(StrEnum):
    """Kind of a stretch of a channel that is no voice turn."""

    MASKED = "masked"  # exact zeros: a payment pause
    TONE = "tone"  # ring-back, DTMF, fax, beeps
    MUSIC = "music"  # hold music and jingles


@dataclass(frozen=True, slots=True)
class Recording:
    """One call's audio as it lies on disk: one file, or the two files of a pair.

    `recording_id` is the SHA-256 (hex) of the content; of a pair, of its files' hashes in order.
    `content_ids` are the hashes of its files. `shown_paths` are their names for people, without numbers of
    callers (`CallFacts.hide`); empty: as they are.
    """

    recording_id: str
    paths: tuple[Path, ...]
    n_bytes: int
    modified_at: datetime
    content_ids: tuple[str, ...] = ()
    shown_paths: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The first (usually only) file."""
        return self.paths[0]

    @property
    def all_shown(self) -> tuple[str, ...]:
        """Names of the files for people, safe to print."""
        return tuple(map(display_text, self.shown_paths or map(str, self.paths)))

    @property
    def shown(self) -> str:
        """Name of the first file for people, safe to print."""
        return self.all_shown[0]

    @property
    def call_id(self) -> str:
        """Short key of the call in every table: the first 16 hex digits of the recording."""
        return self.recording_id[:16]


@dataclass(frozen=True, slots=True)
class CallFacts:
    """Facts about a call that the recorder gave by file name, sidecar, manifest or CDR.

    Numbers of callers appear only as `caller_hash`, a salted hash. `sources` says for each
    known fact where it was read, for example `{"queue": "sidecar"}`. `aliases` (significant digits ->
    alias) is never stored; it keeps the numbers out of names and messages too.
    """

    recorder: str  # profile name, "none" when nothing matched
    recorder_confidence: float  # 0..1
    started_at: datetime
    started_at_source: TimeSource
    zone: str  # IANA name the local time was read in
    external_id: str | None = None
    direction: Direction = Direction.UNKNOWN
    agent_id: str | None = None
    agent_name: str | None = None
    team: str | None = None
    queue: str | None = None
    campaign: str | None = None
    caller_hash: str | None = None
    stated_roles: tuple[StatedRoles, ...] = ()  # one for each source that states the sides
    conversation_share: float | None = (
        None  # of such recordings with two voices or more; None: that of [audio]
    )
    expected_duration_s: float | None = None
    answered_s: float | None = None  # offset of the agent's answer in the recording
    hold_s: float | None = None
    disposition: str | None = None
    sources: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def channel_roles(self) -> tuple[Role, ...]:
        """Role by channel as all sources together have it, empty when none says."""
        log_odds = sum(stated.log_odds for stated in self.stated_roles)
        sides = (Role.AGENT, Role.CALLER) if log_odds > 0 else (Role.CALLER, Role.AGENT)
        return sides if log_odds else ()

    @property
    def channel_roles_source(self) -> RoleSource:
        """The source of the sides that is believed most."""
        best = max(self.stated_roles, key=lambda stated: abs(stated.log_odds), default=None)
        return best.source if best else RoleSource.NONE

    def hide(self, text: str) -> str:
        """The text with the numbers of callers replaced, in every way they are written."""
        return hide_numbers(text, self.aliases)


AgentKey = tuple[str, str]  # recorder profile, agent as that recorder names them


def agent_key(facts: CallFacts) -> AgentKey | None:
    """Key of the voice profile that a call belongs to; None when the recorder names no agent."""
    agent = facts.agent_id or facts.agent_name
    return (facts.recorder, display_text(agent)) if agent else None


@dataclass(frozen=True, slots=True)
class VoiceProfile:
    """Voice of an agent, from earlier calls in which the recorder or a person said who the agent is."""

    voice: FloatArray = field(compare=False)  # float32 (192,) of unit length
    n_calls: int  # learned from so many, >= 1


# (role, start_s, end_s) of what was said, as a person corrected it; empty where only the order is kept.
CorrectedTurns = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class FoundRecording:
    """A recording found on disk with its facts: the input of the analysis."""

    recording: Recording
    facts: CallFacts
    agent_voice: VoiceProfile | None = field(default=None, kw_only=True)  # when profiles are kept
    corrected: CorrectedTurns | None = field(default=None, kw_only=True)  # when a person exchanged the sides
    transcripts: tuple[Path, ...] = field(default=(), kw_only=True)  # the best one first


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """Properties of a recording's sound, without the samples."""

    native_rate_hz: int
    n_channels: int  # 1 or 2
    codec: str  # e.g. "pcm_mulaw", as the decoder names it
    container: str  # e.g. "wav"
    duration_s: float  # of the decoded sound
    clipped_share: float  # samples at full scale


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded sound at the canonical rate.

    samples: float32 (n_channels, n_samples), nominally -1..1, all finite, C-contiguous. `notes` holds short
    closed words of what was odd about the file, such as "joined_recordings"; they go to the call's quality.
    """

    samples: FloatArray
    sample_rate_hz: int
    native_rate_hz: int
    codec: str
    container: str
    clipped_share: float
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length of the decoded sound."""
        return int(self.samples.shape[1]) / self.sample_rate_hz

    @property
    def n_channels(self) -> int:
        """1 or 2."""
        return int(self.samples.shape[0])

    @property
    def facts(self) -> AudioFacts:
        """All but the samples."""
        size = self.n_channels, self.codec, self.container, self.duration_s
        return AudioFacts(self.native_rate_hz, *size, self.clipped_share)


@dataclass(frozen=True, slots=True)
class Turn:
    """One voice speaking without a long pause. `channel` carries it."""

    speaker: str  # "speaker_0", ... unique within the call
    channel: int
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Length of the turn."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class SoundSpan:
    """A stretch of a channel that is not speech but means something."""

    kind: Sound
    channel: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Diarization:
    """Turns of the speakers, and their roles.

    `roles` maps every speaker of `turns` to a role. Turns are sorted by start; turns of different
    speakers may overlap. `quality` holds words of `callanalytics.diarize.quality`.
    """

    turns: tuple[Turn, ...]
    roles: dict[str, Role]
    layout: ChannelLayout
    role_source: RoleSource
    role_confidence: float  # 0..1
    role_evidence: tuple[RoleEvidence, ...] = ()
    sounds: tuple[SoundSpan, ...] = ()
    quality: tuple[str, ...] = ()
    # Speaker voice prints, float32 unit vectors, for voice profiles of agents (may be empty).
    voices: dict[str, FloatArray] = field(default_factory=dict)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Speakers in order of first appearance."""
        return tuple(dict.fromkeys(turn.speaker for turn in self.turns))


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of one turn, about 3 s: what an ensemble member classifies. Never mixes speakers."""

    index: int  # 0-based within the call, by start time
    speaker: str
    role: Role
    channel: int
    start_s: float
    end_s: float
    overlap_share: float  # part during which somebody else spoke too

    @property
    def duration_s(self) -> float:
        """Length of the segment."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Features:
    """Acoustic descriptors, one row a segment: float32 (n_segments, len(names))."""

    names: tuple[str, ...]
    values: FloatArray

    def column(self, name: str) -> FloatArray:
        """One descriptor over all segments, (n_segments,)."""
        return self.values[:, self.names.index(name)]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number about a call: `role` and `period` say of whom and of which part.

    `period` is "call", "q1".."q4" (quarters of the call), "first_half" or "second_half".
    """

    name: str
    role: Role | None
    period: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A moment worth listening to, and why."""

    start_s: float
    end_s: float
    text: str

    @property
    def clip_name(self) -> str:
        """Name of the clip that plays this moment, unique within a call."""
        return f"{round(self.start_s * 1000):08d}.mp3"


@dataclass(frozen=True, slots=True)
class Escalation:
    """One rule that a call fulfilled."""

    rule: str
    weight: float
    value: float  # what was measured
    threshold: float
    reason: str  # plain language
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of a flagged call to listen to, or a picture of it, encoded. `name` is its file name."""

    name: str
    start_s: float
    end_s: float
    content: bytes


@dataclass(frozen=True, slots=True)
class AgentVoice:
    """Contribution of one call to the profile of its agent."""

    agent: AgentKey
    voice: FloatArray  # (192,)
    learned_from: RoleSource


@dataclass(frozen=True, slots=True)
class CallRows:
    """An analysed call on its way from a worker to the one writer (`store.rows.pack`)."""

    recording: Recording
    ensemble_id: str
    started_at: datetime
    duration_s: float
    n_segments: int
    flagged: bool
    clips: tuple[Clip, ...]
    agent_voice: AgentVoice | None  # when profiles are kept and the call teaches one
    tables: dict[str, bytes]  # its rows by table: Arrow IPC streams
    has_words: bool = False
    words_note: str | None = None  # of `callanalytics.analysis.words.NOTE_TEXT`


@dataclass(frozen=True, slots=True)
class Failure:
    """A recording that could not be analysed, for the quarantine table."""

    found: FoundRecording
    stage: str  # "read", "decode", "analyze", "write"
    reason: str  # closed word, see errors.RecordingError
    detail: str  # a sentence for a person


Outcome = CallRows | Failure

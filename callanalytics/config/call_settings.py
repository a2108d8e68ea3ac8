"""Tables about recordings, what is extracted from them and when a call is flagged."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from callanalytics.config.phrases import phrase_pattern, safe_pattern
from ensemble.labels import EMOTIONS


def _known_zone(zone: str) -> str:
    if zone not in available_timezones():
        raise ValueError(f'"{zone}" is not an IANA time zone, for example "Europe/Berlin" or "UTC"')
    return zone


Share = Annotated[float, Field(ge=0, le=1)]
# More than 30 days is no wait and no limit that anybody means.
PositiveSeconds = Annotated[float, Field(gt=0, le=2_592_000)]
ZoneName = Annotated[str, AfterValidator(_known_zone)]


class Table(BaseModel):
    """A table of config.toml: frozen, closed, and strict about types (ints may stand for floats).

    `inf` and `nan` of TOML are no numbers here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


RoleName = Literal["agent", "caller"]


class PathSettings(Table):
    """`[paths]`: where calls are found and results are written (relative to the config file)."""

    inputs: tuple[str, ...] = ()
    out: str = "callanalytics-out"


class DiscoverySettings(Table):
    """`[discovery]`: which files are recordings."""

    include: tuple[str, ...] = ("*",)  # "*" goes by content where a name says nothing
    exclude: tuple[str, ...] = (".*", "*.part", "*.tmp", "*.partial")
    settle_s: Annotated[float, Field(ge=0, le=86_400)] = 120.0
    lookback_days: Annotated[int, Field(ge=0, le=3650)] = 7
    follow_links: bool = False
    max_sidecar_bytes: Annotated[int, Field(gt=0, le=1_000_000_000)] = 1_000_000


class RecorderSettings(Table):
    """`[[recorder]]`: how one recorder names, splits and dates its files.

    `kind` is a built-in profile, or "template" for a pattern of your own in `template`.
    """

    name: str
    kind: Literal[
        "freepbx", "vicidial", "connect", "genesys", "fusionpbx", "twilio", "zoom", "yeastar", "3cx", "five9",
        "ringcentral", "8x8", "grandstream", "wazo", "callcabinet", "oreka", "genesys-engage", "generic",
        "template",
    ]  # fmt: skip
    roots: tuple[str, ...] = ()  # glob patterns of folders it applies to; empty = everywhere
    template: str | None = None  # e.g. "{FULLDATE}_{CUSTPHONE}_{AGENT}"
    zone: ZoneName | None = None  # IANA zone of the times in names; default: [time] zone
    channels: tuple[RoleName, RoleName] | None = None  # role of the left and the right channel
    # Share of its mono recordings that hold two voices or more; default: that of [audio].
    conversation_share: Share | None = None
    sidecar: str | None = None  # e.g. "../metadata/{stem}.json"; default: beside the recording
    manifest: str | None = None  # CSV with one row per recording
    manifest_columns: dict[str, str] = Field(default={})  # fact -> column name, beyond the known aliases


class TimeSettings(Table):
    """`[time]`: the zone that "yesterday" and bare local times are read in."""

    zone: ZoneName | None = None

    @property
    def zone_info(self) -> ZoneInfo:
        """The zone as a tzinfo; without a setting that of this machine."""
        return ZoneInfo(self.zone or machine_zone())


def machine_zone() -> str:
    """IANA name of the zone that this machine's clock shows; UTC where it does not tell one."""
    import tzlocal

    try:
        name = tzlocal.get_localzone_name() or "UTC"
        return "UTC" if name == "Etc/UTC" else name
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a zone file without a name, or conflicting files
        return "UTC"


# Names of Asterisk's file formats (res/ and formats/ of its source) and of RTP payloads (RFC 3551).
HEADERLESS = {
    **dict.fromkeys(("ul", "ulaw", "ulw", "pcmu"), "mulaw:8000:1"),
    **dict.fromkeys(("al", "alaw", "alw", "pcma"), "alaw:8000:1"),
    **{f"sln{k}": f"s16le:{k}000:1" for k in ("12", "16", "24", "32", "48", "96", "192")},
    "sln": "s16le:8000:1",
    "sln44": "s16le:44100:1",
    "gsm": "gsm:8000:1",
    "g722": "g722:16000:1",
    "g723": "g723_1:8000:1",
    "g729": "g729:8000:1",
}


def _with_defaults(given: dict[str, str]) -> dict[str, str]:
    """One more kind takes none away."""
    return {**HEADERLESS, **{extension.lower().lstrip("."): hint for extension, hint in given.items()}}


class AudioSettings(Table):
    """`[audio]`: limits against damaged and hostile files, and hints for headerless ones."""

    min_duration_s: Annotated[float, Field(ge=0, le=86_400)] = 2.0  # no call is shorter
    max_duration_s: Annotated[float, Field(gt=0, le=86_400)] = 4 * 3600.0
    max_bytes: Annotated[int, Field(gt=0, le=1_000_000_000_000)] = 2_000_000_000
    decode_timeout_s: PositiveSeconds = 300.0
    # Decoded and declared duration may differ by this much before the file is quarantined.
    length_tolerance_s: Annotated[float, Field(ge=0, le=86_400)] = 1.0
    length_tolerance_share: Share = 0.02
    # Share of mono recordings that hold two voices or more: nearly all calls, no voicemail.
    conversation_share: Share = 0.8
    denoise: bool = False  # less stationary noise in what the ensemble classifies; see benchmarks/denoise.py
    # Extension -> "<codec>:<rate_hz>:<channels>" of files without a header; added to the defaults.
    headerless: Annotated[dict[str, str], AfterValidator(_with_defaults)] = Field(default=HEADERLESS)


class SegmentSettings(Table):
    """`[segments]`: how turns are cut into the segments that the ensemble classifies."""

    target_s: PositiveSeconds = 3.0
    min_s: PositiveSeconds = 0.8
    max_s: PositiveSeconds = 4.0
    max_overlap_share: Share = 0.5  # more overtalk than this is not labelled

    @model_validator(mode="after")
    def _ordered(self) -> SegmentSettings:
        if not self.min_s < self.target_s <= self.max_s:
            raise ValueError(
                f"expected min_s < target_s <= max_s, found {self.min_s}, {self.target_s}, {self.max_s}"
            )
        return self


class EmotionSettings(Table):
    """`[emotion]`: which ensemble labels, and whom."""

    ensemble: str | None = None  # folder of an ensemble; default: the promoted or the shipped one
    roles: tuple[Literal["agent", "caller", "unknown"], ...] = ("agent", "caller", "unknown")
    abstain: bool = True
    # 10 to 30 % of the turns in real calls carry emotion (docs/explanation/flags.md), while the members
    # learned from acted clips with every emotion equally often.
    neutral_share: Annotated[float, Field(gt=0, lt=1)] = 0.8


class FrustrationSettings(Table):
    """`[frustration]`: how segment evidence becomes the score of a call."""

    anger_weight: Share = 1.0
    disgust_weight: Share = 0.5
    baseline_s: PositiveSeconds = 15.0  # the caller's first speech: their calm reference
    smoothing_s: PositiveSeconds = 12.0
    flag_weight: Annotated[float, Field(gt=0, le=1000)] = 1.0  # weights of fulfilled rules that flag a call


BESIDE = "beside"  # of `[words] transcripts`: in the folder of each recording


class WordsSettings(Table):
    """`[words]`: where the words of calls come from. Without any of it no call has words."""

    transcripts: tuple[str, ...] = ()  # "beside" and folders, relative to the config file
    max_transcript_bytes: Annotated[int, Field(gt=0, le=1_000_000_000)] = 20_000_000
    model: str | None = None  # folder of a model for faster-whisper, relative to the config file
    what: Literal["moments", "flagged", "all"] = "moments"  # what the model recognises
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None  # default: as detected
    time_limit_s: PositiveSeconds = 120.0  # for the words of one call


PHRASE = "phrase"  # the measure of rules on what is said
# What other rules may look at; callanalytics/analysis/measures.py defines each.
RULE_MEASURES = (
    *("silence_s", "silence_share", "longest_silence_s", "n_long_silences", "overtalk_s", "overtalk_share"),
    *("masked_s", "tone_s", "music_s", "talk_s", "talk_share", "n_turns", "interruptions", "interruptions_s"),
    *("labelled_s", "labelled_share", "angry_s", "frustration", "frustration_peak"),
    *("loudness_rise_db", "pitch_rise_st"),
    *(f"{emotion}_share" for emotion in EMOTIONS),
)


ONE_OF_THE_VOICES = "one of the voices"


class RuleSettings(Table):
    """`[[rule]]`: one reason to flag a call."""

    name: str
    measure: str
    role: Literal["agent", "caller", "any"] = "caller"
    window: Literal["call", "q1", "q2", "q3", "q4", "first_half", "second_half"] = "call"
    at_least: float
    weight: Annotated[float, Field(gt=0, le=10)] = 1.0
    min_evidence_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0  # labelled speech needed to fire
    reason: str  # words with {value}, {threshold} and {at} (m:ss of the first moment)
    # Of measure "phrase": what is counted, and whether the rule asks for less of it than at_least.
    phrases: tuple[str, ...] = ()
    pattern: str = ""
    negate: bool = False

    @field_validator("measure")
    @classmethod
    def _measure_exists(cls, measure: str) -> str:
        if measure not in (*RULE_MEASURES, PHRASE):
            raise ValueError(f"no such measure; known are {', '.join((*RULE_MEASURES, PHRASE))}")
        return measure

    @field_validator("reason")
    @classmethod
    def _words_fit(cls, reason: str) -> str:
        try:
            reason.format(value=1.0, threshold=1.0, at="0:00")
        except (KeyError, IndexError, ValueError, AttributeError) as problem:
            raise ValueError(
                f"the words may use {{value}}, {{threshold}} and {{at}} only ({problem!r})"
            ) from None
        return reason

    @model_validator(mode="after")
    def _phrases_fit(self) -> RuleSettings:
        if self.measure != PHRASE:
            if self.phrases or self.pattern or self.negate:
                raise ValueError(f'phrases, pattern and negate belong to measure = "{PHRASE}"')
            return self
        if bool(self.phrases) == bool(self.pattern):
            raise ValueError(f'measure = "{PHRASE}" needs phrases or a pattern, and not both')
        if self.at_least < 1:
            raise ValueError("at_least counts how often it is said: 1 or more")
        self.said()  # one that cannot be used is refused now
        return self

    def said(self) -> re.Pattern[str]:
        """What a rule on phrases looks for in an utterance. Raises ValueError."""
        return phrase_pattern(self.phrases) if self.phrases else safe_pattern(self.pattern)

    def words(self, value: float, at_s: float | None, *, role_known: bool = True, said: str = "") -> str:
        """The reason as a person reads it, and what is said in quotation marks.

        Where nobody knows that the voice is the caller's, it says so.
        """
        at = "no single moment" if at_s is None else f"{int(at_s) // 60}:{int(at_s) % 60:02d}"
        text = self.reason.format(value=value, threshold=self.at_least, at=at)
        text += f": “{said}”" if said else ""
        if role_known:
            return text
        return f"{ONE_OF_THE_VOICES}: {re.sub('^(the )?caller ', '', text, flags=re.IGNORECASE)}"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What decides which calls are flagged: `[frustration]` and every `[[rule]]`."""

    rules_id: str  # fingerprint of `rules`
    rules: str  # both tables as JSON, one text for one meaning

    @classmethod
    def of(cls, frustration: FrustrationSettings, rules: Sequence[RuleSettings]) -> RuleSet:
        """The set of some settings."""
        tables = {"frustration": frustration.model_dump(), "rule": [rule.model_dump() for rule in rules]}
        text = json.dumps(tables, sort_keys=True)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:16], text)


# Thresholds were chosen on built calls, see docs/explanation/flags.md and benchmarks/escalation.py.
DEFAULT_RULES: tuple[RuleSettings, ...] = (
    RuleSettings(
        name="frustrated",
        measure="frustration_peak",
        at_least=0.42,
        min_evidence_s=6.0,
        reason="caller sounds frustrated, {value:.0%} at {at}",
    ),
    RuleSettings(
        name="angry_second_half",
        measure="angry_s",
        window="second_half",
        at_least=12.0,
        weight=0.5,
        reason="{value:.0f} s angry or disgusted in the second half",
    ),
    RuleSettings(
        name="louder",
        measure="loudness_rise_db",
        window="second_half",
        at_least=8.0,
        weight=0.5,
        reason="{value:.0f} dB louder than when calm",
    ),
    RuleSettings(
        name="higher",
        measure="pitch_rise_st",
        window="second_half",
        at_least=6.0,
        weight=0.5,
        reason="voice {value:.0f} semitones higher than when calm",
    ),
    RuleSettings(
        name="talked_over",
        measure="interruptions",
        role="agent",
        at_least=4.0,
        weight=0.25,
        reason="agent talked over the caller {value:.0f} times",
    ),
    RuleSettings(
        name="long_silence",
        measure="longest_silence_s",
        role="any",
        at_least=45.0,
        weight=0.25,
        reason="{value:.0f} s of dead air",
    ),
)

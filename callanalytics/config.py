"""config.toml -> frozen, validated settings. Unknown keys, wrong types and impossible values are refused.

Every table below is one class; its defaults are the shipped behaviour. `load_config` finds the
file, checks it and says in one sentence per problem: file, table, key, value, what is allowed.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from callanalytics.errors import ConfigError
from ensemble.device import PATTERN as DEVICE_PATTERN
from ensemble.labels import EMOTIONS

CONFIG_NAME = "config.toml"

Share = Annotated[float, Field(ge=0, le=1)]
PositiveSeconds = Annotated[float, Field(gt=0)]
RoleName = Literal["agent", "caller"]
JOB_NAMES = ("run", "report", "retrain", "purge", "health")  # what [schedule] may schedule


class _Table(BaseModel):
    """A table of config.toml: frozen, closed, and strict about types (ints may stand for floats)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PathSettings(_Table):
    """`[paths]`: where calls are found and results are written (relative to the config file)."""

    inputs: tuple[str, ...] = ()
    out: str = "callanalytics-out"


class DiscoverySettings(_Table):
    """`[discovery]`: which files are recordings."""

    include: tuple[str, ...] = (
        *("*.wav", "*.wav49", "*.mp3", "*.flac", "*.ogg", "*.oga", "*.opus", "*.m4a", "*.mp4", "*.aac"),
        *(
            "*.amr",
            "*.wma",
            "*.gsm",
            "*.ulaw",
            "*.ul",
            "*.alaw",
            "*.al",
            "*.sln",
            "*.aif",
            "*.aiff",
            "*.webm",
        ),
    )
    exclude: tuple[str, ...] = (".*", "*.part", "*.tmp", "*.partial")
    settle_s: Annotated[float, Field(ge=0)] = 120.0
    lookback_days: Annotated[int, Field(ge=0, le=3650)] = 7
    follow_links: bool = False
    max_sidecar_bytes: Annotated[int, Field(gt=0)] = 1_000_000


class RecorderSettings(_Table):
    """`[[recorder]]`: how one recorder names, splits and dates its files.

    `kind` is a built-in profile, or "template" for a pattern of your own in `template`.
    """

    name: str
    kind: Literal["freepbx", "vicidial", "connect", "genesys", "fusionpbx", "generic", "template"]
    roots: tuple[str, ...] = ()  # glob patterns of folders it applies to; empty = everywhere
    template: str | None = None  # e.g. "{FULLDATE}_{CUSTPHONE}_{AGENT}"
    zone: str | None = None  # IANA zone of the times in names; default: [time] zone
    channels: tuple[RoleName, RoleName] | None = None  # role of the left and the right channel
    sidecar: str | None = None  # e.g. "../metadata/{stem}.json"; default: beside the recording
    manifest: str | None = None  # CSV with one row per recording
    manifest_columns: dict[str, str] = {}  # fact -> column name, beyond the known aliases

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str | None) -> str | None:
        return _known_zone(zone) if zone is not None else None


class TimeSettings(_Table):
    """`[time]`: the zone that "yesterday" and bare local times are read in."""

    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        return _known_zone(zone)

    @property
    def zone_info(self) -> ZoneInfo:
        """The zone as a tzinfo."""
        return ZoneInfo(self.zone)


class AudioSettings(_Table):
    """`[audio]`: limits against damaged and hostile files, and hints for headerless ones."""

    min_duration_s: Annotated[float, Field(ge=0)] = 2.0  # no call is shorter
    max_duration_s: PositiveSeconds = 4 * 3600.0
    max_bytes: Annotated[int, Field(gt=0)] = 2_000_000_000
    decode_timeout_s: PositiveSeconds = 300.0
    # Decoded length may differ from the promised one by this much before the file is quarantined.
    length_tolerance_s: Annotated[float, Field(ge=0)] = 1.0
    length_tolerance_share: Share = 0.02
    denoise: bool = False  # less steady noise in what the ensemble hears; see benchmarks/denoise.py
    # Extension -> "<codec>:<rate_hz>:<channels>" of files without a header.
    headerless: dict[str, str] = {
        "ul": "mulaw:8000:1",
        "ulaw": "mulaw:8000:1",
        "al": "alaw:8000:1",
        "alaw": "alaw:8000:1",
        "sln": "s16le:8000:1",
        "gsm": "gsm:8000:1",
    }


class SegmentSettings(_Table):
    """`[segments]`: how turns are cut into what the ensemble hears."""

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


class EmotionSettings(_Table):
    """`[emotion]`: which ensemble labels, and whom."""

    ensemble: str | None = None  # folder of an ensemble; default: the promoted or the shipped one
    roles: tuple[Literal["agent", "caller", "unknown"], ...] = ("agent", "caller", "unknown")
    abstain: bool = True
    # 10 to 30 % of the turns in real calls carry emotion (docs/escalation.md), while the members learned
    # from acted clips with every emotion equally often. 0.7 is the cautious end.
    neutral_share: Annotated[float, Field(gt=0, lt=1)] = 0.7


# What a rule may look at; callanalytics/measures.py defines each.
RULE_MEASURES = (
    *("silence_s", "silence_share", "longest_silence_s", "n_long_silences", "overtalk_s", "overtalk_share"),
    *("masked_s", "tone_s", "music_s", "talk_s", "talk_share", "n_turns", "interruptions", "interruptions_s"),
    *("labelled_s", "labelled_share", "angry_s", "frustration", "frustration_peak"),
    *("loudness_rise_db", "pitch_rise_st"),
    *(f"{emotion}_share" for emotion in EMOTIONS),
)


class RuleSettings(_Table):
    """`[[rule]]`: one reason to escalate. See `callanalytics/measures.py` for the measures."""

    name: str
    measure: str
    role: Literal["agent", "caller", "any"] = "caller"
    window: Literal["call", "q1", "q2", "q3", "q4", "first_half", "second_half"] = "call"
    at_least: float
    weight: Annotated[float, Field(gt=0, le=10)] = 1.0
    min_evidence_s: Annotated[float, Field(ge=0)] = 0.0  # seconds of labelled speech needed to judge
    reason: str  # words with {value}, {threshold} and {at} (m:ss of the first moment)

    @field_validator("measure")
    @classmethod
    def _measure_exists(cls, measure: str) -> str:
        if measure not in RULE_MEASURES:
            raise ValueError(f"no such measure; known are {', '.join(RULE_MEASURES)}")
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

    def words(self, value: float, at_s: float) -> str:
        """The reason as a person reads it."""
        at = f"{int(at_s) // 60}:{int(at_s) % 60:02d}"
        return self.reason.format(value=value, threshold=self.at_least, at=at)


class FrustrationSettings(_Table):
    """`[frustration]`: how segment evidence becomes the score of a call (see `measures.py`)."""

    anger_weight: Share = 1.0
    disgust_weight: Share = 0.5
    baseline_s: PositiveSeconds = 15.0  # the caller's first speech: their calm reference
    smoothing_s: PositiveSeconds = 12.0
    flag_weight: Annotated[float, Field(gt=0)] = 1.0  # sum of fulfilled rules' weights that flags a call


class EngineSettings(_Table):
    """`[engine]`: who does the work: processes of this machine, or a Ray cluster."""

    kind: Literal["local", "ray"] = "local"
    address: str = ""  # of the cluster: "auto", "host:6379", "ray://host:10001"; "" = Ray on this machine
    workers: Annotated[int, Field(ge=0, le=1024)] = 0  # 0 = one per core
    device: Annotated[str, Field(pattern=f"^{DEVICE_PATTERN}$")] = "cpu"  # of members and voice prints
    time_budget_s: PositiveSeconds | None = None
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 2
    # A worker busy this long with one recording is taken for hung. A call of 4 h takes some minutes.
    recording_timeout_s: PositiveSeconds = 900.0


class GateSettings(_Table):
    """`[gate]`: what a night must look like to be published; otherwise the run ends with exit 8."""

    enabled: bool = True
    min_calls: Annotated[int, Field(ge=1)] = 100  # smaller nights are not judged: shares of few say nothing
    min_volume_share: Share = 0.2  # of what is usual on these weekdays
    max_failed_share: Share = 0.5  # of the recordings tried
    min_done_share: Share = 0.0  # when the time budget ends the run; 0 publishes whatever was done


class RetrainSettings(_Table):
    """`[retrain]`: what `callanalytics retrain` learns from, and when its result is put to use."""

    corpora: tuple[str, ...] = ()  # [NAME=]PATH, relative to the config file
    reviewed: bool = False  # also the segments that people reviewed
    consent: bool = False  # that the callers of reviewed calls may be trained on
    preset: Literal["quick", "night"] = "night"
    start: Literal["scratch", "in_use"] = "scratch"
    margin: Share = 0.01  # UAR to gain, with an interval above zero, before it is promoted
    licence: str = ""  # written into the card


class ScheduleSettings(_Table):
    """`[schedule]`: when `callanalytics schedule` runs what; five cron fields each, "" for never."""

    zone: str | None = None  # default: [time] zone
    run: str = "0 2 * * *"
    report: str = ""
    retrain: str = ""
    purge: str = ""
    health: str = "*/15 * * * *"
    report_since: str = "7d"  # window of the scheduled report, in the words of --since
    purge_older_than: str = "365d"  # what the scheduled purge removes, in the words of --older-than
    grace_h: Annotated[float, Field(gt=0, le=168)] = 6.0  # how late a job may still start
    retries: Annotated[int, Field(ge=0, le=20)] = 2
    retry_after_s: PositiveSeconds = 900.0
    ping_url: str | None = None  # GET after a night that ended well
    ping_failed_url: str | None = None  # GET after a night that failed or was missed
    ping_timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    textfile: str | None = None  # metrics for Prometheus node_exporter

    @field_validator("zone")
    @classmethod
    def _zone_exists(cls, zone: str | None) -> str | None:
        return _known_zone(zone) if zone is not None else None

    @field_validator(*JOB_NAMES)
    @classmethod
    def _cron_reads(cls, words: str) -> str:
        from callanalytics.cron import parse_cron

        if words:
            parse_cron(words)
        return words

    @field_validator("ping_url", "ping_failed_url")
    @classmethod
    def _only_http(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("https://", "http://")):
            raise ValueError("give an address that begins with https:// or http://")
        return url

    def crons(self) -> dict[str, str]:
        """The cron words of every job that is scheduled."""
        return {name: words for name in JOB_NAMES if (words := getattr(self, name))}


class PrivacySettings(_Table):
    """`[privacy]`: the secret that caller numbers are hashed with, and whether agents' voices are kept."""

    salt_file: str = ".caller-salt"  # made with 0600 in the out folder when it does not exist
    # Voice prints that tell a person are biometric data (GDPR, Article 9): only on request.
    voice_profiles: bool = False


class ReportSettings(_Table):
    """`[report]`: how pages look and what they carry."""

    title: str = "Call emotions"
    clip_context_s: Annotated[float, Field(ge=0, le=30)] = 2.0
    max_clips_per_call: Annotated[int, Field(ge=0, le=20)] = 3
    max_call_pages: Annotated[int, Field(ge=0)] = 2000
    locale: str = "en_GB"  # how dates and numbers are written; the words stay English

    @field_validator("locale")
    @classmethod
    def _locale_known(cls, locale: str) -> str:
        if locale != "en_GB":
            from babel import Locale, UnknownLocaleError

            try:
                Locale.parse(locale)
            except (UnknownLocaleError, ValueError):
                raise ValueError('no such locale; examples are "en_US", "de_DE", "fr"') from None
        return locale


# Thresholds were chosen on built calls, see docs/escalation.md and benchmarks/escalation.py.
DEFAULT_RULES: tuple[RuleSettings, ...] = (
    RuleSettings(
        name="frustrated",
        measure="frustration_peak",
        at_least=0.38,
        min_evidence_s=6.0,
        reason="caller sounds frustrated, {value:.0%} at {at}",
    ),
    RuleSettings(
        name="angry_second_half",
        measure="angry_s",
        window="second_half",
        at_least=12.0,
        weight=0.5,
        reason="{value:.0f} s angry in the second half",
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


class Settings(_Table):
    """All of config.toml. `folder` is where relative paths start."""

    folder: Path = Path()
    source: str = "built-in defaults"
    paths: PathSettings = PathSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    recorder: tuple[RecorderSettings, ...] = ()
    time: TimeSettings = TimeSettings()
    audio: AudioSettings = AudioSettings()
    segments: SegmentSettings = SegmentSettings()
    emotion: EmotionSettings = EmotionSettings()
    frustration: FrustrationSettings = FrustrationSettings()
    rule: tuple[RuleSettings, ...] = DEFAULT_RULES
    engine: EngineSettings = EngineSettings()
    gate: GateSettings = GateSettings()
    retrain: RetrainSettings = RetrainSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    privacy: PrivacySettings = PrivacySettings()
    report: ReportSettings = ReportSettings()

    @property
    def out_dir(self) -> Path:
        """Folder of everything that a run writes."""
        return self.folder / self.paths.out

    @property
    def schedule_zone(self) -> ZoneInfo:
        """The zone that the cron times of `[schedule]` are in."""
        return ZoneInfo(self.schedule.zone or self.time.zone)

    @property
    def input_dirs(self) -> tuple[Path, ...]:
        """Folders (or files) that hold recordings."""
        return tuple(Path(entry) if "://" in entry else self.folder / entry for entry in self.paths.inputs)


def _known_zone(zone: str) -> str:
    if zone not in available_timezones():
        raise ValueError(f'"{zone}" is not an IANA time zone, for example "Europe/Berlin" or "UTC"')
    return zone


def find_config(explicit: Path | None) -> Path | None:
    """The config file to use: the given one, else $CALLANALYTICS_CONFIG, else ./config.toml, else none."""
    if explicit is not None:
        return explicit
    named = os.environ.get("CALLANALYTICS_CONFIG")
    if named:
        return Path(named)
    here = Path(CONFIG_NAME)
    return here if here.is_file() else None


def load_config(path: Path | None = None) -> Settings:
    """Read, check and freeze the settings.

    Raises:
        ConfigError: the file is missing, is no TOML, or holds something not allowed; the message
            has one line per problem with file, table, key, value and what is allowed.
    """
    found = find_config(path)
    if found is None:
        return Settings(folder=Path.cwd())
    try:
        with found.open("rb") as stream:
            table = tomllib.load(stream)
    except FileNotFoundError:
        raise ConfigError(f"{found}: no such config file. Give --config an existing file.") from None
    except OSError as problem:
        raise ConfigError(f"{found}: cannot be read ({problem.strerror}). Check its permissions.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise ConfigError(f"{found}: not valid TOML: {problem}. Correct that line.") from None
    for reserved in ("folder", "source"):
        if reserved in table:
            raise ConfigError(f"{found}: unknown key {reserved!r} at the top level. Remove it.")
    return settings_from(table, source=str(found), folder=found.resolve().parent)


def settings_from(table: dict[str, Any], *, source: str, folder: Path) -> Settings:
    """Check a parsed TOML document. Raises ConfigError as `load_config` does."""
    try:
        return Settings.model_validate({**_arrays_as_tuples(table), "source": source, "folder": folder})
    except ValidationError as problem:
        lines = [_explain(source, error) for error in problem.errors()]
        raise ConfigError("\n".join(lines)) from None


def _arrays_as_tuples(value: Any) -> Any:
    """TOML arrays become tuples, which is what frozen settings hold."""
    if isinstance(value, dict):
        return {key: _arrays_as_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_arrays_as_tuples(item) for item in value)
    return value


def _explain(source: str, error: Any) -> str:
    """One sentence for one problem: file, table, key, value, what is allowed."""
    *tables, key = [str(part) for part in error["loc"]] or ["?"]
    table = f"[{'.'.join(tables)}]" if tables else "top level"
    if error["type"] == "extra_forbidden":
        allowed = ", ".join(sorted(_allowed_keys(error["loc"][:-1])))
        return f"{source}: {table}: unknown key {key!r} = {error['input']!r}. Known keys: {allowed}."
    if error["type"] == "missing":
        return f"{source}: {table}: key {key!r} is missing. Add it."
    message = error["msg"].removeprefix("Value error, ")
    return f"{source}: {table}: {key} = {error['input']!r} is not allowed: {message}. Correct the value."


def _allowed_keys(path: tuple[int | str, ...]) -> list[str]:
    """Keys that the table at `path` may have."""
    model: type[BaseModel] = Settings
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _ITEM_TABLES.get(part) or type(model.model_fields[part].default)
    return [name for name in model.model_fields if name not in {"folder", "source"}]


_ITEM_TABLES: dict[str, type[BaseModel]] = {"recorder": RecorderSettings, "rule": RuleSettings}

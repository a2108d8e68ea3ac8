"""Tables about the night, its schedule, its gate and its report."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from callanalytics.config.call_settings import PositiveSeconds, Share, Table, ZoneName
from callanalytics.errors import UsageError
from ensemble.inference.device import PATTERN as DEVICE_PATTERN

JOB_NAMES = ("run", "report", "retrain", "purge", "health")  # what [schedule] may schedule


class EngineSettings(Table):
    """`[engine]`: who does the work: processes of this machine, or a Ray cluster."""

    kind: Literal["local", "ray"] = "local"
    address: str = ""  # of the cluster: "auto", "host:6379", "ray://host:10001"; "" = Ray on this machine
    workers: Annotated[int, Field(ge=0, le=1024)] = 0  # 0 = one per core
    device: Annotated[str, Field(pattern=f"^{DEVICE_PATTERN}$")] = "cpu"  # of the ensemble's networks
    time_budget_s: PositiveSeconds | None = None
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 2
    # A worker busy this long with one recording is taken for hung. A call of 4 h takes some minutes.
    recording_timeout_s: PositiveSeconds = 900.0


class GateSettings(Table):
    """`[gate]`: what a night must look like to be published; otherwise the run ends with exit 8."""

    enabled: bool = True
    min_calls: Annotated[int, Field(ge=1, le=10**9)] = 100  # smaller nights are not checked: few say nothing
    min_volume_share: Share = 0.2  # of what is usual on these weekdays
    max_failed_share: Share = 0.5  # of the recordings tried
    min_done_share: Share = 0.0  # when the time budget ends the run; 0 publishes whatever was done


class RetrainSettings(Table):
    """`[retrain]`: what `callanalytics retrain` learns from, and when its result is put to use."""

    corpora: tuple[str, ...] = ()  # [NAME=]PATH, relative to the config file
    reviewed: bool = False  # also the segments that people reviewed
    ordinary: tuple[str, ...] = ()  # files or folders of calls, relative to the config file: calm speech
    consent: bool = False  # that the callers of reviewed and ordinary calls may be trained on
    preset: Literal["quick", "night"] = "night"
    start: Literal["scratch", "in_use"] = "scratch"
    heads: bool | None = None  # learn only the centred heads, in minutes; default: with reviewed segments
    margin: Share = 0.01  # UAR to gain, with an interval above zero, before it is promoted
    licence: str = ""  # written into the card

    @property
    def only_heads(self) -> bool:
        """Whether the bodies of the ensemble in use are kept."""
        return self.reviewed if self.heads is None else self.heads


def _if_read(words: str, read: Callable[..., object]) -> str:
    """Words about time, when they can be read. Raises ValueError, as pydantic expects it."""
    try:
        read(zone=ZoneInfo("UTC"), now=datetime.now(UTC))
    except UsageError as problem:
        raise ValueError(str(problem).removesuffix(".")) from None
    return words


class ScheduleSettings(Table):
    """`[schedule]`: when `callanalytics schedule` runs what; five cron fields each, "" for never."""

    zone: ZoneName | None = None  # default: [time] zone
    run: str = "0 2 * * *"
    report: str = ""
    retrain: str = ""
    purge: str = ""
    health: str = "*/15 * * * *"
    report_since: str = "7d"  # window of the scheduled report, in the words of --since
    purge_older_than: str = "365d"  # what the scheduled purge removes: days, weeks, or a date
    grace_h: Annotated[float, Field(gt=0, le=168)] = 6.0  # how late a job may still start
    retries: Annotated[int, Field(ge=0, le=20)] = 2
    retry_after_s: PositiveSeconds = 900.0
    ping_url: str | None = None  # GET after a night that ended well
    ping_failed_url: str | None = None  # GET after a night that failed or was missed
    ping_timeout_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    textfile: str | None = None  # metrics for Prometheus node_exporter

    @field_validator(*JOB_NAMES)
    @classmethod
    def _cron_reads(cls, words: str) -> str:
        from callanalytics.config.cron import parse_cron

        if words:
            parse_cron(words)
        return words

    @field_validator("report_since")
    @classmethod
    def _window_reads(cls, words: str) -> str:
        from callanalytics.config.window import parse_window

        if re.fullmatch(r"\d+\s*m", words.strip().lower()):
            raise ValueError(
                "m is minutes, which are no window of a report: give days or weeks, as 30d or 4w"
            )
        return _if_read(words, partial(parse_window, words, None))

    @field_validator("purge_older_than")
    @classmethod
    def _age_reads(cls, words: str) -> str:
        from callanalytics.config.window import parse_age

        return _if_read(words, partial(parse_age, words))

    @field_validator("ping_url", "ping_failed_url")
    @classmethod
    def _only_http(cls, url: str | None) -> str | None:
        return _http_address(url)

    def crons(self) -> dict[str, str]:
        """The cron words of every job that is scheduled."""
        return {name: words for name in JOB_NAMES if (words := getattr(self, name))}


NotifyEvent = Literal["brief", "gate", "failed", "missed"]


class NotifySettings(Table):
    """`[notify]`: who is told of the night, and of what. Addresses are secrets, so none stands here."""

    urls_from: tuple[str, ...] = ()  # environment variables that hold Apprise addresses; none = nobody
    events: tuple[NotifyEvent, ...] = ("brief", "gate", "failed", "missed")
    redact: bool = True  # without names of people and files, and without what a program said
    pages_url: str | None = None  # where people open the pages, for links

    @field_validator("urls_from")
    @classmethod
    def _only_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
            raise ValueError("give names of environment variables that hold the addresses, not the addresses")
        return names

    @field_validator("pages_url")
    @classmethod
    def _only_http(cls, url: str | None) -> str | None:
        return _http_address(url)


def _http_address(url: str | None) -> str | None:
    if url is not None and not url.startswith(("https://", "http://")):
        raise ValueError("give an address that begins with https:// or http://")
    return url


class PrivacySettings(Table):
    """`[privacy]`: the secret that caller numbers are hashed with, and whether agents' voices are kept."""

    salt_file: str = ".caller-salt"  # made with 0600 in the out folder when it does not exist
    # Voice prints that tell a person are biometric data (GDPR, Article 9): only on request.
    voice_profiles: bool = False


_LOCALES = {"en": "en_GB", "de": "de_DE", "es": "es_ES"}


class ReportSettings(Table):
    """`[report]`: how pages look and what they carry."""

    title: str = "Call emotions"
    clip_context_s: Annotated[float, Field(ge=0, le=30)] = 2.0
    max_clips_per_call: Annotated[int, Field(ge=0, le=20)] = 3
    max_call_pages: Annotated[int, Field(ge=0, le=1_000_000)] = 2000
    language: Literal["en", "de", "es"] = "en"  # of the report
    locale: str = ""  # how dates and numbers are written; "" goes with the language

    @property
    def written_locale(self) -> str:
        """`locale`, or the one that goes with the language."""
        return self.locale or _LOCALES[self.language]

    @field_validator("locale")
    @classmethod
    def _locale_known(cls, locale: str) -> str:
        if locale not in ("", "en_GB"):
            from babel import Locale, UnknownLocaleError

            try:
                Locale.parse(locale)
            except (UnknownLocaleError, ValueError):
                raise ValueError('no such locale; examples are "en_US", "de_DE", "fr"') from None
        return locale

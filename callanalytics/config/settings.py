"""All tables of config.toml together, found, read and checked: file, table, key, value, what is allowed."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ValidationError

from callanalytics.config.call_settings import (
    BESIDE,
    DEFAULT_RULES,
    AudioSettings,
    DiscoverySettings,
    EmotionSettings,
    FrustrationSettings,
    PathSettings,
    RecorderSettings,
    RuleSet,
    RuleSettings,
    SegmentSettings,
    Table,
    TimeSettings,
    WordsSettings,
    machine_zone,
)
from callanalytics.config.job_settings import (
    EngineSettings,
    GateSettings,
    NotifySettings,
    PrivacySettings,
    ReportSettings,
    RetrainSettings,
    ScheduleSettings,
)
from callanalytics.errors import ConfigError
from callanalytics.records.text import did_you_mean
from callanalytics.workspace import Workspace

CONFIG_NAME = "config.toml"
_ITEM_TABLES: dict[str, type[BaseModel]] = {"recorder": RecorderSettings, "rule": RuleSettings}


class Settings(Table):
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
    words: WordsSettings = WordsSettings()
    engine: EngineSettings = EngineSettings()
    gate: GateSettings = GateSettings()
    retrain: RetrainSettings = RetrainSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    privacy: PrivacySettings = PrivacySettings()
    notify: NotifySettings = NotifySettings()
    report: ReportSettings = ReportSettings()

    @property
    def out_dir(self) -> Path:
        """Folder of everything that a run writes."""
        return self.folder / self.paths.out

    @property
    def file(self) -> Path | None:
        """The config file that the settings were read from, None for the built-in defaults."""
        return None if self.source == type(self).model_fields["source"].default else Path(self.source)

    @property
    def rule_set(self) -> RuleSet:
        """What decides which calls are flagged."""
        return RuleSet.of(self.frustration, self.rule)

    @property
    def schedule_zone(self) -> ZoneInfo:
        """The zone that the cron times of `[schedule]` are in."""
        return ZoneInfo(self.schedule.zone) if self.schedule.zone else self.time.zone_info

    @property
    def words_model(self) -> Path | None:
        """Folder of the model that recognises words; None when none does."""
        return None if self.words.model is None else self.folder / self.words.model

    @property
    def transcript_folders(self) -> tuple[Path, ...]:
        """Folders of transcripts, without the ones that recordings lie in."""
        return tuple(self.folder / name for name in self.words.transcripts if name != BESIDE)

    def conversation_share(self, of_recorder: float | None) -> float:
        """Share of mono recordings that hold two voices or more: the recorder's, else that of `[audio]`."""
        return self.audio.conversation_share if of_recorder is None else of_recorder

    @property
    def input_dirs(self) -> tuple[Path, ...]:
        """Folders (or files) that hold recordings."""
        return tuple(Path(entry) if "://" in entry else self.folder / entry for entry in self.paths.inputs)


def find_config(explicit: Path | None) -> Path | None:
    """The config file to use: the given one, else $CALLANALYTICS_CONFIG, else ./config.toml, else none."""
    if explicit is not None:
        return explicit
    named = os.environ.get("CALLANALYTICS_CONFIG")
    if named:
        return Path(named)
    here = Path(CONFIG_NAME)
    return here if here.is_file() else None


def load_config(path: Path | None = None, out: Path | None = None) -> Settings:
    """Read, check and freeze the settings. `$CALLANALYTICS_OUT` stands before `[paths] out`.

    Without `[time] zone` the zone is the one that the results in `out` (default: `[paths] out`) were made
    with, so that their days stay days, else that of this machine.

    Raises:
        ConfigError: the file is missing, is no TOML, or holds something not allowed; the message
            has one line per problem with file, table, key, value and what is allowed.
    """
    found = find_config(path)
    settings = Settings(folder=Path.cwd()) if found is None else _read(found)
    if results := os.environ.get("CALLANALYTICS_OUT"):
        paths = settings.paths.model_copy(update={"out": str(Path(results).absolute())})
        settings = settings.model_copy(update={"paths": paths})
    if settings.time.zone is not None:
        return settings
    zone = Workspace(out or settings.out_dir).zone
    return settings.model_copy(update={"time": TimeSettings(zone=zone or machine_zone())})


def _read(found: Path) -> Settings:
    try:
        # Editors of Windows begin a file with a byte order mark.
        table = tomllib.loads(found.read_text(encoding="utf-8-sig"))
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
        allowed = sorted(_allowed_keys(error["loc"][:-1]))
        known = f"{did_you_mean(key, allowed)} Known keys: {', '.join(allowed)}."
        return f"{source}: {table}: unknown key {key!r} = {_shown(error)}.{known}"
    if error["type"] == "missing":
        return f"{source}: {table}: key {key!r} is missing. Add it."
    message = error["msg"].removeprefix("Value error, ")
    return f"{source}: {table}: {key} = {_shown(error)} is not allowed: {message}. Correct the value."


def _shown(error: Any) -> str:
    """The value that is wrong, unless it may be an address, whose path or login is a secret."""
    may_be_secret = any("url" in str(part) for part in error["loc"])
    return "(not repeated: it may hold a secret)" if may_be_secret else repr(error["input"])


def _allowed_keys(path: tuple[int | str, ...]) -> list[str]:
    """Keys that the table at `path` may have."""
    model: type[BaseModel] = Settings
    for part in path:
        if isinstance(part, str) and part in model.model_fields:
            model = _ITEM_TABLES.get(part) or type(model.model_fields[part].default)
    return [name for name in model.model_fields if name not in {"folder", "source"}]

"""All tables of config.toml together: frozen and validated."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

from callanalytics.config.call_settings import (
    AudioSettings,
    DiscoverySettings,
    EmotionSettings,
    FrustrationSettings,
    PathSettings,
    RecorderSettings,
    SegmentSettings,
    TimeSettings,
)
from callanalytics.config.job_settings import (
    EngineSettings,
    GateSettings,
    PrivacySettings,
    ReportSettings,
    RetrainSettings,
    ScheduleSettings,
)
from callanalytics.config.rule_settings import DEFAULT_RULES, RuleSettings
from callanalytics.config.settings_table import Table


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

"""config.toml -> frozen, validated settings. Unknown keys, wrong types and impossible values are refused.

Every table is one class; its defaults are the shipped behaviour.
"""

from __future__ import annotations

from callanalytics.config.call_settings import (
    DEFAULT_RULES,
    ONE_OF_THE_VOICES,
    PHRASE,
    RULE_MEASURES,
    AudioSettings,
    DiscoverySettings,
    EmotionSettings,
    FrustrationSettings,
    RecorderSettings,
    RuleSet,
    RuleSettings,
    SegmentSettings,
    TimeSettings,
    WordsSettings,
)
from callanalytics.config.job_settings import (
    JOB_NAMES,
    EngineSettings,
    GateSettings,
    ReportSettings,
    RetrainSettings,
)
from callanalytics.config.settings import Settings, find_config, load_config, settings_from, write_threshold

__all__ = [
    "DEFAULT_RULES",
    "JOB_NAMES",
    "ONE_OF_THE_VOICES",
    "PHRASE",
    "RULE_MEASURES",
    "AudioSettings",
    "DiscoverySettings",
    "EmotionSettings",
    "EngineSettings",
    "FrustrationSettings",
    "GateSettings",
    "RecorderSettings",
    "ReportSettings",
    "RetrainSettings",
    "RuleSet",
    "RuleSettings",
    "SegmentSettings",
    "Settings",
    "TimeSettings",
    "WordsSettings",
    "find_config",
    "load_config",
    "settings_from",
    "write_threshold",
]

"""`[[rule]]`: when a call is escalated, and the rules that hold when config.toml names none."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from callanalytics.config.settings_table import Table
from ensemble.labels import EMOTIONS

# What a rule may look at; callanalytics/analysis/measures.py defines each.
RULE_MEASURES = (
    *("silence_s", "silence_share", "longest_silence_s", "n_long_silences", "overtalk_s", "overtalk_share"),
    *("masked_s", "tone_s", "music_s", "talk_s", "talk_share", "n_turns", "interruptions", "interruptions_s"),
    *("labelled_s", "labelled_share", "angry_s", "frustration", "frustration_peak"),
    *("loudness_rise_db", "pitch_rise_st"),
    *(f"{emotion}_share" for emotion in EMOTIONS),
)


class RuleSettings(Table):
    """`[[rule]]`: one reason to escalate. See `callanalytics/analysis/measures.py` for the measures."""

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


# Thresholds were chosen on built calls, see docs/explanation/flags.md and benchmarks/escalation.py.
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

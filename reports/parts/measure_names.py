"""Call measures for people: names, units, and the rules that look at them. Pure."""

from __future__ import annotations

from callanalytics.config import PHRASE, RuleSettings
from reports.formatting import count, length, number, percent, plain, signed

# Rows of a call page: (measure, role, text).
MEASURE_ROWS: tuple[tuple[str, str | None, str], ...] = (
    ("frustration_peak", "caller", "Caller's frustration, peak"),
    ("frustration", "caller", "Caller's frustration, mean"),
    ("angry_s", "caller", "Caller angry or disgusted"),
    ("anger_share", "caller", "Caller's speech labelled anger"),
    ("loudness_rise_db", "caller", "Caller louder than when calm"),
    ("pitch_rise_st", "caller", "Caller higher than when calm"),
    ("talk_s", "caller", "Caller talks"),
    ("talk_s", "agent", "Agent talks"),
    ("frustration_peak", "unknown", "Frustration of one of the voices, peak"),
    ("frustration", "unknown", "Frustration of one of the voices, mean"),
    ("loudness_rise_db", "unknown", "One of the voices louder than when calm"),
    ("pitch_rise_st", "unknown", "One of the voices higher than when calm"),
    ("angry_s", "unknown", "Voices of unknown side angry or disgusted"),
    ("anger_share", "unknown", "Speech of unknown side labelled anger"),
    ("talk_s", "unknown", "Voices of unknown side talk"),
    ("silence_s", None, "Nobody talks"),
    ("longest_silence_s", None, "Longest silence"),
    ("n_long_silences", None, "Silences over 3 s"),
    ("overtalk_s", None, "Both talk"),
    ("interruptions", "caller", "Caller interrupts"),
    ("interruptions", "agent", "Agent interrupts"),
    ("masked_s", None, "Masked (payment pause)"),
    ("music_s", None, "Music"),
    ("tone_s", None, "Tones"),
)
QUARTER_ROWS = (
    ("frustration", "caller", "Caller's frustration"),
    ("anger_share", "caller", "Caller's speech labelled anger"),
    ("talk_share", "caller", "Caller talks"),
    ("talk_share", "agent", "Agent talks"),
    ("interruptions", "agent", "Agent interrupts"),
    ("interruptions", "caller", "Caller interrupts"),
    ("frustration", "unknown", "Frustration of one of the voices"),
    ("anger_share", "unknown", "Speech of unknown side labelled anger"),
    ("talk_share", "unknown", "Voices of unknown side talk"),
)
_NAMES = {
    "frustration_peak": "frustration at its peak",
    "frustration": "mean frustration",
    "angry_s": "speech labelled anger or disgust",
    "longest_silence_s": "longest silence",
    "n_long_silences": "silences over 3 s",
    "loudness_rise_db": "rise in loudness",
    "pitch_rise_st": "rise in pitch",
}
_PERIODS = {
    "call": "the whole call",
    "q1": "the first quarter",
    "q2": "the second quarter",
    "q3": "the third quarter",
    "q4": "the last quarter",
    "first_half": "the first half",
    "second_half": "the second half",
}
MAX_PHRASES = 3  # of a rule, where it is described
_UNIT_ENDS = ("_s", "_share", "_db", "_st")


def with_unit(name: str, value: float) -> str:
    """A measure with the unit that its name ends on."""
    if name.endswith("_s"):
        return length(value) if value >= 10 else f"{number(value)} s"
    if name.endswith("_share") or name.startswith("frustration"):
        return percent(value)
    if name.endswith("_db"):
        return f"{signed(value)} dB"
    if name.endswith("_st"):
        return f"{signed(value)} semitones"
    return number(value, 0)


def range_with_unit(name: str, low: float, high: float) -> str:
    """Two values of one measure, the unit said once."""
    first, last = with_unit(name, low), with_unit(name, high)
    same = first.split()[1:] == last.split()[1:] and len(last.split()) == 2
    return f"{first.split()[0] if same else first} to {last}"


def measure_name(name: str) -> str:
    """A measure for people, without its unit."""
    end = next((end for end in _UNIT_ENDS if name.endswith(end)), "")
    return _NAMES.get(name, plain(name.removesuffix(end)) + (" share" if end == "_share" else ""))


def rule_text(rule: RuleSettings) -> str:
    """What a rule asks, for example "caller: frustration at its peak at least 50%, in the whole call"."""
    whose = "" if rule.role == "any" else f"{rule.role}: "
    condition = f"{measure_name(rule.measure)} at least {with_unit(rule.measure, rule.at_least)}"
    if rule.measure == PHRASE:
        more = ", …" * (len(rule.phrases) > MAX_PHRASES)
        said = ", ".join(f"“{phrase}”" for phrase in rule.phrases[:MAX_PHRASES]) + more
        compared = "said less than" if rule.negate else "said at least"
        condition = f"{said or rule.pattern} {compared} {count(round(rule.at_least), 'time')}"
    return f"{whose}{condition}, in {_PERIODS[rule.window]}"

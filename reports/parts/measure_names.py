"""Call measures for people: names, units, and the rules that look at them. Pure."""

from __future__ import annotations

from callanalytics.config import PHRASE, RuleSettings
from reports.formatting import counted, from_to, length, number, percent, plain, score_text, signed
from reports.translation import _, marked

# Rows of a call page: (measure, role, text).
MEASURE_ROWS: tuple[tuple[str, str | None, str], ...] = (
    ("frustration_peak", "caller", marked("Caller's frustration, peak")),
    ("frustration", "caller", marked("Caller's frustration, mean")),
    ("angry_s", "caller", marked("Caller angry or disgusted")),
    ("anger_share", "caller", marked("Caller's speech labelled anger")),
    ("loudness_rise_db", "caller", marked("Caller louder than when calm")),
    ("pitch_rise_st", "caller", marked("Caller higher than when calm")),
    ("talk_s", "caller", marked("Caller talks")),
    ("talk_s", "agent", marked("Agent talks")),
    ("frustration_peak", "unknown", marked("Frustration of one of the voices, peak")),
    ("frustration", "unknown", marked("Frustration of one of the voices, mean")),
    ("loudness_rise_db", "unknown", marked("One of the voices louder than when calm")),
    ("pitch_rise_st", "unknown", marked("One of the voices higher than when calm")),
    ("angry_s", "unknown", marked("Voices of unknown side angry or disgusted")),
    ("anger_share", "unknown", marked("Speech of unknown side labelled anger")),
    ("talk_s", "unknown", marked("Voices of unknown side talk")),
    ("silence_s", None, marked("Nobody talks")),
    ("longest_silence_s", None, marked("Longest silence")),
    ("n_long_silences", None, marked("Silences over 3 s")),
    ("overtalk_s", None, marked("Both talk")),
    ("interruptions", "caller", marked("Caller interrupts")),
    ("interruptions", "agent", marked("Agent interrupts")),
    ("masked_s", None, marked("Masked (payment pause)")),
    ("music_s", None, marked("Music")),
    ("tone_s", None, marked("Tones")),
)
QUARTER_ROWS = (
    ("frustration", "caller", marked("Caller's frustration")),
    ("anger_share", "caller", marked("Caller's speech labelled anger")),
    ("talk_share", "caller", marked("Caller talks")),
    ("talk_share", "agent", marked("Agent talks")),
    ("interruptions", "agent", marked("Agent interrupts")),
    ("interruptions", "caller", marked("Caller interrupts")),
    ("frustration", "unknown", marked("Frustration of one of the voices")),
    ("anger_share", "unknown", marked("Speech of unknown side labelled anger")),
    ("talk_share", "unknown", marked("Voices of unknown side talk")),
)
_NAMES = {
    "frustration_peak": marked("frustration at its peak"),
    "frustration": marked("mean frustration"),
    "angry_s": marked("speech labelled anger or disgust"),
    "longest_silence_s": marked("longest silence"),
    "n_long_silences": marked("silences over 3 s"),
    "loudness_rise_db": marked("rise in loudness"),
    "pitch_rise_st": marked("rise in pitch"),
}
_PERIODS = {
    "call": marked("the whole call"),
    "q1": marked("the first quarter"),
    "q2": marked("the second quarter"),
    "q3": marked("the third quarter"),
    "q4": marked("the last quarter"),
    "first_half": marked("the first half"),
    "second_half": marked("the second half"),
}
SIDES = (marked("caller"), marked("agent"), marked("unknown"))
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
        return _("{change} semitones").format(change=signed(value))
    return number(value, 0)


def beside_rule(rule: RuleSettings, value: float) -> str:
    """What was measured for a rule; what is under its threshold never reads like it."""
    text, asked = with_unit(rule.measure, value), with_unit(rule.measure, rule.at_least)
    if value >= rule.at_least or text != asked:
        return text
    closer = score_text(value, rule.at_least) if rule.measure.startswith("frustration") else ""
    return closer or _("under {share}").format(share=text)


def range_with_unit(name: str, low: float, high: float) -> str:
    """Two values of one measure, the unit said once."""
    first, last = with_unit(name, low), with_unit(name, high)
    same = first.split()[1:] == last.split()[1:] and len(last.split()) == 2
    return from_to(first.split()[0] if same else first, last)


def measure_name(name: str) -> str:
    """A measure for people, without its unit."""
    end = next((end for end in _UNIT_ENDS if name.endswith(end)), "")
    if name in _NAMES:
        return _(_NAMES[name])
    text = plain(name.removesuffix(end))
    return _("{measure} share").format(measure=text) if end == "_share" else text


def rule_text(rule: RuleSettings) -> str:
    """What a rule asks, for example "caller: frustration at its peak at least 50%, in the whole call"."""
    part = _(_PERIODS[rule.window])
    if rule.measure == PHRASE:
        condition = _phrase_text(rule, part)
    else:
        text = _("{measure} at least {value}, in {part}")
        if rule.negate:
            text = _("{measure} under {value}, in {part}")
        value = with_unit(rule.measure, rule.at_least)
        condition = text.format(measure=measure_name(rule.measure), value=value, part=part)
    return condition if rule.role == "any" else f"{_(rule.role)}: {condition}"


def _phrase_text(rule: RuleSettings, part: str) -> str:
    more = ", …" * (len(rule.phrases) > MAX_PHRASES)
    quoted = ", ".join(f"“{phrase}”" for phrase in rule.phrases[:MAX_PHRASES]) + more
    said, n = quoted or str(rule.pattern), round(rule.at_least)
    if rule.negate:
        return counted(
            "{said} said less than {n} time, in {part}",
            "{said} said less than {n} times, in {part}",
            n,
            said=said,
            part=part,
        )
    return counted(
        "{said} said at least {n} time, in {part}",
        "{said} said at least {n} times, in {part}",
        n,
        said=said,
        part=part,
    )

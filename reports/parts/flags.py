"""What a flag says: frustration, a raised voice, or neither; stored texts in other languages. Pure."""

from __future__ import annotations

import re
from functools import cache

from callanalytics.config import DEFAULT_RULES, ONE_OF_THE_VOICES, Settings
from callanalytics.records.text import TimeDoubt
from reports.formatting import calls_text, counted, percent, whole_number
from reports.report_source import Row
from reports.translation import ENGLISH, _, language, marked

# A caller *sounded frustrated* only where a rule on frustration itself says so: loudness and pitch
# measure a raised voice, whatever it is raised for.
FRUSTRATION_MEASURES = frozenset({"frustration", "frustration_peak"})
VOICE_MEASURES = frozenset({"loudness_rise_db", "pitch_rise_st"})

# Order of flagged calls: who sounded frustrated by the peak, then the others by the weight of the rules
# they met. Calls without a flag are in order of their peak. `s` is call_summary, `$frustrated` the names of
# the rules on frustration.
RANKING = """
s.flagged DESC,
s.flagged AND EXISTS (
    SELECT 1 FROM escalations e WHERE e.call_id = s.call_id AND list_contains($frustrated, e.rule)
) DESC,
CASE WHEN s.flagged AND NOT EXISTS (
    SELECT 1 FROM escalations e WHERE e.call_id = s.call_id AND list_contains($frustrated, e.rule)
) THEN (SELECT sum(e.weight) FROM escalations e WHERE e.call_id = s.call_id) END DESC NULLS LAST,
s.frustration_score DESC NULLS LAST, s.started_at, s.call_id
"""


def rules_on(settings: Settings, measures: frozenset[str]) -> list[str]:
    """Names of the rules that look at one of these measures of the caller."""
    return [rule.name for rule in settings.rule if rule.role == "caller" and rule.measure in measures]


def flag_headline(totals: Row, when: str) -> str:
    """How many calls were flagged, in the strongest words that are true of each of them."""
    text = _headline(totals, when)
    return text[:1].upper() + text[1:]


def _headline(totals: Row, when: str) -> str:
    n, n_flagged = totals["n"], totals["n_flagged"]
    if n_flagged == 0:
        return _("No call was flagged {when}").format(when=when)
    values = {"flagged": whole_number(n_flagged), "when": when}
    if totals["n_frustrated"] == n_flagged and not totals["n_unknown"]:
        return counted(
            "In {flagged} of {n} call the caller sounded frustrated {when}",
            "In {flagged} of {n} calls the caller sounded frustrated {when}",
            n,
            **values,
        )
    if totals["n_raised"] == n_flagged and not totals["n_unknown"]:
        return counted(
            "In {flagged} of {n} call the caller raised their voice {when}",
            "In {flagged} of {n} calls the caller raised their voice {when}",
            n,
            **values,
        )
    values = {"all": calls_text(n), "when": when}
    return counted("{n} of {all} was flagged {when}", "{n} of {all} were flagged {when}", n_flagged, **values)


def flag_lead(totals: Row) -> str:
    """What the headline leaves open, empty when it says all."""
    n_frustrated, n_raised, n_flagged = totals["n_frustrated"], totals["n_raised"], totals["n_flagged"]
    n_unknown = totals["n_unknown"]
    if n_flagged == 0 or (n_flagged == n_frustrated and not n_unknown):
        return ""
    if n_raised == n_flagged and not n_unknown:
        return _("None of them reached the rule for frustration.")
    parts = []
    if n_frustrated and n_unknown:
        parts.append(counted_in(_("in {n} of them one of the voices sounded frustrated"), n_frustrated))
    elif n_frustrated:
        parts.append(counted_in(_("in {n} of them the caller sounded frustrated"), n_frustrated))
    if n_raised and n_frustrated:
        parts.append(counted_in(_("in {n} more the voice was raised"), n_raised))
    elif n_raised:
        parts.append(counted_in(_("in {n} of them the voice was raised"), n_raised))
    if n_unknown:
        parts.append(counted_in(_("in {n} of them nobody could tell if it was the caller"), n_unknown))
    if not parts:
        return ""
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def counted_in(text: str, n: int) -> str:
    """A text whose {n} is the same word for one and for many."""
    return text.format(n=whole_number(n))


def ranking_text(totals: Row) -> str:
    """The order of the flagged calls."""
    if totals["n_frustrated"] == totals["n_flagged"]:
        if totals["n_unknown"]:
            return _("Ranked by how frustrated one of the voices sounded at the peak.")
        return _("Ranked by how frustrated the caller sounded at the peak.")
    if not totals["n_frustrated"]:
        return _("Ranked by the weight of the rules they met, then by frustration at its peak.")
    if totals["n_unknown"]:
        return _(
            "Calls in which a voice sounded frustrated come first, by its peak; then the others, by the "
            "weight of the rules they met."
        )
    return _(
        "Callers who sounded frustrated come first, by the peak; then the others, by the weight of the rules "
        "they met."
    )


# Texts that the analysis stores in English: reasons of the built-in rules, and what a moment shows.
EVIDENCE = (
    marked("sounds frustrated, {value} at {at}"),
    marked("frustration {level}"),
    marked("{rise} dB louder than when calm"),
    marked("{rise} dB louder"),
    marked("{rise} semitone higher"),
    marked("{rise} semitones higher"),
    marked("voice raised"),
    marked("nobody speaks"),
    marked("agent talks over caller"),
    marked("caller talks over agent"),
    marked("one of the voices talks over agent"),
    marked("agent talks over one of the voices"),
)
REASONS = tuple(re.sub(r":[^}]*}", "}", rule.reason) for rule in DEFAULT_RULES)


def stored_text(text: str) -> str:
    """A text of the database in the language of the page; one that is not ours stays as it is."""
    if language() == ENGLISH:
        return text
    voice, colon, rest = text.rpartition(f"{ONE_OF_THE_VOICES}: ")
    if colon and not voice:
        return f"{_('one of the voices')}: {stored_text(rest)}"
    return _translated(text) or ", ".join(_translated(part) or part for part in text.split(", "))


def _translated(text: str) -> str:
    for template, pattern in _patterns():
        if found := pattern.fullmatch(text):
            values = {name: _figure(value) for name, value in found.groupdict().items()}
            return _(template).format(**values)
    return ""


def _figure(text: str) -> str:
    return percent(int(text[:-1]) / 100) if re.fullmatch(r"\d+%", text) else text


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Each template with what finds its values."""
    plain = [(template, "[^,]+?") for template in (*REASONS, *EVIDENCE)]
    return [
        (template, re.compile(_with_groups(re.escape(template), value)))
        for template, value in (*plain, *((doubt, ".+?") for doubt in TimeDoubt))
    ]


def _with_groups(pattern: str, value: str) -> str:
    """A group for each value; where one stands twice, it is the same."""
    known: set[str] = set()

    def group(found: re.Match[str]) -> str:
        name = found[1]
        is_known = name in known
        known.add(name)
        return f"(?P={name})" if is_known else f"(?P<{name}>{value})"

    return re.sub(r"\\{(\w+)\\}", group, pattern)

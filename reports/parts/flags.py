"""What a flag says: that the caller sounded frustrated, that the voice was raised, or neither. Pure."""

from __future__ import annotations

from callanalytics.config import Settings
from reports.formatting import count, whole_number
from reports.report_source import Row

# A caller *sounded frustrated* only where a rule on frustration itself says so: loudness and pitch
# measure a raised voice, whatever it is raised for.
FRUSTRATION_MEASURES = frozenset({"frustration", "frustration_peak"})
VOICE_MEASURES = frozenset({"loudness_rise_db", "pitch_rise_st"})

# Order of flagged calls: who sounded frustrated by the peak, then the others by the weight of the rules
# they met. Calls without a flag are in order of their peak. `$frustrated`: names of the rules on frustration.
RANKING = """
flagged DESC,
flagged AND EXISTS (
    SELECT 1 FROM escalations e WHERE e.call_id = s.call_id AND list_contains($frustrated, e.rule)
) DESC,
CASE WHEN flagged AND NOT EXISTS (
    SELECT 1 FROM escalations e WHERE e.call_id = s.call_id AND list_contains($frustrated, e.rule)
) THEN (SELECT sum(e.weight) FROM escalations e WHERE e.call_id = s.call_id) END DESC NULLS LAST,
frustration_score DESC NULLS LAST, started_at, call_id
"""


def rules_on(settings: Settings, measures: frozenset[str]) -> list[str]:
    """Names of the rules that look at one of these measures of the caller."""
    return [rule.name for rule in settings.rule if rule.role == "caller" and rule.measure in measures]


def flag_headline(totals: Row, when: str) -> str:
    """How many were flagged, in the strongest words that are true of each of them."""
    n, n_flagged = totals["n"], totals["n_flagged"]
    if n_flagged == 0:
        return f"No call was flagged {when}"
    flagged = whole_number(n_flagged)
    if totals["n_frustrated"] == n_flagged and not totals["n_unknown"]:
        return f"{flagged} of {count(n, 'caller')} sounded frustrated {when}"
    if totals["n_raised"] == n_flagged and not totals["n_unknown"]:
        return f"{flagged} of {count(n, 'caller')} raised their voice {when}"
    return f"{flagged} of {count(n, 'call')} {'was' if n_flagged == 1 else 'were'} flagged {when}"


def flag_lead(totals: Row) -> str:
    """What the headline leaves open, empty when it says all."""
    n_frustrated, n_raised, n_flagged = totals["n_frustrated"], totals["n_raised"], totals["n_flagged"]
    n_unknown = totals["n_unknown"]
    if n_flagged == 0 or (n_flagged == n_frustrated and not n_unknown):
        return ""
    if n_raised == n_flagged and not n_unknown:
        return "None of them reached the rule for frustration."
    parts = []
    if n_frustrated:
        who = "one of the voices" if n_unknown else "the caller"
        parts.append(f"in {whole_number(n_frustrated)} of them {who} sounded frustrated")
    if n_raised:
        more = "more " if n_frustrated else "of them "
        parts.append(f"in {whole_number(n_raised)} {more}the voice was raised")
    if n_unknown:
        parts.append(f"in {whole_number(n_unknown)} of them nobody could tell if it was the caller")
    if not parts:
        return ""
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def ranking_text(totals: Row) -> str:
    """The order of the flagged calls."""
    if totals["n_frustrated"] == totals["n_flagged"]:
        who = "one of the voices" if totals["n_unknown"] else "the caller"
        return f"Ranked by how frustrated {who} sounded at the peak."
    others = "by the weight of the rules they met, then by frustration at its peak"
    if totals["n_frustrated"]:
        who = "Calls in which a voice" if totals["n_unknown"] else "Callers who"
        return f"{who} sounded frustrated come first, by its peak; then the others, {others}."
    return f"Ranked {others}."

"""A recorder's name template -> a pattern. VICIdial's fields and some more."""

from __future__ import annotations

import re

from callanalytics.errors import ConfigError

# Field -> what it looks like. Greedy enough to be unambiguous between separators.
FIELDS: dict[str, str] = {
    "FULLDATE": r"\d{8}-?\d{6}",
    "DATE": r"\d{4}-?\d{2}-?\d{2}",
    "TIME": r"\d{2}[-_]?\d{2}[-_]?\d{2}",
    "EPOCH": r"\d{9,10}(?:\.\d+)?",
    "TINYDATE": r"[0-9A-Za-z]+",
    "CUSTPHONE": r"\+?\d{3,15}",
    "AGENT": r"[\w.@]+?",
    "AGENTNAME": r"[^_]+?",
    "CAMPAIGN": r"[\w.]+?",
    "INGROUP": r"[\w.]+?",
    "QUEUE": r"[\w.]+?",
    "DIRECTION": r"[A-Za-z]+",
    "CALLID": r"[\w.-]+?",
    "GUID": r"[\w-]+?",
    "LEADID": r"\d+",
    "RECID": r"\d+",
    "VENDORLEADCODE": r"[\w.-]*?",
    "ANY": r".*?",
}
_FACT = {
    "CUSTPHONE": "caller_number",
    "AGENT": "agent_id",
    "AGENTNAME": "agent_name",
    "CAMPAIGN": "campaign",
    "INGROUP": "queue",
    "QUEUE": "queue",
    "DIRECTION": "direction",
    "CALLID": "external_id",
    "GUID": "external_id",
}
# Fields that may hold the separator themselves: two of them in a row can be split in many ways.
_WILD = {"AGENT", "CAMPAIGN", "INGROUP", "QUEUE", "CALLID", "GUID", "VENDORLEADCODE", "ANY"}
_NAMES = "|".join(sorted(FIELDS, key=len, reverse=True))


def compile_template(template: str, *, where: str) -> re.Pattern[str]:
    """Compile "{FULLDATE}_{CUSTPHONE}" (or VICIdial's bare FULLDATE_CUSTPHONE) to a pattern of a stem.

    Raises:
        ConfigError: no field that says when, or an unknown field; `where` names the setting.
    """
    braced = "{" in template
    parts = re.split(r"\{(\w+)\}" if braced else rf"({_NAMES})", template)
    fields = parts[1::2]
    unknown = [f for f in fields if f not in FIELDS]
    if unknown or not fields:
        raise ConfigError(
            f"{where}: template = {template!r} names {', '.join(unknown) or 'no field'}. "
            f"Known fields: {', '.join(FIELDS)}."
        )
    pattern = ""
    seen: set[str] = set()
    n_wild = 0
    for i, part in enumerate(parts):
        if i % 2 == 0:
            pattern += re.escape(part)
            continue
        shape = FIELDS[part]
        if part in _WILD:
            n_wild += 1
            # Only the first may hold its separator, or a hostile name takes minutes to be refused.
            if n_wild > 1 and parts[i + 1]:
                shape = f"(?:(?!{re.escape(parts[i + 1][0])}){shape[:-2]}){shape[-2:]}"
        pattern += f"(?:{shape})" if part in seen or part == "ANY" else f"(?P<{part}>{shape})"
        seen.add(part)
    return re.compile(pattern + r"(?:-(?P<LEG>in|out|all))?")


def stated_by(match: re.Match[str]) -> dict[str, object]:
    """What a matched name states, under the names of `found.facts_of`; a stamp becomes ISO text."""
    said = {name: text for name, text in match.groupdict().items() if text}
    stated: dict[str, object] = {_FACT[name]: text for name, text in said.items() if name in _FACT}
    if "EPOCH" in said:
        stated["started_at"] = float(said["EPOCH"].split(".")[0])
    elif "FULLDATE" in said:
        stated["started_at"] = iso_stamp(said["FULLDATE"])
    elif "DATE" in said and "TIME" in said:
        stated["started_at"] = iso_stamp(said["DATE"] + said["TIME"])
    return stated


def iso_stamp(text: str) -> str:
    """Digits of a stamp (YYYYMMDDHHMM or ...SS, any separators) as ISO text."""
    d = re.sub(r"\D", "", text)
    seconds = f":{d[12:14]}" if len(d) >= 14 else ""
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[8:10]}:{d[10:12]}{seconds}"

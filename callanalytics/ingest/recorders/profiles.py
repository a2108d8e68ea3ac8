"""The recorders we know: how each names its files, dates them and lays out the channels.

Sources: FreePBX `app_mixmonitor` naming, VICIdial's `recording` templates, Amazon Connect's S3 layout,
Genesys Cloud's bulk export, FusionPBX's archive folders. A name is matched from its end; folders help.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath
from zoneinfo import ZoneInfo

from callanalytics.errors import ConfigError
from callanalytics.ingest.recorders.fields import Found, facts_of, read_time
from callanalytics.ingest.recorders.phone_numbers import is_phone
from callanalytics.records import Direction, Role

CALLER_LEFT = (Role.CALLER, Role.AGENT)
AGENT_LEFT = (Role.AGENT, Role.CALLER)


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of recorder. `read` gets the path and the stem (no extension, no side of a pair)."""

    kind: str
    read: Callable[[PurePath, str, ZoneInfo], Found | None]


# Field -> what it looks like. Greedy enough to be unambiguous between separators.
TEMPLATE_FIELDS: dict[str, str] = {
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
_NAMES = "|".join(sorted(TEMPLATE_FIELDS, key=len, reverse=True))


def _compiled(template: str, *, where: str) -> re.Pattern[str]:
    """Compile "{FULLDATE}_{CUSTPHONE}" (or VICIdial's bare FULLDATE_CUSTPHONE) to a pattern of a stem.

    Raises:
        ConfigError: no field that says when, or an unknown field; `where` names the setting.
    """
    braced = "{" in template
    parts = re.split(r"\{(\w+)\}" if braced else rf"({_NAMES})", template)
    fields = parts[1::2]
    unknown = [f for f in fields if f not in TEMPLATE_FIELDS]
    if unknown or not fields:
        raise ConfigError(
            f"{where}: template = {template!r} names {', '.join(unknown) or 'no field'}. "
            f"Known fields: {', '.join(TEMPLATE_FIELDS)}."
        )
    pattern = ""
    seen: set[str] = set()
    n_wild = 0
    for i, part in enumerate(parts):
        if i % 2 == 0:
            pattern += re.escape(part)
            continue
        shape = TEMPLATE_FIELDS[part]
        if part in _WILD:
            n_wild += 1
            # Only the first may hold its separator, or a hostile name takes minutes to be refused.
            if n_wild > 1 and parts[i + 1]:
                shape = f"(?:(?!{re.escape(parts[i + 1][0])}){shape[:-2]}){shape[-2:]}"
        pattern += f"(?:{shape})" if part in seen or part == "ANY" else f"(?P<{part}>{shape})"
        seen.add(part)
    return re.compile(pattern + r"(?:-(?P<LEG>in|out|all))?")


def _stated_by(match: re.Match[str]) -> dict[str, object]:
    """What a matched name states, under the names of `fields.facts_of`; a stamp becomes ISO text."""
    fields = {name: text for name, text in match.groupdict().items() if text}
    stated: dict[str, object] = {_FACT[name]: text for name, text in fields.items() if name in _FACT}
    if "EPOCH" in fields:
        stated["started_at"] = float(fields["EPOCH"].split(".")[0])
    elif "FULLDATE" in fields:
        stated["started_at"] = _iso_stamp(fields["FULLDATE"])
    elif "DATE" in fields and "TIME" in fields:
        stated["started_at"] = _iso_stamp(fields["DATE"] + fields["TIME"])
    return stated


def _iso_stamp(text: str) -> str:
    """Digits of a stamp (YYYYMMDDHHMM or ...SS, any separators) as ISO text."""
    d = re.sub(r"\D", "", text)
    seconds = f":{d[12:14]}" if len(d) >= 14 else ""
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[8:10]}:{d[10:12]}{seconds}"


_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"

_FREEPBX = re.compile(
    r"(?P<type>[a-z]+)"  # q, in, out, rg, force, exten, internal, external, conf, page, ivr, ...
    r"-(?P<to>[^-]+)-(?P<from>[^-]+)-(?P<stamp>\d{8}-\d{6})-(?P<epoch>\d{9,10})\.(?P<seq>\d+)"
)
_INBOUND = {"q", "in", "rg", "ivr", "external"}
_INTERNAL = {"internal", "exten", "conf", "page"}
_ROOMS = {"conf", "page"}  # whose number is nobody's


def _freepbx(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """The stamp is local time, the unique id at the end a UTC epoch: the epoch is believed."""
    m = _FREEPBX.fullmatch(stem)
    if m is None:
        return None
    started_at = datetime.fromtimestamp(int(m["epoch"]), UTC)
    facts: dict[str, object] = {"started_at": started_at, "external_id": f"{m['epoch']}.{m['seq']}"}
    # The unique id is made when the channel opens, the stamp when recording starts: minutes at most.
    # Compared on the wall clock, or the second pass of a repeated hour would look like a wrong zone.
    stamped_at = read_time(_iso_stamp(m["stamp"]) + "+00:00", zone)
    wall_clock = started_at.astimezone(zone).replace(tzinfo=UTC)
    if stamped_at is None or abs((stamped_at - wall_clock).total_seconds()) > 1800:
        facts["zone_note"] = f"stamp {m['stamp']} does not fit zone {zone.key}; the unique id was used"
    return Found("freepbx", 0.95, facts | _freepbx_ends(m["type"], m["to"], m["from"]))


def _freepbx_ends(kind: str, to: str, source: str) -> dict[str, object]:
    """Who called whom. Where the type does not say, a long number is the customer's, a short one ours."""
    facts: dict[str, object]
    ours: str | None
    if kind in _INBOUND or (kind == "exten" and len(source) > len(to)):
        facts = {"direction": Direction.INBOUND, "caller_number": source}
        if kind == "q":
            facts["queue"] = to
        ours = to if kind == "exten" else None
    elif kind == "out" or (is_phone(to) and not is_phone(source)):
        facts, ours = {"direction": Direction.OUTBOUND, "caller_number": to}, source
    elif is_phone(source):
        facts, ours = {"caller_number": source}, to
        if not is_phone(to):
            facts["direction"] = Direction.INBOUND
            ours = None if kind in _ROOMS else to
    else:
        facts, ours = {}, source
        if kind in _INTERNAL:
            facts["direction"] = Direction.INTERNAL
    if ours is not None:  # a call that was passed on shows a number of the outside world at both ends
        facts["other_number" if is_phone(ours) else "agent_id"] = ours
    return facts


_VICIDIAL = tuple(
    _compiled(template, where="built-in vicidial")
    for template in (
        "FULLDATE_CUSTPHONE_AGENT",
        "FULLDATE_CUSTPHONE",
        "CAMPAIGN_FULLDATE_CUSTPHONE_AGENT",
        "FULLDATE_AGENT_CUSTPHONE",
        "FULLDATE_AGENT",
    )
)


_PHONE = re.compile(r"\d{7}")


def _people(match: re.Match[str]) -> list[str]:
    fields = match.groupdict()
    return [fields[name] for name in ("AGENT", "CAMPAIGN") if fields.get(name)]


def _vicidial(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    for pattern in _VICIDIAL:
        m = pattern.fullmatch(re.sub(r"^(?:CO|CM|FR)_", "", stem))
        # A phone number where this template has the agent or campaign: the fields are in another order.
        if m is not None and not any(_PHONE.search(name) for name in _people(m)):
            facts = facts_of(_stated_by(m), zone)
            if "started_at" in facts:
                return Found("vicidial", 0.9 if m["LEG"] else 0.7, {**facts, "channel_roles": AGENT_LEFT})
    return None


_CONNECT = re.compile(rf"(?P<id>{_UUID})_(?P<stamp>\d{{8}}T\d{{2}}[:_-]\d{{2}})_UTC")


def _connect(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    m = _CONNECT.fullmatch(stem)
    started_at = read_time(_iso_stamp(m["stamp"]) + "+00:00", zone) if m else None
    if m is None or started_at is None:
        return None
    facts: dict[str, object] = {
        "started_at": started_at,
        "external_id": m["id"],
        "channel_roles": CALLER_LEFT,
    }
    return Found("connect", 0.95, facts)


_GENESYS_HOUR = re.compile(r"year=(\d{4})/month=(\d{1,2})/day=(\d{1,2})/hour=(\d{1,2})(?:/|$)")


def _genesys(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    folder = next((p for p in reversed(path.parts[:-1]) if p.startswith("conversation_id=")), None)
    if folder is None:
        return None
    facts: dict[str, object] = {"external_id": folder.removeprefix("conversation_id=")}
    if m := _GENESYS_HOUR.search(path.as_posix()):
        year, month, day, hour = (int(part) for part in m.groups())
        hour_at = read_time(f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:00+00:00", zone)
        if hour_at is not None:  # only the hour: the metadata file knows better
            facts["started_at"] = hour_at
    return Found("genesys", 0.9, facts)


_ARCHIVE = re.compile(r"archive/\d{4}/[A-Z][a-z]{2}/\d{2}/")


def _fusionpbx(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """The name is the call's id and nothing else; the CDR knows the rest."""
    if re.fullmatch(_UUID, stem) is None or _ARCHIVE.search(path.as_posix()) is None:
        return None
    return Found("fusionpbx", 0.6, {"external_id": stem})


_TOKEN = re.compile(r"(?:^|_)(GUID|AGENT|CUST|DT)_([^_]+)")


def _generic(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    tokens = dict(_TOKEN.findall(stem))
    if len(tokens) < 2:
        return None
    stated: dict[str, object] = {}
    for token, fact in (("GUID", "external_id"), ("AGENT", "agent_id"), ("CUST", "caller_number")):
        if token in tokens:
            stated[fact] = tokens[token]
    if len(re.sub(r"\D", "", tokens.get("DT", ""))) >= 12:
        stated["started_at"] = _iso_stamp(tokens["DT"])
    facts = facts_of(stated, zone)
    return Found("generic", 0.9 if "started_at" in facts else 0.6, facts)


_STAMP = re.compile(
    r"(?<!\d)(GMT)?(20\d{2}-?[01]\d-?[0-3]\d)[-_T ]?([0-2]\d[-_:.]?[0-5]\d(?:[-_:.]?[0-5]\d)?)(?!\d)"
)


def _stamp(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Nothing known but a date and a time somewhere in the name; the last one counts."""
    found = _STAMP.findall(stem)
    if not found:
        return None
    gmt, day, clock = found[-1]
    started_at = read_time(_iso_stamp(day + clock) + ("+00:00" if gmt else ""), zone)
    return Found("stamp", 0.5, {"started_at": started_at}) if started_at else None


BUILT_IN: tuple[Profile, ...] = (
    Profile("freepbx", _freepbx),
    Profile("connect", _connect),
    Profile("generic", _generic),
    Profile("genesys", _genesys),
    Profile("fusionpbx", _fusionpbx),
    Profile("vicidial", _vicidial),
    Profile("stamp", _stamp),
)


def templated(kind: str, template: str, *, where: str) -> Profile:
    """A profile made from a template of the user's.

    Raises:
        ConfigError: the template names an unknown field.
    """
    pattern = _compiled(template, where=where)

    def read(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
        m = pattern.fullmatch(stem)
        return Found(kind, 0.9, facts_of(_stated_by(m), zone)) if m else None

    return Profile(kind, read)

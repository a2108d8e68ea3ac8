"""The recorders we know: how each names its files, dates them and lays out the channels.

Sources of those in this module: FreePBX `app_mixmonitor` naming, VICIdial's `recording` templates, Amazon
Connect's S3 layout, Genesys Cloud's bulk export, FusionPBX's archive folders, Twilio's REST reference (SIDs),
Zoom's support article KB0079123 (Contact Center files). `phone_systems` names its own. A name is matched from
its end; folders help.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from callanalytics.errors import ConfigError
from callanalytics.ingest.recorders import phone_systems
from callanalytics.ingest.recorders.fields import Found, facts_of, read_direction, read_time
from callanalytics.ingest.recorders.phone_numbers import is_phone
from callanalytics.ingest.recorders.stamps import UUID, iso_stamp, reconciled, stamps_in
from callanalytics.records import Direction, Role

CALLER_LEFT = (Role.CALLER, Role.AGENT)
AGENT_LEFT = (Role.AGENT, Role.CALLER)


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of recorder. `read` gets the path and the stem (no extension, no side of a pair).

    A `whole` one reads all of a name by position: another has nothing to add.
    """

    kind: str
    read: Callable[[PurePath, str, ZoneInfo], Found | None]
    whole: bool = False


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
    if "FULLDATE" in fields or {"DATE", "TIME"} <= fields.keys():
        stated["started_at"] = iso_stamp(fields.get("FULLDATE") or fields["DATE"] + fields["TIME"])
    return stated


def _facts_in(match: re.Match[str], zone: ZoneInfo) -> dict[str, object]:
    """The facts of a matched name; an epoch is weighed against its stamp."""
    stated = _stated_by(match)
    facts = facts_of(stated, zone)
    if epoch := match.groupdict().get("EPOCH"):
        facts |= reconciled(stated.get("started_at"), int(epoch.split(".")[0]), zone)
    return facts


_FREEPBX = re.compile(
    r"(?P<type>[a-z]+)"  # q, in, out, rg, force, exten, internal, external, conf, page, ivr, ...
    r"-(?P<to>[^-]+)-(?P<from>[^-]+)-(?P<stamp>\d{8}-\d{6})-(?P<epoch>\d{9,10})\.(?P<seq>\d+)"
)
_INBOUND = {"q", "in", "rg", "ivr", "external"}
_INTERNAL = {"internal", "exten", "conf", "page"}
_ROOMS = {"conf", "page"}  # whose number is nobody's


def _freepbx(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """The stamp is local time, the unique id at the end a UTC epoch: together they tell the zone.

    The unique id is made when the channel opens, the stamp when recording starts: a call that was passed on
    has several stamps under one id.
    """
    m = _FREEPBX.fullmatch(stem)
    if m is None:
        return None
    facts: dict[str, object] = {"external_id": f"{m['epoch']}.{m['seq']}"}
    facts |= reconciled(iso_stamp(m["stamp"]), int(m["epoch"]), zone)
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
# Numbers of parts and collisions, and words that recorders add: nobody is called so. A user of VICIdial has
# two characters or more.
_COUNTER = re.compile(r"\d{1,2}|0\d{2,}")
_PART = re.compile(r"\d|0\d+")
_NO_NAME = re.compile(
    r"(?:part|seg|segment|leg|track|ch|channel|copy|no|nr)[.]?\d*|mono|stereo|mix|mixed|left|right|rec|recording"
    r"|call|audio|inbound|outbound|incoming|outgoing|internal|[ap]\.?m\.?|z|(?:utc|gmt)(?:[+-]?\d+)?|ce?st|e[sd]t"
    r"|p[sd]t|c[sd]t|m[sd]t",
    re.IGNORECASE,
)


def _people(match: re.Match[str]) -> list[str]:
    fields = match.groupdict()
    return [fields[name] for name in ("AGENT", "CAMPAIGN") if fields.get(name)]


def _is_nobody(text: str) -> bool:
    return bool(_COUNTER.fullmatch(text) or _NO_NAME.fullmatch(text))


def _vicidial(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    for pattern in _VICIDIAL:
        m = pattern.fullmatch(re.sub(r"^(?:CO|CM|FR)_", "", stem))
        # A phone number where this template has the agent or campaign: the fields are in another order.
        if m is None or any(_PHONE.search(name) for name in _people(m)):
            continue
        fields = m.groupdict()
        agent, number = fields.get("AGENT") or "", fields.get("CUSTPHONE") or ""
        if _is_nobody(number or agent):  # a date and a counter are any recorder's
            continue
        facts = _facts_in(m, zone)
        if _PART.fullmatch(agent) or _NO_NAME.fullmatch(agent):
            facts.pop("agent_id", None)
        if "started_at" in facts:
            return Found("vicidial", 0.9 if m["LEG"] else 0.7, {**facts, "channel_roles": AGENT_LEFT})
    return None


_CONNECT = re.compile(rf"(?P<id>{UUID})_(?P<stamp>\d{{8}}T\d{{2}}[:_-]\d{{2}})_UTC")


def _connect(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    m = _CONNECT.fullmatch(stem)
    started_at = read_time(iso_stamp(m["stamp"]) + "+00:00", zone) if m else None
    if m is None or started_at is None:
        return None
    facts: dict[str, object] = {
        "started_at": started_at,
        "external_id": m["id"],
        "channel_roles": CALLER_LEFT,
    }
    return Found("connect", 0.99, facts)


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
    if re.fullmatch(UUID, stem) is None or _ARCHIVE.search(path.as_posix()) is None:
        return None
    return Found("fusionpbx", 0.6, {"external_id": stem})


_TWILIO = re.compile(r"(?:.*[_-])?(?P<id>RE[0-9a-f]{32})", re.IGNORECASE)


def _twilio(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """The SID of the recording, `RE` and 32 hex digits; its JSON beside knows the call and the rest.

    Which party is on which channel depends on who dialled, and is not told by the name.
    """
    m = _TWILIO.fullmatch(stem)
    return Found("twilio", 0.8, {"external_id": m["id"]}) if m else None


_ZOOM = re.compile(r"GMT(?P<stamp>\d{8}-\d{6})_(?P<id>[\w-]{20,26})_(?P<type>[A-Za-z]+)")


def _zoom(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Zoom Contact Center: `GMT20221115-181507_<id>_VoiceRecording`, in GMT."""
    m = _ZOOM.fullmatch(stem)
    started_at = read_time(iso_stamp(m["stamp"]) + "+00:00", zone) if m else None
    if m is None or started_at is None:
        return None
    return Found("zoom", 0.9, {"started_at": started_at, "external_id": m["id"]})


_TOKEN = re.compile(r"(?:^|_)(?:(GUID|AGENT|CUST)_([^_]+)|(DT)_?(?=\d)(.+))")


def _generic(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Parts that say what they are; without `DT` any stamp is the start, which `_stamp` reads."""
    tokens = {m[1] or m[3]: m[2] or m[4] for m in _TOKEN.finditer(stem)}
    if len(tokens) < 2 and not (tokens and stamps_in(stem, zone)[0]):
        return None
    stated: dict[str, object] = {}
    for token, fact in (("GUID", "external_id"), ("AGENT", "agent_id"), ("CUST", "caller_number")):
        if token in tokens:
            stated[fact] = tokens[token]
    facts = facts_of(stated, zone)
    if stamps := stamps_in(tokens.get("DT", ""), zone)[0]:
        facts["started_at"] = stamps[0].at
    return Found("generic", 0.9 if stamps else 0.6, facts)


_WAY = re.compile(
    r"(?<![A-Za-z])(?:(in(?:bound|coming))|(out(?:bound|going))|internal)(?![A-Za-z])|^(?:in|out)(?=[-_][+]?\d)"
    r"|(?<=\|_)(?:in|out)(?=_)",  # behind the stamp, as Android's BCR names its files
    re.IGNORECASE,
)
# In full: shorter ones may be ids. Ten digits that begin with 1 may be an epoch, which no caller is.
_DIALLED = re.compile(
    r"(?<![A-Za-z0-9+.])"
    r"(?:\+\d{1,3}(?: \d{2,4}){2,4}|\+\d{7,15}|00\d{8,13}|(?!1\d{9}(?!\d))\d{10,12})(?![A-Za-z0-9]|\.\d)"
)


def _stamp(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """A date and a time somewhere in the name, the first of several, and what is plain beside them."""
    stamps, rest, doubt = stamps_in(stem, zone)
    facts: dict[str, object] = {"conflict": doubt} if doubt else {}
    if not stamps:
        return Found("none", 0.0, facts) if doubt else None
    facts["started_at"] = stamps[0].at
    if (who := stamps[0].who) is not None and not _is_nobody(who):
        facts["agent_id"] = who
    if way := _WAY.search(rest):
        facts["direction"] = read_direction(way[0])
    numbers = _DIALLED.findall(unquote(rest))
    if len(numbers) == 1:
        facts["caller_number"] = numbers[0]
    elif numbers:
        facts |= {"from_number": numbers[0], "to_number": numbers[1]}
    return Found("stamp", 0.5, facts)


BUILT_IN: tuple[Profile, ...] = (
    Profile("freepbx", _freepbx, whole=True),
    Profile("yeastar", phone_systems.yeastar, whole=True),
    Profile("3cx", phone_systems.threecx, whole=True),
    Profile("five9", phone_systems.five9, whole=True),
    Profile("ringcentral", phone_systems.ringcentral, whole=True),
    Profile("8x8", phone_systems.eight_by_eight, whole=True),
    Profile("grandstream", phone_systems.grandstream, whole=True),
    Profile("wazo", phone_systems.wazo, whole=True),
    Profile("callcabinet", phone_systems.callcabinet, whole=True),
    Profile("oreka", phone_systems.oreka, whole=True),
    Profile("genesys-engage", phone_systems.genesys_engage, whole=True),
    Profile("connect", _connect, whole=True),
    Profile("generic", _generic),
    Profile("genesys", _genesys),
    Profile("fusionpbx", _fusionpbx, whole=True),
    Profile("twilio", _twilio),
    Profile("zoom", _zoom, whole=True),
    Profile("vicidial", _vicidial, whole=True),
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
        return Found(kind, 0.9, _facts_in(m, zone)) if m else None

    return Profile(kind, read)

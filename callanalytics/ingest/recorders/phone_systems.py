"""Names that phone systems and contact centres give their recordings.

Each function reads one system and names where its naming was found: the maker's documentation or code, or the
code of people who read its files. All return what `profiles.Profile` expects, times in UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from callanalytics.ingest.recorders.fields import Found, read_direction, read_time
from callanalytics.ingest.recorders.phone_numbers import is_phone
from callanalytics.ingest.recorders.stamps import iso_stamp, reconciled
from callanalytics.records import Direction

_THREECX = re.compile(
    r"\[(?P<caller>[^\]]*)\]_(?P<source>[^-_]+)-(?P<to>[^-_]+)_(?P<stamp>\d{14})\((?P<id>\d+)\)"
)


def threecx(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """3CX: `[name]_from-to_YYYYMMDDHHMMSS(id)`, in a folder per extension; local time.

    The name in brackets is that of who called: of an agent on calls that go out. Source: samples in the
    repository sashintulsiram/callcabinet (3cxmoverecdata.sh), folders in
    NETMOUNTAINS/3CX-Transfact-Integration (recordings_upload.sh).
    """
    m = _THREECX.fullmatch(unquote(stem))
    started_at = read_time(iso_stamp(m["stamp"]), zone) if m else None
    if m is None or started_at is None:
        return None
    facts = {"started_at": started_at, "external_id": m["id"], **_ends(m["source"], m["to"])}
    if facts.get("direction") is Direction.OUTBOUND and m["caller"] and not m["caller"].isdigit():
        facts["agent_name"] = m["caller"]
    return Found("3cx", 0.95, facts)


_FIVE9 = re.compile(
    r"(?P<number>\+?\d{3,15})(?!\d)(?P<campaign>.*?) by (?P<agent>.*?) @ "
    r"(?P<hour>\d{1,2})_(?P<minute>\d\d)_(?P<second>\d\d) (?P<half>[AP]M)(?P<rest>.*)"
)
_FIVE9_DAY = re.compile(r"(?P<month>\d{1,2})_(?P<day>\d{1,2})_(?P<year>20\d\d)")
_FIVE9_SESSION = re.compile(r"[0-9A-F]{32}\d+$")


def five9(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Five9: `M_D_YYYY/NUMBER[CAMPAIGN] by AGENT @ H_MM_SS PM[_MODULE][SESSION]`; without the folder no date.

    Source: samples in public code that reads such exports. One archive was in Eastern standard time all year:
    a `[[recorder]]` with `zone = "EST"` says so.
    """
    m = _FIVE9.fullmatch(stem)
    if m is None or int(m["hour"]) > 12:
        return None
    facts: dict[str, object] = {"caller_number": m["number"]}
    for fact in ("agent", "campaign"):
        if text := m[fact].strip():
            facts["agent_id" if fact == "agent" else fact] = text
    if session := _FIVE9_SESSION.search(m["rest"]):
        facts["external_id"] = session[0]
    day = next((d for part in reversed(path.parts[:-1]) if (d := _FIVE9_DAY.fullmatch(part))), None)
    if day is not None:
        hour = int(m["hour"]) % 12 + (12 if m["half"] == "PM" else 0)
        date = f"{day['year']}-{int(day['month']):02d}-{int(day['day']):02d}"
        started_at = read_time(f"{date}T{hour:02d}:{m['minute']}:{m['second']}", zone)
        if started_at is not None:
            facts["started_at"] = started_at
    return Found("five9", 0.95, facts)


_OREKA = re.compile(r"(?P<stamp>(?P<day>\d{8})_(?P<hour>\d\d)\d{4})_[A-Z]{3,4}")


def oreka(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Oreka: `YYYY/MM/DD/HH/YYYYMMDD_HHMMSS_ABCD`, local time; the whole name is the recording's id.

    Source: `AudioTape::GenerateCaptureFilePathAndIdentifier` in orkbasecxx/AudioTape.cpp of voiceip/oreka.
    Without the folders any recorder may name its files so.
    """
    m = _OREKA.fullmatch(stem)
    if m is None or f"{m['day']}{m['hour']}" != "".join(path.parts[-5:-1]):
        return None
    started_at = read_time(iso_stamp(m["stamp"]), zone)
    if started_at is None:
        return None
    return Found("oreka", 0.95, {"started_at": started_at, "external_id": stem})


_ENGAGE = re.compile(r"(?P<id>[0-9A-Z]{32})_(?P<stamp>\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:-[0-9A-F]{8}){2,4}")


def genesys_engage(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Genesys Engage (Interaction Recording): `CALLUUID_YYYY-MM-DD_HH-MM-SS-IDS`, UTC.

    Source: `mediaId` in the recording resource of docs.genesys.com/Documentation/CR/latest/API/GIR, whose
    `startTime` is the same moment in UTC. Its `recording.json` is read as a sidecar.
    """
    m = _ENGAGE.fullmatch(stem)
    started_at = read_time(iso_stamp(m["stamp"]) + "+00:00", zone) if m else None
    if m is None or started_at is None:
        return None
    return Found("genesys-engage", 0.95, {"started_at": started_at, "external_id": m["id"]})


_EPOCH = r"(?P<epoch>1\d{9})"
_ENDS = r"(?P<source>\+?\d+)-(?P<to>\+?\d+)"
_GRANDSTREAM = re.compile(rf"auto-{_EPOCH}-{_ENDS}")
_WAZO = re.compile(rf"user-{_ENDS}-{_EPOCH}")


def grandstream(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Grandstream UCM: `auto-EPOCH-FROM-TO`. Source: Grandstream's UCM6100 CDR and REC API guide, page 16."""
    m = _GRANDSTREAM.fullmatch(stem)
    return Found("grandstream", 0.9, _by_epoch(m)) if m else None


def wazo(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Wazo and XiVO: `user-FROM-TO-EPOCH`, the default.

    Source: source/administration/call_recording/call_recording.rst of wazo-platform/wazo-doc.
    """
    m = _WAZO.fullmatch(stem)
    return Found("wazo", 0.9, _by_epoch(m)) if m else None


def _by_epoch(m: re.Match[str]) -> dict[str, object]:
    return {"started_at": datetime.fromtimestamp(int(m["epoch"]), UTC), **_ends(m["source"], m["to"])}


_YEASTAR = re.compile(
    rf"(?P<stamp>\d{{14}})-{_EPOCH}\.(?P<seq>\d+)-(?P<source>[^-]+)-(?P<to>[^-]+)"
    r"-(?P<way>Inbound|Outbound|Internal)"
)


def yeastar(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """Yeastar: `YYYYMMDDHHMMSS-EPOCH.SEQ-FROM-TO-Inbound`; the local stamp and the epoch tell the zone.

    Source: samples of the S-Series API (`recording/get_random`, event `NewCdr`).
    """
    m = _YEASTAR.fullmatch(stem)
    if m is None:
        return None
    facts = reconciled(iso_stamp(m["stamp"]), int(m["epoch"]), zone)
    facts |= {"external_id": f"{m['epoch']}.{m['seq']}"}
    return Found("yeastar", 0.95, facts | _ends(m["source"], m["to"], read_direction(m["way"])))


_RINGCENTRAL = re.compile(
    r"(?P<stamp>\d{8}-\d{6})_(?:(?P<agent>\d{1,6})_)?(?P<number>[+\d][\d ().-]*|\([\d ().-]+)"
    r"_(?P<way>Incoming|Outgoing)_(?P<mode>[A-Za-z]+)_(?P<id>\d+)"
)


def ringcentral(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """RingCentral: `YYYYMMDD-HHMMSS_[EXTENSION_]NUMBER_Outgoing_Auto_ID`, as its portal names downloads.

    Source: samples in public code that reads such downloads. The zone is that of the account: local time.
    """
    m = _RINGCENTRAL.fullmatch(stem)
    started_at = read_time(iso_stamp(m["stamp"]), zone) if m else None
    if m is None or started_at is None:
        return None
    facts: dict[str, object] = {"started_at": started_at, "external_id": m["id"]}
    facts |= {"caller_number": m["number"], "direction": read_direction(m["way"].lower())}
    if m["agent"]:
        facts["agent_id"] = m["agent"]
    return Found("ringcentral", 0.95, facts)


_EIGHT = re.compile(r"(?:.*[:_])?(?P<ms>1\d{12})-(?P<id>1\d{12})-(?P<agent>\d{1,9})-(?P<number>\+?\d+)_[A-Z]")


def eight_by_eight(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """8x8 Work: `MILLISECONDS-CALLID-EXTENSION-NUMBER_E` behind the account's name, UTC.

    Source: `objectName` and the tags of a call recording in
    developer.8x8.com/analytics/docs/cloud-storage-service-objects.
    """
    m = _EIGHT.fullmatch(stem)
    if m is None:
        return None
    started_at = datetime.fromtimestamp(int(m["ms"]) // 1000, UTC) + timedelta(
        milliseconds=int(m["ms"]) % 1000
    )
    facts: dict[str, object] = {"started_at": started_at, "external_id": m["id"]}
    return Found("8x8", 0.95, facts | {"agent_id": m["agent"], "caller_number": m["number"]})


_CALLCABINET = re.compile(
    r"(?P<number>[^_]+)_(?P<stamp>\d{4}-\d\d-\d\dT\d\d[:-]\d\d[:-]\d\d)_(?P<agent>[^_]+)_(?:0_)?"
    r"(?P<way>INCOMING|OUTGOING)(?:_.+)?"
)


def callcabinet(path: PurePath, stem: str, zone: ZoneInfo) -> Found | None:
    """CallCabinet Atmos: `NUMBER_YYYY-MM-DDTHH:MM:SS_EXTENSION_INCOMING_SECONDS`, local time.

    Source: 3cxmoverecdata.sh of sashintulsiram/callcabinet, which writes such names.
    """
    m = _CALLCABINET.fullmatch(stem)
    started_at = read_time(iso_stamp(m["stamp"]), zone) if m else None
    if m is None or started_at is None:
        return None
    facts: dict[str, object] = {"started_at": started_at, "direction": read_direction(m["way"].lower())}
    for fact, text in (("caller_number", m["number"]), ("agent_id", m["agent"])):
        if text != "anonymous":
            facts[fact] = text
    return Found("callcabinet", 0.9, facts)


def _ends(source: str, to: str, direction: Direction | None = None) -> dict[str, object]:
    """Who called whom. Where no direction is stated, a long number is the customer's and a short one ours."""
    if direction is None and is_phone(source) != is_phone(to):
        direction = Direction.INBOUND if is_phone(source) else Direction.OUTBOUND
    facts: dict[str, object] = {} if direction is None else {"direction": direction}
    if direction is Direction.INTERNAL or (direction is None and not is_phone(source)):
        return facts | {"agent_id": source}  # both are ours: who called is on the line
    customer, ours = (to, source) if direction is Direction.OUTBOUND else (source, to)
    return facts | {"caller_number": customer, "other_number" if is_phone(ours) else "agent_id": ours}

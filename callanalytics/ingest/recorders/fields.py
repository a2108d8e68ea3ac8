"""Facts as one source states them, before they are weighed against the other sources."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

from callanalytics.config.window import local_to_utc
from callanalytics.ingest.recorders.stamps import stamps_in
from callanalytics.records import Direction, Role
from callanalytics.records.text import TimeDoubt

# Fact -> the names that recorders, CDRs and sidecars give it, lower case without punctuation, best first.
ALIASES: dict[str, str] = {
    "external_id": (
        "callid externalid uniqueid contactid conversationid guid uuid callsid sid linkedid recordingid id"
    ),
    "started_at": (
        "startedat starttime start startstamp calldate starttimems startepoch connectedtime "
        "initiationtimestamp datetime timestamp dt createdat datecreated"
    ),
    # Of exports with two columns: a day and a time of day.
    "start_day": "startdate date recordingdate day",
    "start_clock": "time calltime timeofday",
    "answered_at": "answeredat answertime answer answerstamp answerepoch connectedtoagenttimestamp",
    "duration_s": "billsec durations lengthinsec recordingduration durationsec",
    # Of CDRs: with the ringing, which few recorders record.
    "rung_duration_s": "duration",
    "duration_ms": "durationms lengthms",
    "direction": "direction initialdirection calldirection originatingdirection initiationmethod personality",
    "agent_id": "agentid agentusername user userid agent extension ccagent extensionnumber",
    "agent_name": "agentname fullname username ownername",
    "team": "team usergroup division",
    "queue": "queue queuename ccqueue ingroup campaignqueue skill",
    "campaign": "campaign campaignid",
    "caller_number": "customernumber custphone phonenumber customerphone customerendpoint cust",
    # Who dialled and who was dialled: which of them is the customer depends on the direction.
    "from_number": (
        "callernumber caller ani calleridnumber callerphonenumber callingparty src from callerid clid"
    ),
    "to_number": (
        "callednumber calleenumber dst to destinationnumber dialednumber dialedphonenumber calledparty "
        "dialledno dnis"
    ),
    "hold_s": "holds holdseconds holdaccumseconds holdtime",
    "disposition": "disposition status wrapup wrapupcode hangupcause",
    "agent_channel": "agentchannel",
}
# Alias -> its fact and its rank among the aliases of that fact: a CDR may have several of them.
_FACT_OF = {
    alias: (fact, rank)
    for fact, aliases in reversed(ALIASES.items())
    for rank, alias in enumerate(aliases.split())
}
MAX_WORDS = 200
TEXTS = ("external_id", "agent_id", "agent_name", "team", "queue", "campaign", "disposition")
# `other_number` is one more of the outside world on the same call: never shown, and nobody's hash.
NUMBERS = ("caller_number", "other_number", "from_number", "to_number")
# Outside these years a time is a placeholder (.NET writes 0001-01-01 for "none") or a broken clock.
FIRST_YEAR, LAST_YEAR = 1980, 2200
# A time of day, a day alone, and a stamp of digits, which is no number of seconds.
_CLOCK = re.compile(r"\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AP]M)?", re.IGNORECASE)
_ONLY_DAY = re.compile(r"\d{1,4}[-./]\d\d?[-./]\d{1,4}|20\d{6}")
_COMPACT = re.compile(r"20\d{6}(?:[-_ T]?\d{6})?")
_HALF = re.compile(r"\d[ .]?[AP]\.? ?M\b", re.IGNORECASE)
_LEAST_DIGITS, _NO_TIMES = 6, ("0000", "0001", "1899", "1900", "1970")
_SIDES = {"left": 0, "right": 1, "0": 0, "1": 1}


@dataclass(frozen=True, slots=True)
class Found:
    """What one source says. `facts` holds plain values under the names of `records.CallFacts`.

    More keys appear: `NUMBERS` (in clear, hashed before they leave this package) and `zone_note`
    (a doubt about the zone, for people).
    """

    recorder: str
    confidence: float
    facts: dict[str, object] = field(default_factory=dict)


def fact_named(key: str, extra: dict[str, str] | None = None) -> tuple[str, int] | None:
    """The fact that a column or JSON key states and its rank (0 is best), None when it is none of ours."""
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    for fact, column in (extra or {}).items():
        if re.sub(r"[^a-z0-9]", "", column.lower()) == plain:
            return fact, -1
    return _FACT_OF.get(plain)


def facts_of(stated: dict[str, object], zone: ZoneInfo) -> dict[str, object]:
    """Values as sources write them (text, numbers, epochs) -> typed facts; nonsense is left out."""
    facts: dict[str, object] = {}
    for name in (*TEXTS, *NUMBERS):
        if name in stated and (text := _words(stated[name])):
            facts[name] = text
    start = _stated_start(stated)
    started_at = read_time(start, zone)
    if isinstance(start, str) and (said := _doubt(start.strip(), started_at)):
        facts["conflict"] = said
    answered_at = read_time(stated.get("answered_at"), zone)
    if started_at is not None:
        facts["started_at"] = started_at
        if answered_at is not None and answered_at >= started_at:
            facts["answered_s"] = (answered_at - started_at).total_seconds()
    for name in ("duration_s", "hold_s"):
        if (seconds := _seconds(stated.get(name))) is not None:
            facts["expected_duration_s" if name == "duration_s" else name] = seconds
    # Who records from the answer on has the rest; a recording that holds the ringing too is only longer.
    if "expected_duration_s" not in facts and (rung_s := _seconds(stated.get("rung_duration_s"))) is not None:
        answered_s = facts.get("answered_s")
        facts["expected_duration_s"] = max(
            rung_s - (answered_s if isinstance(answered_s, float) else 0.0), 0.0
        )
    if "expected_duration_s" not in facts and (ms := _number(stated.get("duration_ms"))) is not None:
        facts["expected_duration_s"] = ms / 1000
    if direction := read_direction(stated.get("direction")):
        facts["direction"] = direction
    side = _SIDES.get((_words(stated.get("agent_channel")) or "").lower())
    if side is not None:
        facts["channel_roles"] = (Role.AGENT, Role.CALLER) if side == 0 else (Role.CALLER, Role.AGENT)
    return facts


def _stated_start(stated: dict[str, object]) -> object:
    """The start as one value, also where the day and the time of day stand in two."""
    start, day, clock = (stated.get(name) for name in ("started_at", "start_day", "start_clock"))
    if isinstance(start, str) and _CLOCK.fullmatch(start.strip()):
        start, clock = None, start
    if start is not None and start != "":
        return start
    if not (day and clock):
        return day
    clock = str(clock).strip()
    return f"{day} {'0' if clock[1:2] == ':' else ''}{clock}"


def _doubt(start: str, started_at: datetime | None) -> str | None:
    """What is doubtful about the start that a sidecar or a manifest states."""
    if started_at is not None:
        return TimeDoubt.ONLY_DAY if _ONLY_DAY.fullmatch(start) else None
    # A placeholder, such as .NET's 0001-01-01, is no time that was not understood.
    is_time = sum(map(str.isdigit, start)) >= _LEAST_DIGITS and not start.startswith(_NO_TIMES)
    return TimeDoubt.UNREAD_START if is_time else None


def read_time(value: object, zone: ZoneInfo) -> datetime | None:
    """ISO or RFC 2822 text, another that is read in names, epoch seconds or milliseconds -> UTC.

    A text without a zone is local time of `zone`.
    """
    try:
        number = None if isinstance(value, str) and _COMPACT.fullmatch(value.strip()) else _number(value)
        if number is not None:
            seconds = number / 1000 if number > 1e11 else number  # 1e11 s is the year 5138
            moment = datetime.fromtimestamp(seconds, UTC)
        else:
            moment = _text_time(str(value).strip(), zone)
        at = moment.astimezone(UTC) if moment.tzinfo else local_to_utc(moment, zone)
        return at if FIRST_YEAR <= at.year < LAST_YEAR else None
    except (ValueError, OverflowError, OSError):
        return None


def _text_time(text: str, zone: ZoneInfo) -> datetime:
    """ISO 8601, RFC 2822 as Twilio writes it, or as names write it. Raises ValueError."""
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    if _HALF.search(text) is None:  # which RFC 2822 does not know and its reader passes over
        with suppress(ValueError):
            return parsedate_to_datetime(text)
    found, rest, doubt = stamps_in(text.replace("/", "-"), zone)
    if len(found) != 1 or rest.strip(" |") or doubt:
        raise ValueError(text)
    return found[0].at


def read_direction(value: object) -> Direction | None:
    """Many words for the way a call went; `originator` and `terminating` are Cisco's, seen from our side."""
    text = str(value or "").strip().lower()
    if text.startswith(("in", "queue", "api", "transfer", "terminat")) and text != "internal":
        return Direction.INBOUND
    if text.startswith(("out", "originat")):
        return Direction.OUTBOUND
    return Direction.INTERNAL if text in {"internal", "local"} else None


def _words(value: object) -> str | None:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value).strip()[:MAX_WORDS]
        return text or None
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e15 else None


def _seconds(value: object) -> float | None:
    """Seconds as a number or as h:mm:ss."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,3}(:\d{2}){1,2}(\.\d+)?", value.strip()):
        total = 0.0
        for part in value.strip().split(":"):
            total = total * 60 + float(part)
        return total
    number = _number(value)
    return number if number is not None and 0 <= number < 1e6 else None

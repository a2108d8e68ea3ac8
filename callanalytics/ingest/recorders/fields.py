"""Facts as one source states them, before they are weighed against the other sources."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

from callanalytics.config.window import local_to_utc
from callanalytics.records import Direction, Role

# Fact -> the names that recorders, CDRs and sidecars give it, lower case without punctuation, best first.
ALIASES: dict[str, str] = {
    "external_id": (
        "callid externalid uniqueid contactid conversationid guid uuid callsid sid linkedid recordingid id"
    ),
    "started_at": (
        "startedat starttime start startstamp calldate starttimems startepoch connectedtime "
        "initiationtimestamp startdate datetime timestamp dt createdat datecreated"
    ),
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
    started_at = read_time(stated.get("started_at"), zone)
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


def read_time(value: object, zone: ZoneInfo) -> datetime | None:
    """ISO or RFC 2822 text (a bare one is local time of `zone`), epoch seconds or milliseconds -> UTC."""
    try:
        number = _number(value)
        if number is not None:
            seconds = number / 1000 if number > 1e11 else number  # 1e11 s is the year 5138
            moment = datetime.fromtimestamp(seconds, UTC)
        else:
            moment = _text_time(str(value).strip())
        at = moment.astimezone(UTC) if moment.tzinfo else local_to_utc(moment, zone)
        return at if FIRST_YEAR <= at.year < LAST_YEAR else None
    except (ValueError, OverflowError, OSError):
        return None


def _text_time(text: str) -> datetime:
    """ISO 8601, or RFC 2822 as Twilio writes it. Raises ValueError."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)


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

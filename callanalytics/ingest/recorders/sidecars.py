"""JSON files beside a recording: what they state of it.

Keys are found by their names at any depth (`fields.ALIASES`). What whole documents look like was taken from
the public references of Genesys Cloud (bulk export), Amazon Connect (contact records), Twilio (recording
resource), RingCentral (call log record), Zoom Phone (list of recordings), Talkdesk (recording details),
Genesys Engage (recording resource) and Webex Calling (metadata of a converged recording).
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from callanalytics.errors import ConfigError
from callanalytics.ingest.recorders.fields import NUMBERS, Found, fact_named, facts_of
from callanalytics.ingest.recorders.phone_numbers import is_phone, number_of

# `{name}` is the file name with, `{stem}` without its extension.
BESIDE = ("{name}.json", "{stem}.json", "{name}_metadata.json", "{stem}_metadata.json")
# Of Genesys Cloud's bulk export, one for all recordings of a conversation's folder.
OF_FOLDER = "_metadata.json"
# Of Genesys Engage's archive, in a folder with the id that the names of its recordings begin with
# (docs.genesys.com/Documentation/CR/latest/Solution/Archiving).
OF_ARCHIVE = "recording.json"
MAX_DEPTH = 6
MAX_KEYS = 2000
_DIALLED = re.compile(r"\+?[\d\s().-]{7,25}")


def check_template(template: str, *, where: str) -> None:
    """Raise ConfigError when a `sidecar` setting names anything but `{name}` and `{stem}`."""
    try:
        template.format(name="a.wav", stem="a")
    except (KeyError, IndexError, ValueError, AttributeError) as problem:
        raise ConfigError(
            f"{where}: sidecar = {template!r} may name {{name}} and {{stem}} only ({problem!r}). Correct it."
        ) from None


def read_sidecar(
    audio: Path,
    zone: ZoneInfo,
    *,
    max_bytes: int,
    names: Container[str],
    stem: str | None = None,
    template: str | None = None,
    follow_links: bool = False,
) -> Found | None:
    """Facts of the JSON beside a recording; None when there is none or it holds another kind of data.

    `names` are the files of the recording's folder; `stem` is the name of a pair without its sides.
    Too large, too deep or damaged sidecars are passed over, and links too unless `follow_links`: they never
    stop a call. Where there is no other, `sidecar_note` says so.
    """
    name, own_stem = audio.name, audio.stem
    if template:
        places = [template.format(name=name, stem=own_stem)]
    else:
        places = [pattern.format(name=name, stem=own_stem) for pattern in BESIDE]
        if stem is not None and stem != own_stem:
            places += [f"{stem}.json", f"{stem}_metadata.json"]
        if name.startswith(f"{audio.parent.name}_"):
            places.append(OF_ARCHIVE)
        places = [place for place in (*places, OF_FOLDER) if place in names]
    unread = None
    for place in places:
        try:
            document = json.loads(_content(audio.parent / place, max_bytes, follow_links=follow_links))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError):
            unread = Found("none", 0.0, {"sidecar_note": "its sidecar cannot be read as JSON"})
            continue
        if isinstance(document, dict):
            return Found("sidecar", 0.95, facts_of(_stated(document), zone))
    return unread


def _content(path: Path, max_bytes: int, *, follow_links: bool) -> bytes:
    """Raises OSError; ValueError when it is no file, or too large."""
    # Without O_NONBLOCK a named pipe would keep the open itself waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW))
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > max_bytes:
            raise ValueError("no sidecar")
        return stream.read(max_bytes)


def _stated(document: dict[str, Any]) -> dict[str, object]:
    """Known keys of a JSON object, also inside objects: the best alias wins, then the shallowest."""
    best: dict[str, tuple[int, int, object]] = {}
    for n_seen, (depth, key, value, listed) in enumerate(_flat(document)):
        if n_seen >= MAX_KEYS:
            break
        named = fact_named(key)
        if named is not None and isinstance(value, (str, int, float)):
            fact, rank = named
            if listed and not _tells_of_the_call(fact, value):
                continue
            if fact not in best or (rank, depth) < best[fact][:2]:
                best[fact] = (rank, depth, _without_scheme(value))
    stated = {fact: value for fact, (_, _, value) in best.items()}
    if "agent_channel" not in stated and (channel := _agents_channel(document)) is not None:
        stated["agent_channel"] = channel
    return stated


def _agents_channel(document: dict[str, Any]) -> int | None:
    """Channel (0 is left) of the agent in Talkdesk's `agents`, where one channel is the agent's alone."""
    agents = document.get("agents")
    channels = [agents.get(f"channel_{n}") for n in (1, 2)] if isinstance(agents, dict) else []
    found = [
        {str(person.get("participant_type")).upper() for person in channel if isinstance(person, dict)}
        for channel in channels
        if isinstance(channel, list)
    ]
    of_agents = [n for n, types in enumerate(found) if types == {"AGENT"}]
    return of_agents[0] if len(found) == 2 and len(of_agents) == 1 else None


def _flat(document: dict[str, Any]) -> Iterator[tuple[int, str, object, bool]]:
    """Depth, key and value of everything, by levels, and whether it stands in a list.

    An object with an address, such as Amazon Connect's `CustomerEndpoint`, also counts as that address; so
    does an end of the call with a phone number, such as RingCentral's `from` and Webex's `callingParty`: the
    number is that end's alone.
    """
    level = [(document, False)]
    for depth in range(MAX_DEPTH):
        below: list[tuple[dict[str, Any], bool]] = []
        for table, listed in level:
            for key, value in table.items():
                if isinstance(value, dict):
                    named = fact_named(key)
                    is_end = named is not None and named[0] in NUMBERS
                    addresses = {"address", "phonenumber", "number"} if is_end else {"address"}
                    below.append(({k: v for k, v in value.items() if _plain(k) not in addresses}, listed))
                    yield from ((depth, key, v, listed) for k, v in value.items() if _plain(k) in addresses)
                elif isinstance(value, list):
                    tables = [entry for entry in value if isinstance(entry, dict)]
                    below += [(entry, True) for entry in sorted(tables, key=_is_ours)]
                else:
                    yield depth, key, value, listed
        level = below


def _is_ours(participant: dict[str, Any]) -> bool:
    """Of Genesys' participants the customer comes first, since each of them may state numbers."""
    return participant.get("purpose") not in ("customer", "external")


def _tells_of_the_call(fact: str, value: object) -> bool:
    """What lists are read for: numbers of participants and the direction.

    Times, lengths and ids in a list are those of parts of the call.
    """
    if fact in NUMBERS:
        return isinstance(value, str) and is_phone(value) and _DIALLED.fullmatch(number_of(value)) is not None
    return fact == "direction"


def _without_scheme(value: str | float) -> str | float:
    return value.split(":", 1)[1] if isinstance(value, str) and value.startswith(("tel:", "sip:")) else value


def _plain(name: str) -> str:
    return "".join(ch for ch in name.lower() if ch.isalnum())

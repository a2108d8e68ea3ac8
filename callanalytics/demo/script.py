"""Who calls, who answers and what they say: the calls of the demonstration, read from `calls.toml`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import time
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from callanalytics.records import Direction, Role


class Mood(StrEnum):
    """How a line is spoken; `synthetic_voices.MANNERS` says what that does to the voice."""

    CALM = ""
    CHEERFUL = "+"
    WEARY = "-"
    TENSE = "!"
    LOUD = "#"
    UPSET = "!!"


class Between(StrEnum):
    """What happens between two lines."""

    RING = "ring"
    MUSIC = "music"
    MASKED = "masked"
    PAUSE = "pause"


class Days(StrEnum):
    """When a call is made; see the top of calls.toml."""

    LAST = "last"
    ALL = "all"
    BEFORE = "before"
    STORY = "story"


@dataclass(frozen=True, slots=True)
class Line:
    """One utterance. `overlaps`: it starts before the previous one has ended."""

    role: Role
    mood: Mood
    overlaps: bool
    text: str


@dataclass(frozen=True, slots=True)
class Interlude:
    """A stretch without speech."""

    kind: Between
    duration_s: float


@dataclass(frozen=True, slots=True)
class Voice:
    """An espeak-ng voice and variant at its calm rate and pitch (espeak's own 0..100 scale)."""

    name: str
    rate_wpm: int
    pitch: int


@dataclass(frozen=True, slots=True)
class Agent:
    """Somebody who answers calls."""

    agent_id: str
    name: str
    voice: Voice


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the demonstration. `at` is local time; `extension` is the number of the queue."""

    slug: str
    style: str  # recorder that it looks like: a key of `recorder_files.WRITERS`
    at: time
    queue: str
    extension: str
    agent: Agent
    caller: Voice
    number: str
    dialogue: str
    direction: Direction = Direction.INBOUND
    has_sidecar: bool = False
    days: Days = Days.LAST
    broken: bool = False

    @property
    def events(self) -> tuple[Line | Interlude, ...]:
        """The dialogue, line by line."""
        return tuple(_event(line) for line in self.dialogue.strip().splitlines())

    def is_made(self, days_ago: int, n_days_before: int) -> bool:
        """Whether it is made on a day of a demonstration that has so many days before the last one."""
        if days_ago:
            return self.days in {Days.ALL, Days.BEFORE}
        return self.days in {Days.LAST, Days.ALL} or (self.days is Days.STORY and n_days_before > 0)

    @property
    def upset(self) -> bool:
        """True when the caller loses patience."""
        return any(isinstance(event, Line) and event.mood is Mood.UPSET for event in self.events)


_SPOKEN = re.compile(r"([AC])(\^?)(\+|-|!!|!|#|): (.+)")
_INTERLUDE = re.compile(r"\[(ring|music|masked|pause) (\d+)\]")


def _event(line: str) -> Line | Interlude:
    if spoken := _SPOKEN.fullmatch(line):
        who, overlap, mood, text = spoken.groups()
        return Line(Role.AGENT if who == "A" else Role.CALLER, Mood(mood), bool(overlap), text)
    if interlude := _INTERLUDE.fullmatch(line):
        return Interlude(Between(interlude[1]), float(interlude[2]))
    raise ValueError(f"line of a dialogue not understood: {line!r}. See the top of calls.toml.")


@cache
def calls() -> tuple[Call, ...]:
    """All calls, in the order of the script."""
    table = tomllib.loads(files(__package__).joinpath("calls.toml").read_text(encoding="utf-8"))
    agents = {
        key: Agent(agent["agent_id"], agent["name"], Voice(**agent["voice"]))
        for key, agent in table["agents"].items()
    }
    return tuple(_call(call, agents, table["queues"]) for call in table["calls"])


def _call(table: dict[str, Any], agents: dict[str, Agent], queues: dict[str, str]) -> Call:
    return Call(
        **table
        | {
            "extension": queues[table["queue"]],
            "agent": agents[table["agent"]],
            "caller": Voice(**table["caller"]),
            "direction": Direction(table.get("direction", Direction.INBOUND)),
            "days": Days(table.get("days", Days.LAST)),
        }
    )

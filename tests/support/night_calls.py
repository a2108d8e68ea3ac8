"""When the demonstration's calls are, and how its files are told apart in the results."""

from __future__ import annotations

import re
from datetime import date
from zoneinfo import ZoneInfo

# Where summer time has begun nine days before: local and universal days differ by four hours.
DAY = date(2026, 3, 17)
ZONE = ZoneInfo("America/New_York")
WINDOW = ("--since", "2026-03-17", "--until", "2026-03-18")
"""Options of a run or a report that take in all of them, read in any zone near."""


def without_numbers(name: str) -> str:
    """A file's name with the caller's number masked; the database holds a salted hash in its place."""
    return re.sub(r"caller~[0-9a-f]+|\d{10,15}", "*", name)

"""Reads RTTM files, the reference of real calls and what `diarize` writes."""

from __future__ import annotations

from typing import NamedTuple


class RttmTurn(NamedTuple):
    """One SPEAKER line."""

    start_s: float
    duration_s: float
    speaker: str


def read_rttm(text: str) -> list[RttmTurn]:
    """SPEAKER lines, in order."""
    lines = [line.split() for line in text.splitlines() if line.startswith("SPEAKER ")]
    return [RttmTurn(float(fields[3]), float(fields[4]), fields[7]) for fields in lines]

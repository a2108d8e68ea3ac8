"""RTTM, the text format of the NIST Rich Transcription evaluations: one line a turn."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from callanalytics.errors import UsageError
from callanalytics.records import Diarization, Role

_N_FIELDS = 9  # type file channel start duration orthography subtype speaker confidence [lookahead]


@dataclass(frozen=True, slots=True)
class RttmTurn:
    """One SPEAKER line."""

    file_id: str
    channel: int  # 1-based, as the format has it
    start_s: float
    duration_s: float
    speaker: str


def to_rttm(diarization: Diarization, file_id: str) -> str:
    """All turns as RTTM; the speaker field is `agent`, `caller` or `speaker_N`.

    When several speakers share a role, the one who talks most carries its name and the others keep
    `speaker_N`. White space in `file_id` becomes `_`, because fields are split at it.
    """
    names = speaker_names(diarization)
    file_field = re.sub(r"\s+", "_", file_id) or "_"
    return "".join(
        f"SPEAKER {file_field} 1 {turn.start_s:.3f} {turn.end_s - turn.start_s:.3f} "
        f"<NA> <NA> {names[turn.speaker]} <NA> <NA>\n"
        for turn in diarization.turns
    )


def speaker_names(diarization: Diarization) -> dict[str, str]:
    """What each speaker is called in RTTM: unique within the call."""
    talk_s = dict.fromkeys(diarization.speakers, 0.0)
    for turn in diarization.turns:
        talk_s[turn.speaker] += turn.duration_s
    names = {speaker: speaker for speaker in talk_s}
    for role in (Role.AGENT, Role.CALLER):
        holders = [speaker for speaker in talk_s if diarization.roles.get(speaker) is role]
        if holders:
            names[max(holders, key=lambda speaker: talk_s[speaker])] = role.value
    return names


def read_rttm(lines: Iterable[str]) -> list[RttmTurn]:
    """SPEAKER lines of an RTTM text, in order; other line types are passed over.

    Raises:
        UsageError: a SPEAKER line has too few fields, or its times are no finite numbers >= 0.
    """
    turns = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            if len(fields) < _N_FIELDS - 1:
                raise ValueError(f"{len(fields)} fields")
            start_s, duration_s = float(fields[3]), float(fields[4])
            if not (math.isfinite(start_s) and math.isfinite(duration_s) and min(start_s, duration_s) >= 0):
                raise ValueError(f"start {fields[3]}, duration {fields[4]}")
            turns.append(RttmTurn(fields[1], int(fields[2]), start_s, duration_s, fields[7]))
        except ValueError as problem:
            raise UsageError(
                f"RTTM line {number}: expected SPEAKER file channel start duration <NA> <NA> speaker, "
                f"found {line.strip()[:120]!r} ({problem}). Correct that line."
            ) from None
    return turns

"""RTTM, the text format of the NIST Rich Transcription evaluations: one line a turn."""

from __future__ import annotations

import re

from callanalytics.records import Diarization, Role


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

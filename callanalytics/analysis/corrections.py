"""Corrections by a person who found that agent and caller are exchanged. Pure functions."""

from __future__ import annotations

from dataclasses import replace

from callanalytics.diarize.quality import Quality
from callanalytics.records import CorrectedTurns, Diarization, Role, RoleSource


def exchanged(spoken: Diarization) -> Diarization:
    """The same voices with agent and caller the other way round."""
    roles = {speaker: role.other for speaker, role in spoken.roles.items()}
    against = tuple(replace(fact, log_odds=-fact.log_odds) for fact in spoken.role_evidence)
    return _confirmed(replace(spoken, roles=roles, role_evidence=against))


def _confirmed(spoken: Diarization) -> Diarization:
    """The sides as a person said they are: what disagrees is disputed no longer."""
    quality = tuple(word for word in spoken.quality if word != Quality.ROLE_CONFLICT)
    return replace(spoken, role_source=RoleSource.CORRECTION, role_confidence=1.0, quality=quality)


def as_corrected(spoken: Diarization, corrected: CorrectedTurns | None) -> Diarization:
    """Sides inferred afresh as a person corrected them before; None is no correction.

    They are held against the corrected ones of the database: what is inferred today may differ from what
    was inferred when the person looked (another version, a voice profile), so that blindly exchanging
    could undo the correction. Without those they are exchanged.
    """
    if corrected is None:
        return spoken
    if agrees(corrected, spoken):
        return _confirmed(spoken)
    return exchanged(spoken)


def sides_of(spoken: Diarization) -> CorrectedTurns:
    """Who said what when, of the turns whose side is known."""
    return tuple(
        (spoken.roles[turn.speaker].value, turn.start_s, turn.end_s)
        for turn in spoken.turns
        if spoken.roles[turn.speaker] is not Role.UNKNOWN
    )


def agrees(corrected: CorrectedTurns, spoken: Diarization) -> bool:
    """Whether the sides are, for more seconds than not, the corrected ones."""
    return _agreed_s(corrected, spoken) > 0


def _agreed_s(corrected: CorrectedTurns, spoken: Diarization) -> float:
    """Seconds that corrected and inferred turns give the same role, less those that they do not."""
    agreed_s = 0.0
    for role, start_s, end_s in corrected:
        for turn in spoken.turns:
            shared_s = min(end_s, turn.end_s) - max(start_s, turn.start_s)
            now = spoken.roles[turn.speaker]
            if shared_s > 0 and now is not Role.UNKNOWN:
                agreed_s += shared_s if now.value == role else -shared_s
    return agreed_s

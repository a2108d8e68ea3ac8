"""A person says that agent and caller are exchanged: assess the call again and remember it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from callanalytics.analysis.call import CallAnalysis, swap_roles
from callanalytics.analysis.corrections import agrees, sides_of
from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.records import CorrectedTurns, FoundRecording, Role
from callanalytics.store import Correction, Store, open_locked
from callanalytics.store.reader import read_analysis, read_call
from callanalytics.store.voice_profiles import forget_voice_of_call
from callanalytics.workspace import Workspace
from ensemble.inference.vote import has_opinion
from jobs.publishing import kept_clips, remove_contrast, show


@dataclass(frozen=True, slots=True)
class Relabelled:
    """A call whose sides were exchanged. Not `published`: the gate holds a night back, and this with it."""

    call: CallAnalysis
    published: bool

    @property
    def was_taken_for_the_agent(self) -> bool:
        """Whether not every member was asked of the caller: the voice was surely the agent's."""
        votes = self.call.votes
        of_caller = np.array([segment.role is Role.CALLER for segment in self.call.segments], dtype=bool)
        asked = has_opinion(votes.probabilities)[:, of_caller]
        return bool((asked.any(axis=0) & ~asked.all(axis=0)).any())


def relabel(settings: Settings, workspace: Workspace, call_id: str, *, by: str | None = None) -> Relabelled:
    """Exchange agent and caller of one call, publish, and write the pages again, if there are any.

    While the gate holds a night back nothing is published: the exchange is kept and shown with that night.

    No sound is read and nothing is inferred: measures and escalations follow from what is stored. A moment
    gets a play button where its clip was cut before.

    The analyses of other ensembles get the same sides, whether it is shown now, again or later. Later
    runs keep the correction; doing it again undoes it.

    Raises:
        UsageError: no such call, no two sides to exchange, or the other side was never labelled.
        LockHeld: a run is at work.
    """
    with open_locked(workspace) as store:
        call = read_call(store, call_id)
        _check(call)
        call_id = call.recording.call_id
        swapped = _exchanged(settings, workspace, call)
        undo = _is_corrected(store, call)
        with store.transaction("exchange agent and caller"):
            for run_id, other in _others_to_exchange(store, swapped):
                store.write([_exchanged(settings, workspace, other)], run_id)
            store.write([swapped], _run_of(store, call))
            store.correct(Correction(call_id, swap_roles=not undo, corrected_by=by))
            forget_voice_of_call(store, call_id)  # it was learned from the other side
        remove_contrast(workspace, call_id)  # of the other side too
        return Relabelled(swapped, show(store, settings, now=datetime.now(UTC)))


def _exchanged(settings: Settings, workspace: Workspace, call: CallAnalysis) -> CallAnalysis:
    swapped = swap_roles(call, settings)
    return replace(swapped, clips=kept_clips(workspace, swapped))


def _is_corrected(store: Store, call: CallAnalysis) -> bool:
    """Whether the visible sides are those of an earlier correction, which exchanging them undoes.

    That there is one is not enough: an earlier version left other ensembles' analyses as they were, so
    that the correction was kept and no longer seen.
    """
    call_id = call.recording.call_id
    correction = store.corrections().get(call_id)
    if correction is None or not correction.swap_roles:
        return False
    return agrees(_corrected_turns(store, call_id), call.speech)


def _others_to_exchange(store: Store, swapped: CallAnalysis) -> list[tuple[int, CallAnalysis]]:
    """Analyses of the call by other ensembles whose sides differ from these, each with its run."""
    rows = store.rows(
        "SELECT run_id, analysis_key FROM base.analyses WHERE call_id = ? AND ensemble_id != ?"
        " ORDER BY analysis_key",
        [swapped.recording.call_id, swapped.ensemble_id],
    )
    others = [(int(run_id), read_analysis(store, int(key))) for run_id, key in rows]
    wanted = sides_of(swapped.speech)
    return [
        (run_id, other)
        for run_id, other in others
        if sides_of(other.speech) and not agrees(wanted, other.speech)
    ]


def with_corrections(recordings: Sequence[FoundRecording], store: Store) -> list[FoundRecording]:
    """The recordings, each with what a person corrected about its sides before."""
    swapped = {call_id for call_id, correction in store.corrections().items() if correction.swap_roles}
    return [
        replace(found, corrected=_corrected_turns(store, found.recording.call_id))
        if found.recording.call_id in swapped
        else found
        for found in recordings
    ]


# Newest stored turns of the call: which role they have after the correction.
_CORRECTED_TURNS = """
SELECT role::VARCHAR, start_s, end_s FROM base.turns WHERE role != 'unknown' AND analysis_key = (
    SELECT max(analysis_key) FROM base.analyses WHERE call_id = ? AND role_source = 'correction')
"""


def _corrected_turns(store: Store, call_id: str) -> CorrectedTurns:
    return tuple(store.connection.execute(_CORRECTED_TURNS, [call_id]).fetchall())


def _check(call: CallAnalysis) -> None:
    roles = set(call.speech.roles.values())
    if not roles & {Role.AGENT, Role.CALLER}:
        raise UsageError(
            f"call {call.recording.call_id}: nobody in it is known as agent or caller: "
            "there is nothing to exchange."
        )
    if "role_excluded" in call.votes.abstain_reason:
        raise UsageError(
            f"call {call.recording.call_id}: [emotion] roles kept the other side from the ensemble, so its "
            "emotions are not known. Correct the recorder's channels in config.toml and run with --force."
        )


def _run_of(store: Store, call: CallAnalysis) -> int:
    sql = "SELECT run_id FROM base.analyses WHERE call_id = ? AND ensemble_id = ?"
    ((run_id,),) = store.rows(sql, [call.recording.call_id, call.ensemble_id])
    return int(run_id)

"""A person says that agent and caller are exchanged: judge the call again and remember it."""

from __future__ import annotations

from pathlib import Path

from callanalytics.analyze import swap_roles
from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.records import CallAnalysis, Role
from callanalytics.store import Correction, Store, open_work, publish
from callanalytics.store.reader import read_call
from jobs.lock import run_lock


def relabel(settings: Settings, out: Path, call_id: str, *, by: str | None = None) -> CallAnalysis:
    """Exchange agent and caller of one call, and publish. No sound is read and nothing is inferred.

    Later runs keep the correction; doing it again undoes it.

    Raises:
        UsageError: no such call, no two sides to exchange, or the other side was never labelled.
        LockHeld: a run is at work.
    """
    with run_lock(out / ".work" / "run.lock"), open_work(out) as store:
        call = read_call(store, call_id)
        _check(call)
        swapped = swap_roles(call, settings)
        already = store.corrections().get(call.recording.call_id)
        undo = already is not None and already.swap_roles
        run_id = _run_of(store, call)
        with store.transaction("exchange agent and caller"):
            store.write([swapped], run_id)
            store.correct(Correction(call.recording.call_id, swap_roles=not undo, corrected_by=by))
        publish(store, out)
    return swapped


def apply_corrections(
    call: CallAnalysis, corrections: dict[str, Correction], settings: Settings
) -> CallAnalysis:
    """A fresh analysis as a person corrected it before."""
    correction = corrections.get(call.recording.call_id)
    if correction is None or not correction.swap_roles:
        return call
    return swap_roles(call, settings)


def _check(call: CallAnalysis) -> None:
    roles = set(call.diarization.roles.values())
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
    sql = "SELECT max(run_id) FROM base.analyses WHERE call_id = ?"
    ((run_id,),) = store.connection.execute(sql, [call.recording.call_id]).fetchall()
    return int(run_id)

"""Voice profiles of agents: how each one sounds, from calls in which it was known who the agent is.

A voice print that tells one person from others is biometric data (GDPR, Article 9), so nothing is kept
unless `[privacy] voice_profiles` says so. What is kept is 192 numbers per call, never sound; it stays in
the working database, is in no published file and no export, and `callanalytics voices forget` deletes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from callanalytics.records import AgentKey, CallRows, VoiceProfile
from callanalytics.store.writer import Store

# The newest calls of an agent that make the profile: more add nothing (benchmarks/RESULTS.md), and
# no more is kept than is needed.
MAX_CALLS = 20


@dataclass(frozen=True, slots=True)
class KnownVoice:
    """A profile as it is listed: whose, from how many calls, how old."""

    recorder: str
    agent: str
    n_calls: int
    first_at: datetime
    newest_at: datetime
    newest_run_id: int


def load_profiles(store: Store) -> dict[AgentKey, VoiceProfile]:
    """The mean voice of every agent, of unit length."""
    import numpy as np

    rows = store.connection.execute(
        "SELECT recorder, agent, voice FROM base.agent_voices ORDER BY learned_at, call_id"
    ).fetchall()
    voices_of: dict[AgentKey, list[tuple[float, ...]]] = {}
    for recorder, agent, voice in rows:
        voices_of.setdefault((recorder, agent), []).append(voice)
    found = {}
    for key, voices in voices_of.items():
        mean = np.array(voices, dtype=np.float32).mean(axis=0)
        found[key] = VoiceProfile(mean / np.maximum(np.linalg.norm(mean), np.float32(1e-9)), len(voices))
    return found


def learn(store: Store, calls: Sequence[CallRows], run_id: int) -> None:
    """Keep the agents' voices of some calls; a call that is there already is replaced or taken out."""
    newest = {call.recording.call_id: call.agent_voice for call in calls}
    rows = [
        (call_id, *voice.agent, voice.voice.tolist(), voice.learned_from.value, run_id)
        for call_id, voice in newest.items()
        if voice is not None
    ]
    with store.transaction("keep the voices of agents", shown=False):
        store.connection.execute(
            "DELETE FROM base.agent_voices WHERE call_id IN (SELECT unnest(?::VARCHAR[]))", [list(newest)]
        )
        if not rows:
            return
        store.connection.executemany(
            "INSERT INTO base.agent_voices VALUES (?, ?, ?, ?::FLOAT[192], ?, ?, now())", rows
        )
        store.connection.execute(
            "DELETE FROM base.agent_voices WHERE call_id IN (SELECT call_id FROM base.agent_voices QUALIFY"
            " row_number() OVER (PARTITION BY recorder, agent ORDER BY learned_at DESC, call_id) > ?)",
            [MAX_CALLS],
        )


def list_voices(store: Store) -> list[KnownVoice]:
    """List all profiles by recorder and agent."""
    rows = store.connection.execute(
        "SELECT recorder, agent, count(*), min(learned_at), max(learned_at), max(run_id)"
        " FROM base.agent_voices GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return [KnownVoice(*row) for row in rows]


def forget_voices(store: Store, agent: str | None) -> int:
    """Delete the profile of an agent under every recorder, None for all; returns how many calls went.

    The bytes go with `compact`.
    """
    with store.transaction("forget voices", shown=False):
        gone = store.connection.execute(
            "DELETE FROM base.agent_voices WHERE ?::VARCHAR IS NULL OR agent = ? RETURNING call_id",
            [agent, agent],
        ).fetchall()
    return len(gone)


def forget_voice_of_call(store: Store, call_id: str) -> None:
    """Take one call out of its agent's profile."""
    with store.transaction("forget the voice of a call", shown=False):
        store.connection.execute("DELETE FROM base.agent_voices WHERE call_id = ?", [call_id])

"""Voice profiles: who has one, attaching them to recordings, deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from callanalytics.errors import UsageError
from callanalytics.records import FoundRecording, agent_key
from callanalytics.store import Store, open_locked
from callanalytics.store.publish import compact, compact_unpublished
from callanalytics.store.voice_profiles import KnownVoice, forget_voices, list_voices, load_profiles
from callanalytics.workspace import Workspace


def with_profiles(recordings: Sequence[FoundRecording], store: Store) -> list[FoundRecording]:
    """The recordings, each with its agent's voice as it was known when the run began."""
    profiles = load_profiles(store)
    return [
        replace(found, agent_voice=profiles.get(key))
        if (key := agent_key(found.facts)) is not None
        else found
        for found in recordings
    ]


def known_voices(workspace: Workspace) -> list[KnownVoice]:
    """Every profile of an output folder. Raises UsageError, LockHeld, StoreError."""
    workspace.require_results("look for voices in")
    with open_locked(workspace) as store:
        return list_voices(store)


def forget(workspace: Workspace, agent: str | None) -> int:
    """Delete the profile of an agent, None for all, from every byte of the results.

    Returns how many calls it was learned from. Roles that were found with it stay as they are.

    Raises:
        UsageError: no results here, or no profile of this agent.
        LockHeld: a run is at work.
        StoreError: the files cannot be written anew.
    """
    workspace.require_results("look for voices in")
    with open_locked(workspace) as store:
        known = sorted({voice.agent for voice in list_voices(store)})
        if agent is not None and agent not in known:
            raise UsageError(f"no voice profile of {agent!r}. Known are: {', '.join(known) or 'none'}.")
        n_gone = forget_voices(store, agent)
        if workspace.held:  # the published file has no voices; the night must not get there with the deletion
            compact_unpublished(store)
        else:
            compact(store)
    return n_gone

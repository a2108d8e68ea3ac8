"""Voice profiles: learned only from what is known, used only where it is not, and really deleted."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner
from fixture_calls import ENSEMBLE_ID, LABELS, MEMBERS, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.corrections import as_corrected
from callanalytics.config import Settings
from callanalytics.records import (
    FoundRecording,
    Role,
    RoleSource,
    agent_key,
)
from callanalytics.store import Correction, Store, open_work, publish
from callanalytics.store.rows import pack
from callanalytics.store.voice_profiles import MAX_CALLS, forget_voices, learn, list_voices, load_profiles
from callanalytics.workspace import Workspace
from jobs.cli.main import cli
from jobs.maintenance.voices import with_profiles
from jobs.reviews.relabel import relabel, with_corrections


def voice(seed: int, near: int | None = None) -> np.ndarray:
    """A unit vector; with `near` one at a cosine of about 0.7 to the voice of that seed."""
    drawn = np.random.default_rng(seed).standard_normal(192)
    drawn /= np.linalg.norm(drawn)
    if near is not None:
        drawn = drawn + voice(near)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def call_of(number: int, agent: str | None, source: RoleSource, agent_voice: np.ndarray) -> CallAnalysis:
    """Speaker_0 calls, speaker_1 answers as `agent`."""
    call = plausible_calls(1, number + 1)[number]
    spoken = replace(
        call.speech,
        role_source=source,
        voices={"speaker_0": voice(1000 + number), "speaker_1": agent_voice},
    )
    return replace(call, facts=replace(call.facts, agent_id=agent, agent_name=None), speech=spoken, clips=())


@pytest.fixture
def store(empty_out: Path, tmp_path: Path):
    with open_work(Workspace(shutil.copytree(empty_out, tmp_path / "out"))) as opened:
        opened.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
        opened.promote_ensemble(ENSEMBLE_ID)
        yield opened


def learned(store: Store, calls: list[CallAnalysis], run_id: int) -> None:
    learn(store, [pack(call) for call in calls], run_id)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_profile_is_the_mean_of_the_calls_of_one_agent(store: Store) -> None:
    learned(store, [call_of(k, "ann", RoleSource.RECORDER, voice(k, near=50)) for k in range(3)], 1)
    learned(store, [call_of(5, "bob", RoleSource.SIDECAR, voice(5))], 1)
    profiles = load_profiles(store)
    assert set(profiles) == {("freepbx", "ann"), ("freepbx", "bob")}
    assert profiles["freepbx", "ann"].n_calls == 3
    assert np.linalg.norm(profiles["freepbx", "ann"].voice) == pytest.approx(1, abs=1e-5)
    assert cosine(profiles["freepbx", "ann"].voice, voice(50)) > 0.8
    assert cosine(profiles["freepbx", "bob"].voice, voice(5)) > 0.999


@pytest.mark.parametrize("source", [RoleSource.INFERRED, RoleSource.VOICE_PROFILE, RoleSource.NONE])
def test_nothing_is_learned_from_a_guess(store: Store, source: RoleSource) -> None:
    learned(store, [call_of(0, "ann", source, voice(0))], 1)
    assert load_profiles(store) == {}


def test_nothing_is_learned_from_a_dispute(store: Store) -> None:
    call = call_of(0, "ann", RoleSource.RECORDER, voice(0))
    learned(store, [replace(call, speech=replace(call.speech, quality=("role_conflict",)))], 1)
    assert load_profiles(store) == {}


def test_nothing_is_learned_without_an_agent(store: Store) -> None:
    learned(store, [call_of(0, None, RoleSource.RECORDER, voice(0))], 1)
    assert load_profiles(store) == {}


def test_a_call_analysed_again_replaces_its_part(store: Store) -> None:
    learned(store, [call_of(0, "ann", RoleSource.RECORDER, voice(0))], 1)
    learned(store, [call_of(0, "ann", RoleSource.RECORDER, voice(1))], 2)
    (known,) = list_voices(store)
    assert (known.n_calls, known.newest_run_id) == (1, 2)
    assert cosine(load_profiles(store)["freepbx", "ann"].voice, voice(1)) > 0.999
    learned(store, [call_of(0, "ann", RoleSource.INFERRED, voice(1))], 3)
    assert list_voices(store) == [], "what is no longer known is taken back"


def test_a_profile_keeps_no_more_calls_than_it_needs(store: Store) -> None:
    calls = plausible_calls(5, 6)[: MAX_CALLS + 5]
    spoken = replace(calls[0].speech, role_source=RoleSource.NAME, voices={"speaker_1": voice(1)})
    facts = replace(calls[0].facts, agent_id="ann")
    for call in calls:
        learned(store, [replace(call, facts=facts, speech=spoken)], 1)
    (known,) = list_voices(store)
    assert known.n_calls == MAX_CALLS


def test_candidates_get_their_agents_voice(store: Store) -> None:
    learned(store, [call_of(0, "ann", RoleSource.RECORDER, voice(0))], 1)
    asked = ((1, "ann"), (2, "bob"), (3, None))
    mine, other, nobody = (call_of(k, agent, RoleSource.NONE, voice(k)) for k, agent in asked)
    found = with_profiles([FoundRecording(c.recording, c.facts) for c in (mine, other, nobody)], store)
    assert found[0].agent_voice is not None
    assert found[1].agent_voice is None
    assert found[2].agent_voice is None
    assert agent_key(nobody.facts) is None


def test_voices_are_not_published_and_forgotten_bytes_are_gone(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mark = "AgentWhoIsForgotten"
    kept = call_of(1, "bob", RoleSource.RECORDER, voice(1))
    learned(store, [call_of(0, mark, RoleSource.RECORDER, voice(0)), kept], 1)
    publish(store)
    store.close()
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as published:
        assert published.execute("SELECT count(*) FROM base.agent_voices").fetchone() == (0,)
    as_stored = voice(0).tobytes()[:64]
    assert mark.encode() in Workspace(out).work_database.read_bytes()
    told = CliRunner().invoke(cli, ["voices", "list", "--out", str(out), "--json"])
    assert [known["agent"] for known in json.loads(told.stdout)] == [mark, "bob"]
    done = CliRunner().invoke(cli, ["voices", "forget", mark, "--out", str(out), "--json"])
    assert json.loads(done.stdout) == {"agent": mark, "n_calls": 1}
    for path in out.rglob("*"):
        if path.is_file():
            assert mark.encode() not in path.read_bytes()
            assert as_stored not in path.read_bytes()
    with open_work(Workspace(out)) as again:
        assert set(load_profiles(again)) == {("freepbx", "bob")}
        forget_voices(again, None)
        assert load_profiles(again) == {}


def test_forgetting_asks_whom_and_knows_who_is_known(store: Store, tmp_path: Path) -> None:
    store.close()
    out = str(tmp_path / "out")
    assert CliRunner().invoke(cli, ["voices", "forget", "--out", out]).exit_code == 2
    assert CliRunner().invoke(cli, ["voices", "forget", "ann", "--all", "--out", out]).exit_code == 2
    unknown = CliRunner().invoke(cli, ["voices", "forget", "ann", "--out", out])
    assert "no voice profile of 'ann'" in str(unknown.exception)
    assert CliRunner().invoke(cli, ["voices", "forget", "--all", "--out", out]).exit_code == 0


def stored(store: Store, call: CallAnalysis) -> None:
    run_id = store.begin_run(_window(call), ENSEMBLE_ID, "0.1.0")
    store.write([call], run_id)
    learned(store, [call], run_id)


def _window(call: CallAnalysis):
    from datetime import timedelta

    from callanalytics.config.window import Window

    return Window(call.facts.started_at, call.facts.started_at + timedelta(days=1))


def test_a_swapped_call_leaves_the_profile(store: Store, tmp_path: Path) -> None:
    call = call_of(0, "ann", RoleSource.RECORDER, voice(0))
    stored(store, call)
    store.close()
    relabel(Settings(), Workspace(tmp_path / "out"), call.recording.call_id)
    with open_work(Workspace(tmp_path / "out")) as again:
        assert load_profiles(again) == {}


def corrected_again(store: Store, call: CallAnalysis) -> CallAnalysis:
    """The call as the night makes it of the sides it found and of what a person said about them."""
    (sent,) = with_corrections([FoundRecording(call.recording, call.facts)], store)
    spoken = as_corrected(call.speech, sent.corrected)
    return replace(call, speech=spoken)


@pytest.mark.parametrize("profile_finds_it_now", [True, False])
def test_a_correction_stays_whatever_is_inferred_later(store: Store, profile_finds_it_now: bool) -> None:
    """A person exchanged the sides; later the inference, with a voice profile, comes out the other way."""
    first = call_of(0, "ann", RoleSource.INFERRED, voice(0))
    store.write([first], 1)
    store.correct(Correction(first.recording.call_id, swap_roles=True))
    corrected = corrected_again(store, first)
    assert corrected.speech.roles["speaker_0"] is Role.AGENT
    store.write([corrected], 1)
    later = first
    if profile_finds_it_now:
        exchanged = {speaker: role.other for speaker, role in first.speech.roles.items()}
        spoken = replace(first.speech, roles=exchanged, role_source=RoleSource.VOICE_PROFILE)
        later = replace(first, speech=spoken)
    again = corrected_again(store, later)
    assert again.speech.roles == corrected.speech.roles
    assert again.speech.role_source is RoleSource.CORRECTION

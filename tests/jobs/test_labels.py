"""Exporting reviewed segments: the right sound, safe speakers, consent, and nothing of agents."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import run_command
from fixture_calls import ENSEMBLE_ID, LABELS, MEMBERS, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import AudioSettings, RetrainSettings, Settings
from callanalytics.config.window import Window
from callanalytics.errors import LockHeld, UsageError
from callanalytics.ingest.locate import content_id, joined
from callanalytics.records import FoundRecording, Role
from callanalytics.store import Review, open_work, publish
from callanalytics.store.query import open_published
from callanalytics.store.recordings import remember_files
from callanalytics.workspace import Workspace
from ensemble.corpora import Corpus, read_corpus
from ensemble.corpora.speakers import validation_speakers
from jobs.models.splits import collect
from jobs.reviews.export import export_labels, speaker_of, split_of

RATE_HZ = 8000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CallAnalysis]]:
    return publish_reviewed(tmp_path_factory.mktemp("made"))


@pytest.fixture
def reviewed(made: tuple[Path, list[CallAnalysis]], tmp_path: Path) -> tuple[Path, list[CallAnalysis]]:
    """A copy of the results for each test; their recordings are everybody's."""
    return shutil.copytree(made[0], tmp_path / "out"), made[1]


def publish_reviewed(folder: Path) -> tuple[Path, list[CallAnalysis]]:
    """Published calls with real files: each channel carries its own tone, so that a cut can be checked."""
    calls, out = [], folder / "out"
    with open_work(Workspace(out)) as store:
        store.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
        store.promote_ensemble(ENSEMBLE_ID)
        for number, call in enumerate(plausible_calls(4, 4)):
            if len(call.recording.paths) > 1:
                continue
            path = folder / f"call{number}.wav"
            n_channels = 1 + max(segment.channel for segment in call.segments)
            t = np.arange(int(call.audio.duration_s * RATE_HZ)) / RATE_HZ
            # No harmonics of the mains: they would be taken for hum.
            tones = [0.3 * np.sin(2 * np.pi * (310 + 400 * c) * t) for c in range(n_channels)]
            soundfile.write(path, np.stack(tones, axis=1), RATE_HZ)
            recording = replace(call.recording, recording_id=sha256(path), paths=(path,))
            calls.append(replace(call, recording=recording))
        window = Window(calls[0].facts.started_at, calls[-1].facts.started_at)
        store.write(calls, store.begin_run(window, ENSEMBLE_ID, "0.1.0"))
        for call in calls:
            for number in range(min(6, len(call.segments))):
                emotion = LABELS[number % 6]
                store.review(Review(call.recording.call_id, "reject", segment=number, emotion=emotion))
        publish(store)
    return out, calls


def sha256(path: Path) -> str:
    return content_id(path, AudioSettings())


def rows(manifest: str) -> list[dict[str, str]]:
    with Path(manifest).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_corpus_reads_back_and_speakers_never_cross_splits(
    reviewed: tuple[Path, list[CallAnalysis]], tmp_path: Path
) -> None:
    out, calls = reviewed
    hashes = (f"{i:032x}"[::-1] for i in range(1000))
    validating = next(h for h in hashes if split_of(speaker_of(h, "", b"")) == "validation")
    with open_work(Workspace(out)) as store:
        key = calls[0].recording.call_id
        store.connection.execute("UPDATE base.calls SET caller_hash = ? WHERE call_id = ?", [validating, key])
        publish(store)
    made = export_labels(Settings(), Workspace(out), tmp_path / "corpus", consent=True)
    corpus = read_corpus(Path(made.manifest))
    assert len(corpus.clips) == made.n_clips > 20
    assert corpus.name == "reviewed"
    sides: dict[str, set[str | None]] = {}
    for clip in corpus.clips:
        sides.setdefault(clip.speaker, set()).add(clip.split)
    assert all(len(splits) == 1 for splits in sides.values())
    marked = {clip.speaker for clip in corpus.clips if clip.split == "validation"}
    assert "reviewed/" + speaker_of(validating, "", b"") in marked
    assert validation_speakers([corpus]) == frozenset(marked)


def test_the_sound_is_the_segments_own(reviewed: tuple[Path, list[CallAnalysis]], tmp_path: Path) -> None:
    out, calls = reviewed
    made = export_labels(Settings(), Workspace(out), tmp_path / "corpus", consent=True)
    segments = {(c.recording.call_id, round(s.start_s, 6)): s for c in calls for s in c.segments}
    exported = rows(made.manifest)
    assert len(exported) == made.n_clips > 20
    for row in exported:
        segment = segments[row["call_id"], round(float(row["at_s"]), 6)]
        sound, rate_hz = soundfile.read(tmp_path / "corpus" / row["path"])
        assert (rate_hz, sound.ndim) == (RATE_HZ, 1)
        assert abs(len(sound) / rate_hz - (segment.end_s - segment.start_s)) < 0.01
        peak_hz = np.abs(np.fft.rfft(sound)).argmax() * rate_hz / len(sound)
        assert abs(peak_hz - (310 + 400 * segment.channel)) < 10, "cut from the speaker's own channel"


@pytest.mark.parametrize("earlier", [None, "withdrawn.wav"])
def test_a_retraining_cuts_them_anew_and_puts_them_behind_the_corpora_given(
    earlier: str | None, reviewed: tuple[Path, list[CallAnalysis]]
) -> None:
    workspace, given = Workspace(reviewed[0]), Corpus("a", ())
    folder, plan = workspace.training.reviewed_clips, RetrainSettings(reviewed=True, consent=True)
    if earlier:
        folder.mkdir(parents=True)
        (folder / earlier).write_bytes(b"of a review that was taken back")
    first, added = collect(Settings(), workspace, [given], plan)
    assert (first, added.name) == (given, "reviewed")
    assert len(added.clips) > 20
    assert {clip.path for clip in added.clips} == set(folder.glob("*.wav"))


def test_agents_are_left_out_and_what_is_left_out_is_counted(
    reviewed: tuple[Path, list[CallAnalysis]], tmp_path: Path
) -> None:
    out, calls = reviewed
    made = export_labels(Settings(), Workspace(out), tmp_path / "corpus", consent=True)
    assert "agent" not in {row["role"] for row in rows(made.manifest)}
    n_agent = sum(s.role is Role.AGENT for c in calls for s in c.segments[:6])
    assert made.left_out["of an agent"] == n_agent > 0
    assert sum(made.left_out.values()) + made.n_clips == sum(min(6, len(c.segments)) for c in calls)


def test_no_consent_no_corpus(reviewed: tuple[Path, list[CallAnalysis]], tmp_path: Path) -> None:
    command = ("labels", "export", tmp_path / "c", "--out", reviewed[0])
    assert "--consent" in run_command(*command, expect=2).stderr
    assert not (tmp_path / "c").exists()
    run_command(*command, "--consent", "--json")
    assert {row["consent"] for row in rows(str(tmp_path / "c" / "reviewed.csv"))} == {"stated"}
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in (tmp_path / "c").iterdir())
    assert "is not empty" in run_command(*command, "--consent", expect=2).stderr


def test_a_replaced_or_vanished_recording_is_not_cut(tmp_path: Path) -> None:
    out, calls = publish_reviewed(tmp_path)
    calls[0].recording.paths[0].write_bytes(calls[1].recording.paths[0].read_bytes())
    calls[2].recording.paths[0].unlink()
    made = export_labels(Settings(), Workspace(out), tmp_path / "corpus", consent=True)
    assert made.left_out["recording changed since it was analysed"] > 0
    assert made.left_out["recording gone"] > 0
    ids = {row["call_id"] for row in rows(made.manifest)}
    assert not ids & {calls[0].recording.call_id, calls[2].recording.call_id}


@pytest.mark.usefixtures("impatient")
def test_recordings_named_after_the_callers_number_are_cut_too(tmp_path: Path) -> None:
    """What is published has an alias for the number, which is no file's name; single files and a pair."""
    number, out, calls = "2025550143", tmp_path / "out", []
    with open_work(Workspace(out)) as store:
        store.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
        store.promote_ensemble(ENSEMBLE_ID)
        for i, call in enumerate(plausible_calls(4, 4)):
            sides = ("caller", "agent") if i == 0 else ("all",)
            paths = tuple(tmp_path / f"20251120-1015{i:02d}_{number}_anna-{side}.wav" for side in sides)
            shown = tuple(str(path).replace(number, "caller~3fa9c2d1") for path in paths)
            for side, path in enumerate(paths):
                t = np.arange(int(call.audio.duration_s * RATE_HZ)) / RATE_HZ
                tone = 0.3 * np.sin(2 * np.pi * (300 + 20 * i + 400 * side) * t)
                n_channels = 1 if len(paths) == 2 else 1 + max(segment.channel for segment in call.segments)
                soundfile.write(path, np.stack([tone] * n_channels, axis=1), RATE_HZ)
            stats = [path.stat() for path in paths]
            recording = replace(
                call.recording,
                recording_id=joined([sha256(path) for path in paths]),
                paths=paths,
                n_bytes=sum(stat.st_size for stat in stats),
                modified_at=datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC),
                shown_paths=shown,
                content_ids=tuple(sha256(path) for path in paths),
            )
            calls.append(replace(call, recording=recording))
        remember_files(store, [FoundRecording(call.recording, call.facts) for call in calls])
        window = Window(calls[0].facts.started_at, calls[-1].facts.started_at)
        store.write(calls, store.begin_run(window, ENSEMBLE_ID, "0.1.0"))
        for call in calls:
            segment = next(n for n, s in enumerate(call.segments) if s.role is not Role.AGENT)
            store.review(Review(call.recording.call_id, "reject", segment=segment, emotion="sad"))
        publish(store)
    with open_published(out / "callanalytics.duckdb") as published:
        assert number not in str(published.execute("SELECT paths FROM base.recordings").fetchall())
    made = export_labels(Settings(), Workspace(out), tmp_path / "corpus", consent=True)
    assert made.left_out == {}
    assert {row["call_id"] for row in rows(made.manifest)} == {call.recording.call_id for call in calls}
    with Workspace(out).lock(), pytest.raises(LockHeld):
        export_labels(Settings(), Workspace(out), tmp_path / "another", consent=True)
    assert not (tmp_path / "another").exists()


def test_nothing_to_export_is_said_with_the_reason(tmp_path: Path) -> None:
    with open_work(Workspace(tmp_path / "out")) as store:
        publish(store)
    with pytest.raises(UsageError, match="no segment was reviewed"):
        export_labels(Settings(), Workspace(tmp_path / "out"), tmp_path / "corpus", consent=True)
    assert not (tmp_path / "corpus").exists()


def test_no_name_holds_the_id_of_a_call_and_names_stay_over_exports(
    reviewed: tuple[Path, list[CallAnalysis]], tmp_path: Path
) -> None:
    """Names of speakers and clips go into cards, which are published and outlive a purge."""
    out, calls = reviewed
    with open_work(Workspace(out)) as store:
        store.connection.execute("UPDATE base.calls SET caller_hash = NULL")
        publish(store)
    first = rows(export_labels(Settings(), Workspace(out), tmp_path / "first", consent=True).manifest)
    again = rows(export_labels(Settings(), Workspace(out), tmp_path / "again", consent=True).manifest)
    assert first == again
    assert len({row["speaker"] for row in first}) == len({row["call_id"] for row in first}) > 5
    names = str([(row["speaker"], row["path"]) for row in first])
    assert not [call for call in calls if call.recording.call_id in names]


def test_splits_are_stable_and_of_the_stated_size() -> None:
    names = [speaker_of(None, f"{i:016x}", b"salt") for i in range(4000)]
    share = sum(split_of(name) == "test" for name in names) / len(names)
    assert 0.27 < share < 0.33
    assert split_of("caller-0123456789abcdef") == "train"
    assert speaker_of("ab" * 32, "x", b"salt") == speaker_of("ab" * 32, "y", b"salt")

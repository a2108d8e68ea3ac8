"""Ordinary talk: which stretches of which recordings teach what calm is, and of whom none is taken."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from app_calls import voice
from click.testing import CliRunner
from short_calls import settle
from tiny_corpus import write_tiny_corpus

from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.workspace import Workspace
from ensemble.corpora import decode_clip
from ensemble.model_errors import CorpusError
from jobs.cli.main import cli
from jobs.models.ordinary import SHORTEST_S, ordinary_talk


def talk(paths: list[Path], out: Path, **more: object):
    lines: list[str] = []
    settings = Settings(folder=out.parent)
    found = ordinary_talk(paths, settings, Workspace(out), **{"consent": True, "say": lines.append, **more})
    return found, lines


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight calls in two channels, one side after the other, and a file that is none."""
    folder = tmp_path_factory.mktemp("calls")
    spoken = voice(2)
    for n in range(8):
        sides = np.zeros((2 * len(spoken) + 8000, 2), np.float32)
        sides[: len(spoken), 0] = spoken
        sides[len(spoken) + 8000 :, 1] = spoken * (0.9 - n / 20)
        sf.write(folder / f"call-{n}.wav", sides, 8000)
    (folder / "broken.wav").write_bytes((folder / "call-0.wav").read_bytes()[:50])
    settle(folder)
    return folder


@pytest.fixture(scope="module")
def learnt(calls: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("ordinary") / "out"
    out.mkdir()
    (out / Settings().privacy.salt_file).write_text(f"{5:064x}\n")
    return (*talk([calls], out), out)


def test_every_segment_is_a_stretch_of_one_side_of_a_call(calls: Path, learnt) -> None:
    clips, *_ = learnt
    assert {clip.emotion for clip in clips} == {"neutral"}
    assert {clip.channel for clip in clips} == {0, 1}
    assert {clip.path.parent for clip in clips} == {calls}
    for clip in clips[:6]:
        assert clip.end_s - clip.start_s >= SHORTEST_S
        side = sf.read(clip.path, dtype="float32")[0][:, clip.channel]
        own = side[round(clip.start_s * 8000) : round(clip.end_s * 8000)]
        np.testing.assert_allclose(decode_clip(clip, 8000), own, atol=1e-6)


def test_each_voice_of_each_call_is_a_speaker_of_its_own(learnt) -> None:
    clips, *_ = learnt
    sides = {(clip.path, clip.channel) for clip in clips}
    assert len({clip.speaker for clip in clips}) == len(sides)
    assert len({(clip.path, clip.channel, clip.speaker) for clip in clips}) == len(sides)


def test_callers_kept_for_tests_and_what_cannot_be_read_are_counted(calls: Path, learnt) -> None:
    clips, lines, out = learnt
    (said,) = lines
    assert "kept for tests" in said
    assert re.search(r"left out: .*1 (truncated|unreadable|damaged|unknown|empty|not_audio|too_short)", said)
    n_kept = int(said.split(" of callers kept for tests")[0].rsplit(" ", 1)[1])
    assert n_kept + len({clip.path for clip in clips}) == 8
    again, _ = talk([calls], out)  # with the same salt the same callers are kept
    assert again == clips


def test_nothing_of_a_call_is_copied(learnt) -> None:
    *_, out = learnt
    assert [path.name for path in out.rglob("*") if path.is_file()] == [Settings().privacy.salt_file]


def test_a_side_of_a_file_that_soundfile_does_not_read(learnt, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    clip = learnt[0][0]
    rows = sf.read(clip.path, dtype="int16")[0]
    with av.open(str(tmp_path / "call.mka"), "w") as target:
        stream = target.add_stream("pcm_s16le", rate=8000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(rows.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = 8000
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    np.testing.assert_allclose(
        decode_clip(replace(clip, path=tmp_path / "call.mka"), 8000), decode_clip(clip, 8000), atol=1e-4
    )


def test_a_channel_that_is_not_there_is_said(learnt, tmp_path: Path) -> None:
    sf.write(tmp_path / "mono.wav", voice(1), 8000)
    with pytest.raises(CorpusError, match="has no channel 1, it has 1"):
        decode_clip(replace(learnt[0][0], path=tmp_path / "mono.wav", channel=1, end_s=2.0), 8000)


def test_without_consent_or_speech_nothing_is_learnt(tmp_path: Path) -> None:
    sf.write(tmp_path / "silence.wav", np.zeros((40_000, 2)), 8000)
    with pytest.raises(UsageError, match="--consent"):
        talk([tmp_path], tmp_path / "out", consent=False)
    with pytest.raises(UsageError, match="0 segments of 0 voices in 1 recordings; left out: 1 "):
        talk([tmp_path / "silence.wav"], tmp_path / "out")


def test_members_without_neutral_speech_learn_nothing_from_it(calls: Path, tmp_path: Path) -> None:
    corpus = write_tiny_corpus(tmp_path / "crema-d")
    command = ["train", "--out", str(tmp_path / "out"), "--corpus", str(corpus), "--labels", "anger,sad"]
    command += ["--members", "cnn", "--ordinary", str(calls), "--consent", "--epochs", "1"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code != 0
    assert "leave --ordinary away" in str(done.exception or "") + done.output

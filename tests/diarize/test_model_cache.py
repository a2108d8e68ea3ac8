"""The voice models of mono calls are converted once per user, and a person is told so."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_calls import call, night_args, settle, short_call

from callanalytics.diarize import SpeechModels

LINE = "Preparing the voice models, once per user"


@pytest.fixture
def mono(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    folder.mkdir()
    short_call(folder / "mono.wav", 1, seconds=8.0, mono=True)
    settle(folder)
    return folder / "mono.wav"


def test_the_first_mono_call_of_a_user_tells_why_it_takes_longer(mono: Path, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    first = call("diarize", mono, "--rttm", "-", env=env)
    assert first.stderr.count(LINE) == 1
    assert first.stdout.startswith("SPEAKER mono 1 ")
    second = call("diarize", mono, "--rttm", "-", env=env)
    assert LINE not in second.stderr
    assert second.stdout == first.stdout


@pytest.mark.slow
def test_a_run_prepares_the_models_once_before_its_workers_start(mono: Path, tmp_path: Path) -> None:
    short_call(mono.with_name("mono-too.wav"), 2, seconds=8.0, mono=True)
    settle(mono.parent)
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = call(*night_args(mono.parent, tmp_path / "out", "--workers", "2"), env=env)
    assert run.stderr.count(LINE) == 1
    assert len(list((tmp_path / "cache" / "callanalytics").glob("*.onnx"))) == 3


def test_conversion_takes_one_thread_whatever_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that wait for each other made it ten times slower on a busy machine."""
    import torch

    threads: list[int] = []
    export = torch.onnx.export

    def counting(*args: object, **options: object) -> object:
        threads.append(torch.get_num_threads())
        return export(*args, **options)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.onnx, "export", counting)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert SpeechModels().segmenter is not None
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads == [1]

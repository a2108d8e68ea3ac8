"""The networks for voices: made of the weights of other packages, once for each version of a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.inference import make_networks as making
from ensemble.inference import shipped_networks
from ensemble.model_errors import ModelIncompatible, ModelMissing


def test_what_is_made_is_in_use_byte_for_byte_and_an_earlier_version_goes(tmp_path: Path) -> None:
    used = shipped_networks.network_file(shipped_networks.SILERO).parent
    earlier, out = tmp_path / "of-another-version", tmp_path / used.name
    earlier.mkdir()
    making.make_networks(out)
    assert [folder.name for folder in tmp_path.iterdir()] == [used.name]
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(made) == sorted(path.name for path in used.iterdir())
    assert [name for name in made if made[name] != (used / name).read_bytes()] == []


def test_other_weights_than_those_expected_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(making, "SOURCES", dict.fromkeys(shipped_networks.SOURCES, "0" * 64))
    with pytest.raises(ModelIncompatible, match="is not the expected 000000000000"):
        making.make_networks(tmp_path / "networks")
    assert not list(tmp_path.iterdir())


def test_what_another_process_made_meanwhile_is_used(tmp_path: Path, monkeypatch) -> None:
    """It is looked for once more when the lock is held; nothing is started then."""
    folder = tmp_path / "networks"
    monkeypatch.setattr(shipped_networks, "networks_folder", lambda: folder)
    monkeypatch.setattr(shipped_networks.fcntl, "flock", lambda *_: folder.mkdir())
    monkeypatch.setattr(shipped_networks.subprocess, "run", None)
    assert shipped_networks.network_file("any").parent == folder


def test_what_the_making_said_is_in_the_error(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shipped_networks, "networks_folder", lambda: tmp_path / "networks")
    monkeypatch.setattr(shipped_networks.sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(ModelMissing, match=r"cannot be made here .*no-python"):
        shipped_networks.network_file("any")

"""Members on another device: the same answers, the same voices, and a clear word where there is no GPU.

No GPU is needed: `cpu:0` is torch's way on the processor, and torch's `meta` device refuses, as a GPU does,
to compute with what was left on the processor.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from command_line import callanalytics

from callanalytics.analysis.call import Models
from callanalytics.config import Settings, load_config
from callanalytics.errors import ConfigError
from callanalytics.workspace import Workspace
from ensemble.inference.device import onnx_member, prepare_device
from ensemble.inference.ensemble import SHIPPED
from ensemble.members import make_member
from ensemble.model_errors import DeviceMissing
from jobs.maintenance.doctor import examine

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_the_processor_is_not_asked_and_torch_not_imported() -> None:
    code = "import sys; from ensemble.inference.device import prepare_device; prepare_device('cpu')"
    code += "; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "False"


def test_a_gpu_that_torch_does_not_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "fp32_precision", "tf32")
    prepare_device("cuda")
    prepare_device("cuda:1")
    assert torch.backends.cudnn.fp32_precision == "ieee"
    with pytest.raises(DeviceMissing, match=r"'cuda:2'.*sees 2 GPUs.*nvidia-smi"):
        prepare_device("cuda:2")


@no_gpu
def test_a_night_without_its_gpu_ends_before_it_begins(tmp_path: Path) -> None:
    out = tmp_path / "out"
    callanalytics("run", "--input", tmp_path, "--out", out, "--device", "cuda", expect=2)
    callanalytics("run", "--input", tmp_path, "--out", out, "--device", "toaster", expect=2)
    assert not out.exists()
    config = tmp_path / "config.toml"
    config.write_text('[engine]\ndevice = "cuda"\n')
    callanalytics("run", "--input", tmp_path, "--out", out, "--config", config, expect=2)
    callanalytics("analyze", tmp_path / "call.wav", "--config", config, expect=2)
    results = tmp_path / "results"
    results.mkdir()
    (results / "callanalytics.duckdb").touch()
    callanalytics("backfill", "--out", results, "--config", config, expect=2)
    findings = json.loads(callanalytics("doctor", "--json", "--config", config, expect=1))
    assert [f["ok"] for f in findings if f["name"] == "device"] == [False]
    config.write_text('[engine]\ndevice = "cuda"\nkind = "ray"\n')  # the GPU is on a node, not here
    findings = json.loads(callanalytics("doctor", "--json", "--config", config, expect=1))
    assert [f["ok"] for f in findings if f["name"] == "device"] == [True]


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:-1", "cuda:1:2", " cpu", "cpu\n", ""])
def test_a_device_of_another_name_is_refused_in_the_settings(tmp_path: Path, device: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[engine]\ndevice = {json.dumps(device)}\n")
    with pytest.raises(ConfigError, match="device"):
        load_config(path)


@pytest.mark.parametrize(("device", "has_vnni"), [("cpu:0", True), ("cpu", False)])
def test_a_voice_has_one_print_on_every_device_and_processor(
    device: str, has_vnni: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: else a call near a decision would be divided otherwise on another machine."""
    mels = rng.normal(-8, 3, (2100, 80)).astype(np.float32)
    every, found = np.arange(len(mels)), []
    for used, multiplies in (("cpu", True), (device, has_vnni)):
        monkeypatch.setattr("ensemble.inference.shipped_networks.multiplies_bytes", lambda m=multiplies: m)
        printer = Models.load(None, device=used).speech.printer
        hidden = printer.extract(mels, every)
        found.append((hidden.values, printer.prints(hidden, np.array([0, 300]), np.array([300, 900]))))
    (hidden_here, prints_here), (hidden_there, prints_there) = found
    np.testing.assert_array_equal(hidden_here, hidden_there)
    np.testing.assert_array_equal(prints_here, prints_there)


def test_the_doctor_names_a_processor_that_takes_twice_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower = []
    for has_vnni in (True, False):
        monkeypatch.setattr("ensemble.inference.device.multiplies_bytes", lambda has=has_vnni: has)
        found = {each.name: each for each in examine(Settings(), Workspace(tmp_path))}["voice models"]
        assert found.ok
        slower.append("twice the time" in found.found)
    assert slower == [False, True]


@pytest.mark.parametrize("name", ["cnn", "crnn", "vit"])
def test_a_member_answers_alike_beside_longer_ones_and_hears_little_padding(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_frames = np.array([180, 40, 47, 250, 230, 44, 90])
    mel = np.zeros((7, 250, 64), np.float32)
    mask = np.arange(250) < n_frames[:, None]
    mel[mask] = rng.standard_normal((n_frames.sum(), 64))
    heard: list[int] = []

    class Counted(onnxruntime.InferenceSession):
        def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
            heard.append(given["mask"].size)
            return super().run(names, given)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    member = onnx_member(SHIPPED / f"{name}.onnx", 1)
    together = member(mel, mask.astype(np.float32))
    assert sum(heard) < 1.25 * n_frames.sum()
    for row, n in enumerate(n_frames):
        alone = member(mel[row : row + 1, :n], np.ones((1, n), np.float32))
        for found, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(found[row], expected[0], atol=2e-5)


def test_nothing_of_a_network_stays_behind_on_the_processor() -> None:
    from ensemble.members.campplus import CamPlusPlus, frame_layers

    with torch.inference_mode():
        hidden = frame_layers(CamPlusPlus().eval().to("meta"))(torch.zeros(2, 300, 80, device="meta"))
        assert hidden.shape == (2, 150, 512)
        for architecture in ("cnn", "crnn", "vit"):
            member = make_member(architecture, 64, 6).eval().to("meta")
            mel, mask = torch.zeros(2, 200, 64, device="meta"), torch.ones(2, 200, device="meta")
            assert member(mel, mask).shape == (2, 6)

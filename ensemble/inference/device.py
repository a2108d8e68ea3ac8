"""Where networks run: in ONNX Runtime on the processor, or in torch on a GPU."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.model_errors import DeviceMissing, ModelIncompatible

if TYPE_CHECKING:  # the command line reads this module, and numpy takes a tenth of a second
    from collections.abc import Callable

    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray

    Float = NDArray[np.float32]
    Member = Callable[[Float, Float], tuple[Float, Float]]
    """A network of the ensemble at work. Takes spectrograms (n, time, n_mels) and mask (n, time).

    Gives logits (n, k) and pooled features (n, width), all float32.
    """

CPU = "cpu"
VOICE_WIDTH = 1024
VOICE_BATCH = 4
"""Segments of one length at once: four take a fifth less than one by one, and more do not gain."""
_MOST_PADDED = 1.25  # the longest spectrogram that a processor sees at once, against the shortest
PATTERN = r"(cpu|cuda)(:\d{1,3})?"
"""What a device may be called: ``cpu``, ``cuda`` (torch's current GPU), ``cuda:1``."""


def prepare_device(device: str) -> None:
    """Make sure that torch can compute on ``device`` here, and as exactly as on the processor.

    For ``cpu`` torch is not imported. On a GPU, convolutions and recurrent layers are then computed in
    float32: with torch's own choice, TF32, a result would differ in the third digit.

    Raises:
        DeviceMissing: when torch does not see the GPU.
    """
    if device == CPU:
        return
    try:
        import torch
    except ModuleNotFoundError as error:
        raise DeviceMissing(
            f"device {device!r}: needs torch, which is not installed: pip install 'callanalytics[train]'"
        ) from error

    kind, _, number = device.partition(":")
    if kind == "cpu":  # torch's way on the processor, for comparison with ONNX Runtime's
        return
    n_found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= n_found:
        built = "" if torch.version.cuda else ", which is built without CUDA"
        raise DeviceMissing(
            f"device {device!r}: torch {torch.__version__}{built}, sees {n_found} GPUs here. Check "
            '`nvidia-smi`, install torch\'s CUDA build, or leave device at "cpu".'
        )
    torch.backends.cudnn.fp32_precision = "ieee"


@cache
def multiplies_bytes() -> bool:
    """Whether the processor adds up products of signed bytes in one instruction (VNNI), exactly and fast.

    Others are taken not to: AVX2 alone clips sums of two products. Told by Linux on x86 only.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    return bool(flags & {"avx512_vnni", "avx_vnni"})


def open_session(model: Path | bytes, n_threads: int) -> onnxruntime.InferenceSession:
    """A session of a file or a graph, on the CPU, that uses ``n_threads`` and leaves the other cores alone.

    Raises:
        Exception: one of ONNX Runtime's own, which it does not export.
    """
    import onnxruntime

    _share_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # a plan per input shape is kept for ever: 100 MB on mono calls
    options.add_session_config_entry("session.use_env_allocators", "1")
    given = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


@cache
def _share_memory() -> None:
    """One arena for every session: a worker runs one at a time, and each of its own would keep its peak.

    With nine sessions a worker on mono calls takes 455 MB instead of 626 MB, as fast.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # nothing of ours talks to the network
    arena = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(memory, None)


def onnx_member(path: Path, n_threads: int) -> Member:
    """A member in ONNX Runtime. A graph of an earlier version gives no pooled features: their width is 0.

    Raises:
        ModelIncompatible: when ONNX Runtime refuses the file.
    """
    import numpy as np
    import onnxruntime

    try:
        session = open_session(path, n_threads)
    except Exception as error:
        # ONNX Runtime's own classes are not exported; all mean that the file does not suit this version.
        raise ModelIncompatible(
            f"{path}: refused by ONNX Runtime {onnxruntime.__version__} ({error})"
        ) from error

    names = [output.name for output in session.get_outputs()]

    def of_like_length(mel: Float, mask: Float) -> tuple[Float, Float]:
        found: dict[str, Float] = dict(
            zip(names, session.run(names, {"mel": mel, "mask": mask}), strict=True)
        )
        return found["logits"], found.get("pooled", np.zeros((len(mel), 0), dtype=np.float32))

    def run(mel: Float, mask: Float) -> tuple[Float, Float]:
        # Nearly half of one batch of all segments of a call would be padding, which costs as much as speech.
        n_frames = mask.sum(axis=1).astype(int)
        order = np.argsort(n_frames, kind="stable")
        answers = []
        while len(order):
            longest = max(1, int(_MOST_PADDED * n_frames[order[0]]))
            n_alike = int(np.searchsorted(n_frames[order], longest, side="right"))
            rows, order = order[:n_alike], order[n_alike:]
            longest = max(1, n_frames[rows[-1]])
            answers.append((rows, *of_like_length(mel[rows, :longest], mask[rows, :longest])))
        rows, logits, pooled = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        back = np.argsort(rows)
        return logits[back], pooled[back]

    return run


def voice_member(head: Path, body_sha256: str, n_threads: int) -> Member:
    """The member on the frozen voice network, which is shipped.

    Raises:
        ModelMissing: when the network is not on this machine.
        ModelIncompatible: when it is not the one that the head was trained on, or ``head`` is none.
    """
    import numpy as np

    from ensemble.inference.shipped_networks import CAMPPLUS_SHA256, EMOTION_LAYERS, network_file

    network_file(EMOTION_LAYERS)
    if body_sha256 != CAMPPLUS_SHA256:
        raise ModelIncompatible(
            f"{head}: trained on a voice network of content {body_sha256[:12]}, and this version has "
            f"{CAMPPLUS_SHA256[:12]}; train again"
        )
    weight, bias = read_head(head)
    body = cache(partial(voice_body, n_threads))  # not before it is needed: 30 MB

    def run(mel: Float, mask: Float) -> tuple[Float, Float]:
        pooled = body()(mel, mask)
        return np.matmul(pooled, weight.T, dtype=np.float32) + bias, pooled

    return run


def read_head(head: Path) -> tuple[Float, Float]:
    """Weights (k, 1024) and biases (k,) of the own head of the voice network's member.

    Raises:
        ModelIncompatible: when it is none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(head)
        return tensors["weight"], tensors["bias"]
    except (SafetensorError, KeyError) as error:
        raise ModelIncompatible(f"{head}: no head of the voice network ({error}); restore it") from error


def voice_body(n_threads: int) -> Callable[[Float, Float], Float]:
    """The voice network up to what the member pools: log-mels (n, time, 80), mask (n, time) -> (n, 1024).

    It runs on the processor in 8 bits whatever the device, so that it answers alike everywhere.

    Raises:
        ModelMissing: when the network is not on this machine.
    """
    import numpy as np

    from ensemble.inference.shipped_networks import EMOTION_LAYERS, network_file

    session = open_session(network_file(EMOTION_LAYERS), n_threads)

    def run(mel: Float, mask: Float) -> Float:
        lengths = mask.sum(axis=1).astype(int)  # the graph knows no padding
        pooled = np.empty((len(mel), VOICE_WIDTH), np.float32)
        for length in np.unique(lengths):
            of_length = np.flatnonzero(lengths == length)
            for first in range(0, len(of_length), VOICE_BATCH):
                rows = of_length[first : first + VOICE_BATCH]
                pooled[rows] = session.run(None, {"mel": mel[rows, :length]})[0]
        return pooled

    return run


def torch_member(path: Path, architecture: str, n_mels: int, n_labels: int, device: str) -> Member:
    """A member in torch on ``device``, from its safetensors.

    Raises:
        ModelIncompatible: when they are no weights of that architecture.
    """
    import torch
    from safetensors import SafetensorError

    from ensemble.members import load_member

    try:
        model: Any = load_member(path, architecture, n_mels, n_labels).to(device)
    except (SafetensorError, RuntimeError) as error:  # RuntimeError: weights of another shape
        raise ModelIncompatible(f"{path}: no weights of a {architecture} ({error}); restore it") from error

    def run(mel: Float, mask: Float) -> tuple[Float, Float]:
        with torch.inference_mode():
            pooled = model.pooled(torch.from_numpy(mel).to(device), torch.from_numpy(mask).to(device))
            logits = model.head(pooled)
        return logits.float().cpu().numpy(), pooled.float().cpu().numpy()

    return run

"""Where networks run: in ONNX Runtime on the processor, or in torch on a GPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.model_errors import DeviceMissing

if TYPE_CHECKING:
    import onnxruntime

CPU = "cpu"
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
    import torch

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


def open_session(path: Path, n_threads: int) -> onnxruntime.InferenceSession:
    """A session on the CPU that uses ``n_threads`` and leaves the other cores alone.

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
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


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

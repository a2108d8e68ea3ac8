"""Where networks run: on the processor, or in torch on a GPU."""

from __future__ import annotations

from ensemble.model_errors import DeviceMissing

CPU = "cpu"
PATTERN = r"(cpu|cuda)(:\d{1,3})?"
"""What a device may be called: ``cpu``, ``cuda`` (torch's current GPU), ``cuda:1``."""


def prepare_device(device: str) -> None:
    """Make sure that torch can compute on ``device`` here, and as exactly as on the processor.

    ``cpu`` is not asked and torch not imported. On a GPU, convolutions and recurrent layers are then computed
    in float32: with torch's own choice, TF32, a result would differ in the third digit.
    Raises DeviceMissing.
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

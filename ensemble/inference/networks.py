"""One member at work: in ONNX Runtime on the processor, in torch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.inference.device import open_session
from ensemble.model_errors import ModelIncompatible

Float = NDArray[np.float32]
Member = Callable[[Float, Float], tuple[Float, Float]]
"""Takes normalised spectrograms (n, time, n_mels) and mask (n, time).

Gives logits (n, k) and pooled features (n, width), all float32.
"""


def onnx_member(path: Path, n_threads: int) -> Member:
    """A member in ONNX Runtime. A graph of an earlier version gives no pooled features: their width is 0.

    Raises:
        ModelIncompatible: when ONNX Runtime refuses the file.
    """
    import onnxruntime

    try:
        session = open_session(path, n_threads)
    except Exception as error:
        # ONNX Runtime's own classes are not exported; all mean that the file does not suit this version.
        raise ModelIncompatible(
            f"{path}: refused by ONNX Runtime {onnxruntime.__version__} ({error})"
        ) from error

    names = [output.name for output in session.get_outputs()]

    def run(mel: Float, mask: Float) -> tuple[Float, Float]:
        found: dict[str, Float] = dict(
            zip(names, session.run(names, {"mel": mel, "mask": mask}), strict=True)
        )
        return found["logits"], found.get("pooled", np.zeros((len(mel), 0), dtype=np.float32))

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
        model = load_member(path, architecture, n_mels, n_labels).to(device)
    except (SafetensorError, RuntimeError) as error:  # RuntimeError: weights of another shape
        raise ModelIncompatible(f"{path}: no weights of a {architecture} ({error}); restore it") from error

    def run(mel: Float, mask: Float) -> tuple[Float, Float]:
        with torch.inference_mode():
            pooled = model.pooled(torch.from_numpy(mel).to(device), torch.from_numpy(mask).to(device))
            logits = model.head(pooled)
        return logits.float().cpu().numpy(), pooled.float().cpu().numpy()

    return run

"""A made-up corpus in CREMA-D's layout that a member learns in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf

TWO = (("ANG", 240, 0.5, 7), ("SAD", 110, 2.0, 2))
"""Code, pitch in Hz, spectral tilt, syllables a second."""
SIX = (*TWO, ("DIS", 150, 1.5, 3), ("FEA", 260, 1.2, 6), ("HAP", 210, 0.8, 5), ("NEU", 160, 1.0, 4))


CREMA_CODES = {
    **{"ANG": "anger", "DIS": "disgust", "FEA": "fear"},
    **{"HAP": "happy", "NEU": "neutral", "SAD": "sad"},
}


def write_tiny_corpus(folder: Path, emotions: tuple[tuple[str, int, float, int], ...] = TWO) -> Path:
    """Six voices, four clips of each emotion; anger is fast, bright and high, sadness slow and dark."""
    rng = np.random.default_rng(2)
    folder.mkdir(parents=True, exist_ok=True)
    t = np.arange(6400) / 8000
    for speaker in range(6):
        for take, sentence in enumerate(("DFA", "IEO", "TAI", "WSI")):
            for code, pitch, tilt, rhythm in emotions:
                hz = pitch * (1 + 0.08 * rng.standard_normal()) * (0.8 + 0.08 * speaker)
                wave = sum(np.sin(2 * np.pi * hz * k * t + take) / k**tilt for k in range(1, 9))
                wave = 0.1 * wave * (1 + np.sin(2 * np.pi * rhythm * t)) + 0.002 * rng.standard_normal(t.size)
                path = folder / f"{1000 + speaker}_{sentence}_{code}_XX.wav"
                sf.write(path, np.clip(wave, -1, 1), 8000)
    return folder


def write_tiny_manifest(folder: Path) -> Path:
    """The same with all six emotions, and a manifest whose speakers no ensemble knows."""
    lines = ["path,emotion,speaker"]
    for path in sorted(write_tiny_corpus(folder, SIX).glob("*.wav")):
        speaker, _, code, _ = path.stem.split("_")
        lines.append(f"{path.name},{CREMA_CODES[code]},v{speaker}")
    manifest = folder / "made.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def small_whisper(path: Path, n_blocks: int = 2) -> Path:
    """A Whisper encoder of random weights, 64 wide, of 20 positions (0.4 s)."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(4)
    shapes: dict[str, tuple[int, ...]] = {
        **{"conv1.weight": (64, 80, 3), "conv1.bias": (64,), "conv2.weight": (64, 64, 3)},
        **{"conv2.bias": (64,), "position_encodings.encodings": (80, 64)},
    }
    for block in range(n_blocks):
        for part, (wide, back) in {"self_attention": (192, 64), "ffn": (256, 256)}.items():
            prefix = f"layer_{block}.{part}"
            shapes |= {f"{prefix}.layer_norm.gamma": (64,), f"{prefix}.layer_norm.beta": (64,)}
            shapes |= {f"{prefix}.linear_0.weight": (wide, 64), f"{prefix}.linear_0.bias": (wide,)}
            shapes |= {f"{prefix}.linear_1.weight": (64, back), f"{prefix}.linear_1.bias": (64,)}
    save_file({name: 0.1 * torch.randn(shape) for name, shape in shapes.items()}, path)
    return path

"""Sound as pictures: the waveform as an SVG path, the spectrogram as a small PNG."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

from ensemble.inference.spectrogram import FrontEnd, log_mel

if TYPE_CHECKING:
    from callanalytics.records import FloatArray

BOX_WIDTH, BOX_HEIGHT = 1000.0, 100.0
N_COLUMNS = 500  # of the waveform: finer than any screen of a phone, a few kilobytes of path
MAX_PICTURE_FRAMES = 1500
# Dark to light with even steps of lightness, readable without colour. Points of matplotlib's "magma"
# (S. van der Walt and N. Smith, 2015, CC0), between which colours are mixed.
_MAGMA = ((0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))


def waveform_path(samples: FloatArray) -> str:
    """SVG path of the envelope of (n,) samples in a box of 1000 x 100, scaled to the loudest sample."""
    if not len(samples):
        return ""
    edges = np.linspace(0, len(samples), min(N_COLUMNS, len(samples)) + 1).astype(int)
    high = np.maximum.reduceat(samples, edges[:-1])
    low = np.minimum.reduceat(samples, edges[:-1])
    scale = BOX_HEIGHT / 2 / max(float(np.abs(samples).max()), 1e-6)
    x = (edges[:-1] + edges[1:]) / 2 / len(samples) * BOX_WIDTH
    upper = [f"{a:.1f} {BOX_HEIGHT / 2 - b * scale:.1f}" for a, b in zip(x, high, strict=True)]
    lower = [f"{a:.1f} {BOX_HEIGHT / 2 - b * scale:.1f}" for a, b in zip(x[::-1], low[::-1], strict=True)]
    return f"M{'L'.join(upper)}L{'L'.join(lower)}Z"


def spectrogram_png(samples: FloatArray, front: FrontEnd) -> str:
    """The log-mel spectrogram that the members hear (before trimming), as a data: address of a PNG.

    One pixel a frame (10 ms) and mel band, low bands at the bottom; black is `range_db` below the peak.
    """
    from PIL import Image

    mel = log_mel(samples, front)
    mel = mel[:: -(-len(mel) // MAX_PICTURE_FRAMES)]
    shade = np.clip((mel - mel.max()) / front.range_db + 1.0, 0.0, 1.0)
    picture = Image.fromarray((shade.T[::-1] * 255).round().astype(np.uint8), mode=None)
    picture = picture.convert("P") if picture.mode != "P" else picture
    picture.putpalette(_palette())
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _palette() -> list[int]:
    points = np.array(_MAGMA, dtype=float)
    at = np.linspace(0, len(points) - 1, 256)
    mixed = np.stack([np.interp(at, np.arange(len(points)), points[:, c]) for c in range(3)], axis=1)
    return [int(value) for value in mixed.round().ravel()]

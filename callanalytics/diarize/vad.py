"""Voice activity: in which 32 ms frames of a channel somebody speaks.

The detector is Silero VAD 6 (MIT) at 8 kHz. The graph of its authors takes one frame at a time. In ours,
made by `ensemble/inference/make_networks.py`, its layers before the recurrent one take many frames in one
matrix product, and that one takes many steps in one call: the same probabilities, seven times as fast. The
recurrent state makes one call a strictly serial job, so a file is folded into parallel streams of at least
15 s with a half-second warm-up: measured twice as fast as one stream per channel, and no worse on
real calls (benchmarks/RESULTS.md). Frames that are too quiet to hold speech are never shown to it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from callanalytics.records import BoolArray, FloatArray
from ensemble.inference.device import open_session
from ensemble.inference.shipped_networks import SILERO, network_file

if TYPE_CHECKING:
    import onnxruntime

IntArray = npt.NDArray[np.int64]

SAMPLE_RATE_HZ = 8000
FRAME_SAMPLES = 256  # what the 8 kHz model takes at once
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_CONTEXT_SAMPLES = 32  # the end of the frame before, as the model was trained
_WINDOW_SAMPLES, _WINDOW_HOP = 128, 64  # four short-time spectra a frame, its end mirrored by half a window
_N_HIDDEN = 128
_FRAMES_AT_ONCE = 512  # of all streams: what they need lies in the second-level cache
_WARM_UP_FRAMES = 16
_MIN_STREAM_FRAMES = round(15 / FRAME_S)
_MAX_STREAMS = 64
SILENCE_DB = -100.0  # level of a frame of zeros
# Speech stands so far above the steady sound of its channel, and what is softer lies so near to it. Levels of
# frames of white noise scatter by 0.4 dB (chi-squared with 256 degrees of freedom).
_ABOVE_STEADY_DB, _NEAR_S = 1.5, 0.1
# Below this no telephone codec carries intelligible speech (8-bit mu-law steps end at -72 dBFS).
AUDIBLE_DB = -66.0
# A turn is one voice without a pause of half a second or more: the convention of the reference
# transcripts of HarperValleyBank, where no two utterances of one speaker are closer than 0.48 s.
BRIDGE_S = 0.5
# Shorter than any word of telephone speech: clicks, breaths.
MIN_TURN_S = 0.2
# The detector reports the first frame after the onset; half its frame is added on both sides.
PAD_S = 0.05


def frame_levels_db(samples: FloatArray) -> FloatArray:
    """Level of every frame: (n_channels, n) samples -> (n_channels, n_frames) dB below full scale.

    The mean of a frame is removed first, so a channel with a constant offset is silent.
    """
    n_channels, n = samples.shape
    n_whole = n // FRAME_SAMPLES
    whole = samples[:, : n_whole * FRAME_SAMPLES].reshape(n_channels, n_whole, FRAME_SAMPLES)
    power = np.einsum("cft,cft->cf", whole, whole) / FRAME_SAMPLES - whole.mean(axis=2) ** 2
    rest = samples[:, n_whole * FRAME_SAMPLES :]
    if rest.shape[1]:
        power = np.concatenate([power, rest.var(axis=1, keepdims=True)], axis=1)
    floor = np.float32(10 ** (SILENCE_DB / 10))
    levels: FloatArray = 10 * np.log10(np.maximum(power, floor), dtype=np.float32)
    return levels


def steady_db(levels_db: FloatArray) -> FloatArray:
    """Level of the steady sound of every channel, such as hum or noise: (..., n_frames) to (..., 1)."""
    if levels_db.shape[-1] == 0:
        return np.full((*levels_db.shape[:-1], 1), SILENCE_DB, np.float32)
    floor: FloatArray = np.percentile(levels_db, 10, axis=-1, keepdims=True)
    return floor


def stands_out(levels_db: FloatArray) -> BoolArray:
    """Frames (n_frames,) of one channel at or near which a sound stands above its steady sound.

    The detector takes hum for speech where a recording begins with it, even at -54 dBFS.
    """
    return widen(levels_db > steady_db(levels_db) + _ABOVE_STEADY_DB, round(_NEAR_S / FRAME_S))


@dataclass(frozen=True)
class VoiceDetector:
    """Silero VAD, loaded. `session` is an ONNX Runtime session of many frames at once."""

    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls, n_threads: int = 1) -> VoiceDetector:
        """Load the network. Raises ModelMissing when it is not there."""
        return cls(open_session(network_file(SILERO), n_threads))

    def probabilities(self, samples: FloatArray, levels_db: FloatArray) -> FloatArray:
        """Probability of speech per frame.

        Args:
            samples: (n_channels, n) at 8 kHz.
            levels_db: (n_channels, n_frames) from `frame_levels_db`; quiet frames get 0.

        Returns:
            (n_channels, n_frames), 0..1.
        """
        result = np.zeros(levels_db.shape, np.float32)
        audible = widen(levels_db > AUDIBLE_DB, round(0.5 / FRAME_S))
        channel, frame = np.nonzero(audible)
        if len(frame) == 0:
            return result
        pieces = _fold(np.flatnonzero(np.append(True, channel[1:] != channel[:-1])), len(frame))
        # (n_steps, n_streams): which audible frame each stream is given at each step; -1 before its start.
        order = _schedule(pieces)
        n_streams = order.shape[1]
        hidden, cell = np.zeros((2, 1, n_streams, _N_HIDDEN), np.float32)
        found = np.empty((*order.shape, 1), np.float32)
        n_at_once = -(-_FRAMES_AT_ONCE // n_streams)
        for step in range(0, len(order), n_at_once):
            picked = order[step : step + n_at_once].reshape(-1)
            block = _gather(samples, channel[picked], frame[picked], live=picked >= 0)
            given = {"windows": _windows(block), "hidden": hidden, "cell": cell}
            found[step : step + n_at_once], hidden, cell = self.session.run(None, given)
        told = order >= 0
        told[:_WARM_UP_FRAMES] = False
        at = order[told]
        result[channel[at], frame[at]] = found[told, 0]
        return result


def _windows(block: FloatArray) -> FloatArray:
    """Four windows (n, 4, 128) of frames with their context (n, 288), the end mirrored as in the model."""
    mirrored = np.concatenate([block, block[:, -2 : -2 - _WINDOW_HOP // 2 : -1]], axis=1)
    every = np.lib.stride_tricks.sliding_window_view(mirrored, _WINDOW_SAMPLES, axis=1)
    return np.ascontiguousarray(every[:, ::_WINDOW_HOP])


def _fold(channel_starts: IntArray, n_audible: int) -> list[tuple[int, int, int]]:
    """Cut the list of audible frames into pieces (warm-up, start, end) for parallel streams.

    Neither a piece nor its warm-up crosses into another channel.
    """
    bounds = [*channel_starts.tolist(), n_audible]
    longest = max(b - a for a, b in itertools.pairwise(bounds))
    n_per_channel = max(1, min(_MAX_STREAMS, longest // _MIN_STREAM_FRAMES))
    length = -(-longest // n_per_channel)
    return [
        (max(a, at - _WARM_UP_FRAMES), at, min(at + length, b))
        for a, b in itertools.pairwise(bounds)
        for at in range(a, b, length)
    ]


def _schedule(pieces: list[tuple[int, int, int]]) -> IntArray:
    """Frame index per step and stream; all streams reach their start together, idle ones get -1."""
    n_steps = _WARM_UP_FRAMES + max(end - start for _, start, end in pieces)
    order = np.full((n_steps, len(pieces)), -1, np.int64)
    for stream, (first, start, end) in enumerate(pieces):
        order[_WARM_UP_FRAMES - (start - first) : _WARM_UP_FRAMES + end - start, stream] = range(first, end)
    return order


def _gather(samples: FloatArray, channel: IntArray, frame: IntArray, *, live: BoolArray) -> FloatArray:
    """The input of each stream: (n_streams, context + frame) samples, zeros outside the recording.

    Gathers without a padded copy of the whole call, which may be hours long.
    """
    n = samples.shape[1]
    at = (frame * FRAME_SAMPLES - _CONTEXT_SAMPLES)[:, None] + np.arange(_CONTEXT_SAMPLES + FRAME_SAMPLES)
    block: FloatArray = samples.reshape(-1).take(channel[:, None] * n + at, mode="clip")
    if not live.all() or at[:, 0].min() < 0 or at[:, -1].max() >= n:
        block *= (at >= 0) & (at < n) & live[:, None]
    return block


def above(probability: FloatArray, *, on: float, off: float) -> BoolArray:
    """Frames over `off` that belong to a run reaching `on` (two-threshold decision), 1-d."""
    chosen = np.zeros(len(probability), np.bool_)
    for start, end in runs(probability > off):
        if probability[start:end].max() > on:
            chosen[start:end] = True
    return chosen


def runs(mask: BoolArray) -> IntArray:
    """Half-open (start, end) rows of every run of True in a 1-d mask: (n_runs, 2)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)


def widen(mask: BoolArray, n_frames: int) -> BoolArray:
    """Grow every run of True along the last axis by `n_frames` on both sides."""
    counts = np.cumsum(mask, axis=-1, dtype=np.int64)
    n = mask.shape[-1]
    at = np.arange(n)
    upper = counts[..., np.minimum(at + n_frames, n - 1)]
    lower = np.where(at > n_frames, counts[..., np.maximum(at - n_frames - 1, 0)], 0)
    grown: BoolArray = upper > lower
    return grown


def stretches(
    mask: BoolArray, duration_s: float, *, bridge_s: float = BRIDGE_S, min_s: float = MIN_TURN_S
) -> list[tuple[float, float]]:
    """Half-open (start_s, end_s) of the turns in a 1-d mask of 32 ms frames."""
    found = runs(mask)
    if len(found) == 0:
        return []
    pause_s = (found[1:, 0] - found[:-1, 1]) * FRAME_S
    breaks = np.flatnonzero(pause_s >= bridge_s)
    starts = found[np.append(0, breaks + 1), 0] * FRAME_S
    ends = found[np.append(breaks, len(found) - 1), 1] * FRAME_S
    kept = ends - starts >= min_s
    return [
        (round(max(0.0, float(start) - PAD_S), 3), round(min(duration_s, float(end) + PAD_S), 3))
        for start, end in zip(starts[kept], ends[kept], strict=True)
    ]

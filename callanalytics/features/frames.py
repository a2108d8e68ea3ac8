"""Segments stacked as hops and frames, so that all of them are worked on at once, and their reductions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from callanalytics.records import FloatArray, Segment

if TYPE_CHECKING:
    IntArray = npt.NDArray[np.intp]
    BoolArray = npt.NDArray[np.bool_]

RATE_HZ = 8_000
HOP = 128  # 16 ms
FRAME = 3 * HOP  # 48 ms: three periods of a 62.5 Hz voice (Boersma 1993)
N_FFT = 512  # FRAME plus one HOP of zeros: autocorrelations up to 16 ms do not wrap around
BLOCK_FRAMES = 2_048  # frames worked on at once; their spectra (2 MB) stay in the cache
FLOOR_DB = -100.0


@dataclass(frozen=True)
class Stack:
    """Several segments as hops of HOP samples, one after the other.

    hops: float32 (n_hops, HOP); a frame is three hops in a row of one segment. first_hop,
    first_frame, n_frames: (n_segments,). frame_hop: (n_frames_in_all,) the hop where each frame
    starts. duration_s: float32 (n_segments,). Samples after the last whole hop are left out of hops; a
    segment shorter than a frame is padded with zeros. mean_square, peak: float32 (n_segments,), of all
    samples of a segment and no padding.
    """

    hops: FloatArray
    first_hop: IntArray
    frame_hop: IntArray
    first_frame: IntArray
    n_frames: IntArray
    duration_s: FloatArray
    mean_square: FloatArray
    peak: FloatArray

    @cached_property
    def segment(self) -> IntArray:
        """Segment of each frame, (n_frames_in_all,)."""
        return np.repeat(np.arange(len(self.n_frames)), self.n_frames)

    @cached_property
    def hop_square(self) -> FloatArray:
        """Sum of squares of each hop, (n_hops,)."""
        total: FloatArray = np.einsum("ij,ij->i", self.hops, self.hops)
        return total

    @cached_property
    def frame_db(self) -> FloatArray:
        """RMS level of each frame in dB, (n_frames_in_all,)."""
        at = self.frame_hop
        square = self.hop_square
        return decibel((square[at] + square[at + 1] + square[at + 2]) / np.float32(FRAME))

    def windowed(self, window: FloatArray) -> FloatArray:
        """Frames times `window` (FRAME,), padded with zeros: float32 (n_frames_in_all, N_FFT)."""
        flat = self.hops.reshape(-1)
        at_every_hop = np.lib.stride_tricks.as_strided(
            flat, (len(self.hops) - 2, FRAME), (HOP * flat.itemsize, flat.itemsize), writeable=False
        )
        frames: FloatArray = np.empty((len(self.frame_hop), N_FFT), dtype=np.float32)
        frames[:, FRAME:] = 0.0
        for hop, frame, count in zip(self.first_hop, self.first_frame, self.n_frames, strict=True):
            np.multiply(at_every_hop[hop : hop + count], window, out=frames[frame : frame + count, :FRAME])
        return frames

    def mean(self, per_frame: FloatArray) -> FloatArray:
        """Mean over the frames of each segment: (n_frames_in_all, ...) -> (n_segments, ...)."""
        total = np.add.reduceat(per_frame, self.first_frame, axis=0)
        count = self.n_frames.astype(np.float32).reshape(-1, *[1] * (per_frame.ndim - 1))
        mean: FloatArray = (total / count).astype(np.float32)
        return mean

    def spread(self, per_frame: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation over the frames of each segment."""
        mean = self.mean(per_frame)
        return mean, np.sqrt(self.mean((per_frame - mean[self.segment]) ** 2))


def decibel(power: FloatArray) -> FloatArray:
    """10 log10 of a power, not below FLOOR_DB."""
    level: FloatArray = 10 * np.log10(np.maximum(power, np.float32(10 ** (FLOOR_DB / 10))))
    return level.astype(np.float32, copy=False)


def groups(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    """Half-open runs of segments with about BLOCK_FRAMES frames together."""
    first, waiting = 0, 0
    for index, segment in enumerate(segments):
        waiting += count_frames(round(segment.duration_s * RATE_HZ))
        if waiting >= BLOCK_FRAMES:
            yield first, index + 1
            first, waiting = index + 1, 0
    if first < len(segments):
        yield first, len(segments)


def count_frames(n_samples: int) -> int:
    """Whole frames in a segment, at least one."""
    return max(1, 1 + (n_samples - FRAME) // HOP)


def stack(samples: FloatArray, segments: Sequence[Segment]) -> Stack:
    """Cut the segments out of float32 (n_channels, n) and lay them side by side, each without its mean."""
    pieces = [
        samples[s.channel, max(0, round(s.start_s * RATE_HZ)) : max(0, round(s.end_s * RATE_HZ))]
        for s in segments
    ]
    n_frames = np.array([count_frames(len(piece)) for piece in pieces], dtype=np.intp)
    n_hops = n_frames + 2
    first_hop = np.cumsum(n_hops) - n_hops
    flat = np.zeros(int(n_hops.sum()) * HOP, dtype=np.float32)
    mean_square, peak = np.zeros((2, len(pieces)), dtype=np.float32)
    for number, (piece, hop, count) in enumerate(zip(pieces, first_hop, n_hops, strict=True)):
        if not piece.size:
            continue
        centred = piece - piece.mean()
        mean_square[number] = np.dot(centred, centred) / piece.size
        peak[number] = np.abs(centred).max()
        used = centred[: count * HOP]
        flat[hop * HOP : hop * HOP + used.size] = used
    return Stack(
        hops=flat.reshape(-1, HOP),
        first_hop=first_hop,
        frame_hop=np.arange(int(n_frames.sum())) + np.repeat(2 * np.arange(len(pieces)), n_frames),
        first_frame=np.cumsum(n_frames) - n_frames,
        n_frames=n_frames,
        duration_s=np.array([max(len(piece), 1) / RATE_HZ for piece in pieces], dtype=np.float32),
        mean_square=mean_square,
        peak=peak,
    )

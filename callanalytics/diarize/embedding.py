"""Voice prints: 192 numbers that say whose voice a second or two of speech is (CAM++).

The network sees Kaldi's log-mels (`ensemble.inference.spectrogram`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from callanalytics.diarize.vad import IntArray
from callanalytics.records import BoolArray, FloatArray
from ensemble.inference.device import open_session
from ensemble.inference.shipped_networks import FRAME_LAYERS, VOICE_LAYER, network_file

if TYPE_CHECKING:
    from scipy import sparse

PRINT_SIZE = 192
_N_HIDDEN = 512
_MIN_POOLED = 10  # rows of 20 ms
# The frame layers take 3 s of speech at once: as good as 1.5 s windows one by one, at a third of the cost.
_CHUNK_FRAMES = 300  # `campplus.CHUNK_FRAMES`, which imports torch
_BATCH = 4  # chunks at once
_LAYER_STRIDE = 2  # mel frames per hidden frame


@dataclass(frozen=True)
class Hidden:
    """Speech as the network sees it before pooling.

    values: (n, 512) one row per 20 ms of speech, in order of time; frame: (n,) its mel frame.
    """

    values: FloatArray
    frame: IntArray


@dataclass(frozen=True, slots=True)
class Pieces:
    """Sums over the hidden rows of pieces of speech, so that any group of pieces can be pooled as one.

    n_rows: (n,); total, squares: (n, 512) float32.
    """

    n_rows: IntArray
    total: FloatArray
    squares: FloatArray

    @classmethod
    def silent(cls, n: int) -> Pieces:
        """Pieces without a single row."""
        return cls(np.zeros(n, np.int64), *(np.zeros((n, _N_HIDDEN), np.float32) for _ in range(2)))

    def __getitem__(self, chosen: slice | IntArray) -> Pieces:
        """Some of them."""
        return Pieces(self.n_rows[chosen], self.total[chosen], self.squares[chosen])

    def __add__(self, other: Pieces) -> Pieces:
        """The same pieces with what was heard of them elsewhere."""
        return Pieces(self.n_rows + other.n_rows, self.total + other.total, self.squares + other.squares)

    @classmethod
    def joined(cls, parts: Sequence[Pieces]) -> Pieces:
        """The pieces of all parts, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))


@dataclass(frozen=True)
class VoicePrinter:
    """CAM++, loaded: its frame layers, and the layer after pooling.

    It runs on the processor in 8 bits whatever the ensemble runs on: calls are divided alike everywhere.
    """

    frame_layers: Callable[[FloatArray], FloatArray]  # (n, 300, 80) -> (n, 150, 512)
    voice_layer: Callable[[FloatArray], FloatArray]  # (n, 1024) -> (n, 192)

    @classmethod
    def load(cls, n_threads: int = 1) -> VoicePrinter:
        """Open the ONNX files. Raises ModelMissing when they are not there."""
        return cls(_session(FRAME_LAYERS, n_threads), _session(VOICE_LAYER, n_threads))

    def extract(self, mels: FloatArray, frame: IntArray) -> Hidden:
        """Run the frame layers over the mel frames of speech, joined as if nothing lay between.

        Args:
            mels: (n, 80) from `kaldi_log_mels`, n >= 1.
            frame: (n,) their numbers, increasing.
        """
        n_chunks = -(-len(mels) // _CHUNK_FRAMES)
        # The last chunk is filled up with the speech before it; a very short call is repeated.
        row = np.arange(len(mels))
        filled = np.concatenate(
            [row[: (n_chunks - 1) * _CHUNK_FRAMES], np.resize(row, _CHUNK_FRAMES)]
            if len(row) < _CHUNK_FRAMES
            else [row[: (n_chunks - 1) * _CHUNK_FRAMES], row[-_CHUNK_FRAMES:]]
        ).reshape(n_chunks, _CHUNK_FRAMES)
        values = np.empty((n_chunks, _CHUNK_FRAMES // _LAYER_STRIDE, _N_HIDDEN), np.float32)
        for first in range(0, n_chunks, _BATCH):
            features = mels[filled[first : first + _BATCH]]
            features = features - features.mean(axis=1, keepdims=True)
            values[first : first + _BATCH] = self.frame_layers(features)
        heard, kept = np.unique(filled[:, ::_LAYER_STRIDE].reshape(-1), return_index=True)
        return Hidden(values.reshape(-1, _N_HIDDEN)[kept], frame[heard])

    def prints(self, hidden: Hidden, first: IntArray, last: IntArray) -> FloatArray:
        """Unit-length voice prints (n, 192) of the mel frames [first, last) of each piece.

        A piece needs speech near it: the nearest `_MIN_POOLED` rows are used when it has fewer.
        """
        n_rows = len(hidden.frame)
        begin = np.searchsorted(hidden.frame, first)
        end = np.searchsorted(hidden.frame, last)
        lacking = np.maximum(0, _MIN_POOLED - (end - begin))
        begin = np.maximum(0, begin - (lacking + 1) // 2)
        end = np.minimum(n_rows, np.maximum(end, begin + min(_MIN_POOLED, n_rows)))
        begin = np.minimum(begin, np.maximum(0, end - min(_MIN_POOLED, n_rows)))
        n = (end - begin)[:, None]
        window = _window_sums(begin, end, n_rows)
        return self._pooled(n, window @ hidden.values, window @ hidden.values**2)

    def whole(self, pieces: Pieces, groups: BoolArray) -> FloatArray:
        """One print (k, 192) of each group of pieces pooled as one; zeros where it holds next to no speech.

        They sway less with mood and words than the mean of their prints does (benchmarks/RESULTS.md).

        Args:
            pieces: n of them.
            groups: (k, n) masks.
        """
        member = groups.astype(np.float32)
        n = (groups @ pieces.n_rows)[:, None]
        found = self._pooled(np.maximum(n, 1), member @ pieces.total, member @ pieces.squares)
        found[n[:, 0] < _MIN_POOLED] = 0
        return found

    def _pooled(self, n: IntArray, total: FloatArray, squares: FloatArray) -> FloatArray:
        """Unit-length prints (k, 192) of sums (k, 512) over n (k, 1) rows: their means and deviations."""
        mean = total / n
        variance = squares / n - mean**2
        deviation = np.sqrt(np.maximum(variance * n / np.maximum(n - 1, 1), 0))
        pooled = np.concatenate([mean, deviation], axis=1).astype(np.float32)
        voices = self.voice_layer(pooled)
        unit: FloatArray = voices / np.maximum(np.linalg.norm(voices, axis=1, keepdims=True), 1e-9)
        return unit


def piece_sums(hidden: Hidden, first: IntArray, last: IntArray) -> Pieces:
    """The sums over the mel frames [first, last) of each piece."""
    begin = np.searchsorted(hidden.frame, first)
    end = np.maximum(begin, np.searchsorted(hidden.frame, last))
    window = _window_sums(begin, end, len(hidden.frame))
    return Pieces(end - begin, window @ hidden.values, window @ hidden.values**2)


def _window_sums(begin: IntArray, end: IntArray, n_rows: int) -> sparse.csr_array:
    """Matrix (n, n_rows) that sums the rows [begin, end) of each piece."""
    from scipy import sparse

    length = end - begin
    starts = np.concatenate([[0], np.cumsum(length)])
    column = np.arange(starts[-1]) - np.repeat(starts[:-1] - begin, length)
    return sparse.csr_array((np.ones(len(column), np.float32), column, starts), shape=(len(begin), n_rows))


def _session(network: str, n_threads: int) -> Callable[[FloatArray], FloatArray]:
    session = open_session(network_file(network), n_threads)
    name = session.get_inputs()[0].name

    def run(values: FloatArray) -> FloatArray:
        found: FloatArray = session.run(None, {name: values})[0]
        return found

    return run

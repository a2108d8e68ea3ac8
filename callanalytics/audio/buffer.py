"""Where decoded sound is collected: rows of float32 in one buffer that grows and ends without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from callanalytics.records import FloatArray

_MOVE = 1 << 20  # samples moved at once when rows are pushed together
_GROWTH = 1.5


class Canvas:
    """`n_rows` rows that are written left to right, block by block, each at its own pace.

    Memory that was set aside but never written is never touched, so a generous capacity is free.
    """

    def __init__(self, n_rows: int, capacity: int) -> None:
        self._flat = np.empty(n_rows * capacity, dtype=np.float32)
        self._n_rows, self._capacity = n_rows, capacity
        self._length = [0] * n_rows

    def write(self, rows: slice, block: FloatArray, full_scale: float) -> int:
        """Append float32 (n, n_rows_written) to `rows`, limited to -1..1. Returns how many samples
        reach `full_scale`."""
        n = len(block)
        start = self._length[rows.start]
        if start + n > self._capacity:
            self._grow(start + n)
        target = self._flat.reshape(self._n_rows, self._capacity)[rows, start : start + n]
        target[...] = block.T
        for row in range(rows.start, rows.stop):
            self._length[row] = start + n
        if n == 0 or (target.max() < full_scale and target.min() > -full_scale):
            return 0
        np.clip(target, -1.0, 1.0, out=target)
        return int(np.count_nonzero(np.abs(target) >= np.float32(full_scale)))

    def finished(self) -> FloatArray:
        """The rows as one C-contiguous (n_rows, n) array, shorter rows padded with zeros."""
        n = max(self._length)
        rows = self._flat.reshape(self._n_rows, self._capacity)
        for row, length in enumerate(self._length):
            rows[row, length:n] = 0.0
        for row in range(1, self._n_rows):
            source, target = row * self._capacity, row * n
            for at in range(0, n if source != target else 0, _MOVE):
                size = min(_MOVE, n - at)
                self._flat[target + at : target + at + size] = self._flat[source + at : source + at + size]
        del rows
        self._flat.resize(self._n_rows * n, refcheck=False)  # gives the tail back to the system
        return self._flat.reshape(self._n_rows, n)

    def _grow(self, needed: int) -> None:
        capacity = max(needed, int(self._capacity * _GROWTH))
        wider = np.empty(self._n_rows * capacity, dtype=np.float32)
        old = self._flat.reshape(self._n_rows, self._capacity)
        new = wider.reshape(self._n_rows, capacity)
        for row, length in enumerate(self._length):
            new[row, :length] = old[row, :length]
        self._flat, self._capacity = wider, capacity

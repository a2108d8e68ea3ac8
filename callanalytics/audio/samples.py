"""Decoded samples lie in memory, those of a long call in a file without a name.

An analysis goes over the samples of a call some five times, and needs a few seconds of them at once. So the
pages of a long call are given back to the system again and again, which keeps them in its cache while there
is room, and else on the disk.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import time
import weakref

import numpy as np
import numpy.typing as npt

from callanalytics.records import FloatArray

# As much as 17 minutes in two channels: no call of minutes is slower for it.
LONG_BYTES = 64 << 20
_GIVEN_BACK_EVERY_S = 0.01
_MOVE_SAMPLES = 1 << 20  # moved at once when rows are pushed together
_GROWTH = 1.5
_FRAMES_AT_ONCE = 256
# Of one sound, samples in turn are as loud as each other, within 2 dB in nine of ten frames of real calls.
_FRAME, _MOST_FRAMES, _ENOUGH_FRAMES, _HEARD_POWER, _APART, _TURNS_SHARE = 256, 2000, 30, 1e-5, 4.0, 0.5


def _room(n: int) -> FloatArray:
    """Room for n samples that are not set."""
    if n * 4 >= LONG_BYTES:
        try:
            return _in_file(n)
        except OSError:  # no temporary folder, or no room in it: memory it is
            pass
    return np.empty(n, dtype=np.float32)


def _in_file(n: int) -> FloatArray:
    """Room in a file that nobody else can open and that goes with the array. Raises OSError."""
    with tempfile.TemporaryFile() as file:
        os.posix_fallocate(file.fileno(), 0, n * 4)  # else a full disk would end the process at a write
        mapped = mmap.mmap(file.fileno(), n * 4)
    mapped.madvise(mmap.MADV_RANDOM)  # written in small pages: of huge ones, each frame read would bring 2 MB
    threading.Thread(target=_keep_giving_back, args=(weakref.ref(mapped),), daemon=True).start()
    return np.ndarray(n, np.float32, mapped)


def frames_at(samples: FloatArray, starts: npt.NDArray[np.intp], length: int) -> FloatArray:
    """Frames (n_starts, length) of (n,) samples, which must hold them whole.

    A frame that is read brings 64 KB and more around it into memory, so some are read at a time.
    """
    frames = np.empty((len(starts), length), np.float32)
    for first in range(0, len(starts), _FRAMES_AT_ONCE):
        part = slice(first, first + _FRAMES_AT_ONCE)
        frames[part] = samples[starts[part, None] + np.arange(length)]
        give_back(samples)
    return frames


def is_interleaved(row: FloatArray) -> bool:
    """Whether (n,) samples are those of two channels in turn: mostly one of them is much louder.

    So are those of a tone at a quarter of the rate, but there the louder ones change sign each time.
    """
    n_frames = len(row) // _FRAME
    if n_frames < _ENOUGH_FRAMES:
        return False
    starts = np.linspace(0, n_frames - 1, min(n_frames, _MOST_FRAMES)).astype(np.int64) * _FRAME
    pairs = frames_at(row, starts, _FRAME).reshape(len(starts), -1, 2)
    power = pairs.var(axis=1)
    loud = power.max(axis=1) > _HEARD_POWER
    goes_on = np.take_along_axis((pairs[:, 1:] * pairs[:, :-1]).sum(axis=1), power.argmax(axis=1)[:, None], 1)
    apart = (power.max(axis=1) > _APART * power.min(axis=1)) & (goes_on[:, 0] > 0)
    return bool(loud.sum() >= _ENOUGH_FRAMES and (loud & apart).sum() > _TURNS_SHARE * loud.sum())


def give_back(samples: FloatArray) -> None:
    """Take samples that lie in a file out of this process's memory; what is touched again comes back."""
    if (mapped := _file_of(samples)) is not None:
        mapped.madvise(mmap.MADV_DONTNEED)  # of a shared mapping nothing is lost by it


def _file_of(samples: FloatArray) -> mmap.mmap | None:
    place: object = samples
    while isinstance(place, np.ndarray):
        place = place.base
    return place if isinstance(place, mmap.mmap) else None


def _keep_giving_back(mapping: weakref.ref[mmap.mmap]) -> None:
    """The same again and again while the array lives."""
    while (mapped := mapping()) is not None:
        mapped.madvise(mmap.MADV_DONTNEED)
        del mapped
        time.sleep(_GIVEN_BACK_EVERY_S)


class SampleBuffer:
    """Rows of float32 samples that grow block by block, each at its own pace, and end as one array.

    Memory that was allocated but never written is never touched, so a generous capacity is free.
    """

    def __init__(self, n_rows: int, capacity: int) -> None:
        self._flat = _room(n_rows * capacity)
        self.n_rows, self._capacity = n_rows, capacity
        self._length: list[int] = [0] * n_rows

    def write(self, rows: slice, block: FloatArray, full_scale: float) -> int:
        """Append float32 (n, n_rows_written) to `rows`, limited to -1..1; count samples at `full_scale`."""
        n = len(block)
        start = self._length[rows.start]
        if start + n > self._capacity:
            self._grow(start + n)
        target = self._flat.reshape(self.n_rows, self._capacity)[rows, start : start + n]
        target[...] = block.T
        for row in range(rows.start, rows.stop):
            self._length[row] = start + n
        n_clipped = 0
        if n and not (target.max() < full_scale and target.min() > -full_scale):
            np.clip(target, -1.0, 1.0, out=target)
            n_clipped = int(np.count_nonzero(np.abs(target) >= np.float32(full_scale)))
        give_back(self._flat)
        return n_clipped

    def length(self, rows: slice) -> int:
        """Samples that `rows`, all written together, hold so far."""
        return int(self._length[rows.start])

    def level(self) -> None:
        """Pad shorter rows with zeros, so that what follows begins in all rows at the same time."""
        n = max(self._length)
        rows = self._flat.reshape(self.n_rows, self._capacity)
        for row, length in enumerate(self._length):
            rows[row, length:n] = 0.0
            self._length[row] = n

    def finished(self) -> FloatArray:
        """The rows as one C-contiguous (n_rows, n) array, shorter rows padded with zeros."""
        self.level()
        n = self._length[0]
        for row in range(1, self.n_rows):
            source, target = row * self._capacity, row * n
            for at in range(0, n if source != target else 0, _MOVE_SAMPLES):
                size = min(_MOVE_SAMPLES, n - at)
                self._flat[target + at : target + at + size] = self._flat[source + at : source + at + size]
                give_back(self._flat)
        if (mapped := _file_of(self._flat)) is not None:
            mapped.madvise(mmap.MADV_NORMAL)  # what the system put out of its cache is read ahead
            return self._flat[: self.n_rows * n].reshape(self.n_rows, n)
        self._flat.resize(self.n_rows * n, refcheck=False)  # gives the tail back to the system
        return self._flat.reshape(self.n_rows, n)

    def _grow(self, needed: int) -> None:
        capacity = max(needed, int(self._capacity * _GROWTH))
        wider = _room(self.n_rows * capacity)
        old = self._flat.reshape(self.n_rows, self._capacity)
        new = wider.reshape(self.n_rows, capacity)
        for row, length in enumerate(self._length):
            for at in range(0, length, _MOVE_SAMPLES):
                part = slice(at, min(at + _MOVE_SAMPLES, length))
                new[row, part] = old[row, part]
                give_back(wider)
                give_back(self._flat)
        self._flat, self._capacity = wider, capacity

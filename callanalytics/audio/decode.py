"""Decoding of recordings: open, decode block by block, resample, check.

    file -> Source (native blocks) -> resampler -> SampleBuffer (float32 at 8 kHz) -> Audio

A three-hour file is never held at its native rate. Decoding is by content; the extension matters
only for files without a header. Everything that can be wrong has its own error and sentence.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from callanalytics.audio.headerless import headerless_source, hint_of
from callanalytics.audio.pyav import ffmpeg_source
from callanalytics.audio.source import Source, clock, opened, shown, unreadable
from callanalytics.audio.wav import (
    check_declared_size,
    is_wav,
    read_header,
    tolerance_s,
    truncated,
    wav_source,
)
from callanalytics.config import AudioSettings
from callanalytics.errors import EmptyAudio, InvalidAudio, TooLong, TruncatedAudio
from callanalytics.records import Audio, FloatArray

CANONICAL_RATE_HZ = 8_000  # calls are telephone speech: wide-band input is brought down
# A float file this far beyond full scale (18 dB) holds something else than samples in -1..1.
_ABSURD_AMPLITUDE = 8.0
# Sidecars and CDRs count ringing, rounding and parking differently, so they are believed less.
_EXPECTED_TOLERANCE_S, _EXPECTED_TOLERANCE_SHARE = 5.0, 0.10
_MOVE_SAMPLES = 1 << 20  # moved at once when rows are pushed together
_GROWTH = 1.5


class SampleBuffer:
    """Rows of float32 samples that grow block by block, each at its own pace, and end as one array.

    Memory that was allocated but never written is never touched, so a generous capacity is free.
    """

    def __init__(self, n_rows: int, capacity: int) -> None:
        self._flat = np.empty(n_rows * capacity, dtype=np.float32)
        self._n_rows, self._capacity = n_rows, capacity
        self._length = [0] * n_rows

    def write(self, rows: slice, block: FloatArray, full_scale: float) -> int:
        """Append float32 (n, n_rows_written) to `rows`, limited to -1..1; count samples at `full_scale`."""
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
            for at in range(0, n if source != target else 0, _MOVE_SAMPLES):
                size = min(_MOVE_SAMPLES, n - at)
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


def decode_recording(
    paths: Sequence[Path], settings: AudioSettings, *, expected_duration_s: float | None = None
) -> Audio:
    """Decode one file, or a pair of mono files (one voice each; the shorter is padded with zeros).

    Returns:
        Audio with samples float32 (n_channels, n_samples) at CANONICAL_RATE_HZ, C-contiguous, finite,
        within -1..1. Rate, codec and container are those of the first file.

    Raises:
        UnreadableFile, EmptyAudio, NotAudio, TruncatedAudio, InvalidAudio, TooLong: see `errors.py`.
        `expected_duration_s` is the length that a sidecar or CDR states; only less sound than that
        (by more than 5 s and 10 %) is refused.
    """
    deadline = time.monotonic() + settings.decode_timeout_s
    buffer: SampleBuffer | None = None
    first: Source | None = None
    n_clipped = 0
    for index, path in enumerate(paths):
        try:
            with _source(path, settings) as source:
                _check_source(path, source, settings, is_pair=len(paths) > 1)
                if buffer is None:
                    first = source
                    buffer = SampleBuffer(
                        source.n_channels if len(paths) == 1 else len(paths), _capacity(source, settings)
                    )
                row = slice(index, index + 1) if len(paths) > 1 else slice(0, source.n_channels)
                n_clipped += _fill(buffer, row, path, source, settings, deadline)
        except OSError as problem:
            raise unreadable(path, problem) from None
    if buffer is None or first is None:
        raise EmptyAudio("A recording without files. This is a fault of callanalytics: please report it.")
    samples = buffer.finished()
    if samples.size == 0:  # a few samples at a high rate can come to none
        raise _empty(paths[0])
    duration_s = samples.shape[1] / CANONICAL_RATE_HZ
    _check_expected(paths[0], duration_s, expected_duration_s)
    return Audio(
        samples=samples,
        sample_rate_hz=CANONICAL_RATE_HZ,
        native_rate_hz=first.rate_hz,
        codec=first.codec,
        container=first.container,
        clipped_share=n_clipped / samples.size,
    )


@contextmanager
def _source(path: Path, settings: AudioSettings) -> Iterator[Source]:
    """The stream in a file: plain WAV by numpy, headerless by its hint, all else by FFmpeg."""
    with opened(path, settings) as (stream, n_bytes):
        head = stream.read(12)
        if is_wav(head):
            header = read_header(path, stream, n_bytes)
            check_declared_size(path, stream, header, settings)
            if header.codec is not None:
                yield wav_source(stream, header)
                return
        elif (hint := hint_of(path, head, stream, settings)) is not None:
            with headerless_source(path, stream, n_bytes, hint) as source:
                yield source
            return
        with ffmpeg_source(path, stream, n_bytes) as source:
            yield source


def _check_source(path: Path, source: Source, settings: AudioSettings, *, is_pair: bool) -> None:
    if is_pair and source.n_channels != 1:
        raise InvalidAudio(
            f"{shown(path)}: {source.n_channels} channels, but it is one half of a pair, where each file "
            "holds one voice. Export the halves as mono, or only the stereo file."
        )
    if source.declared_s is not None and source.declared_s > settings.max_duration_s:
        raise _too_long(path, source.declared_s, settings)


def _capacity(source: Source, settings: AudioSettings) -> int:
    """Samples to allocate at first: what the container hints at, within the limit.

    Pages that are never written cost no memory, and the buffer grows when the hint was too low.
    """
    likely_s = source.hint_s if source.hint_s is not None else 600.0
    return int((min(max(likely_s, 1.0), settings.max_duration_s) + 1.0) * CANONICAL_RATE_HZ)


def _fill(
    buffer: SampleBuffer, row: slice, path: Path, source: Source, settings: AudioSettings, deadline: float
) -> int:
    """Decode one source into its rows and count the clipped samples."""
    resampler = _resampler(source)
    n_native, n_clipped = 0, 0
    limit_native = settings.max_duration_s * source.rate_hz
    for block in source.blocks:
        _check_samples(path, block, source.rate_hz, n_native)
        n_native += len(block)
        if n_native > limit_native:
            raise _too_long(path, n_native / source.rate_hz, settings)
        if time.monotonic() > deadline:
            raise TooLong(
                f"{shown(path)}: decoding took more than {clock(settings.decode_timeout_s)} and got to "
                f"{clock(n_native / source.rate_hz)}. Raise [audio] decode_timeout_s if such calls are real."
            )
        ready = block if resampler is None else resampler.resample_chunk(block)
        n_clipped += buffer.write(row, ready, source.full_scale)
    if resampler is not None:
        rest = resampler.resample_chunk(np.zeros((0, source.n_channels), dtype=np.float32), last=True)
        n_clipped += buffer.write(row, rest, source.full_scale)
    if n_native == 0:
        raise _empty(path)
    found_s = n_native / source.rate_hz
    if source.declared_s is not None:
        off_s = abs(found_s - source.declared_s)
        if off_s > tolerance_s(source.declared_s, settings):
            raise truncated(path, source.declared_s, found_s)
    return n_clipped


class _Resampler(Protocol):
    """What is used of soxr's stream, which has no stubs."""

    def resample_chunk(self, block: FloatArray, last: bool = False) -> FloatArray:
        """The next block at the new rate."""


def _resampler(source: Source) -> _Resampler | None:
    if source.rate_hz == CANONICAL_RATE_HZ:
        return None
    import soxr

    stream: _Resampler = soxr.ResampleStream(
        source.rate_hz, CANONICAL_RATE_HZ, source.n_channels, dtype="float32", quality="HQ"
    )
    return stream


def _check_samples(path: Path, block: FloatArray, rate_hz: int, n_before: int) -> None:
    """Raise InvalidAudio on NaN, infinity or amplitudes that no sound has."""
    low, high = float(block.min(initial=0.0)), float(block.max(initial=0.0))  # NaN passes through both
    if low >= -_ABSURD_AMPLITUDE and high <= _ABSURD_AMPLITUDE:
        return
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        at_s = (n_before + int(bad.argmax())) / rate_hz
        found = f"NaN or infinite samples ({int(bad.sum()):,} from {clock(at_s)} on)"
    else:
        found = f"samples as large as {max(-low, high):,.0f}, expected -1 to 1"
    raise InvalidAudio(
        f"{shown(path)}: {found}. The program that wrote it is at fault: export it again as PCM."
    )


def _too_long(path: Path, found_s: float, settings: AudioSettings) -> TooLong:
    return TooLong(
        f"{shown(path)}: {clock(found_s)} or more of sound; at most {clock(settings.max_duration_s)} "
        "are allowed. Raise [audio] max_duration_s if such calls are real."
    )


def _empty(path: Path) -> EmptyAudio:
    return EmptyAudio(f"{shown(path)}: holds no samples. Nothing was recorded: fetch it again or delete it.")


def _check_expected(path: Path, duration_s: float, expected_s: float | None) -> None:
    if expected_s is None or not expected_s > 0:
        return
    slack_s = max(_EXPECTED_TOLERANCE_S, _EXPECTED_TOLERANCE_SHARE * expected_s)
    if expected_s - duration_s > slack_s:
        raise TruncatedAudio(
            f"{shown(path)}: holds {clock(duration_s)} of sound, but the recorder's data say "
            f"{clock(expected_s)}. Part of the call is missing: fetch it again."
        )

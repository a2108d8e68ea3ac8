"""Decoding of recordings: open, decode block by block, resample, check.

    file -> its recordings -> Source (native blocks) -> resampler -> SampleBuffer (float32 at 8 kHz) -> Audio

A three-hour file is never held at its native rate. Decoding is by content; the extension matters
only for files without a header. Everything that can be wrong has its own error and sentence.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from callanalytics.audio.headerless import headerless_source, hint_of
from callanalytics.audio.joined import recordings_in
from callanalytics.audio.noise_reduction import remove_hum
from callanalytics.audio.pyav import ffmpeg_source
from callanalytics.audio.samples import SampleBuffer, is_interleaved
from callanalytics.audio.source import (
    Overdue,
    Source,
    Stretch,
    clock,
    hash_of,
    joined,
    opened,
    shown,
    tolerance_s,
    truncated,
    unreadable,
)
from callanalytics.audio.wav import is_wav, read_header, wav_source
from callanalytics.config import AudioSettings
from callanalytics.errors import EmptyAudio, InvalidAudio, RecordingChanged, TooLong, TruncatedAudio
from callanalytics.records import Audio, FloatArray

__all__ = ["CANONICAL_RATE_HZ", "decode_recording"]

CANONICAL_RATE_HZ = 8_000  # calls are telephone speech: wide-band input is brought down
# A float file this far beyond full scale (18 dB) holds something else than samples in -1..1.
_ABSURD_AMPLITUDE = 8.0
# Sidecars and CDRs count ringing, rounding and parking differently, so they are believed less.
_EXPECTED_TOLERANCE_S, _EXPECTED_TOLERANCE_SHARE = 5.0, 0.10
_BLOCK_SAMPLES = 1 << 20  # looked at once
# An offset of a hundredth of full scale (-40 dB) is as loud as quiet speech; converters have a tenth of that.
_NOTED_OFFSET = 0.01
# Real calls have -9 to -26 dB in their loudest second; 20 dB below, voice activity loses the ends of words.
# So what is quieter than -40 dB is lifted to -26 to -20 dB, and a dead line by no more than 42 dB.
_QUIET_DB, _LIFTED_DB, _MOST_DOUBLINGS = -40.0, -20.0, 7
_LEVEL_FRAME, _DOUBLING_DB = 256, 20 * np.log10(2)  # 32 ms; 6 dB
# Samples at full scale: a peak that just touches it is one in ten thousand or less.
_NOTED_CLIPPING = 0.0005
_NOTED_LOSS_S = 0.5  # encoders state up to so much padding as sound


def decode_recording(
    paths: Sequence[Path],
    settings: AudioSettings,
    *,
    expected_duration_s: float | None = None,
    recording_id: str | None = None,
) -> Audio:
    """Decode one file, or a pair of mono files (one voice each; the shorter is padded with zeros).

    Two mono tracks in one file are a pair, too. Recordings joined in one file follow each other.

    Returns:
        Audio with samples float32 (n_channels, n_samples) at CANONICAL_RATE_HZ, C-contiguous, finite,
        within -1..1. Rate, codec and container are those of the first file.

    Raises:
        UnreadableFile, EmptyAudio, NotAudio, TruncatedAudio, InvalidAudio, TooLong: see `errors.py`.
        RecordingChanged: the content is not that of `recording_id` (None: any), or changed while it was read.
        `expected_duration_s` is the length that a sidecar or CDR states; only less sound than that
        (by more than 5 s and 10 %) is refused.
    """
    decoding = _Decoding(settings, n_files=len(paths), recording_id=recording_id)
    for index, path in enumerate(paths):
        try:
            decoding.add(index, path)
        except OSError as problem:
            raise unreadable(path, problem) from None
    audio = decoding.finished()
    if audio.samples.size == 0:  # a few samples at a high rate can come to none
        raise _empty(paths[0])
    _check_expected(paths[0], audio.duration_s, expected_duration_s)
    return audio


class _Decoding:
    """One call while its files are decoded."""

    def __init__(self, settings: AudioSettings, *, n_files: int, recording_id: str | None) -> None:
        self._settings, self._n_files = settings, n_files
        self._recording_id, self._contents = recording_id, list[str]()
        self._deadline = time.monotonic() + settings.decode_timeout_s
        self._buffer: SampleBuffer | None = None
        self._first: Source | None = None
        self._n_clipped = 0
        self._notes: set[str] = set()
        self._name = ""

    def add(self, index: int, path: Path) -> None:
        """Decode everything that is in one file."""
        self._name = shown(path)
        try:
            with opened(path, self._settings, self._deadline) as (stream, n_bytes):
                before = os.fstat(stream.fileno())
                self._prove(path, stream)
                self._decode(index, path, stream, n_bytes)
                after = os.fstat(stream.fileno())
        except Overdue:
            raise TooLong(
                f"{shown(path)}: decoding took more than {clock(self._settings.decode_timeout_s)}. "
                "Raise [audio] decode_timeout_s if such calls are real."
            ) from None
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise _changed(path, "was written to while it was read")

    def _prove(self, path: Path, stream: BinaryIO) -> None:
        """Hash the file before anything is decoded; of a pair, the second file proves both."""
        if self._recording_id is None:
            return
        self._contents.append(hash_of(stream))
        if len(self._contents) == self._n_files and joined(self._contents) != self._recording_id:
            raise _changed(path, "holds another content than when it was found")

    def _decode(self, index: int, path: Path, stream: BinaryIO, n_bytes: int) -> None:
        n_parts, n_native = 0, 0
        for part in _recordings(path, stream, n_bytes, self._settings):
            n_parts += 1
            track, n_tracks = 0, 1
            while track < n_tracks:
                with _source(path, part, self._settings, track) as source:
                    n_tracks = source.n_tracks
                    n_native += self._add_source(index, path, source, track, n_parts)
                track += 1
        if n_native == 0:
            raise _empty(path)
        if n_parts > 1:
            self._notes.add("joined_recordings")

    def _add_source(self, index: int, path: Path, source: Source, track: int, n_part: int) -> int:
        """Decode one track into its rows; returns its samples at the native rate."""
        is_pair = self._n_files > 1
        n_rows = source.n_tracks if source.n_tracks > 1 else source.n_channels
        _check_source(path, n_rows, source, self._settings, is_pair=is_pair)
        if self._buffer is None or self._first is None:
            self._first = source
            capacity = _capacity(source, self._settings)
            self._buffer = SampleBuffer(self._n_files if is_pair else n_rows, capacity)
        if not is_pair and n_rows != self._buffer.n_rows:
            raise InvalidAudio(
                f"{shown(path)}: changes from {self._buffer.n_rows} to {n_rows} channel(s). Two recordings "
                "were joined: split them."
            )
        if track == 0 and not is_pair:
            self._buffer.level()
        first = index if is_pair else track
        row = slice(first, first + 1) if is_pair or source.n_tracks > 1 else slice(0, n_rows)
        return self._fill(self._buffer, row, path, source)

    def _fill(self, buffer: SampleBuffer, row: slice, path: Path, source: Source) -> int:
        settings = self._settings
        resampler = _resampler(source)
        n_native = 0
        before_s = buffer.length(row) / CANONICAL_RATE_HZ
        for block in source.blocks:
            _check_samples(path, block, source.rate_hz, n_native)
            n_native += len(block)
            at_s = before_s + n_native / source.rate_hz
            if at_s > settings.max_duration_s:
                raise _too_long(path, at_s, settings)
            if time.monotonic() > self._deadline:
                raise TooLong(
                    f"{shown(path)}: decoding took more than {clock(settings.decode_timeout_s)} and got to "
                    f"{clock(at_s)}. Raise [audio] decode_timeout_s if such calls are real."
                )
            ready = block if resampler is None else resampler.resample_chunk(block)
            self._n_clipped += buffer.write(row, ready, source.full_scale)
        if resampler is not None and n_native:
            rest = resampler.resample_chunk(np.zeros((0, source.n_channels), dtype=np.float32), last=True)
            self._n_clipped += buffer.write(row, rest, source.full_scale)
        found_s = n_native / source.rate_hz
        if source.declared_s is not None and n_native:
            missing_s = source.declared_s - found_s
            if abs(missing_s) > tolerance_s(source.declared_s, settings):
                raise truncated(path, source.declared_s, found_s)
            if missing_s > _NOTED_LOSS_S:
                self._notes.add("ends_early")
        self._notes |= source.notes
        return n_native

    def finished(self) -> Audio:
        """The call as it was decoded."""
        if self._buffer is None or self._first is None:
            raise EmptyAudio("A recording without files. This is a fault of callanalytics: please report it.")
        samples = self._buffer.finished()
        if self._first.rate_hz == CANONICAL_RATE_HZ and len(samples) == 1 and is_interleaved(samples[0]):
            raise InvalidAudio(
                f"{self._name}: its header says one channel, but every other sample belongs to another "
                "sound: it is stereo. Correct the header, or export it again."
            )
        if remove_hum(samples, CANONICAL_RATE_HZ):
            self._notes.add("hum")
        n_doublings = missing_doublings(samples)
        if centre(samples, _NOTED_OFFSET / 2**n_doublings):
            self._notes.add("dc_offset")
        if n_doublings:
            lift(samples, n_doublings)
            self._notes.add("quiet")
        clipped_share = self._n_clipped / max(1, samples.size)
        if clipped_share > _NOTED_CLIPPING:
            self._notes.add("clipped")
        return Audio(
            samples=samples,
            sample_rate_hz=CANONICAL_RATE_HZ,
            native_rate_hz=self._first.rate_hz,
            codec=self._first.codec,
            container=self._first.container,
            clipped_share=clipped_share,
            notes=tuple(sorted(self._notes)),
        )


def centre(samples: FloatArray, noted: float = _NOTED_OFFSET) -> bool:
    """Remove the constant offset of every row in place where it is `noted` or more; returns whether one was.

    Exact zeros are no sound (a masked payment, packets lost): they are neither measured nor moved.
    """
    is_moved = False
    for row in samples:
        blocks = [row[at : at + _BLOCK_SAMPLES] for at in range(0, len(row), _BLOCK_SAMPLES)]
        # A look in single precision, with a margin: where more sound than this is, the offset is quiet.
        most_sound = (abs(sum(float(block.sum()) for block in blocks)) + 1e-4 * len(row)) / noted
        if any(n > most_sound for n in accumulate(int(np.count_nonzero(block)) for block in blocks)):
            continue
        n_sound = sum(np.count_nonzero(block) for block in blocks)
        offset = sum(float(block.sum(dtype=np.float64)) for block in blocks) / max(1, n_sound)
        if abs(offset) < noted:
            continue
        is_moved = True
        for block in blocks:
            np.subtract(block, np.float32(offset), out=block, where=block != 0)
            np.clip(block, -1.0, 1.0, out=block)
    return is_moved


def missing_doublings(samples: FloatArray) -> int:
    """By how many doublings a recording is to be made louder; 0 where it is not very quiet.

    All rows alike, by the loudest second of the loudest one: which side is louder stays as it was.
    """
    loudest_db = max((_loudest_second_db(row) for row in samples), default=0.0) if samples.shape[1] else 0.0
    if loudest_db >= _QUIET_DB:
        return 0
    return min(_MOST_DOUBLINGS, int((_LIFTED_DB - loudest_db) / _DOUBLING_DB))


def lift(samples: FloatArray, n_doublings: int) -> None:
    """Make samples louder in place. Doubling is exact: a quiet copy of a call is analysed as the call is."""
    for row in samples:
        np.multiply(row, np.float32(2**n_doublings), out=row)
        np.clip(row, -1.0, 1.0, out=row)


def _loudest_second_db(row: FloatArray) -> float:
    """Level that a second of 32 ms frames reaches, in dB below full scale; of less, all frames.

    The mean of a frame is no sound.
    """
    n_frames = len(row) // _LEVEL_FRAME
    frames = row[: n_frames * _LEVEL_FRAME].reshape(n_frames, _LEVEL_FRAME)
    if not n_frames:
        return 0.0
    power = np.einsum("ft,ft->f", frames, frames) / _LEVEL_FRAME - frames.mean(axis=1) ** 2
    rank = min(n_frames, CANONICAL_RATE_HZ // _LEVEL_FRAME)
    return float(10 * np.log10(max(np.partition(power, -rank)[-rank], 1e-10)))


def _recordings(path: Path, stream: BinaryIO, n_bytes: int, settings: AudioSettings) -> Iterator[Stretch]:
    """The recordings in a file; what has no header is one."""
    whole = Stretch(stream, 0, n_bytes)
    if hint_of(path, whole, settings) is not None:
        return iter([whole])
    return recordings_in(stream, n_bytes)


@contextmanager
def _source(path: Path, part: Stretch, settings: AudioSettings, track: int) -> Iterator[Source]:
    """A track of a recording: plain WAV by numpy, headerless by its hint, all else by FFmpeg."""
    if is_wav(part.at(0, 12)):
        header = read_header(path, part, settings)
        if header.codec is not None:
            yield wav_source(part, header)
            return
    elif (hint := hint_of(path, part, settings)) is not None:
        with headerless_source(path, part, hint, settings) as source:
            yield source
        return
    with ffmpeg_source(path, part, settings, track=track) as source:
        yield source


def _check_source(path: Path, n_rows: int, source: Source, settings: AudioSettings, *, is_pair: bool) -> None:
    if is_pair and n_rows != 1:
        raise InvalidAudio(
            f"{shown(path)}: {n_rows} channels, but it is one half of a pair, where each file "
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


def _changed(path: Path, what: str) -> RecordingChanged:
    return RecordingChanged(f"{shown(path)}: {what}. The next run finds what lies here now.")


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

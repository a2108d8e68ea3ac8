"""What a recording may cost: no picture in it is decoded, time and memory have limits."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from formats import two_tones
from whole_files import by_tracks

from callanalytics.audio import decode_recording
from callanalytics.audio.pyav import DECODERS
from callanalytics.config import AudioSettings
from callanalytics.errors import TooLong

SIDE = 6000  # 144 MB decoded, four times
# Without the pictures decoding this takes some 20 MB.
MOST_MB = 80


def cover(side: int) -> bytes:
    """A white PNG of `side` x `side` points with 8 bits each of red, green, blue and alpha."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    packer = zlib.compressobj(1)
    row = bytes(1 + 4 * side)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    size = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def id3(images: list[bytes]) -> bytes:
    """An ID3v2.4 tag of pictures."""

    def size(n_bytes: int) -> bytes:  # four times seven bits
        return bytes([n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0)])

    bodies = [b"\0image/png\0\3%d\0" % number + image for number, image in enumerate(images)]
    frames = b"".join(b"APIC" + size(len(body)) + b"\0\0" + body for body in bodies)
    return b"ID3\4\0\0" + size(len(frames)) + frames


def with_attachments(path: Path, sound: np.ndarray, image: bytes) -> None:
    """A Matroska file of PCM with four covers."""
    with av.open(str(path), "w", format="matroska") as out:
        audio = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(4):
            out.add_attachment(f"cover-{number}.png", "image/png", image)
        frame = av.AudioFrame.from_ndarray(np.rint(sound.T * 32767).astype("<i2"), layout="mono")
        frame.sample_rate = 8000
        out.mux(audio.encode(frame))
        out.mux(audio.encode(None))


def peak_mb(path: Path) -> float:
    """What decoding a file takes beyond what a process takes anyway."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    return float(done.stdout)


_MEASURE = """
import resource, sys
from pathlib import Path
import av, numpy, soxr
from callanalytics.audio import decode_recording
from callanalytics.config import AudioSettings
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
audio = decode_recording([Path(sys.argv[1])], AudioSettings())
assert audio.duration_s > 3.5
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_no_picture_in_a_recording_is_decoded(tmp_path: Path) -> None:
    image, sound = cover(SIDE), two_tones(4.0, 8000, 2)[:, :1]
    by_tracks(tmp_path / "plain.mp3", [two_tones(4.0, 16000, 2)[:, :1]], 16000, "mp3", "mp3")
    bomb = tmp_path / "cover.mp3"
    bomb.write_bytes(id3([image] * 4) + (tmp_path / "plain.mp3").read_bytes())
    with_attachments(tmp_path / "cover.mkv", sound, image)
    assert len(image) < 2_000_000
    for path in (bomb, tmp_path / "cover.mkv"):
        assert peak_mb(path) < MOST_MB, path.name


def test_the_decoders_allowed_are_there_and_are_of_sound() -> None:
    assert {av.Codec(name, "r").type for name in DECODERS} == {"audio"}


def test_the_time_limit_holds_where_no_sound_comes(tmp_path: Path) -> None:
    """A FLAC whose header is well and whose frames never come: no block is decoded, the file is only read."""
    by_tracks(tmp_path / "a.flac", [two_tones(4.0, 8000, 2)], 8000, "flac", "flac")
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "b.flac").write_bytes(whole[:300] + bytes(20_000_000))
    with pytest.raises(TooLong, match="decode_timeout_s"):
        decode_recording([tmp_path / "b.flac"], AudioSettings(decode_timeout_s=1e-9))


def test_a_worker_gets_no_more_memory_than_its_share() -> None:
    done = subprocess.run([sys.executable, "-c", _GREEDY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "MemoryError"]


_GREEDY = """
import jobs.night.limits as memory
memory.memory_bytes = lambda: 1 << 30  # of the whole machine
memory.limit_memory(4)
taken = []
try:
    for _ in range(8):
        taken.append(bytes(1 << 29))
except MemoryError as problem:
    print(round(len(taken) / 2 + 0.5), type(problem).__name__)
"""

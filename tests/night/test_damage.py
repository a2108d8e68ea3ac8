"""Damaged recordings by the hundred: each is analysed or quarantined with a reason, and nothing hangs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import run_command
from formats import FORMATS, wav_bytes
from short_calls import night_args, rows, settle, voice

Rng = np.random.Generator

SECONDS = 2.6
EXTENSIONS = (
    "wav",
    "mp3",
    "flac",
    "ogg",
    "opus",
    "m4a",
    "mp4",
    "aac",
    "amr",
    "wma",
    "gsm",
    "ul",
    "alaw",
    "sln",
)
# What a person can act upon; "error" is a fault of ours, "worker_died" a crash.
REASONS = {"unreadable", "not_audio", "empty", "truncated", "invalid_audio", "too_short", "too_long"}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same short call in every format."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(7)
    speech = voice(SECONDS, 170, rng)
    found = {}
    for name, (build, rate_hz, n_channels, _) in FORMATS.items():
        at_s = np.arange(round(SECONDS * rate_hz)) / rate_hz
        one = np.interp(at_s, np.arange(speech.size) / 8000, speech).astype(np.float32)
        build(folder / name, np.stack([one] * n_channels, axis=1), rate_hz)
        found[name] = (folder / name).read_bytes()
    return found


def flipped(content: bytes, rng: Rng) -> bytes:
    """Bits turned over, half of the time all of them in the header."""
    damaged = bytearray(content)
    reach = min(len(damaged), 200) if rng.random() < 0.5 else len(damaged)
    for at in rng.integers(0, reach, rng.integers(1, 64)):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def cut(content: bytes, rng: Rng) -> bytes:
    return content[: int(rng.integers(1, len(content)))]


def spliced(content: bytes, other: bytes, rng: Rng) -> bytes:
    """The beginning of one file before the body of another."""
    n = int(rng.integers(4, 400))
    return other[:n] + content[n:]


def torn(content: bytes, rng: Rng) -> bytes:
    """A piece in the middle lost, doubled or zeroed."""
    first, second = sorted(int(at) for at in rng.integers(0, len(content), 2))
    piece = (b"", content[first:second] * 2, bytes(second - first))[int(rng.integers(3))]
    return content[:first] + piece + content[second:]


def absurd_wav(content: bytes, rng: Rng) -> bytes:
    """A header that says what no telephone does."""
    rate_hz = int(rng.choice([0, 1, 50, 5999, 8000, 44100, 192000, 192001, 2**31, 2**32 - 1]))
    bits = int(rng.choice([0, 1, 7, 8, 12, 16, 24, 32, 64, 65535]))
    tag = int(rng.choice([0, 1, 2, 3, 6, 7, 17, 49, 80, 85, 0xFFFE, 0xFFFF]))
    n_channels = int(rng.choice([0, 1, 2, 3, 6, 255, 65535]))
    size = [None, 0, 1, 2**31, 2**32 - 1, len(content) * 7][int(rng.integers(6))]
    body = bytearray(wav_bytes(content[:40_000], tag=tag, data_size=size))
    body[22:24] = n_channels.to_bytes(2, "little")
    body[24:28] = rate_hz.to_bytes(4, "little")
    body[34:36] = bits.to_bytes(2, "little")
    return bytes(body)


def odd_sound(number: int, rng: Rng) -> bytes:
    """A whole WAV file whose samples are the trouble."""
    n = round(SECONDS * 8000)
    noise = rng.normal(0, 1, n)
    floats = [
        np.full(n, np.nan), np.full(n, np.inf), np.full(n, -np.inf), noise * 1e30, noise * 1e-30,
        np.where(np.arange(n) == n // 2, np.nan, 0.1 * noise), np.full(n, 5.0), np.zeros(n), np.ones(n),
        np.sign(noise), np.clip(noise * 9, -1, 1), np.zeros(0), np.zeros(1), np.ones(1), noise[:7],
    ]  # fmt: skip
    chosen = floats[number % len(floats)].astype("<f4")
    if number % 2 and np.isfinite(chosen).all():
        return wav_bytes((np.clip(chosen, -1, 1) * 32767).astype("<i2").tobytes())
    return wav_bytes(chosen.tobytes(), tag=3, bits=32)


def damage(whole: dict[str, bytes], folder: Path, n: int, seed: int) -> dict[str, bytes]:
    """`n` damaged files in a folder; name -> content. Names say what was done to what."""
    folder.mkdir(parents=True)
    formats = list(whole)
    ways: dict[str, Callable[[bytes, bytes, int, Rng], bytes]] = {
        "flipped": lambda one, other, number, rng: flipped(one, rng),
        "cut": lambda one, other, number, rng: cut(one, rng),
        "spliced": lambda one, other, number, rng: spliced(one, other, rng),
        "torn": lambda one, other, number, rng: torn(one, rng),
        "absurd": lambda one, other, number, rng: absurd_wav(one, rng),
        "odd": lambda one, other, number, rng: odd_sound(number, rng),
        "noise": lambda one, other, number, rng: rng.bytes(int(rng.integers(0, 30_000))),
        "renamed": lambda one, other, number, rng: one,
    }
    made = {}
    for number in range(n):
        rng = np.random.default_rng([seed, number])
        way = list(ways)[number % len(ways)]
        of = formats[number // len(ways) % len(formats)]
        extension = str(rng.choice(EXTENSIONS))
        name = f"{number:04d}-{way}-{of}.{extension}"
        made[name] = ways[way](whole[of], whole[str(rng.choice(formats))], number // len(ways), rng)
        (folder / name).write_bytes(made[name])
    settle(folder)
    return made


def check(whole: dict[str, bytes], tmp_path: Path, n: int, seed: int) -> None:
    made = damage(whole, tmp_path / "in", n, seed)
    out = tmp_path / "out"
    done = run_command(*night_args(tmp_path / "in", out, "--no-gate"), expect=3)
    assert "quarantined" in done.stderr
    database = out / "callanalytics.duckdb"
    analysed = {Path(path).name for (path,) in rows(database, "SELECT path FROM recordings")}
    failed = {
        Path(p).name: (r, d) for p, r, d in rows(database, "SELECT path, reason, detail FROM quarantine")
    }
    assert not analysed & set(failed)
    first_of: dict[str, str] = {}
    for name, content in made.items():
        # Empty files are told by their path; other equal ones are one recording.
        first_of.setdefault(hashlib.sha256(content or name.encode()).hexdigest(), name)
    assert len(analysed) + len(failed) == len(first_of), "every recording is analysed or quarantined"
    strange = {name: told for name, told in failed.items() if told[0] not in REASONS}
    assert not strange, strange
    assert all(name in detail and len(detail) > 40 for name, (_, detail) in failed.items())
    assert analysed, "what is only renamed is analysed"
    print(Counter(reason for reason, _ in failed.values()), "analysed:", len(analysed))


def test_48_damaged_recordings(whole: dict[str, bytes], tmp_path: Path) -> None:
    """Six of every way of damage, over six formats."""
    check(whole, tmp_path, 48, seed=1)


@pytest.mark.slow
def test_150_damaged_recordings(whole: dict[str, bytes], tmp_path: Path) -> None:
    check(whole, tmp_path, 150, seed=1)


@pytest.mark.slow
def test_2000_damaged_recordings(whole: dict[str, bytes], tmp_path: Path) -> None:
    check(whole, tmp_path, 2_000, seed=2)

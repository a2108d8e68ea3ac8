"""Recordings are told by their content where a name says nothing; what is not searched is counted by kind."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from formats import by_ffmpeg, by_soundfile, two_tones

from callanalytics.audio import decode_recording
from callanalytics.config import DiscoverySettings, Settings, settings_from
from callanalytics.ingest import Discovered, find_recordings
from callanalytics.ingest.kinds import holds_sound
from callanalytics.records import Role

RATE_HZ = 8_000
SOUND = two_tones(2.5, RATE_HZ, 1)


def old(path: Path) -> Path:
    then = time.time() - 7_200
    os.utime(path, (then, then))
    return path


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return old(path)


def search(*inputs: Path, settings: Settings | None = None) -> Discovered:
    now = datetime.now(UTC)
    return find_recordings(inputs, settings or Settings(), window=None, now=now, salt=b"salt")


def names(found: Discovered) -> set[str]:
    return {each.recording.path.name for each in found.recordings}


def kinds(found: Discovered, reason: str) -> dict[str, int]:
    return {skip.kind: skip.n_files for skip in found.skips if skip.reason == reason}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording of many kinds, none with an extension that was searched before."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, container, codec in (
        ("a.3gp", "3gp", "libopencore_amrnb"),
        ("b.mka", "matroska", "libopus"),
        ("c.mkv", "matroska", "flac"),
        ("d.mp2", "mp2", "mp2"),
        ("e.g722", "g722", "g722"),
        ("f.spx", "ogg", "libopus"),
    ):
        rate_hz = {"mp2": 16_000, "g722": 16_000}.get(codec, RATE_HZ)
        by_ffmpeg(folder / name, two_tones(2.5, rate_hz, 1), rate_hz, container, codec)
    for name, kind, subtype in (
        ("g.au", "AU", "ULAW"),
        ("h.w64", "W64", "PCM_16"),
        ("i.caf", "CAF", "PCM_16"),
        ("call.mp3.1", "MP3", "MPEG_LAYER_III"),
        ("no-extension", "WAV", "PCM_16"),
        ("k.rec", "FLAC", "PCM_16"),
    ):
        by_soundfile(folder / name, SOUND[: 20_000 - ord(name[0])], RATE_HZ, kind, subtype)
    by_ffmpeg(folder / "l.bin", SOUND[:18_000], RATE_HZ, "adts", "aac")
    pcm = (SOUND * 32767).astype("<i2").tobytes()
    (folder / "m.pcmu").write_bytes(np.random.default_rng(3).bytes(20_000))
    (folder / "n.sln16").write_bytes(pcm)
    for path in folder.iterdir():
        old(path)
    return folder


def test_every_kind_that_the_decoders_know_is_found_and_read(recordings: Path) -> None:
    """Before: "0 recordings found", and not a word."""
    found = search(recordings)
    assert names(found) == {path.name for path in recordings.iterdir()}
    assert (found.failures, found.skips) == ((), ())
    for each in found.recordings:
        seconds = decode_recording(each.recording.paths, Settings().audio).duration_s
        expected_s = {"n.sln16": 1.25}.get(each.recording.path.name, 2.4)
        assert abs(seconds - expected_s) < 0.2, each.recording.path.name


def test_what_is_not_searched_is_counted_by_kind_and_data_beside_calls_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for number, name in enumerate(("a.raw", "b.RAW", "c.spx2", "d", "e.zip", ".hidden.raw", "f.part")):
        put(tmp_path / name, bytes([number]) + rng.bytes(5_000))
    put(tmp_path / "README", b"These are the calls of March.\n")
    put(tmp_path / "sums.sha512", b"5f2 call.wav\n")
    for ending in ["json", "csv", "xml", "txt", "jpg", "png", "pdf", "log", "html", "docx", "srt"]:
        put(tmp_path / f"call.{ending}", rng.bytes(500))
    put(tmp_path / "call.wav", b"RIFF")
    found = search(tmp_path)
    assert names(found) == {"call.wav"}
    assert kinds(found, "ignored") == {".raw": 2, ".spx2": 1, "": 1, ".zip": 1}
    assert kinds(found, "excluded") == {".part": 1}
    assert found.skip_counts == {"ignored": 5, "excluded": 1, "sidecars_unread": 1}, "call.json is noise"


def test_include_and_exclude_rule(recordings: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(recordings, tmp_path / "calls")
    put(folder / "own.dat", b"recorded by a recorder of our own")
    wavs = Settings(discovery=DiscoverySettings(include=("*.dat", "*.MKA")))
    found = search(folder, settings=wavs)
    assert names(found) == {"own.dat", "b.mka"}
    assert sum(kinds(found, "not_included").values()) == len(list(folder.iterdir())) - 2
    without = Settings(discovery=DiscoverySettings(include=("*", "*.dat"), exclude=(".*", "*.mk?", "call*")))
    found = search(folder, settings=without)
    assert names(found) == {path.name for path in folder.iterdir()} - {"b.mka", "c.mkv", "call.mp3.1"}
    assert kinds(found, "excluded") == {".mka": 1, ".mkv": 1, ".1": 1}


def test_a_headerless_kind_of_ones_own_takes_no_other_away(tmp_path: Path) -> None:
    """Before, `headerless = {raw = ...}` made `.ulaw` and `.sln` unreadable."""
    table = {"audio": {"headerless": {"raw": "s16le:8000:2", ".SLN": "s16le:16000:1"}}}
    settings = settings_from(table, source="test", folder=tmp_path)
    for name in ("a.raw", "b.ulaw", "c.sln"):
        put(tmp_path / "calls" / name, name.encode() + bytes(range(1, 256)) * 160)
    found = search(tmp_path / "calls", settings=settings)
    lengths = {
        each.recording.path.name: decode_recording(each.recording.paths, settings.audio)
        for each in found.recordings
    }
    assert {name: audio.samples.shape[0] for name, audio in lengths.items()} == {
        "a.raw": 2,
        "b.ulaw": 1,
        "c.sln": 1,
    }
    assert lengths["c.sln"].native_rate_hz == 16_000


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\0\0\0\0AVI LIST",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"\0\0\0\x18ftypheic",
        b"FORM\0\0\0\0ILBMBMHD",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"\xff\xfeh\0e\0l\0l\0o\0 \0t\0h\0e\0r\0e\0",  # text in UTF-16, which begins as a frame of MPEG audio
        b"PK\3\4",
        b"%PDF-1.7",
        b"",
        b"\xff\xfb",
    ],
)
def test_pictures_films_and_texts_are_no_recordings(head: bytes) -> None:
    assert not holds_sound(head)


def test_noise_is_hardly_ever_taken_for_sound() -> None:
    rng = np.random.default_rng(7)
    assert sum(holds_sound(b"\xff" + rng.bytes(4_095)) for _ in range(2_000)) <= 2


def test_folders_of_the_two_sides_hold_pairs(tmp_path: Path) -> None:
    """Before, they were unrelated mono calls."""
    sides = (("caller", "agent"), ("rx", "tx"), ("In", "Out"), ("remote", "local"))
    for number, (caller, agent) in enumerate(sides):
        for name in ("7f3a.wav", "7f3b.wav"):
            for side in (caller, agent):
                put(tmp_path / str(number) / side / "2026-03" / name, f"{number}{side:>6}{name}".encode())
    put(tmp_path / "0" / "caller" / "2026-03" / "alone.wav", b"alone")
    found = search(tmp_path)
    pairs = {each.recording.paths: each.facts for each in found.recordings if len(each.recording.paths) > 1}
    assert {tuple(path.parts[-3] for path in paths) for paths in pairs} == set(sides)
    assert (len(pairs), len(found.recordings)) == (8, 9)
    assert {facts.channel_roles for facts in pairs.values()} == {(Role.CALLER, Role.AGENT)}
    assert {paths[0].name == paths[1].name for paths in pairs} == {True}


def test_folders_of_incoming_and_outgoing_calls_hold_no_pairs(tmp_path: Path) -> None:
    """Numbered alike, and a few of one length by chance."""
    for number in range(20):
        put(tmp_path / "in" / f"{number}.wav", b"i" * (1_000 + 100 * number))
        put(tmp_path / "out" / f"{number}.wav", b"o" * (2_900 - 100 * number))
    assert {len(each.recording.paths) for each in search(tmp_path).recordings} == {1}

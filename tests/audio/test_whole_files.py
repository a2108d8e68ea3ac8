"""Everything that is in a file is heard, or the file is refused with the reason."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from formats import by_ffmpeg, by_soundfile, pcm16, tone, two_tones, wav_bytes
from whole_files import by_tracks, fmt_chunk, id3, riff, rifx, with_zero_frames

from callanalytics.audio import decode_recording
from callanalytics.config import AudioSettings
from callanalytics.errors import InvalidAudio, TooLong, TruncatedAudio
from callanalytics.records import Audio

LEFT_HZ, RIGHT_HZ = 440, 1000
RIFF_CHUNK = (b"data", pcm16(tone(3.0, 8000)))


def decode(path: Path) -> Audio:
    return decode_recording([path], AudioSettings())


def heard(samples: np.ndarray) -> list[int]:
    """Loudest frequency in every whole second, to 10 Hz; 0 for silence."""
    found = []
    for at in range(0, len(samples) - 7999, 8000):
        second = samples[at : at + 8000]
        spectrum = np.abs(np.fft.rfft(second * np.hanning(8000)))
        found.append(round(int(spectrum.argmax()), -1) if np.abs(second).max() > 0.05 else 0)
    return found


# Tracks


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"),
    [("ipod", "aac", 16000), ("matroska", "libopus", 48000), ("ogg", "libopus", 16000)],
)
def test_two_mono_tracks_are_the_sides(container: str, codec: str, rate_hz: int, tmp_path: Path) -> None:
    sides = [tone(3.0, rate_hz, hz)[:, None] for hz in (LEFT_HZ, RIGHT_HZ)]
    by_tracks(tmp_path / "a", sides, rate_hz, container, codec)
    audio = decode(tmp_path / "a")
    assert audio.duration_s == pytest.approx(3.0, abs=0.1)
    assert [heard(side) for side in audio.samples] == [[LEFT_HZ] * 3, [RIGHT_HZ] * 3]


def test_a_track_that_begins_later_keeps_its_place(tmp_path: Path) -> None:
    sides = [tone(2.0, 48000, hz)[:, None] for hz in (LEFT_HZ, RIGHT_HZ)]
    by_tracks(tmp_path / "a", sides, 48000, "matroska", "libopus", starts_s=[10.0, 13.0])
    audio = decode(tmp_path / "a")
    assert [heard(side) for side in audio.samples] == [[LEFT_HZ] * 2 + [0] * 3, [0] * 3 + [RIGHT_HZ] * 2]


@pytest.mark.parametrize("start_s", [0.0, 3600.0, 36_000.0])
def test_a_live_stream_counts_from_its_own_beginning(start_s: float, tmp_path: Path) -> None:
    """An Ogg that was recorded from the second hour of a stream on was refused: an hour was missing."""
    by_tracks(
        tmp_path / "a", [tone(3.0, 48000, LEFT_HZ)[:, None]], 48000, "ogg", "libopus", starts_s=[start_s]
    )
    assert heard(decode(tmp_path / "a").samples[0]) == [LEFT_HZ] * 3


def ape_tag(flags: int, *, has_head: bool = True) -> bytes:
    """An APE tag with a picture of 100 KB in which, as in any, there are bytes that look like frames."""
    picture = np.random.default_rng(1).integers(0, 256, 100_000).astype(np.uint8).tobytes()
    item = struct.pack("<II", len(picture), 2) + b"Cover Art (Front)\0" + picture
    head, foot = (
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, each) + bytes(8)
        for each in (flags | 1 << 29, flags & ~(1 << 29))
    )
    return (head if has_head else b"") + item + foot


@pytest.mark.parametrize("where", ["behind", "behind, without a head", "behind, before ID3v1", "before"])
def test_an_ape_tag_is_no_part_of_an_mp3(where: str, tmp_path: Path) -> None:
    by_ffmpeg(tmp_path / "a.mp3", tone(3.0, 16000, LEFT_HZ)[:, None], 16000, "mp3", "libmp3lame")
    plain, clean = (tmp_path / "a.mp3").read_bytes(), decode(tmp_path / "a.mp3")
    tag = ape_tag(1 << 31 if "without" not in where else 0, has_head="without" not in where)
    id3v1 = b"TAG" + bytes(125) if "ID3v1" in where else b""
    content = tag + plain if where == "before" else plain + tag + id3v1
    (tmp_path / "tagged.mp3").write_bytes(content)
    tagged = decode(tmp_path / "tagged.mp3")
    assert np.array_equal(tagged.samples, clean.samples)
    assert tagged.notes == clean.notes


def test_a_foot_of_a_tag_that_lies_about_its_size_takes_no_sound(tmp_path: Path) -> None:
    by_ffmpeg(tmp_path / "a.mp3", tone(3.0, 16000, LEFT_HZ)[:, None], 16000, "mp3", "libmp3lame")
    plain = (tmp_path / "a.mp3").read_bytes()
    foot = b"APETAGEX" + struct.pack("<IIII", 2000, len(plain) // 2, 1, 0) + bytes(8)
    (tmp_path / "a.mp3").write_bytes(plain + foot)
    assert heard(decode(tmp_path / "a.mp3").samples[0]) == [LEFT_HZ] * 3


def test_samples_of_64_bits_are_read(tmp_path: Path) -> None:
    by_ffmpeg(tmp_path / "a.wav", tone(3.0, 8000, LEFT_HZ)[:, None], 8000, "wav", "pcm_s64le")
    assert heard(decode(tmp_path / "a.wav").samples[0]) == [LEFT_HZ] * 3


@pytest.mark.parametrize("n_channels", [(1, 1, 1), (2, 2), (1, 2)])
def test_tracks_that_are_no_sides_are_refused(n_channels: tuple[int, ...], tmp_path: Path) -> None:
    by_tracks(tmp_path / "a", [two_tones(1.0, 16000, n) for n in n_channels], 16000, "matroska", "flac")
    with pytest.raises(InvalidAudio, match=f"{len(n_channels)} audio tracks of .*two mono ones"):
        decode(tmp_path / "a")


def test_half_a_pair_must_not_hold_two_tracks(tmp_path: Path) -> None:
    by_tracks(tmp_path / "a", [two_tones(1.0, 16000, 1)] * 2, 16000, "matroska", "flac")
    with pytest.raises(InvalidAudio, match="one half of a pair"):
        decode_recording([tmp_path / "a", tmp_path / "a"], AudioSettings())


# Joined files

JOINED = {
    "wav": ("wav", "pcm_s16le", 8000),
    "aiff": ("aiff", "pcm_s16be", 8000),
    "au": ("au", "pcm_mulaw", 8000),
    "w64": ("w64", "pcm_s16le", 8000),
    "caf": ("caf", "pcm_s16le", 8000),
    "flac": ("flac", "flac", 8000),
    "mp3": ("mp3", "libmp3lame", 8000),
    "amr": ("amr", "libopencore_amrnb", 8000),
    "m4a": ("ipod", "aac", 16000),
    "ogg_opus": ("ogg", "libopus", 48000),
    "ogg_flac": ("ogg", "flac", 8000),
    "webm": ("webm", "libopus", 48000),
    "wma": ("asf", "wmav2", 16000),
    "wavpack": ("wv", "wavpack", 16000),
}


def built(path: Path, name: str, sound_hz: float, n_channels: int = 1, seconds: float = 2.0) -> bytes:
    container, codec, rate_hz = JOINED[name]
    bit_rate = {"libopencore_amrnb": 12_200, "wmav2": 32_000}.get(codec)
    sound = np.repeat(tone(seconds, rate_hz, sound_hz)[:, None], n_channels, axis=1)
    by_ffmpeg(path, sound, rate_hz, container, codec, bit_rate=bit_rate)
    return path.read_bytes()


@pytest.mark.parametrize("name", JOINED)
def test_joined_recordings_are_heard_one_after_the_other(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(built(path, name, LEFT_HZ) + built(tmp_path / "b", name, RIGHT_HZ, seconds=3.0))
    audio = decode(path)
    assert audio.duration_s == pytest.approx(5.0, abs=0.1)
    assert heard(audio.samples[0])[:2] == [LEFT_HZ] * 2
    assert heard(audio.samples[0, ::-1])[:2] == [RIGHT_HZ] * 2
    assert audio.notes == ("joined_recordings",)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "m4a", "ogg_opus", "webm", "wma"])
def test_a_change_of_channels_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(built(path, name, LEFT_HZ) + built(tmp_path / "b", name, RIGHT_HZ, n_channels=2))
    with pytest.raises(InvalidAudio, match=r"from 1 .*joined: split them"):
        decode(path)


@pytest.mark.parametrize("first", ["wav", "flac", "ogg_opus", "m4a", "webm"])
def test_a_recording_of_another_kind_behind_is_heard_too(first: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    second = "flac" if first == "wav" else "wav"
    path.write_bytes(built(path, first, LEFT_HZ) + built(tmp_path / "b", second, RIGHT_HZ))
    found = heard(decode(path).samples[0])
    assert found[:2] + found[-2:] == [LEFT_HZ] * 2 + [RIGHT_HZ] * 2


@pytest.mark.parametrize(
    ("first", "second"),
    [("flac", "mp3"), ("m4a", "mp3"), ("mp3", "m4a"), ("ogg_opus", "mp3"), ("wma", "mp3")],
)
def test_other_kinds_behind_are_refused(first: str, second: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(built(path, first, LEFT_HZ, seconds=5.0) + built(tmp_path / "b", second, RIGHT_HZ))
    with pytest.raises(TruncatedAudio, match="joined"):
        decode(path)


@pytest.mark.parametrize(
    "name", ["aiff", "au", "caf", "w64", "flac", "mp3", "m4a", "ogg_opus", "webm", "wma"]
)
def test_a_tag_behind_the_sound_is_no_fault(name: str, tmp_path: Path) -> None:
    tag = id3(30_000) if name == "m4a" else b""
    (tmp_path / "a").write_bytes(built(tmp_path / "a", name, LEFT_HZ) + tag + b"TAG" + bytes(125))
    audio = decode(tmp_path / "a")
    assert heard(audio.samples[0])[:1] == [LEFT_HZ]
    assert audio.duration_s == pytest.approx(2.0, abs=0.2)


def test_a_change_of_rate_keeps_pitch_and_length(tmp_path: Path) -> None:
    first, second = wav_bytes(pcm16(tone(2.0, 8000))), wav_bytes(pcm16(tone(2.0, 16000)), rate_hz=16000)
    (tmp_path / "a.wav").write_bytes(first + second)
    assert heard(decode(tmp_path / "a.wav").samples[0]) == [LEFT_HZ] * 4


def test_all_joined_recordings_together_have_the_longest_length(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(pcm16(tone(2.0, 8000))) * 3)
    with pytest.raises(TooLong):
        decode_recording([tmp_path / "a.wav"], AudioSettings(max_duration_s=5.0))


@pytest.mark.parametrize("name", ["flac", "m4a", "mp3", "ogg_opus"])
def test_bytes_behind_the_sound_that_are_nothing_known_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    content = built(path, name, LEFT_HZ)
    noise = np.random.default_rng(3).integers(0, 120, 6 * len(content) + 70_000, dtype=np.uint8)
    path.write_bytes(content + noise.tobytes())
    with pytest.raises(TruncatedAudio, match=r"bytes|last Ogg page"):
        decode(path)


def test_a_lost_stretch_of_ogg_is_no_pause(tmp_path: Path) -> None:
    content = built(tmp_path / "a", "ogg_opus", LEFT_HZ, seconds=20.0)
    pages = content.split(b"OggS\0")
    (tmp_path / "a").write_bytes(b"OggS\0".join(pages[:8] + pages[13:]))
    with pytest.raises(TruncatedAudio, match=r"about \d\.\d s of its sound"):
        decode(tmp_path / "a")


# WAV


@pytest.mark.parametrize("n_silent", [0, 8000])
def test_data_chunks_in_a_list_are_heard_and_silences_that_are_counted_are_refused(
    n_silent: int, tmp_path: Path
) -> None:
    waves = b"wavl"
    for name, content in [RIFF_CHUNK, (b"slnt", struct.pack("<I", n_silent)), RIFF_CHUNK]:
        if name == b"data" or n_silent:
            waves += name + struct.pack("<I", len(content)) + content
    (tmp_path / "a.wav").write_bytes(riff([fmt_chunk(), (b"LIST", waves)]))
    if n_silent:
        with pytest.raises(InvalidAudio, match="slnt"):
            decode(tmp_path / "a.wav")
    else:
        assert heard(decode(tmp_path / "a.wav").samples[0]) == [LEFT_HZ] * 6


def test_every_data_chunk_is_heard(tmp_path: Path) -> None:
    other = (b"data", pcm16(tone(2.0, 8000, RIGHT_HZ)))
    (tmp_path / "a.wav").write_bytes(riff([fmt_chunk(), RIFF_CHUNK, (b"LIST", b"INFOx"), other]))
    assert heard(decode(tmp_path / "a.wav").samples[0]) == [LEFT_HZ] * 3 + [RIGHT_HZ] * 2


def test_big_endian_wav(tmp_path: Path) -> None:
    sound = two_tones(2.0, 16000, 2)
    (tmp_path / "a.wav").write_bytes(rifx(sound, 16000))
    audio = decode(tmp_path / "a.wav")
    assert audio.codec == "pcm_s16be"
    assert [heard(side) for side in audio.samples] == [[LEFT_HZ] * 2, [RIGHT_HZ] * 2]
    assert np.abs(audio.samples).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg_opus", "m4a"])
def test_a_tag_before_the_header_is_passed_over(kind: str, tmp_path: Path) -> None:
    content = built(tmp_path / "a", kind, LEFT_HZ)
    (tmp_path / "a").write_bytes(id3(2_345) + content)
    audio = decode(tmp_path / "a")
    assert heard(audio.samples[0])[:2] == [LEFT_HZ] * 2
    assert audio.notes == ()


@pytest.mark.parametrize("is_last", [False, True])
def test_a_chunk_of_odd_size_without_its_filling_byte(is_last: bool, tmp_path: Path) -> None:
    chunks = [fmt_chunk(), RIFF_CHUNK]
    chunks.insert(2 if is_last else 1, (b"LIST", b"INFOISFT\x0d\0\0\0Recorder 1.0\0x"))
    (tmp_path / "a.wav").write_bytes(riff(chunks, padded=False))
    audio = decode(tmp_path / "a.wav")
    assert heard(audio.samples[0]) == [LEFT_HZ] * 3
    assert audio.duration_s == 3.0
    assert audio.notes == ()


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_joined_recordings_whose_headers_do_not_know_their_size(size: int, tmp_path: Path) -> None:
    content = b"".join(
        wav_bytes(pcm16(tone(2.0, rate_hz)), rate_hz=rate_hz, data_size=size) for rate_hz in (8000, 16000)
    )
    (tmp_path / "a.wav").write_bytes(content)
    audio = decode(tmp_path / "a.wav")
    assert heard(audio.samples[0]) == [LEFT_HZ] * 4
    assert ("unfinished_header" in audio.notes) == (size == 0)


def test_a_little_more_sound_than_the_header_states_is_heard_and_noted(tmp_path: Path) -> None:
    sound = pcm16(tone(4.0, 8000) + 0.3)
    (tmp_path / "a.wav").write_bytes(wav_bytes(sound, data_size=len(sound) - 14_001))
    audio = decode(tmp_path / "a.wav")
    assert audio.duration_s == 4.0
    assert audio.notes == ("dc_offset", "unfinished_header")


# Time


@pytest.mark.parametrize("pause_s", [0.3, 1.0, 20.0])
@pytest.mark.parametrize(
    ("container", "codec"),
    [("webm", "libopus"), ("mp4", "aac"), ("ogg", "libopus"), ("asf", "wmav2"), ("matroska", "pcm_s16le")],
)
def test_a_pause_is_silence_of_its_length(container: str, codec: str, pause_s: float, tmp_path: Path) -> None:
    bit_rate = 64_000 if codec == "wmav2" else None
    by_tracks(
        tmp_path / "a",
        [tone(3.0, 48000)[:, None]],
        48000,
        container,
        codec,
        pause_at_s=1.5,
        pause_s=pause_s,
        bit_rate=bit_rate,
    )
    audio = decode(tmp_path / "a")
    assert audio.duration_s == pytest.approx(3.0 + pause_s, abs=0.04)
    n_silent = int((np.abs(audio.samples[0]) < 1e-4).sum())  # Ogg knows times of pages only: not where
    assert n_silent == pytest.approx(8000 * pause_s, abs=400)
    assert np.abs(audio.samples[0, -8000:]).max() > 0.4
    assert audio.notes == (("gaps_silenced",) if pause_s > 0.5 else ())


def test_time_stamps_cannot_claim_memory(tmp_path: Path) -> None:
    by_tracks(
        tmp_path / "a", [tone(2.0, 48000)[:, None]], 48000, "webm", "libopus", pause_at_s=1.0, pause_s=1e6
    )
    with pytest.raises(TooLong, match="277:46:42"):
        decode(tmp_path / "a")


@pytest.mark.parametrize(("container", "codec", "lead"), [("mp4", "aac", 2), ("webm", "libopus", 0)])
def test_what_an_edit_list_puts_first_is_silence_and_a_broadcast_joined_late_has_none(
    container: str, codec: str, lead: int, tmp_path: Path
) -> None:
    by_tracks(tmp_path / "a", [tone(3.0, 48000)[:, None]], 48000, container, codec, starts_s=[2.0])
    found = heard(decode(tmp_path / "a").samples[0])
    assert len(found) == 3 + lead
    assert found[-2:] == [LEFT_HZ] * 2


# Lengths that are stated, and guesses


def mp3(path: Path, seconds: float) -> bytes:
    """Variable bit rate: a second of noise, then near silence, so that a guess by bit rate is far off."""
    sound = 1e-4 * tone(seconds, 16000)[:, None]
    sound[:16000, 0] += np.random.default_rng(2).normal(0, 0.2, 16000)
    quality = {"flags": "+qscale", "global_quality": str(4 * 118)}
    by_ffmpeg(path, sound, 16000, "mp3", "libmp3lame", options=quality)
    return path.read_bytes()


def test_an_mp3_whose_header_counts_no_frames_is_analysed(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(with_zero_frames(mp3(tmp_path / "a.mp3", 60.0)))
    assert decode(tmp_path / "a.mp3").duration_s == pytest.approx(60.0, abs=0.1)


def test_joined_mp3s_of_variable_bit_rate_are_analysed(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(mp3(tmp_path / "a.mp3", 30.0) + id3(500) + mp3(tmp_path / "b.mp3", 30.0))
    assert decode(tmp_path / "a.mp3").duration_s == pytest.approx(60.0, abs=0.1)


@pytest.mark.parametrize(("rate_hz", "bits_s"), [(8_000, 64_000), (22_050, 160_000), (44_100, 320_000)])
def test_the_header_of_an_mp3_of_large_frames_is_no_second_recording(
    rate_hz: int, bits_s: int, tmp_path: Path
) -> None:
    """Its Info frame is as long as the others: 576 bytes and more."""
    sound = tone(3.0, rate_hz)[:, None]
    by_ffmpeg(tmp_path / "a.mp3", sound, rate_hz, "mp3", "libmp3lame", bit_rate=bits_s)
    audio = decode(tmp_path / "a.mp3")
    assert (audio.duration_s, audio.notes) == (pytest.approx(3.0, abs=0.1), ())
    both = (tmp_path / "a.mp3").read_bytes() * 2
    (tmp_path / "a.mp3").write_bytes(both)
    assert decode(tmp_path / "a.mp3").duration_s == pytest.approx(6.0, abs=0.2)


def test_a_flac_that_states_no_length_is_analysed(tmp_path: Path) -> None:
    by_soundfile(tmp_path / "a.flac", tone(3.0, 8000)[:, None], 8000, "FLAC", "PCM_16")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert decode(tmp_path / "a.flac").duration_s == 3.0


def test_an_mp3_that_was_cut_is_still_noticed(tmp_path: Path) -> None:
    content = mp3(tmp_path / "a.mp3", 60.0)
    (tmp_path / "a.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(TruncatedAudio, match="declares"):
        decode(tmp_path / "a.mp3")


@pytest.mark.parametrize(("kind", "codec"), [("VOC", "PCM_U8"), ("NIST", "PCM_16")])
def test_rarer_containers_that_were_cut_are_noticed(kind: str, codec: str, tmp_path: Path) -> None:
    by_soundfile(tmp_path / "a", tone(20.0, 8000)[:, None], 8000, kind, codec)
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(TruncatedAudio):
        decode(tmp_path / "a")


@pytest.mark.parametrize(("container", "codec"), [("matroska", "libopus"), ("mp4", "aac")])
def test_two_tracks_that_were_cut_are_noticed(container: str, codec: str, tmp_path: Path) -> None:
    sides = [tone(20.0, 48000, hz)[:, None] for hz in (LEFT_HZ, RIGHT_HZ)]
    by_tracks(tmp_path / "a", sides, 48000, container, codec)
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(TruncatedAudio):
        decode(tmp_path / "a")


def test_a_little_less_than_is_stated_is_noted(tmp_path: Path) -> None:
    content = wav_bytes(pcm16(tone(4.0, 8000)))
    (tmp_path / "a.wav").write_bytes(content[:-12_000])
    audio = decode(tmp_path / "a.wav")
    assert audio.duration_s == 3.25
    assert audio.notes == ("ends_early",)


def test_an_unknown_size_in_an_au_header(tmp_path: Path) -> None:
    head = b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, 8000, 1)
    samples = np.frombuffer(RIFF_CHUNK[1], "<i2").astype(">i2").tobytes()
    (tmp_path / "a.au").write_bytes(head + samples)
    assert decode(tmp_path / "a.au").duration_s == 3.0

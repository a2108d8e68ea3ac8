"""Decoding: every format gives back the sound that went in; every fault has its own error."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
from formats import FORMATS, by_ffmpeg, by_soundfile, g711_mulaw, pcm16, tone, two_tones, wav_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callanalytics.audio import CANONICAL_RATE_HZ, decode_recording
from callanalytics.audio.samples import SampleBuffer, frames_at, give_back
from callanalytics.audio.source import Stretch
from callanalytics.config import AudioSettings
from callanalytics.errors import (
    EmptyAudio,
    InvalidAudio,
    NotAudio,
    RecordingError,
    TooLong,
    TruncatedAudio,
    UnreadableFile,
)
from callanalytics.records import Audio, FloatArray

SETTINGS = AudioSettings()
SECONDS = 3.0


def decode(path: Path, audio_settings: AudioSettings = SETTINGS, **more: float) -> Audio:
    return decode_recording([path], audio_settings, **more)


def decoded_or_none(path: Path) -> Audio | None:
    """The sound, or None when a typed error came that names the file. Anything else is a failure."""
    try:
        return decode(path)
    except RecordingError as problem:
        if path.name not in str(problem):
            raise AssertionError(f"the message does not name the file: {problem}") from problem
        return None


def loudest_hz(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(spectrum.argmax() * CANONICAL_RATE_HZ / len(middle))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_back_its_sound_whatever_its_name(name: str, tmp_path: Path) -> None:
    build, rate_hz, n_channels, codec = FORMATS[name]
    path = tmp_path / "call.txt"  # a wrong extension must not matter
    build(path, two_tones(SECONDS, rate_hz, n_channels), rate_hz)
    audio = decode(path)
    assert audio.samples.dtype == np.float32
    assert audio.samples.flags.c_contiguous
    assert np.isfinite(audio.samples).all()
    assert np.abs(audio.samples).max() <= 1.0
    assert (audio.n_channels, audio.sample_rate_hz) == (n_channels, 8000)
    assert audio.codec == codec
    assert audio.duration_s == pytest.approx(SECONDS, abs=0.2)  # MP3 in WAV keeps its padding
    for channel, frequency_hz in zip(audio.samples, (440.0, 1000.0), strict=False):
        assert loudest_hz(channel) == pytest.approx(frequency_hz, abs=2.0)
        level = np.sqrt(np.mean(channel[8000:16000] ** 2))
        assert level == pytest.approx(0.5 / np.sqrt(2), rel=0.15)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_pcm_is_exact_to_its_resolution(bits: int, tmp_path: Path) -> None:
    sound = two_tones(1.0, 8000, 2)
    by_soundfile(tmp_path / "a.wav", sound, 8000, "WAV", {8: "PCM_U8"}.get(bits, f"PCM_{bits}"))
    found = decode(tmp_path / "a.wav").samples
    assert np.abs(found - sound.T).max() <= 1.01 * 2.0 ** (1 - bits) + 1e-7


@pytest.mark.parametrize(("tag", "name"), [(7, "ULAW"), (6, "ALAW")])
def test_companded_codes_agree_with_libsndfile(tag: int, name: str, tmp_path: Path) -> None:
    # Every code 40 times, in no order: a period of 256 samples would be hum.
    codes = np.random.default_rng(1).permutation(np.arange(40 * 256) % 256).astype(np.uint8).tobytes()
    (tmp_path / "a.wav").write_bytes(wav_bytes(codes, tag=tag, bits=8))
    expected, _ = sf.read(
        io.BytesIO(codes), dtype="float32", format="RAW", subtype=name, samplerate=8000, channels=1
    )
    assert np.array_equal(decode(tmp_path / "a.wav").samples[0], expected)


def test_mulaw_agrees_with_the_textbook(tmp_path: Path) -> None:
    sound = tone(0.5, 8000, amplitude=0.9)
    (tmp_path / "a.wav").write_bytes(wav_bytes(g711_mulaw(sound), tag=7, bits=8))
    error = decode(tmp_path / "a.wav").samples[0] - sound
    assert 10 * np.log10(np.mean(sound**2) / np.mean(error**2)) > 35  # G.711 reaches about 38 dB


@pytest.mark.parametrize("rate_hz", [6000, 8000, 11025, 16000, 44100, 96000, 192000])
def test_every_rate_comes_to_8_khz_in_pitch_and_length(rate_hz: int, tmp_path: Path) -> None:
    by_soundfile(tmp_path / "a.wav", tone(2.0, rate_hz)[:, None], rate_hz, "WAV", "PCM_16")
    audio = decode(tmp_path / "a.wav")
    assert audio.native_rate_hz == rate_hz
    assert audio.samples.shape[1] == pytest.approx(16000, abs=2)
    expected = tone(2.0, 8000)
    inner = slice(400, 15600)
    assert np.abs(audio.samples[0, inner] - expected[inner]).max() < 2e-3


def test_what_a_telephone_cannot_carry_is_filtered_not_folded(tmp_path: Path) -> None:
    high, call = tone(2.0, 44100, 6000.0), 0.3 * tone(2.0, 44100)
    by_soundfile(tmp_path / "a.wav", (0.5 * high + call)[:, None], 44100, "WAV", "PCM_16")
    by_soundfile(tmp_path / "b.wav", call[:, None], 44100, "WAV", "PCM_16")
    folded = decode(tmp_path / "a.wav").samples - decode(tmp_path / "b.wav").samples
    assert np.abs(folded[0, 200:-200]).max() < 1e-3


@pytest.mark.parametrize(
    ("extension", "codec", "subtype"),
    [("ul", "mulaw", "ULAW"), ("al", "alaw", "ALAW"), ("sln", "s16le", "PCM_16")],
)
def test_headerless_files_are_read_by_their_hint(
    extension: str, codec: str, subtype: str, tmp_path: Path
) -> None:
    path = tmp_path / f"call.{extension}"
    by_soundfile(path, tone(SECONDS, 8000)[:, None], 8000, "RAW", subtype)
    audio = decode(path)
    assert audio.container == codec
    assert audio.duration_s == SECONDS
    assert loudest_hz(audio.samples[0]) == pytest.approx(440.0, abs=1.0)


def test_headerless_gsm(tmp_path: Path) -> None:
    by_soundfile(tmp_path / "call.gsm", tone(SECONDS, 8000)[:, None], 8000, "RAW", "GSM610")
    audio = decode(tmp_path / "call.gsm")
    assert audio.duration_s == pytest.approx(SECONDS, abs=0.03)
    assert loudest_hz(audio.samples[0]) == pytest.approx(440.0, abs=1.0)


def test_headerless_g722(tmp_path: Path) -> None:
    by_ffmpeg(tmp_path / "call.g722", tone(SECONDS, 16000)[:, None], 16000, "g722", "g722")
    audio = decode(tmp_path / "call.g722", AudioSettings(headerless={"g722": "g722:16000:1"}))
    assert audio.duration_s == pytest.approx(SECONDS, abs=0.03)
    assert loudest_hz(audio.samples[0]) == pytest.approx(440.0, abs=1.0)


def test_headerless_g729(tmp_path: Path) -> None:
    """Nobody here can encode it: frames of noise have the right length, 10 bytes for 10 ms (ITU-T G.729)."""
    (tmp_path / "call.g729").write_bytes(np.random.default_rng(5).bytes(3_000))
    audio = decode(tmp_path / "call.g729", AudioSettings(headerless={"g729": "g729:8000:1"}))
    assert audio.duration_s == 3.0
    assert np.abs(audio.samples).max() > 0.01


def test_a_hint_can_state_rate_and_channels(tmp_path: Path) -> None:
    by_soundfile(tmp_path / "call.sln16", two_tones(1.0, 16000, 2), 16000, "RAW", "PCM_16")
    audio = decode(tmp_path / "call.sln16", AudioSettings(headerless={"sln16": "s16le:16000:2"}))
    assert audio.samples.shape == (2, 8000)


def test_content_beats_a_headerless_extension(tmp_path: Path) -> None:
    by_soundfile(tmp_path / "call.gsm", tone(1.0, 8000)[:, None], 8000, "WAV", "PCM_16")
    assert decode(tmp_path / "call.gsm").codec == "pcm_s16le"


@pytest.mark.parametrize("hint", ["speex:8000:1", "mulaw", "mulaw:fast:1"])
def test_a_hint_that_is_not_understood_is_named(hint: str, tmp_path: Path) -> None:
    (tmp_path / "a.ul").write_bytes(g711_mulaw(tone(1.0, 8000)))
    with pytest.raises(NotAudio, match=hint):
        decode(tmp_path / "a.ul", AudioSettings(headerless={"ul": hint}))


def test_amr_with_discontinuous_transmission_keeps_its_pauses(tmp_path: Path) -> None:
    speech = np.random.default_rng(1).standard_normal(8000).astype(np.float32) * 0.2
    call = np.concatenate([speech, np.zeros(16000, np.float32), speech])[:, None]
    path = tmp_path / "call.amr"
    by_ffmpeg(path, call, 8000, "amr", "libopencore_amrnb", bit_rate=12200, options={"dtx": "1"})
    assert path.stat().st_size < 0.7 * 4 * 50 * 32, "the encoder left nothing out: the test shows nothing"
    audio = decode(path)
    assert audio.duration_s == pytest.approx(4.0, abs=0.05)
    assert np.abs(audio.samples[0, 12000:22000]).max() < 0.1, "the pause"
    assert np.abs(audio.samples[0, 25600:]).max() > 0.1, "the speech after it"


def test_a_pair_becomes_two_channels_the_shorter_padded(tmp_path: Path) -> None:
    by_soundfile(tmp_path / "agent.wav", tone(1.0, 8000)[:, None], 8000, "WAV", "PCM_16")
    by_soundfile(tmp_path / "caller.wav", tone(2.0, 16000, 1000.0)[:, None], 16000, "WAV", "PCM_16")
    audio = decode_recording([tmp_path / "agent.wav", tmp_path / "caller.wav"], SETTINGS)
    assert audio.samples.shape == (2, 16000)
    assert not audio.samples[0, 8000:].any()
    assert loudest_hz(audio.samples[1]) == pytest.approx(1000.0, abs=2.0)


def test_half_a_pair_must_be_mono(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        by_soundfile(tmp_path / name, two_tones(1.0, 8000, 2), 8000, "WAV", "PCM_16")
    with pytest.raises(InvalidAudio, match="pair"):
        decode_recording([tmp_path / "a.wav", tmp_path / "b.wav"], SETTINGS)


def test_clipping_is_measured(tmp_path: Path) -> None:
    sound = np.clip(tone(1.0, 8000, amplitude=2.0), -1, 1)
    for subtype in ("PCM_16", "ULAW", "ALAW", "PCM_U8"):
        by_soundfile(tmp_path / "a.wav", sound[:, None], 8000, "WAV", subtype)
        assert decode(tmp_path / "a.wav").clipped_share == pytest.approx(2 / 3, abs=0.03)
    by_soundfile(tmp_path / "a.wav", tone(1.0, 8000)[:, None], 8000, "WAV", "PCM_16")
    assert decode(tmp_path / "a.wav").clipped_share == 0.0


def test_float_sound_beyond_full_scale_is_limited(tmp_path: Path) -> None:
    by_soundfile(tmp_path / "a.wav", tone(1.0, 8000, amplitude=1.5)[:, None], 8000, "WAV", "FLOAT")
    assert np.abs(decode(tmp_path / "a.wav").samples).max() == 1.0


# --- what goes wrong in real folders -----------------------------------------------------------


def _good(path: Path, seconds: float = 10.0) -> bytes:
    by_soundfile(path, two_tones(seconds, 8000, 2), 8000, "WAV", "PCM_16")
    return path.read_bytes()


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(EmptyAudio, match=r"a\.wav.*0 bytes"):
        decode(tmp_path / "a.wav")


def test_a_header_without_samples(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(b""))
    with pytest.raises(EmptyAudio):
        decode(tmp_path / "a.wav")
    notes = b"LIST" + struct.pack("<I", 4) + b"INFO"
    (tmp_path / "b.wav").write_bytes(wav_bytes(notes, data_size=0))
    with pytest.raises(EmptyAudio):
        decode(tmp_path / "b.wav")


@pytest.mark.parametrize(
    "text", [b"this is a note, not a call\n" * 200, b"#EXTM3U\n/etc/passwd\n", b"{}", b"x"]
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.ul"])
def test_text_is_not_audio(text: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(NotAudio, match="text"):
        decode(tmp_path / name)


def test_a_playlist_cannot_make_the_decoder_open_another_file(tmp_path: Path) -> None:
    _good(tmp_path / "secret.wav")
    for name, text in {
        "a.wav": f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n",
        "b.wav": f"#EXTM3U\n#EXTINF:10,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(NotAudio):
            decode(tmp_path / name)


def test_a_name_cannot_make_the_decoder_follow_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_soundfile(Path("concat:a|b.flac"), tone(1.0, 8000)[:, None], 8000, "FLAC", None)
    assert decode(Path("concat:a|b.flac")).duration_s == 1.0


def test_a_wav_that_was_cut(tmp_path: Path) -> None:
    whole = _good(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TruncatedAudio, match=r"declares 10\.0 s.*5\.0 s are there"):
        decode(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(whole[:30])
    with pytest.raises(TruncatedAudio):
        decode(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(whole[:-3200])  # 0.1 s: within the tolerance
    assert decode(tmp_path / "a.wav").duration_s == pytest.approx(9.9)


def test_a_wav_whose_header_says_zero_is_read_whole_and_noted(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(pcm16(tone(5.0, 8000)), data_size=0))
    audio = decode(tmp_path / "a.wav")
    assert audio.duration_s == 5.0
    assert audio.notes == ("unfinished_header",)


def test_a_wav_that_grew_after_its_header_was_written(tmp_path: Path) -> None:
    more = wav_bytes(pcm16(tone(20.0, 8000) + 0.3), data_size=5 * 16000)
    (tmp_path / "a.wav").write_bytes(more)
    with pytest.raises(TruncatedAudio, match=r"declares 5\.0 s.*20\.0 s are there.*brought up to date"):
        decode(tmp_path / "a.wav")


def test_a_container_without_a_packet(tmp_path: Path) -> None:
    path = tmp_path / "a.caf"
    with av.open(str(path), "w", format="caf") as container:
        container.add_stream("pcm_s16le", rate=8000, layout="mono")
        container.start_encoding()
    with pytest.raises(EmptyAudio, match=r"a\.caf: holds no samples"):
        decode(path)


def test_frames_before_a_torn_one_count(tmp_path: Path, rng: np.random.Generator) -> None:
    """The demuxer refuses the three bytes of the last: 50 frames of 20 ms are whole."""
    (tmp_path / "a.gsm").write_bytes(rng.bytes(50 * 33 + 3))
    assert decode(tmp_path / "a.gsm").duration_s == 1.0


def test_a_seek_that_no_file_has_fails_as_ffmpeg_asks(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with (tmp_path / "a").open("rb") as stream:
        part = Stretch(stream, 1, 3)
        assert [part.seek(2**63), part.seek(-2), part.seek(0, 9)] == [-1, -1, -1]
        assert part.at(2**63, 1) == b""
        assert part.at(1, 9) == b"c"


@pytest.mark.parametrize("after", [b"LIST" + struct.pack("<I", 90_000) + b"x" * 90_000, bytes(90_000)])
def test_notes_or_unused_space_after_the_sound_are_no_fault(after: bytes, tmp_path: Path) -> None:
    sound = pcm16(tone(2.0, 8000))
    (tmp_path / "a.wav").write_bytes(wav_bytes(sound + after, data_size=len(sound)))
    assert decode(tmp_path / "a.wav").duration_s == 2.0


def test_too_few_samples_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(bytes(4), rate_hz=192_000))
    with pytest.raises(EmptyAudio):
        decode(tmp_path / "a.wav")


def test_a_wav_written_into_a_pipe_has_no_size_and_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(pcm16(tone(5.0, 8000)), data_size=0xFFFFFFFF))
    assert decode(tmp_path / "a.wav").duration_s == 5.0


@pytest.mark.parametrize(
    "name", ["flac", "m4a", "ogg_opus", "wma", "wav_gsm", "wav_ima_adpcm", "mp3", "webm_opus"]
)
def test_other_formats_that_were_cut_are_noticed(name: str, tmp_path: Path) -> None:
    build, rate_hz, n_channels, _ = FORMATS[name]
    path = tmp_path / "a"
    build(path, two_tones(20.0, rate_hz, n_channels), rate_hz)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(TruncatedAudio):
        decode(path)


def test_the_recorders_own_length_is_compared(tmp_path: Path) -> None:
    _good(tmp_path / "a.wav", seconds=60.0)
    assert decode(tmp_path / "a.wav", expected_duration_s=65.0).duration_s == 60.0
    assert decode(tmp_path / "a.wav", expected_duration_s=20.0).duration_s == 60.0  # it may know only a part
    with pytest.raises(TruncatedAudio, match="1:40 min"):
        decode(tmp_path / "a.wav", expected_duration_s=100.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(bad: float, tmp_path: Path) -> None:
    sound = tone(2.0, 8000)
    sound[12000:12010] = bad
    by_soundfile(tmp_path / "a.wav", sound[:, None], 8000, "WAV", "FLOAT")
    with pytest.raises(InvalidAudio, match=r"10 from 1\.5 s"):
        decode(tmp_path / "a.wav")


def test_floats_that_are_no_samples(tmp_path: Path) -> None:
    by_soundfile(tmp_path / "a.wav", tone(1.0, 8000, amplitude=20000.0)[:, None], 8000, "WAV", "FLOAT")
    with pytest.raises(InvalidAudio, match="expected -1 to 1"):
        decode(tmp_path / "a.wav")


@pytest.mark.parametrize("rate_hz", [0, 4000, 384000])
def test_rates_that_no_call_has(rate_hz: int, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(bytes(16000), rate_hz=rate_hz))
    with pytest.raises(InvalidAudio, match=f"{rate_hz} Hz"):
        decode(tmp_path / "a.wav")


def test_more_than_two_channels(tmp_path: Path) -> None:
    for kind in ("WAV", "FLAC"):
        by_soundfile(tmp_path / "a.wav", np.zeros((8000, 3), np.float32), 8000, kind, "PCM_16")
        with pytest.raises(InvalidAudio, match="3 channels"):
            decode(tmp_path / "a.wav")


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_bytes(bytes(range(256)) * 100, tag=0x1234))
    with pytest.raises(NotAudio, match="codec"):
        decode(tmp_path / "a.wav")


def test_limits_on_bytes_length_and_time(tmp_path: Path) -> None:
    _good(tmp_path / "a.wav")
    by_soundfile(tmp_path / "b.flac", two_tones(10.0, 8000, 2), 8000, "FLAC", None)
    for path in (tmp_path / "a.wav", tmp_path / "b.flac"):
        with pytest.raises(TooLong, match="max_bytes"):
            decode(path, AudioSettings(max_bytes=1000))
        with pytest.raises(TooLong, match="max_duration_s"):
            decode(path, AudioSettings(max_duration_s=5.0))
        with pytest.raises(TooLong, match="decode_timeout_s"):
            decode(path, AudioSettings(decode_timeout_s=1e-9))


def test_a_length_that_the_container_hides_is_limited_too(tmp_path: Path) -> None:
    by_ffmpeg(tmp_path / "a.aac", tone(60.0, 8000)[:, None], 8000, "adts", "aac")
    with pytest.raises(TooLong, match="max_duration_s"):
        decode(tmp_path / "a.aac", AudioSettings(max_duration_s=20.0))


def test_a_header_cannot_claim_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    by_soundfile(path, tone(1.0, 8000)[:, None], 8000, "FLAC", None)
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # 2**36 samples: 99 days
    path.write_bytes(bytes(content))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLong):
        decode(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableFile, match="gone"):
        decode(tmp_path / "gone.wav")
    with pytest.raises(UnreadableFile):
        decode(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(UnreadableFile, match="not a regular file"):
        decode(tmp_path / "pipe.wav")
    _good(tmp_path / "a.wav")

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(UnreadableFile, match="Permission denied"):
        decode(tmp_path / "a.wav")


def test_a_hostile_name_is_printed_harmlessly(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m\nb.wav"
    path.touch()
    with pytest.raises(EmptyAudio) as caught:
        decode(path)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle_is_no_noise_on_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("mp3", "flac", "ogg_vorbis", "m4a", "wav_ms_adpcm", "wma"):
        build, rate_hz, n_channels, _ = FORMATS[name]
        path = tmp_path / name
        build(path, two_tones(4.0, rate_hz, n_channels), rate_hz)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 500] = os.urandom(500)
        path.write_bytes(bytes(content))
        with contextlib.suppress(RecordingError):
            decode(path)
    assert capfd.readouterr() == ("", "")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_gives_sound_or_a_typed_error(data: st.DataObject, tmp_path: Path) -> None:
    name = data.draw(
        st.sampled_from(["wav_pcm16", "wav_mulaw", "wav_gsm", "flac", "mp3", "ogg_opus", "m4a", "amr_nb"])
    )
    original = tmp_path / name
    if not original.exists():
        build, rate_hz, n_channels, _ = FORMATS[name]
        build(original, two_tones(0.5, rate_hz, n_channels), rate_hz)
    content = bytearray(original.read_bytes())
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    damaged = tmp_path / "damaged"
    damaged.write_bytes(bytes(content))
    audio = decoded_or_none(damaged)
    if audio is None:
        return
    assert np.isfinite(audio.samples).all()
    assert np.abs(audio.samples).max(initial=0.0) <= 1.0
    assert audio.samples.shape[1] > 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(min_size=1, max_size=3000),
    head=st.sampled_from([b"", b"RIFF\0\0\0\0WAVE", b"OggS", b"ID3"]),
)
def test_any_bytes_give_sound_or_a_typed_error(content: bytes, head: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(head + content)
    audio = decoded_or_none(tmp_path / "a.wav")
    assert audio is None or np.isfinite(audio.samples).all()


@pytest.mark.parametrize("room", ["memory", "file", "no temporary folder"])
def test_samples_are_the_same_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: str
) -> None:
    """Also where the buffer has to grow and its rows, of unequal lengths, to be moved together."""
    monkeypatch.setattr("callanalytics.audio.samples.LONG_BYTES", 1 << 40 if room == "memory" else 1)
    if room == "no temporary folder":
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    sound = np.random.default_rng(3).uniform(-1.2, 1.2, (2, 30_000)).astype(np.float32)
    buffer = SampleBuffer(2, 10_000)
    n_clipped = 0
    for row, n in ((0, 30_000), (1, 25_000)):
        for at in range(0, n, 5_000):
            n_clipped += buffer.write(slice(row, row + 1), sound[row, at : at + 5_000, None], 1.0)
    found = buffer.finished()
    expected = np.clip(sound, -1, 1)
    expected[1, 25_000:] = 0
    assert np.array_equal(found, expected)
    assert n_clipped == np.count_nonzero(np.abs(expected) == 1)
    assert found.flags.c_contiguous
    give_back(found)
    frames = frames_at(found[1], np.array([7, 24_990]), 20)
    assert np.array_equal(frames, [expected[1, 7:27], expected[1, 24_990:25_010]])


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1000


def test_a_long_call_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    sound = np.full((8000 * 1200, 2), 3000, np.int16)
    sound[::2] *= -1
    by_soundfile(path, sound, 8000, "WAV", "PCM_16")
    before = resident_kb()
    samples = decode(path).samples
    assert samples.nbytes == 76_800_000
    give_back(samples)
    assert resident_kb() - before < 40_000
    assert np.array_equal(samples[:, ::4000], sound[::4000].T / np.float32(32768))


@pytest.mark.slow
def test_three_hours_stay_in_bounded_memory(tmp_path: Path) -> None:
    """Stereo at 44.1 kHz is 1.9 GB as PCM; at 8 kHz in float32 it is 691 MB, of which a third is tested."""
    path = tmp_path / "long.flac"
    by_soundfile(path, np.zeros((44100 * 3600, 2), np.int16), 44100, "FLAC", "PCM_16")
    code = (
        "import re, sys; from pathlib import Path; import numpy as np\n"
        "from callanalytics.audio import decode_recording; from callanalytics.config import AudioSettings\n"
        "a = decode_recording([Path(sys.argv[1])], AudioSettings())\n"
        # Not ru_maxrss: that one still remembers the parent before the exec.
        "peak = re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]\n"
        "print(a.samples.nbytes // 1000, peak)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    samples_kb, peak_kb = map(int, done.stdout.split())
    assert samples_kb == pytest.approx(230_400, rel=0.01)
    assert peak_kb < 200_000


def test_all_real_calls_decode(data_dir: Path) -> None:
    calls = sorted((data_dir / "calls").rglob("*.wav"))
    assert calls
    started = time.monotonic()
    for path in calls:
        audio = decode(path)
        assert audio.duration_s > 10
        assert audio.clipped_share < 0.01
    assert time.monotonic() - started < 30


def test_the_real_pair_is_the_real_stereo_call(data_dir: Path) -> None:
    folder = data_dir / "calls" / "aws-auto-repairs"
    halves = [folder / f"Auto_Repairs_40_UTC_{side}.wav" for side in ("caller", "agent")]
    pair = decode_recording(halves, SETTINGS)
    stereo = decode(folder / "Auto_Repairs_40_UTC_stereo.wav")
    assert np.array_equal(pair.samples, stereo.samples)


@pytest.mark.parametrize("offset", [0.3, -0.05])
def test_a_constant_offset_is_removed_and_noted(offset: float, tmp_path: Path) -> None:
    one, other = 0.5 * tone(2.0, 8000), 0.2 * tone(2.0, 8000)
    other[4000:12000] = 0
    sound = np.stack([one + offset, other], axis=1)
    sf.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    audio = decode(tmp_path / "a.wav")
    assert audio.notes == ("dc_offset",)
    assert np.abs(audio.samples - np.stack([one, other])).max() < 1e-3
    assert not audio.samples[1, 4000:12000].any()


def test_masked_stretches_stay_exact_zeros_beside_an_offset(tmp_path: Path) -> None:
    sound = 0.5 * tone(3.0, 8000) + 0.3
    sound[8000:16000] = 0
    sf.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    samples = decode(tmp_path / "a.wav").samples[0]
    assert not samples[8000:16000].any()
    assert abs(samples[:8000].mean()) < 1e-3


def test_a_small_offset_is_left(tmp_path: Path) -> None:
    sound = (0.5 * tone(2.0, 8000) + 0.005).astype(np.float32)
    sf.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    audio = decode(tmp_path / "a.wav")
    assert audio.notes == ()
    assert (audio.samples[0] == sound).all()


def hummed(hz: float, share: float) -> tuple[FloatArray, FloatArray]:
    """A tone of a voice, and the same with hum that has `share` of the power; both (n,)."""
    voice = (0.1 * tone(3.0, 8000, 440)).astype(np.float32)
    hum = tone(3.0, 8000, hz) * voice.std() / tone(3.0, 8000, hz).std() * np.sqrt(share / (1 - share))
    return voice, (voice + hum).astype(np.float32)


@pytest.mark.parametrize("hz", [50.0, 60.0])
@pytest.mark.parametrize("share", [0.55, 0.9])
def test_hum_that_is_half_of_the_power_is_taken_out_and_noted(
    hz: float, share: float, tmp_path: Path
) -> None:
    voice, loud = hummed(hz, share)
    sf.write(tmp_path / "a.wav", np.stack([loud + np.float32(0.05), voice], axis=1), 8000, subtype="FLOAT")
    audio = decode(tmp_path / "a.wav")
    assert audio.notes == ("hum",), "the offset goes with it"
    second = slice(8000, 16000)
    before, after = (np.abs(np.fft.rfft(x[second])) for x in (loud, audio.samples[0]))
    assert after[round(hz)] < 0.1 * before[round(hz)]
    assert after[440] == pytest.approx(before[440], rel=0.02)
    assert np.array_equal(audio.samples[1], voice), "the other side is left"


@pytest.mark.parametrize(("hz", "share"), [(50.0, 0.4), (90.0, 0.9), (0.0, 0.0)])
def test_less_hum_and_low_voices_are_left(hz: float, share: float, tmp_path: Path) -> None:
    sound = hummed(hz, share)[1] if hz else (0.1 + 0.1 * tone(3.0, 8000, 440)).astype(np.float32)
    sf.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    assert "hum" not in decode(tmp_path / "a.wav").notes


def test_masked_stretches_stay_exact_zeros_beside_hum(tmp_path: Path) -> None:
    _, loud = hummed(50.0, 0.8)
    loud[8000:16000] = 0.0
    sf.write(tmp_path / "a.wav", loud, 8000, subtype="FLOAT")
    audio = decode(tmp_path / "a.wav")
    assert audio.notes == ("hum",)
    assert not audio.samples[0, 8000:16000].any()


def syllables(seconds: float, seed: int = 5) -> FloatArray:
    """(n,) buzz of changing pitch in syllables, with a pause of a second after each two."""
    rng = np.random.default_rng(seed)
    n = round(seconds * 8000)
    pitch_hz = rng.uniform(90, 220, n // 800 + 1).repeat(800)[:n]
    loud = rng.uniform(0.2, 1.0, n // 1600 + 1).repeat(1600)[:n] * (np.arange(n) % 24_000 < 16_000)
    sound = 0.1 * loud * np.sign(np.sin(2 * np.pi * np.cumsum(pitch_hz) / 8000))
    return (sound + 1e-4 * rng.standard_normal(n)).astype(np.float32)


def mains(seconds: float, hz: float) -> FloatArray:
    """(n,) the harmonics of the mains, of power 1."""
    at_s = np.arange(round(seconds * 8000)) / 8000
    wave = sum(np.sin(2 * np.pi * hz * k * at_s + k * k) / np.sqrt(k) for k in range(2, 13))
    return np.asarray(wave / np.std(wave), np.float32)


def power_db(sound: FloatArray) -> float:
    return float(10 * np.log10(np.mean(sound.astype(np.float64) ** 2)))


@pytest.mark.parametrize("hz", [49.9, 60.05])
@pytest.mark.parametrize("over_db", [-14, 0, 10])
def test_hum_with_harmonics_is_taken_out_from_its_first_moment(
    hz: float, over_db: float, tmp_path: Path
) -> None:
    voice = 0.5 * syllables(30.0)
    hum = mains(30.0, hz) * voice.std() * 10 ** (over_db / 20)
    sf.write(tmp_path / "a.wav", np.stack([voice + hum, voice], axis=1), 8000, subtype="FLOAT")
    audio = decode(tmp_path / "a.wav")
    assert audio.notes == ("hum",)
    assert np.array_equal(audio.samples[1], voice), "the other side is left"
    left = audio.samples[0] - voice
    for part in (slice(0, 4000), slice(4000, None)):
        assert power_db(left[part]) < max(power_db(hum) - 15, power_db(voice) - 9)
    pause = slice(2 * 8000 + 1600, 3 * 8000)
    assert power_db(audio.samples[0, pause]) < power_db(hum) - 20


def test_hum_with_harmonics_in_a_part_of_a_long_call_is_taken_out(tmp_path: Path) -> None:
    voice = np.tile(0.5 * syllables(30.0), 22)
    loud = voice.copy()
    loud[-330 * 8000 :] += mains(330.0, 50.0) * voice.std()
    loud[-60 * 8000 : -50 * 8000] = 0.0
    sf.write(tmp_path / "a.wav", loud, 8000, subtype="FLOAT")
    audio = decode(tmp_path / "a.wav")
    assert audio.notes == ("hum",)
    assert power_db(audio.samples[0, -29 * 8000 : -28 * 8000]) < power_db(loud[-29 * 8000 : -28 * 8000])
    assert not audio.samples[0, -60 * 8000 : -50 * 8000].any(), "what is masked stays so"


@pytest.mark.parametrize("sound", ["voice", "steady voice", "dial tone", "ringing", "chord", "faint"])
def test_voices_tones_and_chords_are_no_hum(sound: str, tmp_path: Path) -> None:
    voice = 0.5 * syllables(30.0)
    at_s = np.arange(30 * 8000) / 8000
    hz = {"dial tone": (350, 450), "ringing": (400, 450), "chord": (110.0, 138.6, 164.8, 220.0, 277.2, 329.6)}
    played = sum((0.05 * np.sin(2 * np.pi * each * at_s) for each in hz.get(sound, ())), np.zeros_like(at_s))
    if sound == "steady voice":  # one pitch of 100 Hz, with pauses as in speech
        played = 0.1 * np.sign(np.sin(2 * np.pi * 100 * at_s)) * (at_s % 3 < 2)
    if sound == "faint":
        played = mains(30.0, 50.0) * voice.std() * 10 ** (-30 / 20)
    sf.write(tmp_path / "a.wav", (voice + played).astype(np.float32), 8000, subtype="FLOAT")
    assert "hum" not in decode(tmp_path / "a.wav").notes


def test_stereo_under_a_mono_header_is_refused(tmp_path: Path) -> None:
    """It was two slow voices with a pitch an octave too low, without a word."""
    sides = np.stack([syllables(30.0, 1), np.roll(syllables(30.0, 2), 16_000)], axis=1)
    sides[: 8000 * 15, 0] *= 0.01
    sides[8000 * 15 :, 1] *= 0.01
    sf.write(tmp_path / "mono.wav", sides.reshape(-1), 8000, subtype="PCM_16")
    with pytest.raises(InvalidAudio, match="every other sample"):
        decode(tmp_path / "mono.wav")
    sf.write(tmp_path / "stereo.wav", sides, 8000, subtype="PCM_16")
    assert decode(tmp_path / "stereo.wav").samples.shape == (2, 240_000)


@pytest.mark.parametrize("hz", [1999, 2000, 2005])
def test_a_tone_at_a_quarter_of_the_rate_is_one_channel(hz: int, tmp_path: Path) -> None:
    """Every other sample of it is next to nothing, too."""
    sound = 0.3 * np.sin(2 * np.pi * hz * np.arange(160_000) / 8000)
    sf.write(tmp_path / "tone.wav", sound, 8000, subtype="PCM_16")
    assert decode(tmp_path / "tone.wav").samples.shape == (1, 160_000)


@pytest.mark.parametrize("doublings", [4, 5, 7])
def test_a_very_quiet_copy_is_lifted_to_the_call_itself_and_noted(doublings: int, tmp_path: Path) -> None:
    sound = np.stack([0.25 * tone(3.0, 8000), 0.05 * tone(3.0, 8000)], axis=1).astype(np.float32)
    sf.write(tmp_path / "call.wav", sound, 8000, subtype="FLOAT")
    sf.write(tmp_path / "quiet.wav", sound / 2**doublings, 8000, subtype="FLOAT")
    call, quiet = decode(tmp_path / "call.wav"), decode(tmp_path / "quiet.wav")
    assert call.notes == ()
    assert quiet.notes == ("quiet",)
    assert np.array_equal(quiet.samples, call.samples)


@pytest.mark.parametrize(("level_db", "is_lifted"), [(-39.5, False), (-40.5, True)])
def test_what_is_not_quieter_than_40_db_is_left(level_db: float, *, is_lifted: bool, tmp_path: Path) -> None:
    sound = tone(3.0, 8000)
    sound = (sound * 10 ** (level_db / 20) / sound.std()).astype(np.float32)
    sf.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    audio = decode(tmp_path / "a.wav")
    assert audio.notes == (("quiet",) if is_lifted else ())
    assert np.array_equal(audio.samples[0], sound) is not is_lifted


def test_a_dead_line_is_lifted_by_no_more_than_seven_doublings(tmp_path: Path) -> None:
    noise = (1e-4 * np.random.default_rng(1).standard_normal(24000)).astype(np.float32)
    sf.write(tmp_path / "a.wav", noise, 8000, subtype="FLOAT")
    assert np.array_equal(decode(tmp_path / "a.wav").samples[0], noise * 128)


def test_one_second_of_talk_at_a_usual_level_is_not_lifted(tmp_path: Path) -> None:
    sound = (0.001 * tone(20.0, 8000)).astype(np.float32)
    sound[40_000:50_000] *= 200
    sf.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    assert decode(tmp_path / "a.wav").notes == ()


@pytest.mark.parametrize("offset", [0.008, -0.003])
def test_a_small_offset_is_not_lifted_with_a_quiet_recording(offset: float, tmp_path: Path) -> None:
    call = 0.25 * tone(3.0, 8000)
    sf.write(tmp_path / "a.wav", (call / 128 + offset).astype(np.float32), 8000, subtype="FLOAT")
    audio = decode(tmp_path / "a.wav")
    assert audio.notes == ("dc_offset", "quiet")
    assert np.abs(audio.samples[0] - call).max() < 2e-3

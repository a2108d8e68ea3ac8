"""The demonstration: what lies in the folder, and that the upset callers can be told by ruler."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from command_line import run_command
from night_calls import DAY, ZONE
from spoken_calls import spoken_call

from callanalytics.demo import MARKER_NAME, DemoSummary, build_demo
from callanalytics.demo import synthetic_voices as demo_voices
from callanalytics.demo.mix import AGENT, CALLER, mix_call
from callanalytics.demo.script import Between, Call, Interlude, Line, Mood, calls
from callanalytics.demo.synthetic_voices import SAMPLE_RATE_HZ, FloatArray, speak_calls
from callanalytics.errors import CallAnalyticsError, UsageError
from callanalytics.records import Role


@pytest.fixture(scope="module")
def speech() -> list[list[FloatArray]]:
    return speak_calls(calls())


def audio_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix in {".wav", ".mp3", ".opus"})


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def level_db(samples: FloatArray) -> float:
    """Median level of the 32 ms frames that hold speech (above -40 dBFS)."""
    frames = samples[: len(samples) // 256 * 256].reshape(-1, 256)
    power = (frames**2).mean(axis=1)
    return float(10 * np.log10(np.median(power[power > 1e-4])))


def pitch_hz(samples: FloatArray) -> float:
    import librosa
    from scipy.signal import butter, sosfilt

    # A hard voice has most of its power in overtones, which YIN takes for the pitch.
    low = butter(4, 700.0, fs=SAMPLE_RATE_HZ, output="sos")
    samples = sosfilt(low, samples).astype(np.float32)
    pitch = librosa.yin(samples, fmin=65, fmax=450, sr=SAMPLE_RATE_HZ, frame_length=1024, hop_length=256)
    power = librosa.feature.rms(y=samples, frame_length=1024, hop_length=256)[0]
    return float(np.median(pitch[power[: len(pitch)] > 0.3 * power.max()]))


def pitch_of(call: Call, spoken: list[FloatArray], role: Role, moods: set[Mood]) -> float:
    """Median over the lines of one side."""
    lines = [event for event in call.events if isinstance(event, Line)]
    chosen = [s for line, s in zip(lines, spoken, strict=True) if line.role is role and line.mood in moods]
    return float(np.median([pitch_hz(samples) for samples in chosen]))


def test_the_folder_holds_the_calls_it_names(demo: DemoSummary) -> None:
    files = audio_files(demo.folder)
    assert demo.n_files == len(files) == 15
    assert demo.n_calls == 13
    assert len(demo.broken) == 1
    assert len(demo.upset) == 2
    assert set(demo.broken + demo.upset) <= set(files)
    n_bytes = sum(file.stat().st_size for file in demo.folder.rglob("*") if file.is_file())
    assert n_bytes < 20_000_000
    roots = Counter(file.relative_to(demo.folder).parts[0] for file in files)
    assert set(roots) == {
        *("freepbx", "vicidial", "connect", "genesys", "fusionpbx", "helpdesk", "pairs", "exports"),
    }


def test_names_carry_the_time_in_the_zone_each_recorder_uses(demo: DemoSummary) -> None:
    # 17 March 2026: New York is at UTC-4, since the 8th.
    for file in (demo.folder / "freepbx/2026/03/17").glob("*.wav"):
        *_, stamp_day, stamp_time, unique_id = file.stem.rsplit("-", 3)
        local = datetime.strptime(stamp_day + stamp_time, "%Y%m%d%H%M%S").replace(tzinfo=ZONE)
        assert local.timestamp() == int(unique_id.split(".")[0])
    connect = sorted((demo.folder / "connect/CallRecordings/2026/03/17").glob("*.wav"))
    assert {file.name.split("_", 1)[1] for file in connect} == {
        "20260317T14_12_UTC.wav",
        "20260317T14_48_UTC.wav",
    }
    (genesys,) = demo.folder.glob(
        "genesys/year=2026/month=03/day=17/hour=15/conversation_id=*/*_metadata.json"
    )
    facts = json.loads(genesys.read_text())
    assert facts["startTime"] == "2026-03-17T15:37:18.000+0000"
    assert genesys.with_name(genesys.name.removesuffix("_metadata.json")).is_file()


def test_files_were_closed_when_their_call_ended(demo: DemoSummary) -> None:
    files = audio_files(demo.folder)
    assert len(files) == demo.n_files
    for file in files:
        closed_at = datetime.fromtimestamp(file.stat().st_mtime, UTC).astimezone(ZONE)
        assert closed_at.date() == DAY
        assert 8 <= closed_at.hour < 18


def test_every_whole_file_decodes_to_its_full_length(demo: DemoSummary) -> None:
    formats = set()
    for file in audio_files(demo.folder):
        with av.open(str(file)) as container:
            stream = container.streams.audio[0]
            decoded_s = sum(frame.samples / frame.sample_rate for frame in container.decode(stream))
            formats.add((stream.codec_context.name.removesuffix("float"), stream.channels))
            if file in demo.broken:
                continue
            assert container.duration is not None
            assert decoded_s == pytest.approx(container.duration / 1_000_000, abs=0.1)
            assert 40 <= decoded_s <= 90, file.name
    assert formats >= {
        *(("pcm_mulaw", 2), ("pcm_s16le", 2), ("pcm_s16le", 1), ("pcm_u8", 1)),
        *(("mp3", 1), ("mp3", 2), ("opus", 2)),
    }


def test_the_broken_file_declares_more_than_it_holds(demo: DemoSummary) -> None:
    content = demo.broken[0].read_bytes()
    at = content.index(b"data")
    (declared,) = struct.unpack_from("<I", content, at + 4)
    assert len(content) - (at + 8) < 0.5 * declared


def test_the_two_sides_of_a_pair_have_one_length(demo: DemoSummary) -> None:
    agent, caller = sorted((demo.folder / "pairs").iterdir())
    assert (agent.stem[-6:], caller.stem[-7:]) == ("_agent", "_caller")
    assert soundfile.info(agent).frames == soundfile.info(caller).frames


def test_one_caller_calls_twice(demo: DemoSummary) -> None:
    numbers = Counter(file.name.split("-")[2] for file in (demo.folder / "freepbx").rglob("*.wav"))
    assert sorted(numbers.values()) == [1, 1, 1, 2]


@pytest.mark.usefixtures("librosa_ready")
@pytest.mark.parametrize("index", range(2))
def test_upset_callers_get_louder_higher_and_faster(
    index: int, speech: list[list[FloatArray]], demo: DemoSummary
) -> None:
    call, spoken = [(c, s) for c, s in zip(calls(), speech, strict=True) if c.upset][index]
    lines = [event for event in call.events if isinstance(event, Line)]

    def letters_per_s(mood: Mood) -> float:
        said = [(line, s) for line, s in zip(lines, spoken, strict=True) if line.role is Role.CALLER]
        pairs = [(len(line.text), len(s) / SAMPLE_RATE_HZ) for line, s in said if line.mood is mood]
        return sum(n for n, _ in pairs) / sum(seconds for _, seconds in pairs)

    assert letters_per_s(Mood.UPSET) > 1.15 * letters_per_s(Mood.CALM)

    # Loudness and pitch as they lie in the file: both recorders put the caller on the left.
    caller, agent = soundfile.read(demo.upset[index], dtype="float32")[0].T
    middle = len(caller) // 2
    assert level_db(caller[middle:]) > level_db(caller[:middle]) + 4
    assert pitch_hz(caller[middle:]) > 2 ** (3 / 12) * pitch_hz(caller[:middle])
    assert abs(level_db(agent[middle:]) - level_db(agent[:middle])) < 1.5
    rise = pitch_of(call, spoken, Role.CALLER, {Mood.UPSET}) / pitch_of(
        call, spoken, Role.CALLER, {Mood.CALM}
    )
    assert rise > 2 ** (4 / 12)


def test_only_the_upset_callers_get_louder(speech: list[list[FloatArray]]) -> None:
    rises_db = {}
    for index, (call, spoken) in enumerate(zip(calls(), speech, strict=True)):
        sides = mix_call(call, spoken, np.random.default_rng(index))
        first, second = np.array_split(sides[CALLER], 2)
        rings = any(isinstance(e, Interlude) and e.kind is Between.RING for e in call.events)
        if not call.upset and not rings:
            rises_db[call.slug] = level_db(second) - level_db(first)
    assert len(rises_db) > 5
    assert max(rises_db.values()) < 3, rises_db


@pytest.mark.usefixtures("librosa_ready")
def test_agent_and_caller_of_a_call_have_different_voices(speech: list[list[FloatArray]]) -> None:
    assert len(speech) > 5
    for call, spoken in zip(calls(), speech, strict=True):
        assert call.agent.voice.name != call.caller.name
        every = set(Mood)
        agent = pitch_of(call, spoken, Role.AGENT, every)
        caller = pitch_of(call, spoken, Role.CALLER, every - {Mood.UPSET, Mood.TENSE})
        assert abs(np.log2(agent / caller)) > 3 / 12, f"{call.slug}: {agent:.0f} and {caller:.0f} Hz"


def test_a_payment_is_masked_with_exact_zeros_and_nothing_else_is(demo: DemoSummary) -> None:
    longest_s: dict[str, float] = {}
    for file in audio_files(demo.folder):
        if file.suffix != ".wav":
            continue
        samples, rate_hz = soundfile.read(file, dtype="int16", always_2d=True)
        edges = np.flatnonzero(np.diff(np.concatenate([[1], np.any(samples, axis=1), [1]]).astype(int)))
        longest_s[file.name] = (edges[1::2] - edges[::2]).max(initial=0) / rate_hz
    masked = {name: seconds for name, seconds in longest_s.items() if seconds >= 0.05}
    assert [name.split("-")[1:3] for name in masked] == [["630", "2025550196"]]
    assert list(masked.values()) == pytest.approx([9.6], abs=0.1)
    assert len(longest_s) > 5


def test_hold_music_plays_while_the_caller_is_silent(speech: list[list[FloatArray]]) -> None:
    (index,) = [i for i, call in enumerate(calls()) if call.slug == "router-hold"]
    sides = mix_call(calls()[index], speech[index], np.random.default_rng(0))
    # Music has no pauses: the longest stretch of the agent's side without 50 ms of quiet is the music.
    power = np.sqrt((sides[AGENT, : sides.shape[1] // 400 * 400].reshape(-1, 400) ** 2).mean(axis=1))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], power > 0.008, [0]]).astype(int)))
    start, stop = max(zip(edges[::2], edges[1::2], strict=True), key=lambda run: run[1] - run[0])
    assert (stop - start) * 0.05 > 11
    assert np.abs(sides[CALLER, start * 400 : stop * 400]).max() < 0.02


def test_a_line_sounds_the_same_whenever_it_is_spoken(tmp_path: Path) -> None:
    """Its breath is made of chance: a test that hears words in it must not depend on the day."""
    lines = ("A: Good morning.", "C: Hello.")
    spoken_call(tmp_path / "one.wav", *lines)
    spoken_call(tmp_path / "other.wav", *lines)
    assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "other.wav").read_bytes()


def test_speech_lies_in_the_telephone_band(speech: list[list[FloatArray]]) -> None:
    spectrum = np.abs(np.fft.rfft(np.concatenate(speech[0]))) ** 2
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(spectrum))
    outside = spectrum[(hz < 200) | (hz > 3700)].sum() / spectrum.sum()
    assert outside < 0.03


def test_a_former_demonstration_is_replaced_by_one_of_another_day_the_same_day_by_the_same_bytes(
    demo: DemoSummary, tmp_path: Path
) -> None:
    out = tmp_path / "calls"
    out.mkdir()
    done = run_command("demo", "--out", out, "--day", "2026-03-16")
    assert "synthetic (espeak-ng)" in (done.stdout + done.stderr).splitlines()[-1]
    other_day = {digest for name, digest in digests(out).items() if not name.endswith(".json")}
    told: list[tuple[int, int]] = []
    build_demo(out, day=DAY, zone=ZONE, on_progress=lambda done, total: told.append((done, total)))
    n_calls = sum(call.is_made(0, 0) for call in calls())
    assert told == [(n, n_calls) for n in range(1, n_calls + 1)]
    assert digests(out) == digests(demo.folder), "nothing of the other day is left either"
    assert len(other_day) >= demo.n_files
    assert not other_day & set(digests(out).values()), "another day is other recordings"
    assert [entry.name for entry in tmp_path.iterdir()] == ["calls"]

    (out / "freepbx/my-own-call.wav").write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"did not make \(1\), for example freepbx/my-own-call\.wav"):
        build_demo(out, day=DAY, zone=ZONE)
    assert (out / "freepbx/my-own-call.wav").read_bytes() == b"precious"


def test_days_before_have_calm_calls_of_other_callers(tmp_path: Path, demo: DemoSummary) -> None:
    summary = build_demo(tmp_path / "calls", day=DAY, zone=ZONE, n_days_before=1)
    history = [call for call in calls() if call.is_made(1, 1)]
    story = [call for call in calls() if call.is_made(0, 1) and not call.is_made(0, 0)]
    assert len(history) > 5
    assert not [call for call in history if call.upset or call.broken]
    assert [call.upset for call in story] == [True, True]
    assert summary.n_calls == demo.n_calls + len(history) + len(story)
    assert len(summary.upset) == len(demo.upset) + len(story)
    names = [file.name for file in (tmp_path / "calls").rglob("*-20260316-*.wav")]
    assert names
    assert {re.findall("-(203|202|212)555", name)[0] for name in names} == {"203"}


def test_who_is_loud_is_loud_from_the_start(speech: list[list[FloatArray]]) -> None:
    ((call, spoken),) = [(c, s) for c, s in zip(calls(), speech, strict=True) if c.slug == "moving-house"]
    lines = [event for event in call.events if isinstance(event, Line)]
    loud = [level_db(s) for line, s in zip(lines, spoken, strict=True) if line.role is Role.CALLER]
    calm = level_db(next(s for s in speech[0][1:]))
    assert len(loud) > 4
    assert min(loud) > calm + 5
    assert max(loud) - min(loud) < 3


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"letter\.txt"):
        build_demo(tmp_path, day=DAY, zone=ZONE)
    with pytest.raises(UsageError, match="is a file"):
        build_demo(tmp_path / "letter.txt", day=DAY, zone=ZONE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["letter.txt"]
    assert not (tmp_path / MARKER_NAME).exists()


def test_voices_work_from_a_long_and_foreign_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import espeakng_loader

    far = tmp_path.joinpath(*["Überlänge-день-" + "x" * 60] * 3)
    far.mkdir(parents=True)
    (far / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    shutil.copy(espeakng_loader.get_library_path(), far / "libespeak-ng.so")
    assert len(str(far)) > 200
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(far / "espeak-ng-data"))
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(far / "libespeak-ng.so"))
    ((first, *_),) = speak_calls(calls()[:1])
    assert len(first) > SAMPLE_RATE_HZ


def test_a_synthesiser_that_fails_is_an_error_and_not_the_end_of_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path / "espeak-ng-data"))
    with pytest.raises(CallAnalyticsError, match="espeak-ng ended with status"):
        speak_calls(calls()[:1])
    monkeypatch.setattr(demo_voices, "TIMEOUT_S", 0.001)
    with pytest.raises(CallAnalyticsError, match="did not speak"):
        speak_calls(calls()[:1])

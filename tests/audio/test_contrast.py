"""Contrast clips: the caller calm, a tick, then the moments, at one gain, and only of calls to review."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace

import av
import numpy as np
import pytest
from formats import FloatArray, tone

from callanalytics.analysis.assess import CallAssessment
from callanalytics.analysis.contrast import contrast_of, frustration_rule, is_control, is_queued
from callanalytics.analysis.frustration import Curve, frustration_curve
from callanalytics.audio.clips import CALM_S, CONTRAST_NAMES, MOMENT_S, Contrast, contrast_clip
from callanalytics.config import FrustrationSettings, Settings
from callanalytics.records import Audio, Escalation, Evidence, Role, Segment

RATE_HZ = 8000
N_SEGMENTS = 30  # of 3 s, caller and agent in turn


def segments() -> list[Segment]:
    return [
        Segment(i, f"speaker_{i % 2}", (Role.CALLER, Role.AGENT)[i % 2], i % 2, 3.0 * i, 3.0 * i + 3.0, 0.0)
        for i in range(N_SEGMENTS)
    ]


def curve_of(angry: set[int]) -> Curve:
    """The real curve of a caller who is loud, high and angry in some of their 15 segments."""
    mine = [s for s in segments() if s.role is Role.CALLER]
    hot = np.array([place in angry for place in range(len(mine))])
    return frustration_curve(
        start_s=np.array([s.start_s for s in mine], np.float32),
        end_s=np.array([s.end_s for s in mine], np.float32),
        anger=np.where(hot, 0.9, 0.05).astype(np.float32),
        disgust=np.zeros(len(mine), np.float32),
        loudness_db=np.where(hot, -15.0, -30.0).astype(np.float32),
        pitch_hz=np.where(hot, 260.0, 180.0).astype(np.float32),
        settings=FrustrationSettings(),
    )


def assessment(curve: Curve, *rules: Escalation) -> CallAssessment:
    return CallAssessment(curve, (), rules, bool(rules))


def sound_of(content: bytes) -> FloatArray:
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.audio[0]
        pieces = [frame.to_ndarray() for frame in container.decode(stream)]
        assert stream.rate == 16_000
    return np.concatenate(pieces, axis=1)[0].astype(np.float32)


def loudest_hz(sound: FloatArray) -> float:
    return float(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * 16_000 / len(sound))


def test_calm_speech_is_of_the_caller_outside_the_moments() -> None:
    angry = {9, 10, 11}
    found = contrast_of(segments(), assessment(curve_of(angry)), 90.0)
    hot = [s for s in segments() if s.role is Role.CALLER]
    assert found.calm
    assert sum(end - start for start, end in found.calm) == pytest.approx(CALM_S, abs=0.5)
    caller = [(s.start_s, s.end_s) for s in segments() if s.role is Role.CALLER]
    for start, end in found.calm:
        assert any(begin <= start and end <= finish for begin, finish in caller)
        assert not any(start < hot[place].end_s and end > hot[place].start_s for place in angry)
    assert len(found.moments) == 3
    peaks = [m for m in found.moments if any(m.start_s <= hot[p].start_s <= m.end_s for p in angry)]
    assert len(peaks) >= 2


def test_moments_are_those_of_the_rules_and_last_about_25_s() -> None:
    evidence = tuple(Evidence(at, at + 3.0, f"at {at:.0f}") for at in (40.0, 60.0, 75.0))
    flag = Escalation("frustrated", 1.0, 0.6, 0.38, "because", evidence)
    found = contrast_of(segments(), assessment(curve_of({9}), flag), 90.0)
    assert [m.text for m in found.moments] == ["at 40", "at 60", "at 75"]
    total_s = sum(end - start for start, end in found.calm) + sum(m.end_s - m.start_s for m in found.moments)
    assert 20.0 <= total_s <= 26.0
    assert all(m.start_s <= e.start_s for m, e in zip(found.moments, evidence, strict=True))


def test_a_long_moment_is_cut_and_near_ones_are_not_heard_twice() -> None:
    silence = Escalation(
        "long_silence", 1.0, 50.0, 45.0, "dead air", (Evidence(20.0, 70.0, "nobody speaks"),)
    )
    near = Escalation("frustrated", 1.0, 0.6, 0.38, "because", (Evidence(22.0, 25.0, "anger"),))
    found = contrast_of(segments(), assessment(curve_of({9}), silence, near), 90.0)
    assert [m.text for m in found.moments] == ["nobody speaks"]
    assert found.moments[0].end_s - found.moments[0].start_s == pytest.approx(MOMENT_S)


def test_of_a_calm_call_the_longest_speech_is_played() -> None:
    curve = curve_of(set())
    calm = replace(curve, level=np.zeros_like(curve.level), score=0.0)
    found = contrast_of(segments(), assessment(calm), 90.0)
    assert [m.text for m in found.moments] == ["speaks"] * 3
    caller = [s.start_s for s in segments() if s.role is Role.CALLER]
    assert all(any(m.start_s <= at <= m.end_s for at in caller) for m in found.moments)


def test_a_call_without_a_voice_to_measure_has_no_contrast() -> None:
    nobody = frustration_curve(*(np.zeros(0, np.float32),) * 6, settings=FrustrationSettings())
    assert contrast_of([], assessment(nobody), 30.0) == Contrast((), ())
    audio = Audio(np.zeros((1, RATE_HZ), np.float32), RATE_HZ, RATE_HZ, "pcm_s16le", "wav", 0.0)
    assert contrast_clip(audio, Contrast((), ())) == ()


def made(calm: tuple[tuple[float, float], ...]) -> tuple[FloatArray, dict[str, object]]:
    """20 s: 400 Hz quiet, then 900 Hz four times as loud; the clip of it, and its list of parts."""
    sound = np.concatenate(
        [tone(10.0, RATE_HZ, 400.0, amplitude=0.1), tone(10.0, RATE_HZ, 900.0, amplitude=0.4)]
    )
    audio = Audio(sound[None, :], RATE_HZ, RATE_HZ, "pcm_s16le", "wav", 0.0)
    moments = (Evidence(11.0, 14.0, "louder"), Evidence(15.0, 18.0, "louder still"))
    clips = contrast_clip(audio, Contrast(calm, moments))
    assert tuple(clip.name for clip in clips) == CONTRAST_NAMES
    assert len(clips[0].content) < 120_000
    return sound_of(clips[0].content), json.loads(clips[1].content)


def test_calm_then_tick_then_moments_and_louder_stays_louder() -> None:
    sound, parts = made(((2.0, 6.0),))
    assert len(sound) / 16_000 == pytest.approx(parts["duration_s"], abs=0.15)
    calm, first = sound[8000:56_000], sound[round((parts["tick_s"] + 1) * 16_000) :][:32_000]
    assert loudest_hz(calm) == pytest.approx(400, abs=5)
    assert loudest_hz(first) == pytest.approx(900, abs=5)
    rms = [float(np.sqrt(np.mean(piece**2))) for piece in (calm, first)]
    assert rms[1] / rms[0] == pytest.approx(4.0, rel=0.1)
    tick = sound[round((parts["tick_s"] - 0.05) * 16_000) :][: round(0.2 * 16_000)]
    assert loudest_hz(tick) == pytest.approx(1000, abs=60)


def test_the_list_says_where_each_part_lies() -> None:
    sound, parts = made(((2.0, 4.0), (6.0, 8.0)))
    assert [(p["start_s"], p["end_s"]) for p in parts["calm"]] == [(2.0, 4.0), (6.0, 8.0)]
    assert [p["text"] for p in parts["moments"]] == ["louder", "louder still"]
    places = [p["at_s"] for p in (*parts["calm"], *parts["moments"])]
    assert places == sorted(places)
    assert parts["calm"][1]["at_s"] < parts["tick_s"] < parts["moments"][0]["at_s"]
    second = round(parts["moments"][1]["at_s"] * 16_000)
    assert np.abs(sound[second - 3200 : second - 1600]).max() < 0.01 < np.abs(sound[second + 8000 :]).max()


def test_without_calm_speech_there_is_no_tick() -> None:
    sound, parts = made(())
    assert parts["calm"] == []
    assert parts["tick_s"] is None
    assert parts["moments"][0]["at_s"] == 0.0
    assert loudest_hz(sound[:40_000]) == pytest.approx(900, abs=5)


def test_one_unflagged_call_in_ten_is_a_control_and_always_the_same() -> None:
    ids = [hashlib.sha256(str(n).encode()).hexdigest()[:16] for n in range(5000)]
    chosen = [call_id for call_id in ids if is_control(call_id)]
    assert len(chosen) / len(ids) == pytest.approx(0.1, abs=0.015)
    assert chosen == [call_id for call_id in ids if is_control(call_id)]


def test_flagged_near_and_control_calls_are_queued_and_others_not() -> None:
    rule = frustration_rule(Settings())
    assert rule is not None
    ids = (str(n) for n in range(100))
    control, other = (
        next(i for i in map(str, range(100)) if is_control(i)),
        next(i for i in ids if not is_control(i)),
    )
    curve = curve_of(set())
    low, near = (replace(curve, score=rule.at_least * share) for share in (0.3, 0.7))
    flag = Escalation("long_silence", 1.0, 50.0, 45.0, "dead air")
    assert is_queued(control, assessment(low), Settings())
    assert not is_queued(other, assessment(low), Settings())
    assert is_queued(other, assessment(near), Settings())
    assert is_queued(other, assessment(low, flag), Settings())
    unknown = replace(curve, score=None)
    assert not is_queued(other, assessment(unknown), Settings())
    assert not is_queued(other, assessment(near), Settings(rule=()))

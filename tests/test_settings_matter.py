"""Every number in config.toml changes something: here, or in the test that is named for it.

A number that nothing depends on is a promise that nobody keeps. A new one fails here until it is shown to
matter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from pydantic import BaseModel

from callanalytics.analysis.call import Models, analyze_call
from callanalytics.analysis.frustration import frustration_curve
from callanalytics.audio.source import tolerance_s
from callanalytics.config import AudioSettings, DiscoverySettings, SegmentSettings, Settings, settings_from
from callanalytics.diarize.segments import cut_segments
from callanalytics.errors import TooShort
from callanalytics.ingest import find_recordings, recording_from_files
from callanalytics.records import Role, Turn
from callanalytics.store import RunCounts
from jobs.night.gate import Night, reasons_to_hold

ROOT = Path(__file__).parent
SHOWN_BY = {
    "discovery.settle_s": "ingest/test_settling.py",
    "discovery.lookback_days": "ingest/test_discovery.py",
    "audio.max_duration_s": "audio/test_whole_files.py",
    "audio.max_bytes": "ingest/test_discovery.py",
    "audio.decode_timeout_s": "audio/test_bombs.py",
    "audio.conversation_share": "diarize/test_conversation.py",
    "segments.max_overlap_share": "analysis/test_assess.py",
    "emotion.neutral_share": "ensemble/test_vote.py",
    "frustration.flag_weight": "analysis/test_measures.py",
    "engine.workers": "jobs/test_kills.py",
    "engine.max_attempts": "night/test_night.py",
    "gate.min_calls": "night/test_gate.py",
    "gate.min_done_share": "night/test_gate.py",
    "retrain.margin": "jobs/test_retrain.py",
    "schedule.grace_h": "jobs/test_schedule.py",
    "schedule.retries": "jobs/test_schedule.py",
    "schedule.retry_after_s": "jobs/test_schedule.py",
    "words.time_limit_s": "words/test_recogniser.py",
    "report.clip_context_s": "audio/test_clips.py",
    "report.max_clips_per_call": "audio/test_clips.py",
    "report.max_call_pages": "reports/test_report_structure.py",
}
NOT_SHOWN = {
    "words.max_transcript_bytes": "passed on to read_transcript, whose limit words/test_transcripts.py shows",
    "segments.min_s": "only that it lies below target_s: what is too short to be classified says the card",
    "engine.recording_timeout_s": "passed on to the engines, whose limit night/test_engines.py shows",
    "schedule.ping_timeout_s": "passed on to ping, whose limit jobs/test_service.py shows",
}


def numbers() -> set[str]:
    """`table.key` of every number of the settings."""
    return {
        f"{table}.{key}"
        for table, field in Settings.model_fields.items()
        if isinstance(field.default, BaseModel)
        for key, value in field.default
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def with_(table: str, key: str, value: float) -> Settings:
    return settings_from({table: {key: value}}, source="config.toml", folder=Path())


def score(settings: Settings) -> object:
    """Frustration of a voice that turns angry, disgusted and louder after 60 s."""
    n = 24
    start_s = np.arange(n, dtype=np.float32) * 5
    late = (np.arange(n) >= 12).astype(np.float32)
    anger, disgust = 0.1 + 0.4 * late, 0.05 + 0.2 * late
    loudness_db = -26 + 6 * late + np.arange(n, dtype=np.float32) / 12
    curve = frustration_curve(
        start_s,
        start_s + 3,
        anger,
        disgust,
        loudness_db.astype(np.float32),
        np.full(n, 120, np.float32),
        settings.frustration,
    )
    return None if curve.score is None else round(curve.score, 4)


def n_pieces(duration_s: float) -> Callable[[Settings], object]:
    turn = Turn("a", 0, 0.0, duration_s)
    return lambda settings: len(cut_segments((turn,), {"a": Role.AGENT}, settings.segments))


def is_held(night: Night) -> Callable[[Settings], object]:
    return lambda settings: bool(reasons_to_hold(settings.gate, night))


DAY = datetime(2026, 3, 30, tzinfo=UTC).date()
HALF = Night(
    RunCounts(n_new=200, n_done=200),
    (DAY,),
    {DAY: 200, **{DAY - timedelta(weeks=w): 400 for w in range(1, 9)}},
)
FAILING = Night(RunCounts(n_new=200, n_done=120, n_quarantined=80), (), {})

CASES: dict[str, tuple[Callable[[Settings], object], float, object, float, object]] = {
    # table.key: what is looked at, a value and what it gives, another value and what that gives
    "segments.target_s": (n_pieces(10), 3.0, 3, 2.0, 5),
    "segments.max_s": (n_pieces(3.9), 4.0, 1, 3.5, 2),
    "frustration.anger_weight": (score, 1.0, 0.5089, 0.5, 0.3834),
    "frustration.disgust_weight": (score, 0.5, 0.5089, 0.0, 0.4488),
    "frustration.baseline_s": (score, 15.0, 0.5089, 30.0, 0.4943),
    "frustration.smoothing_s": (score, 12.0, 0.5089, 60.0, 0.2912),
    "gate.min_volume_share": (is_held(HALF), 0.5, False, 0.51, True),
    "gate.max_failed_share": (is_held(FAILING), 0.4, False, 0.39, True),
    "audio.length_tolerance_s": (lambda s: tolerance_s(10, s.audio), 1.0, 1.0, 2.0, 2.0),
    "audio.length_tolerance_share": (lambda s: tolerance_s(100, s.audio), 0.02, 2.0, 0.05, 5.0),
}
BELOW = {"audio.min_duration_s", "discovery.max_sidecar_bytes"}
"""Shown by the tests at the end."""


def test_every_number_is_shown_to_matter() -> None:
    shown = [*SHOWN_BY, *NOT_SHOWN, *CASES, *BELOW]
    assert sorted(shown) == sorted(numbers())
    for name, file in SHOWN_BY.items():
        assert name.partition(".")[2] in (ROOT / file).read_text(encoding="utf-8"), f"{name}: {file}"


@pytest.mark.parametrize("name", CASES)
def test_a_number_decides(name: str) -> None:
    look, one, gives, another, gives_another = CASES[name]
    table, _, key = name.partition(".")
    assert look(with_(table, key, one)) == pytest.approx(gives)
    assert look(with_(table, key, another)) == pytest.approx(gives_another)


@pytest.mark.parametrize(("min_duration_s", "is_call"), [(1.9, True), (2.0, True), (2.1, False)])
def test_a_call_is_no_shorter_than_min_duration_s(
    tmp_path: Path, min_duration_s: float, is_call: bool
) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(16000, np.float32), 8000)
    settings = Settings(audio=AudioSettings(min_duration_s=min_duration_s))
    found = recording_from_files([tmp_path / "a.wav"], settings, now=datetime.now(UTC))
    models = Models.load(None)
    if is_call:
        assert analyze_call(found, settings, models).audio.duration_s == 2
    else:
        with pytest.raises(TooShort, match=r"2\.0 s of sound"):
            analyze_call(found, settings, models)


@pytest.mark.parametrize(("more", "is_read"), [(-1, False), (0, True), (1, True)])
def test_a_sidecar_has_no_more_than_max_sidecar_bytes(tmp_path: Path, more: int, is_read: bool) -> None:
    sf.write(tmp_path / "a.wav", np.zeros(16000, np.float32), 8000)
    sidecar = tmp_path / "a.wav.json"
    sidecar.write_text(json.dumps({"queue": "billing", "filler": "x" * 500}))
    discovery: Any = DiscoverySettings(settle_s=0, max_sidecar_bytes=sidecar.stat().st_size + more)
    found = find_recordings(
        [tmp_path], Settings(discovery=discovery), window=None, now=datetime.now(UTC), salt=b""
    )
    assert [each.facts.queue for each in found.recordings] == ["billing" if is_read else None]


def test_segments_keep_the_order_of_their_lengths() -> None:
    with pytest.raises(ValueError, match="min_s < target_s <= max_s"):
        SegmentSettings(min_s=3.0)

"""The gate: which nights are held back, and that nothing of them is published until they are let through."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import soundfile
from fixture_calls import ZONE

from callanalytics.config import GateSettings, Settings, settings_from
from callanalytics.config.window import Window, parse_window
from callanalytics.store import RunCounts, open_work
from callanalytics.workspace import Workspace
from jobs.maintenance.status import read_status, render_status
from jobs.night import RunOptions
from jobs.night.gate import Night, expected, night_of, reasons_to_hold, whole_days
from jobs.night.run import run_night

pytestmark = pytest.mark.usefixtures("analysed_here")

MONDAY = date(2026, 3, 30)
GATE = GateSettings()


def night(found: int, before: dict[date, int] | None = None, counts: RunCounts | None = None) -> Night:
    weeks = {MONDAY - timedelta(weeks=w): 400 for w in range(1, 9)}
    per_day = {MONDAY: found, **(weeks if before is None else before)}
    return Night(counts or RunCounts(n_new=found, n_done=found), (MONDAY,), per_day)


def test_a_usual_night_passes_and_an_almost_empty_one_does_not() -> None:
    assert reasons_to_hold(GATE, night(380)) == []
    assert reasons_to_hold(GATE, night(80)) == []
    (reason,) = reasons_to_hold(GATE, night(79))
    assert "79 recordings of Monday 2026-03-30 where about 400 are usual" in reason


def test_one_outage_among_the_weeks_before_does_not_move_what_is_usual() -> None:
    weeks = {MONDAY - timedelta(weeks=w): 400 for w in range(1, 9) if w != 3}
    assert expected(night(0, weeks), (MONDAY,)) == 400
    two = {MONDAY - timedelta(weeks=w): 400 for w in (1, 2)}
    assert expected(night(0, two), (MONDAY,)) is None, "two Mondays say nothing yet"
    assert expected(night(0, {}), (MONDAY,)) is None


def test_quiet_weekdays_are_judged_by_themselves() -> None:
    days = {
        MONDAY - timedelta(days=d): 400 if (MONDAY - timedelta(days=d)).weekday() < 5 else 0
        for d in range(1, 57)
    }
    sunday = MONDAY - timedelta(days=1)
    quiet = Night(RunCounts(), (sunday,), {d: n for d, n in days.items() if n})
    assert reasons_to_hold(GATE, quiet) == []
    assert expected(quiet, quiet.days) == 0


def test_two_days_are_expected_together() -> None:
    tuesday = MONDAY + timedelta(days=1)
    before = {d - timedelta(weeks=w): 300 for d in (MONDAY, tuesday) for w in range(1, 9)}
    both = Night(RunCounts(n_new=10, n_done=10), (MONDAY, tuesday), {MONDAY: 10, **before})
    (reason,) = reasons_to_hold(GATE, both)
    assert "Monday 2026-03-30 to Tuesday 2026-03-31 where about 600" in reason


def test_good_days_do_not_hide_that_the_newest_has_nothing() -> None:
    days = tuple(MONDAY - timedelta(days=d) for d in range(6, -1, -1))
    before = {d - timedelta(weeks=w): 300 for d in days for w in range(1, 9)}
    week = dict.fromkeys(days[:-1], 300)
    (reason,) = reasons_to_hold(GATE, Night(RunCounts(n_new=1800, n_done=1800), days, {**before, **week}))
    assert "0 recordings of Monday 2026-03-30 where about 300" in reason
    # A holiday three days ago was judged when it was the newest; it does not hold the nights after it.
    holiday = {**before, **{d: 300 for d in days if d != days[3]}}
    assert reasons_to_hold(GATE, Night(RunCounts(n_new=1800, n_done=1800), days, holiday)) == []


def test_a_day_that_begins_at_one_is_whole() -> None:
    """Where the clock skips midnight: Cairo in spring."""
    zone = ZoneInfo("Africa/Cairo")
    now = datetime(2026, 4, 25, 0, 30, tzinfo=UTC)
    assert whole_days(parse_window("yesterday", None, zone=zone, now=now), zone) == (date(2026, 4, 24),)
    now += timedelta(days=1)
    assert len(whole_days(parse_window("2026-04-20", "today", zone=zone, now=now), zone)) == 6
    window = Window(datetime(2026, 4, 23, 22, 30, tzinfo=UTC), datetime(2026, 4, 25, 21, tzinfo=UTC))
    assert whole_days(window, zone) == (date(2026, 4, 25),), "the 24th lacks its first half hour"


def test_small_nights_are_not_judged_by_shares() -> None:
    small = {MONDAY - timedelta(weeks=w): 99 for w in range(1, 9)}
    assert reasons_to_hold(GATE, night(0, small)) == []
    assert reasons_to_hold(GATE, night(1, {}, RunCounts(n_new=99, n_done=1, n_quarantined=98))) == []
    (reason,) = reasons_to_hold(GATE, night(40, {}, RunCounts(n_new=100, n_done=40, n_quarantined=60)))
    assert "60 of 100 recordings could not be analysed" in reason


def test_a_used_budget_is_judged_only_when_asked() -> None:
    partial = night(400, counts=RunCounts(n_new=400, n_done=100))
    assert reasons_to_hold(GATE, partial) == []
    (reason,) = reasons_to_hold(GateSettings(min_done_share=0.5), partial)
    assert "25% of 400 recordings done" in reason


@pytest.mark.parametrize(
    ("since", "until", "n_days"),
    [
        ("2026-03-28T00", "2026-03-31T00", 3),
        ("2026-03-29T12", "2026-03-31T06", 1),
        ("2000-01-01T00", "2026-01-01T00", 0),
    ],
)
def test_whole_days_over_the_clock_change(since: str, until: str, n_days: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    moments = [
        datetime.fromisoformat(f"{text}:00").replace(tzinfo=zone).astimezone(UTC) for text in (since, until)
    ]
    assert len(whole_days(Window(*moments), zone)) == n_days


@pytest.mark.parametrize(("n_days", "n_whole"), [(0.5, 0), (1, 1), (31, 31), (32, 0)])
def test_a_window_of_more_than_a_month_is_no_night(n_days: float, n_whole: int) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    found = whole_days(Window(since, since + timedelta(days=n_days)), ZoneInfo("UTC"))
    assert found == tuple(date(2026, 1, 1) + timedelta(days=d) for d in range(n_whole))


@pytest.mark.parametrize(("usual", "is_held"), [(99, False), (100, True), (101, True)])
def test_a_night_is_judged_from_the_smallest_number_on(usual: int, is_held: bool) -> None:
    before = {MONDAY - timedelta(weeks=w): usual for w in range(1, 9)}
    assert bool(reasons_to_hold(GATE, night(0, before))) is is_held


def test_usual_are_the_same_weekdays_of_eight_weeks_and_none_before_the_first() -> None:
    def usual(weeks: dict[int, int]) -> float | None:
        return expected(night(7, {MONDAY - timedelta(weeks=w): n for w, n in weeks.items()}), (MONDAY,))

    assert usual({1: 10, 2: 20, 3: 30}) == 20, "three are enough, and the first known week is one"
    assert usual({1: 10, 2: 20, 3: 90, 4: 90}) == 55
    assert usual(dict(enumerate([10, 10, 10, 10, 90, 90, 90, 90], start=1))) == 50, "the eighth counts"
    assert usual({**dict(enumerate([10] * 4 + [90] * 4, start=1)), 9: 10_000}) == 50, "the ninth does not"


@pytest.mark.parametrize(("n_failed", "is_held"), [(49, False), (50, False), (51, True)])
def test_more_than_the_share_that_may_fail_is_needed(n_failed: int, is_held: bool) -> None:
    counts = RunCounts(n_new=100, n_done=100 - n_failed, n_quarantined=n_failed)
    assert bool(reasons_to_hold(GATE, night(400, {}, counts))) is is_held


@pytest.mark.parametrize(("n_done", "is_held"), [(49, True), (50, False), (51, False)])
def test_the_share_that_must_be_done_is_enough(n_done: int, is_held: bool) -> None:
    partial = night(400, counts=RunCounts(n_new=100, n_done=n_done))
    assert bool(reasons_to_hold(GateSettings(min_done_share=0.5), partial)) is is_held


def test_days_that_are_held_back_are_named_from_first_to_last() -> None:
    days = tuple(MONDAY + timedelta(days=d) for d in range(3))
    before = {d - timedelta(weeks=w): 300 for d in days for w in range(1, 9)}
    (reason,) = reasons_to_hold(GATE, Night(RunCounts(), days, before))
    assert reason.startswith("0 recordings of Monday 2026-03-30 to Wednesday 2026-04-01 where about 900")


def test_why_a_night_is_held_is_said_in_whole_sentences() -> None:
    counts = RunCounts(n_new=400, n_done=40, n_quarantined=60)
    assert reasons_to_hold(GateSettings(min_done_share=0.9), night(79, counts=counts)) == [
        "79 recordings of Monday 2026-03-30 where about 400 are usual: less than 20%. "
        "Is a recorder down, or a folder not mounted?",
        "60 of 100 recordings could not be analysed, more than 50%. The quarantine says why.",
        "the time budget was used with 25% of 400 recordings done, less than 90%. "
        "Run again to go on, or raise [engine] time_budget_s",
    ]


def test_without_days_or_new_recordings_nothing_is_held() -> None:
    assert reasons_to_hold(GateSettings(min_done_share=0.5), Night(RunCounts(), (), {MONDAY: 400})) == []
    assert expected(Night(RunCounts(), (MONDAY,), {MONDAY: 400}), (MONDAY,)) is None, (
        "nothing is known before"
    )
    nothing_wanted = RunCounts(n_new=0, n_done=0)
    assert reasons_to_hold(GateSettings(min_done_share=1.0), night(400, counts=nothing_wanted)) == []


def test_days_of_the_window_are_not_what_is_usual_for_each_other() -> None:
    """A window of two weeks, of which the first was an outage."""
    days = (MONDAY - timedelta(weeks=1), MONDAY)
    before = {MONDAY - timedelta(weeks=w): 100 * w for w in range(2, 6)}
    both = Night(RunCounts(), days, {days[0]: 7, MONDAY: 9, **before})
    assert expected(both, days) == 350 + 350
    assert expected(both, days[-1:]) == 350


def test_of_a_night_is_known_what_there_is_by_local_day_and_of_eight_weeks_before(
    plausible_out: Path, tmp_path: Path
) -> None:
    """Recordings in quarantine are counted; one that was analysed later is counted once."""
    zone = ZoneInfo(ZONE)
    window = parse_window("2025-03-31", "2025-04-02", zone=zone, now=datetime(2025, 4, 3, tzinfo=UTC))
    shutil.copytree(plausible_out, tmp_path / "out")
    with open_work(Workspace(tmp_path / "out")) as store:
        analysed = store.connection.execute("SELECT recording_id, started_local FROM base.calls").fetchall()
        failed = store.connection.execute(
            "SELECT recording_id, started_local FROM base.quarantine"
        ).fetchall()
        store.connection.execute(
            "UPDATE base.quarantine SET recording_id = ? WHERE recording_id = ?",
            [analysed[0][0], failed[0][0]],
        )
        counts = RunCounts(n_new=3)
        found = night_of(store, window, zone, counts)
        nothing = night_of(store, Window(window.since, window.since + timedelta(hours=3)), zone, counts)
    first, last = date(2025, 2, 3), date(2025, 4, 1)
    days = [started_at.date() for _, started_at in [*analysed, *failed[1:]]]
    assert (found.counts, found.days) == (counts, (date(2025, 3, 31), last))
    assert found.per_day == Counter(day for day in days if first <= day <= last)
    assert len(failed) > 1
    assert found.per_day.keys() > set(found.days)
    assert nothing == Night(counts, (), {}), "no whole day lies in it"


def call(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    soundfile.write(path, rng.normal(0, 1e-3, (8000 * 4, 2)), 8000)
    old = time.time() - 3600
    os.utime(path, (old, old))


def settings(folder: Path) -> Settings:
    table = {"gate": {"min_calls": 3}, "engine": {"workers": 1}, "report": {"max_call_pages": 0}}
    return settings_from(table, source="config.toml", folder=folder)


def test_a_held_night_is_kept_but_not_published_until_let_through(tmp_path: Path) -> None:
    calls, out = tmp_path / "calls", tmp_path / "out"
    calls.mkdir()
    call(calls / "good.wav", 1)
    for name in ("a", "b", "c"):
        (calls / f"{name}.wav").write_text(f"{name} is no call\n" * 40)
        old = time.time() - 3600
        os.utime(calls / f"{name}.wav", (old, old))
    options = RunOptions(since="2d", inputs=(calls,), out=out)
    result = run_night(settings(tmp_path), options)
    assert result.exit_code == 8
    assert "3 of 4 recordings could not be analysed" in result.held[0]
    assert not (out / "callanalytics.duckdb").exists()
    assert not (out / "reports" / "index.html").exists()
    status = read_status(Workspace(out))
    assert status["runs"][0]["exit_code"] == 8
    assert "NOT PUBLISHED" in render_status(status, UTC)
    json.dumps(status)
    forced = run_night(settings(tmp_path), RunOptions(since="2d", inputs=(calls,), out=out, no_gate=True))
    assert forced.exit_code == 3
    assert forced.counts.n_done == 0, "nothing is analysed twice"
    assert (out / "callanalytics.duckdb").exists()
    assert (out / "reports" / "index.html").exists()
    assert Workspace(out).held is None
    assert read_status(Workspace(out))["totals"]["n_calls"] == 1


def test_a_night_that_looks_usual_publishes_what_was_held(tmp_path: Path) -> None:
    calls, out = tmp_path / "calls", tmp_path / "out"
    calls.mkdir()
    for name in ("a", "b", "c"):
        (calls / f"{name}.wav").write_text(f"{name} is no call\n" * 40)
        os.utime(calls / f"{name}.wav", (time.time() - 3600,) * 2)
    options = RunOptions(since="2d", inputs=(calls,), out=out)
    assert run_night(settings(tmp_path), options).exit_code == 8
    for seed in range(4):
        call(calls / f"good{seed}.wav", seed)
    assert run_night(settings(tmp_path), options).exit_code == 3
    assert Workspace(out).held is None
    assert read_status(Workspace(out))["totals"]["n_calls"] == 4

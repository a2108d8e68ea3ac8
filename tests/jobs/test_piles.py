"""The review queue's piles, its misses and thresholds, against what the fixture's calls say by themselves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fixture_calls import RULES, ZONE, assessed, fill, plausible_calls, with_sides

from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.contrast import N_NEAR, is_control
from callanalytics.analysis.escalation import escalations, is_flagged
from callanalytics.analysis.words import CallWords, Utterance
from callanalytics.config import Settings, TimeSettings
from callanalytics.config.job_settings import NotifySettings
from callanalytics.config.window import Window
from callanalytics.records import Escalation, Evidence, Role
from callanalytics.store import Review, open_work, publish
from callanalytics.workspace import Workspace
from jobs.app.context import AppContext
from jobs.reviews.piles import (
    PERCENTS,
    QueuedCall,
    read_misses,
    read_queue,
    read_session,
    read_thresholds,
    verdicts_of,
    window_of,
)
from jobs.scheduler.notify import brief_message
from reports.report_source import Source

SETTINGS = Settings(time=TimeSettings(zone=ZONE), rule=RULES)


def published(folder: Path, calls: list[CallAnalysis]) -> Workspace:
    """These calls, published without any review."""
    workspace = Workspace(folder)
    with open_work(workspace) as store:
        fill(store, calls)
        store.connection.execute("DELETE FROM base.reviews")
        publish(store)
    return workspace


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    return plausible_calls()


@pytest.fixture(scope="module")
def made(calls: list[CallAnalysis], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return published(tmp_path_factory.mktemp("piles") / "out", calls)


@pytest.fixture
def source(made: Workspace) -> Iterator[Source]:
    with AppContext(SETTINGS, made).calls.reading() as reading:
        yield reading


def queue_of(workspace: Workspace, **waiting: str) -> dict[str, QueuedCall]:
    with AppContext(SETTINGS, workspace).calls.reading() as reading:
        return {call.call_id: call for call in read_queue(reading, window_of(reading, 0), waiting)}


def test_flagged_calls_controls_and_the_five_nearest_are_queued(
    source: Source, calls: list[CallAnalysis]
) -> None:
    found = read_queue(source, window_of(source, 0), {})
    flagged = {c.recording.call_id for c in calls if c.assessment.flagged}
    unflagged = {c.recording.call_id for c in calls} - flagged
    control = set(filter(is_control, unflagged))
    below = [c for c in calls if c.recording.call_id not in flagged | control]
    near = sorted(below, key=lambda c: c.assessment.curve.score or 0.0, reverse=True)[:N_NEAR]
    near = [c for c in near if (c.assessment.curve.score or 0.0) >= 0.25]
    assert flagged
    assert control
    assert {c.call_id for c in found} == flagged | control | {c.recording.call_id for c in near}
    assert {c.call_id for c in found if c.pile == "control"} == control
    assert [c.pile for c in found] == sorted(
        (c.pile for c in found), key=["sure", "disputed", "control"].index
    )


def test_each_dispute_is_named(calls: list[CallAnalysis], tmp_path: Path) -> None:
    flagged = [c for c in calls if c.assessment.flagged and len(c.assessment.escalations[0].evidence) > 1][:4]
    agreed = [replace(c, votes=replace(c.votes, agreement=c.votes.agreement * 0 + 1)) for c in flagged]
    clear, near, split, conflict = agreed
    rule = near.assessment.escalations[0]
    barely = assessed(near, escalations=(replace(rule, value=rule.threshold * 1.02),))
    divided = replace(split, votes=replace(split.votes, agreement=split.votes.agreement * 0 + 0.4))
    unclear = replace(
        conflict, speech=replace(conflict.speech, quality=("role_conflict",), role_confidence=0.6)
    )
    found = queue_of(published(tmp_path / "out", [clear, barely, divided, unclear]))
    assert found[clear.recording.call_id].pile == "sure"
    for call, words in (
        (barely, f"Only just flagged: {rule.reason}."),
        (divided, "The models disagree: 40% of them share the vote in its moments."),
        (unclear, "Agent and caller may be exchanged: 60% sure who is who."),
    ):
        assert found[call.recording.call_id].pile == "disputed"
        assert found[call.recording.call_id].why == (words,)


def test_a_verdict_counts_wherever_it_waits_and_the_newest_counts(
    made: Workspace, calls: list[CallAnalysis], tmp_path: Path
) -> None:
    first, second, third, *_ = (c.recording.call_id for c in calls if c.assessment.flagged)
    out = Workspace(shutil.copytree(made.folder, tmp_path / "out"))
    with open_work(out) as store:
        store.review(Review(first, "reject", reviewer="ana"))
        store.review(Review(first, "confirm", reviewer="ben"))
        store.review(Review(second, "confirm", rule="frustrated", reviewer="ana"))
        publish(store)
    found = queue_of(out, **{third: "unsure"})
    assert [found[call_id].verdict for call_id in (first, second, third)] == ["confirm", None, "unsure"]
    assert queue_of(out, **{first: "unsure"})[first].verdict == "unsure"
    waiting = [Review(first, "confirm"), Review(first, "reject"), Review(second, "confirm", segment=0)]
    assert verdicts_of(waiting) == {first: "reject"}


def test_misses_are_the_share_of_controls_that_were_worth_flagging(
    source: Source, calls: list[CallAnalysis]
) -> None:
    assert "No control has been judged yet" in read_misses(source, {}).text
    controls = [c.call_id for c in read_queue(source, window_of(source, 0), {}) if c.pile == "control"]
    assert len(controls) >= 5
    other = next(c.recording.call_id for c in calls if c.assessment.flagged)
    waiting = {controls[0]: "confirm", other: "confirm", controls[4]: "unsure"}
    waiting |= dict.fromkeys(controls[1:4], "reject")
    found = read_misses(source, waiting)
    assert (found.n_judged, found.n_worth) == (4, 1)
    assert found.low is not None
    assert found.high is not None
    assert 0.0 < found.low < 0.25 < found.high < 0.8
    assert found.text.startswith("Of 4 judged controls 1 was worth flagging: 25%")


def test_each_threshold_flags_what_the_rules_flag(source: Source, calls: list[CallAnalysis]) -> None:
    """The truth: the real rules, with that threshold, on every call."""
    found = read_thresholds(source, window_of(source, 0), {})
    assert found is not None
    assert found.now_percent == 50.0
    counts = []
    for percent in PERCENTS:
        rules = (RULES[0].model_copy(update={"at_least": percent / 100}), *RULES[1:])
        flagged = [
            is_flagged(
                escalations(
                    rules, c.assessment.measures, c.speech, c.segments, c.assessment.curve, c.audio.duration_s
                ),
                1.0,
            )
            for c in calls
        ]
        counts.append(sum(flagged))
    assert list(found.n_flagged) == counts
    assert len(set(counts)) > 10, "the truth moves with the threshold"


def test_of_the_judged_the_share_that_was_worth_it(source: Source, calls: list[CallAnalysis]) -> None:
    ranked = sorted(calls, key=lambda c: c.assessment.curve.score or 0.0, reverse=True)
    waiting = {c.recording.call_id: "reject" for c in ranked[:30]}
    waiting |= {c.recording.call_id: "confirm" for c in ranked[:6]}
    waiting[ranked[30].recording.call_id] = "unsure"
    found = read_thresholds(source, window_of(source, 0), waiting)
    assert found is not None
    assert (found.n_judged[0], found.n_worth[0]) == (30, 6)
    at = next(i for i, p in enumerate(PERCENTS) if p / 100 > (ranked[6].assessment.curve.score or 0.0))
    assert found.n_judged[at] == found.n_worth[at] > 0


def test_other_rules_keep_a_call_flagged_and_too_little_speech_keeps_it_out(tmp_path: Path) -> None:
    loud, short, *_ = (c for c in plausible_calls() if c.assessment.flagged)
    silence = Escalation("long_silence", 1.0, 60.0, 45.0, "dead air", (Evidence(1.0, 50.0, "nobody speaks"),))
    always = assessed(loud, escalations=(*loud.assessment.escalations, silence))
    measures = tuple(
        replace(m, value=2.0) if (m.name, m.role, m.period) == ("labelled_s", Role.CALLER, "call") else m
        for m in short.assessment.measures
    )
    never = assessed(short, measures=measures, escalations=(), flagged=False)
    workspace = published(tmp_path / "out", [always, never])
    with AppContext(SETTINGS, workspace).calls.reading() as reading:
        found = read_thresholds(reading, window_of(reading, 0), {})
    assert found is not None
    assert set(found.n_flagged) == {1}


def test_an_unknown_voice_counts_by_its_own_speech(tmp_path: Path) -> None:
    call = next(c for c in plausible_calls() if c.assessment.flagged)
    unknown = with_sides(call, speaker_0=Role.UNKNOWN, speaker_1=Role.UNKNOWN)
    score = unknown.assessment.curve.score
    assert unknown.assessment.curve.voice is not None
    assert score is not None
    workspace = published(tmp_path / "out", [assessed(unknown, escalations=(), flagged=False)])
    with AppContext(SETTINGS, workspace).calls.reading() as reading:
        found = read_thresholds(reading, window_of(reading, 0), {})
    assert found is not None
    assert list(found.n_flagged) == [int(percent / 100 <= score) for percent in PERCENTS]


def test_without_the_rule_there_is_no_threshold(made: Workspace) -> None:
    settings = SETTINGS.model_copy(update={"rule": RULES[1:]})
    with AppContext(settings, made).calls.reading() as reading:
        assert read_thresholds(reading, window_of(reading, 0), {}) is None


def test_the_days_are_those_that_hold_calls(source: Source, calls: list[CallAnalysis]) -> None:
    newest = max(c.facts.started_at for c in calls)
    run, week, everything = (window_of(source, days) for days in (None, 7, 0))
    assert run.since <= everything.since
    assert week.until > newest
    inside = [c for c in calls if week.since <= c.facts.started_at < week.until]
    assert len(inside) == 7 * 6
    assert all(everything.since <= c.facts.started_at < everything.until for c in calls)


def test_a_session_is_one_paragraph(source: Source, calls: list[CallAnalysis]) -> None:
    week = window_of(source, 7)
    flagged = [
        c.recording.call_id for c in calls if c.assessment.flagged and c.facts.started_at >= week.since
    ]
    flagged = [*flagged[:3], flagged[-1]]
    control = next(c.call_id for c in read_queue(source, week, {}) if c.pile == "control")
    verdicts = dict(zip(flagged, ("confirm", "confirm", "reject", "unsure"), strict=True))
    verdicts[control] = "confirm"
    found = read_session(source, verdicts, "Ana")
    assert found.sentences[0].startswith("Ana judged 5 calls of ")
    assert found.sentences[1] == "Of 4 flagged calls 2 were worth it (67%), 1 was not, 1 could not be told."
    assert found.sentences[2] == "Of 1 unflagged call 1 was worth flagging."
    assert found.sentences[3] == "No queue clearly moved against the week before."
    assert {m.call_id for m in found.moments} == {*flagged[:2], control}
    assert read_session(source, {}, "Ana").sentences == ("Ana judged no call.",)
    assert read_session(source, {"0" * 16: "confirm"}, "Ana").sentences == ("Ana judged no call.",)


def speaking(calls: list[CallAnalysis], text: str) -> list[CallAnalysis]:
    """The calls, where the flagged ones say this in their first moment, and nothing else is known of them."""

    def words(call: CallAnalysis) -> CallWords:
        at = call.assessment.escalations[0].evidence[0]
        return CallWords((Utterance(None, Role.CALLER, at.start_s, at.end_s, text, "text"),))

    return [replace(call, words=words(call)) if call.assessment.flagged else call for call in calls]


def test_what_is_forwarded_quotes_the_words_of_a_moment(calls: list[CallAnalysis], tmp_path: Path) -> None:
    flagged = [c.recording.call_id for c in calls if c.assessment.flagged][:2]
    made = published(tmp_path / "out", speaking(calls, "this is the third time"))
    with AppContext(SETTINGS, made).calls.reading() as source:
        found = read_session(source, dict.fromkeys(flagged, "confirm"), "Ana")
    assert [moment.text.count("“this is the third time”") for moment in found.moments] == [1, 1]
    days = Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
    for redact in (False, True):
        settings = SETTINGS.model_copy(update={"notify": NotifySettings(redact=redact)})
        message = brief_message(settings, made, days)
        assert ("third time" in message.text, "third time" in message.html) == (not redact, not redact)

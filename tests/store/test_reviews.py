"""What people say about calls: kept as said, refused when it cannot be meant, counted once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fixture_calls import ENSEMBLE_ID, LABELS, MEMBERS, RULES, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config.window import Window
from callanalytics.errors import UsageError
from callanalytics.store import Review, Store, open_work
from callanalytics.workspace import Workspace


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    return plausible_calls(3, 4)


@pytest.fixture(scope="module")
def written(empty_out: Path, tmp_path_factory: pytest.TempPathFactory, calls: list[CallAnalysis]) -> Path:
    out = shutil.copytree(empty_out, tmp_path_factory.mktemp("written") / "out")
    with open_work(Workspace(out)) as opened:
        opened.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
        opened.promote_ensemble(ENSEMBLE_ID)
        window = Window(calls[0].facts.started_at, calls[-1].facts.started_at)
        opened.write(calls, opened.begin_run(window, ENSEMBLE_ID, "0.1.0"))
    return out


@pytest.fixture
def store(written: Path, tmp_path: Path):
    with open_work(Workspace(shutil.copytree(written, tmp_path / "out"))) as opened:
        yield opened


def rows(store: Store, sql: str, *values: object) -> list[tuple[object, ...]]:
    return store.connection.execute(sql, list(values)).fetchall()


def spoken(call: CallAnalysis, *, abstained: bool) -> int:
    """Number of a segment that the vote labelled, or abstained on."""
    return next(i for i, index in enumerate(call.votes.emotion_index) if bool(index < 0) is abstained)


def test_a_confirmed_segment_is_remembered_with_its_place_and_emotion(
    store: Store, calls: list[CallAnalysis]
) -> None:
    call = calls[0]
    number = spoken(call, abstained=False)
    segment, voted = call.segments[number], LABELS[call.votes.emotion_index[number]]
    first = store.review(Review(call.recording.call_id, "confirm", segment=number, reviewer="eve"))
    assert store.review(Review(call.recording.call_id, "unsure")) == first + 1
    assert rows(store, "SELECT segment, voted, emotion, channel, start_s, end_s, role, speaker, reviewer"
                       " FROM reviewed_segments") == [
        (number, voted, voted, segment.channel, segment.start_s, segment.end_s, segment.role.value,
         segment.speaker, "eve")
    ]  # fmt: skip


def test_the_newest_review_of_a_segment_counts(store: Store, calls: list[CallAnalysis]) -> None:
    key, number = calls[0].recording.call_id, spoken(calls[0], abstained=False)
    voted = LABELS[calls[0].votes.emotion_index[number]]
    heard = "sad" if voted != "sad" else "anger"
    store.review(Review(key, "confirm", segment=number))
    store.review(Review(key, "reject", segment=number, emotion=heard))
    assert rows(store, "SELECT emotion::VARCHAR, precision, n_rejected FROM emotion_precision") == [
        (voted, 0.0, 1)
    ]
    assert rows(store, "SELECT emotion::VARCHAR FROM reviewed_segments") == [(heard,)]


def test_an_emotion_heard_where_the_ensemble_abstained_is_kept(
    store: Store, calls: list[CallAnalysis]
) -> None:
    call = next(c for c in calls if min(c.votes.emotion_index) < 0)
    number = spoken(call, abstained=True)
    store.review(Review(call.recording.call_id, "reject", segment=number, emotion="surprise"))
    assert rows(store, "SELECT voted, emotion::VARCHAR FROM reviewed_segments") == [(None, "surprise")]
    assert rows(store, "FROM emotion_precision") == []
    with pytest.raises(UsageError, match="abstained"):
        store.review(Review(call.recording.call_id, "confirm", segment=number))


def test_reviews_of_segments_do_not_judge_rules(store: Store, calls: list[CallAnalysis]) -> None:
    flagged = next(call for call in calls if call.assessment.flagged)
    store.review(Review(flagged.recording.call_id, "reject", segment=spoken(flagged, abstained=False)))
    assert rows(store, "SELECT sum(n_confirmed + n_rejected + n_unsure) FROM rule_precision") == [(0,)]
    store.review(Review(flagged.recording.call_id, "confirm"))
    n_fired = len(flagged.assessment.escalations)
    assert rows(store, "SELECT sum(n_confirmed) FROM rule_precision") == [(n_fired,)]


def test_flags_and_missed_calls_are_judged_apart(store: Store, calls: list[CallAnalysis]) -> None:
    for call in calls[:6]:
        store.review(Review(call.recording.call_id, "confirm" if call.assessment.flagged else "reject"))
    missed = next(call for call in calls[:6] if not call.assessment.flagged)
    store.review(Review(missed.recording.call_id, "confirm"))
    n_flagged = sum(call.assessment.flagged for call in calls[:6])
    assert rows(store, "SELECT flagged, worth_share, n_confirmed FROM flag_precision") == [
        (True, 1.0, n_flagged),
        (False, pytest.approx(1 / (6 - n_flagged)), 1),
    ]


def test_a_rule_that_fired_can_be_reviewed_by_name(store: Store, calls: list[CallAnalysis]) -> None:
    flagged = next(call for call in calls if call.assessment.flagged)
    fired = flagged.assessment.escalations[0].rule
    store.review(Review(flagged.recording.call_id, "reject", rule=fired))
    assert rows(store, "SELECT n_rejected FROM rule_precision WHERE rule = ?", fired) == [(1,)]
    silent = next(r.name for r in RULES if r.name not in {e.rule for e in flagged.assessment.escalations})
    with pytest.raises(UsageError, match=f"'{silent}' did not fire on it. Fired: .*{fired}"):
        store.review(Review(flagged.recording.call_id, "reject", rule=silent))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"call_id": "nobody"}, "no call 'nobody'"),
        ({"verdict": "right"}, "expected one of confirm, reject, unsure"),
        ({"segment": 0, "emotion": "hungry"}, "expected one of anger"),
        ({"emotion": "anger"}, "say which"),
        ({"segment": 0, "rule": "frustrated"}, "not both"),
        ({"segment": 10_000}, "no segment 10000"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_kept(
    store: Store, calls: list[CallAnalysis], wrong: dict[str, object], words: str
) -> None:
    meant: dict[str, object] = {"call_id": calls[0].recording.call_id, "verdict": "reject", **wrong}
    with pytest.raises(UsageError, match=words):
        store.review(Review(**meant))  # type: ignore[arg-type]
    assert rows(store, "FROM reviews") == []
    store.review(Review(calls[0].recording.call_id, "unsure"))  # usable after a refusal


def test_confirming_another_emotion_than_the_voted_one_is_a_reject(
    store: Store, calls: list[CallAnalysis]
) -> None:
    number = spoken(calls[0], abstained=False)
    voted = LABELS[calls[0].votes.emotion_index[number]]
    other = next(label for label in LABELS if label != voted)
    with pytest.raises(UsageError, match=f"the vote is {voted}; hearing {other} is a reject"):
        store.review(Review(calls[0].recording.call_id, "confirm", segment=number, emotion=other))

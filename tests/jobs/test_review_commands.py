"""Reviews: one queue for the command line and the app, taken in by a run, and asked for wisely."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_line import Done, run_command
from fixture_calls import plausible_calls
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.errors import UsageError
from callanalytics.records import RoleEvidence, RoleSource
from callanalytics.store import Review, open_work, publish
from callanalytics.workspace import Workspace
from jobs.app.call_views import player_view
from jobs.app.published import PublishedCalls
from jobs.reviews import give, next_calls, read_csv, render_worth
from jobs.reviews.queue import put, read_reviews, take_back, take_in, waiting, waiting_reviews


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    return plausible_calls()


@pytest.fixture(scope="module")
def made(plausible_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A published output folder without any review."""
    made = Workspace(shutil.copytree(plausible_out, tmp_path_factory.mktemp("unreviewed") / "out"))
    with open_work(made) as store:
        store.connection.execute("DELETE FROM base.reviews")
        publish(store)
    return made


@pytest.fixture
def out(made: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(made.folder, tmp_path / "out"))


def ended_run(out: Workspace) -> None:
    """What the end of a run does with the queue."""
    with open_work(out) as store:
        take_in(store, out)
        publish(store)


def kept(
    out: Workspace, sql: str = "SELECT call_id, verdict FROM base.reviews ORDER BY review_id"
) -> list[Any]:
    with duckdb.connect(str(out.work_database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def published(out: Workspace, sql: str) -> list[Any]:
    with duckdb.connect(str(out.database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def cli(out: Workspace, *args: str, expect: int = 0) -> Done:
    return run_command("review", *args, "--out", out, expect=expect)


def test_a_review_waits_and_is_published_with_the_next_run(out: Workspace, calls: list[CallAnalysis]) -> None:
    call_id = calls[0].recording.call_id
    done = cli(out, call_id[:12], "--verdict", "confirm", "--note", "shouting")
    assert call_id in done.stderr
    assert "next run" in done.stderr
    (path,) = waiting(out)
    assert path.stat().st_mode & 0o777 == 0o600
    assert published(out, "FROM reviews") == []
    ended_run(out)
    assert published(out, "SELECT call_id, note FROM reviews") == [(call_id, "shouting")]
    assert waiting(out) == []


def test_the_id_and_the_other_words_do_not_clash(out: Workspace, calls: list[CallAnalysis]) -> None:
    call_id = calls[0].recording.call_id
    cli(out, "--verdict", "reject", call_id)
    assert [(r.call_id, r.verdict) for r in waiting_reviews(out)] == [(call_id, "reject")]
    cli(out, "next", "--count", "1")
    cli(out, "abc", "--verdict", "maybe", expect=2)
    assert "no call '0123'" in cli(out, "0123", "--verdict", "confirm", expect=2).stderr


def shown_in_app(out: Workspace, call_id: str) -> dict[str, str]:
    """What the player of the app says about the call (under "call") and its segments."""
    opened = PublishedCalls(Settings(), out).open(call_id)
    mine = [review for review in waiting_reviews(out) if review.call_id == call_id]
    found: dict[str, str] = player_view(opened, mine, ("anger", "sad"), [], "")["reviewed"]
    return found


def test_the_command_line_and_the_app_share_one_queue(out: Workspace) -> None:
    first, second = next_calls(out, 2)
    cli(out, first.call_id, "--verdict", "confirm", "--by", "eve")
    assert shown_in_app(out, first.call_id) == {"call": "worth flagging (for the next run)"}
    with out.lock():  # also while a run is at work
        segment = second.moments[0]["segment"]
        give(out, [Review(second.call_id, "reject", segment=segment, emotion="fear")])
        cli(out, second.call_id, "--verdict", "reject", "--by", "eve")
    assert shown_in_app(out, second.call_id) == {
        str(segment): "you hear fear (for the next run)",
        "call": "not worth flagging (for the next run)",
    }
    assert not {first.call_id, second.call_id} & {call.call_id for call in next_calls(out, 1000)}


def test_the_last_review_of_a_person_is_taken_back(out: Workspace, calls: list[CallAnalysis]) -> None:
    first, second, third = (call.recording.call_id for call in calls[:3])
    for call_id, by in ((first, "ana"), (second, "ana"), (third, "ben")):
        give(out, [Review(call_id, "confirm", reviewer=by)])
    done = run_command("review", "undo", "--by", "ana", "--out", out.folder)
    assert second in done.stderr + done.stdout
    assert {r.call_id for r in waiting_reviews(out)} == {first, third}
    assert take_back(out, call_id=third, reviewer="ana") == []
    assert [r.call_id for r in take_back(out, call_id=third, reviewer="ben")] == [third]
    run_command("review", "undo", "--by", "ana", "--out", out.folder)
    refused = run_command("review", "undo", "--by", "ana", "--out", out.folder, expect=2)
    assert "no review of ana waits" in refused.stderr
    give(out, [Review(first, "confirm", reviewer="ana")])
    ended_run(out)
    assert (
        "overruled by a new one"
        in run_command("review", "undo", "--by", "ana", "--out", out.folder, expect=2).stderr
    )
    assert kept(out) == [(first, "confirm")]


def test_an_import_is_taken_back_as_a_whole(
    out: Workspace, calls: list[CallAnalysis], tmp_path: Path
) -> None:
    give(out, [Review(call.recording.call_id, "reject", reviewer="ana") for call in calls[:4]])
    assert take_back(out, call_id=calls[0].recording.call_id, reviewer="ana") == []
    assert len(waiting_reviews(out)) == 4
    done = run_command("review", "undo", "--by", "ana", "--out", out.folder)
    assert "import of 4 reviews" in done.stderr + done.stdout
    assert waiting_reviews(out) == []


def test_a_segment_that_waits_is_not_asked_about_again(out: Workspace) -> None:
    (call,) = next_calls(out)
    segments = [moment["segment"] for moment in call.moments]
    give(out, [Review(call.call_id, "unsure", segment=segments[0])])
    again = next(c for c in next_calls(out, 1000) if c.call_id == call.call_id)
    assert len(again.moments) > 0
    assert segments[0] not in [moment["segment"] for moment in again.moments]


def test_the_same_review_is_kept_once_wherever_it_is_given(out: Workspace) -> None:
    (call,) = next_calls(out)
    confirmed = next(m["segment"] for m in call.moments if not m["abstained"])
    answer = [call.call_id, "--segment", str(confirmed), "--verdict", "confirm", "--by", "eve"]
    assert "Given before" not in cli(out, *answer).stderr
    for _ in range(2):  # while it waits, and when it is published
        assert "Given before and kept once: 1" in cli(out, *answer).stderr
        assert give(out, [Review(call.call_id, "confirm", segment=confirmed, reviewer="eve")]).n_known == 1
        ended_run(out)
        assert len(published(out, "FROM reviews")) == 1


def test_a_changed_mind_a_new_note_and_another_person_count(out: Workspace) -> None:
    (call,) = next_calls(out)
    said = [
        Review(call.call_id, "confirm", reviewer="eve"),
        Review(call.call_id, "reject", reviewer="eve"),
        Review(call.call_id, "confirm", reviewer="eve"),
        Review(call.call_id, "confirm", reviewer="eve", note="twice"),
        Review(call.call_id, "confirm", reviewer="ada", note="twice"),
    ]
    assert [give(out, [review]).n_known for review in said] == [0] * 5
    assert give(out, said[3:]).n_known == 2
    assert len(waiting_reviews(out)) == 5


def test_a_review_counts_from_when_it_was_given(out: Workspace, calls: list[CallAnalysis]) -> None:
    give(out, [Review(calls[0].recording.call_id, "confirm", reviewer="eve")])
    (review,) = waiting_reviews(out)
    with open_work(out) as store:
        assert take_in(store, out).n_taken == 1
        assert take_in(store, out).n_taken == 0
    assert review.reviewed_at is not None
    given_us = round(review.reviewed_at.timestamp() * 1e6)
    assert kept(out, "SELECT reviewer, epoch_us(reviewed_at) FROM base.reviews") == [("eve", given_us)]


def test_commands_of_next_run_as_printed(out: Workspace, tmp_path: Path) -> None:
    """A folder's name may hold what a shell would read otherwise."""
    odd = Workspace(out.folder.rename(tmp_path / "it's a $HOME of calls"))
    printed = cli(odd, "next").stdout
    commands = [line.strip() for line in printed.splitlines() if line.strip().startswith("callanalytics ")]
    assert len(commands) == 2
    for command in commands:
        run_command(*shlex.split(command)[1:])
    assert sorted(r.segment is None for r in waiting_reviews(odd)) == [False, True]


def test_what_cannot_be_taken_in_is_refused_and_stops_nothing(
    out: Workspace, calls: list[CallAnalysis]
) -> None:
    put(out, [Review("00ff00ff", "confirm")])
    (out.review_queue / "a.json").write_text("[" * 5000)
    (out.review_queue / "b.json").write_text('{"call_id": 3, "verdict": "confirm"}')
    (out.review_queue / "c.json").write_text('{"call_id": "x", "verdict": "confirm", "exec": "rm"}')
    (out.review_queue / "d.json").write_text(" " * 70_000)
    (out.review_queue / "e.json").write_text('{"call_id": null, "verdict": "confirm"}')
    put(out, [Review(calls[0].recording.call_id, "unsure")])
    with open_work(out) as store:
        result = take_in(store, out)
    assert result.n_taken == 1
    assert len(result.refused) == 6
    assert waiting(out) == []
    assert len(list((out.review_queue / "refused").glob("*.txt"))) == 6


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_no_document_in_the_queue_is_a_crash(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "wild.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UsageError):
        read_reviews(path)


def test_a_csv_is_taken_whole_or_not_at_all(
    out: Workspace, calls: list[CallAnalysis], tmp_path: Path
) -> None:
    table = tmp_path / "reviews.csv"
    ids = [c.recording.call_id for c in calls[:3]]
    table.write_text(
        "call_id,verdict,note\n" + "".join(f"{i},confirm,ok\n" for i in ids[:2]) + f"{ids[2]},perhaps,\n"
    )
    assert "review 3: verdict 'perhaps'" in cli(out, "import", str(table), expect=2).stderr
    assert waiting(out) == []
    table.write_text("\ufeffcall_id,verdict,note\n" + "".join(f"{i},Confirm,ok\n" for i in ids))
    cli(out, "import", str(table), "--by", "eve")
    assert [(r.call_id, r.reviewer) for r in waiting_reviews(out)] == [(i, "eve") for i in ids]
    assert "kept once: 3" in cli(out, "import", str(table), "--by", "eve").stderr
    assert len(waiting(out)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("call,verdict\n", "expected call_id, verdict"),
        ("call_id,verdict,secret\n", "expected call_id, verdict"),
        ("call_id,verdict,segment\na,confirm,x\n", "line 2: segment 'x'"),
        ("call_id,verdict\na,confirm,3,4\n", "column too many"),
        ("", "expected call_id, verdict"),
    ],
)
def test_wrong_csvs_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_csv(path, reviewer=None)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{call},confirm,," + 70_000 * "x", "line 3: .*65,536 bytes.*note"),
        ("{call},confirm," + 5_000 * "1" + ",", "line 3: segment '1+\\.\\.\\.' is no number"),
        ("{call},confirm,-1,", "line 3: segment '-1' is no number"),
    ],
)
def test_a_row_that_is_too_long_is_named_by_its_line_and_nothing_is_kept(
    out: Workspace, calls: list[CallAnalysis], tmp_path: Path, row: str, words: str
) -> None:
    table = tmp_path / "reviews.csv"
    ids = [c.recording.call_id for c in calls[:3]]
    lines = [f"{ids[0]},confirm,,ok", row.format(call=ids[1]), f"{ids[2]},confirm,,ok"]
    table.write_text("call_id,verdict,segment,note\n" + "\n".join(lines) + "\n")
    done = cli(out, "import", str(table), expect=2)
    assert re.search(words, done.stderr), done.stderr
    assert waiting(out) == []


def test_one_review_that_is_too_long_is_refused_and_not_left_in_the_queue(
    out: Workspace, calls: list[CallAnalysis]
) -> None:
    call_id = calls[0].recording.call_id
    for review in (
        Review(call_id, "confirm", note=70_000 * "x"),
        Review(call_id, "confirm", segment=10**40),
        Review("nobody", "confirm"),
    ):
        with pytest.raises(UsageError, match=r"65,536 bytes|no segment|no call"):
            give(out, [review])
    assert not out.review_queue.exists() or list(out.review_queue.rglob("*")) == []


def test_a_huge_number_in_the_queue_stops_no_run(out: Workspace, calls: list[CallAnalysis]) -> None:
    put(out, [Review(calls[0].recording.call_id, "confirm", segment=10**40)])
    with open_work(out) as store:
        assert len(take_in(store, out).refused) == 1


def test_an_import_waits_as_one_file_and_what_no_longer_fits_by_then_is_refused(
    out: Workspace, calls: list[CallAnalysis]
) -> None:
    ids = [call.recording.call_id for call in calls[:3]]
    give(out, [Review(call_id, "confirm", note="\u2028 über") for call_id in ids])
    (path,) = waiting(out)
    assert path.stat().st_mode & 0o777 == 0o600
    assert {call.call_id for call in next_calls(out, 1000)} & set(ids) == set(), "their verdicts wait"
    with open_work(out) as store:
        store.connection.execute("DELETE FROM base.calls WHERE call_id = ?", [ids[1]])
        taken = take_in(store, out)
    assert (taken.n_taken, len(taken.refused)) == (2, 1)
    assert kept(out) == [(ids[0], "confirm"), (ids[2], "confirm")]
    assert waiting(out) == []
    (left,) = (out.review_queue / "refused").glob("*.jsonl")
    assert [review.call_id for review in read_reviews(left)] == [ids[1]]
    assert left.stat().st_mode & 0o777 == 0o600
    assert ids[1] in left.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "{}\n", '{"call_id": "x", "verdict": "confirm"}\n[1\n', 70_000 * " "])
def test_an_import_in_the_queue_that_is_none_is_refused(out: Workspace, text: str) -> None:
    out.review_queue.mkdir(parents=True)
    (out.review_queue / "a.jsonl").write_text(text)
    with open_work(out) as store:
        taken = take_in(store, out)
    assert (taken.n_taken, len(taken.refused)) == (0, 1)
    assert kept(out) == []
    assert waiting(out) == []


def test_flags_come_first_and_a_reviewed_call_does_not_come_again(out: Workspace) -> None:
    ranked = next_calls(out, 1000)
    assert ranked[0].flagged
    assert ranked[0].flag_worth == 1.0, "nothing is known of its rules"
    assert [c.worth for c in ranked] == sorted((c.worth for c in ranked), reverse=True)
    assert not ranked[-1].flagged
    cli(out, ranked[0].call_id, "--verdict", "reject")
    ended_run(out)
    give(out, [Review(ranked[1].call_id, "confirm")])
    after = [c.call_id for c in next_calls(out, 1000)]
    assert ranked[0].call_id not in after, "it has a verdict"
    assert ranked[1].call_id not in after, "its verdict waits"
    assert len(after) == len(ranked) - 2


def test_a_call_whose_sides_are_disputed_is_asked_about(out: Workspace, calls: list[CallAnalysis]) -> None:
    quiet = next(call for call in calls if not call.assessment.flagged)
    evidence = (
        RoleEvidence(RoleSource.INFERRED, 2.9, "the way the talk runs: the agent is on the right channel"),
        RoleEvidence(RoleSource.RECORDER, -1.7, "the name: the agent is on the left channel"),
    )
    disputed = replace(quiet.speech, quality=("role_conflict",), role_confidence=0.77, role_evidence=evidence)
    key = quiet.recording.call_id
    with open_work(out) as store:
        store.write([replace(quiet, speech=disputed)], 1)
        publish(store)
    ranked = next_calls(out, 1000)
    (asked,) = (call for call in ranked if call.role_worth)
    assert asked.call_id == key
    assert asked.role_worth == pytest.approx(1.5 - 0.77)
    assert next(call.call_id for call in ranked if not call.flagged) == key
    n_flagged = sum(call.flagged for call in ranked)
    printed = cli(out, "next", "--count", str(n_flagged + 1)).stdout
    assert "agent and caller may be exchanged (77% sure of them)" in printed
    assert "against them, 85%: the name: the agent is on the left channel" in printed
    assert f"relabel {key[:12]} --swap" in printed
    shown = published(out, f"SELECT source, log_odds FROM role_evidence WHERE call_id = '{key}'")
    assert shown == [("inferred", 2.9), ("recorder", -1.7)]
    run_command("relabel", key, "--swap", "--out", out)
    assert not any(call.role_worth for call in next_calls(out, 1000)), "a person has settled it"


def test_known_rules_are_worth_less_and_the_committee_decides(out: Workspace) -> None:
    ranked = next_calls(out, 1000)
    flagged = [c for c in ranked if c.flagged]
    give(out, [Review(c.call_id, "confirm") for c in flagged[:-1]])
    ended_run(out)
    last = next(c for c in next_calls(out, 1000) if c.flagged)
    assert last.flag_worth < 1.0
    quiet = [c for c in next_calls(out, 1000) if not c.flagged]
    assert quiet[0].unsure + quiet[0].disagreement > quiet[-1].unsure + quiet[-1].disagreement


def test_moments_are_the_callers_and_reviewed_ones_are_not_asked_again(out: Workspace) -> None:
    (call,) = next_calls(out, 1)
    assert 0 < len(call.moments) <= 5
    numbers = {m["segment"] for m in call.moments}
    roles = published(out, f"SELECT segment, role FROM segments WHERE call_id = '{call.call_id}'")
    assert not numbers & {segment for segment, role in roles if role == "agent"}
    first = call.moments[0]
    cli(out, call.call_id, "--segment", str(first["segment"]), "--verdict", "reject", "--emotion", "fear")
    ended_run(out)
    again = next(c for c in next_calls(out, 1000) if c.call_id == call.call_id)
    assert first["segment"] not in {m["segment"] for m in again.moments}


def test_next_as_json_and_when_there_is_nothing(out: Workspace, tmp_path: Path) -> None:
    listed = cli(out, "next", "--json", "--count", "3").json()
    assert len(listed) == 3
    assert {"call_id", "worth", "moments"} <= set(listed[0])
    cli(Workspace(tmp_path / "nowhere"), "next", expect=2)


def test_help_names_what_a_review_of_a_call_can_say() -> None:
    text = run_command("review", "--help").stdout
    assert [
        o for o in ("--verdict", "--rule", "--segment", "--emotion", "--note", "--by") if o not in text
    ] == []


def test_what_is_known_of_the_rules_is_said_in_words(out: Workspace) -> None:
    flagged = next(call for call in next_calls(out, 50) if call.flagged)
    unreviewed = render_worth(replace(flagged, flag_worth=1.0), out)
    assert "nobody has judged its rules yet" in unreviewed
    known = render_worth(replace(flagged, flag_worth=0.79), out)
    assert "how often its rules are right to within 79 points" in known
    assert "unknown" not in known

"""Reviews from the command line: kept at once, queued while a run is at work, and asked for wisely."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from command_line import Done, run_command
from fixture_calls import plausible_calls
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.analysis.call import CallAnalysis
from callanalytics.errors import UsageError
from callanalytics.store import Review, Store, open_work, publish
from callanalytics.workspace import Workspace
from jobs.app.review_writer import waiting_reviews
from jobs.cli.review_commands import review
from jobs.reviews.queue import put, read_review, read_reviews, take_in, waiting
from jobs.reviews.reviews import give, next_calls, read_csv, render_worth


@pytest.fixture(scope="module")
def calls() -> list[CallAnalysis]:
    return plausible_calls()


@pytest.fixture(scope="module")
def unreviewed(plausible_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published output folder without any review."""
    folder = shutil.copytree(plausible_out, tmp_path_factory.mktemp("unreviewed") / "out")
    with open_work(Workspace(folder)) as store:
        store.connection.execute("DELETE FROM base.reviews")
        publish(store)
    return folder


@pytest.fixture
def out(unreviewed: Path, tmp_path: Path) -> Path:
    """A copy of it for each test."""
    return shutil.copytree(unreviewed, tmp_path / "out")


def kept(out: Path, sql: str = "SELECT call_id, verdict FROM base.reviews ORDER BY review_id") -> list[Any]:
    with duckdb.connect(str(out / ".work" / "callanalytics-work.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def published(out: Path, sql: str) -> list[Any]:
    with duckdb.connect(str(out / "callanalytics.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def cli(out: Path, *args: str) -> Done:
    return run_command("review", *args, "--out", out, expect=None)


def test_a_review_is_kept_and_published_only_with_the_next_run(out: Path, calls: list[CallAnalysis]) -> None:
    call_id = calls[0].recording.call_id
    done = cli(out, call_id[:12], "--verdict", "confirm", "--note", "shouting")
    assert done.exit_code == 0, done.stderr
    assert call_id in done.stderr
    assert kept(out) == [(call_id, "confirm")]
    assert published(out, "FROM reviews") == []
    assert waiting(Workspace(out)) == []


def test_the_id_and_the_other_words_do_not_clash(out: Path, calls: list[CallAnalysis]) -> None:
    call_id = calls[0].recording.call_id
    assert cli(out, "--verdict", "reject", call_id).exit_code == 0
    assert kept(out) == [(call_id, "reject")]
    assert cli(out, "next", "--count", "1").exit_code == 0
    assert cli(out, "abc", "--verdict", "maybe").exit_code == 2
    unknown = cli(out, "0123", "--verdict", "confirm")
    assert unknown.exit_code == 2
    assert "no call '0123'" in unknown.stderr


def test_a_review_never_fails_because_the_night_is_at_work(out: Path, calls: list[CallAnalysis]) -> None:
    review = Review(calls[0].recording.call_id, "confirm", reviewer="eve", note="while it runs")
    with Workspace(out).lock():
        assert give(Workspace(out), [review]).queued
    assert kept(out) == []
    (path,) = waiting(Workspace(out))
    assert path.stat().st_mode & 0o777 == 0o600
    said_at = read_review(path).reviewed_at
    with open_work(Workspace(out)) as store:
        assert take_in(store, Workspace(out)).n_taken == 1
        assert take_in(store, Workspace(out)).n_taken == 0
    ((reviewer, when),) = kept(out, "SELECT reviewer, epoch_us(reviewed_at) FROM base.reviews")
    assert reviewer == "eve"
    assert said_at is not None
    assert when == round(said_at.timestamp() * 1e6), "it counts from when it was said"


def test_the_inbox_of_the_app_is_taken_in(out: Path, calls: list[CallAnalysis]) -> None:
    from jobs.app.review_writer import record_review

    record_review(Workspace(out), Review(calls[1].recording.call_id, "reject", note="calm"))
    with open_work(Workspace(out)) as store:
        assert take_in(store, Workspace(out)).n_taken == 1
    assert kept(out) == [(calls[1].recording.call_id, "reject")]


def test_what_cannot_be_taken_in_is_set_aside_and_stops_nothing(out: Path, calls: list[CallAnalysis]) -> None:
    put(Workspace(out), [Review("00ff00ff", "confirm")])
    (Workspace(out).review_queue / "a.json").write_text("[" * 5000)
    (Workspace(out).review_queue / "b.json").write_text('{"call_id": 3, "verdict": "confirm"}')
    (Workspace(out).review_queue / "c.json").write_text(
        '{"call_id": "x", "verdict": "confirm", "exec": "rm"}'
    )
    (Workspace(out).review_queue / "d.json").write_text(" " * 70_000)
    put(Workspace(out), [Review(calls[0].recording.call_id, "unsure")])
    with open_work(Workspace(out)) as store:
        result = take_in(store, Workspace(out))
    assert result.n_taken == 1
    assert len(result.refused) == 5
    assert waiting(Workspace(out)) == []
    assert len(list((Workspace(out).review_queue / "refused").glob("*.txt"))) == 5


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_no_document_in_the_inbox_is_a_crash(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "wild.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UsageError):
        read_review(path)


def test_a_csv_is_taken_whole_or_not_at_all(out: Path, calls: list[CallAnalysis], tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    ids = [c.recording.call_id for c in calls[:3]]
    table.write_text(
        "call_id,verdict,note\n" + "".join(f"{i},confirm,ok\n" for i in ids[:2]) + f"{ids[2]},perhaps,\n"
    )
    done = cli(out, "import", str(table))
    assert done.exit_code == 2
    assert "review 3: verdict 'perhaps'" in done.stderr
    assert kept(out) == []
    table.write_text("﻿call_id,verdict,note\n" + "".join(f"{i},Confirm,ok\n" for i in ids))
    done = cli(out, "import", str(table), "--by", "eve")
    assert done.exit_code == 0, done.stderr
    assert kept(out) == [(i, "confirm") for i in ids]


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
    out: Path, calls: list[CallAnalysis], tmp_path: Path, row: str, words: str
) -> None:
    table = tmp_path / "reviews.csv"
    ids = [c.recording.call_id for c in calls[:3]]
    lines = [f"{ids[0]},confirm,,ok", row.format(call=ids[1]), f"{ids[2]},confirm,,ok"]
    table.write_text("call_id,verdict,segment,note\n" + "\n".join(lines) + "\n")
    done = cli(out, "import", str(table))
    assert done.exit_code == 2, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert kept(out) == []
    assert waiting(Workspace(out)) == []


def test_one_review_that_is_too_long_is_refused_and_not_left_in_the_inbox(
    out: Path, calls: list[CallAnalysis]
) -> None:
    call_id = calls[0].recording.call_id
    for said in (Review(call_id, "confirm", note=70_000 * "x"), Review(call_id, "confirm", segment=10**40)):
        with pytest.raises(UsageError, match=r"65,536 bytes|no segment"):
            give(Workspace(out), [said])
        with (
            Workspace(out).lock(),
            pytest.raises(UsageError, match=r"65,536 bytes|no segment"),
        ):
            give(Workspace(out), [said])
    assert not Workspace(out).review_queue.exists() or list(Workspace(out).review_queue.rglob("*")) == []


def test_a_huge_number_in_the_inbox_stops_no_run(out: Path, calls: list[CallAnalysis]) -> None:
    put(Workspace(out), [Review(calls[0].recording.call_id, "confirm", segment=10**40)])
    with open_work(Workspace(out)) as store:
        assert len(take_in(store, Workspace(out)).refused) == 1


def test_an_import_that_is_cut_short_leaves_nothing(
    out: Path, calls: list[CallAnalysis], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [Review(call.recording.call_id, "confirm") for call in calls[:3]]
    keep, n_kept = Store.review, 0

    def killed(store: Store, review: Review) -> int:
        nonlocal n_kept
        n_kept += 1
        if n_kept == 2:
            raise KeyboardInterrupt
        return keep(store, review)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "review", killed)
        with pytest.raises(KeyboardInterrupt):
            give(Workspace(out), said)
    assert kept(out) == []
    assert waiting(Workspace(out)) == []


def test_an_import_that_no_longer_fits_the_working_database_keeps_nothing(
    out: Path, calls: list[CallAnalysis]
) -> None:
    with open_work(Workspace(out)) as store:
        store.connection.execute("DELETE FROM base.calls WHERE call_id = ?", [calls[1].recording.call_id])
    with pytest.raises(UsageError, match=calls[1].recording.call_id):
        give(Workspace(out), [Review(call.recording.call_id, "confirm") for call in calls[:3]])
    assert kept(out) == []
    assert waiting(Workspace(out)) == []


def test_an_import_waits_as_one_file_and_what_no_longer_fits_by_then_is_set_aside(
    out: Path, calls: list[CallAnalysis]
) -> None:
    ids = [call.recording.call_id for call in calls[:3]]
    with Workspace(out).lock():
        assert give(
            Workspace(out), [Review(call_id, "confirm", note="\u2028 über") for call_id in ids]
        ).queued
    (path,) = waiting(Workspace(out))
    assert path.stat().st_mode & 0o777 == 0o600
    assert {call.call_id for call in next_calls(Workspace(out), 1000)} & set(ids) == set(), (
        "their verdicts wait"
    )
    assert [said["verdict"] for said in waiting_reviews(Workspace(out), ids[1])] == ["confirm"]
    with open_work(Workspace(out)) as store:
        store.connection.execute("DELETE FROM base.calls WHERE call_id = ?", [ids[1]])
        taken = take_in(store, Workspace(out))
    assert (taken.n_taken, len(taken.refused)) == (2, 1)
    assert kept(out) == [(ids[0], "confirm"), (ids[2], "confirm")]
    assert waiting(Workspace(out)) == []
    (left,) = (Workspace(out).review_queue / "refused").glob("*.jsonl")
    assert [review.call_id for review in read_reviews(left)] == [ids[1]]
    assert left.stat().st_mode & 0o777 == 0o600
    assert ids[1] in left.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "{}\n", '{"call_id": "x", "verdict": "confirm"}\n[1\n', 70_000 * " "])
def test_an_import_in_the_inbox_that_is_none_is_set_aside(out: Path, text: str) -> None:
    Workspace(out).review_queue.mkdir(parents=True)
    (Workspace(out).review_queue / "a.jsonl").write_text(text)
    with open_work(Workspace(out)) as store:
        taken = take_in(store, Workspace(out))
    assert (taken.n_taken, len(taken.refused)) == (0, 1)
    assert kept(out) == []
    assert waiting(Workspace(out)) == []


def test_flags_come_first_and_a_reviewed_call_does_not_come_again(out: Path) -> None:
    ranked = next_calls(Workspace(out), 1000)
    assert ranked[0].flagged
    assert ranked[0].flag_worth == 1.0, "nothing is known of its rules"
    assert [c.worth for c in ranked] == sorted((c.worth for c in ranked), reverse=True)
    assert not ranked[-1].flagged
    assert cli(out, ranked[0].call_id, "--verdict", "reject").exit_code == 0
    with Workspace(out).lock():
        give(Workspace(out), [Review(ranked[1].call_id, "confirm")])
    with open_work(Workspace(out)) as store:
        publish(store)
    after = [c.call_id for c in next_calls(Workspace(out), 1000)]
    assert ranked[0].call_id not in after, "it has a verdict"
    assert ranked[1].call_id not in after, "its verdict waits"
    assert len(after) == len(ranked) - 2


def test_known_rules_are_worth_less_and_the_committee_decides(out: Path) -> None:
    ranked = next_calls(Workspace(out), 1000)
    flagged = [c for c in ranked if c.flagged]
    give(Workspace(out), [Review(c.call_id, "confirm") for c in flagged[:-1]])
    with open_work(Workspace(out)) as store:
        publish(store)
    last = next(c for c in next_calls(Workspace(out), 1000) if c.flagged)
    assert last.flag_worth < 1.0
    quiet = [c for c in next_calls(Workspace(out), 1000) if not c.flagged]
    assert quiet[0].unsure + quiet[0].disagreement > quiet[-1].unsure + quiet[-1].disagreement


def test_moments_are_the_callers_and_reviewed_ones_are_not_asked_again(out: Path) -> None:
    (call,) = next_calls(Workspace(out), 1)
    assert 0 < len(call.moments) <= 5
    numbers = {m["segment"] for m in call.moments}
    roles = published(out, f"SELECT segment, role FROM segments WHERE call_id = '{call.call_id}'")
    assert not numbers & {segment for segment, role in roles if role == "agent"}
    text = render_worth(call)
    assert f"review {call.call_id[:12]}" in text
    first = call.moments[0]
    done = cli(
        out, call.call_id, "--segment", str(first["segment"]), "--verdict", "reject", "--emotion", "fear"
    )
    assert done.exit_code == 0, done.stderr
    with open_work(Workspace(out)) as store:
        publish(store)
    again = next(c for c in next_calls(Workspace(out), 1000) if c.call_id == call.call_id)
    assert first["segment"] not in {m["segment"] for m in again.moments}


def test_next_as_json_and_when_there_is_nothing(out: Path, tmp_path: Path) -> None:
    told = json.loads(cli(out, "next", "--json", "--count", "3").stdout)
    assert len(told) == 3
    assert {"call_id", "worth", "moments"} <= set(told[0])
    assert cli(tmp_path / "nowhere", "next").exit_code == 2


def test_help_names_what_a_review_of_a_call_can_say() -> None:
    told = CliRunner().invoke(review, ["--help"]).output
    for option in ("--verdict", "--rule", "--segment", "--emotion", "--note", "--by"):
        assert option in told

"""The wide views for people: what they say agrees with what they are made of, and can be read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from sql_guide import GUIDE, questions

from callanalytics.config import RULE_MEASURES
from callanalytics.store.query import run_query


@pytest.fixture(scope="module")
def database(guide_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(guide_out, tmp_path_factory.mktemp("published") / "out") / "callanalytics.duckdb"


def rows(database: Path, sql: str) -> list[dict[str, Any]]:
    return run_query(database, sql, max_rows=None).to_dicts()


def value(database: Path, sql: str) -> Any:
    ((found,),) = run_query(database, sql, max_rows=None).rows()
    return found


def test_ten_questions_are_one_line_each_and_have_answers(database: Path) -> None:
    section = GUIDE.read_text("utf-8").split("## Ten questions")[1].split("\n## ")[0]
    asked = questions(section)
    assert len(asked) == 10
    for sql in asked:
        assert sql.strip().count("\n") == 0
        assert rows(database, sql), sql


def test_every_call_has_one_row(database: Path) -> None:
    n_calls = value(database, "SELECT count(*) FROM call_summary")
    counted = rows(database, "SELECT count(*) AS n, count(DISTINCT call_id) AS n_calls FROM call_facts")
    assert counted == [{"n": n_calls, "n_calls": n_calls}]


@pytest.mark.parametrize(
    ("column", "measure", "of"),
    [
        ("angry_s", "angry_s", "role = 'caller' AND period = 'call'"),
        ("angry_late_s", "angry_s", "role = 'caller' AND period = 'second_half'"),
        ("longest_silence_s", "longest_silence_s", "true"),
        ("agent_talk_share", "talk_share", "role = 'agent' AND period = 'call'"),
        ("caller_talk_share", "talk_share", "role = 'caller' AND period = 'call'"),
        ("agent_interruptions", "interruptions", "role = 'agent' AND period = 'call'"),
    ],
)
def test_facts_are_the_measures(database: Path, column: str, measure: str, of: str) -> None:
    differing = rows(
        database,
        f"SELECT call_id, {column}, value FROM call_facts FULL JOIN (SELECT call_id, value FROM call_measures"
        f" WHERE name = '{measure}' AND {of}) USING (call_id)"
        f" WHERE ({column} IS NULL) != (value IS NULL) OR abs({column} - value) > 0.06",
    )
    assert differing == []
    assert value(database, f"SELECT count({column}) FROM call_facts") > 50


def test_quarters_are_of_the_voice_that_the_score_is_of(database: Path) -> None:
    differing = rows(
        database,
        """SELECT call_id, frustration_q4, value FROM call_facts JOIN call_summary s USING (call_id)
        JOIN call_measures m USING (call_id) WHERE m.name = 'frustration' AND m.period = 'q4'
        AND m.role::VARCHAR = CASE WHEN s.frustration_voice IS NULL THEN 'caller' ELSE 'unknown' END
        AND abs(frustration_q4 - value) > 0.0006""",
    )
    assert differing == []
    assert value(database, "SELECT count(frustration_q4) FROM call_facts") > 50


def test_flags_rules_verdicts_and_clips_are_those_of_their_views(database: Path) -> None:
    facts = {row["call_id"]: row for row in rows(database, "FROM call_facts")}
    fired: dict[str, list[str]] = {}
    for row in rows(database, "FROM escalations ORDER BY call_id, position"):
        fired.setdefault(row["call_id"], []).append(row["rule"])
    assert {call: row["rules"] for call, row in facts.items() if row["rules"]} == fired
    cut = rows(database, "SELECT DISTINCT call_id, clip FROM evidence WHERE clip IS NOT NULL ORDER BY ALL")
    assert sorted(clip for row in facts.values() for clip in row["clips"]) == sorted(
        f"reports/clips/{row['call_id']}/{row['clip']}" for row in cut
    )
    assert {row["verdict"] for row in facts.values()} >= {"confirm", "reject", None}
    assert all(row["page"] == f"reports/calls/{call}.html" for call, row in facts.items())


def test_people_read_rounded_numbers(database: Path) -> None:
    for view in ("call_facts", "emotion_by_queue_hour", "frustrated_callers", "repeat_callers"):
        found = rows(database, f"FROM {view}")
        numbers = [number for row in found for number in row.values() if isinstance(number, float)]
        assert numbers
        assert all(len(re.sub(r"^-?\d+\.?", "", repr(number))) <= 4 for number in numbers), view


def test_every_measure_has_a_name_and_a_unit(database: Path) -> None:
    named = {row["name"]: row for row in rows(database, "FROM measure_names")}
    measured = {row["name"] for row in rows(database, "SELECT DISTINCT name FROM call_measures")}
    assert measured <= named.keys()
    assert {name for name, row in named.items() if row["in_rules"]} == set(RULE_MEASURES)
    assert named["talk_share"]["unit"] == "0..1"
    assert named["longest_silence_s"]["unit"] == "s"
    assert named["n_turns"]["unit"] == "count"


def test_queue_and_hour_add_up_to_the_queue(database: Path) -> None:
    by_hour = rows(
        database,
        "SELECT queue, sum(n_segments) AS n FROM emotion_by_queue_hour WHERE role = 'caller'"
        " AND emotion = 'anger' GROUP BY queue ORDER BY queue",
    )
    known = rows(
        database,
        "SELECT queue, sum(n_segments) AS n FROM call_emotions WHERE role = 'caller' AND emotion = 'anger'"
        " AND started_at_source <> 'file_time' GROUP BY queue ORDER BY queue",
    )
    assert [row["n"] for row in by_hour] == [row["n"] for row in known]
    assert known


def test_repeat_callers_count_the_last_thirty_days(database: Path) -> None:
    repeated = rows(database, "FROM repeat_callers")
    assert repeated
    for row in repeated:
        inside = rows(
            database,
            "SELECT count(*) AS n, count(*) FILTER (flagged) AS n_flagged FROM call_summary WHERE"
            f" caller_hash = '{row['caller_hash']}' AND day > (SELECT max(day) FROM call_summary) - 30",
        )
        assert inside == [{"n": row["n_calls_30d"], "n_flagged": row["n_flagged_30d"]}]

"""Asking the published database: right rows, readable output, no way out of the file."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from fixture_calls import CALLS_A_DAY, LAST_DAY, N_DAYS
from rich.console import Console
from sql_guide import GUIDE, questions, written_anew

from callanalytics.errors import StoreError, UsageError
from callanalytics.store.query import Published, describe_schema, render, render_schema, run_query


@pytest.fixture(scope="module")
def database(guide_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(guide_out, tmp_path_factory.mktemp("published") / "out") / "callanalytics.duckdb"


def rows(database: Path, sql: str) -> list[dict[str, object]]:
    return run_query(database, sql, max_rows=None).to_dicts()


# Asking


def test_rows_of_a_question(database: Path) -> None:
    found = rows(database, "SELECT count(*) AS n, max(day) AS last FROM call_summary")
    assert found == [{"n": N_DAYS * CALLS_A_DAY, "last": LAST_DAY}]


def test_max_rows_stops_early(database: Path) -> None:
    assert run_query(database, "FROM segment_emotions", max_rows=7).height == 7


def test_without_a_database_the_message_says_to_run_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.duckdb: no results here yet.*run"):
        run_query(tmp_path / "nothing.duckdb", "SELECT 1", max_rows=None)


def test_published_rows_are_dictionaries_with_values_kept_out_of_the_text(database: Path) -> None:
    with Published(database) as published:
        found = published.rows("SELECT $name AS name, current_setting('TimeZone') AS zone", name="'; DROP")
    assert found == [{"name": "'; DROP", "zone": "UTC"}]


def test_what_cannot_be_read_in_a_published_block_is_one_sentence(database: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"cannot be read \(.*no_such_view.*publishes it anew"),
        Published(database) as published,
    ):
        published.rows("FROM no_such_view")
    with pytest.raises(StoreError, match="open in this process"), Published(database), Published(database):
        pass
    assert run_query(database, "SELECT 1", max_rows=None).height == 1, "nothing stays open or locked"


def test_threads_read_one_after_the_other(database: Path) -> None:
    def count(_: int) -> object:
        with Published(database) as published:
            return published.rows("SELECT count(*) AS n FROM segments")[0]["n"]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(count, range(32)))
    assert len(found) == 32
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("selec 1", "syntax error"),
        ("SELECT queu FROM call_summary", '"queu" not found'),
        ("FROM call_sumary", "call_summary"),
        ("SELECT 1; SELECT 2", "Expected one SQL statement, found 2"),
        ("", "found 0"),
        ("-- nothing", "found 0"),
    ],
)
def test_a_wrong_statement_is_explained(database: Path, sql: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run_query(database, sql, max_rows=None)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('{file}')",
        "FROM read_csv('{file}')",
        "FROM '{file}'",
        "FROM glob('{folder}/*')",
        "ATTACH '{file}' AS other",
        "COPY call_summary TO '{folder}/stolen.csv'",
        "EXPORT DATABASE '{folder}/stolen'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "DELETE FROM base.calls",
        "UPDATE base.calls SET queue = NULL",
        "DROP VIEW call_summary",
        "CREATE TABLE mine AS SELECT 1",
        "SELECT getenv('HOME')",
        "FROM 'http://localhost/x.parquet'",
    ],
)
def test_sql_reaches_nothing_but_the_database(database: Path, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nsesame\n")
    before = database.read_bytes()
    with pytest.raises(UsageError) as refused:
        run_query(database, sql.format(file=secret, folder=tmp_path), max_rows=None)
    assert "sesame" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [secret]
    assert database.read_bytes() == before


def test_a_copy_that_somebody_writes_to_is_explained(database: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(database.read_bytes())
    program = f"""
import duckdb, sys
held = duckdb.connect({str(copy)!r})
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as analyst:
        assert analyst.stdout is not None
        assert analyst.stdin is not None
        assert analyst.stdout.readline() == "ready\n"
        with pytest.raises(StoreError, match="Close it there"):
            run_query(copy, "SELECT 1", max_rows=None)
        analyst.stdin.close()


def test_a_damaged_file_is_explained(tmp_path: Path) -> None:
    damaged = tmp_path / "callanalytics.duckdb"
    damaged.write_bytes(b"\0" * 100_000)
    with pytest.raises(StoreError, match="cannot be opened"):
        run_query(damaged, "SELECT 1", max_rows=None)


def test_types_that_no_frame_holds_arrive_as_text(database: Path) -> None:
    sql = "SELECT INTERVAL 90 SECOND AS i, [INTERVAL 1 DAY] AS l, union_value(a := 1) AS u, '101'::BIT AS b"
    assert rows(database, sql) == [{"i": "00:01:30", "l": "[1 day]", "u": "1", "b": "101"}]


# Showing


SAMPLE = """
SELECT 1 AS n, 0.123456 AS x, 'a,"b"' AS words, NULL AS nothing, true AS yes, 'nan'::DOUBLE AS odd,
    TIMESTAMPTZ '2025-03-30 03:00:00+02' AS at, DATE '2025-03-30' AS day, [1.5, NULL] AS list,
    {'a': 'x'} AS thing, 'anger'::emotion AS emotion
"""


def test_json_is_an_array_of_objects_with_iso_times(database: Path) -> None:
    (row,) = json.loads(render(run_query(database, SAMPLE, max_rows=None), "json"))
    assert row == {
        **{"n": 1, "x": 0.123456, "words": 'a,"b"', "nothing": None, "yes": True, "odd": None},
        **{"at": "2025-03-30T01:00:00Z", "day": "2025-03-30", "list": [1.5, None]},
        **{"thing": {"a": "x"}, "emotion": "anger"},
    }
    assert json.loads(render(run_query(database, "SELECT 1 AS n WHERE false", max_rows=None), "json")) == []


def test_csv_can_be_read_back(database: Path) -> None:
    (row,) = csv.DictReader(io.StringIO(render(run_query(database, SAMPLE, max_rows=None), "csv")))
    assert row == {
        **{"n": "1", "x": "0.123456", "words": 'a,"b"', "nothing": "", "yes": "true", "odd": ""},
        **{"at": "2025-03-30T01:00:00Z", "day": "2025-03-30", "list": "[1.5, null]"},
        **{"thing": '{"a": "x"}', "emotion": "anger"},
    }


def test_a_table_is_aligned_and_counts_its_rows(database: Path) -> None:
    frame = run_query(
        database, "SELECT * FROM (VALUES ('a', 1.0), ('日本', 20.25)) AS t(name, x)", max_rows=None
    )
    assert render(frame, "table", width=80) == (
        "name      x\n────  ─────\na         1\n日本  20.25\n(2 rows)\n"
    )


def test_a_table_too_wide_for_the_terminal_leaves_no_column_out(database: Path) -> None:
    frame = run_query(database, "FROM call_summary", max_rows=2)
    shown = render(frame, "table", width=80)
    assert all(f"\n{name} " in shown for name in frame.columns)
    assert shown.endswith("(2 rows)\n")
    assert "── 2 ──" in shown


def test_cells_are_cut_until_the_table_fits_and_it_is_drawn_once(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawing costs a second for a day of calls: which width fits is computed."""
    drawn = []
    draw = Console.print
    monkeypatch.setattr(Console, "print", lambda self, *it: (drawn.append(it), draw(self, *it)))
    long = run_query(database, "SELECT repeat('x', 70) AS a, repeat('日', 15) AS b", max_rows=None)
    assert [len(line) for line in render(long, "table", width=92).splitlines()[2:3]] == [60 + 2 + 15]
    lines = render(long, "table", width=54).splitlines()
    assert lines[1] == "─" * 26 + "  " + "─" * 26
    assert lines[2] == "x" * 25 + "…  " + "日" * 12 + " …"
    assert len(drawn) == 2
    assert render(long, "table", width=41).startswith("── 1 ──")


def test_nothing_in_a_cell_reaches_the_terminal_as_a_command(database: Path) -> None:
    frame = run_query(
        database, "SELECT chr(27) || '[2J' AS evil, 'a' || chr(10) || 'b' AS lines", max_rows=None
    )
    shown = render(frame, "table", width=80)
    assert "\x1b" not in shown
    assert "a\\nb" in shown


def test_an_unknown_style_is_refused(database: Path) -> None:
    with pytest.raises(ValueError, match="expected one of table, csv, json"):
        render(run_query(database, "SELECT 1", max_rows=None), "yaml")


def test_the_schema_shows_every_column_with_its_meaning(database: Path) -> None:
    tables = describe_schema(database)
    by_name = {table["name"]: table for table in tables}
    assert tables[0]["name"] == "abstentions"
    assert {"call_summary", "segment_emotions", "quarantine", "base.segments"} <= set(by_name)
    columns = {column["name"]: column for column in by_name["segment_emotions"]["columns"]}
    assert columns["emotion"]["type"] == "emotion"
    assert columns["call_id"]["type"] == "VARCHAR"
    assert all(table["comment"] and all(c["comment"] for c in table["columns"]) for table in tables)
    text = render_schema(tables)
    assert "call_summary (view): One row per call" in text
    assert len(json.dumps(tables)) > len(tables)


@pytest.mark.parametrize("program", [
    "from callanalytics.store.query import run_query, render; "
    "print(render(run_query(Path(sys.argv[1]), 'FROM call_summary', max_rows=5), 'table'))",
    "from callanalytics.store.query import describe_schema, render_schema; "
    "print(render_schema(describe_schema(Path(sys.argv[1]))))",
])  # fmt: skip
def test_asking_imports_nothing_heavy(database: Path, program: str) -> None:
    """Time depends on the machine, what is imported does not."""
    check = "; print(sorted({'torch', 'librosa', 'scipy', 'numpy', 'pyarrow', 'pandas'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from pathlib import Path; " + program + check, str(database)],
        check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"},
    )  # fmt: skip
    heavy = set(eval(done.stdout.splitlines()[-1]))
    assert heavy <= {"numpy"}


def test_results_are_stored_published_and_read_without_pyarrow(tmp_path: Path) -> None:
    """An installation for a night has none: it is as large as polars."""
    program = """
import sys
sys.modules["pyarrow"] = None
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from fixture_calls import fill, plausible_calls
from callanalytics.store import open_work, publish
from callanalytics.store.query import run_query
from callanalytics.store.reader import read_analysis
from callanalytics.workspace import Workspace
from jobs.reviews import next_calls
workspace = Workspace(Path(sys.argv[1]))
with open_work(workspace) as store:
    fill(store)
    publish(store)
    call = read_analysis(store, 1)
assert run_query(workspace.database, "FROM call_summary", max_rows=None).height == len(plausible_calls())
assert call.segments and next_calls(workspace)
"""
    support = Path(__file__).parents[1] / "support"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "out"), str(support)], check=True)


def test_what_stops_a_statement_midway_is_told_in_the_words_of_the_database(database: Path) -> None:
    late = "SELECT CASE WHEN i = 900_000 THEN 'x' ELSE '1' END::INTEGER AS n FROM range(1_000_000) AS t(i)"
    with pytest.raises(UsageError, match="The database does not accept this: Conversion Error"):
        run_query(database, late, max_rows=None)


# Answers that are known by construction


def test_flagged_callers_are_those_that_were_made_angry(database: Path) -> None:
    found = rows(database, "SELECT flagged, min(frustration_score) AS low, max(frustration_score) AS high"
                           " FROM call_summary GROUP BY flagged ORDER BY flagged")  # fmt: skip
    assert [row["flagged"] for row in found] == [False, True]
    assert found[0]["high"] < 0.5 <= found[1]["low"]


def test_emotion_shares_of_one_cell_sum_to_one_whatever_the_grouping(database: Path) -> None:
    for view, key in (
        ("hour", "hour, role"),
        ("day", "day, role"),
        ("queue", "queue, role"),
        ("agent", "agent_id"),
    ):
        sums = rows(database, f"SELECT sum(share) AS whole FROM emotion_by_{view} GROUP BY {key}")
        assert [row["whole"] for row in sums] == pytest.approx([1.0] * len(sums))


def test_emotion_by_queue_is_what_the_segments_say(database: Path) -> None:
    by_segments = rows(
        database,
        "SELECT sum(end_s - start_s) FILTER (emotion = 'anger') / sum(end_s - start_s) AS share,"
        " count(DISTINCT call_id) AS n FROM segment_emotions"
        " WHERE queue = 'billing' AND role = 'caller' AND emotion IS NOT NULL",
    )[0]
    shown = rows(
        database, "FROM emotion_by_queue WHERE queue = 'billing' AND role = 'caller' AND emotion = 'anger'"
    )[0]
    assert shown["share"] == pytest.approx(by_segments["share"])
    assert shown["n_calls"] == by_segments["n"]
    assert shown["share_low"] < shown["share"] < shown["share_high"]


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    # Newcombe (1998), Statist. Med. 17, 857-872, table I: Wilson score intervals of r/n.
    [
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0.0, 20, 0.0, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_those_of_the_literature(
    database: Path, share: float, n: int, low: float, high: float
) -> None:
    (row,) = rows(database, f"SELECT wilson_low({share!r}, {n}) AS low, wilson_high({share!r}, {n}) AS high")
    assert (row["low"], row["high"]) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_newcombe_interval_of_a_change_is_that_of_the_literature(database: Path) -> None:
    # Newcombe (1998), Statist. Med. 17, 873-890, table II: 56/70 - 48/80, method 10.
    (row,) = rows(
        database, "SELECT change_low(56/70, 70, 48/80, 80) AS l, change_high(56/70, 70, 48/80, 80) AS h"
    )
    assert (row["l"], row["h"]) == (pytest.approx(0.0524, abs=6e-5), pytest.approx(0.3339, abs=6e-5))


def test_the_mover_is_the_queue_that_was_made_angrier(database: Path) -> None:
    top = rows(database, "FROM movers LIMIT 1")[0]
    assert (top["queue"], top["what"], top["clear"]) == ("billing", "flagged", True)
    assert (top["since_day"].isoformat(), top["until_day"]) == ("2025-03-26", LAST_DAY)


def test_the_caller_who_comes_back_is_found(database: Path) -> None:
    (caller,) = rows(database, "FROM repeat_callers")
    assert caller["n_calls"] == len(range(0, N_DAYS * CALLS_A_DAY, 17))


def test_agents_are_listed_by_name_and_only_their_callers_count(database: Path) -> None:
    found = rows(database, "FROM emotion_by_agent")
    names = [row["agent_id"] for row in found]
    assert names == sorted(names)
    callers_s = rows(database, "SELECT sum(seconds) AS s FROM call_emotions WHERE role = 'caller'")[0]["s"]
    assert sum(row["seconds"] for row in found) == pytest.approx(callers_s)


def test_coverage_adds_up_and_admits_what_failed(database: Path) -> None:
    found = rows(database, "FROM coverage")
    assert sum(row["n_failed"] for row in found) == 2
    last = found[-1]
    assert (last["day"], last["n_seen"], last["n_analysed"], last["n_failed"]) == (LAST_DAY, 8 + 2, 6, 2)
    assert last["n_other_ensemble"] == 2  # the shadow ensemble's own calls
    assert last["minutes_failed"] == pytest.approx(95 / 60)
    assert last["n_failed_unknown_length"] == 1
    for row in found:
        assert row["minutes_labelled"] + row["minutes_abstained"] == pytest.approx(row["minutes_speech"])


def test_precision_of_a_rule_counts_the_newest_review(database: Path, tmp_path: Path) -> None:
    found = {row["rule"]: row for row in rows(database, "FROM rule_precision")}
    judged = found["frustrated"]
    n_judged = judged["n_confirmed"] + judged["n_rejected"]
    assert n_judged + judged["n_unsure"] == judged["n_fired"] == 25
    assert judged["precision"] == pytest.approx(judged["n_confirmed"] / n_judged)
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(database.read_bytes())
    with duckdb.connect(copy) as connection:
        connection.execute(
            "INSERT INTO base.reviews BY NAME SELECT 1000 + row_number() OVER () AS review_id, call_id,"
            " 'frustrated' AS rule, 'reject' AS verdict, now() AS reviewed_at FROM call_summary WHERE flagged"
        )
    again = {row["rule"]: row for row in rows(copy, "FROM rule_precision")}
    assert again["frustrated"]["precision"] == 0.0
    assert again["angry_second_half"] == found["angry_second_half"]


def test_local_hours_hold_across_the_change_of_clocks(database: Path) -> None:
    found = rows(
        database,
        "SELECT day, min(hour) AS local, min(extract(hour FROM started_at AT TIME ZONE 'UTC')) AS utc"
        " FROM call_summary WHERE day IN ('2025-03-29', '2025-03-30') GROUP BY day ORDER BY day",
    )
    assert [(row["local"], row["utc"]) for row in found] == [(9, 8), (9, 7)]


# The guide


def test_the_guide_has_twenty_questions_that_all_have_answers(database: Path) -> None:
    asked = questions(GUIDE.read_text("utf-8"))
    assert len(asked) >= 20
    for sql in asked:
        assert run_query(database, sql, max_rows=None).height > 0, sql


def test_the_guide_shows_what_the_database_answers(database: Path) -> None:
    guide = GUIDE.read_text("utf-8")
    assert written_anew(guide, database) == guide, (
        "run `python tests/support/sql_guide.py` and look at the difference"
    )

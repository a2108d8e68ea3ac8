"""Tables, views, comments and what upgrades make of older files."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pytest
from stores import begin, count, named, one

from callanalytics import records
from callanalytics.analysis.call import CallAnalysis
from callanalytics.diarize.quality import QUALITY_TEXT, Quality
from callanalytics.errors import StoreError
from callanalytics.store import Store, open_work, publish
from callanalytics.store.comments import RELATIONS
from callanalytics.store.schema import Descriptors, Migration, relations, shipped_migrations
from callanalytics.workspace import Workspace
from ensemble.labels import EMOTIONS


@pytest.fixture(scope="module", autouse=True)
def tables_made_once() -> None:
    """Not here: every database that is new is made."""


def test_every_table_view_and_column_has_a_comment(filled: Store) -> None:
    bare = filled.connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
        " AND database_name = current_database()"
    ).fetchall()
    bare += filled.connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND comment IS NULL"
        " UNION ALL SELECT table_name FROM duckdb_tables() WHERE NOT internal AND comment IS NULL"
    ).fetchall()
    assert bare == []
    # The catalogue lists view columns at all, so that the assertion above means something.
    n_view_columns = one(filled, "SELECT count(*) FROM duckdb_columns() WHERE table_name = 'call_summary'")
    assert n_view_columns == 44
    assert set(RELATIONS) <= {named(r) for r in relations(filled.connection)}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("emotion", EMOTIONS),
        ("role", tuple(records.Role)),
        ("direction", tuple(records.Direction)),
        ("time_source", tuple(records.TimeSource)),
        ("channel_layout", tuple(records.ChannelLayout)),
        ("role_source", tuple(records.RoleSource)),
        ("sound", tuple(records.Sound)),
    ],
)
def test_sql_types_hold_exactly_the_words_of_python(
    filled: Store, name: str, values: tuple[str, ...]
) -> None:
    assert one(filled, f"SELECT enum_range(NULL::{name})") == [str(value) for value in values]


def test_every_word_of_quality_is_explained_in_sql(filled: Store) -> None:
    assert dict(filled.connection.execute("FROM quality_words").fetchall()) == QUALITY_TEXT
    assert set(QUALITY_TEXT) == set(Quality)


def test_views_that_scripts_depend_on_begin_with_their_columns(filled: Store) -> None:
    def columns(relation: str) -> list[str]:
        return filled.connection.sql(f"FROM {relation}").columns

    assert columns("call_summary")[:13] == [
        *(
            "call_id",
            "path",
            "started_at",
            "started_at_source",
            "duration_s",
            "channel_layout",
            "role_source",
        ),
        *("agent_id", "queue", "n_segments", "frustration_score", "flagged", "reasons"),
    ]
    assert columns("segment_emotions")[:10] == [
        *("call_id", "path", "role", "speaker", "start_s", "end_s", "emotion", "confidence", "agreement"),
        "abstain_reason",
    ]
    assert columns("quarantine")[:4] == ["path", "stage", "reason", "attempts"]


def test_every_view_can_be_read_on_an_empty_database(store: Store) -> None:
    read = {
        named(relation): store.connection.sql(f"FROM {named(relation)}").pl()
        for relation in relations(store.connection)
    }
    assert len(read) > 20
    assert all(frame.width for frame in read.values())


def test_an_older_file_is_upgraded_and_keeps_its_rows(tmp_path: Path, calls: list[CallAnalysis]) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:2], begin(store))
    shipped = shipped_migrations()
    last = shipped[-1].version
    newer = (
        *shipped,
        Migration(last + 1, "moods", "ALTER TABLE base.quarantine ADD COLUMN mood VARCHAR;  -- How it felt"),
    )
    with open_work(Workspace(out), migrations=newer) as store:
        assert count(store, "call_summary") == 2
        steps = store.connection.execute("SELECT version, name FROM schema_version ORDER BY 1").fetchall()
        assert steps == [(m.version, m.name) for m in newer]
        comments = "SELECT DISTINCT comment FROM duckdb_columns() WHERE column_name = 'mood'"
        assert store.rows(comments) == [("How it felt",)]
    with pytest.raises(StoreError, match=rf"schema version {last + 1}.*up to {last}.*newer"):
        open_work(Workspace(out))
    with open_work(Workspace(out), migrations=newer) as store:
        assert count(store, "call_summary") == 2


def test_migrations_are_numbered_without_gaps() -> None:
    assert [m.version for m in shipped_migrations()] == list(range(1, len(shipped_migrations()) + 1))


def test_reviews_of_the_first_version_keep_their_meaning(tmp_path: Path) -> None:
    """A file of version 1, with verdicts in its words, says the same after the upgrade."""
    out = tmp_path / "out"
    database = Workspace(out).work_database
    database.parent.mkdir(parents=True)
    first = shipped_migrations()[0]
    with duckdb.connect(database) as old:
        old.execute(first.sql.replace("{n_features}", str(len(Descriptors.current().names))))
        old.execute("INSERT INTO base.schema_version VALUES (1, 'schema', now())")
        for number, verdict in enumerate(("right", "wrong", "unsure")):
            old.execute(
                "INSERT INTO base.reviews VALUES (?, 'abc', 'a rule', ?, 'eve', 'words', now())",
                [number, verdict],
            )
    with open_work(Workspace(out)) as store:
        rows = store.connection.execute(
            "SELECT review_id, rule, verdict::VARCHAR, segment, reviewer, note FROM reviews ORDER BY 1"
        ).fetchall()
        publish(store)
    expected = enumerate(("confirm", "reject", "unsure"))
    assert rows == [(number, "a rule", word, None, "eve", "words") for number, word in expected]


def test_descriptors_in_a_table_of_their_own_move_to_their_segments(tmp_path: Path) -> None:
    """A file of version 5 kept them apart, in any order, and knew fewer of them."""
    out = tmp_path / "out"
    database = Workspace(out).work_database
    database.parent.mkdir(parents=True)
    with duckdb.connect(database) as old:
        for migration in shipped_migrations()[:5]:
            old.execute(migration.sql.replace("{n_features}", "2"))
            old.execute("INSERT INTO base.schema_version VALUES (?, ?, now())", [migration.version, "old"])
        old.execute("INSERT INTO base.feature_names VALUES (0, 'loudness_db'), (1, 'f0_median_hz')")
        places = ((2, 0), (1, 1), (1, 0))
        for key, segment in places:
            old.execute(
                "INSERT INTO base.segments VALUES (?, ?, 'a', 'caller', 0, 1, 2, 0, NULL, NULL, NULL, NULL,"
                " false, NULL, [0, 0, 0, 0, 0, 0, 1, 0, 0])",
                [key, segment],
            )
        for key, segment in reversed(places):
            old.execute("INSERT INTO base.features VALUES (?, ?, ?)", [key, segment, [key, segment]])
    names = Descriptors.current().names
    with open_work(Workspace(out)) as store:
        rows = store.connection.execute(
            "SELECT analysis_key, segment, descriptors FROM base.segments ORDER BY ALL"
        ).fetchall()
    found = [
        (key, segment, d[names.index("loudness_db")], d[names.index("f0_median_hz")])
        for key, segment, d in rows
    ]
    assert found == [(1, 0, 1, 0), (1, 1, 1, 1), (2, 0, 2, 0)]


def test_zeros_of_what_was_never_known_go(tmp_path: Path) -> None:
    """A file of version 6 wrote 0 for sides that nobody knew and for callers of whom nothing was assessed."""
    out = tmp_path / "out"
    database = Workspace(out).work_database
    database.parent.mkdir(parents=True)
    calls = {  # analysis_key -> roles that spoke, why the caller's segment has no label, score, measures
        1: (("caller", "agent"), None, 0.3, {"talk_s": 3.0, "frustration_peak": 0.3}),
        2: (("unknown",), None, 0.0, {"talk_s": 0.0}),
        3: (("caller", "agent"), "too_short", 0.0, {"talk_s": 0.5, "frustration_peak": 0.0}),
        4: (("caller",), "low_confidence", 0.0, {"talk_s": 3.0, "frustration_peak": 0.0}),
    }
    with duckdb.connect(database) as old:
        for migration in shipped_migrations()[:6]:
            old.execute(migration.sql.replace("{n_features}", "1"))
            old.execute("INSERT INTO base.schema_version VALUES (?, ?, now())", [migration.version, "old"])
        old.execute("INSERT INTO base.feature_names VALUES (0, 'loudness_db')")
        for key, (roles, reason, score, measures) in calls.items():
            curve = [score] if "caller" in roles else []
            old.execute(
                "INSERT INTO base.analyses VALUES ($key, $key, $key, 'e', 1, now(), 'mono', 'none', 0, [],"
                " 1, 1, 3, 3, $score, 1.5, false, [], $curve, $curve, MAP {})",
                {"key": key, "score": score, "curve": curve},
            )
            for role in roles:
                old.execute("INSERT INTO base.turns VALUES (?, 0, 'v', ?, 0, 0, 3)", [key, role])
                old.execute(
                    "INSERT INTO base.segments VALUES (?, 0, 'v', ?, 0, 0, 3, 0, NULL, NULL, NULL, NULL,"
                    " false, ?, [0, 0, 0, 0, 0, 0, 1, 0, 0], [-20])",
                    [key, role, reason],
                )
            rows = [
                *((name, "caller", value) for name, value in measures.items()),
                ("talk_s", "agent", 1.0 if "agent" in roles else 0.0),
                ("interruptions", "caller", 0.0),
                ("overtalk_s", None, 0.0),
                ("silence_s", None, 2.0),
            ]
            for name, role, value in rows:
                old.execute(
                    "INSERT INTO base.call_measures VALUES (?, ?, ?, 'call', ?)", [key, name, role, value]
                )
    with open_work(Workspace(out)) as store:
        scores = store.rows(
            "SELECT analysis_key, frustration_score, frustration_peak_s, len(frustration), frustration_voice"
            " FROM base.analyses ORDER BY ALL"
        )
        measured = store.rows("SELECT analysis_key, name, role::VARCHAR FROM base.call_measures ORDER BY ALL")
    assert scores == [
        (1, pytest.approx(0.3), 1.5, 1, None),
        (2, None, None, 0, None),
        (3, None, None, 0, None),
        (4, 0.0, 1.5, 1, None),
    ]
    both = [("interruptions", "caller"), ("overtalk_s", None), ("silence_s", None)]
    left = {key: [(name, role) for k, name, role in measured if k == key] for key in calls}
    talk = [("talk_s", "agent"), ("talk_s", "caller")]
    assert left == {
        1: [("frustration_peak", "caller"), *both, *talk],
        2: [("silence_s", None)],
        3: [*both, *talk],
        4: [("frustration_peak", "caller"), ("silence_s", None), ("talk_s", "caller")],
    }


def test_a_failing_upgrade_changes_nothing(tmp_path: Path, calls: list[CallAnalysis]) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:2], begin(store))
    shipped = shipped_migrations()
    bad = (*shipped, Migration(shipped[-1].version + 1, "bad", "DROP TABLE base.reviews; SELECT nonsense"))
    with pytest.raises(StoreError, match=r"migration \d+ \(bad\).*nothing was changed"):
        open_work(Workspace(out), migrations=bad)
    with open_work(Workspace(out)) as store:
        assert count(store, "base.reviews") == 0
        assert count(store, "call_summary") == 2


def test_descriptors_that_change_keep_what_both_versions_know(
    tmp_path: Path, calls: list[CallAnalysis]
) -> None:
    out = tmp_path / "out"
    with open_work(Workspace(out)) as store:
        store.write(calls[:1], begin(store))
        n = count(store, "segment_features")
    now = Descriptors.current()
    later = Descriptors(("brand_new", "loudness_db"), {**now.comments, "brand_new": "not measured before"})
    with open_work(Workspace(out), descriptors=later) as store:
        rows = store.connection.execute(
            "SELECT brand_new, loudness_db FROM segment_features ORDER BY segment"
        ).fetchall()
        assert len(rows) == n
        assert np.allclose([row[1] for row in rows], calls[0].features.column("loudness_db"))
        assert {row[0] for row in rows} == {None}

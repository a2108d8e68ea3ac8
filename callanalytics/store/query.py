"""Read the published database: one statement, nothing else of the computer within reach of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from callanalytics.errors import StoreError, UsageError
from callanalytics.store.open import check_no_log, held_elsewhere, is_damage
from callanalytics.store.schema import fetched
from callanalytics.store.text_tables import render, render_schema

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb
    import polars as pl

__all__ = [
    "Published",
    "Row",
    "describe_schema",
    "open_published",
    "render",
    "render_schema",
    "run_query",
    "search",
]

Row = dict[str, Any]

# Arrow or polars cannot hold these; as text they can be shown.
_AS_TEXT = ("INTERVAL", "UNION", "BIT", "TIME WITH TIME ZONE", "VARIANT", "GEOMETRY")
_MESSAGE_LINES = 6


# Within one process DuckDB shares an opened file between connections. A second one could not lock its
# configuration again and would go on seeing a copy that was replaced meanwhile: one reader at a time.
_one_reader = threading.RLock()


class Published:
    """The published database: read-only, in UTC, without access to any other file or the network.

    A context manager; one thread of a process reads at a time, others wait. An error of DuckDB that leaves
    the block becomes a StoreError.

        with Published(database) as published:
            calls = published.rows("FROM call_summary WHERE queue = $queue", queue="billing")

    Args:
        database: the file `callanalytics.duckdb` of an output folder.

    Raises:
        UsageError: there is none yet.
        StoreError: it cannot be opened or read (damaged, or somebody holds it open for writing).
    """

    connection: duckdb.DuckDBPyConnection

    def __init__(self, database: Path) -> None:
        self.database = database

    def __enter__(self) -> Self:
        if not self.database.is_file():
            raise UsageError(
                f"{self.database}: no results here yet: run the night first, or give --out another folder."
            )
        _one_reader.acquire()
        try:
            self.connection = _opened(self.database)
        except BaseException:
            _one_reader.release()
            raise
        return self

    def __exit__(self, _type: object, problem: BaseException | None, _trace: object) -> None:
        import duckdb

        try:
            self.connection.close()
        finally:
            _one_reader.release()
        if isinstance(problem, duckdb.Error):
            raise StoreError(
                f"{self.database}: cannot be read ({_first_line(problem)}). Was it written by this version? "
                "The next run publishes it anew."
            ) from problem

    def rows(self, sql: str, **values: object) -> list[Row]:
        """The rows of a query as dictionaries. Values are passed as parameters, never into the text.

        Ask for times AT TIME ZONE: DuckDB hands out a zoned time only where pytz is installed.
        """
        result = self.connection.execute(sql, values)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _opened(database: Path) -> duckdb.DuckDBPyConnection:
    import duckdb

    try:
        connection = duckdb.connect(database, read_only=True)
    except duckdb.Error as problem:
        advice = (
            "Close it there, or open it read-only there: it is a copy that the next run replaces."
            if held_elsewhere(problem)
            else "The next run publishes it anew."
        )
        raise StoreError(f"{database}: cannot be opened. {_first_line(problem)} {advice}") from problem
    try:
        check_no_log(database)
    except StoreError:
        connection.close()
        raise
    try:
        connection.execute("SET enable_progress_bar = false")  # it would go to standard output
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    except duckdb.Error as problem:
        connection.close()
        raise StoreError(
            f"{database}: is open in this process already. {_first_line(problem)} Close it there first."
        ) from problem
    return connection


@contextmanager
def open_published(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The connection of a `Published` database."""
    with Published(database) as published:
        yield published.connection


# Okapi BM25 with k1 = 1.2 and b = 0.75, an utterance being the document (Robertson and Zaragoza, The
# Probabilistic Relevance Framework, 2009; the idf that is never negative is Lucene's). Read as a whole for
# each search: an index of every word would be several times as large as what is said.
_SEARCH = """
WITH said AS (
    SELECT u.*, c.path, c.started_at, c.started_local, c.queue, c.agent_id, search_terms(u.text) AS terms
    FROM utterances u JOIN calls c USING (call_id)
    WHERE c.started_at >= $since AND c.started_at < $until AND ($role IS NULL OR u.role = $role::role)
),
whole AS (SELECT count(*) AS n, avg(len(terms)) AS mean_terms FROM said),
wanted AS (SELECT DISTINCT unnest(search_terms($text)) AS term),
hits AS (
    SELECT call_id, utterance, term, len(terms) AS n_terms, len(list_filter(terms, lambda t: t = term)) AS tf
    FROM said, wanted WHERE list_contains(terms, term)
),
known AS (SELECT term, count(*) AS df FROM hits GROUP BY term),
ranked AS (
    SELECT call_id, utterance, count(*) AS n_found, sum(
        ln(1 + (n - df + 0.5) / (df + 0.5)) * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * n_terms / mean_terms))
    ) AS score
    FROM hits JOIN known USING (term), whole GROUP BY ALL
)
SELECT s.call_id, s.path, s.started_local, s.queue, s.agent_id, s.role::VARCHAR AS role, s.start_s, s.end_s,
    s.text, s.confidence, s.source, r.score
FROM ranked r JOIN said s USING (call_id, utterance)
WHERE NOT $exact OR contains(' ' || array_to_string(s.terms, ' ') || ' ',
    ' ' || array_to_string(search_terms($text), ' ') || ' ')
ORDER BY r.score DESC, s.started_at DESC, s.call_id, s.start_s LIMIT $most
"""


def search(
    database: Path,
    text: str,
    *,
    since: datetime,
    until: datetime,
    role: str | None = None,
    exact: bool = False,
    most: int = 20,
) -> list[Row]:
    """What is said with the words of a text, the best match first: call, role, times, text and score.

    `exact`: the words one after the other. `since` and `until` are about the start of the call.

    Raises:
        UsageError: no database yet, or no word to search for.
        StoreError: the database cannot be opened or read.
    """
    if not any(character.isalnum() for character in text):
        raise UsageError(f"{text!r} holds no word to search for.")
    with Published(database) as published:
        return published.rows(_SEARCH, text=text, since=since, until=until, role=role, exact=exact, most=most)


def run_query(database: Path, sql: str, *, max_rows: int | None) -> pl.DataFrame:
    """The rows of one statement, at most `max_rows` of them.

    Intervals and the few other types that a data frame cannot hold arrive as text.

    Raises:
        UsageError: no database yet, or the statement is wrong; the message is DuckDB's.
        StoreError: the database cannot be opened or read.
    """
    import duckdb

    with open_published(database) as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                raise UsageError(f"Expected one SQL statement, found {len(statements)}.")
            relation = connection.sql(sql)
            if relation is None:
                raise UsageError("This statement has no rows to show: ask with SELECT, FROM or DESCRIBE.")
            return fetched(_showable(relation.limit(max_rows if max_rows is not None else 2**62)))
        except duckdb.Error as problem:
            if is_damage(problem) or isinstance(problem, duckdb.IOException):
                advice = "The next run publishes it anew." if is_damage(problem) else ""
                raise StoreError(f"{database}: cannot be read. {_shortened(problem)} {advice}") from problem
            raise UsageError(f"The database does not accept this: {_shortened(problem)}") from problem


def describe_schema(database: Path) -> list[dict[str, Any]]:
    """Tables and views, those for people (schema main) first.

    Each is a dict of name, kind ("view" or "table"), comment and columns; a column is a dict of name,
    type and comment.

    Raises:
        UsageError, StoreError: as `run_query` does.
    """
    import duckdb

    with open_published(database) as connection:
        try:
            rows = connection.execute(_COLUMNS).fetchall()
            enums = connection.execute(_ENUMS).fetchall()
        except duckdb.Error as problem:
            raise StoreError(f"{database}: cannot be read. {_shortened(problem)}") from problem
    named = {f"ENUM({', '.join(_literal(label) for label in labels)})": name for name, labels in enums}
    described: dict[str, dict[str, Any]] = {}
    for relation, kind, comment, column, type_name, column_comment in rows:
        entry = described.setdefault(
            relation, {"name": relation, "kind": kind, "comment": comment, "columns": []}
        )
        entry["columns"].append(
            {"name": column, "type": _by_name(type_name, named), "comment": column_comment}
        )
    return list(described.values())


def _by_name(type_name: str, named: dict[str, str]) -> str:
    """`emotion` instead of ENUM('anger', ...), also inside lists and structures."""
    for spelled_out, name in named.items():
        type_name = type_name.replace(spelled_out, name)
    return type_name


_COLUMNS = """
WITH relations AS (
    SELECT schema_name, view_name AS name, 'view' AS kind, comment FROM duckdb_views() WHERE NOT internal
    UNION ALL
    SELECT schema_name, table_name, 'table', comment FROM duckdb_tables() WHERE NOT internal
)
SELECT CASE WHEN c.schema_name = 'main' THEN name ELSE c.schema_name || '.' || name END, kind, r.comment,
    c.column_name, c.data_type, c.comment
FROM relations r JOIN duckdb_columns() c ON c.schema_name = r.schema_name AND c.table_name = r.name
ORDER BY c.schema_name != 'main', name, c.column_index
"""
_ENUMS = "SELECT type_name, labels FROM duckdb_types() WHERE logical_type = 'ENUM' AND NOT internal"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _showable(relation: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """The relation with every type that a data frame cannot hold cast to text."""
    columns = []
    for name, kind in zip(relation.columns, relation.types, strict=True):
        identifier = '"' + name.replace('"', '""') + '"'
        as_text = any(word in str(kind) for word in _AS_TEXT)
        columns.append(f"{identifier}::VARCHAR AS {identifier}" if as_text else identifier)
    return relation.project(", ".join(columns))


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)


def _shortened(problem: Exception) -> str:
    """The first lines of DuckDB's message: what is wrong and where, without the rest."""
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return "\n".join(lines[:_MESSAGE_LINES])

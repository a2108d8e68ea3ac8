"""Bring a database to the shape that this version of callanalytics knows: tables, views, comments.

`schema.sql` is migration 1; later ones are `migrations/NNNN_name.sql`. Each is recorded in
`base.schema_version` in the transaction that applies it, so a file is never between two versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from callanalytics.analysis import RECIPE
from callanalytics.errors import StoreError
from callanalytics.store.comments import column_comment, relation_comment, table_columns

if TYPE_CHECKING:
    import duckdb
    import polars as pl


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of the tables."""

    version: int
    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Names and comments of the acoustic descriptors, in the order of their vector."""

    names: tuple[str, ...]
    comments: dict[str, str]

    @classmethod
    def current(cls) -> Descriptors:
        """The descriptors that callanalytics.features extracts."""
        from callanalytics.features import FEATURE_COMMENTS, FEATURE_NAMES

        return cls(tuple(FEATURE_NAMES), dict(FEATURE_COMMENTS))


def shipped_migrations() -> tuple[Migration, ...]:
    """All migrations of this version, in order."""
    folder = files("callanalytics.store")
    found = [Migration(1, "schema", (folder / "schema.sql").read_text(encoding="utf-8"))]
    later = folder / "migrations"
    if later.is_dir():
        names = sorted(entry.name for entry in later.iterdir() if entry.name.endswith(".sql"))
        for file_name in names:
            number, _, name = file_name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, (later / file_name).read_text(encoding="utf-8")))
    return tuple(found)


def upgrade(
    connection: duckdb.DuckDBPyConnection, migrations: Sequence[Migration], descriptors: Descriptors
) -> None:
    """Apply what is missing, all or nothing.

    Raises:
        StoreError: the file was written by a newer version, or a step failed (nothing was changed).
    """
    import duckdb

    found = schema_version(connection)
    known = migrations[-1].version
    if found > known:
        raise StoreError(
            f"The database has schema version {found}, this callanalytics knows versions up to {known}. "
            "It was written by a newer callanalytics: install that version or newer."
        )
    step = f"version {found}"
    connection.execute("BEGIN")
    try:
        for migration in migrations:
            if migration.version > found:
                step = f"migration {migration.version} ({migration.name})"
                connection.execute(migration.sql.replace("{n_features}", str(len(descriptors.names))))
                connection.execute(
                    "INSERT INTO base.schema_version VALUES (?, ?, now())",
                    [migration.version, migration.name],
                )
        step = "the acoustic descriptors"
        _fit_descriptors(connection, descriptors)
        step = "the views"
        _define_views(connection, migrations, descriptors)
        connection.execute("COMMIT")
    except duckdb.Error as problem:
        connection.execute("ROLLBACK")
        raise StoreError(
            f"The database cannot be upgraded: {step} failed and nothing was changed. {problem}"
        ) from problem


def is_outdated(
    connection: duckdb.DuckDBPyConnection, migrations: Sequence[Migration], descriptors: Descriptors
) -> bool:
    """Whether `upgrade` would change a file with tables: its published copy lacks what readers ask for."""
    found, known = schema_version(connection), migrations[-1].version
    return 0 < found <= known and (
        found < known
        or _stored_descriptors(connection) != descriptors.names
        or _defined(connection) != _definitions(migrations, descriptors)[1]
    )


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """Number of the newest migration in this file, 0 for an empty one."""
    exists = first_value(
        connection,
        "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'base' AND table_name = 'schema_version'"
        " AND database_name = current_database()",
    )
    return int(first_value(connection, "SELECT max(version) FROM base.schema_version") or 0) if exists else 0


def first_value(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The first value of the first row, None without rows; leaves no result open on the connection."""
    rows = connection.execute(sql).fetchall()
    return rows[0][0] if rows else None


def fetched(relation: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    """All rows of a relation. Not by its own `pl`, which needs pyarrow: 176 MB that nothing else needs here.

    Raises:
        duckdb.Error: as the relation itself does.
    """
    import polars as pl

    try:
        return pl.DataFrame(relation)
    except pl.exceptions.ComputeError:  # what stops DuckDB midway comes wrapped in this
        relation.fetchall()
        raise


@dataclass(frozen=True, slots=True)
class Streamed:
    """A frame that DuckDB reads by Arrow's C stream, since of polars itself it knows only by way of pyarrow.

    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """

    frame: pl.DataFrame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.frame.__arrow_c_stream__(requested_schema)


def _fit_descriptors(connection: duckdb.DuckDBPyConnection, descriptors: Descriptors) -> None:
    """Carry stored vectors over when this version extracts other descriptors; unknown ones are NaN."""
    stored = _stored_descriptors(connection)
    if stored == descriptors.names:
        return
    if stored:
        entries = ", ".join(
            f"descriptors[{stored.index(name) + 1}]" if name in stored else "'nan'::FLOAT"
            for name in descriptors.names
        )
        size = len(descriptors.names)
        connection.execute(
            f"ALTER TABLE base.segments ALTER descriptors TYPE FLOAT[{size}] USING [{entries}]::FLOAT[{size}]"
        )
        connection.execute("DELETE FROM base.feature_names")
    connection.executemany("INSERT INTO base.feature_names VALUES (?, ?)", list(enumerate(descriptors.names)))


def _stored_descriptors(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    rows = connection.execute("SELECT name FROM base.feature_names ORDER BY position").fetchall()
    return tuple(str(name) for (name,) in rows)


def _defined(connection: duckdb.DuckDBPyConnection) -> Any:
    """Fingerprint of the views and comments of a file, None without."""
    return first_value(connection, "SELECT sha256 FROM base.definitions WHERE name = 'views'")


def _definitions(migrations: Sequence[Migration], descriptors: Descriptors) -> tuple[str, str]:
    """The views of this version, and the fingerprint of them and of all comments."""
    sql, tables = view_definitions(descriptors), "\n".join(migration.sql for migration in migrations)
    comments = (files("callanalytics.store") / "comments.py").read_text(encoding="utf-8")
    whole = json.dumps([sql, tables, comments, descriptors.comments])
    return sql, hashlib.sha256(whole.encode()).hexdigest()


def _define_views(
    connection: duckdb.DuckDBPyConnection, migrations: Sequence[Migration], descriptors: Descriptors
) -> None:
    """Replace views and comments unless the file already has exactly these."""
    sql, fingerprint = _definitions(migrations, descriptors)
    if _defined(connection) == fingerprint:
        return
    for (view,) in connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'"
        " AND database_name = current_database()"
    ).fetchall():
        connection.execute(f"DROP VIEW {quoted(view)}")
    for (macro,) in connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions()"
        " WHERE NOT internal AND function_type = 'macro' AND database_name = current_database()"
    ).fetchall():
        connection.execute(f"DROP MACRO {quoted(macro)}")
    connection.execute(sql)
    tables = "\n".join(migration.sql for migration in migrations)
    _comment(connection, table_columns(tables), descriptors)
    connection.execute("INSERT OR REPLACE INTO base.definitions VALUES ('views', ?)", [fingerprint])


def view_definitions(descriptors: Descriptors) -> str:
    """views.sql with a column per acoustic descriptor, a row per word of quality and measure, the recipe."""
    from callanalytics.analysis.measures import MEASURE_TEXT
    from callanalytics.config import RULE_MEASURES
    from callanalytics.diarize.quality import QUALITY_TEXT

    columns = ",\n    ".join(
        f"nullif(s.descriptors[{position}], 'nan'::FLOAT) AS {quoted(name)}"
        for position, name in enumerate(descriptors.names, start=1)
    )
    text = (files("callanalytics.store") / "views.sql").read_text(encoding="utf-8")
    words = ",\n    ".join(
        f"({_literal(word)}, {_literal(meaning)})" for word, meaning in QUALITY_TEXT.items()
    )
    measures = ",\n    ".join(
        f"({_literal(name)}, {_literal(meaning)}, {'true' if name in RULE_MEASURES else 'false'})"
        for name, meaning in MEASURE_TEXT.items()
    )
    placed = {
        "{feature_columns}": columns,
        "{quality_words}": words,
        "{measures}": measures,
        "{recipe}": str(RECIPE),
    }
    for place, content in placed.items():
        text = text.replace(place, content)
    return text


def _comment(
    connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str], descriptors: Descriptors
) -> None:
    """Write the meaning of every table, view and column into the database."""
    statements: list[str] = []
    found = connection.execute(  # of all at once: one question each would take six times as long
        "SELECT schema_name, table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()"
        " WHERE NOT internal AND database_name = current_database() GROUP BY ALL"
    ).fetchall()
    columns_of = {(schema, name): names for schema, name, names in found}
    for schema, name, kind in relations(connection):
        plain = name if schema == "main" else f"{schema}.{name}"
        target = f"{quoted(schema)}.{quoted(name)}"
        statements.append(f"COMMENT ON {kind} {target} IS {_literal(relation_comment(plain))}")
        known = {**columns, **descriptors.comments} if plain == "segment_features" else columns
        for column in columns_of[schema, name]:
            meaning = _literal(column_comment(plain, column, known))
            statements.append(f"COMMENT ON COLUMN {target}.{quoted(column)} IS {meaning}")
    connection.execute(";\n".join(statements))


def relations(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, str]]:
    """Schema, name and kind (TABLE or VIEW) of everything that holds rows, views first."""
    return [
        (str(schema), str(name), str(kind))
        for schema, name, kind in connection.execute(
            "SELECT schema_name, view_name, 'VIEW' FROM duckdb_views()"
            " WHERE NOT internal AND database_name = current_database()"
            " UNION ALL SELECT schema_name, table_name, 'TABLE' FROM duckdb_tables()"
            " WHERE NOT internal AND database_name = current_database() ORDER BY 3 DESC, 1, 2"
        ).fetchall()
    ]


def quoted(name: str) -> str:
    """An SQL identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

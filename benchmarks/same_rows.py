"""Do two published databases hold the same rows? Shows what a change of the code did to a night.

    python benchmarks/same_rows.py BEFORE/callanalytics.duckdb AFTER/callanalytics.duckdb

Every base table is compared as a multiset of rows, without columns that hold times of the clock and
numbers of runs; `analysis_key`, which counts in the order in which workers were ready, is replaced by the
call and the ensemble it stands for. Columns and tables that only one side has are named and passed over. Exit
1 when any table differs.
"""

from __future__ import annotations

import sys

import duckdb

CLOCK = {"analysed_at", "revision", "stage_wall_s", "run_id", "first_seen_at", "last_seen_at", "promoted_at"}
CLOCK |= {"registered_at", "updated_at", "quarantined_at", "first_failed_at", "last_failed_at", "seen_at"}
CLOCK |= {"first_used_at"}
# Runs are times; ensembles hold the whole card, whose id is compared with every analysis; definitions hold
# a fingerprint of the code's own text.
PASSED_OVER = {"runs", "ensembles", "schema_version", "definitions"}


def main(before: str, after: str) -> int:
    connection = duckdb.connect()
    for name, path in (("before", before), ("after", after)):
        connection.execute(f"ATTACH '{path}' AS {name} (READ_ONLY)")
    tables = connection.execute(
        "SELECT DISTINCT table_name FROM duckdb_tables()"
        " WHERE database_name IN ('before', 'after') AND schema_name = 'base' ORDER BY 1"
    ).fetchall()
    differing = 0
    for (table,) in tables:
        if table in PASSED_OVER:
            continue
        of_before, of_after = (_columns(connection, side, table) for side in ("before", "after"))
        columns = [name for name in of_after if name in of_before]
        for side, names in (("before", of_before), ("after", of_after)):
            if alone := [name for name in names if name not in columns]:
                print(f"{table:<20} only {side}, not compared: {', '.join(alone)}")
        if not columns:
            continue
        one, two = (_rows(side, table, columns) for side in ("before", "after"))
        (n_before, n_lost, n_new), *_ = connection.execute(
            f"SELECT (SELECT count(*) FROM ({one})), (SELECT count(*) FROM ({one} EXCEPT ALL {two})),"
            f" (SELECT count(*) FROM ({two} EXCEPT ALL {one}))"
        ).fetchall()
        print(f"{table:<20} {n_before:>8} rows, {n_lost} only before, {n_new} only after")
        differing += bool(n_lost or n_new)
    print("same rows" if not differing else f"{differing} tables differ")
    return 1 if differing else 0


def _columns(connection: duckdb.DuckDBPyConnection, side: str, table: str) -> list[str]:
    """Columns of a table that are to be compared; none where one side lacks it."""
    found = connection.execute(
        "SELECT column_name FROM duckdb_columns()"
        " WHERE database_name = ? AND schema_name = 'base' AND table_name = ?",
        [side, table],
    ).fetchall()
    return [name for (name,) in found if name not in CLOCK]


def _rows(side: str, table: str, columns: list[str]) -> str:
    """The rows of a table as SQL, with the analysis named instead of numbered."""
    shown = ", ".join(f't."{name}"' for name in columns if name != "analysis_key")
    if "analysis_key" not in columns or table == "analyses":
        return f'SELECT {shown} FROM {side}.base."{table}" t'
    return (
        f"SELECT a.call_id AS of_call, a.ensemble_id AS of_ensemble, {shown}"
        f' FROM {side}.base."{table}" t JOIN {side}.base.analyses a USING (analysis_key)'
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

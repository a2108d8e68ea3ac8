"""Rows and schema as text for people (table), spreadsheets (csv) and programs (json)."""

from __future__ import annotations

import json
import math
import shutil
from base64 import b64encode
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any

from callanalytics.errors import UsageError
from callanalytics.records.text import display_text

if TYPE_CHECKING:
    import polars as pl
    from rich.console import JustifyMethod

FORMATS = ("table", "csv", "json")
GAP = "  "
# Cells wider than this are cut in a table, and down to the second number when room is short; csv and json
# have them whole.
MAX_CELL = 60
NARROW_CELL = 20
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
USUAL_WIDTH = 120  # of a terminal that does not say, and of a pipe


def render(frame: pl.DataFrame, style: str, *, width: int | None = None, formulas: bool = True) -> str:
    """The rows as text that ends with a line break.

    table: aligned columns; when they do not fit into `width` (default: the terminal's), every row
    is written as one block with a line per column, so that no column is ever left out.
    csv: with a header; lists and structures as JSON. json: an array with one object a line.
    Times are ISO 8601; NaN and infinity are null in JSON. Without `formulas`, text in csv that a spreadsheet
    would take for a formula has an apostrophe before it.

    Raises:
        ValueError: another style.
        UsageError: a value that Python cannot hold (year 10000).
    """
    if style == "csv":
        return _csv(frame, formulas=formulas)
    if style == "json":
        rows = [json.dumps(row, ensure_ascii=False) for row in _plain_rows(frame)]
        return "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"
    if style != "table":
        raise ValueError(f"style is {style!r}, expected one of {', '.join(FORMATS)}")
    return _table(frame, width or shutil.get_terminal_size((USUAL_WIDTH, 24)).columns)


def render_schema(tables: Sequence[dict[str, Any]]) -> str:
    """Text of what `describe_schema` found."""
    lines: list[str] = []
    for table in tables:
        lines.append(f"{table['name']} ({table['kind']}): {table['comment'] or ''}")
        columns = table["columns"]
        names = max(len(column["name"]) for column in columns)
        types = min(max(len(column["type"]) for column in columns), MAX_CELL)
        lines += [
            f"  {column['name']:<{names}}  {column['type']:<{types}}  {column['comment'] or ''}".rstrip()
            for column in columns
        ]
        lines.append("")
    return "\n".join(lines).rstrip("\n")


def _csv(frame: pl.DataFrame, *, formulas: bool) -> str:
    import polars as pl

    rows = _plain_rows(frame)
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    for row in rows:
        for name in nested:
            row[name] = None if row[name] is None else json.dumps(row[name], ensure_ascii=False)
    kept = (lambda text: text) if formulas else without_formula
    words = {name for name, kind in frame.schema.items() if not (kind.is_numeric() or kind.is_temporal())}
    texts = {
        (kept(name) or name): pl.Series(
            [kept(cell) if name in words else cell for row in rows for cell in [_csv_cell(row[name])]],
            dtype=pl.String,
        )
        for name in frame.columns
    }
    return pl.DataFrame(texts).write_csv()


def without_formula(text: str | None) -> str | None:
    """A cell that no spreadsheet takes for a formula (OWASP, "CSV Injection"); None stays None."""
    return f"'{text}" if text and text.lstrip(" ")[:1] in _FORMULA_STARTS else text


def _csv_cell(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _plain_rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    import polars as pl

    try:
        rows = frame.to_dicts()
    except pl.exceptions.PanicException as problem:
        raise UsageError(
            f'A value cannot be shown ({problem}). Cast its column, for example "at"::VARCHAR.'
        ) from None
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    return value


def _table(frame: pl.DataFrame, width: int) -> str:
    from rich.cells import cell_len

    names = [display_text(name) for name in frame.columns]
    rows = [[_cell(value) for value in row.values()] for row in _plain_rows(frame)]
    footer = f"({frame.height} row{'' if frame.height == 1 else 's'})\n"
    right = [kind.is_numeric() for kind in frame.dtypes]
    longest = [max((cell_len(row[i]) for row in rows), default=0) for i in range(len(names))]
    for limit in range(MAX_CELL, NARROW_CELL - 1, -1):
        widths = [max(cell_len(name), min(n, limit)) for name, n in zip(names, longest, strict=True)]
        if sum(widths) + len(GAP) * (len(widths) - 1) <= width:
            return _drawn(names, rows, right, widths) + footer
    return _blocks(names, rows, width) + footer


def _drawn(
    names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], widths: Sequence[int]
) -> str:
    """Columns under their names, by rich; a cell that is wider than its column ends in an ellipsis."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), header_style="")
    for i, (name, width) in enumerate(zip(names, widths, strict=True)):
        justify: JustifyMethod = "right" if right[i] else "left"
        table.add_column(
            Text(f"{name}\n{'─' * width}"), justify=justify, width=width, no_wrap=True, overflow="ellipsis"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=10_000, color_system=None)
    with console.capture() as printed:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in printed.get().splitlines())


def _blocks(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """One block per row, one line per column."""
    from rich.cells import cell_len

    label = max((cell_len(name) for name in names), default=0)
    blocks = []
    for number, row in enumerate(rows, start=1):
        head = f"── {number} "
        lines = [head + "─" * max(0, min(width, 60) - len(head))]
        lines += [
            f"{name}{' ' * (label - cell_len(name))}{GAP}{text}"
            for name, text in zip(names, row, strict=True)
        ]
        blocks.append("\n".join(lines) + "\n")
    return "".join(blocks)


def _cell(value: Any) -> str:
    """One value for reading: four decimals, whole seconds, no control characters."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        large_or_tiny = value and not 1e-3 <= abs(value) < 1e9
        return f"{value:.4g}" if large_or_tiny else f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return "[" + ", ".join(_cell(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{display_text(key)}: {_cell(item)}" for key, item in value.items()) + "}"
    return display_text(str(value))

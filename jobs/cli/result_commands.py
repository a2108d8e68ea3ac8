"""Asking for results: query, schema, report, status, doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from jobs.cli.console import in_colour, say
from jobs.cli.options import in_workspace, json_option, with_settings

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace


@click.command()
@click.argument("sql", required=False)
@click.option("-f", "--file", type=click.File(encoding="utf-8"), help="Read the statement from a file.")
@click.option("--format", "style", type=click.Choice(["table", "csv", "json"]), default="table")
@click.option("--max-rows", type=click.IntRange(1, 2**62), help="Stop after this many rows.")
@click.option(
    "--safe-csv", is_flag=True, help="For spreadsheets: an apostrophe before text that looks like a formula."
)
@in_workspace
def query(
    sql: str | None,
    file: TextIO | None,
    style: str,
    max_rows: int | None,
    safe_csv: bool,
    workspace: Workspace,
) -> None:
    """Ask the published database in SQL; "-" reads the statement from standard input."""
    from callanalytics.store.query import render, run_query

    if safe_csv and style != "csv":
        raise click.UsageError("--safe-csv goes with --format csv.")
    if (sql is None) is (file is None):
        raise click.UsageError('Give one statement: as SQL, with --file, or "-" for standard input.')
    sql = file.read() if file else sys.stdin.read() if sql == "-" else sql
    assert sql is not None  # noqa: S101 - one of the two is given
    frame = run_query(workspace.database, sql, max_rows=max_rows)
    print(render(frame, style, formulas=not safe_csv), end="")


@click.command()
@click.argument("text")
@click.option("--role", type=click.Choice(["agent", "caller", "unknown"]), help="Whose words.")
@click.option("--exact", is_flag=True, help="The words one after the other, as they stand.")
@click.option("--since", help="Calls from then on, in the words of run (default: all).")
@click.option("--until", help="Calls before then (default: none).")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@json_option
@with_settings
def search(
    text: str,
    role: str | None,
    exact: bool,
    since: str | None,
    until: str | None,
    limit: int,
    as_json: bool,
    settings: Settings,
    workspace: Workspace,
) -> None:
    """Find what was said in calls whose words are known: the best match first."""
    from datetime import UTC, datetime

    from callanalytics.config.window import parse_stored_window
    from callanalytics.store.query import search as find

    zone = settings.time.zone_info
    window = parse_stored_window(since, until, zone=zone, now=datetime.now(UTC))
    found = find(
        *(workspace.database, text),
        since=window.since,
        until=window.until,
        role=role,
        exact=exact,
        most=limit,
    )
    if as_json:
        print(json.dumps(found, default=str))
        return
    for row in found:
        at = f"{int(row['start_s']) // 60}:{int(row['start_s']) % 60:02d}"
        print(
            f"{row['call_id']}  {row['started_local']:%Y-%m-%d %H:%M}  {at:>6}  {row['role']}: {row['text']}"
        )
    if not found:
        say("Nothing found. Only calls with words are searched: see [words] of config.toml.")


@click.command()
@click.argument("names", metavar="[TABLE]...", nargs=-1)
@json_option
@in_workspace
def schema(names: tuple[str, ...], as_json: bool, workspace: Workspace) -> None:
    """Print the tables, views and columns of the published database, or some of them, with their comments."""
    from callanalytics.records.text import did_you_mean
    from callanalytics.store.query import describe_schema, render_schema

    tables = describe_schema(workspace.database)
    known = [table["name"] for table in tables]
    for name in set(names) - set(known):
        raise click.UsageError(f"No table or view {name!r}.{did_you_mean(name, known)}")
    tables = [table for table in tables if table["name"] in names or not names]
    print(json.dumps(tables, indent=2) if as_json else render_schema(tables))


@click.command()
@json_option
@with_settings
def status(as_json: bool, settings: Settings, workspace: Workspace) -> None:
    """Show the last runs, the quarantine and whether a run is at work."""
    from jobs.maintenance.status import read_status, render_status

    found = read_status(workspace, settings.rule_set.rules_id)
    if as_json:
        print(json.dumps(found))
    else:
        print(in_colour(render_status(found, settings.time.zone_info), sys.stdout))


@click.command()
@click.option("--deep", is_flag=True, help="Also read every block of the databases and verify its checksum.")
@json_option
@with_settings
def doctor(deep: bool, as_json: bool, settings: Settings, workspace: Workspace) -> None:
    """Check decoders, weights, disk, zone and database, each with a fix."""
    from dataclasses import asdict

    from jobs.maintenance.doctor import examine, render_findings

    findings = examine(settings, workspace, deep=deep)
    print(json.dumps([asdict(f) for f in findings]) if as_json else render_findings(findings))
    sys.exit(0 if all(f.ok for f in findings) else 1)


@click.command()
@click.option("--since", help="Start of the window (default: yesterday).")
@click.option("--until", help="End of the window, exclusive (default: now, of yesterday its end).")
@click.option(
    "--single-file",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="One HTML file for mail, sounds inside, instead of the folder (default: OUT/report.html).",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Leave out sound, words, and names of agents, teams, callers, reviewers and files.",
)
@click.option(
    "--email-body",
    type=click.Choice(["files", "text", "html"]),
    is_flag=False,
    flag_value="files",
    help="A summary for mail: as email.txt and email.html beside the report, or only to standard output.",
)
@with_settings
def report(
    since: str | None,
    until: str | None,
    single_file: str | None,
    redact: bool,
    email_body: str | None,
    settings: Settings,
    workspace: Workspace,
) -> None:
    """Write the HTML report of a window from the published database."""
    from datetime import UTC, datetime

    from callanalytics.config.window import parse_window
    from reports.outputs.email_body import build_email, write_email
    from reports.outputs.folder import build_reports
    from reports.outputs.single_file_report import build_single_file

    now = datetime.now(UTC)
    source = workspace.database
    window = parse_window(since, until, zone=settings.time.zone_info, now=now)
    ending = "-redacted" if redact else ""
    page = workspace.redacted_index if redact else workspace.report_index
    if single_file is not None:
        page = Path(single_file) if single_file else workspace.folder / f"report{ending}.html"
    if email_body in {"text", "html"}:
        body = build_email(source, settings=settings, window=window, now=now, report=page, redact=redact)
        print(body.text if email_body == "text" else body.html, end="")
        return
    clips_dir = workspace.clips
    if single_file is None:
        build_reports(
            source, page.parent, settings=settings, window=window, now=now, clips_dir=clips_dir, redact=redact
        )
    else:
        build_single_file(
            source, page, settings=settings, window=window, now=now, clips_dir=clips_dir, redact=redact
        )
    say(f"Report: {page}")
    if email_body == "files":
        body = build_email(source, settings=settings, window=window, now=now, report=page, redact=redact)
        say(f"Mail:   {write_email(body, page.parent / f'email{ending}.txt')}")

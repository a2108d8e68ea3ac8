"""Write the report of a window: pages into a new folder, then file by file into place, the index last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.workspace import folder_in_the_making, make_private_dir
from reports.pages.agents import read_agent_pages
from reports.pages.brief import read_brief
from reports.pages.call_page import read_call_pages
from reports.pages.calls_table import choose_calls, read_call_list
from reports.pages.health import read_health
from reports.pages.trends import read_trends
from reports.render import asset, frame_for, render, write_page, writing
from reports.report_source import Source, open_source
from reports.translation import _

INDEX = "index.html"
CALLS_DIR = "calls"
AGENTS_DIR = "agents"
PAGE_DIRS = (CALLS_DIR, AGENTS_DIR)
ASSETS = ("style.css", "report.js")


def build_reports(
    database: Path,
    out_dir: Path,
    *,
    settings: Settings,
    window: Window,
    now: datetime,
    clips_dir: Path | None,
    redact: bool = False,
) -> Path:
    """Write index.html, calls/, agents/, trends.html, health.html and their style into `out_dir`.

    Files are private (0600). Who has an old page open keeps it; nobody sees an index whose pages are missing.

    Args:
        database: the published file, read only.
        out_dir: the folder of the report; made where it is missing.
        window: half-open, `since` and `until` with a zone.
        clips_dir: evidence clips as <clips_dir>/<call_id>/<name>, inside `out_dir` (others are not linked,
            because the folder must work alone).
        redact: leave out sound, pictures of it, and what names people or files; for a folder of its own,
            since clips that lie in `out_dir` stay there.

    Returns:
        The path of index.html.

    Raises:
        ReportError: the database cannot be read or the folder cannot be written.
    """
    clips_href = _relative(clips_dir, out_dir)
    linked = clips_dir if clips_href else None
    with (
        writing(out_dir),
        open_source(
            database, settings, window, now, clips_dir=linked, clips_href=clips_href, redact=redact
        ) as source,
        _new_pages(out_dir) as folder,
    ):
        _write_pages(source, folder)
        _put_in_place(folder, out_dir)
    return out_dir / INDEX


def _relative(clips_dir: Path | None, out_dir: Path) -> str:
    """Way from `out_dir` to the clips, empty when they lie elsewhere."""
    if clips_dir is None:
        return ""
    try:
        return clips_dir.resolve().relative_to(out_dir.resolve()).as_posix()
    except ValueError:
        return ""


def _write_pages(source: Source, folder: Path) -> None:
    """Every page, into an empty folder."""
    for name in PAGE_DIRS:
        (folder / name).mkdir(mode=0o700)
    frame = frame_for(source, "brief", "")

    def write(name: str, kind: str, title: str, **view: Any) -> None:
        around = replace(frame, page=kind, page_title=title, root="../" * name.count("/"))
        write_page(folder / name, render(f"{kind}.html", frame=around, **view))

    chosen = choose_calls(source)
    pages = frozenset(chosen.values())
    agents = set()
    for agent in read_agent_pages(source, pages):
        write(f"{AGENTS_DIR}/{agent.file_name}", "agent", agent.headline, agent=agent)
        agents.add(agent.file_name)
    for page in read_call_pages(source, list(chosen), pages, frozenset(agents)):
        write(f"{CALLS_DIR}/{page.call.call_id}.html", "call", page.call.when, page=page)
    write(f"{CALLS_DIR}/{INDEX}", "calls", _("All calls"), calls=read_call_list(source, pages))
    write("trends.html", "trends", _("Trends"), trends=read_trends(source))
    write("health.html", "health", _("Model and data health"), health=read_health(source))
    brief = read_brief(source, pages)
    write(INDEX, "brief", brief.summary.headline, brief=brief)
    for name in ASSETS:
        write_page(folder / name, asset(name))


@contextmanager
def _new_pages(out_dir: Path) -> Iterator[Path]:
    """An empty folder in `out_dir`, which is made where it is missing; removed in the end."""
    make_private_dir(out_dir)
    with folder_in_the_making(out_dir / "pages") as folder:
        yield folder


def _put_in_place(folder: Path, out_dir: Path) -> None:
    """Move everything over, the index last, then remove the pages that no longer belong to it."""
    for name in PAGE_DIRS:
        (out_dir / name).mkdir(mode=0o700, exist_ok=True)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for path in sorted(names, key=lambda path: path == Path(INDEX)):
        (folder / path).replace(out_dir / path)
    kept = set(names)
    for folder_name in PAGE_DIRS:
        for old in (out_dir / folder_name).glob("*.html"):
            if old.relative_to(out_dir) not in kept:
                old.unlink(missing_ok=True)

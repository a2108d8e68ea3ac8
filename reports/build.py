"""Write the report of a window: pages into a new folder, then file by file into place, the index last."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from callanalytics.config import Settings
from callanalytics.errors import ReportError
from ensemble.labels import SHARED_SIX
from reports import words
from reports.brief import read_brief
from reports.callpage import read_call_pages
from reports.callslist import choose_calls, read_call_list
from reports.health import read_health
from reports.palette import Badge, legend
from reports.source import Source, WindowLike, open_source
from reports.trends import read_trends
from reports.views import Frame

INDEX = "index.html"
CALLS_DIR = "calls"
ASSETS = ("style.css", "report.js")


def build_reports(
    database: Path,
    out_dir: Path,
    *,
    settings: Settings,
    window: WindowLike,
    now: datetime,
    clips_dir: Path | None,
) -> Path:
    """Write index.html, calls/, trends.html, health.html and their style into `out_dir`.

    database: the published file, read only. window: half-open, `since` and `until` with a zone.
    clips_dir: evidence clips as <clips_dir>/<call_id>/<name>, inside `out_dir` (others are not linked,
    because the folder must work alone). Files are private (0600). Who has an old page open keeps it;
    nobody sees an index whose pages are missing. Returns the path of index.html.

    Raises:
        ReportError: the database cannot be read or the folder cannot be written.
    """
    try:
        out_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        clips_href = _relative(clips_dir, out_dir)
        with (
            open_source(
                database, settings, window, now, clips_dir if clips_href else None, clips_href
            ) as source,
            _building(out_dir) as folder,
        ):
            with words.localised(settings.report.locale):
                _write_pages(source, folder)
            _put_in_place(folder, out_dir)
    except OSError as problem:
        raise ReportError(
            f"{out_dir}: the report could not be written ({problem.strerror or problem}). "
            "Check free space and permissions and run `callanalytics report` again."
        ) from problem
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
    (folder / CALLS_DIR).mkdir(mode=0o700)
    chosen = choose_calls(source)
    pages = frozenset(chosen.values())
    site = _Site(source, folder, legend(_labels(source)))
    for page in read_call_pages(source, list(chosen), pages):
        site.write(f"{CALLS_DIR}/{page.call_id}.html", "call", page.headline, call=page)
    (n_calls,) = source.in_window(
        "SELECT count(*) AS n FROM call_summary WHERE started_at >= $since AND started_at < $until"
    )
    site.write(
        f"{CALLS_DIR}/{INDEX}", "calls", "All calls", calls=read_call_list(source, pages, n_calls["n"])
    )
    site.write("trends.html", "trends", "Trends", trends=read_trends(source))
    site.write("health.html", "health", "Model and data health", health=read_health(source))
    brief = read_brief(source, pages)
    site.write(INDEX, "brief", brief.headline, brief=brief)
    for name in ASSETS:
        _write(folder / name, _templates().joinpath(name).read_text(encoding="utf-8"))


def _labels(source: Source) -> tuple[str, ...]:
    """What the promoted ensemble can say."""
    rows = source.rows("SELECT labels::VARCHAR[] AS labels FROM ensembles WHERE promoted LIMIT 1")
    return tuple(rows[0]["labels"]) if rows else SHARED_SIX


@dataclass(frozen=True, slots=True)
class _Site:
    """Renders pages with the same frame around them."""

    source: Source
    folder: Path
    legend: tuple[Badge, ...]

    def write(self, name: str, kind: str, page_title: str, **view: Any) -> None:
        """Render one page. `name` is its path from the report's folder."""
        source = self.source
        frame = Frame(
            title=source.settings.report.title,
            page=kind,
            page_title=page_title,
            window=words.window_words(source.since, source.until, source.now),
            generated=f"{words.moment(source.now)} ({source.settings.time.zone})",
            root="../" * name.count("/"),
            legend=self.legend,
        )
        text = _environment().get_template(f"{kind}.html").render(frame=frame, **view)
        _write(self.folder / name, text)


def _templates() -> Any:
    return resources.files("reports") / "templates"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _write(path: Path, text: str) -> None:
    """A private text file. Broken surrogates of file names become question marks."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="\n") as stream:
        stream.write(text)


@contextmanager
def _building(out_dir: Path) -> Iterator[Path]:
    """An empty folder on the same file system as `out_dir`, removed in the end."""
    folder = Path(tempfile.mkdtemp(prefix=".building-", dir=out_dir))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, out_dir: Path) -> None:
    """Move everything over, the index last, then remove the pages of calls that are no longer in it."""
    (out_dir / CALLS_DIR).mkdir(mode=0o700, exist_ok=True)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for name in sorted(names, key=lambda name: name == Path(INDEX)):
        (folder / name).replace(out_dir / name)
    kept = set(names)
    for path in (out_dir / CALLS_DIR).glob("*.html"):
        if path.relative_to(out_dir) not in kept:
            path.unlink(missing_ok=True)

"""Views into pages: the templates, the frame around every page, and files that only their owner reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from callanalytics.errors import ReportError, remedy
from callanalytics.workspace import write_whole
from ensemble.labels import SHARED_SIX
from reports.formatting import moment, window_text
from reports.palette import Badge, legend
from reports.report_source import Source
from reports.translation import _, language

# Beside this file, and not by the name of the package: who works in a folder that holds a folder "reports",
# such as that of the results, may get that one for it (as of editable installations).
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page has around it."""

    title: str  # of the report
    page: str  # the kind of page: brief, calls, call, agent, trends, health, single, email
    page_title: str
    window: str
    generated: str
    root: str  # relative way to the folder of index.html: "" or "../"
    legend: tuple[Badge, ...]  # what the promoted ensemble can say
    language: str
    words: str  # what the script shows, as JSON
    single: bool  # everything is in one file: there are no other pages to link
    redacted: bool


def frame_for(source: Source, page: str, page_title: str, *, root: str = "", single: bool = False) -> Frame:
    """What stands around a page. `root` leads to the folder of index.html."""
    promoted = source.rows("SELECT labels::VARCHAR[] AS labels FROM ensembles WHERE promoted LIMIT 1")
    return Frame(
        title=source.settings.report.title,
        page=page,
        page_title=page_title,
        window=window_text(source.since, source.until, source.now),
        generated=f"{moment(source.now)} ({source.settings.time.zone_info.key})",
        root=root,
        legend=legend(promoted[0]["labels"] if promoted else SHARED_SIX),
        language=language(),
        words=json.dumps(_script_words(), ensure_ascii=False),
        single=single,
        redacted=source.redacted,
    )


def _script_words() -> dict[str, str]:
    """The texts of report.js; values in braces are filled in there."""
    return {
        "filter": _("Filter"),
        "any": _("{column}: any"),
        "none": _("none"),
        "shown": _("{shown} of {all} rows"),
        "more": _("Show more rows"),
        "copy": _("Copy"),
        "copied": _("Copied"),
    }


def render(template: str, **views: Any) -> str:
    """The text of a page. Names of HTML templates end in .html and escape everything."""
    return _environment().get_template(template).render(**views)


def load_templates() -> None:
    """Compile the templates of pages: it takes as long as to fill in dozens."""
    environment = _environment()
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)


def asset(name: str) -> str:
    """The text of a file beside the templates: style.css, report.js."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(("html",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["_"] = _
    return environment


def write_page(path: Path, text: str) -> None:
    """Write or replace a file that only its owner reads; who has the old one open keeps it.

    Broken surrogates of file names become question marks. Raises OSError.
    """
    write_whole(path, text.encode("utf-8", errors="replace"))


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an OSError of the block into a ReportError about `target`."""
    try:
        yield
    except OSError as problem:
        raise ReportError(
            f"{target}: the report could not be written ({problem.strerror or problem}). "
            f"{remedy(problem)} and run `callanalytics report` again."
        ) from problem

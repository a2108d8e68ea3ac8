"""A summary of the brief for the body of a mail: plain text, and HTML that mail programs show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.workspace import make_private_dir
from reports.formatting import counted
from reports.pages.brief import read_summary
from reports.render import frame_for, render, write_page, writing
from reports.report_source import open_source
from reports.translation import _, marked

MAX_CALLS = 10
LIMITS = marked(
    "The models learned from acted speech and assess how somebody speaks, not why: listen before you act. "
    "The numbers are about callers and must not be used to judge people at work."
)


@dataclass(frozen=True, slots=True)
class EmailBody:
    """The same summary twice, and a subject line."""

    subject: str
    text: str
    html: str


def build_email(
    database: Path,
    *,
    settings: Settings,
    window: Window,
    now: datetime,
    report: Path | None,
    redact: bool = False,
) -> EmailBody:
    """Summarise a window. Nothing is drawn, which would take seconds.

    Args:
        database: the published file, read only.
        report: where the whole report lies; left out when None or with `redact`.
        redact: without what names people or files.

    Raises:
        ReportError: the database cannot be read.
    """
    with open_source(database, settings, window, now, clips_dir=None, clips_href="", redact=redact) as source:
        summary = read_summary(source, most_cards=MAX_CALLS)
        n_more = summary.totals["n_flagged"] - len(summary.cards)
        subject = f"{settings.report.title}: {summary.headline}"
        views = {
            "summary": summary,
            "subject": subject,
            "more": counted("{n} more call in the report.", "{n} more calls in the report.", n_more)
            if n_more > 0
            else "",
            "limits": _(LIMITS),
            "report": str(report) if report and not redact else "",
            "frame": frame_for(source, "email", summary.headline, single=True),
        }
        return EmailBody(subject, render("email.txt", **views), render("email.html", **views))


def write_email(body: EmailBody, text_file: Path) -> Path:
    """Write the text as `text_file` and the HTML beside it, readable by their owner only.

    Raises:
        ReportError: they cannot be written.
    """
    with writing(text_file):
        make_private_dir(text_file.parent)
        write_page(text_file.with_suffix(".html"), body.html)
        write_page(text_file, body.text)
    return text_file

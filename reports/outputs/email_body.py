"""A summary of the brief for the body of a mail: plain text, and HTML that mail programs show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.workspace import make_private_dir
from reports.call_rows import load_calls
from reports.formatting import calls_text, counted, moment, whole_number
from reports.pages.brief import read_summary
from reports.parts.changes import moved_text, read_movers
from reports.parts.flags import stored_text
from reports.parts.quotes import said_at_first
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


_IN_WINDOW = """
SELECT count(*) AS n, count(*) FILTER (flagged) AS n_flagged,
    count(*) FILTER (flagged AND verdict != 'unsure') AS n_judged,
    count(*) FILTER (flagged AND verdict = 'confirm') AS n_worth
FROM call_facts JOIN (SELECT call_id, started_at FROM call_summary) USING (call_id)
WHERE started_at >= $since AND started_at < $until
"""
_FIRST_TO_HEAR = """
SELECT c.analysis_key, f.call_id, f.started_local, coalesce(f.queue, '') AS queue, f.path,
    f.reasons[1] AS reason
FROM call_facts f JOIN call_summary c USING (call_id)
WHERE f.flagged AND c.started_at >= $since AND c.started_at < $until
ORDER BY f.frustration_score DESC NULLS LAST, f.call_id LIMIT $most
"""
MAX_MOMENTS = 3


def build_paragraph(
    database: Path, *, settings: Settings, window: Window, now: datetime, pages_url: str, redact: bool
) -> EmailBody:
    """The paragraph to forward: how many were flagged and worth it, what moved, what to hear first, links.

    Args:
        database: the published file, read only.
        pages_url: where people open the report's folder; empty for no links.
        redact: without what names people or files.

    Raises:
        ReportError: the database cannot be read.
    """
    with open_source(database, settings, window, now, clips_dir=None, clips_href="", redact=redact) as source:
        (totals,) = source.in_window(_IN_WINDOW)
        moved = moved_text(source, read_movers(source))
        first = source.in_window(_FIRST_TO_HEAR, most=MAX_MOMENTS)
        calls = load_calls(source, [row["analysis_key"] for row in first])
        n_flagged = totals["n_flagged"]
        headline = _("{n} of {calls} flagged").format(
            n=whole_number(n_flagged), calls=calls_text(totals["n"])
        )
        sentences = [f"{headline}."]
        if totals["n_judged"]:
            worth, judged = whole_number(totals["n_worth"]), whole_number(totals["n_judged"])
            sentences.append(
                _("Worth it: {worth} of the {judged} flagged calls that people judged.").format(
                    worth=worth, judged=judged
                )
            )
        sentences += [moved] if moved else []
        base = pages_url.rstrip("/")
        moments = [
            {
                "when": moment(row["started_local"]),
                "about": ", ".join(
                    filter(None, (Path(row["path"]).name, row["queue"], stored_text(row["reason"] or "")))
                )
                + said_at_first(calls[row["analysis_key"]]),
                "link": f"{base}/calls/{row['call_id']}.html" if base else "",
            }
            for row in first
        ]
        views = {
            "sentences": sentences,
            "moments": moments,
            "link": f"{base}/index.html" if base else "",
            "limits": _(LIMITS),
        }
        subject = f"{settings.report.title}: {headline}"
        return EmailBody(subject, render("paragraph.txt", **views), render("paragraph.html", **views))


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

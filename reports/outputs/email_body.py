"""A summary of the brief for the body of a mail: plain text, and HTML that mail programs show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from callanalytics.config import Settings
from reports import formatting as words
from reports.pages.brief import read_brief
from reports.render import frame_for, render, replace_private
from reports.report_source import Source, WindowLike, open_source
from reports.views import Card, Mail, MailCall

MAX_CALLS = 10
MAX_NAME = 60  # characters: a longer name is cut, the report has it whole
LIMITS = (
    "The models learned from acted speech and hear how somebody speaks, not why: listen before you act. "
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
    window: WindowLike,
    now: datetime,
    report: Path | None,
    redact: bool = False,
) -> EmailBody:
    """Summarise a window. report: where the whole report lies; not told when None or with `redact`.

    Raises:
        ReportError: the database cannot be read.
    """
    with (
        open_source(database, settings, window, now, clips_dir=None, clips_href="", redact=redact) as source,
        words.localised(settings.report.locale),
    ):
        mail = _mail(source, None if redact else report)
        frame = frame_for(source, "email", mail.headline, single=True)
        return EmailBody(
            mail.subject,
            render("email.txt", mail=mail, frame=frame),
            render("email.html", mail=mail, frame=frame),
        )


def write_email(body: EmailBody, text_file: Path) -> Path:
    """Write the text as `text_file` and the HTML beside it, readable by their owner only.

    Raises:
        ReportError: they cannot be written.
    """
    replace_private(text_file.with_suffix(".html"), body.html)
    replace_private(text_file, body.text)
    return text_file


def _mail(source: Source, report: Path | None) -> Mail:
    brief = read_brief(source, frozenset())
    n_more = len(brief.cards) - MAX_CALLS + (len(brief.more_flagged.rows) if brief.more_flagged else 0)
    return Mail(
        subject=f"{source.settings.report.title}: {brief.headline}",
        headline=brief.headline,
        lead=brief.lead,
        doubts=brief.doubts,
        tiles=brief.tiles,
        calls_title=brief.cards_title,
        calls=tuple(_call(card) for card in brief.cards[:MAX_CALLS]),
        more=f"{words.count(n_more, 'more call')} in the report." if n_more > 0 else "",
        coverage=brief.coverage.facts,
        limits=LIMITS,
        where=str(report) if report else "",
        written=words.moment(source.now),
    )


def _call(card: Card) -> MailCall:
    return MailCall(
        when=card.when,
        queue=_short(card.queue),
        agent=_short(card.agent),
        more=", ".join(part for part in (card.direction, card.length, card.when_note) if part),
        score=card.score,
        reasons=" ".join(f"{reason.words}." for reason in card.reasons),
        course=card.course,
    )


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"

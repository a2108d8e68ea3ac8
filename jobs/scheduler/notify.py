"""Notifications by `[notify]`: the brief of a night, a night held back, jobs that failed or were missed.

Sent by the library Apprise (mail, Teams, Slack, ntfy and a hundred more), which the extra "notify" installs.
Its addresses hold logins, so they come from environment variables and are never printed: a problem names the
variable. What cannot be sent is said and changes no exit code: the night is worth more than the message.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from callanalytics.config import Settings
from callanalytics.config.job_settings import NotifyEvent
from callanalytics.config.window import Window
from callanalytics.errors import CallAnalyticsError
from callanalytics.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a title, and the same text twice."""

    title: str
    text: str
    html: str


def plain_message(title: str, lines: Sequence[str]) -> Message:
    """A message of some lines."""
    return Message(title, "\n".join(lines), "".join(f"<p>{escape(line)}</p>" for line in lines))


def brief_message(settings: Settings, workspace: Workspace, window: Window) -> Message:
    """The paragraph about what is published of a window. Raises ReportError."""
    from reports.outputs.email_body import build_paragraph

    notify = settings.notify
    body = build_paragraph(
        workspace.database,
        settings=settings,
        window=window,
        now=datetime.now(UTC),
        pages_url=notify.pages_url or "",
        redact=notify.redact,
    )
    return Message(body.subject, body.text, body.html)


def tell_of_run(
    settings: Settings, workspace: Workspace, window: Window, *, held: Sequence[str], published: bool
) -> list[str]:
    """Tell of a night: that the gate held it back, or its brief. What could not be sent, as text."""
    if held:
        title = f"{settings.report.title}: a night was held back"
        lines = [*held, f"What was analysed is kept. See: {_command(settings, workspace, 'status')}"]
        return tell(settings, "gate", plain_message(title, lines))
    if not published or not wanted(settings, "brief"):
        return []
    try:
        return tell(settings, "brief", brief_message(settings, workspace, window))
    except CallAnalyticsError as problem:
        return [f"The brief was not sent: {problem}"]


def tell_of_job(settings: Settings, workspace: Workspace, job: str, state: str, reason: str) -> list[str]:
    """Tell that a job of the schedule failed or was missed; nothing of other ends."""
    event: NotifyEvent | None = {"failed": "failed", "missed": "missed"}.get(state)  # type: ignore[assignment]
    if event is None:
        return []
    lines = [] if settings.notify.redact else [reason]
    lines.append(f"See: {_command(settings, workspace, 'status')}")
    title = f"{settings.report.title}: the job {job!r} {'failed' if event == 'failed' else 'was missed'}"
    return tell(settings, event, plain_message(title, lines))


def _command(settings: Settings, workspace: Workspace, word: str) -> str:
    """A command to type; redacted it names no folder."""
    return f"callanalytics {word}" if settings.notify.redact else workspace.command(word)


def wanted(settings: Settings, event: NotifyEvent) -> bool:
    """Whether anybody is to be told of an event."""
    return bool(settings.notify.urls_from) and event in settings.notify.events


def tell(settings: Settings, event: NotifyEvent, message: Message) -> list[str]:
    """Send a message to everybody who is to be told of an event. What could not be sent, as text."""
    return send(settings.notify.urls_from, message) if wanted(settings, event) else []


def send(variables: Sequence[str], message: Message) -> list[str]:
    """Send to the addresses in some environment variables. What could not be sent, without a secret."""
    problems = []
    for name in variables:
        services = _services(name)
        if isinstance(services, str):
            problems.append(services)
        elif not _sent(services, message):
            problems.append(f"[notify] {name}: could not be sent. Check address, login and network.")
    return problems


def unusable_addresses(variables: Sequence[str]) -> list[str]:
    """Why nothing can be sent to the addresses in some environment variables; nothing is sent."""
    return [problem for name in variables if isinstance(problem := _services(name), str)]


def _services(variable: str) -> object:
    """What Apprise makes of the address in an environment variable; text that says why it makes nothing."""
    try:
        import apprise
    except ImportError:
        return (
            f"[notify] {variable}: needs the extra \"notify\" (pip install 'callanalytics[notify]'). "
            "Nobody is told."
        )
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its lines may repeat an address
    address = os.environ.get(variable, "").strip()
    if not address:
        return f"[notify] {variable}: the environment has no such variable, or it is empty."
    services = apprise.Apprise()
    return services if services.add(address) else f"[notify] {variable}: holds no address that Apprise knows."


def _shows_html(formats: object) -> bool:
    """Whether a service wants HTML: its one format, or since Apprise 2 the first of several."""
    import apprise

    first = next(iter(formats), None) if isinstance(formats, tuple | list) else formats
    return bool(first == apprise.NotifyFormat.HTML)


def _sent(services: object, message: Message) -> bool:
    """Whether every service took the message; HTML for those that show it."""
    import apprise

    assert isinstance(services, apprise.Apprise)  # noqa: S101 - as `_services` makes it
    html = any(_shows_html(service.notify_format) for service in services)
    try:
        return bool(
            services.notify(
                title=message.title,
                body=message.html if html else message.text,
                body_format=apprise.NotifyFormat.HTML if html else apprise.NotifyFormat.TEXT,
            )
        )
    except Exception:  # a plugin's own: its words may repeat the address
        return False

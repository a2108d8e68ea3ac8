"""Notifications: what arrives at a local mail server and a local HTTP sink, and what never leaves."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message as Mail
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from command_line import run_command
from fixture_calls import LAST_DAY
from short_calls import settle, short_calls

from callanalytics.config import Settings, load_config, settings_from
from callanalytics.config.job_settings import NotifySettings
from callanalytics.config.window import Window
from callanalytics.errors import ConfigError
from callanalytics.workspace import Workspace
from jobs.maintenance.doctor import examine
from jobs.scheduler.notify import brief_message, plain_message, send, tell_of_job, tell_of_run

pytestmark = pytest.mark.usefixtures("analysed_here")

SECRET = "s3cr3t-t0ken"
WINDOW = Window(
    datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, tzinfo=UTC), datetime(2025, 4, 2, tzinfo=UTC)
)


class Sink:
    """An HTTP server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, dict[str, Any]]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.posted.append((self.path, json.loads(body)))
                self.send_response(500 if "broken" in self.path else 200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base's name
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def address(self, path: str = SECRET) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/{path}"


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    made = Sink()
    monkeypatch.setenv("SINK", made.address())
    yield made
    made.server.shutdown()


class Mailbox:
    """Keeps the mails of an SMTP server."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 aiosmtpd's own
        self.mails.append(message_from_bytes(envelope.content))
        return "250 kept"


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    address = f"mailto://127.0.0.1:{port}?from=night@example.org&to=lead@example.org&mode=insecure"
    monkeypatch.setenv("MAIL", address)
    yield box
    controller.stop()


@pytest.fixture(scope="module")
def workspace(guide_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(shutil.copytree(guide_out, tmp_path_factory.mktemp("results") / "out"))


def settings(**notify: Any) -> Settings:
    return Settings(notify=NotifySettings(**{"urls_from": ("SINK",), **notify}))


def test_the_paragraph_says_how_many_what_moved_and_where_to_listen(workspace: Workspace) -> None:
    message = brief_message(settings(pages_url="https://calls.example.org/r/"), workspace, WINDOW)
    assert "4 of 6 calls flagged" in message.title
    assert re.search(r"4 of 6 calls flagged\.", message.text)
    assert "Worth it: " in message.text
    moved = r"(Billing moved most: .*|No queue clearly moved against) the (day|week|period) before\."
    assert re.search(moved, message.text)
    assert message.text.count("- Tue, ") == 3
    assert "https://calls.example.org/r/index.html" in message.text
    link = r"https://calls\.example\.org/r/calls/[0-9a-f]{16}\.html"
    assert len(re.findall(link, message.text)) == len(re.findall(f'href="{link}"', message.html)) == 3
    assert "http" not in brief_message(settings(), workspace, WINDOW).text


def test_names_stay_at_home_unless_wanted(workspace: Workspace) -> None:
    redacted = brief_message(settings(), workspace, WINDOW)
    assert ".wav" not in redacted.text + redacted.html
    assert str(workspace) not in redacted.text + redacted.html
    assert ".wav" in brief_message(settings(redact=False), workspace, WINDOW).text


def test_a_mail_has_text_and_html(mailbox: Mailbox, workspace: Workspace) -> None:
    assert tell_of_run(settings(urls_from=("MAIL",)), workspace, WINDOW, held=(), published=True) == []
    (mail,) = mailbox.mails
    parts = {part.get_content_type(): part.get_payload(decode=True) for part in mail.walk()}
    assert b"4 of 6 calls flagged" in parts["text/plain"]
    assert b"<p>" in parts["text/html"]
    assert mail["To"] == "lead@example.org"


def test_a_sink_gets_plain_text(sink: Sink, workspace: Workspace) -> None:
    assert tell_of_run(settings(), workspace, WINDOW, held=(), published=True) == []
    ((path, posted),) = sink.posted
    assert path == f"/{SECRET}"
    assert "Hear first:" in posted["message"]
    assert "<p>" not in posted["message"]


def test_a_night_that_is_held_back_is_told_with_its_reasons(sink: Sink, workspace: Workspace) -> None:
    tell_of_run(settings(), workspace, WINDOW, held=("60% of the recordings failed",), published=False)
    ((_, posted),) = sink.posted
    assert "held back" in posted["title"]
    assert "60% of the recordings failed" in posted["message"]


def test_failed_and_missed_jobs_are_told_and_good_ones_are_not(sink: Sink, workspace: Workspace) -> None:
    for state in ("good", "retrying", "delayed", "failed", "missed"):
        tell_of_job(settings(), workspace, "run", state, "/srv/calls/+4930123.wav: disk full")
    assert [re.sub(".*: ", "", posted["title"]) for _, posted in sink.posted] == [
        "the job 'run' failed",
        "the job 'run' was missed",
    ]
    assert "disk full" not in str(sink.posted)
    tell_of_job(settings(redact=False), workspace, "run", "failed", "disk full")
    assert "disk full" in sink.posted[-1][1]["message"]


def test_nobody_is_told_by_default_or_of_what_is_not_wanted(sink: Sink, workspace: Workspace) -> None:
    assert tell_of_run(Settings(), workspace, WINDOW, held=(), published=True) == []
    tell_of_run(settings(events=("gate",)), workspace, WINDOW, held=(), published=True)
    tell_of_job(settings(events=("gate",)), workspace, "run", "failed", "x")
    tell_of_run(settings(), workspace, WINDOW, held=(), published=False)
    assert sink.posted == []


def test_problems_name_the_variable_and_never_its_content(
    sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BROKEN", sink.address(f"broken-{SECRET}"))
    monkeypatch.setenv("ODD", f"nosuch://{SECRET}")
    monkeypatch.setenv("GONE", f"json://127.0.0.1:9/{SECRET}")
    message = plain_message("t", ["x"])
    problems = send(("BROKEN", "ODD", "GONE", "UNSET", "SINK"), message)
    assert [problem.split(":")[0] for problem in problems] == [
        f"[notify] {name}" for name in ("BROKEN", "ODD", "GONE", "UNSET")
    ]
    assert SECRET not in "".join(problems) + caplog.text
    assert sink.posted[-1][1]["message"] == "x", "one that fails keeps nobody else from hearing it"
    n_posted = len(sink.posted)
    looked_at = settings(urls_from=("ODD", "UNSET", "SINK"))
    found = [finding for finding in examine(looked_at, Workspace(tmp_path)) if finding.name == "notify"]
    assert [finding.ok for finding in found] == [False, False]
    assert "[notify] ODD: holds no address" in found[0].found
    assert SECRET not in str(found)
    (well,) = (f for f in examine(settings(), Workspace(tmp_path)) if f.name == "notify")
    assert (well.ok, len(sink.posted)) == (True, n_posted)


def test_an_address_in_the_settings_is_refused_and_not_repeated(tmp_path: Path) -> None:
    table = {"notify": {"urls_from": [f"mailto://me:{SECRET}@example.org"]}}
    with pytest.raises(ConfigError, match="environment variables") as refused:
        settings_from(table, source="config.toml", folder=tmp_path)
    assert SECRET not in str(refused.value)


def test_a_run_sends_its_brief_and_a_rerun_sends_none(sink: Sink, tmp_path: Path) -> None:
    calls = short_calls(tmp_path / "calls", 1)
    settle(calls)
    config = tmp_path / "config.toml"
    config.write_text('[notify]\nurls_from = ["SINK"]\n')
    words = ["run", "--since", "2d", "--input", calls, "--out", tmp_path / "out", "--config", config]
    for _ in range(2):
        done = run_command(*words, "--workers", 1)
        assert SECRET not in done.stderr
    assert len(sink.posted) == 1
    assert "of 1 call flagged" in sink.posted[0][1]["title"]
    sent = run_command("notify", "--since", "2d", "--out", tmp_path / "out", "--config", config)
    assert (sent.exit_code, len(sink.posted)) == (0, 2)
    printed = run_command("notify", "--print", "--since", "2d", "--out", tmp_path / "out", "--config", config)
    assert "of 1 call flagged" in printed.stdout
    assert len(sink.posted) == 2
    assert load_config(config).notify.redact

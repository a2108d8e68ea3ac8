"""Reports of plausible calls as folders, some with harmful names, and a page read strictly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
from fixture_calls import LAST_DAY, ZONE, fill

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import ReportSettings, Settings, TimeSettings
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace
from reports.outputs.email_body import EmailBody, build_email, write_email
from reports.outputs.folder import build_reports
from reports.outputs.single_file_report import build_single_file

ZONE_INFO = ZoneInfo(ZONE)
HOSTILE = "<script>alert('x')</script>\"&amp;"
RIGHT_TO_LEFT = "محاسبة الفواتير"
LONG = "a-queue-with-a-very-long-name-" * 8


@dataclass(frozen=True)
class Span:
    since: datetime
    until: datetime


def days(n_days: int, until_day: int = 1) -> Span:
    """The window of `n_days` that ends `until_day` days after the midnight of LAST_DAY."""
    midnight = datetime.combine(LAST_DAY, time(), tzinfo=ZONE_INFO)
    until = midnight + timedelta(days=until_day)
    return Span(until - timedelta(days=n_days), until)


def settings(**report: object) -> Settings:
    return Settings(time=TimeSettings(zone=ZONE), report=ReportSettings(**report))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Site:
    """A published database and the folder of its report."""

    database: Path
    folder: Path

    def build(self, window: Span, *, redact: bool = False, **report: object) -> Path:
        return build_reports(
            self.database,
            self.folder,
            settings=settings(**report),
            window=window,
            now=window.until + timedelta(hours=6),
            clips_dir=self.folder / "clips",
            redact=redact,
        )

    def single(self, window: Span, *, redact: bool = False) -> Path:
        return build_single_file(
            self.database,
            self.folder / "single.html",
            settings=settings(),
            window=window,
            now=window.until + timedelta(hours=6),
            clips_dir=self.folder / "clips",
            redact=redact,
        )

    def mail(self, window: Span, *, redact: bool = False) -> EmailBody:
        body = build_email(
            self.database,
            settings=settings(),
            window=window,
            now=window.until + timedelta(hours=6),
            report=self.folder / "index.html",
            redact=redact,
        )
        write_email(body, self.folder / "email.txt")
        return body

    def text(self, name: str = "index.html") -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    def one(self, sql: str) -> object:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            row = connection.execute(sql).fetchone()
        assert row is not None
        return row[0]


def publish_site(out: Path, calls: list[CallAnalysis]) -> Site:
    out.mkdir(parents=True, exist_ok=True)
    with open_work(Workspace(out)) as store:
        fill(store, calls)
        database = publish(store)
    for call in calls:
        for clip in call.clips:
            folder = out / "reports" / "clips" / call.recording.call_id
            folder.mkdir(parents=True, exist_ok=True)
            (folder / clip.name).write_bytes(clip.content)
    return Site(database, out / "reports")


def renamed(call: CallAnalysis, name: str) -> CallAnalysis:
    facts = replace(call.facts, queue=name, agent_id=name, agent_name=name, team=name, campaign=name)
    recording = replace(call.recording, paths=(Path("/calls") / f"{name.replace('/', '_')}.wav",))
    return replace(call, facts=facts, recording=recording)


class Page(HTMLParser):
    """Links, ids and inline handlers of a page; fails on tags that are never closed."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr", "source"})
    FOREIGN_VOID = frozenset({"path", "rect", "circle", "line"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self.labelled: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"href", "src"}:
                self.links.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            elif name == "aria-labelledby":
                self.labelled += (value or "").split()
            elif name.startswith("on"):
                self.handlers.append(f"{tag} {name}")
        if tag == "script":
            self.scripts.append(dict(attrs).get("src") or "inline")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

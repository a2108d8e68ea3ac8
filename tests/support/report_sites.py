"""Reports of plausible calls as folders, some with harmful names, and pages read strictly."""

from __future__ import annotations

import io
import re
import stat
import wave
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
from fixture_calls import LAST_DAY, ZONE, fill, plausible_calls

from callanalytics.analysis.call import CallAnalysis
from callanalytics.audio.thumbnails import call_pictures
from callanalytics.config import ReportSettings, Settings, TimeSettings
from callanalytics.config.window import Window
from callanalytics.records import Audio
from callanalytics.store import open_work, publish
from callanalytics.workspace import Workspace
from reports.outputs.email_body import EmailBody, build_email, write_email
from reports.outputs.folder import build_reports
from reports.outputs.single_file_report import build_single_file

ZONE_INFO = ZoneInfo(ZONE)
HOSTILE = "<script>alert('x')</script>\"&amp;"
RIGHT_TO_LEFT = "محاسبة الفواتير"
LONG = "a-queue-with-a-very-long-name-" * 8
SECRET = "Zebulon Quagmire"


def days(n_days: int, until_day: int = 1) -> Window:
    """The window of `n_days` that ends `until_day` days after the midnight of LAST_DAY."""
    midnight = datetime.combine(LAST_DAY, time(), tzinfo=ZONE_INFO)
    until = midnight + timedelta(days=until_day)
    return Window(until - timedelta(days=n_days), until)


def settings(**report: object) -> Settings:
    return Settings(time=TimeSettings(zone=ZONE), report=ReportSettings(**report))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Site:
    """A published database and the folder of its report."""

    database: Path
    folder: Path

    def build(self, window: Window, *, redact: bool = False, **report: object) -> Path:
        return build_reports(
            self.database,
            self.folder,
            settings=settings(**report),
            window=window,
            now=window.until + timedelta(hours=6),
            clips_dir=self.folder / "clips",
            redact=redact,
        )

    def single(self, window: Window, *, redact: bool = False) -> Path:
        return build_single_file(
            self.database,
            self.folder / "single.html",
            settings=settings(),
            window=window,
            now=window.until + timedelta(hours=6),
            clips_dir=self.folder / "clips",
            redact=redact,
        )

    def mail(self, window: Window, *, redact: bool = False) -> EmailBody:
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


def secret(call: CallAnalysis) -> CallAnalysis:
    """The call with `SECRET` in everything that names a person, a number or a file."""
    named = dict.fromkeys(("agent_id", "agent_name", "team", "external_id"), SECRET)
    facts = replace(call.facts, **named, caller_hash=f"caller-{SECRET}")  # type: ignore[arg-type]
    return replace(
        call, facts=facts, recording=replace(call.recording, paths=(Path(f"/calls/{SECRET}.wav"),))
    )


def silence() -> bytes:
    """Half a second of sound; browsers look at the content of a clip, not at its name."""
    content = io.BytesIO()
    with wave.open(content, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(8000))
    return content.getvalue()


def every_form(out: Path) -> Site:
    """The report of three days in every form, and redacted in the folder `redacted` beside it.

    The database holds 20 days of 12 calls.

    Every fourth call names secrets, the three newest flagged ones have harmful names, and flagged ones have
    a clip that plays and pictures of their sound.
    """
    calls = [secret(call) if i % 4 == 1 else call for i, call in enumerate(plausible_calls(20, 12))]
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)
    pictures = call_pictures(Audio(noise, 8000, 8000, "pcm_s16le", "wav", 0.0), (0, 1))
    for index, call in enumerate(calls):
        clips = (*(replace(clip, content=silence()) for clip in call.clips), *pictures)
        calls[index] = replace(call, clips=clips if call.clips else ())
    flagged = [i for i, call in enumerate(calls) if call.assessment.flagged][-3:]
    for index, name in zip(flagged, (HOSTILE, RIGHT_TO_LEFT, LONG), strict=True):
        calls[index] = renamed(calls[index], name)
    made = publish_site(out, calls)
    for site, redact in ((made, False), (Site(made.database, out / "redacted"), True)):
        site.build(days(3), redact=redact)
        site.single(days(3), redact=redact)
        site.mail(days(3), redact=redact)
    return made


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


def check_pages(folder: Path) -> int:
    """Assert that every page is private, well-formed and outlined, that it runs only our script, and that
    every link and anchor leads to a place in the folder; returns how many of them there were.
    """
    folder = folder.resolve()
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.html"))}
    found = {path: Page(text) for path, text in texts.items()}
    links = [(path, link) for path, page in found.items() for link in page.links if link[:5] != "data:"]
    for path, page in found.items():
        assert not page.open, path
        assert not page.handlers, path
        assert {Path(src).name for src in page.scripts} <= {"report.js", "inline"}, path
        assert len(page.ids) == len(set(page.ids)), path
        assert set(page.labelled) <= set(page.ids), path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        levels = [int(level) for level in re.findall(r"<h([1-6])\b", texts[path])]
        assert levels[0] == 1, path
        assert levels.count(1) == 1, path
        assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), path
    for path, link in links:
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_relative_to(folder), f"{path}: {link}"
        assert target.is_file(), f"{path}: {link}"
        assert not anchor or anchor in found[target].ids, f"{path}: {link}"
    return len(links)

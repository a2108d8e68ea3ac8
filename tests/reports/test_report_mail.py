"""The report in one file, redacted, and as the body of a mail: complete, small, silent where it must be."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from fixture_calls import LAST_DAY, plausible_calls
from report_sites import HOSTILE, LONG, RIGHT_TO_LEFT, SECRET, Site, days, publish_site, settings, silence

from callanalytics.records import Clip
from jobs.cli.main import cli
from reports.outputs.single_file_report import MAX_BYTES
from reports.report_source import open_source

PAGES_NAME = (SECRET, "Anna", "/calls/Z", ".mp3", "data:audio", "supervisor")
SHOWN = {
    "**/*.html": PAGES_NAME,
    "single.html": tuple(name for name in PAGES_NAME if name != "/calls/Z"),  # cards have names of files only
    "email.*": (SECRET, "Anna"),
}
"""What each form of the report says of people and files when it is not redacted."""
FOOTER = (
    "Redacted: without sound and words, and without the names of agents, teams, callers, reviewers and files."
    " Queues, campaigns and outcomes stay as they are: they may name somebody."
)
"""What the two tests below show, and no more."""


def test_one_file_holds_style_script_and_sounds(site: Site) -> None:
    text = site.text("single.html")
    assert not re.search(r'(?:href|src)="(?!#|data:)', text)
    script = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    sounds = re.findall(r'src="data:audio/mpeg;base64,([^"]*)"', text)
    assert {base64.b64decode(sound) for sound in sounds} == {silence()}
    assert '<h2 id="trends">Trends</h2>' in text
    assert "calls are flagged" in text or "share of flagged calls" in text


def test_cards_with_sound_fit_into_a_mail(tmp_path: Path) -> None:
    """Clips of 800 kB: the highest ranks keep theirs until the file is full."""
    calls = [call for call in plausible_calls(28, 12) if call.assessment.flagged]
    calls = [
        replace(c, clips=tuple(Clip(clip.name, 0.0, 1.0, bytes(800_000)) for clip in c.clips)) for c in calls
    ]
    path = publish_site(tmp_path, calls).single(days(28))
    cards = re.findall(r'<article class="card".*?</article>', path.read_text(encoding="utf-8"), re.S)
    audible = ['src="data:audio' in card for card in cards]
    assert len(cards) == 8
    assert MAX_BYTES - 1_200_000 < path.stat().st_size <= MAX_BYTES
    assert audible == sorted(audible, reverse=True)
    assert 2 < sum(audible) < 8


@pytest.mark.parametrize("form", SHOWN)
def test_redacted_reports_name_nobody(site: Site, redacted: Site, form: str) -> None:
    def everything(made: Site) -> str:
        files = [path for path in made.folder.glob(form) if path.is_file()]
        assert files
        return "".join(path.read_text(encoding="utf-8") for path in files)

    assert [name for name in SHOWN[form] if name not in everything(site)] == [], "these can be found"
    assert FOOTER in everything(redacted)
    assert [name for name in (*PAGES_NAME, "anna", "caller-") if name in everything(redacted)] == []


def test_nobody_has_a_name_in_what_redacted_pages_are_made_from(site: Site, tmp_path: Path) -> None:
    """Also what no page shows today: numbers of callers, external ids, what reviewers noted."""
    shutil.copy(site.database, database := tmp_path / site.database.name)
    with duckdb.connect(database) as connection:
        connection.execute("UPDATE base.reviews SET note = ?", [f"{SECRET} shouted"])
    named = {
        "call_summary": ("path", "agent_id", "agent_name", "team", "caller_hash", "external_id"),
        "recordings": ("path", "paths"),
        "quarantine": ("path", "detail"),
        "reviews": ("reviewer", "note"),
    }
    window = days(20)
    for redact in (False, True):
        opened = open_source(
            database, settings(), window, window.until, clips_dir=None, clips_href="", redact=redact
        )
        with opened as source:
            for relation, columns in named.items():
                rows = source.rows(f"FROM {relation}")
                assert rows
                said = {name: {str(row[name]) for row in rows} - {"None", "", "[]"} for name in columns}
                assert [name for name in columns if bool(said[name]) is redact] == [], relation


def test_a_redacted_report_still_says_what_happened(site: Site, redacted: Site) -> None:
    headline = re.search("<h1>(.*?)</h1>", site.text())
    assert headline
    assert headline[0] in redacted.text()
    assert redacted.text().count('<article class="card"') >= site.text().count('<article class="card"') > 3
    assert "billing" in redacted.text()
    assert not list((redacted.folder / "agents").iterdir())


def test_the_mail_says_the_same_in_text_and_html(site: Site) -> None:
    text, html = site.text("email.txt"), site.text("email.html")
    headline = re.search("<h1>(.*?)</h1>", site.text())
    assert headline
    assert text.startswith(headline[1])
    assert f": {headline[1]}</title>" in html
    assert text.count("frustration 9") == html.count("frustration <b>9") > 0
    assert max(len(line) for line in text.splitlines()) < 300
    assert not re.search(r"<(?:script|link|style|img|svg)\b|https?:", html)
    assert not re.search("<[a-z]", text.replace(HOSTILE, ""))
    assert str(site.folder / "index.html") in text


def test_names_in_a_mail_are_text_and_not_endless(anew: Site) -> None:
    """The three newest flagged calls have harmful names."""
    body = anew.mail(days(2))
    assert "<script" not in body.html
    assert HOSTILE in body.text
    assert RIGHT_TO_LEFT in body.html
    assert LONG not in body.html
    assert LONG[:40] in body.html


def test_an_empty_night_as_mail_and_file(anew: Site) -> None:
    body = anew.mail(days(1, until_day=40))
    assert "No calls were analysed yesterday" in body.text
    assert "nothing to rank" in anew.single(days(1, until_day=40)).read_text(encoding="utf-8")


def test_the_command_writes_each_form(site: Site, tmp_path: Path) -> None:
    out = tmp_path
    shutil.copy(site.database, out)

    def report(*options: str) -> str:
        window = ("--since", f"{LAST_DAY}", "--until", "2025-04-02")
        done = CliRunner().invoke(cli, ["report", *window, "--out", str(out), *options])
        assert done.exit_code == 0, done.output
        return done.output

    report("--single-file", "--email-body")
    assert (out / "report.html").is_file()
    assert (out / "email.txt").is_file()
    assert (out / "email.html").is_file()
    report("--redact", "--email-body")
    assert (out / "reports-redacted" / "index.html").is_file()
    assert SECRET not in (out / "reports-redacted" / "email-redacted.txt").read_text(encoding="utf-8")
    report("--redact", "--single-file", str(out / "given.html"))
    assert SECRET not in (out / "given.html").read_text(encoding="utf-8")
    text = report("--email-body", "text")
    assert re.match(r"(In \d+ of|No) .*\n", text)
    assert "Report:" not in text, "nothing but the body goes to standard output"
    assert report("--email-body", "html").lstrip().startswith("<!DOCTYPE html>")

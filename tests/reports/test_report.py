"""The report as files: what it says, what it links, what it survives."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time as time_of_day
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest
from fixture_calls import LAST_DAY, ZONE, assessed, plausible_calls
from report_sites import (
    HOSTILE,
    LONG,
    RIGHT_TO_LEFT,
    Page,
    Site,
    days,
    publish_site,
    renamed,
)

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings, TimeSettings
from callanalytics.errors import ReportError
from callanalytics.records import Escalation, TimeSource
from callanalytics.store.rows import pack
from callanalytics.workspace import Workspace
from jobs.publishing import write_clips
from reports.outputs.folder import build_reports


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Two weeks of plausible calls; the names of some of the last day are meant to do harm."""
    calls = plausible_calls()
    flagged = [i for i, call in enumerate(calls) if call.assessment.flagged][-3:]
    for index, name in zip(flagged, (HOSTILE, RIGHT_TO_LEFT, LONG), strict=True):
        calls[index] = renamed(calls[index], name)
    return publish_site(tmp_path_factory.mktemp("report"), calls)


@pytest.fixture(scope="module")
def week(site: Site) -> Site:
    """The report of the last seven days."""
    site.build(days(7))
    return site


def pages(site: Site) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.folder.rglob("*.html")):
        yield path, Page(path.read_text(encoding="utf-8"))


def test_the_headline_counts_what_the_database_counts(week: Site) -> None:
    where = f"WHERE day > DATE '{LAST_DAY}' - 7 AND day <= DATE '{LAST_DAY}'"
    n = week.one(f"SELECT count(*) FROM call_summary {where}")
    n_flagged = week.one(f"SELECT count(*) FROM call_summary {where} AND flagged")
    assert isinstance(n_flagged, int)
    assert n_flagged > 3
    assert f"{n_flagged} of {n} callers sounded frustrated" in week.text()
    assert week.text().count('<article class="card"') == n_flagged


def test_every_flagged_call_says_why_and_when(week: Site) -> None:
    found = re.findall(r'<article class="card".*?</article>', week.text(), re.S)
    assert len(found) > 3
    for card in found:
        assert re.search(r"<li title=[^>]*>Caller sounds frustrated, \d+% at \d+:\d\d</li>", card)
        assert re.search(r"\d of 3 models agree", card)
        assert 'class="play' in card


def test_pages_are_well_formed_private_and_without_scripts_of_others(week: Site) -> None:
    found = dict(pages(week))
    assert len(found) > 10
    for path, page in found.items():
        assert not page.open, path
        assert not page.handlers, path
        assert [Path(src).name for src in page.scripts] == ["report.js"], path
        assert len(page.ids) == len(set(page.ids)), path
        assert set(page.labelled) <= set(page.ids), path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_every_link_and_anchor_resolves_inside_the_folder(week: Site) -> None:
    found = dict(pages(week))
    n_checked = 0
    for path, page in found.items():
        for link in page.links:
            if link == "data:,":
                continue
            assert not re.match(r"[a-z]+:|//|/", link), f"{path}: {link}"
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.is_relative_to(week.folder.resolve()), f"{path}: {link}"
            assert target.is_file(), f"{path}: {link}"
            assert not anchor or anchor in found[target].ids, f"{path}: {link}"
            n_checked += 1
    assert n_checked > 100
    assert "http" not in re.sub(r"http-equiv", "", week.text())


def test_hostile_names_are_shown_and_do_nothing(week: Site) -> None:
    text = week.text() + week.text("health.html") + week.text("trends.html") + week.text("calls/index.html")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert RIGHT_TO_LEFT in text
    assert LONG in text


def test_clips_are_linked_only_where_they_exist(week: Site) -> None:
    for path, page in pages(week):
        for link in page.links:
            assert "clips/" not in link or (path.parent / link).is_file()
    assert "clips/" in week.text()
    assert "There is no clip of this moment" in week.text()


def test_a_call_page_shows_every_segment_with_every_vote(week: Site) -> None:
    call_id = week.one("SELECT call_id FROM call_summary WHERE flagged ORDER BY started_at DESC LIMIT 1")
    n_segments = week.one(f"SELECT n_segments FROM call_summary WHERE call_id = '{call_id}'")
    n_dissent = week.one(
        "SELECT count(*) FROM predictions p JOIN votes v USING (call_id, segment) "
        f"WHERE call_id = '{call_id}' AND p.emotion <> coalesce(v.emotion, v.top_emotion)"
    )
    text = week.text(f"calls/{call_id}.html")
    assert len(re.findall(r'<tr id="s\d+">', text)) == n_segments
    assert text.count('<td class="dissent">') == n_dissent
    assert "from the name" in text, "facts say where they came from"


def test_a_calm_night_shows_the_highest_scores(site: Site, tmp_path: Path) -> None:
    calm = [assessed(call, flagged=False, escalations=()) for call in plausible_calls(3)]
    calm_site = publish_site(tmp_path, calm)
    calm_site.build(days(1))
    text = calm_site.text()
    assert "No call was flagged yesterday" in text
    assert "The highest scores, to check" in text
    assert text.count('<article class="card unflagged"') == 5


def flagged_by(call: CallAnalysis, score: float, **rules: float) -> CallAnalysis:
    """The call as flagged by rules of these names and weights."""
    found = tuple(Escalation(rule, weight, 9.0, 8.0, f"{rule} met") for rule, weight in rules.items())
    return assessed(call, flagged=bool(found), escalations=found, score=score)


def day_of(out: Path, *last: CallAnalysis) -> str:
    """The brief of a day whose first calls are those; no other of it is flagged."""
    calls = plausible_calls(1)
    rest = [flagged_by(call, 0.3) for call in calls[len(last) :]]
    made = publish_site(out, [*last, *rest])
    made.build(days(1))
    return made.text()


def test_a_raised_voice_is_not_called_frustration(tmp_path: Path) -> None:
    one, other, *_ = plausible_calls(1)
    text = day_of(
        tmp_path,
        flagged_by(one, 0.17, louder=0.5, higher=0.5),
        flagged_by(other, 0.09, louder=0.5, higher=0.5),
    )
    assert "2 of 6 callers raised their voice yesterday" in text
    assert "None of them reached the rule for frustration." in text
    assert "Ranked by the weight of the rules they met" in text
    assert "how frustrated the caller sounded" not in text


def test_frustrated_callers_come_first_and_raised_voices_are_counted_apart(tmp_path: Path) -> None:
    one, two, three, four, *_ = plausible_calls(1)
    text = day_of(
        tmp_path,
        flagged_by(one, 0.2, louder=0.5, higher=0.5, talked_over=0.25),
        flagged_by(two, 0.4, frustrated=1.0),
        flagged_by(three, 0.37, louder=0.5, higher=0.5),
        flagged_by(four, 0.1, long_silence=1.0),
    )
    assert "4 of 6 calls were flagged yesterday" in text
    assert "In 1 of them the caller sounded frustrated, in 2 more the voice was raised." in text
    order = [text.index(f"calls/{c.recording.call_id}.html") for c in (two, one, three, four)]
    assert order == sorted(order)


def test_labels_that_cannot_be_true_are_doubted(week: Site, tmp_path: Path) -> None:
    assert "Doubtful labels" not in week.text()
    everywhere_sad = [
        replace(call, votes=replace(call.votes, emotion_index=np.full(len(call.segments), 5)))
        for call in plausible_calls(2)
    ]
    odd = publish_site(tmp_path, everywhere_sad)
    odd.build(days(2))
    assert "100% of the labelled speech is labelled sad" in odd.text()


def test_calls_without_a_known_time_are_not_in_the_chart_by_hour(tmp_path: Path) -> None:
    undated = [
        replace(call, facts=replace(call.facts, started_at_source=TimeSource.FILE_TIME))
        for call in plausible_calls(4)
    ]
    made = publish_site(tmp_path, undated)
    made.build(days(1))
    assert "<h3>By hour</h3>" not in made.text()
    assert "<h3>By queue</h3>" in made.text()
    assert "By hour without the 6 calls" in made.text()
    assert "only the time of the file is known" in made.text()


def test_an_empty_night_is_said_plainly(site: Site) -> None:
    site.build(days(1, until_day=40))
    text = site.text()
    assert "No calls were analysed yesterday" in text
    assert "No recordings were received in this window." in text
    assert "nothing to rank" in text
    assert not list((site.folder / "calls").glob("[0-9a-f]*.html")), "pages of the old window are gone"
    site.build(days(7))
    assert len(list((site.folder / "calls").glob("[0-9a-f]*.html"))) > 7


def test_only_flagged_calls_have_pages_when_the_limit_says_so(site: Site, tmp_path: Path) -> None:
    small = Site(site.database, tmp_path / "reports")
    small.build(days(7), max_call_pages=0)
    n_flagged = site.one(f"SELECT count(*) FROM call_summary WHERE flagged AND day > DATE '{LAST_DAY}' - 7")
    names = {path.name for path in (tmp_path / "reports" / "calls").iterdir()} - {"index.html"}
    assert len(names) == n_flagged
    assert "all flagged ones" in small.text("calls/index.html")


def test_a_report_without_any_rule_still_reads(site: Site, tmp_path: Path) -> None:
    window = days(7)
    page = build_reports(
        site.database,
        tmp_path / "reports",
        settings=Settings(time=TimeSettings(zone=ZONE), rule=()),
        window=window,
        now=window.until,
        clips_dir=tmp_path / "elsewhere",
    )
    text = page.read_text(encoding="utf-8")
    assert re.search(r"<h1>\d+ of \d+ calls were flagged", text)
    assert 'class="threshold"' not in text
    assert "<audio" not in text, "clips outside the folder are not linked"


def test_a_failed_build_leaves_the_old_report(week: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = week.text()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reports.outputs.folder.read_brief", fail)
    with pytest.raises(ReportError, match="No space left"):
        week.build(days(3))
    assert week.text() == before
    assert not list(week.folder.glob(".building-*"))


def test_folders_are_the_owners_alone_from_the_first_on(site: Site, tmp_path: Path) -> None:
    call = next(call for call in plausible_calls() if call.clips)
    usual = os.umask(0o022)
    try:
        Site(site.database, tmp_path / "new" / "reports").build(days(1))
        write_clips(Workspace(tmp_path / "clips-first"), pack(call))
    finally:
        os.umask(usual)
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert {tmp_path / "new" / "reports" / "calls", tmp_path / "clips-first"} <= set(folders)
    for folder in folders:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_a_missing_or_foreign_database_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no results here yet"):
        Site(tmp_path / "none.duckdb", tmp_path / "out" / "r").build(days(1))
    assert not (tmp_path / "out").exists(), "nothing is made before it is looked for"
    foreign = tmp_path / "foreign.duckdb"
    duckdb.connect(str(foreign)).close()
    with pytest.raises(ReportError, match="cannot be read"):
        Site(foreign, tmp_path / "r").build(days(1))
    (tmp_path / "text.duckdb").write_text("no database", encoding="utf-8")
    with pytest.raises(ReportError, match="cannot be opened"):
        Site(tmp_path / "text.duckdb", tmp_path / "r").build(days(1))


OUTLINE = {
    "index.html": [
        "1 10 of 42 callers sounded frustrated from 26 March to 1 April 2025",
        "2 Flagged calls",
        "2 How callers sounded",
        "3 By hour",
        "3 By queue",
        "3 What moved",
        "2 What was heard, and what was not",
        "2 What these words mean",
        "3 Frustration",
        "3 Its limits",
        "3 Which models, which times",
    ],
    "calls/index.html": ["1 All calls"],
    "trends.html": [
        "1 Trends",
        "2 Flagged calls by day",
        "2 How callers sounded by day",
        "2 When callers sound angry",
        "2 Queue by queue",
        "2 Are the labels steady?",
    ],
    "health.html": [
        "1 Model and data health",
        "2 Coverage",
        "2 Failed files",
        "2 Where facts came from",
        "2 What people said",
        "2 The ensemble",
        "2 Runs",
    ],
}


def test_the_outline_of_every_page(tmp_path: Path) -> None:
    made = publish_site(tmp_path, plausible_calls(8))
    made.build(days(7))
    for name, expected in OUTLINE.items():
        found = re.findall(r"<h([1-6])([^>]*)>(.*?)</h\1>", made.text(name), re.S)
        plain = [f"{level} {text}" for level, attributes, text in found if "when-" not in attributes]
        assert plain == expected, name


def test_trends_end_with_the_newest_call(site: Site, tmp_path: Path) -> None:
    late = Site(site.database, tmp_path / "reports")
    late.build(days(400, until_day=300), max_call_pages=0)
    assert "16 days" in late.text("trends.html")


@pytest.mark.slow
def test_ten_thousand_calls_take_less_than_a_minute(tmp_path: Path) -> None:
    """The build runs in a process of its own, so that its memory can be told."""
    calls = plausible_calls(1667, 6)
    ranked = sorted(
        (call for call in calls if call.assessment.flagged), key=lambda call: -call.assessment.curve.score
    )
    kept = {call.recording.recording_id for call in ranked[:300]}
    calls = [assessed(c, flagged=c.recording.recording_id in kept) for c in calls]
    made = publish_site(tmp_path, calls)
    window = days(1700)
    code = (
        "import sys; from pathlib import Path; from datetime import datetime;"
        "from types import SimpleNamespace;"
        "from callanalytics.config import Settings; from reports.outputs.folder import build_reports;"
        "since, until = map(datetime.fromisoformat, sys.argv[3:]);"
        "build_reports(Path(sys.argv[1]), Path(sys.argv[2]), settings=Settings(),"
        " window=SimpleNamespace(since=since, until=until), now=until, clips_dir=None);"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    ends = (window.since.isoformat(), window.until.isoformat())
    started = time_of_day.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(made.database), str(made.folder), *ends],
        capture_output=True,
        text=True,
        check=True,
    )
    assert time_of_day.monotonic() - started < 60
    assert int(done.stdout) < 1_000_000, "kB"
    assert len(list((made.folder / "calls").iterdir())) == 2001


def test_templates_neither_calculate_nor_ask() -> None:
    import reports

    templates = list(Path(reports.__file__).parent.joinpath("templates").rglob("*.html"))
    assert len(templates) > 5
    for path in templates:
        for code in re.findall(r"\{[{%](.*?)[%}]\}", path.read_text(encoding="utf-8"), re.S):
            bare = re.sub(r'"[^"]*"', "", code).strip("-")
            assert not re.search(r"[*/]|\bsum\b|\bround\b|\bSELECT\b|\d\s*[+-]", bare), f"{path.name}: {code}"

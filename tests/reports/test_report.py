"""The report as files: what it says, what it links, what it survives."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time as time_of_day
from dataclasses import replace
from html import unescape
from pathlib import Path

import duckdb
import numpy as np
import pytest
from fixture_calls import LAST_DAY, ZONE, assessed, plausible_calls, with_sides
from report_sites import (
    LONG,
    RIGHT_TO_LEFT,
    Site,
    days,
    publish_site,
)

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings, TimeSettings
from callanalytics.errors import ReportError
from callanalytics.records import Escalation, Role, TimeSource
from callanalytics.store import open_work
from callanalytics.store.rows import pack
from callanalytics.workspace import Workspace
from jobs.publishing import write_clips
from reports.outputs.folder import build_reports
from reports.pages.cards import MAX_CARDS


def test_the_headline_counts_what_the_database_counts(site: Site) -> None:
    where = f"WHERE day > DATE '{LAST_DAY}' - 3 AND day <= DATE '{LAST_DAY}'"
    n = site.one(f"SELECT count(*) FROM call_summary {where}")
    n_flagged = site.one(f"SELECT count(*) FROM call_summary {where} AND flagged")
    assert isinstance(n_flagged, int)
    assert n_flagged > 3
    assert f"In {n_flagged} of {n} calls the caller sounded frustrated" in site.text()
    n_cards = site.text().count('<article class="card"')
    assert 3 < n_cards <= MAX_CARDS
    rest = re.search(r'<div class="rest">.*?</table>', site.text(), re.S)
    assert rest
    assert rest[0].count("<tr>") == 1 + n_flagged - n_cards, "its head, and the others"


def test_every_flagged_call_says_why_and_when(site: Site) -> None:
    found = re.findall(r'<article class="card".*?</article>', site.text(), re.S)
    assert len(found) > 3
    for card in found:
        assert re.search(r"<h3[^>]*><a[^>]*>Caller sounds frustrated, \d+% at \d+:\d\d</a></h3>", card)
        assert re.search(r"\d of 3 models agree", card)
        assert 'class="play' in card


def test_hostile_names_are_shown_and_do_nothing(site: Site) -> None:
    text = site.text() + site.text("health.html") + site.text("trends.html") + site.text("calls/index.html")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert RIGHT_TO_LEFT in text
    assert LONG in text


def test_moments_with_a_clip_link_it_and_the_others_say_so(site: Site) -> None:
    moments = re.findall(r'<ol class="moments">.*?</ol>', site.text(), re.S)
    clips = re.findall(r'<a class="play" href="(clips/[^"]*)"', "".join(moments))
    assert len(clips) > 3
    assert all((site.folder / clip).is_file() for clip in clips)
    assert "There is no clip of this moment" in "".join(moments)
    assert "http" not in site.text().replace("http-equiv", "")


def test_a_call_page_shows_every_segment_with_every_vote(site: Site) -> None:
    call_id = site.one("SELECT call_id FROM call_summary WHERE flagged ORDER BY started_at DESC LIMIT 1")
    n_segments = site.one(f"SELECT n_segments FROM call_summary WHERE call_id = '{call_id}'")
    n_dissent = site.one(
        "SELECT count(*) FROM predictions p JOIN votes v USING (call_id, segment) "
        f"WHERE call_id = '{call_id}' AND p.emotion <> coalesce(v.emotion, v.top_emotion)"
    )
    text = site.text(f"calls/{call_id}.html")
    assert len(re.findall(r'<tr id="s\d+">', text)) == n_segments
    assert text.count('<td class="dissent">') == n_dissent
    assert "from the name" in text, "facts say where they came from"


def test_a_member_that_was_not_asked_neither_agrees_nor_disagrees(tmp_path: Path) -> None:
    first, *others = plausible_calls(1)
    silent = first.votes.probabilities.copy()
    silent[-1] = 0
    made = publish_site(tmp_path, [replace(first, votes=replace(first.votes, probabilities=silent)), *others])
    made.build(days(1))
    text = made.text(f"calls/{first.recording.call_id}.html")
    assert " of 2</td>" in text
    assert " of 3</td>" not in text
    n_segments = made.one(f"SELECT count(*) FROM votes WHERE call_id = '{first.recording.call_id}'")
    assert text.count("not asked") == 2 * n_segments, "who hears the page is not told of a missing label"
    n_dissent = made.one(
        "SELECT count(*) FROM predictions p JOIN votes v USING (call_id, segment) "
        f"WHERE call_id = '{first.recording.call_id}' AND p.emotion <> coalesce(v.emotion, v.top_emotion)"
    )
    assert text.count('<td class="dissent">') == n_dissent


def test_a_calm_night_shows_the_highest_scores(site: Site, tmp_path: Path) -> None:
    calm = [assessed(call, flagged=False, escalations=()) for call in plausible_calls(3)]
    mail = publish_site(tmp_path, calm).mail(days(1))
    assert mail.text.startswith("No call was flagged yesterday")
    assert "The highest scores, to check" in mail.text
    assert mail.html.count("<li") == 5


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
    assert "In 2 of 6 calls the caller raised their voice yesterday" in text
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


def row_of(page: str, words: str) -> str:
    """The row of a table that holds some words, without tags."""
    rows = re.findall(r"<tr>.*?</tr>", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", next(row for row in rows if words in row)).split())


def test_a_voice_of_unknown_side_is_one_of_the_voices(tmp_path: Path) -> None:
    """Both voices are unknown: the angry one is the score, and nothing says that it is the caller's."""
    angry = max(plausible_calls(3), key=lambda call: call.assessment.curve.score)
    unknown = with_sides(angry, speaker_0=Role.UNKNOWN, speaker_1=Role.UNKNOWN)
    assert unknown.assessment.flagged
    made = publish_site(tmp_path, [unknown, *(flagged_by(call, 0.1) for call in plausible_calls(1)[1:])])
    made.build(days(3))
    text = made.text()
    assert "1 of 6 calls was flagged" in text
    assert "In 1 of them one of the voices sounded frustrated" in text
    assert "One of the voices: sounds frustrated" in text
    page = unescape(made.text(f"calls/{unknown.recording.call_id}.html"))
    assert "The frustration of one of the voices (“Voice 1” below) peaks at" in page
    assert "Voice 2: how likely each emotion is" in page
    assert 'class="m-music"' in page
    assert "caller's frustration" not in page
    assert "Caller talks" not in page
    assert "Both speak" not in page
    assert row_of(page, "Voices of unknown side talk")
    score = unknown.assessment.curve.score or 0
    assert f"{score:.0%}" in row_of(page, "frustration at its peak")
    assert unknown.assessment.curve.voice == "speaker_0"
    for body in (made.mail(days(3)).text, made.mail(days(3)).html):
        assert "(one of the voices)" in body


def test_a_call_without_a_score_says_that_it_is_not_known(tmp_path: Path) -> None:
    """All voices are agents': no 0 % anywhere, and the call comes after every call with a score."""
    first, *others = plausible_calls(1)
    none = with_sides(first, speaker_0=Role.AGENT, speaker_1=Role.AGENT)
    made = publish_site(tmp_path, [none, *(flagged_by(call, 0.0) for call in others)])
    made.build(days(1))
    page = unescape(made.text(f"calls/{none.recording.call_id}.html"))
    assert "The caller's frustration is not known: no voice that may be the caller's was assessed." in page
    assert "Caller talks" not in page
    listed = made.text("calls/index.html")
    assert "not known" in row_of(listed, none.recording.call_id)
    # Five cards of six calls: the call without a score comes after those with 0 %.
    cards = [f"calls/{call.recording.call_id}.html" in made.text() for call in (none, *others)]
    assert cards == [False, *[True] * 5]
    assert made.one("SELECT count(*) FROM call_summary WHERE frustration_score IS NULL") == 1
    assert "Without a score" in made.text("health.html")
    assert f"calls/{none.recording.call_id}.html" not in made.mail(days(1)).html


def test_labels_that_cannot_be_true_are_doubted(site: Site, tmp_path: Path) -> None:
    assert "Doubtful labels" not in site.text()
    everywhere_sad = [
        replace(call, votes=replace(call.votes, emotion_index=np.full(len(call.segments), 5)))
        for call in plausible_calls(2)
    ]
    mail = publish_site(tmp_path, everywhere_sad).mail(days(2))
    assert "100% of the labelled speech is labelled sad" in mail.text
    assert "Doubtful labels" in mail.html


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


@pytest.mark.parametrize("kind", ["conflict", "zone_note"])
def test_a_doubt_about_the_time_is_counted_and_stands_on_the_page_of_the_call(
    kind: str, tmp_path: Path
) -> None:
    first, *others = plausible_calls(1)
    note = "the name may state another day than that of the file, whose time was used"
    sources = {**first.facts.sources, kind: note}
    made = publish_site(tmp_path, [replace(first, facts=replace(first.facts, sources=sources)), *others])
    made.build(days(1))
    assert "<dt>Doubt about the time</dt><dd><bdi>1 call</bdi>" in made.text("health.html")
    assert note in made.text(f"calls/{first.recording.call_id}.html")
    assert "Doubt about the time" not in made.text(f"calls/{others[-1].recording.call_id}.html")


def test_an_empty_night_is_said_plainly_and_old_pages_go(anew: Site) -> None:
    anew.build(days(2))
    old = {path.name for path in (anew.folder / "calls").iterdir()}
    anew.build(days(1, until_day=40))
    assert "No calls were analysed yesterday" in anew.text()
    assert "No recording of this window is known." in anew.text()
    assert "nothing to rank" in anew.text()
    assert len(old) > 7
    assert {path.name for path in (anew.folder / "calls").iterdir()} == {"index.html"}


def test_only_flagged_calls_have_pages_when_the_limit_says_so(anew: Site) -> None:
    """The window is long after the calls: trends end with the newest call."""
    anew.build(days(400, until_day=300), max_call_pages=0)
    names = {path.name for path in (anew.folder / "calls").iterdir()} - {"index.html"}
    assert len(names) == anew.one("SELECT count(*) FROM call_summary WHERE flagged")
    assert "all flagged ones" in anew.text("calls/index.html")
    assert "20 days" in anew.text("trends.html")


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


def test_a_failed_build_leaves_the_old_report(anew: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    anew.build(days(1))
    before = anew.text()
    real = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.name.startswith(".health.html.") and self.name.endswith("part"):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ReportError, match="No space left"):
        anew.build(days(2))
    assert anew.text() == before
    assert not list(anew.folder.glob(".building-*"))


def test_folders_are_the_owners_alone_from_the_first_on(site: Site, tmp_path: Path) -> None:
    call = next(call for call in plausible_calls() if call.clips)
    usual = os.umask(0o022)
    try:
        Site(site.database, tmp_path / "new" / "reports").build(days(1))
        with open_work(Workspace(tmp_path / "clips-first")) as store:
            write_clips(store.workspace, pack(call))
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

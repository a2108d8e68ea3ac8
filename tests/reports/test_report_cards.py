"""Cards of the brief: one a caller and one a recording, the others in the table; what moved, and where."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from fixture_calls import assessed, plausible_calls
from report_sites import Site, days, publish_site

from callanalytics.analysis.call import CallAnalysis
from callanalytics.records import Escalation
from reports.pages.agents import agent_file
from reports.pages.cards import same_places


def flagged(call: CallAnalysis, *, caller: str) -> CallAnalysis:
    met = (Escalation("frustrated", 1.0, 0.6, 0.38, "caller sounds frustrated, 60% at 0:42"),)
    made = assessed(call, flagged=True, escalations=met, score=0.6)
    return replace(made, facts=replace(made.facts, caller_hash=caller))


def again(call: CallAnalysis, shift_s: float) -> CallAnalysis:
    """The same call as another recorder kept it: other bytes, a little later, everything shifted."""
    identity = call.recording.recording_id[::-1]
    curve = call.assessment.curve
    moved = replace(curve, at_s=(curve.at_s + shift_s).astype(np.float32))
    return replace(
        call,
        recording=replace(call.recording, recording_id=identity, paths=(Path("/other/twin.wav"),)),
        facts=replace(call.facts, caller_hash="somebody else"),
        assessment=replace(call.assessment, curve=moved),
    )


def brief_of(out: Path, *calls: CallAnalysis) -> str:
    given = {call.recording.recording_id for call in calls}
    rest = [
        assessed(call, flagged=False, escalations=())
        for call in plausible_calls(1)
        if call.recording.recording_id not in given
    ]
    made = publish_site(out, [*calls, *rest])
    made.build(days(1))
    return made.text()


def cards(page: str) -> list[str]:
    return re.findall(r'<article class="card".*?</article>', page, re.S)


def test_a_caller_has_one_card_that_names_the_other_calls(tmp_path: Path) -> None:
    # The fixture's second ensemble writes anew what is known of the third and the fourth.
    one, two, _, _, three, four = plausible_calls(1)
    calm = assessed(four, flagged=False, escalations=())
    calm = replace(calm, facts=replace(calm.facts, caller_hash="a"))
    page = brief_of(
        tmp_path, flagged(one, caller="a"), flagged(two, caller="a"), flagged(three, caller="b"), calm
    )
    first, second = cards(page)
    assert "This caller called 2 more times in this window, 1 flagged:" in first
    assert first.count(f"calls/{two.recording.call_id}.html") == 1
    assert first.count(f"calls/{four.recording.call_id}.html") == 1
    assert 'class="again"' not in second
    assert "1 caller was flagged more than once." in page
    assert "In 3 of 6 calls the caller sounded frustrated" in page, "the headline counts calls"
    assert "The other flagged call" in page
    assert "; the other one is in the table below." in page
    assert page.count("<tr>") >= 2


def test_nearly_the_same_recordings_share_a_card(tmp_path: Path) -> None:
    one, other, *_ = plausible_calls(1)
    call = flagged(one, caller="a")
    page = brief_of(tmp_path, call, again(call, 0.4), flagged(other, caller="c"))
    assert len(cards(page)) == 2
    assert "1 other recording is nearly the same:" in page
    assert "1 flagged recording is nearly the same as another one." in page


def test_places_are_the_same_but_for_a_shift() -> None:
    places = np.array([2.0, 9.5, 14.0, 22.5, 31.0, 40.0, 44.5, 58.0, 63.0, 70.0])
    assert same_places(places, places + 0.5)
    assert same_places(places, np.delete(places, 3))
    assert not same_places(places, places + 3.0), "that far apart it is another beginning"
    assert not same_places(places, np.linspace(2, 70, 10))
    assert not same_places(places, places[:5])


def test_what_moved_is_said_only_where_it_is_clear(site: Site, tmp_path: Path) -> None:
    assert re.search(r'<strong class="moved">No queue clearly moved against', site.text())
    calls = plausible_calls(14, 12)
    Site(publish_site(tmp_path, calls).database, tmp_path / "reports").build(days(7))
    text = Site(tmp_path / "callanalytics.duckdb", tmp_path / "reports").text()
    assert re.search(
        r'class="moved">Billing moved most: \d+ of its 28 calls were flagged, \d+ of 28 the week before\.<',
        text,
    )


def test_an_agent_page_says_why_calls_have_no_link(site: Site) -> None:
    page = site.text(f"agents/{agent_file('anna')}")
    table = re.search(r'<h2 id="flagged">.*?</table>', page, re.S)
    assert table
    n_rows, n_links = table[0].count("<tr>") - 1, table[0].count("<a href")
    assert n_rows > n_links
    assert re.search(rf"{n_rows - n_links} of them (has|have) no link, since", page)

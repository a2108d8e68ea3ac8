"""The outline of every kind of page against a gold file; the links of every form; what stands where."""

from __future__ import annotations

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

from report_sites import Site, check_pages, days

from reports.pages.agents import agent_file

GOLD = Path(__file__).parent / "gold" / "outlines.txt"


class Outline(HTMLParser):
    """Landmarks and headings of a page, one a line; those built alike are told once. No text with a number
    in it, since it comes from the data.
    """

    LANDMARKS = frozenset({"header", "nav", "main", "section", "article", "footer"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: dict[str, None] = {}
        self.depth = 0
        self.heading: list[str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.LANDMARKS:
            named = dict(attrs).get("aria-label") or dict(attrs).get("aria-labelledby") or ""
            self._add(f"{tag} {re.sub('-[0-9]+$', '', named)}")
            self.depth += 1
        elif re.fullmatch("h[1-6]", tag):
            self.heading = []

    def handle_data(self, data: str) -> None:
        if self.heading is not None:
            self.heading.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.LANDMARKS:
            self.depth -= 1
        elif self.heading is not None and re.fullmatch("h[1-6]", tag):
            text = "".join(self.heading)
            self._add(f"{tag} {text if not re.search('[0-9]', text) else ''}")
            self.heading = None

    def _add(self, line: str) -> None:
        self.lines["  " * self.depth + line.rstrip()] = None


def kinds(site: Site) -> dict[str, str]:
    """A page of each kind."""
    call_id = site.one(
        "SELECT call_id FROM call_summary WHERE flagged AND agent_id = 'anna'"
        " ORDER BY started_at DESC LIMIT 1"
    )
    return {
        **{name: f"{name}.html" for name in ("index", "trends", "health", "single", "email")},
        "calls": "calls/index.html",
        "call": f"calls/{call_id}.html",
        "agent": f"agents/{agent_file('anna')}",
    }


def test_every_page_has_the_outline_agreed_on(site: Site) -> None:
    """CALLANALYTICS_GOLD=write renews the gold file: look at the difference before it is committed."""
    outlines = {kind: Outline(site.text(name)).lines for kind, name in kinds(site).items()}
    found = "".join(f"{kind}\n  " + "\n  ".join(lines) + "\n" for kind, lines in outlines.items())
    if os.environ.get("CALLANALYTICS_GOLD") == "write":
        GOLD.write_text(found, encoding="utf-8")
    assert found == GOLD.read_text(encoding="utf-8")


def test_pages_of_every_form_are_sound_and_lead_somewhere(site: Site, redacted: Site, tmp_path: Path) -> None:
    assert check_pages(site.folder) > 300
    assert check_pages(redacted.folder) > 100
    shutil.copy(site.folder / "single.html", tmp_path)
    assert 3 < check_pages(tmp_path) < 10, "only places in the file itself"


def test_the_page_of_a_call_shows_its_sound(site: Site) -> None:
    text = site.text(kinds(site)["call"])
    assert text.count('<path d="M0.0 ') == 2, "a waveform per channel"
    assert len(re.findall(r'<img src="\.\./clips/[0-9a-f]+/spectrogram-[01]\.png" alt="[^"]+"', text)) == 2
    assert text.index("Caller: sound") < text.index("Agent: sound")


def test_a_picture_file_of_others_is_no_picture(site: Site, anew: Site) -> None:
    shutil.copytree(site.folder / "clips", anew.folder / "clips")
    waveforms = sorted(anew.folder.rglob("waveform-*.json"))
    odd = ("", "[]", '{"peaks": []}', '{"peaks": [1, 256]}', '{"peaks": ["<b>"]}', "[" * 30_000)
    assert len(waveforms) > len(odd)
    for number, waveform in enumerate(waveforms):
        waveform.write_text(odd[number % len(odd)], encoding="utf-8")
    anew.build(days(3), max_call_pages=0)
    pages = list((anew.folder / "calls").glob("*.html"))
    assert len(pages) > 3
    assert not [page for page in pages if "<img" in page.read_text(encoding="utf-8")]


def test_a_call_says_what_its_rules_measured_and_what_people_said(site: Site) -> None:
    text = site.text(kinds(site)["call"])
    assert "Rules and what was measured in this call" in text
    assert text.count('class="threshold"') == 1
    assert re.search(r'<b class="rule-name"[^>]*>flag 42%</b>', text), (
        "in the gutter, where it covers nothing"
    )
    assert re.search(r"<tr><td><bdi>✓ met</bdi></td>", text), "first, where a phone shows it"
    assert "The rules that this call meets add up to a weight of" in text
    assert ">Condition</th>" in text
    assert "Measures of the whole call, against what is usual" in text
    assert re.search(r"Reviewed as (worth flagging|not worth flagging|unsure) by supervisor", text)


def test_cards_have_a_command_to_judge_with(site: Site) -> None:
    card = re.findall(r'<article class="card".*?</article>', site.text(), re.S)[0]
    call_id = re.search(r"calls/([0-9a-f]+)\.html", card)
    assert call_id
    commands = re.findall(r"<code data-copy>(.*?)</code>", card)
    assert [command.split(" --out ")[0] for command in commands] == [
        f"callanalytics review {call_id[1]} --verdict {verdict}" for verdict in ("confirm", "reject")
    ]


def test_the_callers_of_an_agent_are_counted_and_never_ranked(site: Site) -> None:
    names = re.findall(r'href="agents/[0-9a-f]{16}\.html"><bdi>(.*?)</bdi>', site.text("trends.html"))
    assert names == sorted(names)
    assert "Anna" in names
    assert len(list((site.folder / "agents").iterdir())) == len(names)
    text = site.text(kinds(site)["agent"])
    n = site.one("SELECT count(*) FROM call_summary WHERE agent_id = 'anna'")
    assert f"{n} calls" in text
    assert "95% interval" in text
    assert "data-sortable" not in text
    assert "must not be used to judge" in text


def test_a_call_leads_to_the_callers_of_its_agent(site: Site) -> None:
    assert f'href="../agents/{agent_file("anna")}"><bdi>' in site.text(kinds(site)["call"])


def test_health_says_how_often_people_agreed_with_a_rule(site: Site) -> None:
    n = site.one("SELECT n_confirmed FROM rule_precision WHERE rule = 'frustrated'")
    row = re.search(r"<td><bdi>frustrated</bdi></td>(.*?)</tr>", site.text("health.html"))
    assert row
    assert f"<bdi>{n}</bdi>" in row[1]


def test_what_is_noted_about_recordings_is_said_in_words_and_counted(site: Site) -> None:
    said = "some of it is masked, such as a payment pause"
    assert said in site.text(kinds(site)["call"])
    row = re.search(rf"<td><bdi>{said}</bdi></td>(.*?)</tr>", site.text("health.html"))
    assert row
    window = days(3)
    n = site.one(
        "SELECT count(*) FROM call_quality JOIN call_summary USING (call_id) WHERE word = 'masked'"
        f" AND started_at >= '{window.since}' AND started_at < '{window.until}'"
    )
    assert f"<bdi>{n}</bdi>" in row[1]

"""The structure of every kind of page against gold files (tests/gold); the links of every form of report."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from report_sites import Page, Site, days

GOLD = Path(__file__).parent / "gold"


@dataclass
class Node:
    """An element of the skeleton."""

    label: str
    children: list[Node] = field(default_factory=list)

    def text(self, depth: int = 0) -> str:
        """The element and its parts; parts built alike are told once."""
        below = dict.fromkeys(child.text(depth + 1) for child in self.children)
        return "  " * depth + self.label + "\n" + "".join(below)


class Skeleton(HTMLParser):
    """Landmarks, headings, tables, figures and controls of a page with their roles, without the data."""

    SHOWN = frozenset(
        {
            "main",
            "nav",
            "header",
            "footer",
            "section",
            "article",
            "h1",
            "h2",
            "h3",
            "h4",
            "p",
            "table",
            "caption",
        }
        | {
            "th",
            "figure",
            "figcaption",
            "details",
            "summary",
            "dl",
            "ol",
            "ul",
            "button",
            "audio",
            "img",
            "svg",
        }
        | {"a", "script", "style", "link", "meta", "code"}
    )
    ATTRIBUTES = ("role", "scope", "dir", "aria-hidden", "tabindex")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Node("page")
        self.open: list[tuple[str, Node]] = [("", self.root)]
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parent = self.open[-1][1]
        node = parent
        if tag in self.SHOWN:
            found = {name: value or "" for name, value in attrs}
            label = tag + "".join(f".{word}" for word in found.get("class", "").split())
            if re.fullmatch("[a-z]+", found.get("id", "")):
                label += f"#{found['id']}"
            label += "".join(f" [{name}={found[name]}]" for name in self.ATTRIBUTES if name in found)
            label += " [named]" if {"aria-label", "aria-labelledby", "alt"} & set(found) else ""
            node = Node(label)
            parent.children.append(node)
        if tag not in Page.VOID:
            self.open.append((tag, node))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in Page.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag


@pytest.fixture
def site(every_form: Site) -> Site:
    return every_form


def kinds(site: Site) -> dict[str, str]:
    call_id = site.one(
        "SELECT call_id FROM call_summary WHERE flagged AND agent_id = 'anna'"
        " ORDER BY started_at DESC LIMIT 1"
    )
    agent = sorted((site.folder / "agents").iterdir())[0].name
    return {
        **{name: f"{name}.html" for name in ("index", "trends", "health", "single", "email")},
        "calls": "calls/index.html",
        "call": f"calls/{call_id}.html",
        "agent": f"agents/{agent}",
    }


def test_every_page_is_built_as_agreed(site: Site) -> None:
    """CALLANALYTICS_GOLD=write renews the gold files: look at the difference before it is committed."""
    assert len(kinds(site)) == 8
    for kind, name in kinds(site).items():
        found = Skeleton(site.text(name)).root.text()
        gold = GOLD / f"report-{kind}.txt"
        if os.environ.get("CALLANALYTICS_GOLD") == "write":
            gold.parent.mkdir(exist_ok=True)
            gold.write_text(found, encoding="utf-8")
        assert found == gold.read_text(encoding="utf-8"), kind


def test_every_page_has_one_main_heading_and_skips_no_level(site: Site) -> None:
    assert len(kinds(site)) == 8
    for kind, name in kinds(site).items():
        levels = [int(level) for level in re.findall(r"<h([1-6])\b", site.text(name))]
        assert levels.count(1) == 1, kind
        assert levels[0] == 1, kind
        assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), kind


def check_links(folder: Path) -> int:
    """Every link and anchor of the HTML files in a folder; returns how many there were."""
    found = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    n_checked = 0
    for path, page in found.items():
        assert not page.open, path
        assert len(page.ids) == len(set(page.ids)), path
        assert set(page.labelled) <= set(page.ids), path
        for link in page.links:
            if link.startswith("data:"):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.is_relative_to(folder.resolve()), f"{path}: {link}"
            assert target.is_file(), f"{path}: {link}"
            assert not anchor or anchor in found[target].ids, f"{path}: {link}"
            n_checked += 1
    return n_checked


def test_links_resolve_in_every_form(site: Site, tmp_path: Path) -> None:
    assert check_links(site.folder) > 300
    redacted = Site(site.database, tmp_path / "reports-redacted")
    redacted.build(days(7), redact=True)
    assert check_links(redacted.folder) > 100
    alone = Site(site.database, tmp_path / "alone")
    alone.single(days(7))
    assert 3 < check_links(alone.folder) < 10, "only places in the file itself"


def test_the_page_of_a_call_shows_its_sound(site: Site) -> None:
    text = site.text(kinds(site)["call"])
    assert text.count('<path d="M0.0 ') == 2, "a waveform per channel"
    assert len(re.findall(r'<img src="\.\./clips/[0-9a-f]+/spectrogram-[01]\.png" alt="[^"]+"', text)) == 2
    assert text.index("Caller: sound") < text.index("Agent: sound")


def test_a_picture_file_of_others_is_no_picture(site: Site, tmp_path: Path) -> None:
    from reports.parts.sound_images import _peaks

    for content in ("", "[]", '{"peaks": []}', '{"peaks": [1, 256]}', '{"peaks": ["<b>"]}', "[" * 30_000):
        (tmp_path / "waveform-0.json").write_text(content, encoding="utf-8")
        assert _peaks(tmp_path / "waveform-0.json") == []
    assert _peaks(tmp_path / "missing.json") == []


def test_a_call_says_what_its_rules_measured_and_what_people_said(site: Site) -> None:
    text = site.text(kinds(site)["call"])
    assert "Rules and what this call measured" in text
    assert text.count('class="threshold"') == 1
    assert "rule “frustrated”: peak from 38%" in text
    assert re.search(r"<tr><td><bdi>✓ met</bdi></td>", text), "first, where a phone shows it"
    assert "The met rules weigh" in text
    assert ">Measured there</th>" in text
    assert "Measures of the whole call, against what is usual" in text
    assert re.search(r"Judged (worth flagging|not worth flagging|unsure) by supervisor", text)


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
    assert f"{n} calls" in site.text("agents/" + _agent_file("anna"))
    assert "95% interval" in text
    assert "data-sortable" not in text
    assert "must not be used to judge" in text


def test_a_call_leads_to_the_callers_of_its_agent(site: Site) -> None:
    assert f'href="../agents/{_agent_file("anna")}"><bdi>' in site.text(kinds(site)["call"])


def test_health_says_how_often_people_agreed_with_a_rule(site: Site) -> None:
    n = site.one("SELECT n_confirmed FROM rule_precision WHERE rule = 'frustrated'")
    row = re.search(r"<td><bdi>frustrated</bdi></td>(.*?)</tr>", site.text("health.html"))
    assert row
    assert f"<bdi>{n}</bdi>" in row[1]


def _agent_file(agent_id: str) -> str:
    from reports.pages.agents import agent_file

    return agent_file(agent_id)

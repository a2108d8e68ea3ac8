"""The report in German and Spanish: every message translated, its values in place, and no English left."""

from __future__ import annotations

import re
import string
import sys
from html import unescape
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from report_sites import Site, days

from callanalytics.errors import ReportError
from callanalytics.records.text import TimeDoubt
from reports.formatting import localised
from reports.parts.flags import stored_text
from reports.translation import _, in_language, plural

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import messages

LANGUAGES = messages.LANGUAGES


def forms(message: Message) -> tuple[str, ...]:
    return message.string if isinstance(message.string, tuple) else (str(message.string),)


def placeholders(text: str) -> set[str]:
    return {name for _text, name, _form, _conversion in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated(language: str) -> None:
    wanted = {message.id for message in messages.template() if message.id}
    found = messages.read_catalogue(language)
    assert len(wanted) > 500
    assert {message.id for message in found if message.id} == wanted, "run docs/messages.py"
    assert messages.untranslated(found) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_have_the_values_of_their_message(language: str) -> None:
    checked = 0
    for message in messages.read_catalogue(language):
        if not message.id:
            continue
        originals = message.id if isinstance(message.id, tuple) else (message.id,)
        wanted = set.union(*map(placeholders, originals))
        for form in forms(message):
            # "one call" may leave its number out.
            assert placeholders(form) <= wanted, message.id
            assert wanted - placeholders(form) <= {"n"}, message.id
            checked += 1
    assert checked > 500


@pytest.mark.parametrize("content", [None, b"", b"\xde\x12\x04\x95\0\0", b"no catalogue"])
def test_a_catalogue_that_is_missing_or_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """English pages said that they are in German, or the night ended with an unexpected error."""
    monkeypatch.setattr("reports.translation.LOCALE_DIR", tmp_path)
    folder = tmp_path / "fr" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "reports.mo").write_bytes(content)
    with pytest.raises(ReportError, match=r"missing or damaged.*Reinstall"), in_language("fr"):
        pass


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_catalogue_is_of_today(language: str) -> None:
    with in_language(language):
        for message in messages.read_catalogue(language):
            if message.id and isinstance(message.id, str):
                assert _(message.id) == message.string, "run docs/messages.py"
            elif message.id:
                assert plural(*message.id, 1) == forms(message)[0], "run docs/messages.py"
        assert _("All calls") != "All calls"


def visible(page: str) -> str:
    """The words of a page that are ours: without scripts, styles, names of others, code and commands."""
    text = re.sub(r"<(script|style|code|bdi|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", text))


ENGLISH = re.compile(r"\b(the|and|of|with|is|are|calls?|this|were|sounded)\b")


@pytest.mark.parametrize(
    ("language", "headline"), [("de", "klang der Anrufer"), ("es", "el cliente sonó frustrado")]
)
def test_a_report_in_another_language_has_no_english_left(anew: Site, language: str, headline: str) -> None:
    anew.build(days(3), language=language)
    pages = [anew.folder / name for name in ("index.html", "trends.html", "health.html", "calls/index.html")]
    pages += sorted((anew.folder / "agents").iterdir())[:1] + sorted((anew.folder / "calls").iterdir())[:3]
    assert headline in anew.text()
    assert len(pages) == 8
    for path in pages:
        page = path.read_text(encoding="utf-8")
        assert f'<html lang="{language}">' in page
        words = visible(page).replace("Call emotions", "")
        left = [words[max(0, m.start() - 40) : m.end() + 40] for m in ENGLISH.finditer(words)]
        assert left == [], path.name
    assert re.search(r"\d,\d\xa0%|\d\xa0%", anew.text()), "and numbers as the language writes them"


ROOT = Path(__file__).parents[2]
TEMPLATES = sorted(
    path
    for folder in ("reports/templates", "jobs/app/templates")
    for path in (ROOT / folder).iterdir()
    if path.suffix in {".html", ".txt", ".js"}
)
# Words that are the same in every language: keys, names of formats, our own name.
SAME = re.compile(r"\b(PDF|HTML|JSON|SQL|CSV|callanalytics|OK|min|Kl?|Y|X|N|S|U|E|C)\b|&\w+;")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_holds_a_text_that_nobody_translates(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".js":
        code = re.sub(r"(?m)^\s*(//|/?\*).*$|\s//\s.*$", "", text)
        sentences = re.findall(r"""["`'][^"`'\n$<{]*[A-Za-z]{2,} [a-z]{2,}[^"`'\n]*["`']""", code)
        left = [s for s in sentences if not re.search(r"use strict|[=#.\[\]/]|^.[a-z-]+ [a-z-]+.$", s)]
    else:
        bare = re.sub(r"\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}", " ", text, flags=re.DOTALL)
        bare = re.sub(r"<(script|style)\b.*?</\1>", " ", bare, flags=re.DOTALL)
        attributes = re.findall(r'(?:aria-label|title|placeholder|alt)="([^"]*)"', bare)
        words = [*attributes, *re.split(r"<[^>]*>", bare)]
        left = [w.strip() for w in words if re.search(r"[A-Za-z]{2}", SAME.sub("", w))]
    assert left == []


@pytest.mark.parametrize("doubt", TimeDoubt)
def test_what_is_doubtful_about_a_time_is_translated_with_its_values(doubt: TimeDoubt) -> None:
    """As it was stored by any version: in finished English sentences."""
    names = {name for _, name, _, _ in string.Formatter().parse(doubt) if name}
    values = {name: "1 day, 2:00:00" if name == "apart" else f"<{name}>" for name in names}
    stored = doubt.format(**values)
    assert stored_text(stored) == stored
    for language, name in (("de_DE", "de"), ("es_ES", "es")):
        with localised(language, name):
            shown = stored_text(stored)
            assert shown != stored
            assert all(value in shown for value in values.values())


def test_stored_reasons_and_moments_are_translated() -> None:
    moment = "frustration 62%, 9 dB louder than when calm, 7 semitones higher"
    assert stored_text(moment) == moment
    with localised("de_DE", "de"):
        assert (
            stored_text(moment) == "Frustration 62\xa0%, 9 dB lauter als im ruhigen Zustand, 7 Halbtöne höher"
        )
        assert (
            stored_text("caller sounds frustrated, 62% at 3:41")
            == "Anrufer klingt frustriert, 62\xa0% bei 3:41"
        )
        assert stored_text("one of the voices: sounds frustrated, 62% at 3:41").startswith(
            "eine der Stimmen: "
        )
        assert stored_text("a reason of our own, 62%") == "a reason of our own, 62%"

"""Bring the catalogues of report and app up to date: read the messages from the code, then compile.

    python docs/messages.py

New messages are added to `reports/locale/LANGUAGE/LC_MESSAGES/reports.po` without a translation: translate
them there and run this again. Messages that the code no longer has go.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from callanalytics.analysis.words import NOTE_TEXT
from callanalytics.diarize.quality import QUALITY_TEXT
from callanalytics.records.text import TimeDoubt
from reports.parts.flags import REASONS
from reports.translation import DOMAIN, LOCALE_DIR

REPORTS = LOCALE_DIR.parent
ROOT = REPORTS.parent
LANGUAGES = ("de", "es")
TRANSLATED = ("reports", "jobs/app", "jobs/reviews")
METHODS = [("**.py", "python"), ("templates/*.html", "jinja2"), ("templates/*.txt", "jinja2")]
KEYWORDS = {"_": None, "marked": None, "plural": (1, 2), "counted": (1, 2)}


def messages() -> Iterator[tuple[str | tuple[str, ...], str]]:
    """Every message of report and app, with the file it is from."""
    for folder in TRANSLATED:
        found = extract_from_dir(ROOT / folder, METHODS, keywords=KEYWORDS)
        prefix = "" if folder == "reports" else f"{folder}/"
        yield from ((message, prefix + file) for file, _line, message, _comments, _context in found)
    yield from ((text, "callanalytics/diarize/quality.py") for text in QUALITY_TEXT.values())
    yield from ((text, "callanalytics/config/call_settings.py") for text in REASONS)
    yield from ((text.value, "callanalytics/records/text.py") for text in TimeDoubt)
    yield from ((text, "callanalytics/analysis/words/__init__.py") for text in NOTE_TEXT.values())


def template() -> Catalog:
    """The messages without translations, in the order of their text."""
    found = Catalog(domain=DOMAIN, project="callanalytics", charset="utf-8")
    for message, file in messages():
        found.add(message, locations=[(file, None)])
    return found


def catalogue_path(language: str) -> Path:
    """The file that people translate."""
    return LOCALE_DIR / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def read_catalogue(language: str) -> Catalog:
    """The translations of a language; empty where there are none yet."""
    path = catalogue_path(language)
    if not path.exists():
        return Catalog(locale=language, domain=DOMAIN)
    with path.open("rb") as stream:
        return read_po(stream, locale=language, domain=DOMAIN)


def untranslated(catalogue: Catalog) -> list[str]:
    """Messages without a translation, or with one that was only guessed."""
    return [
        str(message.id)
        for message in catalogue
        if message.id and (message.fuzzy or not all(_forms(message.string)))
    ]


def _forms(string: object) -> list[str]:
    return [str(form) for form in string] if isinstance(string, tuple | list) else [str(string or "")]


def header(catalogue: Catalog) -> str:
    """The first entry of a file: what gettext needs to know and nothing else."""
    lines = (
        f"Language: {catalogue.locale}",
        f"Plural-Forms: {catalogue.plural_forms}",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    )
    return 'msgid ""\nmsgstr ""\n' + "".join(f'"{line}\\n"\n' for line in lines) + "\n"


def main() -> int:
    """Update and compile every language; 1 where a message has no translation."""
    missing = 0
    for language in LANGUAGES:
        catalogue = read_catalogue(language)
        catalogue.update(template(), no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        path = catalogue_path(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.write(header(catalogue).encode())
            write_po(stream, catalogue, sort_output=True, omit_header=True, include_lineno=False, width=100)
        # Without a date the same messages make the same file.
        catalogue.creation_date = catalogue.revision_date = datetime(2026, 1, 1, tzinfo=UTC)
        with path.with_suffix(".mo").open("wb") as stream:
            write_mo(stream, catalogue)
        left = untranslated(catalogue)
        missing += len(left)
        print(f"{language}: {len(catalogue)} messages, {len(left)} to translate")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

"""Texts of the pages in the language of `[report] language`. English is in the code, and is the message.

The catalogues lie in `reports/locale`, as gettext keeps them. A message holds its values in braces, so that a
translation may order them as it likes. A text without a translation stays English.
"""

from __future__ import annotations

import gettext
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from callanalytics.errors import ReportError

LOCALE_DIR = Path(__file__).parent / "locale"
DOMAIN = "reports"
ENGLISH = "en"
_language: ContextVar[str] = ContextVar("language", default=ENGLISH)


@contextmanager
def in_language(language: str) -> Iterator[None]:
    """Write the texts of this block in `language`: "en", "de" or "es".

    Raises:
        ReportError: its catalogue is missing or damaged.
    """
    _catalogue(language)
    before = _language.set(language)
    try:
        yield
    finally:
        _language.reset(before)


def language() -> str:
    """The language in force, as the `lang` of a page."""
    return _language.get()


def _(text: str) -> str:
    """The text in the language in force."""
    return _catalogue(_language.get()).gettext(text)


def plural(one: str, many: str, n: int) -> str:
    """`one` or `many` in the language in force, as its grammar has it for `n`."""
    return _catalogue(_language.get()).ngettext(one, many, n)


def marked(text: str) -> str:
    """The text itself: only marks a constant for the catalogues, who shows it translates it."""
    return text


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    """The compiled catalogue; none for English.

    Raises:
        ReportError: there is none, or it is damaged: pages that say to be in a language would not be.
    """
    if language == ENGLISH:
        return gettext.NullTranslations()
    try:
        return gettext.translation(DOMAIN, LOCALE_DIR, [language])
    except (OSError, ValueError, struct.error, IndexError) as problem:
        raise ReportError(
            f"{LOCALE_DIR / language}: the catalogue of [report] language = {language!r} is missing or "
            f"damaged ({type(problem).__name__}). Reinstall callanalytics, or leave the key out for English."
        ) from problem

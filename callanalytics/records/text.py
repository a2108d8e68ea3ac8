"""Words from file names and metadata -> text that any database, terminal and page can hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from functools import cache

# Control characters, lone surrogates (bytes of a name that are no UTF-8), line separators, empty characters
# and the marks that turn the reading direction: none is visible, each can make a name look like another one.
# The joiners of Indian and Persian scripts (200c, 200d) stay.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^\s'\"<>]+")
_LOGIN = re.compile(r"(:/{1,2})[^/@?#]+@")
_QUERY = re.compile(r"(\?).+")
_NOT_DIGITS = re.compile(r"\D+")
_GAP = r"[-.\s()]{0,2}"
_PREFIX = re.compile(rf"(?:\+\d{{1,3}}{_GAP}|\+?(?<!\d)\d{{0,5}})\Z")
_MAX_PREFIX_CHARS = 6


def display_text(text: str) -> str:
    r"""The text with every invisible or undecodable character written out, such as `\n` or `\xe9`.

    The result is valid UTF-8 and has no line break; ordinary text of any language is left as it is.
    """
    return _UNSAFE.sub(_written_out, text)


def without_secrets(text: str) -> str:
    """A message with passwords, user names and queries of the addresses in it replaced by `***`."""
    return _ADDRESS.sub(lambda found: _QUERY.sub(r"\1***", _LOGIN.sub(r"\1***@", found.group())), text)


def hide_numbers(text: str, aliases: Mapping[str, str]) -> str:
    """Replace callers' numbers (significant digits -> alias) in every way they are written.

    Up to two separators may stand between digits, and a country or trunk prefix before them. Patterns are
    compiled for a length, not for a number: one a caller took most of the time of a search.
    """
    for digits, alias in aliases.items():
        text = "".join(_without_number(text, digits, alias))
    return text


def _without_number(text: str, digits: str, alias: str) -> Iterator[str]:
    """The parts of `text` between the places of one number, and the alias in each place."""
    number = _number_of_length(len(digits))
    end = 0
    start = text.find(digits[0])
    while start >= 0:
        found = number.match(text, start)
        if found is not None and _NOT_DIGITS.sub("", found[0]) == digits:
            prefix = _PREFIX.search(text, max(end, start - _MAX_PREFIX_CHARS), start)
            if prefix is not None:
                yield text[end : prefix.start()]
                yield alias
                end = found.end()
        start = text.find(digits[0], max(end, start + 1))
    yield text[end:]


@cache
def _number_of_length(n_digits: int) -> re.Pattern[str]:
    return re.compile(rf"\d(?:{_GAP}\d){{{n_digits - 1}}}(?!\d)")


def optional_text(text: str | None) -> str | None:
    """`display_text`, or None for None."""
    return None if text is None else display_text(text)


def _written_out(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python's file names carry a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ " Did you mean ...?" with the known words that are most like a mistyped one; empty when none is."""
    near = get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def counted(n: int, noun: str) -> str:
    """The number with its noun: "1 call", "2 calls", "12,000 calls"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


class TimeDoubt(StrEnum):
    """What may be doubtful about the time of a call, with its values in braces.

    Stored as the finished English sentence; pages in other languages find the values in it again.
    """

    NEARLY_ONE_NAME = (
        "{n} recordings of this start have nearly one name: they may be parts or copies of one call"
    )
    DAY_OR_MONTH = "{day} may begin with the day or the month: no date was read"
    STAMPS_TURNED = "the second stamp is before the first, which was taken for the start"
    TIME_OR_NUMBER = "the number behind the day may be the time, and what follows it a counter"
    ZONE_OF_SEVERAL = "{zone} is a zone of several countries: the time was read as local"
    MAYBE_OFFSET = "{written} may be an offset from UTC: the time was read as local"
    NO_TIME = "stamp {stamp} is no time; the unique id was used"
    EPOCH_AFAR = "the epoch {epoch} is further from the stamp {stamp} than any zone; the stamp was used"
    RECORDED_LATER = "recorded {later} after the call began, if {zone} is its zone"
    OTHER_ZONE = "stamp {stamp} does not fit zone {zone}; the unique id was used"
    ONLY_DAY = "only the day of the start is stated"
    UNREAD_START = "a start is stated in a way that is not read"
    OTHER_DAY = "the name may state another day than that of the file, whose time was used"
    AFTER_MANIFEST = "recorded {later} after the start of the call that the manifest states"
    STARTS_APART = "{best} and {other} state starts that are {apart} apart: that of the {best} was used"
    AFTER_FILE = "the {source} states a time after that of the file"
    HOUR_TWICE = "clocks of {zone} showed this hour twice: it was read as the first unless a zone is stated"

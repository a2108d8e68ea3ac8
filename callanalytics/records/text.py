"""Words from file names and metadata -> text that any database, terminal and page can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Control characters, lone surrogates (bytes of a name that are no UTF-8), line separators, empty characters
# and the marks that turn the reading direction: none is visible, each can make a name look like another one.
# The joiners of Indian and Persian scripts (200c, 200d) stay.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^\s'\"<>]+")
_LOGIN = re.compile(r"(:/{1,2})[^/@?#]+@")
_QUERY = re.compile(r"(\?).+")


def display_text(text: str) -> str:
    r"""The text with every invisible or undecodable character written out, such as `\n` or `\xe9`.

    The result is valid UTF-8 and has no line break; ordinary text of any language is left as it is.
    """
    return _UNSAFE.sub(_written_out, text)


def without_secrets(text: str) -> str:
    """A message with passwords, user names and queries of the addresses in it replaced by `***`."""
    return _ADDRESS.sub(lambda found: _QUERY.sub(r"\1***", _LOGIN.sub(r"\1***@", found.group())), text)


def hide_numbers(text: str, aliases: Mapping[str, str]) -> str:
    """Replace callers' numbers (significant digits -> alias) in every way they are written."""
    for digits, alias in aliases.items():
        number = r"[-.\s()]{0,2}".join(digits)
        text = re.sub(rf"(?:\+\d{{1,3}}[-.\s()]{{0,2}}|\+?(?<!\d)\d{{0,5}}){number}(?!\d)", alias, text)
    return text


def optional_text(text: str | None) -> str | None:
    """`display_text`, or None for None."""
    return None if text is None else display_text(text)


def _written_out(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python's file names carry a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")

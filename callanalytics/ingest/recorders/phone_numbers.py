"""Caller numbers as salted hashes: enough to find repeat callers, not enough to find a person."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from pathlib import Path
from urllib.parse import unquote

from callanalytics.errors import StoreError
from callanalytics.workspace import write_whole

HASH_BYTES = 16
SALT_BYTES = 32
_log = logging.getLogger(__name__)
# "+1 202 555 0143", "0012025550143" and "2025550143" are one caller: country and trunk prefixes differ
# between recorders, the last ten digits do not.
SIGNIFICANT_DIGITS = 10
# Shorter numbers are extensions, which may well be the agent's id.
MIN_PHONE_DIGITS = 7

ALIAS = re.compile(r"caller~[0-9a-f]{8}")
"""What stands for a number in names."""
_BRACKETED = re.compile(r"<([^<>]*)>?\s*$")
_USER = re.compile(r"\s*(?:sips?:|tel:)?([^@;?]*)", re.IGNORECASE)


def number_of(stated: str) -> str:
    """The number alone, of what a source states: the user part of `"Kim" <sip:+12025550143@10.0.0.1;tag=7>`.

    Hosts, ports, tags and display names hold digits too, which would make two callers one or hide none.
    """
    bracketed = _BRACKETED.search(stated)
    user = _USER.match(bracketed[1] if bracketed else stated)
    return unquote(user[1]).strip() if user else ""


def significant_digits(stated: str) -> str:
    """The digits that tell callers apart, however the number is written; "" where there are none."""
    return re.sub(r"\D", "", number_of(stated))[-SIGNIFICANT_DIGITS:]


def is_phone(stated: str) -> bool:
    """Whether it is long enough for a number of the outside world."""
    return len(significant_digits(stated)) >= MIN_PHONE_DIGITS


def hash_number(number: str, salt: bytes) -> str | None:
    """HMAC-SHA256 of the significant digits, 32 hex digits; None when there are no digits.

    Numbers have so few digits that an unsalted hash could be reversed by trying all of them: the salt
    must stay secret.
    """
    digits = significant_digits(number)
    if not digits:
        return None
    return hmac.new(salt, digits.encode(), hashlib.sha256).hexdigest()[: 2 * HASH_BYTES]


def alias_of(number: str, salt: bytes) -> str:
    """What stands for a number in names: `caller~` and the head of its hash."""
    return f"caller~{(hash_number(number, salt) or '')[:8]}"


def load_or_make_salt(path: Path) -> bytes:
    """The secret of this output folder, made on first use and readable by its owner only.

    An empty file is what an earlier version left when it was killed before it could write.

    Raises:
        StoreError: the file cannot be read or written, or holds no salt.
    """
    try:
        n_bytes = path.stat().st_size if path.exists() else None
        if n_bytes == 0:
            _log.warning("%s was empty and is made anew; callers known before are counted anew", path)
        if not n_bytes:
            write_whole(path, secrets.token_bytes(SALT_BYTES).hex() + "\n", durable=True)
        salt = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as problem:
        raise StoreError(f"{path}: no salt for caller numbers can be read or made ({problem}).") from None
    if len(salt) < HASH_BYTES:
        raise StoreError(
            f"{path}: {len(salt)} bytes of salt found, at least {HASH_BYTES} expected. "
            "Delete the file to make a new one; repeat callers are then counted anew."
        )
    return salt


def salt_of_results(path: Path) -> bytes:
    """The secret that numbers in the results were hashed with; a new one would find none of them.

    Raises:
        StoreError: it is gone, or cannot be read.
    """
    if not path.exists() or not path.stat().st_size:
        raise StoreError(
            f"{path}: gone, so that no number can be looked up in the results. Restore it from a backup, or "
            "give the caller_hash that the results have."
        )
    return load_or_make_salt(path)

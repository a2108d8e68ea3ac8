"""JSON files beside a recording, and CSV manifests or CDRs over many."""

from __future__ import annotations

import csv
import json
import os
import re
import stat
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from callanalytics.errors import ConfigError
from callanalytics.ingest.recorders.fields import NUMBERS, Found, fact_named, facts_of
from callanalytics.ingest.recorders.phone_numbers import is_phone, number_of

# `{name}` is the file name with, `{stem}` without its extension.
BESIDE = ("{name}.json", "{stem}.json", "{name}_metadata.json", "{stem}_metadata.json")
# Of Genesys Cloud's bulk export, one for all recordings of a conversation's folder.
OF_FOLDER = "_metadata.json"
MAX_DEPTH = 6
MAX_KEYS = 2000
_DIALLED = re.compile(r"\+?[\d\s().-]{7,25}")
MAX_LINE_CHARS = 1_000_000
MAX_NUMBERED = 5  # unread lines that are named
MANIFEST_MAX_BYTES = 2_000_000_000
_FILE_COLUMNS = {"file", "filename", "recording", "recordingfile", "path", "location", "recordname", "uri"}


def check_template(template: str, *, where: str) -> None:
    """Raise ConfigError when a `sidecar` setting names anything but `{name}` and `{stem}`."""
    try:
        template.format(name="a.wav", stem="a")
    except (KeyError, IndexError, ValueError, AttributeError) as problem:
        raise ConfigError(
            f"{where}: sidecar = {template!r} may name {{name}} and {{stem}} only ({problem!r}). Correct it."
        ) from None


def read_sidecar(
    audio: Path,
    zone: ZoneInfo,
    *,
    max_bytes: int,
    names: Container[str],
    stem: str | None = None,
    template: str | None = None,
    follow_links: bool = False,
) -> Found | None:
    """Facts of the JSON beside a recording; None when there is none or it is no JSON object.

    `names` are the files of the recording's folder; `stem` is the name of a pair without its sides.
    Too large, too deep or damaged sidecars are passed over, and links too unless `follow_links`: they never
    stop a call.
    """
    name, own_stem = audio.name, audio.stem
    if template:
        places = [template.format(name=name, stem=own_stem)]
    else:
        places = [pattern.format(name=name, stem=own_stem) for pattern in BESIDE]
        if stem is not None and stem != own_stem:
            places += [f"{stem}.json", f"{stem}_metadata.json"]
        places = [place for place in (*places, OF_FOLDER) if place in names]
    for place in places:
        try:
            document = json.loads(_content(audio.parent / place, max_bytes, follow_links=follow_links))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            return Found("sidecar", 0.95, facts_of(_stated(document), zone))
    return None


def _content(path: Path, max_bytes: int, *, follow_links: bool) -> bytes:
    """Raises OSError; ValueError when it is no file, or too large."""
    # Without O_NONBLOCK a named pipe would keep the open itself waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW))
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > max_bytes:
            raise ValueError("no sidecar")
        return stream.read(max_bytes)


def _stated(document: dict[str, Any]) -> dict[str, object]:
    """Known keys of a JSON object, also inside objects: the best alias wins, then the shallowest."""
    best: dict[str, tuple[int, int, object]] = {}
    for n_seen, (depth, key, value, listed) in enumerate(_flat(document)):
        if n_seen >= MAX_KEYS:
            break
        named = fact_named(key)
        if named is not None and isinstance(value, (str, int, float)):
            fact, rank = named
            if listed and not _tells_of_the_call(fact, value):
                continue
            if fact not in best or (rank, depth) < best[fact][:2]:
                best[fact] = (rank, depth, _without_scheme(value))
    return {fact: value for fact, (_, _, value) in best.items()}


def _flat(document: dict[str, Any]) -> Iterator[tuple[int, str, object, bool]]:
    """Depth, key and value of everything, by levels, and whether it stands in a list.

    An object with an address, such as Amazon Connect's `CustomerEndpoint`, also counts as that address.
    """
    level = [(document, False)]
    for depth in range(MAX_DEPTH):
        below: list[tuple[dict[str, Any], bool]] = []
        for table, listed in level:
            for key, value in table.items():
                if isinstance(value, dict):
                    below.append((value, listed))
                    yield from ((depth, key, v, listed) for k, v in value.items() if _plain(k) == "address")
                elif isinstance(value, list):
                    tables = [entry for entry in value if isinstance(entry, dict)]
                    below += [(entry, True) for entry in sorted(tables, key=_is_ours)]
                else:
                    yield depth, key, value, listed
        level = below


def _is_ours(participant: dict[str, Any]) -> bool:
    """Of Genesys' participants the customer comes first, since each of them may state numbers."""
    return participant.get("purpose") not in ("customer", "external")


def _tells_of_the_call(fact: str, value: object) -> bool:
    """What lists are read for: numbers of participants and the direction.

    Times, lengths and ids in a list are those of parts of the call.
    """
    if fact in NUMBERS:
        return isinstance(value, str) and is_phone(value) and _DIALLED.fullmatch(number_of(value)) is not None
    return fact == "direction"


def _without_scheme(value: str | float) -> str | float:
    return value.split(":", 1)[1] if isinstance(value, str) and value.startswith(("tel:", "sip:")) else value


class Manifest:
    """A CSV with a row per recording, found by file name or by the recorder's own id.

    A row is a line, so that a stray quote costs one row and not all that follow. `n_unread` counts the
    lines that cannot be read, `unread` holds the numbers of the first few (from 1).
    """

    def __init__(self, path: Path, zone: ZoneInfo, columns: dict[str, str]) -> None:
        """Read the whole table.

        Raises:
            ConfigError: the file cannot be read, or has no column that names recordings.
        """
        self.path = path
        self.n_unread = 0
        self.unread: list[int] = []
        self._by_key: dict[str, dict[str, object]] = {}
        try:
            if path.stat().st_size > MANIFEST_MAX_BYTES:
                raise ConfigError(f"{path}: larger than {MANIFEST_MAX_BYTES / 1e9:.0f} GB. Split it by day.")
            with path.open(encoding="utf-8-sig", errors="replace") as stream:
                lines: Iterator[tuple[int, str]] = enumerate(_lines(stream), start=1)
                first = next(lines, (1, ""))
                header = _cells(first[1], None) or []
                if (layout := _headerless(header)) is not None:
                    header, lines = layout, chain([first], lines)
                self._read(header, lines, path, zone, columns)
        except OSError as problem:
            raise ConfigError(
                f"{path}: manifest cannot be read ({problem}). Check [[recorder]] manifest."
            ) from None

    def _read(
        self,
        header: Sequence[str],
        lines: Iterable[tuple[int, str]],
        path: Path,
        zone: ZoneInfo,
        columns: dict[str, str],
    ) -> None:
        named = sorted((found[1], found[0], name) for name in header if (found := fact_named(name, columns)))
        files = [n for n in header if columns.get("file") == n or _plain(n) in _FILE_COLUMNS]
        if not files and "external_id" not in {fact for _, fact, _ in named}:
            raise ConfigError(
                f"{path}: no column names the recordings; found {', '.join(header[:20])}. "
                'Set manifest_columns = { file = "..." } in [[recorder]].'
            )
        for number, line in lines:
            cells = _cells(line, len(header))
            if cells is None:
                self.n_unread += 1
                if len(self.unread) < MAX_NUMBERED:
                    self.unread.append(number)
                continue
            row = dict(zip(header, cells, strict=False))  # damaged rows are short or long
            stated: dict[str, object] = {}
            for _, fact, name in named:
                if row.get(name):
                    stated.setdefault(fact, row[name])
            values = facts_of(stated, zone)
            for name in files:
                if row.get(name):
                    self._by_key[Path(row[name].split("?")[0]).name] = values
            if "external_id" in values:
                self._by_key.setdefault(str(values["external_id"]), values)

    def find(self, audio: Path, stem: str | None, external_id: str | None) -> Found | None:
        """Facts of one recording, by its file name (of a pair, without the side), else by its id."""
        for key in (audio.name, audio.stem, stem, external_id):
            if key is not None and key in self._by_key:
                return Found("manifest", 0.9, self._by_key[key])
        return None


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines of a text; of an endless one only the beginning."""
    while line := stream.readline(MAX_LINE_CHARS):
        yield line
        while line and not line.endswith("\n"):
            line = stream.readline(MAX_LINE_CHARS)


def _cells(line: str, n_columns: int | None) -> list[str] | None:
    """The cells of one line, None when its quotes do not fit.

    FreeSWITCH does not double the quotes in a caller's name: such a line is read when it still has
    `n_columns` cells (None: any).
    """
    for strict in (True, False):
        try:
            cells = next(csv.reader([line.rstrip("\n")], strict=strict), [])
        except csv.Error:
            continue
        if strict or n_columns is None or len(cells) == n_columns:
            return cells
    return None


# CDRs that begin with data, by the first column that holds a date. Orders of Asterisk's cdr_csv, of its
# cdr_custom sample and of the "example" template of FreeSWITCH's mod_cdr_csv.
_HEADERLESS = {
    9: "accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration "
    "billsec disposition amaflags uniqueid userfield",
    8: "clid src dst dcontext channel dstchannel lastapp lastdata start answer end duration billsec "
    "disposition amaflags accountcode uniqueid userfield",
    4: "caller_id_name caller_id_number destination_number context start_stamp answer_stamp end_stamp "
    "duration billsec hangup_cause uuid bleg_uuid accountcode read_codec write_codec",
}
_DATED = re.compile(r"\s*\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")


def _headerless(row: Sequence[str]) -> list[str] | None:
    """Column names of a CDR whose first line is data, None when that line names columns."""
    first = next((i for i, value in enumerate(row) if _DATED.match(value)), None)
    return _HEADERLESS[first].split() if first in _HEADERLESS else None


def _plain(name: str) -> str:
    return "".join(ch for ch in name.lower() if ch.isalnum())
